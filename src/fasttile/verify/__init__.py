"""Check results for missing, damaged and surplus tiles, and repair them."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from fasttile.jobs.progress import CutProgress, CutProgressCallback
from fasttile.options.cut import CutOptions, option_table
from fasttile.readers import open_pyramid
from fasttile.verify.check import create_checker
from fasttile.verify.report import Fault, Findings, VerifyReport

__all__ = ["CutProgress", "CutProgressCallback", "Fault", "VerifyReport", "repair", "verify"]

VERIFY_OPTIONS = frozenset(option_table("verify"))
"""The options of `cut` that say how a source became these tiles; the rest the result says."""


def verify(
    path: str | os.PathLike[str],
    source: object = None,
    deep: bool = False,
    progress: CutProgressCallback | None = None,
    options: CutOptions | None = None,
    **keywords: Any,
) -> VerifyReport:
    """Check a result of any layout and in any container.

    All tiles have to be there, and no others, each a whole image of its format and size; and
    all that announces them has to say the same.

    Args:
        path: What `open_pyramid` takes.
        source: The image, as for `cut`: each tile is compared with what it should show.
        deep: Whether each tile is decoded, and each level compared with the larger one halved.
            With a source there is no need to.
        progress: Called now and then, from the calling thread.
        options: Options for several calls; keywords override its fields. Fields that are no
            keywords here have no effect: the result holds their values.
        **keywords: How the result was cut, as far as it does not say so itself: raw, page,
            max_pixels, allow_truncated, region, window, background, icc, shrink, skip_blank (a
            tile that differs from the background by no more may be left out; default 5), format
            and quality; and threads.

    Returns:
        What was found.

    Raises:
        OptionError: An option cannot be used.
        SourceError: The result or the image cannot be read, or they are not of one size.
        Cancelled: The callback gave False.

    Example:
        >>> report = verify("site/map.dzi", deep=True)  # doctest: +SKIP
        >>> report.is_complete, report.fault_count  # doctest: +SKIP
        (True, 0)
    """
    cut_options = parse_options(keywords, options)
    findings = Findings()
    with open_pyramid(path) as reader:
        look = create_checker(reader, findings, cut_options.thread_count, progress)
        if source is None:
            look.run(deep=deep)
        else:
            from fasttile.verify.compare import compare

            compare(look, source, cut_options)
    return findings.report(Path(path))


def repair(
    path: str | os.PathLike[str],
    source: object,
    progress: CutProgressCallback | None = None,
    options: CutOptions | None = None,
    **keywords: Any,
) -> VerifyReport:
    """Repair a result: cut the bad tiles again and keep all others.

    Folders are repaired file by file; a one-file result is written again and replaces the old
    one when it is complete. Format, quality and the like are read off good tiles.

    Args:
        path, source, progress, options, **keywords: As for `verify`. Name what the tiles do not
            show of their format.

    Returns:
        What is wrong afterwards, and how much was repaired.

    Raises:
        OptionError: An option cannot be used, or one is needed.
        SourceError: The result or the image cannot be read, or they are not of one size.
        TargetError: The result cannot be written.
        Cancelled: The callback gave False.
    """
    from fasttile.verify.repairs import repair_result

    return repair_result(Path(path), source, progress, parse_options(keywords, options))


def parse_options(keywords: dict[str, Any], options: CutOptions | None = None) -> CutOptions:
    """The options of a call, limited to VERIFY_OPTIONS.

    Raises:
        TypeError: A keyword is none of them.
    """
    for name in keywords:
        if name not in VERIFY_OPTIONS:
            known = ", ".join(sorted(VERIFY_OPTIONS))
            raise TypeError(f"no option {name!r}; the options are {known}")
    merged = CutOptions.from_keywords(keywords, options)
    return CutOptions(**{name: getattr(merged, name) for name in VERIFY_OPTIONS})
