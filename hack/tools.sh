#!/bin/sh
# Installs what the tests use beside Go, where that is possible without asking: on Debian and Ubuntu, as root. Anywhere
# else it says what is missing, and the tests that need it are skipped.
set -eu

missing=""
need() { # command package
	command -v "$1" >/dev/null 2>&1 || missing="$missing $2"
}

need cc gcc # the race detector links with it
[ -e /usr/include/stdio.h ] || missing="$missing libc6-dev"
need make make
need git git
need curl curl
need php php-cli
php -m 2>/dev/null | grep -qi sqlite3 || missing="$missing php-sqlite3"
need nginx nginx-light
need apache2 apache2
need node nodejs
command -v chromium >/dev/null 2>&1 || command -v chromium-browser >/dev/null 2>&1 || command -v google-chrome >/dev/null 2>&1 ||
	missing="$missing chromium"

[ -n "$missing" ] || exit 0

if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null 2>&1; then
	echo "installing:$missing"
	export DEBIAN_FRONTEND=noninteractive
	# The tests start servers of their own: what is installed here must not start any (invoke-rc.d(8), policy-rc.d).
	policy=/usr/sbin/policy-rc.d
	if [ ! -e $policy ]; then
		printf '#!/bin/sh\nexit 101\n' >$policy && chmod +x $policy
		trap 'rm -f $policy' EXIT
	fi
	apt-get update -qq >/dev/null 2>&1 || echo "apt-get update did not succeed; trying with what is known"
	for package in $missing; do
		apt-get install -y -qq --no-install-recommends "$package" >/dev/null 2>&1 || echo "could not install $package"
	done
else
	echo "missing:$missing (tests that need them are skipped)"
fi
