package docs

import (
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// pages are all documents that a reader meets.
func pages(t *testing.T) []string {
	t.Helper()
	found := []string{filepath.Join("..", "README.md"), filepath.Join("..", "testdata", "vectors", "README.md")}
	for _, pattern := range []string{"*.md", filepath.Join("decisions", "*.md")} {
		more, err := filepath.Glob(pattern)
		if err != nil {
			t.Fatal(err)
		}
		found = append(found, more...)
	}
	return found
}

func TestLinksLeadSomewhere(t *testing.T) {
	link := regexp.MustCompile(`(?:\]\(|src=")([^)"#]*)(#[^)"]*)?[)"]`)
	for _, page := range pages(t) {
		text, err := os.ReadFile(page)
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range link.FindAllStringSubmatch(string(text), -1) {
			target, anchor := m[1], strings.TrimPrefix(m[2], "#")
			if strings.Contains(target, "://") {
				continue
			}
			path := page
			if target != "" {
				path = filepath.Join(filepath.Dir(page), filepath.FromSlash(target))
			}
			if _, err := os.Stat(path); err != nil {
				t.Errorf("%s links to %s: %v", page, target, err)
				continue
			}
			if anchor != "" && !slices.Contains(anchors(t, path), anchor) {
				t.Errorf("%s links to #%s, which %s does not have", page, anchor, path)
			}
		}
	}
}

// anchors are the names that the headings of a page get.
func anchors(t *testing.T, page string) (names []string) {
	t.Helper()
	text, err := os.ReadFile(page)
	if err != nil {
		t.Fatal(err)
	}
	drop := regexp.MustCompile(`[^\p{L}\p{N} _-]`)
	for _, m := range regexp.MustCompile(`(?m)^#+ (.*)$`).FindAllStringSubmatch(string(text), -1) {
		names = append(names, strings.ReplaceAll(strings.ToLower(drop.ReplaceAllString(m[1], "")), " ", "-"))
	}
	return names
}

func TestEveryDecisionIsInTheIndex(t *testing.T) {
	index, err := os.ReadFile(filepath.Join("decisions", "README.md"))
	if err != nil {
		t.Fatal(err)
	}
	records, err := filepath.Glob(filepath.Join("decisions", "0*.md"))
	if err != nil || len(records) == 0 {
		t.Fatalf("no records: %v", err)
	}
	for _, record := range records {
		text, err := os.ReadFile(record)
		if err != nil {
			t.Fatal(err)
		}
		number, title, _ := strings.Cut(strings.TrimPrefix(strings.SplitN(string(text), "\n", 2)[0], "# "), ": ")
		if line := "| [" + number + "](" + filepath.Base(record) + ") | " + title + " |"; !strings.Contains(string(index), line) {
			t.Errorf("the index has no line %q", line)
		}
	}
}

// The routes stand in the code as patterns; what the code answers, the reference names.
func TestEveryRouteIsInTheReference(t *testing.T) {
	reference, err := os.ReadFile("protocol.md")
	if err != nil {
		t.Fatal(err)
	}
	sources, err := filepath.Glob(filepath.Join("..", "handlers", "*.go"))
	if err != nil {
		t.Fatal(err)
	}
	short := strings.NewReplacer(":channel", "{c}", ":user", "{u}", ":id", "{id}")
	pattern := regexp.MustCompile(`(?:\b(?:get|post|g\.POST)\("(/[^"]+)"|"(?:GET|POST) (/v1/[^"]+)")`)
	found := 0
	for _, source := range sources {
		if strings.HasSuffix(source, "_test.go") {
			continue
		}
		text, err := os.ReadFile(source)
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range pattern.FindAllStringSubmatch(string(text), -1) {
			found++
			path := m[2]
			if path == "" {
				path = "/v1" + short.Replace(m[1])
			}
			if !strings.Contains(string(reference), path) {
				t.Errorf("protocol.md does not name %s, which %s serves", path, filepath.Base(source))
			}
		}
	}
	if found < 15 {
		t.Errorf("only %d routes were found in the code: the pattern has aged", found)
	}
}
