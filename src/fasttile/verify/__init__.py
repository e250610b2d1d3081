"""Check results for missing, damaged and surplus tiles, and repair them."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from fasttile.errors import OptionError, did_you_mean
from fasttile.jobs.progress import CancelToken, CutProgress, CutProgressCallback, with_cancel
from fasttile.jobs.record import recorded_options
from fasttile.options.cut import CutOptions, option_table
from fasttile.readers import open_result
from fasttile.storage.system import log_notes
from fasttile.verify.check import create_checker
from fasttile.verify.report import Fault, Findings, VerifyReport
from fasttile.verify.tiles import StoredTiles

__all__ = ["CutProgress", "CutProgressCallback", "Fault", "VerifyReport", "repair", "verify"]

VERIFY_OPTIONS = frozenset(option_table("verify"))
"""The options of `cut` that a result does not contain."""


def verify(
    path: str | os.PathLike[str],
    source: object = None,
    deep: bool = False,
    progress: CutProgressCallback | bool | None = None,
    options: CutOptions | None = None,
    *,
    cancel: CancelToken | None = None,
    **keywords: Any,
) -> VerifyReport:
    """Check a result of any layout and in any container.

    All tiles must be there, and no others, each a complete image of the format and size of the
    layout; and all descriptors must agree.

    Args:
        path: A path of a result that `open_pyramid` takes.
        source: The image, as for `cut`, to compare each tile with. Default: no comparison.
        deep: True to decode each tile and compare each level with the larger one halved; without
            effect if a source is given.
        progress: Called repeatedly in the calling thread; returning False cancels. True shows it,
            as in `fasttile.cut`.
        options: Options for several calls; keywords override its fields. Other fields than these
            keywords have no effect: the result contains their values.
        cancel: A token by which another thread cancels.
        **keywords: Options of the cut. Default: those that the record in the result states, if
            there is one and no `options` are given; else those of `cut`. They are raw, page,
            max_pixels (never from the record), allow_truncated, region, window, background, icc,
            shrink, skip_blank (maximum difference of a missing tile from the background; default
            5), format and quality; and threads.

    Returns:
        The report.

    Raises:
        OptionError: An option is not valid.
        SourceError: The result or the image cannot be read, or their sizes differ.
        CancelledError: The callback returned False, or the token is cancelled.

    Example:
        >>> report = verify("site/map.dzi", deep=True)  # doctest: +SKIP
        >>> report.is_complete, report.fault_count  # doctest: +SKIP
        (True, 0)
    """
    parse_options(keywords, options)  # before any work
    progress = with_cancel(progress, cancel)
    findings = Findings()
    with open_result(path) as reader:
        record = b"" if source is None else reader.record()
        cut_options = parse_options(keywords, options, record)
        checker = create_checker(reader, findings, cut_options.thread_count, progress)
        if source is None:
            checker.run(deep=deep)
        else:
            from fasttile.verify.compare import compare

            compare(checker, source, cut_options)
        place = reader.path
    report = findings.report(place)
    log_notes(report.path, report.notes)
    return report


def repair(
    path: str | os.PathLike[str],
    source: object,
    progress: CutProgressCallback | bool | None = None,
    options: CutOptions | None = None,
    *,
    cancel: CancelToken | None = None,
    **keywords: Any,
) -> VerifyReport:
    """Repair a result: cut the bad tiles again and keep all others.

    Folders are repaired file by file; a one-file result is written again and replaces the old
    one when it is complete. Format, quality and other parameters are read from good tiles.

    Args:
        path, source, progress, options, cancel, **keywords: As for `verify`. Name the parameters
            of the format that the tiles do not show.

    Returns:
        The report on the repaired result, with the number of repaired tiles and files.

    Raises:
        OptionError: An option is not valid, or one is missing.
        SourceError: The result or the image cannot be read, or their sizes differ.
        TargetError: The result cannot be written, or the image is in it.
        CancelledError: The callback returned False, or the token is cancelled.
    """
    from fasttile.jobs.footprint import Footprint, check_sources
    from fasttile.verify.repairs import repair_result

    progress = with_cancel(progress, cancel)
    with open_result(path) as reader:
        place = reader.path
        if not isinstance(place, Path):
            raise OptionError(
                f"{place}: a result in an object store is not repaired; cut it again "
                "with --overwrite"
            )
        tiles = StoredTiles(reader, Findings())
        root = reader.layout.root if reader.container == "folder" else None
        files = (tiles.target.name,) if root is None else tuple(reader.layout.descriptors())
        check_sources([source], Footprint("", str(tiles.target.parent), files, root))
        cut_options = parse_options(keywords, options, reader.record())
    return repair_result(place, source, progress, cut_options)


def parse_options(
    keywords: dict[str, Any], options: CutOptions | None = None, record: bytes = b""
) -> CutOptions:
    """Merge keywords and options, limited to VERIFY_OPTIONS.

    Without options, the record of the result gives the values that are no keywords.

    Raises:
        TypeError: A keyword is not one of them.
    """
    for name in keywords:
        if name not in VERIFY_OPTIONS:
            known = sorted(VERIFY_OPTIONS)
            near = did_you_mean(name, known)
            raise TypeError(f"no option {name!r}; the options are {', '.join(known)}{near}")
    if options is None:
        keywords = {**recorded_options(record), **keywords}
    merged = CutOptions.from_keywords(keywords, options)
    return CutOptions(**{name: getattr(merged, name) for name in VERIFY_OPTIONS})
