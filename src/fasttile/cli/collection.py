"""`fasttile collection`: pictures whose thumbnails share tiles."""

from __future__ import annotations

import argparse
import gc
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import OptionError
from ..options import CutOptions
from .reading import add_command, add_reading
from .telling import telling

if TYPE_CHECKING:
    from ..collection import CollectionReport, Progress

EXAMPLES = """\
examples:
  fasttile collection create wall.dzc site/*.dzi          wall.dzc and wall_files/
  fasttile collection create wall.dzc photos/*.jpg        cut first, to wall_images/<stem>.dzi
  fasttile collection create wall.dzc site/*.dzi --viewer openseadragon    also wall.html
  fasttile collection append wall.dzc more/*.jpg --images site
  fasttile collection remove wall.dzc 7 site/cat.dzi      by Id, or by name
"""

_CREATE = (
    EXAMPLES
    + """
What is a .dzi stays where it is, and the collection leads to it by a relative path; anything else
that `fasttile cut` takes is cut first. The collection appears only when it is whole.
"""
)

_WORDS = ("raw", "window", "page", "icc", "shrink", "max_pixels", "allow_truncated", "threads")
"""The options of `fasttile cut` that are the same here."""


def add(commands: Any) -> None:
    """Add the command to others."""
    summary = "make Deep Zoom collections, of pictures whose thumbnails share tiles"
    collection = add_command(commands, "collection", summary, EXAMPLES)
    actions = collection.add_subparsers(title="actions", metavar="ACTION", required=True)
    create = add_command(actions, "create", "make a collection of pictures", _CREATE)
    _add_pictures(create)
    _add_tiles(create)
    _add_cut(create)
    create.add_argument(
        "--overwrite",
        action="store_true",
        help="replace a collection that stands there, as a whole and only at the end",
    )
    _add_running(create, run_create)

    append = add_command(actions, "append", "add pictures to a collection", EXAMPLES)
    _add_pictures(append)
    _add_remade(append)
    _add_cut(append)
    _add_running(append, run_append)

    remove = add_command(actions, "remove", "take pictures out of a collection", EXAMPLES)
    remove.add_argument("collection", metavar="OUT.dzc", help="the collection")
    remove.add_argument(
        "items",
        metavar="ITEM",
        nargs="+",
        help="a picture's Id, its Source, or the path of its .dzi, which stays",
    )
    _add_remade(remove)
    _add_running(remove, run_remove)


def _add_pictures(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("collection", metavar="OUT.dzc", help="the collection")
    parser.add_argument(
        "pictures",
        metavar="PICTURE",
        nargs="+",
        help="a .dzi, or a picture that is cut first: a file of any kind that fasttile cut takes, "
        "or a http(s) address",
    )


def _add_tiles(parser: argparse.ArgumentParser) -> None:
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
        help="jpeg, png or webp, with parameters as for fasttile cut; also of pictures that are "
        "cut (default: %(default)s)",
    )
    group.add_argument(
        "--quality", metavar="1-100", type=int, help="of JPEG and WebP tiles (default: 80)"
    )
    _add_background(group)


def _add_remade(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("the shared tiles that are made anew")
    group.add_argument(
        "--format",
        metavar="FORMAT",
        help="the parameters that the collection's format had when it was made, as in "
        "jpeg:progressive (default: the format's own)",
    )
    _add_background(group)


def _add_background(group: Any) -> None:
    group.add_argument(
        "--background",
        metavar="COLOUR",
        default="white",
        help="what lies between thumbnails and shows through pictures with alpha, by name or "
        "#rrggbb (default: %(default)s)",
    )


def _add_cut(parser: argparse.ArgumentParser) -> None:
    from .cut import _add_pixels

    group = parser.add_argument_group("pictures that are cut first")
    group.add_argument(
        "--images",
        metavar="FOLDER",
        help="where to; of two of one name the second is numbered (default: OUT_images, beside "
        "the collection)",
    )
    add_reading(group)
    _add_pixels(group, CutOptions())
    group.add_argument(
        "--threads",
        metavar="N",
        type=int,
        help="how many tiles are encoded at a time (default: one a processor)",
    )


def _add_running(parser: argparse.ArgumentParser, run: Callable[[argparse.Namespace], int]) -> None:
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


def run_create(words: argparse.Namespace) -> int:
    """Make a collection, and tell what was made."""
    from ..collection import create

    def work(progress: Callable[[Progress], None] | None) -> CollectionReport:
        return create(
            words.collection,
            words.pictures,
            max_level=words.max_level,
            tile_size=words.tile_size,
            format=words.format,
            quality=words.quality,
            background=words.background,
            images=words.images,
            overwrite=words.overwrite,
            progress=progress,
            **_cut_words(words),
        )

    return _run(words, work)


def run_append(words: argparse.Namespace) -> int:
    """Add pictures to a collection."""
    from ..collection import append

    def work(progress: Callable[[Progress], None] | None) -> CollectionReport:
        return append(
            words.collection,
            words.pictures,
            format=words.format,
            background=words.background,
            images=words.images,
            progress=progress,
            **_cut_words(words),
        )

    return _run(words, work)


def run_remove(words: argparse.Namespace) -> int:
    """Take pictures out of a collection."""
    from ..collection import remove

    def work(progress: Callable[[Progress], None] | None) -> CollectionReport:
        items = [int(item) if item.isdecimal() else item for item in words.items]
        return remove(
            words.collection,
            items,
            format=words.format,
            background=words.background,
            progress=progress,
        )

    return _run(words, work)


def _cut_words(words: argparse.Namespace) -> Any:
    if words.page == "all":
        raise OptionError("a collection takes one page of each file: --page N")
    return {word: getattr(words, word) for word in _WORDS}


def _run(
    words: argparse.Namespace,
    work: Callable[[Callable[[Progress], None] | None], CollectionReport],
) -> int:
    """Do the work, showing how far it is; the exit code."""
    gc.enable()
    with telling(words.verbose) as outcome, _page(words):
        wanted = sys.stderr.isatty() if words.progress is None else words.progress
        if wanted and not words.quiet:
            with _bar(words.collection) as show:
                report = work(show)
        else:
            report = work(None)
        if not words.quiet:
            print(_summary(report))
            for note in report.notes:
                print(f"  {note}")
    return outcome.code


@contextmanager
def _page(words: argparse.Namespace) -> Iterator[None]:
    """Write the page, once the collection stands; that it can be written is seen to before."""
    if words.viewer is None:
        yield
        return
    from ..collection import read
    from ..sinks.onefile import OneFile
    from ..viewers.wall import collection_page

    path = Path(words.collection)
    # What is changed has a page already, as a rule.
    page = OneFile(path.with_suffix(".html"), overwrite=getattr(words, "overwrite", True))
    try:
        yield
        for data in collection_page(read(path)).values():
            page.append(data)
        page.publish()
    finally:
        page.abort()


@contextmanager
def _bar(name: str) -> Iterator[Callable[[Progress], None]]:
    """A progress bar in pictures."""
    from tqdm import tqdm

    with tqdm(desc=name, unit=" pictures", leave=False, dynamic_ncols=True) as bar:

        def show(progress: Progress) -> None:
            bar.total = progress.item_count
            bar.update(progress.items - bar.n)

        yield show


def _summary(report: CollectionReport) -> str:
    cut = f" ({report.cut:,} cut)" if report.cut else ""
    kept = f", {report.kept:,} kept" if report.kept else ""
    return (
        f"{report.path}: {report.items:,} pictures{cut}, {report.tiles:,} shared tiles made{kept}, "
        f"{report.seconds:.2f} s"
    )
