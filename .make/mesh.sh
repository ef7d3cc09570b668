#!/usr/bin/env bash
# mesh.sh: prints the absolute path of a folder with the Python packages that tests of manifests use, for PYTHONPATH, and nothing else on
# standard output; and makes sure that there is what they build, push and fetch images with.
set -euo pipefail
cd "$(dirname "$0")/.."
requirements=tests/mesh/requirements.txt

missing=()
for tool in buildah skopeo docker-registry openssl curl; do
	command -v "$tool" >/dev/null || missing+=("$tool")
done
# Debian's packages have the commands' names.
((!${#missing[@]})) || .make/need.sh packages "tests of images and of the README pages need ${missing[*]}" "install them" "${missing[@]}"

python=${PYTHON:-python3}
tag=$("$python" -c 'import sys; print(sys.implementation.cache_tag)') || {
	echo "error: PYTHON=$python cannot be run" >&2
	exit 1
}
folder=$PWD/target/mesh-$tag-$(cksum <"$requirements" | cut -d ' ' -f 1)
.make/pip.sh "$folder" --requirement "$requirements"
echo "$folder"
