"""`fasttile cut`: cut images into tile pyramids."""

from __future__ import annotations

import argparse
import gc
import os
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fasttile.cli.options import add_options, add_output_options, add_size_option, with_size
from fasttile.cli.output import (
    EXIT_FAILED,
    cut_summary,
    estimate_summary,
    open_report,
    print_line,
    print_notes,
    raise_if_signalled,
    report_failure,
    report_results,
    total_summary,
)
from fasttile.cli.progress import show_batch_progress
from fasttile.errors import OptionError, TargetError, printable
from fasttile.options.cut import CutOptions, option_table

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from fasttile.batch.items import BatchItem, BatchProgress, BatchResult
    from fasttile.batch.run import BatchResults
    from fasttile.dry_run import CutEstimate
    from fasttile.jobs.cut import CutReport

_RESULT_SUFFIXES = {".dzi", ".szi", ".pmtiles", ".mbtiles"}
"""Extensions of results that no image has."""

EXAMPLES = """\
examples:
  fasttile cut map.tif -o site/map.dzi --quality 85
  fasttile cut map.tif -o map.szi                    one file; also .zip, .pmtiles, .mbtiles, .tif
  fasttile cut map.tif -o new.tif --layout tiff:cog  for the cloud; slide.ome.tif: docs/TIFF.md
  fasttile cut map.tif --layout zoomify -o site/map  a folder in another layout
  fasttile cut map.tif --layout xyz:template={z}/{y}/{x} --format png --skip-blank
  fasttile cut map.tif --layout iiif3:id=https://example.org/{name} -o site/
  fasttile cut scans --layout iiif3:id=https://example.org/{name},manifest=texts.csv -o site/
                                                     for Mirador: docs/IIIF.md
  fasttile cut map.tif --viewer openseadragon        also map.html, which shows it
  fasttile cut 'grid:scans/r{row}_c{col}.tif'        many images as one: docs/MOSAICS.md
  fasttile cut scans/*.tif -o 'site/{name}.szi'      one file each
  fasttile cut scans -o 'site/{name}-{ext}.dzi'      where scans has p.tif and p.jpg
  fasttile cut scans -o site --resume --report r.jsonl
                                                     all images below scans; can be resumed
  fasttile cut scans -o site --dry-run               what would be made, and how large
  fasttile cut scans -o site --update                every night: only what is new or has changed
  find . -name '*.tif' | fasttile cut @- -o site     the images of a list
  fasttile cut map.tif --format jpeg:progressive,subsampling=4:4:4
  fasttile cut slide.tif --region 1000,2000,4096,4096 -o detail.dzi
  fasttile cut height.tif --window 800,2400          the values 800 to 2400 as black to white
  fasttile cut labels.png --shrink mode --format png levels without blended colours
  fasttile cut scans.tif --page all -o site          site/scans-1.dzi, site/scans-2.dzi …
  fasttile cut broken.jpg --allow-truncated          the rows that decode, on white
  fasttile cut https://example.org/map.tif           downloaded first, then cut to map.dzi
  scan | fasttile cut - -o scan.dzi                  from standard input
  fasttile cut height.tif --format png:bits=16       16-bit grey tiles
  fasttile cut satellite.tif --bands 4,3,2           bands 4, 3 and 2 as red, green and blue
  fasttile cut cells.tif --bands 1=#00f,2=#0f0       two channels, tinted and added
  fasttile cut cells.ome.zarr --bands 1 --page 3     a channel of the third plane: docs/ZARR.md
  fasttile cut 's3://lab/scan.zarr#axes=cyx'         an array with its axes; only chunks are fetched
  fasttile cut height.tif --bands 1=viridis --nodata -9999
  fasttile cut dump.bin --raw 40000x30000x3:u8:512   a headerless file, pixels after 512 bytes

A result appears only when it is complete. After an error, an older result is unchanged.
"""


MAX_LISTED_ORPHANS = 20


def add(parser: Any) -> None:
    """Add the command's arguments to its parser."""
    parser.epilog = EXAMPLES
    parser.set_defaults(run=run, library="fasttile.batch.run")
    parser.add_argument(
        "sources",
        metavar="SOURCE",
        nargs="+",
        help="an image: a file of any type that Pillow reads, TIFF, npy, raw …; a folder of Zarr "
        "or N5; a result, whose largest level is cut; an http(s) or s3 address; or - for standard "
        "input, which needs -o NAME.dzi; a folder, for all images below it; @LIST, a file with a "
        "source in each line (@- for standard input)",
    )
    group = parser.add_argument_group("what is read")
    add_options(group, "cut", "source")
    add_size_option(group)
    add_options(parser.add_argument_group("its pixels"), "cut", "pixels")
    add_options(parser.add_argument_group("the tiles"), "cut", "tiles")
    group = parser.add_argument_group("the result")
    group.add_argument(
        "-o",
        "--output",
        metavar="DEST",
        help="a .dzi, .szi, .zip, .pmtiles, .mbtiles or .tif file; a folder for <stem>.dzi of each "
        "SOURCE, or with another layout the folder of the tiles, or with a slash at its end the "
        "parent of that folder; {name} is replaced by the stem of SOURCE, {ext} by its extension, "
        "{parent} by its folder's name, {index} by its number (default: the current folder)",
    )
    add_options(group, "cut", "result")
    group = parser.add_argument_group("while it runs")
    add_options(group, "cut", "run")
    group.add_argument(
        "--workers",
        metavar="N[:timeout=S]|dask://…",
        help="cut images, and shards of large images, in N processes, or by the workers of "
        "dask://HOST:PORT or dask://local (default: one process per CPU for many images, or for "
        "an image of four gigapixels); :timeout=S ends a process that was stopped for S seconds, "
        "300 by default",
    )
    group.add_argument(
        "--update",
        action="store_true",
        help="of several images, cut those again that have changed since their result was made, or "
        "whose options have; unchanged ones are skipped in any case",
    )
    group.add_argument(
        "--prune",
        action="store_true",
        help="remove results of earlier runs of this command whose image is not there any more; "
        "without it they are only listed",
    )
    group.add_argument(
        "--report",
        metavar="FILE",
        help="write the result of each image as a line of JSON; an older report is replaced "
        "at the end, no other file is",
    )
    group.add_argument(
        "--dry-run",
        action="store_true",
        help="write nothing, no report either: print what would be made, with bytes and time "
        "estimated from a sample of the tiles, and the space that is needed; refuse what would be "
        "refused",
    )
    group.add_argument(
        "--json",
        action="store_true",
        help="print the result of each image as an object of JSON, one a line, as in --report; "
        "all else is printed on standard error",
    )
    add_output_options(group)


def run(args: argparse.Namespace) -> int:
    """Cut all images; the exit code is 1 if any of them fails."""
    from fasttile.batch.again import check_can_prune
    from fasttile.batch.run import batch_items, description_notes, run_batch

    if args.prune:
        check_can_prune(args.sources, args.output)
    last = Path(args.sources[-1])
    if len(args.sources) > 1 and last.suffix in _RESULT_SUFFIXES and not last.exists():
        from fasttile.sources.files import scheme_of

        if scheme_of(args.sources[-1]) is None:
            raise OptionError(f"{last}: no such source; to name the result, use -o {last}")
    keywords = {name: getattr(args, name) for name in option_table("cut")}
    every_page = keywords["page"] == "all"
    if every_page:
        keywords["page"] = None
    workers = args.workers
    if workers is not None:
        from fasttile.workers.choice import split_timeout

        workers, timeout = split_timeout(workers)
        if timeout is not None:
            keywords["worker_timeout"] = timeout
    with ExitStack() as stack:
        options = CutOptions.from_keywords(keywords)
        items = batch_items(
            [with_size(source, args) for source in args.sources],
            args.output,
            options,
            every_page=every_page,
            report=args.report,
            update=args.update,
        )
        gc.enable()  # planning leaves no garbage
        args.output_is_product = args.json or args.dry_run
        write_entry = stack.enter_context(open_report(args.report, is_dry=args.dry_run))
        name = None if len(items) > 1 else printable(items[0].target.path.name)
        show = stack.enter_context(show_batch_progress(args, name))

        def on_progress(progress: BatchProgress) -> None:
            raise_if_signalled()
            if show is not None:
                show(progress)

        if args.dry_run:
            from fasttile.batch.dry_run import estimate_batch

            results = estimate_batch(items, workers, on_progress)
            return _run_dry(items, args, results, write_entry)
        results = run_batch(items, args.output, workers, on_progress)
        leftovers = _Leftovers(items, results)
        code = report_results(
            results,
            args,
            count=len(items),
            write_entry=write_entry,
            show_report=partial(_show_report, args),
            left_behind=leftovers.describe,
            count_new=leftovers.count_new,
        )
        if not args.quiet:
            for note in description_notes(items):
                print_line(note, is_error=args.json)
        return _remove_orphans(items, args) or code


def _show_report(args: argparse.Namespace, report: CutReport) -> None:
    """Print the summary of one result, unless objects of JSON or nothing is wanted."""
    if not (args.quiet or args.json):
        print_line(cut_summary(report))
        print_notes(report.notes)


def _run_dry(
    items: Sequence[BatchItem],
    args: argparse.Namespace,
    results: Iterable[BatchResult],
    write_entry: Callable[[BatchResult], object],
) -> int:
    """Print what would be made of all images; the exit code is that of the cut."""
    found: list[CutEstimate] = []

    def show(estimate: Any) -> None:
        found.append(estimate)
        if not (args.quiet or args.json):
            print_line(estimate_summary(estimate))
            print_notes(estimate.notes)

    code = report_results(
        results,
        args,
        count=len(items),
        write_entry=write_entry,
        show_report=show,
        left_behind=str,
        count_new=None,
    )
    if len(found) > 1 and not (args.quiet or args.json):
        print_line(total_summary(found))
    return _remove_orphans(items, args) or code


class _Leftovers:
    """The results of an interrupted run, complete or not.

    Args:
        items: The images, of none of which the cut has begun.
        results: The run.
    """

    def __init__(self, items: Sequence[BatchItem], results: BatchResults) -> None:
        self._items = items
        self._results = results
        self._absent = [
            item.target.path
            for item in items
            if not (item.every_page or item.target.store or os.path.lexists(item.target.path))
        ]

    def count_new(self) -> int:
        """Number of results that were not there before; they are complete."""
        return sum(map(os.path.lexists, self._absent))

    def describe(self) -> str:
        """End the run; name the work folders that it could not remove, "" for none."""
        from fasttile.batch.run import leftover_folders

        self._results.close()
        left = [printable(path) for path in leftover_folders(self._items)]
        if not left:
            return ""
        is_one = len(left) == 1
        which = f"{left[0]} was" if is_one else f"{left[0]} and {len(left) - 1:,} more were"
        return f"{which} left behind; the same command removes {'it' if is_one else 'them'}"


def _remove_orphans(items: Sequence[BatchItem], args: argparse.Namespace) -> int:
    """Remove or name the results whose image is gone; the exit code."""
    from fasttile.batch.again import find_orphans, remove_orphan
    from fasttile.batch.run import collection_of

    orphans, code = find_orphans(items, args.output), 0
    if not args.prune:
        if orphans and not args.quiet:
            names = ", ".join(map(str, orphans[:MAX_LISTED_ORPHANS]))
            more = len(orphans) - MAX_LISTED_ORPHANS
            also = f" and {more:,} more" if more > 0 else ""
            text = f"without an image now: {names}{also}; --prune removes them"
            print_line(text, is_error=args.json)
        return code
    removed = 0
    for path in orphans:
        if args.dry_run:
            text = f"{path}: would be removed, as its image is not there any more"
            print_line(text, is_error=args.json)
            continue
        try:
            remove_orphan(path)
        except TargetError as error:
            code = report_failure(str(error), EXIT_FAILED)
        else:
            text = f"{path}: removed, as its image is not there any more"
            print_line(text, is_error=args.json)
            removed += 1
    collection = collection_of(items) if removed else None
    if collection is not None:
        collection.write()  # without the manifests that are gone
    return code
