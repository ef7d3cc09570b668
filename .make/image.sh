#!/usr/bin/env bash
# image.sh VERSION MODULE...: builds an image of each module from envoy/Dockerfile, and prints its digest. With docker, podman or buildah,
# whichever works here first; BUILDER=podman chooses. IMAGE_PREFIX stands before the images' names: registry.example.com/team/.
# What it puts together is left in IMAGE_FOLDER, target/image.
# Times are fixed, so that one builder makes the same image of the same module twice; what is the same with every builder is `make image-oci`.
set -euo pipefail
cd "$(dirname "$0")/.."
version=$1
shift

works() {
	case $1 in
	# There may be a client without a daemon.
	docker) docker info ;;
	*) command -v "$1" ;;
	esac >/dev/null 2>&1
}

builder=${BUILDER:-}
for candidate in docker podman buildah; do
	[[ -n $builder ]] || ! works "$candidate" || builder=$candidate
done
if [[ -z $builder ]]; then
	.make/need.sh packages "images need docker, podman or buildah" "install one of them" buildah
	builder=buildah
fi

for module; do
	name=$(basename "$module" .wasm)
	image=${IMAGE_PREFIX:-}$name:$version
	# Nothing but the module, whatever else there is, and of no time.
	context=${IMAGE_FOLDER:-target/image}/$name
	rm -rf "$context"
	mkdir -p "$context"
	install -m 644 "$module" "$context/plugin.wasm"
	TZ=UTC touch -t 197001010000 "$context/plugin.wasm"

	arguments=(--file envoy/Dockerfile --build-arg "NAME=$name" --build-arg "VERSION=$version" --platform linux/amd64 --tag "$image")
	log=$context.log
	case $builder in
	docker)
		# Without attestations, which tell when and where it was built.
		DOCKER_BUILDKIT=1 docker build "${arguments[@]}" --provenance=false --build-arg SOURCE_DATE_EPOCH=0 "$context" >"$log" 2>&1 &&
			digest=$(docker image inspect --format '{{.Id}}' "$image")
		;;
	podman | buildah)
		# Neither has layers in its store as they are pushed: as a layout they have the digest that registries will give them.
		"$builder" build "${arguments[@]}" --timestamp 0 "$context" >"$log" 2>&1 &&
			rm -rf "$context.oci" && "$builder" push --digestfile "$context.digest" "$image" "oci:$context.oci:$version" >>"$log" 2>&1 &&
			digest=$(<"$context.digest")
		;;
	*)
		echo "error: BUILDER=$builder is none of docker, podman and buildah" >&2
		exit 1
		;;
	esac || {
		cat "$log" >&2
		echo "error: $builder could not build $image" >&2
		exit 1
	}
	printf '%s  (%s)\n  image   %s\n  module  sha256:%s\n' "$image" "$builder" "$digest" "$(sha256sum "$module" | cut -d ' ' -f 1)"
done
