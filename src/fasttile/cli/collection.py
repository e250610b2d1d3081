"""`fasttile collection`: images whose thumbnails share tiles."""

from __future__ import annotations

import argparse
import gc
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fasttile.cli.options import add_command, add_read_options
from fasttile.cli.output import exit_code_for_errors
from fasttile.errors import OptionError
from fasttile.options.cut import CutOptions

if TYPE_CHECKING:
    from fasttile.collection.build import CollectionProgress, CollectionReport

EXAMPLES = """\
examples:
  fasttile collection create wall.dzc site/*.dzi          wall.dzc and wall_files/
  fasttile collection create wall.dzc photos/*.jpg        cut first, to wall_images/<stem>.dzi
  fasttile collection create wall.dzc site/*.dzi --viewer openseadragon    also wall.html
  fasttile collection append wall.dzc more/*.jpg --images site
  fasttile collection remove wall.dzc 7 site/cat.dzi      by Id, or by name
"""

_CREATE_EPILOG = (
    EXAMPLES
    + """
What is a .dzi stays where it is, and the collection leads to it by a relative path; anything else
that `fasttile cut` takes is cut first. The collection appears only when it is whole.
"""
)

_SHARED_OPTIONS = (
    "raw",
    "window",
    "page",
    "icc",
    "shrink",
    "max_pixels",
    "allow_truncated",
    "threads",
)
"""The options of `fasttile cut` that are the same here."""


def add(commands: Any) -> None:
    """Add the command to others."""
    summary = "make Deep Zoom collections, of images whose thumbnails share tiles"
    collection = add_command(commands, "collection", summary, EXAMPLES)
    actions = collection.add_subparsers(title="actions", metavar="ACTION", required=True)
    create = add_command(actions, "create", "make a collection of images", _CREATE_EPILOG)
    _add_source_arguments(create)
    _add_shared_tile_options(create)
    _add_cut_options(create)
    create.add_argument(
        "--overwrite",
        action="store_true",
        help="replace a collection that stands there, as a whole and only at the end",
    )
    _add_run_options(create, run_create)

    append = add_command(actions, "append", "add images to a collection", EXAMPLES)
    _add_source_arguments(append)
    _add_remade_tile_options(append)
    _add_cut_options(append)
    _add_run_options(append, run_append)

    remove = add_command(actions, "remove", "take images out of a collection", EXAMPLES)
    remove.add_argument("collection", metavar="OUT.dzc", help="the collection")
    remove.add_argument(
        "items",
        metavar="ITEM",
        nargs="+",
        help="an image's Id, its Source, or the path of its .dzi, which stays",
    )
    _add_remade_tile_options(remove)
    _add_run_options(remove, run_remove)


def _add_source_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("collection", metavar="OUT.dzc", help="the collection")
    parser.add_argument(
        "sources",
        metavar="IMAGE",
        nargs="+",
        help="a .dzi, or an image that is cut first: a file of any kind that fasttile cut takes, "
        "or a http(s) address",
    )


def _add_shared_tile_options(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("the shared tiles")
    group.add_argument(
        "--max-level",
        metavar="N",
        type=int,
        default=7,
        help="thumbnails are at most 2^N pixels a side (default: %(default)s)",
    )
    group.add_argument(
        "--tile-size",
        metavar="N",
        type=int,
        default=256,
        help="side of a shared tile in pixels, a power of two (default: %(default)s)",
    )
    group.add_argument(
        "--format",
        metavar="FORMAT",
        default="jpeg",
        help="jpeg, png or webp, with parameters as for fasttile cut; also of images that are "
        "cut (default: %(default)s)",
    )
    group.add_argument(
        "--quality", metavar="1-100", type=int, help="of JPEG and WebP tiles (default: 80)"
    )
    _add_background_option(group)


def _add_remade_tile_options(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("the shared tiles that are made anew")
    group.add_argument(
        "--format",
        metavar="FORMAT",
        help="the parameters that the collection's format had when it was made, as in "
        "jpeg:progressive (default: the format's own)",
    )
    _add_background_option(group)


def _add_background_option(group: Any) -> None:
    group.add_argument(
        "--background",
        metavar="COLOUR",
        default="white",
        help="what lies between thumbnails and shows through images with alpha, by name or "
        "#rrggbb (default: %(default)s)",
    )


def _add_cut_options(parser: argparse.ArgumentParser) -> None:
    from fasttile.cli.options import add_pixel_options

    group = parser.add_argument_group("images that are cut first")
    group.add_argument(
        "--images",
        metavar="FOLDER",
        help="where to; of two of one name the second is numbered (default: OUT_images, beside "
        "the collection)",
    )
    add_read_options(group)
    add_pixel_options(group, CutOptions())
    group.add_argument(
        "--threads",
        metavar="N",
        type=int,
        help="how many tiles are encoded at a time (default: one a processor)",
    )


def _add_run_options(
    parser: argparse.ArgumentParser, run: Callable[[argparse.Namespace], int]
) -> None:
    parser.set_defaults(run=run)
    group = parser.add_argument_group("the page")
    group.add_argument(
        "--viewer",
        choices=("openseadragon",),
        help="also write a page that shows the collection as a wall, beside it",
    )
    group = parser.add_argument_group("while it runs")
    group.add_argument(
        "--progress",
        action=argparse.BooleanOptionalAction,
        help="show how far it is, on standard error (default: on a terminal)",
    )
    group.add_argument("-q", "--quiet", action="store_true", help="say nothing but errors")
    group.add_argument(
        "-v", "--verbose", action="store_true", help="show where an error comes from"
    )


def run_create(args: argparse.Namespace) -> int:
    """Make a collection, and tell what was made."""
    from fasttile.collection.api import create

    def work(progress: Callable[[CollectionProgress], None] | None) -> CollectionReport:
        return create(
            args.collection,
            args.sources,
            max_level=args.max_level,
            tile_size=args.tile_size,
            format=args.format,
            quality=args.quality,
            background=args.background,
            images=args.images,
            overwrite=args.overwrite,
            progress=progress,
            **_cut_options(args),
        )

    return _run_action(args, work)


def run_append(args: argparse.Namespace) -> int:
    """Add images to a collection."""
    from fasttile.collection.api import append

    def work(progress: Callable[[CollectionProgress], None] | None) -> CollectionReport:
        return append(
            args.collection,
            args.sources,
            format=args.format,
            background=args.background,
            images=args.images,
            progress=progress,
            **_cut_options(args),
        )

    return _run_action(args, work)


def run_remove(args: argparse.Namespace) -> int:
    """Take images out of a collection."""
    from fasttile.collection.api import remove

    def work(progress: Callable[[CollectionProgress], None] | None) -> CollectionReport:
        items = [int(item) if item.isdecimal() else item for item in args.items]
        return remove(
            args.collection,
            items,
            format=args.format,
            background=args.background,
            progress=progress,
        )

    return _run_action(args, work)


def _cut_options(args: argparse.Namespace) -> Any:
    if args.page == "all":
        raise OptionError("a collection takes one page of each file: --page N")
    return {word: getattr(args, word) for word in _SHARED_OPTIONS}


def _run_action(
    args: argparse.Namespace,
    work: Callable[[Callable[[CollectionProgress], None] | None], CollectionReport],
) -> int:
    """Do the work, showing how far it is; the exit code."""
    gc.enable()
    with exit_code_for_errors(args.verbose) as outcome, _wall_page(args):
        wanted = sys.stderr.isatty() if args.progress is None else args.progress
        if wanted and not args.quiet:
            with _collection_bar(args.collection) as show:
                report = work(show)
        else:
            report = work(None)
        if not args.quiet:
            print(_collection_summary(report))
            for note in report.notes:
                print(f"  {note}")
    return outcome.code


@contextmanager
def _wall_page(args: argparse.Namespace) -> Iterator[None]:
    """Write the page, once the collection stands; that it can be written is seen to before."""
    if args.viewer is None:
        yield
        return
    from fasttile.collection.descriptor import read
    from fasttile.serve.content import collection_page
    from fasttile.storage.writing import AtomicFile

    path = Path(args.collection)
    # What is changed has a page already, as a rule.
    page = AtomicFile(path.with_suffix(".html"), overwrite=getattr(args, "overwrite", True))
    try:
        yield
        for data in collection_page(read(path)).values():
            page.append(data)
        page.publish()
    finally:
        page.abort()


@contextmanager
def _collection_bar(name: str) -> Iterator[Callable[[CollectionProgress], None]]:
    """A progress bar in images."""
    from tqdm import tqdm

    with tqdm(desc=name, unit=" images", leave=False, dynamic_ncols=True) as bar:

        def show(progress: CollectionProgress) -> None:
            bar.total = progress.item_count
            bar.update(progress.items - bar.n)

        yield show


def _collection_summary(report: CollectionReport) -> str:
    cut = f" ({report.cut:,} cut)" if report.cut else ""
    kept = f", {report.kept:,} kept" if report.kept else ""
    return (
        f"{report.path}: {report.items:,} images{cut}, {report.tiles:,} shared tiles made{kept}, "
        f"{report.seconds:.2f} s"
    )
