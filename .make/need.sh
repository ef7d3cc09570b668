#!/usr/bin/env bash
# need.sh THING...: makes sure that each THING is there, or says in one line how to get it and fails.
set -euo pipefail
cd "$(dirname "$0")/.."
read -ra cargo <<<"${CARGO:-cargo}"

fail() {
	printf 'error: %s\n' "$*" >&2
	exit 1
}

known() {
	local package
	for package; do
		apt-cache show "$package" >/dev/null 2>&1 || return
	done
}

# Debian packages: root gets what is missing, anyone else the command. INSTEAD is for systems that do not have them.
packages() { # WHY INSTEAD PACKAGE...
	local why=$1 instead=$2 package missing=()
	shift 2
	command -v apt-get >/dev/null || fail "$why: $instead"
	for package; do
		[[ $(dpkg-query -W -f '${db:Status-Abbrev}' "$package" 2>/dev/null) == ii* ]] || missing+=("$package")
	done
	((${#missing[@]})) || return 0

	if ((EUID)); then
		local install="sudo apt-get install --no-install-recommends ${missing[*]}"
		known "${missing[@]}" && fail "$why: $install"
		# Whether apt does not know them or has no lists yet is only clear when it has some.
		compgen -G '/var/lib/apt/lists/*_Packages*' >/dev/null && fail "$why: $instead"
		fail "$why: sudo apt-get update && $install"
	fi

	local log=target/log/apt.log
	mkdir -p target/log
	# Not fatal: some other source may be out of reach while this package's is not.
	apt-get update </dev/null >"$log" 2>&1 || true
	known "${missing[@]}" || fail "$why: $instead"
	printf 'installing %s\n' "${missing[*]}" >&2
	DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends -o DPkg::Lock::Timeout=300 "${missing[@]}" \
		</dev/null >>"$log" 2>&1 || {
		cat "$log" >&2
		fail "$why: apt-get install ${missing[*]} failed"
	}
}

# A compiler without the C library's start files is there, but links nothing.
links() {
	mkdir -p target/log
	command -v cc >/dev/null && echo 'int main(void) { return 0; }' | cc -x c -o target/log/linked - 2>target/log/cc.log && rm target/log/linked
}

while (($#)); do
	case $1 in
	packages)
		shift
		packages "$@"
		break
		;;
	cargo)
		command -v "${cargo[0]}" >/dev/null || fail "cargo is missing: install Rust with rustup, then open a new shell"
		;;
	linker)
		links || packages "Rust needs a C linker" "install a C compiler (gcc or clang) as cc" gcc libc6-dev
		;;
	c++)
		command -v "${CXX:-c++}" >/dev/null || packages "fuzzing needs a C++ compiler" "install g++ or clang++ as c++" g++
		;;
	rustfmt)
		"${cargo[@]}" fmt --version >/dev/null 2>&1 || fail "rustfmt is missing: rustup component add rustfmt"
		;;
	clippy)
		"${cargo[@]}" clippy --version >/dev/null 2>&1 || fail "clippy is missing: rustup component add clippy"
		;;
	*)
		fail "need.sh does not know $1"
		;;
	esac
	shift
done
