#!/bin/sh
# Runs every fuzz target of the tree, one after the other: hack/fuzz.sh TAGS TIME
set -eu

tags=$1 time=$2
grep -rln --include='*_test.go' '^func Fuzz' . | xargs -n1 dirname | sort -u | while read -r dir; do
	for target in $(grep -rhoE --include='*_test.go' '^func Fuzz[A-Za-z0-9_]+' "$dir" --exclude-dir='?*' | sed 's/^func //' | sort -u); do
		echo "$dir $target"
		go test -tags "$tags" -run '^$' -fuzz "^$target\$" -fuzztime "$time" "$dir"
	done
done
