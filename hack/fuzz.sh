#!/bin/sh
# Runs every fuzz target of the tree, one after the other: hack/fuzz.sh TAGS TIME
set -eu

tags=$1 time=$2
for dir in $(git ls-files -co --exclude-standard '*_test.go' | xargs grep -lE '^func Fuzz' | xargs -n1 dirname | sort -u); do
	for target in $(grep -hoE '^func Fuzz[A-Za-z0-9_]+' "$dir"/*_test.go | sed 's/^func //' | sort -u); do
		echo "$dir $target"
		go test -tags "$tags" -run '^$' -fuzz "^$target\$" -fuzztime "$time" "./$dir"
	done
done
