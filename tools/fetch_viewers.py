"""Copy the viewers' scripts and licences into the package before a wheel is built.

They come from npm by the lock file in tools/viewers, are compared with the hashes that pages name,
and end up in src/fasttile/viewers/scripts. Where npm is missing or fails, that folder stays empty:
pages then take the same files from a CDN.

    $ python tools/fetch_viewers.py            # exit code 0, also without npm
    $ python tools/fetch_viewers.py --required # exit code 1 where a script is missing
"""

from __future__ import annotations

import argparse
import base64
import hashlib
import json
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
HERE = ROOT / "tools" / "viewers"
MODULES = HERE / "node_modules"
PACKAGE = ROOT / "src" / "fasttile" / "viewers"
BUNDLE = PACKAGE / "scripts"


class Missing(Exception):  # noqa: N818
    """A script is not available; the text has the reason."""


def main(arguments: list[str] | None = None) -> int:
    """Fetch and copy; return the exit code."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--required", action="store_true", help="fail where a script is missing")
    args = parser.parse_args(arguments)
    try:
        install()
        names = copy()
    except Missing as missing:
        print(f"fetch_viewers: {missing}; pages will take viewers from the CDN", file=sys.stderr)
        return 1 if args.required else 0
    print(f"fetch_viewers: {', '.join(names)}")
    return 0


def install() -> None:
    """Put what the lock file names into node_modules, unless it is there already.

    Raises:
        Missing: There is no npm, or it fails.
    """
    lock = HERE / "package-lock.json"
    stamp = MODULES / ".package-lock.json"
    if stamp.exists() and stamp.stat().st_mtime >= lock.stat().st_mtime:
        return
    npm = shutil.which("npm")
    if npm is None:
        raise Missing("there is no npm here")
    command = [npm, "ci", "--ignore-scripts", "--no-audit", "--no-fund", "--loglevel=error"]
    done = subprocess.run(command, cwd=HERE, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        reason = (done.stderr.strip().splitlines() or ["it says nothing"])[-1]
        raise Missing(f"npm ci failed: {reason}")


def copy() -> list[str]:
    """Copy the scripts, each with its licences; return the names of the written files.

    Raises:
        Missing: A file is not the one that pages name by its hash, or cannot stand in a page.
    """
    written: dict[str, bytes] = {}
    for name, script in json.loads((PACKAGE / "scripts.json").read_text("utf-8")).items():
        package, path = script["package"], script["path"]
        file = MODULES / package / path
        if not file.is_file():
            raise Missing(f"{package} has no {path}")
        data = file.read_bytes()
        found = "sha384-" + base64.b64encode(hashlib.sha384(data).digest()).decode()
        if found != script["integrity"]:
            raise Missing(f"{path} of {package} is not the file of scripts.json, but {found}")
        licence = "\n\n".join(licences(package))
        if not embeddable(data.decode()) or not embeddable(licence) or "*/" in licence:
            raise Missing(f"{path} of {package} cannot stand in a page as it is")
        written[name] = data
        written[f"{package}.LICENSE.txt"] = licence.encode()
    shutil.rmtree(BUNDLE, ignore_errors=True)
    BUNDLE.mkdir()
    for name, data in written.items():
        (BUNDLE / name).write_bytes(data)
    return sorted(written)


def embeddable(text: str) -> bool:
    """True if a text needs no escape within a script or style element."""
    lower = text.lower()
    return not any(mark in lower for mark in ("</script", "<script", "</style", "<!--"))


def licences(package: str) -> Iterator[str]:
    """The licences of a package and of all that it may have taken into its script."""
    for name in sorted(closure(package), key=lambda found: (found != package, found)):
        said = json.loads((MODULES / name / "package.json").read_text("utf-8"))
        if name.startswith("@types/"):  # no code
            continue
        texts = [
            path.read_text("utf-8").strip()
            for path in sorted((MODULES / name).iterdir())
            if path.is_file() and path.stem.lower() in ("license", "licence", "notice", "copying")
        ]
        head = f"{name} {said['version']} ({said.get('license', 'licence not stated')})"
        yield "\n\n".join([head, *texts])


def closure(package: str) -> set[str]:
    """A package and all that it depends on, by name."""
    found: set[str] = set()
    waiting = [package]
    while waiting:
        name = waiting.pop()
        if name in found:
            continue
        found.add(name)
        said = json.loads((MODULES / name / "package.json").read_text("utf-8"))
        waiting += said.get("dependencies", {})
    return found


if __name__ == "__main__":
    sys.exit(main())
