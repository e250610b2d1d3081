"""Copy the viewers' scripts and licences into the package before a wheel is built.

They come from npm by the lock file in tools/viewers, are compared with the hashes that pages name,
and end up in src/fasttile/viewers/scripts. setup.py runs this in each build. Where npm is missing
or fails, one line has the reason, and the build continues without them: pages then show a plain
viewer.

    $ python tools/fetch_viewers.py            # exit code 0, also without npm
    $ python tools/fetch_viewers.py --required # exit code 1 where a script is missing
"""

from __future__ import annotations

import argparse
import base64
import hashlib
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import IO

ROOT = Path(__file__).resolve().parent.parent
HERE = ROOT / "tools" / "viewers"
MODULES = HERE / "node_modules"
PACKAGE = ROOT / "src" / "fasttile" / "viewers"
BUNDLE = PACKAGE / "scripts"

SECONDS = 120
"""The time that npm may take."""

NPM_OPTIONS = (
    *("--ignore-scripts", "--no-audit", "--no-fund", "--loglevel=error"),
    # Without a network, npm would try again for more than a minute.
    *("--fetch-retries=1", "--fetch-retry-mintimeout=1000", "--fetch-timeout=20000"),
)


class Missing(Exception):  # noqa: N818
    """A script is not available; the text has the reason."""


def main(arguments: list[str] | None = None) -> int:
    """Fetch and copy; return the exit code."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--required", action="store_true", help="fail where a script is missing")
    args = parser.parse_args(arguments)
    if not complete():
        try:
            install()
            copy()
        except (Missing, OSError, ValueError) as missing:
            print(
                f"fetch_viewers: the viewers' scripts are left out: {missing}; pages will show a "
                "plain viewer: build again where npm works for the others",
                file=sys.stderr,
            )
            return 1 if args.required else 0
    print(f"fetch_viewers: the viewers' scripts are in {BUNDLE}")
    return 0


def complete() -> bool:
    """True if the package has all scripts that pages name, with their licences."""
    scripts = json.loads((PACKAGE / "scripts.json").read_text("utf-8"))
    return all(
        (BUNDLE / f"{script['package']}.LICENSE.txt").is_file()
        and (BUNDLE / name).is_file()
        and integrity((BUNDLE / name).read_bytes()) == script["integrity"]
        for name, script in scripts.items()
    )


def integrity(data: bytes) -> str:
    """The hash of a file for W3C Subresource Integrity."""
    return "sha384-" + base64.b64encode(hashlib.sha384(data).digest()).decode()


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
    with tempfile.TemporaryFile("w+", encoding="utf-8", errors="replace") as output:
        code = run_npm([npm, "ci", *NPM_OPTIONS], output)
        output.seek(0)
        lines = [line.strip() for line in output if line.strip()]
    if code is None:
        raise Missing(f"npm ci takes more than {SECONDS} seconds")
    if code != 0:
        # The last line names npm's log file, which is no reason.
        reasons = [line for line in lines if "complete log of this run" not in line]
        raise Missing(f"npm ci failed: {(reasons or ['without a message'])[0]}")


def run_npm(command: list[str], output: IO[str]) -> int | None:
    """Run npm, its output in a file; return its exit code, None if it takes too long."""
    process = subprocess.Popen(
        command,
        cwd=HERE,
        stdin=subprocess.DEVNULL,
        stdout=output,
        stderr=subprocess.STDOUT,
        start_new_session=True,  # so that what it starts ends with it; on Windows this is ignored
    )
    try:
        return process.wait(SECONDS)
    except subprocess.TimeoutExpired:
        return None
    finally:
        if process.poll() is None:
            if sys.platform == "win32":
                process.kill()
            else:
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def copy() -> None:
    """Copy the scripts, each with its licences.

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
        found = integrity(data)
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
