#!/usr/bin/env bash
# fuzz.sh SECONDS [TARGET...]: coverage-guided fuzzing of everything in tests/fuzz/targets, each for so long, with the stable compiler.
# What was found stays: inputs that lead somewhere in target/fuzz/corpus, and what fails in target/fuzz/findings.
set -euo pipefail
cd "$(dirname "$0")/.."
seconds=$1
shift
read -ra cargo <<<"${CARGO:-cargo}"
targets=("$@")
# Names without spaces: one word each.
((${#targets[@]})) || targets=($(sed -n '/^\[\[bin\]\]/,/^$/s/^name = "\(.*\)"/\1/p' tests/fuzz/Cargo.toml))

CARGO="${cargo[*]}" .make/need.sh cargo linker c++

# What cargo-fuzz sets, and the stable compiler takes as well: counters on every edge, and what comparisons compare. With a target named, build
# scripts are spared.
triple=$("${RUSTC:-rustc}" -vV | sed -n 's/^host: //p')
flags=(-C passes=sancov-module -C llvm-args=-sanitizer-coverage-level=4 -C llvm-args=-sanitizer-coverage-inline-8bit-counters
	-C llvm-args=-sanitizer-coverage-pc-table -C llvm-args=-sanitizer-coverage-trace-compares --cfg fuzzing)
RUSTFLAGS="${flags[*]}" "${cargo[@]}" build --locked --quiet --package fuzz --profile fuzz --target "$triple" --target-dir target/fuzz

# Where to start from: the responses that tests read, also compressed.
seeds=target/fuzz/seeds
rm -rf "$seeds"
mkdir -p "$seeds"
for response in tests/core/usage/responses/*; do
	cp "$response" "$seeds"
	gzip -nc "$response" >"$seeds/${response##*/}.gz"
done

for target in "${targets[@]}"; do
	corpus=target/fuzz/corpus/$target findings=target/fuzz/findings/$target log=target/log/fuzz-$target.log
	mkdir -p "$corpus" "$findings" target/log
	if ! "target/fuzz/$triple/fuzz/$target" "$corpus" "$seeds" -max_total_time="$seconds" -max_len=8192 -timeout=10 -rss_limit_mb=1024 \
		-dict=tests/fuzz/words.dict -artifact_prefix="$findings/" -print_final_stats=1 >"$log" 2>&1; then
		tail -n 40 "$log" >&2
		printf 'error: %s fails; what it was given is in %s\n' "$target" "$findings" >&2
		exit 1
	fi
	runs=$(sed -n 's/^stat::number_of_executed_units: *//p' "$log")
	edges=$(grep -ao 'cov: [0-9]*' "$log" | tail -n 1)
	# A fuzzer that sees nothing of the program finds nothing either.
	[[ ${edges#cov: } -gt 100 ]] || { printf 'error: %s is not instrumented: %s\n' "$target" "$log" >&2; exit 1; }
	printf '%s: %s inputs in %s s, %s edges, no finding\n' "$target" "$runs" "$seconds" "${edges#cov: }"
done
