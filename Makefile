# make check is the whole of what a change has to pass, on a laptop as in CI.

# One set of build tags for everything: without nomsgpack gin brings codecs that nothing here speaks.
TAGS      := nomsgpack
VERSION   ?= $(shell git describe --tags --always --dirty 2>/dev/null || echo devel)
GOFLAGS_  := -tags $(TAGS) -trimpath
BIN       := bin/backchannel
FUZZTIME  ?= 10s

GOFUMPT   := go run mvdan.cc/gofumpt@v0.12.0
LINT      := go run github.com/golangci/golangci-lint/v2/cmd/golangci-lint@v2.15.0
VULNCHECK := go run golang.org/x/vuln/cmd/govulncheck@v1.9.0

# Packages whose goroutines are worth a second schedule, on one processor.
SCHEDULED := ./broker/... ./persist/... ./webhooks/...

.PHONY: build test test-one check format fix vet lint vuln tools fuzz bench clean

build:
	go build $(GOFLAGS_) -ldflags "-X main.version=$(VERSION)" -o $(BIN) ./cmd/backchannel

# The order is that of how soon each can tell; the tests are last, so that the output ends with theirs.
check: tools format vet lint vuln build test-one test

test:
	go test -race -shuffle=on -tags $(TAGS) -timeout 15m ./...

test-one:
	GOMAXPROCS=1 go test -race -shuffle=on -short -tags $(TAGS) -timeout 15m $(SCHEDULED)

format:
	@out="$$($(GOFUMPT) -l $$(git ls-files -co --exclude-standard '*.go'))" || exit 1; \
	if [ -n "$$out" ]; then echo "not formatted; run: make fix"; echo "$$out"; exit 1; fi

fix:
	$(GOFUMPT) -w $$(git ls-files -co --exclude-standard '*.go')

vet:
	go vet -tags $(TAGS) ./...

lint:
	$(LINT) run --allow-parallel-runners --build-tags $(TAGS) ./...

# The database of vulnerabilities is on the network; where it cannot be reached there is nothing to check against.
vuln:
	@hack/vuln.sh $(VULNCHECK) -tags $(TAGS) ./...

# What tests use beside Go (a browser, PHP, Node); tests that need what is missing say so and are skipped.
tools:
	@hack/tools.sh

# Each fuzz target for FUZZTIME, on top of the seeds that every test run tries.
fuzz:
	@hack/fuzz.sh $(TAGS) $(FUZZTIME)

# The broker beside its peers, and docs/performance.md anew: about 25 minutes on a machine that does nothing else.
bench:
	cd bench && go run . -docs

clean:
	rm -rf bin
