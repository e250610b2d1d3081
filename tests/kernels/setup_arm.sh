#!/usr/bin/env bash
# Installs what runs the vector functions for Arm on another processor and is not found: a compiler and an
# emulator, as Debian's packages where it may. Where it may not, it says so and ends well: the test
# then skips.
set -uo pipefail

shout() {
    printf '\n*** kernels for Arm: %s ***\n\n' "$*" >&2
}

packages=()
case $(uname -m) in
aarch64 | arm64) ;;
*)
    command -v aarch64-linux-gnu-gcc >/dev/null 2>&1 ||
        packages+=(gcc-aarch64-linux-gnu libc6-dev-arm64-cross)
    command -v qemu-aarch64 >/dev/null 2>&1 || command -v qemu-aarch64-static >/dev/null 2>&1 ||
        packages+=(qemu-user)
    ;;
esac
((${#packages[@]})) || exit 0

as_root=()
if [[ $(id -u) != 0 ]]; then
    as_root=(sudo -n)
fi
if ! command -v apt-get >/dev/null 2>&1 || { ((${#as_root[@]})) && ! sudo -n true 2>/dev/null; }; then
    shout "missing ${packages[*]}; install them as packages of this system"
    exit 0
fi
"${as_root[@]}" apt-get update -qq &&
    "${as_root[@]}" env DEBIAN_FRONTEND=noninteractive \
        apt-get install -qq -y --no-install-recommends "${packages[@]}" >/dev/null ||
    shout "apt-get could not install ${packages[*]}"
exit 0
