"""The journal: what it remembers, in which order it writes, and what it makes of damage."""

from __future__ import annotations

import itertools
import json
import os
import threading
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fasttile import _files, journal
from fasttile.errors import TargetError
from fasttile.journal import Journal, Piece, Spans, check_same, line, lines
from fasttile.sinks.folderlog import FolderLog
from threads import no_thread_left, not_stuck  # noqa: F401 -- fixtures for each test

IDENTITY: dict[str, Any] = {"quality": 80, "layout": "dzi", "fasttile": "1.2", "region": None}

PIECES = [
    Piece(12, 0, 0, 5, 5, 0, 50_000),
    Piece(12, 0, 5, 9, 3, 1, 30_000),
    Piece(11, 0, 0, 5, 0, 5, 0),
    Piece(12, 1, 0, 5, 5, 0, 51_000),
    Piece(-1, 0, 3, 4, 17, 2, 12_345),
]


class Memory:
    """A log that says what was asked of it, and fails when told to."""

    def __init__(self, data: bytes = b"") -> None:
        self.data = data
        self.calls: list[str] = []
        self.failing: dict[str, Exception] = {}
        self.appended = threading.Event()
        self._fresh = True

    def read(self) -> bytes:
        return self.data

    def append(self, data: bytes) -> None:
        self._call("append")
        self.data = data if self._fresh else self.data + data
        if not self._fresh:
            self.appended.set()
        self._fresh = False

    def settle(self) -> None:
        self._call("settle")

    def close(self) -> None:
        self._call("close")

    def _call(self, name: str) -> None:
        self.calls.append(name)
        if name in self.failing:
            raise self.failing[name]


@pytest.fixture(autouse=True)
def short_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(journal, "PAUSE_SECONDS", (0.001, 0.001))


def opened(log: journal.Log, identity: dict[str, Any] | None = None) -> Journal:
    return Journal(log, IDENTITY if identity is None else identity, "map.dzi")


def written(pieces: list[Piece]) -> bytes:
    """A journal's bytes, as a run that noted these leaves them."""
    log = Memory()
    with_them = opened(log)
    for piece in pieces:
        with_them.note(*piece)
    with_them.close()
    return log.data


def known(data: bytes) -> list[Piece]:
    """Which of `PIECES` the next run takes for whole; it has to count just these."""
    log = Memory(data)
    reader = opened(log)
    reader.close()
    found = [piece for piece in PIECES if reader.holds(*piece[:4])]
    assert reader.tiles == sum(piece.tiles for piece in found)
    assert reader.blanks == sum(piece.blanks for piece in found)
    assert reader.bytes == sum(piece.bytes for piece in found)
    assert reader.empty == (not found)
    assert lines(log.data)[0] == json.dumps(IDENTITY).encode()
    assert log.data.endswith(b"\n")
    assert len(lines(log.data)) == log.data.count(b"\n"), "nothing torn is left"
    return found


# ---- spans -------------------------------------------------------------------------------------

numbers = st.integers(0, 40)
stretches = st.tuples(numbers, st.integers(1, 12)).map(lambda at: (at[0], sum(at)))


@given(st.lists(stretches, max_size=30))
def test_spans_are_a_set_of_numbers(added: list[tuple[int, int]]) -> None:
    spans, members = Spans(), set[int]()
    for first, stop in added:
        spans.add(first, stop)
        members |= set(range(first, stop))
    for first, stop in itertools.combinations(range(54), 2):
        assert spans.holds(first, stop) == (members >= set(range(first, stop)))


@given(st.permutations(range(12)))
def test_spans_that_touch_become_one(order: list[int]) -> None:
    spans = Spans()
    for number in order:
        spans.add(number, number + 1)
    assert (spans._starts, spans._stops) == ([0], [12])


# ---- what comes back ---------------------------------------------------------------------------


def test_the_next_run_knows_what_was_noted() -> None:
    assert known(written(PIECES)) == PIECES


def test_runs_one_after_the_other_add_up() -> None:
    data = b""
    for number, piece in enumerate(PIECES):
        log = Memory(data)
        run = opened(log)
        assert run.began == (number > 0)
        assert run.tiles == sum(piece.tiles for piece in PIECES[:number])
        run.note(*piece)
        assert not run.holds(*piece[:4]), "what this run stores is not for this run to skip"
        run.close()
        data = log.data
    assert known(data) == PIECES


def test_a_new_journal_is_empty_until_something_is_noted() -> None:
    run = opened(Memory())
    assert run.empty
    assert not run.began
    assert not run.holds(0, 0, 0, 1)
    run.note(*PIECES[0])
    assert not run.empty
    run.close()


def test_what_was_written_is_not_forgotten_by_empty() -> None:
    log = Memory()
    run = opened(log)
    run.note(*PIECES[0])
    run.settle()
    assert known(log.data) == PIECES[:1]
    assert not run.empty, "a run that is aborted now must leave its journal"
    run.close()


# ---- damage ------------------------------------------------------------------------------------

WHOLE = b"".join(line(json.dumps(text).encode()) for text in (IDENTITY, *PIECES))
ENDS = [at + 1 for at, byte in enumerate(WHOLE) if byte == ord("\n")]
EVERY_BYTE = range(ENDS[0], len(WHOLE))


def before(at: int) -> list[Piece]:
    """The pieces whose lines end at or before a place."""
    return PIECES[: sum(end <= at for end in ENDS) - 1]


def test_the_form_that_is_damaged_here_is_the_real_one() -> None:
    assert written(PIECES) == WHOLE


@pytest.mark.parametrize("filler", [b"", b"\0", b"\n", b"0", b"\xff", b" "])
def test_an_end_torn_at_any_byte(filler: bytes) -> None:
    for at in EVERY_BYTE:
        damaged = WHOLE[:at] + filler * (len(WHOLE) - at)
        if filler == b"\n" and at + 1 in ENDS:
            continue  # that line is whole
        assert known(damaged) == before(at)


def test_a_hole_of_zeros_anywhere() -> None:
    for at in EVERY_BYTE:
        stop = min(at + 16, len(WHOLE))
        damaged = WHOLE[:at] + bytes(stop - at) + WHOLE[stop:]
        assert known(damaged) == before(at)


def test_any_bit_flipped() -> None:
    for at in EVERY_BYTE:
        for bit in range(8):
            damaged = WHOLE[:at] + bytes([WHOLE[at] ^ 1 << bit]) + WHOLE[at + 1 :]
            assert known(damaged) == before(at), (at, bit)


def test_an_end_that_is_there_twice_is_counted_once() -> None:
    for end in ENDS[:-1]:
        assert known(WHOLE + WHOLE[end:]) == PIECES


@given(st.binary(max_size=200))
def test_rubbish_behind_it(rubbish: bytes) -> None:
    assert known(WHOLE + rubbish) == PIECES


@given(st.binary(max_size=200))
def test_rubbish_instead_of_it(rubbish: bytes) -> None:
    run = opened(Memory(rubbish))
    run.close()
    assert (run.began, run.empty) == (False, True)


@given(st.integers(0, 2**64), st.integers(0, len(WHOLE)), st.integers(0, len(WHOLE)))
def test_two_journals_mixed(seed: int, first: int, second: int) -> None:
    """Blocks of the file that arrived, and others that did not: nothing is ever made up."""
    noise = seed.to_bytes(9, "little") * len(WHOLE)
    low, high = sorted((first, second))
    damaged = WHOLE[:low] + noise[: high - low] + WHOLE[high:]
    run = opened(Memory(damaged))
    run.close()
    assert [piece for piece in PIECES if run.holds(*piece[:4])] in [
        PIECES[:count] for count in range(len(PIECES) + 1)
    ]


def test_a_torn_end_is_gone_when_the_next_run_has_begun() -> None:
    log = Memory(WHOLE[: ENDS[2] + 7])
    run = opened(log)
    assert log.data == WHOLE[: ENDS[2]], "what is appended now would be behind a torn line"
    run.note(*PIECES[2])
    run.close()
    assert known(log.data) == PIECES[:3]


# ---- the order ---------------------------------------------------------------------------------


class Ordered(Memory):
    """A log that knows which pieces were noted before its last sync had begun."""

    def __init__(self) -> None:
        super().__init__()
        self.noted: list[Piece] = []
        self.settled = 0
        self.early: list[Piece] = []

    def settle(self) -> None:
        super().settle()
        self.settled = len(self.noted)

    def append(self, data: bytes) -> None:
        super().append(data)
        for text in lines(data):
            if text.startswith(b"["):
                piece = Piece(*json.loads(text))
                if piece not in self.noted[: self.settled]:
                    self.early.append(piece)


@pytest.mark.parametrize("hands", [1, 4])
def test_nothing_is_written_that_was_stored_after_the_sync_began(hands: int) -> None:
    log = Ordered()
    run = opened(log)
    lock = threading.Lock()

    def work(row: int) -> None:
        for first in range(300):
            piece = Piece(9, row, first, first + 1, 1, 0, 10)
            with lock:
                log.noted.append(piece)  # "stored"
            run.note(*piece)
            if first % 50 == 0:
                run.settle()

    threads = [threading.Thread(target=work, args=(row,)) for row in range(hands)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    run.close()
    assert log.early == []
    assert len(lines(log.data)) == 1 + 300 * hands
    assert log.calls.count("settle") > 1


def test_settle_precedes_each_append_but_the_first() -> None:
    log = Memory()
    run = opened(log)
    for piece in PIECES:
        run.note(*piece)
        run.settle()
    run.close()
    calls = [call for call in log.calls if call != "close"]
    assert calls[0] == "append"
    assert calls.count("append") == 1 + len(PIECES)
    for at, call in enumerate(calls[1:], 1):
        assert call == "settle" or calls[at - 1] == "settle"


def test_settle_syncs_even_if_nothing_waits() -> None:
    log = Memory()
    run = opened(log)
    run.settle()
    run.close()
    assert log.calls == ["append", "settle", "close"]


def test_it_writes_by_itself_while_the_job_goes_on() -> None:
    log = Memory()
    run = opened(log)
    run.note(*PIECES[0])
    assert log.appended.wait(30)
    assert known(log.data) == PIECES[:1]
    run.close()


# ---- failures ----------------------------------------------------------------------------------


@pytest.mark.parametrize("step", ["settle", "append"])
def test_what_cannot_be_written_is_raised_everywhere(step: str) -> None:
    log = Memory()
    run = opened(log)
    failure = TargetError("cannot sync map: No space left on device")
    log.failing[step] = failure
    run.note(*PIECES[0])
    for act in (run.settle, lambda: run.note(*PIECES[1]), run.settle, run.close, run.close):
        with pytest.raises(TargetError) as caught:
            act()
        assert caught.value is failure


@pytest.mark.parametrize("step", ["settle", "append"])
def test_after_a_failure_nothing_more_is_written(step: str) -> None:
    """A kernel tells a lost write once; the next sync would say that all is well."""
    log = Memory()
    run = opened(log)
    log.failing[step] = TargetError("no space")
    run.note(*PIECES[0])
    with pytest.raises(TargetError):
        run.settle()
    log.failing.clear()
    durable, calls = log.data, log.calls.count("append")
    with pytest.raises(TargetError):
        run.note(*PIECES[1])
    with pytest.raises(TargetError):
        run.settle()
    with pytest.raises(TargetError):
        run.close()
    assert log.data == durable
    assert log.calls.count("append") == calls


def test_a_failure_at_the_very_end_is_raised_by_close() -> None:
    log = Memory()
    run = opened(log)
    log.failing["append"] = TargetError("no space")
    run.note(*PIECES[0])
    with pytest.raises(TargetError, match="no space"):
        run.close()
    assert log.calls[-1] == "close"


def test_closing_twice_is_nothing_more() -> None:
    log = Memory()
    run = opened(log)
    run.note(*PIECES[0])
    run.close()
    data = log.data
    run.close()
    assert log.data == data


def test_a_journal_that_cannot_begin_lets_go_of_its_log() -> None:
    log = Memory()
    log.failing["append"] = TargetError("no space")
    with pytest.raises(TargetError, match="no space"):
        opened(log)
    assert log.calls == ["append", "close"]


# ---- whose it is -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"quality": 60}, "begun with quality 80, which now is 60"),
        ({"fasttile": "1.3"}, "begun with fasttile 1.2, which now is 1.3"),
        ({"region": "(0, 0, 5, 5)"}, "region not given, which now is (0, 0, 5, 5)"),
        ({"OpenJPEG": "2.5"}, "OpenJPEG not given, which now is 2.5"),
    ],
)
def test_a_job_that_differs_is_refused_by_name(changed: dict[str, Any], words: str) -> None:
    log = Memory(WHOLE)
    with pytest.raises(TargetError) as caught:
        opened(log, {**IDENTITY, **changed})
    told = str(caught.value)
    assert told.startswith("map.dzi was ")
    assert words in told
    assert "\n" not in told
    assert (log.data, log.calls) == (WHOLE, ["close"]), "it is untouched"


def test_what_is_missing_now_is_named_too() -> None:
    with pytest.raises(TargetError, match=r"fasttile 1\.2, which now is not given"):
        check_same(IDENTITY, {"quality": 80, "layout": "dzi"}, "map.dzi")


@given(
    st.dictionaries(
        st.text(max_size=5),
        st.none() | st.booleans() | st.integers() | st.text(max_size=5) | st.tuples(st.integers()),
        max_size=5,
    )
)
def test_any_identity_comes_back_the_same(identity: dict[str, Any]) -> None:
    log = Memory()
    opened(log, identity).close()
    again = opened(Memory(log.data), identity)
    again.close()
    assert again.began


# ---- in a folder -------------------------------------------------------------------------------


def handles_below(folder: Path) -> list[Path]:
    """Files below a folder that this process has open (Linux)."""
    found = []
    for link in Path("/proc/self/fd").glob("*"):
        with suppress(OSError):
            found.append(link.readlink())
    return [path for path in found if path.is_relative_to(folder)]


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Path]:
    before = handles_below(tmp_path)
    yield tmp_path
    assert handles_below(tmp_path) == before, "a file is still open"


def test_a_journal_in_a_folder(folder: Path) -> None:
    for number, piece in enumerate(PIECES):
        run = opened(FolderLog(folder, "journal"))
        assert run.began == (number > 0)
        run.note(*piece)
        run.close()
    assert (folder / "journal").read_bytes() == WHOLE
    assert [path.name for path in folder.iterdir()] == ["journal"]


def test_a_journal_is_replaced_as_a_whole_or_not_at_all(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (folder / "journal").write_bytes(WHOLE + b"torn")

    def full(*_: object) -> int:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("fasttile.sinks.folderlog.os.write", full)
    with pytest.raises(TargetError, match="No space left on device"):
        opened(FolderLog(folder, "journal"))
    assert (folder / "journal").read_bytes() == WHOLE + b"torn"


def test_a_write_that_stops_short_goes_on(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write = os.write
    monkeypatch.setattr(
        "fasttile.sinks.folderlog.os.write", lambda file, data: write(file, bytes(data[:3]))
    )
    run = opened(FolderLog(folder, "journal"))
    for piece in PIECES:
        run.note(*piece)
    run.close()
    assert (folder / "journal").read_bytes() == WHOLE


def test_each_append_is_synced(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sizes: list[int] = []
    fsync = os.fsync

    def spy(file: int) -> None:
        fsync(file)
        sizes.append(os.fstat(file).st_size)

    monkeypatch.setattr("fasttile.sinks.folderlog.os.fsync", spy)
    log = FolderLog(folder, "journal")
    log.append(b"first")
    assert sizes[0] == 5, "the new journal, before it has its name"
    assert len(sizes) == 2, "and the folder, for the name"
    log.append(b" second")
    assert sizes[2:] == [12]
    log.close()


def test_a_sync_that_fails_is_told(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("fasttile.sinks.folderlog.sync", lambda file: 5)
    log = FolderLog(folder, "journal")
    with pytest.raises(TargetError, match=r"cannot sync .*: Input/output error"):
        log.settle()
    log.close()


def test_a_system_that_cannot_sync_is_told(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("fasttile.sinks.folderlog.sync", lambda file: 38)
    log = FolderLog(folder, "journal")
    with pytest.raises(TargetError, match="no way to sync"):
        log.settle()
    log.close()


def test_syncing_a_real_file_system_and_no_file(folder: Path) -> None:
    log = FolderLog(folder, "journal")
    log.settle()
    log.close()
    log.close()
    assert _files.sync(-1) == 9


def test_a_folder_that_is_missing_is_told(tmp_path: Path) -> None:
    with pytest.raises(TargetError, match=r"cannot work in .*gone"):
        FolderLog(tmp_path / "gone", "journal")
