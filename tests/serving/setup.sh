#!/usr/bin/env bash
# Installs what the tests of docs/SERVING.md need and does not find, nginx and Varnish, as Debian's
# packages where it may. Where it may not, it says what is missing and ends well: the tests then skip,
# or fail with FASTTILE_BROWSER=required.
set -uo pipefail
PATH="$PATH:/usr/local/sbin:/usr/sbin"

has() {
    command -v "$1" >/dev/null 2>&1
}

shout() {
    printf '\n*** tests of serving: %s ***\n\n' "$*" >&2
}

packages=()
has nginx || packages+=(nginx-light)
has varnishd || packages+=(varnish)
has cc || has gcc || packages+=(gcc libc6-dev) # Varnish compiles its configuration
((${#packages[@]})) || exit 0

as_root=()
if [[ $(id -u) != 0 ]]; then
    as_root=(sudo -n)
fi
if ! has apt-get || { ((${#as_root[@]})) && ! sudo -n true 2>/dev/null; }; then
    shout "missing ${packages[*]}; install them as packages of this system"
    exit 0
fi

# They are wanted as programs, not as services that start here and now. This is Debian's way to say
# so; where somebody has said something already, that stays.
policy=/usr/sbin/policy-rc.d
if [[ ! -e $policy ]]; then
    printf '#!/bin/sh\nexit 101\n' | "${as_root[@]}" tee "$policy" >/dev/null
    "${as_root[@]}" chmod +x "$policy"
    trap '"${as_root[@]}" rm -f "$policy"' EXIT
fi
"${as_root[@]}" apt-get update -qq &&
    "${as_root[@]}" env DEBIAN_FRONTEND=noninteractive \
        apt-get install -qq -y --no-install-recommends "${packages[@]}" >/dev/null ||
    shout "apt-get could not install ${packages[*]}"
exit 0
