"""A result made whole again: what is wrong is cut anew, and all else stays to the byte."""

from __future__ import annotations

from pathlib import Path

from ..cutting import ProgressCallback
from ..errors import OptionError
from ..options import CutOptions
from ..readers import open_pyramid
from ..sources import holding
from .against import Comparison, beside, compare
from .infolder import FolderMend
from .looking import Look, look_at
from .mending import Mend, mend
from .onefile import OneFileMend
from .report import Findings, VerifyReport


def repaired(
    path: Path, source: object, progress: ProgressCallback | None, wishes: CutOptions
) -> VerifyReport:
    """Repair a result, and look at it again; see `fasttile.verify.repair`."""
    with holding(source):
        with open_pyramid(path) as reader:
            look = look_at(reader, Findings(), wishes.thread_count, progress)
            found = compare(look, source, wishes)
            if look.findings.count == 0:
                return look.findings.report(path)
            count = _mended(look, found, source, wishes)
        with open_pyramid(path) as reader:
            look = look_at(reader, Findings(), wishes.thread_count, progress)
            compare(look, source, wishes)
            return look.findings.report(path, count)


def _mended(look: Look, found: Comparison, source: object, wishes: CutOptions) -> int:
    """Walk the picture once more and repair what was found; gives how much it was."""
    _refuse_unknown(found, look.tiles.reader.path)
    with beside(look, source, wishes) as again:
        again.bad_wholes |= found.bad_wholes
        return mend(again, _place(again))


def _place(comparison: Comparison) -> Mend:
    if comparison.tiles.container == "folder":
        return FolderMend(comparison.tiles, comparison.bad_wholes)
    return OneFileMend(comparison)


def _refuse_unknown(found: Comparison, path: Path) -> None:
    """Refuse to guess how tiles are to be encoded."""
    if not found.encoding.known and not found.ballot.exact:
        name = found.encoding.codec.name
        raise OptionError(
            f"{path}: its tiles do not tell how they were encoded: say it as it was, "
            f"--format {name}:… or --quality N"
        )
