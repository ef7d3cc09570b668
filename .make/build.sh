#!/usr/bin/env bash
# build.sh MODULE CARGO...: builds the filter for wasm32-wasip1 into MODULE, with the first std for that target that can be had.
# FEATURES: Cargo features, separated by commas. PACKAGE: another package of the workspace instead of the filter, as cargo makes it.
# NAMES=1 keeps the functions' names, for Envoy's backtraces and for profilers; they are a fifth of the module.
set -euo pipefail
cd "$(dirname "$0")/.."
module=$1
shift
cargo=("$@")
package=${PACKAGE:-allowance}
triple=wasm32-wasip1
build=(build --locked --release --package "$package" --lib --target "$triple" --features "${FEATURES:-}")

# The distribution's compiler has a target directory of its own, or the two would undo each other's work.
debian=target/debian
packages=(rustc-web cargo-web rust-web-src wasi-libc lld)

installed() {
	compgen -G "$("${RUSTC:-rustc}" --print target-libdir --target "$triple" 2>/dev/null)/libstd-*" >/dev/null
}

added() {
	# Where rustup could not help before it is not asked again: the answer may take its time.
	[[ ! -d $debian ]] && mkdir -p target/log && "$RUSTUP" target add "$triple" >target/log/rustup.log 2>&1 && installed
}

CARGO="${cargo[*]}" .make/need.sh cargo linker
# SHA-256 in a tenth of the code: a key is hashed when it is first seen. No paths of the machine that builds, where panics name their place:
# the same source is the same module everywhere.
flags='--cfg sha2_backend="soft" --cfg sha2_backend_soft="compact"'
# Functions are inlined where that is cheap, or where the source asks for it: with LLVM's own threshold (275) the module is larger by a tenth, and
# hardly faster. Nor are loops of a few rounds written out at length (300): that gains next to nothing. Other modules are as cargo makes them.
if [[ $package == allowance ]]; then
	flags+=' -C llvm-args=-inline-threshold=40 -C llvm-args=-unroll-threshold=40'
fi
"${cargo[@]}" fetch --locked --quiet --target "$triple"
for directory in "${CARGO_HOME:-$HOME/.cargo}"/registry/src/*/ "$PWD"/; do
	flags+=" --remap-path-prefix=$directory="
done
# As the standard library names itself where its source is not installed.
flags+=" --remap-path-prefix=$("${RUSTC:-rustc}" --print sysroot)/lib/rustlib/src/rust=/rustc/$("${RUSTC:-rustc}" -vV | sed -n 's/^commit-hash: //p')"
if installed || added; then
	out=target
	RUSTFLAGS="${RUSTFLAGS:-} $flags" "${cargo[@]}" "${build[@]}" --target-dir "$out"
else
	# No std to download: Debian's compiler comes with its source, and builds it.
	.make/need.sh packages "Rust's $triple target is missing" \
		"run 'rustup target add $triple' where it can download (what it said here: target/log/rustup.log)" "${packages[@]}"
	out=$debian
	CARGO=/usr/bin/cargo RUSTC=/usr/bin/rustc RUSTC_BOOTSTRAP=1 \
		RUSTFLAGS="-C link-self-contained=no -L native=/usr/lib/wasm32-wasi -C linker=wasm-ld $flags" \
		/usr/bin/cargo "${build[@]}" -Zbuild-std=std,panic_abort --target-dir "$out"
fi

# Under another name first, so that nobody ever reads half a module; and replaced only when it changed.
new=$module.$$
trap 'rm -f "$new" "$new.small"' EXIT
cp "$out/$triple/release/$package.wasm" "$new"
how='as cargo makes it'
if [[ $package == allowance ]]; then
	# What the filter implements (src/filter/callbacks.rs). The SDK exports all callbacks, and the proxy would call them on every request.
	callbacks=(memory_allocate context_create configure tick request_headers response_headers)
	if [[ ,${FEATURES:-}, == *,llm,* ]]; then
		callbacks+=(request_body request_trailers response_body log)
	fi
	exports=(memory _initialize proxy_abi_version_0_2_1)
	for callback in "${callbacks[@]}"; do
		exports+=("proxy_on_$callback=allowance_on_$callback")
	done
	# Nothing makes an object of the SDK's traits, nor enters its dispatcher. Panics have the SDK's hook from the start (src/filter/callbacks.rs), not
	# that of std, which reads the environment and writes to a terminal; without memory there is nothing to say it with. Texts are not sliced by
	# places that could be wrong: what would say so is a trap, as it would end in one. Nothing is ever removed from a hash map, which then never
	# has to be put in order where it is, nor written to anything but texts.
	never=()
	for name in 10proxy_wasm6traits 10proxy_wasm10dispatcher 3std9panicking12default_hook 3std5alloc24default_alloc_error_hook \
		13BacktraceLock5print 3sys5stdio 8foldhash4seed 4core3str16slice_error_fail 15rehash_in_place 3std2io17default_write_fmt \
		3std2io5impls; do
		never+=(--never "$name")
	done
	"${PYTHON:-python3}" .make/trim.py "$new" ${NAMES:+--names} "${never[@]}" "${exports[@]}"
	how='unused exports removed, no wasm-opt'
	# The same filter without it, only larger. Once for speed, and then for size, which costs no instruction. What stands in the first kilobyte of
	# memory is the far end of the stack, which no address computed from 0 is meant to reach. Where it could not be had before it is not asked for
	# again.
	log=target/log/wasm-opt.log
	if command -v wasm-opt >/dev/null ||
		{ [[ ! -e $log ]] && .make/need.sh packages "wasm-opt makes the module smaller" "install binaryen" binaryen 2>"$log"; }; then
		if wasm-opt --low-memory-unused -O3 -Oz ${NAMES:+-g} --enable-bulk-memory --enable-sign-ext --enable-mutable-globals \
			--enable-nontrapping-float-to-int --enable-reference-types --enable-multivalue "$new" -o "$new.small" 2>"$log"; then
			mv "$new.small" "$new"
			how="unused exports removed, $(wasm-opt --version)"
		else
			how="unused exports removed, wasm-opt failed: $log"
		fi
	fi
fi
cmp -s "$new" "$module" || mv "$new" "$module"
# Whose work it is: how many instructions a request takes can only be compared with what the same tools made.
rustc=${RUSTC:-rustc}
[[ $out == target ]] || rustc=/usr/bin/rustc
printf '%s; %s\n' "$("$rustc" -V)" "$how" >"${module%.wasm}.tools"

bytes=$(wc -c <"$module")
printf '%s  %d KB (%s)\n' "$module" $(((bytes + 500) / 1000)) "$how"
