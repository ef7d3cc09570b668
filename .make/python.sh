#!/usr/bin/env bash
# python.sh: prints the absolute path of a folder with the Python packages that tests use, for PYTHONPATH, and nothing else on standard
# output.
set -euo pipefail
cd "$(dirname "$0")/.."

packages=(grpcio==1.85.1 typing-extensions==4.16.0)

# Compiled packages belong to one Python: another one has a folder of its own, and so have other versions.
python=${PYTHON:-python3}
tag=$("$python" -c 'import sys; print(sys.implementation.cache_tag)') || {
	echo "error: PYTHON=$python cannot be run" >&2
	exit 1
}
folder=$PWD/target/python-$tag-$(printf '%s\n' "${packages[@]}" | cksum | cut -d ' ' -f 1)
.make/pip.sh "$folder" "${packages[@]}"
echo "$folder"
