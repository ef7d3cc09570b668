#!/usr/bin/env bash
# pip.sh FOLDER PACKAGE==VERSION...: puts packages from PyPI into FOLDER, unless it is there already.
set -euo pipefail
cd "$(dirname "$0")/.."
folder=$1
shift

fail() {
	printf 'error: %s\n' "$*" >&2
	exit 1
}

[[ ! -d $folder ]] || exit 0
mkdir -p target/log
new=$(mktemp -d target/pip.XXXXXX)
trap 'rm -rf "$new"' EXIT
log=target/log/pip.log

python=${PYTHON:-python3}
if ! "$python" -m pip --version >/dev/null 2>&1; then
	# Debian's python3 has no pip; a virtual environment brings one where ensurepip is there.
	if "$python" -m venv "$new/venv" >"$log" 2>&1; then
		python=$new/venv/bin/python
	else
		.make/need.sh packages "pip fetches $*" "install Python 3 with pip" python3 python3-pip
	fi
fi

echo "fetching $*" >&2
PIP_REQUIRE_VIRTUALENV=0 "$python" -m pip install --no-user --no-deps --only-binary :all: --disable-pip-version-check \
	--target "$new/packages" "$@" </dev/null >"$log" 2>&1 || {
	cat "$log" >&2
	fail "pip could not install $*"
}
# Moved when complete: an interrupted download is never taken for the packages.
[[ -d $folder ]] || mv "$new/packages" "$folder"
