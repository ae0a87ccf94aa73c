#!/bin/sh
# Builds the guests, or checks that the committed ones are those of these sources.
#
#   guests/build.sh            builds into guests/built, which is committed
#   guests/build.sh --to DIR   builds into DIR instead
#   guests/build.sh --check    builds nothing; fails where guests/built is not of these sources
#
# Needs Rust for wasm: rustup's target wasm32-wasip1, or Debian's packages. As root it installs the latter by itself.
# Exit codes: 0 done, 1 stale or failed, 2 usage, 3 no toolchain.
set -eu
export LC_ALL=C

guests=$(cd "$(dirname "$0")" && pwd)
target=$guests/../target/guests
out=$guests/built
packages="rustc-web cargo-web rust-web-src lld-22 wasi-libc"
name=wasm32-wasip1

# One line per source file, sorted, in the format of sha256sum: what the built files depend on. Manifests are not built in.
sources() {
    (cd "$guests" && find build.sh wordcount -type f \( -name '*.rs' -o -name 'Cargo.*' -o -name build.sh \) | sort | xargs sha256sum)
}

check() {
    if sources | diff "$out/SOURCES.sha256" - >&2; then
        echo "guests/built is of these sources" >&2
    else
        echo "guests/built is stale: run guests/build.sh and commit what it writes" >&2
        exit 1
    fi
}

have_rustup() {
    command -v rustup >/dev/null && rustup target list --installed 2>/dev/null | grep -qx "$name"
}

have_debian() {
    for package in $packages; do
        dpkg-query -W -f '${Status}\n' "$package" 2>/dev/null | grep -q 'ok installed' || return 1
    done
}

# Paths of this machine have no place in a module: they would differ from one machine to the next.
flags="--remap-path-prefix=$guests=guests"
# No main function, and a call stack of 64 KiB, not 1 MiB: a small module is quick to set up and to clear away.
fan_flags="-Clink-arg=--no-entry -Clink-arg=-zstack-size=65536"

build() { # cargo, package, flags of its last step
    # shellcheck disable=SC2086 # a list of flags
    RUSTFLAGS=$flags "$1" rustc --quiet --release --locked --manifest-path "$guests/wordcount/Cargo.toml" \
        --target-dir "$target" --target "$name" --package "wordcount-$2" -- $3
}

build_rustup() {
    flags="$flags --remap-path-prefix=$(rustc --print sysroot)=rust --remap-path-prefix=${CARGO_HOME:-$HOME/.cargo}=cargo"
    build cargo fan "$fan_flags"
    build cargo command ""
}

# Debian has no compiled std for wasm: it is built along, which its stable compiler allows with RUSTC_BOOTSTRAP.
build_debian() {
    RUSTC=/usr/bin/rustc
    RUSTC_BOOTSTRAP=1
    CARGO_UNSTABLE_BUILD_STD=std,panic_abort
    export RUSTC RUSTC_BOOTSTRAP CARGO_UNSTABLE_BUILD_STD
    unset RUSTUP_TOOLCHAIN CARGO
    libc=/usr/lib/wasm32-wasi
    flags="$flags --remap-path-prefix=/usr/lib/rustlib/src/rust=rust --remap-path-prefix=${CARGO_HOME:-$HOME/.cargo}=cargo"
    flags="$flags -Clink-self-contained=no -Clinker=/usr/bin/wasm-ld-22 -Clinker-flavor=wasm-ld -Clink-arg=-L$libc -Clink-arg=-lc"
    build /usr/bin/cargo fan "$fan_flags"
    build /usr/bin/cargo command "-Clink-arg=$libc/crt1-command.o"
}

case ${1-} in
"") ;;
--check)
    check
    exit
    ;;
--to)
    [ $# -eq 2 ] || { echo "usage: guests/build.sh [--check | --to DIR]" >&2; exit 2; }
    mkdir -p "$2"
    out=$(cd "$2" && pwd)
    ;;
*)
    echo "usage: guests/build.sh [--check | --to DIR]" >&2
    exit 2
    ;;
esac

mkdir -p "$target" "$out"
if have_rustup; then
    build_rustup
elif have_debian; then
    build_debian
elif [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
    echo "installing Rust for wasm: apt-get install $packages" >&2
    # shellcheck disable=SC2086 # a list of names
    if ! { apt-get update -q && apt-get install -q -y --no-install-recommends $packages; } >&2; then
        echo "no Rust for wasm: neither rustup's target $name nor the Debian packages $packages can be had here" >&2
        exit 3
    fi
    build_debian
else
    echo "no Rust for wasm: install rustup's target $name, or as root the Debian packages $packages" >&2
    exit 3
fi

install -m 644 "$target/$name/release/wordcount_fan.wasm" "$out/wordcount-fan.wasm"
install -m 644 "$target/$name/release/wordcount-command.wasm" "$out/wordcount-command.wasm"
sources >"$out/SOURCES.sha256"
(cd "$out" && wc -c -- *.wasm) >&2
