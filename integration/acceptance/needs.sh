#!/bin/sh
# Installs what the tests start for real: a Secret Service, PowerDNS, curl. Where
# that cannot be done the tests that need it skip and say so; with CI=true it is
# an error.
set -u
missing=""
need() { # COMMAND PACKAGE...
	command=$1
	shift
	PATH="$PATH:/usr/sbin:/sbin" command -v "$command" >/dev/null 2>&1 || missing="$missing $*"
}
need dbus-run-session dbus
need gnome-keyring-daemon gnome-keyring
need pdns_server pdns-server pdns-backend-sqlite3
need sqlite3 sqlite3
need curl curl
need gcc gcc libc6-dev
[ -z "$missing" ] && exit 0

fail() {
	echo "make test: not installed:$missing ($1)" >&2
	echo "make test: the tests that need them will skip; to have them: apt-get install$missing" >&2
	[ "${CI:-}" = true ] && exit 1
	exit 0
}
command -v apt-get >/dev/null 2>&1 || fail "there is no apt-get here"
[ "$(id -u)" = 0 ] || fail "you are not root"
echo "make test: installing$missing" >&2
log=$(mktemp)
trap 'rm -f "$log"' EXIT
export DEBIAN_FRONTEND=noninteractive
# shellcheck disable=SC2086 # a list of packages
{ apt-get update && apt-get install -y --no-install-recommends $missing; } >/dev/null 2>"$log" ||
	fail "$(tail -n 1 "$log")"
