"""Corpus of cuts whose results two versions of fasttile must write with the same bytes.

    python bench/corpus.py make OUT.json [--python PATH] [--src DIR] [--only TEXT]
    python bench/corpus.py compare A.json B.json

`make` runs every case of `corpus_cases.py` in an empty folder, and records the exit codes and the
path, size and SHA-256 of every file that is left there. It needs NumPy, Pillow, tifffile and
imagecodecs. Its exit code is 1 if a command ends with another exit code than intended. `compare`
prints what differs; its exit code is 1 if anything does.

Messages on standard output and standard error are not recorded. `normalised` says which files are
changed before they are hashed. Pages (`--viewer`) contain the viewer's script where the package
bundles it: run `make viewers` for both versions or for neither.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from corpus_cases import Case

BENCH = Path(__file__).resolve().parent

FUNCTIONS = """
fasttile() { "$CORPUS_PYTHON" -m fasttile "$@"; }
api() { "$CORPUS_PYTHON" "$CORPUS_API" "$@"; }
"""
"""What the commands of a case may call in the shell."""

SECONDS = 120
"""A command that takes longer is ended; its exit code is then recorded as -1."""

File = tuple[str, int, str]
"""Path, size in bytes, SHA-256."""


def make(out: Path, python: str, src: Path, only: str) -> int:
    """Run all cases and write what they leave; returns the number of unintended exit codes."""
    from corpus_cases import cases
    from corpus_images import write_sources

    started = time.monotonic()
    inherited = {key: os.environ[key] for key in os.environ if key != "PYTHONDONTWRITEBYTECODE"}
    environment = {
        **inherited,
        "PYTHONPATH": str(src.resolve()),
        "CORPUS_PYTHON": python,
        "CORPUS_API": str(BENCH / "corpus_api.py"),
    }
    with tempfile.TemporaryDirectory(prefix="corpus-") as name:
        root = Path(name)
        # Modules are compiled once, and nothing is written to the package.
        environment["PYTHONPYCACHEPREFIX"] = str(root / "compiled")
        check_imported(python, src, environment)
        sources = root / "in"
        sources.mkdir()
        write_sources(sources)
        names = sorted(path.name for path in sources.iterdir() if path.suffix)
        chosen = [case for case in cases(names) if only in case.name]

        def run(number: int) -> dict[str, Any]:
            return run_case(chosen[number], root / f"{number:04}", environment)

        with ThreadPoolExecutor(len(os.sched_getaffinity(0))) as pool:
            results = list(pool.map(run, range(len(chosen))))
        record = {
            "sources": files_below(sources),
            "cases": {case.name: result for case, result in zip(chosen, results, strict=True)},
        }
    out.write_text(json.dumps(record, indent=1) + "\n")
    count = sum(len(result["files"]) for result in results)
    seconds, used = time.monotonic() - started, os.times()
    processor = f"{used.children_user + used.children_system:.0f} s of processors"
    print(f"{len(results)} cases, {count} files, {seconds:.0f} s ({processor}): {out}")
    return sum(
        result["exits"] != list(case.exits) for case, result in zip(chosen, results, strict=True)
    )


def check_imported(python: str, src: Path, environment: dict[str, str]) -> None:
    """Refuse to run where another copy of the package would be imported."""
    code = "import fasttile; print(fasttile.__file__)"
    command = [python, "-c", code]
    found = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    if not Path(found.stdout.strip()).resolve().is_relative_to(src.resolve()):
        raise SystemExit(f"{python} imports {found.stdout.strip()}, which is not below {src}")


def run_case(case: Case, folder: Path, environment: dict[str, str]) -> dict[str, Any]:
    """Run the commands of a case; returns them, their exit codes, and the files they left."""
    folder.mkdir()
    exits = []
    for command, intended in zip(case.commands, case.exits, strict=True):
        process = subprocess.Popen(
            ["sh", "-c", FUNCTIONS + command],
            cwd=folder,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
        )
        try:
            _, errors = process.communicate(timeout=SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            process.communicate()
            errors = f"longer than {SECONDS} s".encode()
            process.returncode = -1
        exits.append(process.returncode)
        if process.returncode != intended:
            last = errors.decode(errors="replace").strip().rpartition("\n")[2]
            print(f"{case.name}\n  {command}\n  exit code {exits[-1]}, not {intended}: {last}")
    return {"commands": case.commands, "exits": exits, "files": files_below(folder)}


def files_below(folder: Path) -> list[File]:
    """All files below a folder, sorted by path, and empty folders with a slash at the end."""
    found = []
    for path in folder.rglob("*"):
        name = path.relative_to(folder).as_posix()
        if path.is_file():
            data = normalised(path)
            found.append((name, len(data), hashlib.sha256(data).hexdigest()))
        elif not any(path.iterdir()):
            found.append((f"{name}/", 0, ""))
    return sorted(found)


def normalised(path: Path) -> bytes:
    """What a file contains, without what may differ from run to run.

    Of reports (`report.jsonl`) the time taken and the messages are removed and the lines sorted,
    because images end in any order; for this reason the lines of a batch's ledger are sorted too.
    """
    data = path.read_bytes()
    if path.name == "report.jsonl":
        lines = [json.loads(line) for line in data.splitlines()]
        for line in lines:
            line["error"] = line["error"] is not None
            line.pop("seconds", None)
            line.pop("notes", None)
        return "\n".join(sorted(json.dumps(line, sort_keys=True) for line in lines)).encode()
    if path.parent.name == ".fasttile-batch":
        return b"\n".join(sorted(data.splitlines()))
    return data


def compare(first: Path, second: Path) -> int:
    """Print what differs between two records; returns the number of differences."""
    a, b = (json.loads(path.read_text()) for path in (first, second))
    differences = different_files("source images", a["sources"], b["sources"])
    count = 0
    for name in dict.fromkeys([*a["cases"], *b["cases"]]):
        one, other = a["cases"].get(name), b["cases"].get(name)
        if one is None or other is None:
            differences.append(f"{name}: missing in {first if one is None else second}")
            continue
        for key in ("commands", "exits"):
            if one[key] != other[key]:
                differences.append(f"{name}: {key} {one[key]}, then {other[key]}")
        differences += different_files(name, one["files"], other["files"])
        count += len(one["files"])
    if not a["cases"] or not b["cases"]:
        differences.append("no cases")
    print(*differences, sep="\n", end="\n" if differences else "")
    print(f"{len(a['cases'])} cases, {count} files compared, {len(differences)} differences")
    return len(differences)


def different_files(name: str, one: list[File], other: list[File]) -> list[str]:
    """The files that are missing, new or changed, a line for each."""
    a, b = ({path: (size, digest) for path, size, digest in files} for files in (one, other))
    lines = []
    for path in sorted(a.keys() | b.keys()):
        if path not in b or path not in a:
            lines.append(f"{name}: {path} is {'missing' if path in a else 'new'}")
        elif a[path] != b[path]:
            lines.append(f"{name}: {path} has changed, {a[path][0]} and {b[path][0]} bytes")
    return lines


def main() -> None:
    """Make or compare a record."""
    parser = argparse.ArgumentParser(description="Record and compare the results of many cuts.")
    commands = parser.add_subparsers(dest="command", required=True)
    making = commands.add_parser("make", help="run all cases")
    making.add_argument("out", type=Path, metavar="OUT.json")
    making.add_argument("--python", default=sys.executable, help="interpreter (default: this one)")
    making.add_argument("--src", type=Path, default=BENCH.parent / "src", metavar="DIR")
    making.add_argument("--only", default="", metavar="TEXT", help="cases whose name contains it")
    comparing = commands.add_parser("compare", help="print what differs")
    comparing.add_argument("first", type=Path, metavar="A.json")
    comparing.add_argument("second", type=Path, metavar="B.json")
    args = parser.parse_args()
    if args.command == "make":
        sys.exit(bool(make(args.out, args.python, args.src, args.only)))
    sys.exit(bool(compare(args.first, args.second)))


if __name__ == "__main__":
    main()
