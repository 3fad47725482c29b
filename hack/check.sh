#!/bin/sh
# All checks, from a fresh clone on a machine that has Go and nothing else: installs what the tests use, then make check.
set -eu

cd "$(dirname "$0")/.."
hack/tools.sh
exec make check
