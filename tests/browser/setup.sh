#!/usr/bin/env bash
# Installs what the browser tests need and does not find: Chromium, nginx, iipsrv and npm as Debian's
# packages where it may, the viewers by npm. Downloads no browser. Where it may not install, it says
# what is missing and ends well: the tests then skip, or fail with FASTTILE_BROWSER=required.
set -uo pipefail
cd "$(dirname "$0")"
PATH="$PATH:/usr/local/sbin:/usr/sbin"

has() {
    command -v "$1" >/dev/null 2>&1
}

shout() {
    printf '\n*** browser tests: %s ***\n\n' "$*" >&2
}

packages=()
has chromium || has chromium-browser || has google-chrome || packages+=(chromium)
has nginx || packages+=(nginx-light)
has npm || packages+=(npm)
has iipsrv.fcgi || [[ -e /usr/lib/iipimage-server/iipsrv.fcgi ]] || packages+=(iipimage-server)

if ((${#packages[@]})); then
    may=false
    as_root=()
    if has apt-get; then
        if [[ $(id -u) == 0 ]]; then
            may=true
        elif has sudo && sudo -n true 2>/dev/null; then
            may=true
            as_root=(sudo -n)
        fi
    fi
    if $may; then
        # nginx is wanted as a program, not as a service that starts here and now. This is Debian's
        # way to say so; where somebody has said something already, that stays.
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
    else
        shout "missing ${packages[*]}; install them as packages of this system"
    fi
fi

# npm writes the file within node_modules when it is done.
done_by_npm=node_modules/.package-lock.json
fresh=false
[[ $done_by_npm -nt package.json && $done_by_npm -nt package-lock.json ]] && fresh=true
if ! $fresh; then
    if ! has npm; then
        shout "the viewers are missing: there is no npm to install them"
    elif npm ci --silent --ignore-scripts; then
        touch "$done_by_npm"
    else
        shout "the viewers are missing: npm ci does not succeed"
    fi
fi

# Models of IIIF's own schema of manifests. The package wants an old Pillow, which the environment of
# the tests must not get: so it has a folder of its own.
schema=prezi3
if [[ ! -d $schema/iiif_prezi3 ]]; then
    python=${PYTHON:-python3}
    "$python" -m pip install -q --target "$schema" 'pydantic>=2' requests &&
        "$python" -m pip install -q --target "$schema" --no-deps iiif-prezi3==3.1.1 ||
        shout "manifests are not compared with the schema: pip could not install iiif-prezi3"
fi
exit 0
