"""The table of docs/RELIABILITY.md: what fasttile does, and what libvips, when things go wrong.

Each row is a fault that both programs really meet. The document has what was seen:

    python tests/faults/table.py           shows the table
    python tests/faults/table.py --write   puts it into the document
"""

from __future__ import annotations

import os
import resource
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from shutil import copyfile, rmtree
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
from disks import mounted
from PIL import Image
from programs import FASTTILE, SECONDS, VIPS, begun
from shim import Fault, build
from trees import Tree, count, published, tree

DOCUMENT = Path(__file__).parents[2] / "docs" / "RELIABILITY.md"

BEGIN, END = "<!-- seen by tests/faults/table.py -->", "<!-- end -->"

PROGRAMS = {"fasttile": [*FASTTILE, "cut"], "libvips": VIPS}

NAME = "x.dzi"

EITHER_WAY = ("SIGBUS; nothing stands", "exit 1, says why; nothing stands")
EITHER = "exit 1, says why, or SIGBUS; nothing stands"
"""Which of the two it is, a fraction of a second decides."""

UNSEEN = "not seen"
"""In place of what would have to be mounted."""


@dataclass
class Trial:
    """One program on its way into one fault.

    Attributes:
        program: "fasttile" or "libvips".
        room: An empty folder.
        pictures: What is cut, by names.
        shim: The library that lets calls fail.
    """

    program: str
    room: Path
    pictures: Mapping[str, Path]
    shim: Path

    @property
    def out(self) -> Path:
        """Where the results go."""
        return self.room / "out"

    def begin(
        self,
        picture: Path,
        out: Path | None = None,
        *,
        fault: Fault | None = None,
        limit: tuple[int, int] | None = None,
    ) -> subprocess.Popen[str]:
        """Begin to cut a picture, where an older result may be replaced."""
        out = out or self.out
        out.mkdir(parents=True, exist_ok=True)
        words: list[object] = [picture, out / NAME]
        if self.program == "fasttile":
            words = [picture, "-o", out / NAME, "--overwrite"]
        extra: Mapping[str, str] = {"VIPS_CONCURRENCY": "1"}
        return begun(
            PROGRAMS[self.program],
            *words,
            extra={**extra, **(fault.environment(self.shim) if fault else {})},
            preexec_fn=(lambda: resource.setrlimit(limit[0], (limit[1],) * 2)) if limit else None,
        )

    def begin_some(self, picture: Path) -> subprocess.Popen[str]:
        """One that has come so far that there are some tiles."""
        process = self.begin(picture)
        deadline = time.monotonic() + SECONDS
        while count(self.out) < 50:
            assert process.poll() is None, process.communicate()
            assert time.monotonic() < deadline
            time.sleep(0.002)
        return process

    def whole(self, picture: Path, *, stays: bool = False) -> Tree:
        """The undisturbed result, which is removed, or stays to be replaced."""
        process = self.begin(picture)
        _, said = process.communicate(timeout=SECONDS)
        assert process.returncode == 0, said
        found = result(self.out)
        if not stays:
            rmtree(self.out)
        return found

    def saw(self, process: subprocess.Popen[str], out: Path | None = None, **wholes: Tree) -> str:
        """How a cut of "new" ended, and what stands there then."""
        _, said = process.communicate(timeout=SECONDS)
        code, found = process.returncode, result(out or self.out)
        if code < 0:
            return f"{signal.Signals(-code).name}; {standing(found, wholes)}"
        told = ", says why" if said.strip() else ", **says nothing**"
        if code == 0 and found == wholes["new"]:
            told = ""
        return f"exit {code}{told}; {standing(found, wholes)}"


def result(out: Path) -> Tree:
    """What a visitor finds, but for libvips' own notes, which hold the time."""
    found = published(tree(out)) if out.exists() else {}
    return {path: data for path, data in found.items() if not path.endswith("vips-properties.xml")}


def standing(found: Tree, wholes: Mapping[str, Tree]) -> str:
    """In words, what is found."""
    for name, whole in wholes.items():
        if found == whole:
            return "the result is whole" if name == "new" else "the older result is whole"
    if NAME not in found:
        return "tiles without a descriptor" if found else "nothing stands"
    if "old" in wholes:
        return "**the descriptor stands, the tiles are of two pictures**"
    return "**the descriptor stands, tiles are missing or damaged**"


# ---- the faults --------------------------------------------------------------------------------


def calling(
    call: str, share: float, picture: str = "small", *, over: bool = False, **more: Any
) -> Callable[[Trial], str]:
    """A fault at a call, so far into all calls of its kinds; perhaps over an older result."""

    def meet(trial: Trial) -> str:
        source = trial.pictures[picture]
        trace = trial.room / "trace"
        trial.begin(source, fault=Fault(trial.out, call, trace=trace)).communicate()
        at = int(share * len(trace.read_text().splitlines()))
        wholes = {"new": result(trial.out)}
        rmtree(trial.out)
        if over:
            wholes["old"] = trial.whole(trial.pictures["old"], stays=True)
        return trial.saw(trial.begin(source, fault=Fault(trial.out, call, at, **more)), **wholes)

    return meet


def on_disk(options: str, picture: str = "small", more: str = "") -> Callable[[Trial], str]:
    """A file system of its own."""

    def meet(trial: Trial) -> str:
        whole = trial.whole(trial.pictures[picture])
        place = trial.room / "disk"
        place.mkdir()
        with mounted(place, options) as disk:
            if disk is None:
                return UNSEEN
            out = disk.path / "out"
            out.mkdir()
            if more:
                disk.remount(more)
            return trial.saw(trial.begin(trial.pictures[picture], out), out, new=whole)

    return meet


def terminated(trial: Trial) -> str:
    whole = trial.whole(trial.pictures["large"])
    process = trial.begin_some(trial.pictures["large"])
    process.terminate()
    return trial.saw(process, new=whole)


def grows_too_large(trial: Trial) -> str:
    small = trial.pictures["small"]
    whole = trial.whole(small)
    return trial.saw(trial.begin(small, limit=(resource.RLIMIT_FSIZE, 20_000)), new=whole)


def moved(trial: Trial) -> str:
    whole = trial.whole(trial.pictures["large"])
    process = trial.begin_some(trial.pictures["large"])
    trial.out.rename(trial.room / "moved")
    return trial.saw(process, new=whole)


def second(trial: Trial) -> str:
    """Another picture goes to the same place, while the first run is at work."""
    large, other = trial.pictures["large"], trial.pictures["other"]
    wholes = {"new": trial.whole(large), "old": trial.whole(other)}
    first = trial.begin_some(large)
    first.send_signal(signal.SIGSTOP)
    process = trial.begin(other)
    _, said = process.communicate(timeout=SECONDS)
    first.send_signal(signal.SIGCONT)
    ended = f"exit {process.returncode}{', says why' * bool(said.strip())}"
    return f"the second: {ended}; the first: {trial.saw(first, **wholes)}"


def cut_short_before(trial: Trial) -> str:
    small = trial.pictures["small"]
    whole = trial.whole(small)
    short = trial.room / small.name
    short.write_bytes(small.read_bytes()[: small.stat().st_size // 2])
    return trial.saw(trial.begin(short), new=whole)


def while_read(change: Callable[[Path], None]) -> Callable[[Trial], str]:
    """The source changes."""

    def meet(trial: Trial) -> str:
        large = trial.pictures["large"]
        whole = trial.whole(large)
        source = trial.room / large.name
        copyfile(large, source)
        process = trial.begin_some(source)
        change(source)
        saw = trial.saw(process, new=whole)
        return EITHER if change is shorten and saw in EITHER_WAY else saw

    return meet


def shorten(source: Path) -> None:
    os.truncate(source, source.stat().st_size // 8)


def write_over(source: Path) -> None:
    size = source.stat().st_size
    with source.open("r+b") as file:
        file.seek(size * 3 // 4)
        file.write(bytes(size // 8))


FAULTS: dict[str, Callable[[Trial], str]] = {
    "a disk of 200 kB is full": on_disk("size=200k"),
    "a disk of 60 kB is full, tiles below 3 kB": on_disk("size=60k", "smooth"),
    "the disk is full from the middle on (ENOSPC)": calling(
        "write", 0.5, error="ENOSPC", sticky=True
    ),
    "the same, with tiles below 3 kB (ENOSPC)": calling(
        "write", 0.5, "smooth", error="ENOSPC", sticky=True
    ),
    "the quota is reached for a moment (EDQUOT)": calling("write", 0.5, error="EDQUOT"),
    "a write fails (EIO)": calling("write", 0.5, error="EIO"),
    "the same, with tiles below 3 kB (EIO)": calling("write", 0.5, "smooth", error="EIO"),
    "a file system tells at close that it failed (EIO)": calling("close", 0.5, error="EIO"),
    "no file handle is left for a moment (EMFILE)": calling("open", 0.5, error="EMFILE"),
    "no folder can be made (EACCES)": calling("mkdir", 0.5, error="EACCES", sticky=True),
    "no file may exceed 20 kB (RLIMIT_FSIZE)": grows_too_large,
    "the disk may only be read": on_disk("size=1m", more="ro"),
    "kill -9": calling("write", 0.5, kill=True),
    "kill -9 over an older result": calling("write", 0.5, over=True, kill=True),
    "a full disk over an older result": calling(
        "write", 0.5, over=True, error="ENOSPC", sticky=True
    ),
    "SIGTERM": terminated,
    "the destination is moved away": moved,
    "a second run, of another picture, on the same destination": second,
    "the source was cut short before": cut_short_before,
    "the source is cut short while it is read": while_read(shorten),
    "the source is written to while it is read": while_read(write_over),
}


# ---- the table ---------------------------------------------------------------------------------


def pictures(folder: Path) -> dict[str, Path]:
    """Pictures of 20 tiles, and of about 400, each with another of the same size."""
    made = {}
    for name, size, seed in (
        ("small", 600, 1),
        ("old", 600, 2),
        ("large", 4400, 3),
        ("other", 4400, 4),
    ):
        noise = np.random.default_rng(seed).integers(0, 256, (size // 4, size // 4, 3), np.uint8)
        made[name] = folder / f"{name}.tif"
        Image.fromarray(noise.repeat(4, axis=0).repeat(4, axis=1)).save(made[name])
    made["smooth"] = folder / "smooth.tif"
    Image.linear_gradient("L").resize((600, 600)).convert("RGB").save(made["smooth"])
    return made


def seen(fault: str) -> dict[str, str]:
    """What each program does about a fault."""
    cells = {}
    memory = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None
    for program in PROGRAMS:
        with TemporaryDirectory(dir=memory) as name:
            room = Path(name) / "room"
            room.mkdir()
            trial = Trial(program, room, pictures(Path(name)), build(Path(name)))
            cells[program] = FAULTS[fault](trial)
    return cells


def row(fault: str, cells: Mapping[str, str]) -> str:
    return f"| {fault} | {cells['fasttile']} | {cells['libvips']} |"


def table() -> str:
    import pyvips

    version = ".".join(str(pyvips.version(part)) for part in range(3))
    lines = [f"| fault | fasttile | libvips {version} |", "|---|---|---|"]
    for fault in FAULTS:
        lines.append(row(fault, seen(fault)))
        print(lines[-1], file=sys.stderr)
    return "\n".join(lines)


def main() -> None:
    made = table()
    if "--write" not in sys.argv[1:]:
        print(made)
        return
    text = DOCUMENT.read_text(encoding="utf-8")
    before, _, rest = text.partition(BEGIN)
    _, _, after = rest.partition(END)
    DOCUMENT.write_text(f"{before}{BEGIN}\n\n{made}\n\n{END}{after}", encoding="utf-8")


if __name__ == "__main__":
    main()
