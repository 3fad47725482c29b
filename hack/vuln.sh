#!/bin/sh
# Runs govulncheck, given as arguments. A vulnerability fails; a database that cannot be reached is said and passed over.
set -u

out=$("$@" 2>&1)
code=$?
case "$out" in
*"fetching vulnerabilities"* | *"dial tcp"* | *"no such host"* | *"Client.Timeout"* | *"i/o timeout"* | *"403 Forbidden"* | *"proxyconnect"* | *"HTTP GET https://vuln.go.dev"*)
	echo "govulncheck: the database was not reached; known vulnerabilities were not looked for"
	exit 0
	;;
esac
echo "$out"
exit $code
