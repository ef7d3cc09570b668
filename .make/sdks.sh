#!/usr/bin/env bash
# sdks.sh: prints the absolute path of a folder with the official Python SDKs that tests drive, for PYTHONPATH, and nothing else on
# standard output. They have a folder of their own: other tests need none of them, and a new version of one does not fetch the rest.
set -euo pipefail
cd "$(dirname "$0")/.."
requirements=tests/clients/requirements.txt

python=${PYTHON:-python3}
tag=$("$python" -c 'import sys; print(sys.implementation.cache_tag if sys.version_info >= (3, 11) else "old")') || {
	echo "error: PYTHON=$python cannot be run" >&2
	exit 1
}
[[ $tag != old ]] || {
	echo "error: the official Python SDKs need Python 3.11 or newer, and $python is $("$python" --version): PYTHON=python3.13 make test" >&2
	exit 1
}
folder=$PWD/target/sdks-$tag-$(cksum <"$requirements" | cut -d ' ' -f 1)
.make/pip.sh "$folder" --requirement "$requirements"
echo "$folder"
