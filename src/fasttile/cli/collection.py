"""`fasttile collection`: create and change Deep Zoom collections."""

from __future__ import annotations

import argparse
import gc
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fasttile.cli.options import add_command, add_option, add_output_options
from fasttile.cli.output import print_line, print_notes
from fasttile.cli.progress import show_progress
from fasttile.errors import OptionError
from fasttile.options.cut import option_table

if TYPE_CHECKING:
    from fasttile.collection.build import CollectionReport

EXAMPLES = """\
examples:
  fasttile collection create wall.dzc site/*.dzi          wall.dzc and wall_files/
  fasttile collection create wall.dzc photos/*.jpg        cut first, to wall_images/<stem>.dzi
  fasttile collection create wall.dzc site/*.dzi --viewer openseadragon    also wall.html
  fasttile collection append wall.dzc more/*.jpg --images site
  fasttile collection remove wall.dzc 7 site/cat.dzi      by Id, or by name
"""

_CREATE_NOTES = """
A .dzi stays in its place; the collection refers to it by a relative path. Any other image that
`fasttile cut` takes is cut first. The collection appears only when it is complete.
"""

_API_ONLY_OPTIONS = ("overlap", "region")
"""Options of images that are cut first which have no flag: they seldom suit many images."""


def add(parser: Any) -> None:
    """Add the command's actions to its parser."""
    parser.epilog = EXAMPLES
    actions = parser.add_subparsers(title="actions", metavar="ACTION", required=True)
    create = add_command(actions, "create", "create a collection", EXAMPLES + _CREATE_NOTES)
    _add_source_arguments(create)
    group = create.add_argument_group("the shared tiles")
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
    add_option(
        group,
        "format",
        help="jpeg, png, webp or avif, as for fasttile cut; also of images that are cut",
    )
    add_option(group, "quality")
    _add_background_option(group)
    _add_cut_options(create)
    add_option(create, "overwrite")
    _add_run_options(create, run_create)

    append = add_command(actions, "append", "append images to a collection", EXAMPLES)
    _add_source_arguments(append)
    _add_remade_tile_options(append)
    _add_cut_options(append)
    _add_run_options(append, run_append)

    remove = add_command(actions, "remove", "remove images from a collection", EXAMPLES)
    remove.add_argument("collection", metavar="OUT.dzc", help="the collection")
    remove.add_argument(
        "items",
        metavar="ITEM",
        nargs="+",
        help="the Id of an image, its Source, or the path of its .dzi, which is not deleted",
    )
    _add_remade_tile_options(remove)
    _add_run_options(remove, run_remove)


def _add_source_arguments(parser: Any) -> None:
    parser.add_argument("collection", metavar="OUT.dzc", help="the collection")
    parser.add_argument(
        "sources",
        metavar="IMAGE",
        nargs="+",
        help="a .dzi, or an image that is cut first: a file of any type that fasttile cut takes, "
        "or an http(s) address",
    )


def _add_remade_tile_options(parser: Any) -> None:
    group = parser.add_argument_group("the shared tiles that are encoded again")
    add_option(
        group,
        "format",
        help="the collection's format with the parameters of its creation, as in jpeg:progressive",
        default="without parameters",
    )
    _add_background_option(group)


def _add_background_option(group: Any) -> None:
    add_option(
        group,
        "background",
        help="colour between thumbnails and behind transparent pixels: a name or #rrggbb",
    )


def _add_cut_options(parser: Any) -> None:
    group = parser.add_argument_group("images that are cut first")
    group.add_argument(
        "--images",
        metavar="FOLDER",
        help="folder of their results; the second image of a name gets a number (default: "
        "OUT_images, beside the collection)",
    )
    for name in option_table("collection"):
        if name not in _API_ONLY_OPTIONS:
            add_option(group, name)


def _add_run_options(parser: Any, run: Callable[[argparse.Namespace], int]) -> None:
    parser.set_defaults(run=run, library="fasttile.collection.api")
    group = parser.add_argument_group("the page")
    group.add_argument(
        "--viewer",
        choices=("openseadragon", "openseadragon:cdn"),
        help="also write a page beside the collection that shows it as a wall",
    )
    add_output_options(parser.add_argument_group("while it runs"))


def run_create(args: argparse.Namespace) -> int:
    """Create a collection; returns the exit code."""
    from fasttile.collection.api import create

    def work(progress: Any) -> CollectionReport:
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
            **_cut_keywords(args),
        )

    return _run_action(args, work)


def run_append(args: argparse.Namespace) -> int:
    """Append images to a collection; returns the exit code."""
    from fasttile.collection.api import append

    def work(progress: Any) -> CollectionReport:
        return append(
            args.collection,
            args.sources,
            format=args.format,
            background=args.background,
            images=args.images,
            progress=progress,
            **_cut_keywords(args),
        )

    return _run_action(args, work)


def run_remove(args: argparse.Namespace) -> int:
    """Remove images from a collection; returns the exit code."""
    from fasttile.collection.api import remove

    def work(progress: Any) -> CollectionReport:
        items = [int(item) if item.isdecimal() else item for item in args.items]
        return remove(
            args.collection,
            items,
            format=args.format,
            background=args.background,
            progress=progress,
        )

    return _run_action(args, work)


def _cut_keywords(args: argparse.Namespace) -> dict[str, Any]:
    """The options of images that are cut first."""
    if args.page == "all":
        raise OptionError("--page all: a collection takes one page of each file; give its number")
    names = option_table("collection").keys() - set(_API_ONLY_OPTIONS)
    return {name: getattr(args, name) for name in names}


def _run_action(args: argparse.Namespace, work: Callable[[Any], CollectionReport]) -> int:
    """Call work with a progress callback, print its report; returns the exit code."""
    gc.enable()
    with (
        _checked_sources(args),
        _wall_page(args),
        show_progress(
            args, args.collection, "images", lambda now: (now.items, now.item_count)
        ) as show,
    ):
        report = work(show)
        if not args.quiet:
            print_line(collection_summary(report))
            print_notes((*report.notes, *_page_notes(args)))
    return 0


def _page_notes(args: argparse.Namespace) -> tuple[str, ...]:
    if args.viewer is None:
        return ()
    from fasttile.viewers import page_notes

    return page_notes(args.viewer)


@contextmanager
def _checked_sources(args: argparse.Namespace) -> Iterator[None]:
    """Refuse a collection whose files or page would replace an image, before the block."""
    from fasttile.collection.descriptor import tile_folder_of
    from fasttile.jobs.footprint import Footprint, check_own_page, check_sources

    path = Path(args.collection)
    files = [path.name]
    if args.viewer is not None:
        files.append(path.with_suffix(".html").name)
        check_own_page(path.with_suffix(".html"))
    footprint = Footprint("", str(path.parent), tuple(files), tile_folder_of(path).name)
    check_sources(getattr(args, "sources", ()), footprint)
    yield


@contextmanager
def _wall_page(args: argparse.Namespace) -> Iterator[None]:
    """Write the page of --viewer after the block; check before that it can be written."""
    if args.viewer is None:
        yield
        return
    from fasttile.collection.descriptor import read
    from fasttile.serve.content import collection_page
    from fasttile.storage.writing import AtomicFile

    path = Path(args.collection)
    # append and remove have no --overwrite: the page of the collection usually exists.
    page = AtomicFile(path.with_suffix(".html"), overwrite=getattr(args, "overwrite", True))
    try:
        yield
        from_cdn = args.viewer.endswith(":cdn")
        made = collection_page(read(path), origin="cdn" if from_cdn else None)
        for data in made.values():
            page.append(data)
        page.publish()
    finally:
        page.abort()


def collection_summary(report: CollectionReport) -> str:
    """Format the report of a collection as one line."""
    cut = f" ({report.cut:,} cut)" if report.cut else ""
    kept = f", {report.kept:,} kept" if report.kept else ""
    return (
        f"{report.path}: {report.items:,} images{cut}, {report.tiles:,} shared tiles made{kept}, "
        f"{report.seconds:.2f} s"
    )
