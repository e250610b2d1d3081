"""The command line: arguments to calls, errors to one line and an exit code."""

from __future__ import annotations

import argparse
import gc
import os
import signal
import sys
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import fields
from typing import TYPE_CHECKING, Any, NoReturn

from . import __version__
from .errors import FasttileError, OptionError
from .options import CutOptions

if TYPE_CHECKING:
    from pathlib import Path

    from .job import CutReport, Progress

EXIT_FAILED, EXIT_USAGE, EXIT_INTERRUPTED = 1, 2, 130

DESCRIPTION = "Cut pictures of any size into Deep Zoom tile pyramids, fast and in little memory."

EXAMPLES = """\
examples:
  fasttile cut map.tif                       map.dzi and map_files/ in the current folder
  fasttile cut map.tif -o site/map.dzi       the same, by another name
  fasttile cut scans/*.tif -o site           site/<name>.dzi for each
  fasttile cut photo.jpg                     any picture, in the colours that it shows
  fasttile cut map.tif --format png          without loss
  fasttile info map.tif                      what it is, and what it would become
"""

CUT_EXAMPLES = """\
examples:
  fasttile cut map.tif -o site/map.dzi --quality 85
  fasttile cut map.tif --format jpeg:progressive,subsampling=4:4:4
  fasttile cut slide.tif --region 1000,2000,4096,4096 -o detail.dzi
  fasttile cut height.tif --window 800,2400          the values 800 to 2400 as black to white
  fasttile cut labels.png --shrink mode --format png levels without blended colours
  fasttile cut scans.tif --page all -o site          site/scans-1.dzi, site/scans-2.dzi …
  fasttile cut broken.jpg --allow-truncated          what is there of it, on white
  fasttile cut https://example.org/map.tif           fetched first, then cut to map.dzi
  scan | fasttile cut - -o scan.dzi                  from standard input
  fasttile cut height.tif --bits 16 --format png     16-bit grey tiles
  fasttile cut dump.bin --raw 40000x30000x3:u8:512   a headerless file, pixels after 512 bytes

A result appears only when it is whole: whatever goes wrong before, what stood there stays.
"""

INFO_EXAMPLES = """\
examples:
  fasttile info map.tif
  fasttile info site/map.dzi
"""


class Signalled(BaseException):
    """A signal asks the process to end; it is raised where the main thread stands."""

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.number = number


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; gives the exit code: 0, 1 for a failure, 2 for wrong usage, 130 for Ctrl-C.

    Args:
        arguments: What follows the command's name. Default: the process' own arguments.
    """
    # Nothing here computes with BLAS, whose threads would cost more than our imports; and these
    # leave no garbage to be collected meanwhile.
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    gc.disable()
    try:
        with warnings.catch_warnings():
            if not sys.warnoptions:  # python -W shows them
                # What libraries warn of is for programmers; users get one line if it matters.
                warnings.simplefilter("ignore")
            return _run(arguments)
    finally:
        gc.enable()


def _run(arguments: Sequence[str] | None) -> int:
    try:
        words = _parser().parse_args(arguments)
    except SystemExit as exit_:  # argparse has said why
        return int(exit_.code or 0)
    try:
        with _ending_by_signal():
            code: int = words.run(words)
            sys.stdout.flush()
            return code
    except KeyboardInterrupt:
        return _fail("interrupted; nothing was left behind", EXIT_INTERRUPTED)
    except Signalled as signalled:
        return _fail(
            f"ended by signal {signalled.number}; nothing was left behind", 128 + signalled.number
        )
    except BrokenPipeError:
        # Whoever read our output has gone; what is still buffered must not fail once more.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return EXIT_FAILED


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="fasttile",
        description=DESCRIPTION,
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"fasttile {__version__}")
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)
    _add_cut(commands)
    _add_info(commands)
    return parser


def _command(commands: Any, name: str, summary: str, epilog: str) -> argparse.ArgumentParser:
    parser: argparse.ArgumentParser = commands.add_parser(
        name,
        help=summary,
        description=summary[0].upper() + summary[1:] + ".",
        epilog=epilog,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    return parser


def _add_cut(commands: Any) -> None:
    cut = _command(commands, "cut", "cut pictures into tile pyramids", CUT_EXAMPLES)
    cut.set_defaults(run=_cut)
    cut.add_argument(
        "sources",
        metavar="SOURCE",
        nargs="+",
        help="a picture: a file of any kind that Pillow knows, TIFF, npy, raw …; "
        "a http(s) address; or - for standard input, which needs -o NAME.dzi",
    )
    default = CutOptions()

    source = cut.add_argument_group("what is read")
    _add_reading(source)
    source.add_argument(
        "--region",
        metavar="X,Y,W,H",
        type=_region,
        help="cut this part of the picture only, in pixels from the top left corner",
    )
    _add_pixels(cut.add_argument_group("its pixels"), default)
    _add_tiles(cut.add_argument_group("the tiles"), default)
    _add_result(cut.add_argument_group("the result"))
    _add_running(cut.add_argument_group("while it runs"))


def _add_pixels(group: Any, default: CutOptions) -> None:
    group.add_argument(
        "--window",
        metavar="LOW,HIGH|full|auto",
        type=_window,
        default=default.window,
        help="the values that become black and white; full is the type's whole range, auto looks "
        "at pictures of more than 8 bits first (default: %(default)s)",
    )
    group.add_argument(
        "--icc",
        choices=("srgb", "keep", "drop"),
        default=default.icc,
        help="what becomes of a colour profile: srgb converts the colours, keep puts it into each "
        "tile, drop forgets it (default: %(default)s)",
    )
    group.add_argument(
        "--shrink",
        choices=("mean", "nearest", "mode"),
        default=default.shrink,
        help="how four pixels become one: their mean, the first, or the most frequent; the latter "
        "two for masks and labels (default: %(default)s)",
    )


def _add_tiles(tiles: Any, default: CutOptions) -> None:
    tiles.add_argument(
        "--tile-size",
        metavar="N",
        type=int,
        default=default.tile_size,
        help="side of a tile in pixels, without overlap (default: %(default)s)",
    )
    tiles.add_argument(
        "--overlap",
        metavar="N",
        type=int,
        default=default.overlap,
        help="pixels added on each side that has a neighbour (default: %(default)s)",
    )
    tiles.add_argument(
        "--format",
        metavar="FORMAT",
        default=default.format,
        help="jpeg, png or webp; after a colon what concerns that format only: "
        "jpeg:progressive,optimize,subsampling=4:4:4, png:compress_level=9,compress_type=0, "
        "webp:lossless,method=6 (default: %(default)s)",
    )
    tiles.add_argument(
        "--quality", metavar="1-100", type=int, help="of JPEG and WebP tiles (default: 80)"
    )
    tiles.add_argument(
        "--bits",
        type=int,
        choices=(8, 16),
        default=default.bits,
        help="16 keeps 16-bit grey pictures as they are, as PNG (default: %(default)s)",
    )
    tiles.add_argument(
        "--background",
        metavar="COLOUR",
        default=default.background,
        help="what shows through in formats without alpha, by name or #rrggbb "
        "(default: %(default)s)",
    )


def _add_result(result: Any) -> None:
    result.add_argument(
        "-o",
        "--output",
        metavar="DEST",
        help="a .dzi file, or a folder for <stem>.dzi of each SOURCE (default: this folder)",
    )
    result.add_argument(
        "--overwrite",
        action="store_true",
        help="replace a result that stands there, as a whole and only at the end",
    )


def _add_running(running: Any) -> None:
    running.add_argument(
        "--threads",
        metavar="N",
        type=int,
        help="how many tiles are encoded at a time (default: one a processor)",
    )
    running.add_argument(
        "--progress",
        action=argparse.BooleanOptionalAction,
        help="show how far it is, on standard error (default: on a terminal)",
    )
    running.add_argument("-q", "--quiet", action="store_true", help="say nothing but errors")
    running.add_argument(
        "-v", "--verbose", action="store_true", help="show where an error comes from"
    )


def _add_reading(group: Any) -> None:
    group.add_argument(
        "--raw",
        metavar="WxHxBANDS[:TYPE[:OFFSET]]",
        help="the file has no header: its size, bands, type (u8, or u16 with < or > for the "
        "byte order) and where the pixels begin",
    )
    group.add_argument(
        "--page",
        metavar="N|all",
        type=_page,
        help="which picture of a file with several, counted from 1; all cuts each to "
        "<stem>-<page> (default: the first, or the largest of a pyramid)",
    )
    group.add_argument(
        "--max-pixels",
        metavar="N",
        type=int,
        help="refuse pictures of more pixels (default: what a file of its size can hold)",
    )
    group.add_argument(
        "--allow-truncated",
        action="store_true",
        help="cut what is there of a damaged picture, on the background",
    )


def _add_info(commands: Any) -> None:
    info = _command(commands, "info", "tell what a picture or a result is", INFO_EXAMPLES)
    info.set_defaults(run=_info)
    info.add_argument("path", metavar="PATH", help="a picture, or a .dzi")
    _add_reading(info)
    info.add_argument("-v", "--verbose", action="store_true", help="show where an error comes from")


def _region(text: str) -> tuple[int, ...]:
    try:
        x, y, width, height = (int(word) for word in text.split(","))
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is not X,Y,W,H in whole pixels") from None
    return x, y, width, height


def _page(text: str) -> int | str:
    if text == "all":
        return text
    try:
        return int(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is neither a number nor all") from None


def _window(text: str) -> str | tuple[float, float]:
    if text in ("full", "auto"):
        return text
    try:
        low, high = (float(word) for word in text.split(","))
    except ValueError:
        raise argparse.ArgumentTypeError(
            f"{text!r} is neither LOW,HIGH nor full nor auto"
        ) from None
    return low, high


def _cut(words: argparse.Namespace) -> int:
    from .targets import target_path

    wishes = {field.name: getattr(words, field.name) for field in fields(CutOptions)}
    every_page = wishes["page"] == "all"
    code = 0
    with _telling(words.verbose) as outcome:
        CutOptions.of({**wishes, "page": None if every_page else wishes["page"]})
        targets = [target_path(words.output, source) for source in words.sources]
        _refuse_clashes(words.sources, targets)
    if outcome.code:
        return outcome.code
    for source, target in zip(words.sources, targets, strict=True):
        with _telling(words.verbose) as outcome:
            if every_page:
                code = code or _cut_pages(source, target, words, wishes)
            else:
                _cut_one(source, target, words, wishes)
        code = code or outcome.code
    return code


def _cut_pages(source: str, target: Path, words: argparse.Namespace, wishes: dict[str, Any]) -> int:
    """Each page of a file, to a result of its own; one bad page does not stop the others."""
    from .info import page_count
    from .sources import holding

    code = 0
    with holding(source):
        for page in range(1, page_count(source, words.max_pixels) + 1):
            with _telling(words.verbose) as outcome:
                own = target.with_name(f"{target.stem}-{page}{target.suffix}")
                _cut_one(source, own, words, {**wishes, "page": page})
            code = code or outcome.code
    return code


def _refuse_clashes(sources: Sequence[str], targets: Sequence[object]) -> None:
    """Two pictures of one name would go to one result: say so before anything is cut."""
    seen: dict[object, str] = {}
    for source, target in zip(sources, targets, strict=True):
        if target in seen:
            raise OptionError(f"{seen[target]} and {source} would both become {target}")
        seen[target] = source


def _cut_one(source: str, target: Path, words: argparse.Namespace, wishes: dict[str, Any]) -> None:
    """Cut a picture, showing how far it is, and tell what was made."""
    from .job import cut

    gc.enable()
    wanted = sys.stderr.isatty() if words.progress is None else words.progress
    if wanted and not words.quiet:
        with _bar(target.name) as show:
            report = cut(source, target, progress=show, **wishes)
    else:
        report = cut(source, target, **wishes)
    if not words.quiet:
        print(_summary(report))
        for note in report.notes:
            print(f"  {note}")


@contextmanager
def _bar(name: str) -> Iterator[Callable[[Progress], None]]:
    """A progress bar in tiles, with rate and remaining time."""
    from tqdm import tqdm

    with tqdm(desc=name, unit=" tiles", unit_scale=True, leave=False, dynamic_ncols=True) as bar:

        def show(progress: Progress) -> None:
            bar.total = progress.tile_count
            bar.update(progress.tiles - bar.n)

        yield show


def _summary(report: CutReport) -> str:
    return (
        f"{report.path}: {report.width}×{report.height} pixels, {report.levels} levels, "
        f"{report.tiles} tiles, {_size(report.bytes)}, {report.seconds:.2f} s, "
        f"{report.megapixels_per_second:.0f} MP/s"
    )


def _size(count: int) -> str:
    """A number of bytes for people."""
    size = float(count)
    for unit in ("bytes", "kB", "MB", "GB"):
        if size < 1000:
            return f"{size:.0f} {unit}" if unit == "bytes" else f"{size:.1f} {unit}"
        size /= 1000
    return f"{size:.1f} TB"


def _info(words: argparse.Namespace) -> int:
    from .info import describe
    from .sources import Reading

    with _telling(words.verbose) as outcome:
        reading = Reading(words.page, words.max_pixels, words.allow_truncated)
        for name, value in describe(words.path, raw=words.raw, reading=reading):
            print(f"{name + ':':<12} {value}")
    return outcome.code


class _Outcome:
    """The exit code of what went on in a `_telling` block."""

    code = 0


@contextmanager
def _telling(verbose: bool) -> Iterator[_Outcome]:
    """Turn whatever goes wrong inside into one line on standard error and an exit code."""
    outcome = _Outcome()
    try:
        yield outcome
    except OptionError as error:
        outcome.code = _fail(str(error), EXIT_USAGE, verbose)
    except FasttileError as error:
        outcome.code = _fail(str(error), EXIT_FAILED, verbose)
    except BrokenPipeError:
        raise
    except MemoryError:
        outcome.code = _fail("there is not enough memory", EXIT_FAILED, verbose)
    except Exception as error:
        text = f"unexpected {type(error).__name__}: {error} (--verbose shows where)"
        outcome.code = _fail(text, EXIT_FAILED, verbose)


def _fail(text: str, code: int, verbose: bool = False) -> int:
    if verbose:
        import traceback

        traceback.print_exc()
    line = " ".join(text.split())  # a file's name may hold anything, a line break too
    print(f"fasttile: {line}", file=sys.stderr)
    return code


@contextmanager
def _ending_by_signal() -> Iterator[None]:
    """Let SIGTERM and SIGHUP end the work as tidily as Ctrl-C does."""

    def end(number: int, frame: object) -> NoReturn:
        raise Signalled(number)

    names = ("SIGTERM", "SIGHUP")
    numbers = [getattr(signal, name) for name in names if hasattr(signal, name)]
    try:
        before = {number: signal.signal(number, end) for number in numbers}
    except ValueError:  # not the main thread: signals are somebody else's
        yield
        return
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
