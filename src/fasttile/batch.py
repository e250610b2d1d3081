"""Many pictures: each to a result of its own, side by side, and none stops the others."""

from __future__ import annotations

import os
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .cutting import Cutting, Progress
from .errors import ExistsError, FasttileError, OptionError, TargetError
from .job import CutReport, Sharing, cut_plan
from .options import CutOptions, OptionWords, processors
from .pictures import found, is_many
from .plan import Plan
from .sources.ways import STANDARD_INPUT
from .targets import NAME, Target, has_ending, target_of

if TYPE_CHECKING:
    from typing import Unpack

    from .bucketledger import BucketLedger
    from .engines import Engine
    from .ledger import Ledger as FolderLedger

    Ledger = FolderLedger | BucketLedger

GIANT_PIXELS = 2**28
"""A picture of so many pixels is cut alone: its tiles share out better than it."""

SHARED_PIXELS = 2**32
"""A picture of so many pixels is cut in shards: their strips, which are short, stay in the caches.
On two processors shards and threads take the same time at 1.6 gigapixels, shards 0.91 at ten."""

MANY_PROCESSORS = 24
"""From so many on each giant is cut in shards: the walk of one process feeds about 16 encoders."""

THREADS_EACH = 8
"""So many has each process that cuts shards where nobody says how many processes there are."""

BYTES_PER_PROCESS = 2**22
"""Fewer bytes of pictures are not worth another process, which takes a fifth of a second."""


@dataclass(frozen=True)
class Picture:
    """One of many: names and numbers, all that a worker is sent.

    Attributes:
        source: Its path or address.
        target: Where its result goes.
        options: How to cut it.
        every_page: Whether each page becomes a result of its own.
        fresh: Whether nothing stood there when it was handed out: what stands there later was made
            by a worker that was lost before it could say so.
        alone: Whether it may take as long as it likes; otherwise giants are handed back.
    """

    source: str
    target: Target
    options: CutOptions
    every_page: bool = False
    fresh: bool = False
    alone: bool = False


@dataclass(frozen=True)
class Outcome:
    """What has become of a picture, or of a page of one.

    Attributes:
        source: Its path or address.
        target: What its result is, or would have been.
        report: What was made, or None.
        error: Why nothing was made, in one line; "" if it was.
        misused: Whether an option is wrong, not the picture.
        trace: Where the error came from, for programmers.
        skipped: Whether an interrupted run before had made it.
    """

    source: str
    target: Path | str
    report: CutReport | None = None
    error: str = ""
    misused: bool = False
    trace: str = ""
    skipped: bool = False


@dataclass(frozen=True)
class BatchProgress:
    """How far a batch has come.

    Attributes:
        done, count: How many pictures are cut or have failed, and how many there are.
        source: The picture that the rest is about: the one under way for the longest time.
        progress: How far that one is, if that is known.
    """

    done: int
    count: int
    source: str = ""
    progress: Progress | None = None


BatchCallback = Callable[[BatchProgress], object]
"""Called now and then from the calling thread."""


def cut_all(
    sources: Sequence[str | os.PathLike[str]],
    dest: str | os.PathLike[str] | None = None,
    *,
    workers: Any = None,
    progress: BatchCallback | None = None,
    **options: Unpack[OptionWords],
) -> Iterator[Outcome]:
    """Cut many pictures, each to a result of its own; one bad picture never stops the others.

    Small pictures are cut side by side, in processes of their own; giants (from 268
    megapixels on) one after the other, each by all processors: in shards, if the file can be
    read in place and there are workers, 24 processors or four gigapixels, else by threads.

    Args:
        sources: Files, addresses, folders (all pictures below them, their places kept) and
            "@LIST" (a file that names a source in each line).
        dest: As for `cut`: a folder, or a name with "{name}" in it. Missing folders are made.
        workers: Where the work is done: a number of processes, "dask://HOST:PORT", "dask://local",
            or anything with the interface of concurrent.futures.Executor, which stays open.
            Default: as many processes as there are processors, or fewer if the work is small.
        progress: Called now and then, from the calling thread.
        **options: The fields of `CutOptions`. With resume, what an interrupted run of the same
            batch has made is not made again.

    Yields:
        What has become of each picture, in the order in which they end.

    Raises:
        OptionError: An option cannot be used, or two pictures would become the same result.
            Nothing has been cut then.
        SourceError: A list or a folder cannot be read.

    Example:
        >>> for outcome in fasttile.cut_all(["scans"], "site"):  # doctest: +SKIP
        ...     print(outcome.source, outcome.error or "fine")
    """
    wishes = CutOptions.of(options)
    pictures = pictures_of([os.fspath(source) for source in sources], dest, wishes)
    yield from run_all(pictures, dest, workers, progress)


def pictures_of(
    sources: Sequence[str],
    dest: str | os.PathLike[str] | None,
    options: CutOptions,
    *,
    every_page: bool = False,
) -> list[Picture]:
    """The pictures that are meant, and where their results go; see `cut_all`.

    Raises:
        OptionError, SourceError: As `cut_all`.
    """
    many = len(sources) > 1 or any(map(is_many, sources))
    text = "" if dest is None else os.fspath(dest)
    if text and many and NAME not in text and not has_ending(text):
        text = f"{text}/"
    pictures = []
    for one in found(sources):
        target = target_of(text or None, one.source, options.layout, one.place)
        Plan.of(options, target, one.source)
        pictures.append(Picture(one.source, target, options, every_page=every_page))
    _refuse_clashes(pictures)
    return pictures


def _refuse_clashes(pictures: Sequence[Picture]) -> None:
    """Two pictures of one name would go to one result: say so before anything is cut."""
    seen: dict[Path | str, str] = {}
    for picture in pictures:
        path = picture.target.result
        if path in seen:
            raise OptionError(
                f"{seen[path]} and {picture.source} would both become {path}: another name, or a "
                f"{NAME} in it, would do"
            )
        seen[path] = picture.source


def run_all(
    pictures: Sequence[Picture],
    dest: str | os.PathLike[str] | None,
    workers: Any,
    progress: BatchCallback | None = None,
) -> Iterator[Outcome]:
    """Cut pictures whose names are settled; see `cut_all`."""
    with ExitStack() as stack:
        ledger = _ledger(dest, pictures)
        if ledger is not None:
            stack.enter_context(ledger)
        pending = pictures if ledger is None else ledger.begin(pictures)
        ours = {picture.source for picture in pending}
        for picture in pictures:
            if picture.source not in ours:
                yield Outcome(picture.source, picture.target.result, skipped=True)
        batch = _Batch(len(pictures), len(pictures) - len(pending), ledger, progress)
        engine = _engine(workers, pending)
        if engine is not None:
            stack.enter_context(engine)
        yield from batch.run(pending, engine, _sharing(workers, engine, pending))
        if ledger is not None and not batch.failed:
            ledger.remove()


def _ledger(dest: str | os.PathLike[str] | None, pictures: Sequence[Picture]) -> Ledger | None:
    """The list of what is done, where there is a batch to be carried on."""
    if len(pictures) < 2 or not pictures[0].options.resume:
        return None
    from .ledger import ledger_of

    return ledger_of(dest, pictures[0].options)


def _engine(workers: Any, pictures: Sequence[Picture]) -> Engine | None:
    """What the work is done by; None: the calling thread."""
    if workers is None:
        workers = _processes(pictures)
        if workers < 2:
            return None
    from .engines import engine_of

    return engine_of(workers)


def _sharing(workers: Any, engine: Engine | None, pictures: Sequence[Picture]) -> Sharing | None:
    """Who cuts the shards of giants; None: nobody, as threads do it faster."""

    def opened() -> AbstractContextManager[Engine]:
        if engine is not None:
            return nullcontext(engine)
        from .engines.processes import Processes  # seldom needed

        return Processes(max(2, processors() // THREADS_EACH))

    if workers is not None:
        return Sharing(opened)
    if processors() < 2 or any(picture.options.threads for picture in pictures):
        return None
    return Sharing(opened, GIANT_PIXELS if processors() >= MANY_PROCESSORS else SHARED_PIXELS)


def _processes(pictures: Sequence[Picture]) -> int:
    """How many processes the work is worth."""
    most = min(processors(), len(pictures))
    worth = 1.0
    for picture in pictures:
        worth += _size(picture.source) / BYTES_PER_PROCESS
        if worth >= most:
            return most
    return int(worth)


def _size(source: str) -> int:
    try:
        return Path(source).stat().st_size
    except (OSError, ValueError):
        return 0  # whatever it is


class _Batch:
    """Counts, and tells who wants to know."""

    def __init__(
        self, count: int, done: int, ledger: Ledger | None, progress: BatchCallback | None
    ) -> None:
        self.failed = False
        self._count = count
        self._done = done
        self._ledger = ledger
        self._progress = progress
        self._under_way: dict[str, Progress | None] = {}

    def run(
        self, pictures: Sequence[Picture], engine: Engine | None, sharing: Sharing | None
    ) -> Iterator[Outcome]:
        """Cut them: by the engine, but for giants and what only this process can read."""
        if engine is None or self._count == 1:
            yield from self._here(pictures, sharing)
            return
        yield from self._here([one for one in pictures if one.source == STANDARD_INPUT], None)
        theirs = [_shared(one, engine) for one in pictures if one.source != STANDARD_INPUT]
        giants: list[Picture] = []
        told = None if self._progress is None else self._told(theirs)
        for index, result in engine.run(cut_picture, theirs, told):
            picture = theirs[index]
            if result is None:
                giants.append(_unshared(picture, pictures[0].options.threads))
            else:
                yield from self._ended(picture, _outcomes(picture, result))
        yield from self._here(giants, sharing)

    def _here(self, pictures: Sequence[Picture], sharing: Sharing | None) -> Iterator[Outcome]:
        """Cut them one after the other, or their shards side by side."""
        for picture in pictures:
            outcomes = _cut(replace(picture, alone=True), self._teller(picture), sharing)
            assert outcomes is not None
            yield from self._ended(picture, outcomes)

    def _ended(self, picture: Picture, outcomes: list[Outcome]) -> list[Outcome]:
        self._done += 1
        self._under_way.pop(picture.source, None)
        if any(outcome.error for outcome in outcomes):
            self.failed = True
        elif self._ledger is not None:
            self._ledger.done(picture)
        self._tell()
        return outcomes

    def _told(self, pictures: Sequence[Picture]) -> Callable[[int, Any], object]:
        return lambda index, progress: self._heard(pictures[index], progress)

    def _teller(self, picture: Picture) -> Callable[[Progress], object] | None:
        if self._progress is None:
            return None
        return lambda progress: self._heard(picture, progress)

    def _heard(self, picture: Picture, progress: Progress) -> object:
        self._under_way[picture.source] = progress
        return self._tell()

    def _tell(self) -> object:
        if self._progress is None:
            return None
        source, progress = next(iter(self._under_way.items()), ("", None))
        return self._progress(BatchProgress(self._done, self._count, source, progress))


def _shared(picture: Picture, engine: Engine) -> Picture:
    """A picture whose threads leave the other workers theirs."""
    threads = picture.options.threads or engine.threads
    fresh = not picture.target.store and not os.path.lexists(picture.target.path)
    options = replace(picture.options, threads=threads)
    return replace(picture, options=options, fresh=fresh)


def _unshared(picture: Picture, threads: int | None) -> Picture:
    """A picture that has all processors again."""
    return replace(picture, options=replace(picture.options, threads=threads))


def _outcomes(picture: Picture, result: list[Outcome] | Exception) -> list[Outcome]:
    if isinstance(result, Exception):  # the worker has failed, not the picture
        from .engines import WorkerError

        if isinstance(result, WorkerError):
            result = WorkerError(f"{picture.source}: {result}")
        return [_failed(picture.source, picture.target, result)]
    return result


def cut_picture(picture: Picture) -> list[Outcome] | None:
    """Cut a picture in a worker; None if it is a giant, which is not for a worker alone."""
    from .engines import tell

    return _cut(picture, tell)


def _cut(
    picture: Picture,
    progress: Callable[[Progress], object] | None,
    sharing: Sharing | None = None,
) -> list[Outcome] | None:
    """Cut a picture, or each page of it; a bad page does not stop the others."""
    if not picture.every_page:
        return _cut_page(picture, picture.target, picture.options, progress, sharing)
    from .info import page_count
    from .sources import holding

    outcomes: list[Outcome] = []
    try:
        with holding(picture.source):
            for page in range(1, page_count(picture.source, picture.options.max_pixels) + 1):
                target = picture.target.numbered(page)
                options = replace(picture.options, page=page)
                found = _cut_page(replace(picture, alone=True), target, options, progress)
                outcomes += found or []
    except FasttileError as error:
        outcomes.append(_failed(picture.source, picture.target, error))
    return outcomes


class _GiantError(Exception):
    """A picture is a giant."""


def _cut_page(
    picture: Picture,
    target: Target,
    options: CutOptions,
    progress: Callable[[Progress], object] | None,
    sharing: Sharing | None = None,
) -> list[Outcome] | None:

    def accept(cutting: Cutting) -> None:
        if not picture.alone and cutting.source.width * cutting.source.height >= GIANT_PIXELS:
            raise _GiantError

    try:
        plan = Plan.of(options, target, picture.source)
        report = cut_plan(plan, picture.source, progress, accept, sharing)
    except _GiantError:
        return None
    except BrokenPipeError:
        raise
    except Exception as error:
        if picture.fresh and _stands(target, error):
            return [Outcome(picture.source, target.result, skipped=True)]
        return [_failed(picture.source, target, error)]
    return [Outcome(picture.source, target.result, report)]


def _stands(target: Target, error: Exception) -> bool:
    """Whether a picture was refused as its result stands there."""
    there = isinstance(error, TargetError) and os.path.lexists(target.path)
    return isinstance(error, ExistsError) or (there and not target.store)


def _failed(source: str, target: Target, error: Exception) -> Outcome:
    text = str(error)
    if isinstance(error, MemoryError):
        text = f"{source}: there is not enough memory"
    elif isinstance(error, OSError):
        text = f"{source}: the system refused: {error.strerror or error} (--verbose shows where)"
    elif not isinstance(error, FasttileError):
        text = f"unexpected {type(error).__name__}: {error} (--verbose shows where)"
    trace = "".join(traceback.format_exception(error))
    misused = isinstance(error, OptionError)
    return Outcome(source, target.result, None, " ".join(text.split()), misused, trace)
