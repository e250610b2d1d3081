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

from fasttile import _files
from fasttile.errors import TargetError
from fasttile.storage import journal
from fasttile.storage.folders import Folder
from fasttile.storage.journal import (
    FolderLog,
    IntervalSet,
    Journal,
    JournalRecord,
    check_same_fingerprint,
    decode_lines,
    encode_line,
)

pytestmark = pytest.mark.usefixtures("no_leaked_thread", "deadlock_timeout")


FINGERPRINT: dict[str, Any] = {"quality": 80, "layout": "dzi", "fasttile": "1.2", "region": None}

RECORDS = [
    JournalRecord(12, 0, 0, 5, 5, 0, 50_000),
    JournalRecord(12, 0, 5, 9, 3, 1, 30_000),
    JournalRecord(11, 0, 0, 5, 0, 5, 0),
    JournalRecord(12, 1, 0, 5, 5, 0, 51_000),
    JournalRecord(-1, 0, 3, 4, 17, 2, 12_345),
]


class MemoryLog:
    """A log that records its calls, and fails on request."""

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

    def sync_tiles(self) -> None:
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


def open_journal(log: journal.JournalLog, fingerprint: dict[str, Any] | None = None) -> Journal:
    return Journal(log, FINGERPRINT if fingerprint is None else fingerprint, "map.dzi")


def write_records(records: list[JournalRecord]) -> bytes:
    """A journal's bytes, as a run that noted these leaves them."""
    log = MemoryLog()
    with_them = open_journal(log)
    for piece in records:
        with_them.record(*piece)
    with_them.close()
    return log.data


def read_records(data: bytes) -> list[JournalRecord]:
    """Which of `PIECES` the next run takes for complete; it has to count these."""
    log = MemoryLog(data)
    reader = open_journal(log)
    reader.close()
    found = [piece for piece in RECORDS if reader.contains(*piece[:4])]
    assert reader.tiles == sum(piece.tiles for piece in found)
    assert reader.blanks == sum(piece.blanks for piece in found)
    assert reader.bytes == sum(piece.bytes for piece in found)
    assert reader.is_empty == (not found)
    assert decode_lines(log.data)[0] == json.dumps(FINGERPRINT).encode()
    assert log.data.endswith(b"\n")
    assert len(decode_lines(log.data)) == log.data.count(b"\n"), "nothing torn is left"
    return found


# ---- spans -------------------------------------------------------------------------------------

numbers = st.integers(0, 40)
stretches = st.tuples(numbers, st.integers(1, 12)).map(lambda at: (at[0], sum(at)))


@given(st.lists(stretches, max_size=30))
def test_spans_are_a_set_of_numbers(added: list[tuple[int, int]]) -> None:
    spans, members = IntervalSet(), set[int]()
    for first, stop in added:
        spans.add(first, stop)
        members |= set(range(first, stop))
    for first, stop in itertools.combinations(range(54), 2):
        assert spans.contains(first, stop) == (members >= set(range(first, stop)))


@given(st.permutations(range(12)))
def test_spans_that_touch_become_one(order: list[int]) -> None:
    spans = IntervalSet()
    for number in order:
        spans.add(number, number + 1)
    assert (spans._starts, spans._stops) == ([0], [12])


# ---- what comes back ---------------------------------------------------------------------------


def test_the_next_run_knows_what_was_noted() -> None:
    assert read_records(write_records(RECORDS)) == RECORDS


def test_runs_one_after_the_other_add_up() -> None:
    data = b""
    for number, piece in enumerate(RECORDS):
        log = MemoryLog(data)
        run = open_journal(log)
        assert run.is_resumed == (number > 0)
        assert run.tiles == sum(piece.tiles for piece in RECORDS[:number])
        run.record(*piece)
        assert not run.contains(*piece[:4]), "what this run stores is not for this run to skip"
        run.close()
        data = log.data
    assert read_records(data) == RECORDS


def test_a_new_journal_is_empty_until_something_is_noted() -> None:
    run = open_journal(MemoryLog())
    assert run.is_empty
    assert not run.is_resumed
    assert not run.contains(0, 0, 0, 1)
    run.record(*RECORDS[0])
    assert not run.is_empty
    run.close()


def test_what_was_written_is_not_forgotten_by_empty() -> None:
    log = MemoryLog()
    run = open_journal(log)
    run.record(*RECORDS[0])
    run.flush()
    assert read_records(log.data) == RECORDS[:1]
    assert not run.is_empty, "a run that is aborted now must leave its journal"
    run.close()


# ---- damage ------------------------------------------------------------------------------------

COMPLETE_JOURNAL = b"".join(
    encode_line(json.dumps(text).encode()) for text in (FINGERPRINT, *RECORDS)
)
LINE_ENDS = [at + 1 for at, byte in enumerate(COMPLETE_JOURNAL) if byte == ord("\n")]
EVERY_BYTE = range(LINE_ENDS[0], len(COMPLETE_JOURNAL))


def records_before(offset: int) -> list[JournalRecord]:
    """The pieces whose lines end at or before a place."""
    return RECORDS[: sum(end <= offset for end in LINE_ENDS) - 1]


def test_the_form_that_is_damaged_here_is_the_real_one() -> None:
    assert write_records(RECORDS) == COMPLETE_JOURNAL


@pytest.mark.parametrize("filler", [b"", b"\0", b"\n", b"0", b"\xff", b" "])
def test_an_end_torn_at_any_byte(filler: bytes) -> None:
    for at in EVERY_BYTE:
        damaged = COMPLETE_JOURNAL[:at] + filler * (len(COMPLETE_JOURNAL) - at)
        if filler == b"\n" and at + 1 in LINE_ENDS:
            continue  # that line is complete
        assert read_records(damaged) == records_before(at)


def test_a_hole_of_zeros_anywhere() -> None:
    for at in EVERY_BYTE:
        stop = min(at + 16, len(COMPLETE_JOURNAL))
        damaged = COMPLETE_JOURNAL[:at] + bytes(stop - at) + COMPLETE_JOURNAL[stop:]
        assert read_records(damaged) == records_before(at)


def test_any_bit_flipped() -> None:
    for at in EVERY_BYTE:
        for bit in range(8):
            damaged = (
                COMPLETE_JOURNAL[:at]
                + bytes([COMPLETE_JOURNAL[at] ^ 1 << bit])
                + COMPLETE_JOURNAL[at + 1 :]
            )
            assert read_records(damaged) == records_before(at), (at, bit)


def test_an_end_that_is_there_twice_is_counted_once() -> None:
    for end in LINE_ENDS[:-1]:
        assert read_records(COMPLETE_JOURNAL + COMPLETE_JOURNAL[end:]) == RECORDS


@given(st.binary(max_size=200))
def test_rubbish_behind_it(rubbish: bytes) -> None:
    assert read_records(COMPLETE_JOURNAL + rubbish) == RECORDS


@given(st.binary(max_size=200))
def test_rubbish_instead_of_it(rubbish: bytes) -> None:
    run = open_journal(MemoryLog(rubbish))
    run.close()
    assert (run.is_resumed, run.is_empty) == (False, True)


@given(
    st.integers(0, 2**64),
    st.integers(0, len(COMPLETE_JOURNAL)),
    st.integers(0, len(COMPLETE_JOURNAL)),
)
def test_two_journals_mixed(seed: int, first: int, second: int) -> None:
    """Blocks of the file that arrived, and others that did not: nothing is ever made up."""
    noise = seed.to_bytes(9, "little") * len(COMPLETE_JOURNAL)
    low, high = sorted((first, second))
    damaged = COMPLETE_JOURNAL[:low] + noise[: high - low] + COMPLETE_JOURNAL[high:]
    run = open_journal(MemoryLog(damaged))
    run.close()
    assert [piece for piece in RECORDS if run.contains(*piece[:4])] in [
        RECORDS[:count] for count in range(len(RECORDS) + 1)
    ]


def test_a_torn_end_is_gone_when_the_next_run_has_begun() -> None:
    log = MemoryLog(COMPLETE_JOURNAL[: LINE_ENDS[2] + 7])
    run = open_journal(log)
    assert log.data == COMPLETE_JOURNAL[: LINE_ENDS[2]], (
        "what is appended now would be behind a torn line"
    )
    run.record(*RECORDS[2])
    run.close()
    assert read_records(log.data) == RECORDS[:3]


# ---- the order ---------------------------------------------------------------------------------


class OrderedLog(MemoryLog):
    """A log that knows which pieces were noted before its last sync had begun."""

    def __init__(self) -> None:
        super().__init__()
        self.noted: list[JournalRecord] = []
        self.settled = 0
        self.early: list[JournalRecord] = []

    def sync_tiles(self) -> None:
        super().sync_tiles()
        self.settled = len(self.noted)

    def append(self, data: bytes) -> None:
        super().append(data)
        for text in decode_lines(data):
            if text.startswith(b"["):
                piece = JournalRecord(*json.loads(text))
                if piece not in self.noted[: self.settled]:
                    self.early.append(piece)


@pytest.mark.parametrize("hands", [1, 4])
def test_nothing_is_written_that_was_stored_after_the_sync_began(hands: int) -> None:
    log = OrderedLog()
    run = open_journal(log)
    lock = threading.Lock()

    def work(row: int) -> None:
        for first in range(300):
            piece = JournalRecord(9, row, first, first + 1, 1, 0, 10)
            with lock:
                log.noted.append(piece)  # "stored"
            run.record(*piece)
            if first % 50 == 0:
                run.flush()

    threads = [threading.Thread(target=work, args=(row,)) for row in range(hands)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    run.close()
    assert log.early == []
    assert len(decode_lines(log.data)) == 1 + 300 * hands
    assert log.calls.count("settle") > 1


def test_settle_precedes_each_append_but_the_first() -> None:
    log = MemoryLog()
    run = open_journal(log)
    for piece in RECORDS:
        run.record(*piece)
        run.flush()
    run.close()
    calls = [call for call in log.calls if call != "close"]
    assert calls[0] == "append"
    assert calls.count("append") == 1 + len(RECORDS)
    for at, call in enumerate(calls[1:], 1):
        assert call == "settle" or calls[at - 1] == "settle"


def test_settle_syncs_even_if_nothing_waits() -> None:
    log = MemoryLog()
    run = open_journal(log)
    run.flush()
    run.close()
    assert log.calls == ["append", "settle", "close"]


def test_it_writes_by_itself_while_the_job_goes_on() -> None:
    log = MemoryLog()
    run = open_journal(log)
    run.record(*RECORDS[0])
    assert log.appended.wait(30)
    assert read_records(log.data) == RECORDS[:1]
    run.close()


# ---- failures ----------------------------------------------------------------------------------


@pytest.mark.parametrize("step", ["settle", "append"])
def test_what_cannot_be_written_is_raised_everywhere(step: str) -> None:
    log = MemoryLog()
    run = open_journal(log)
    failure = TargetError("cannot sync map: No space left on device")
    log.failing[step] = failure
    run.record(*RECORDS[0])
    for act in (run.flush, lambda: run.record(*RECORDS[1]), run.flush, run.close, run.close):
        with pytest.raises(TargetError) as caught:
            act()
        assert caught.value is failure


@pytest.mark.parametrize("step", ["settle", "append"])
def test_after_a_failure_nothing_more_is_written(step: str) -> None:
    """A kernel reports a lost write once; the next sync succeeds."""
    log = MemoryLog()
    run = open_journal(log)
    log.failing[step] = TargetError("no space")
    run.record(*RECORDS[0])
    with pytest.raises(TargetError):
        run.flush()
    log.failing.clear()
    durable, calls = log.data, log.calls.count("append")
    with pytest.raises(TargetError):
        run.record(*RECORDS[1])
    with pytest.raises(TargetError):
        run.flush()
    with pytest.raises(TargetError):
        run.close()
    assert log.data == durable
    assert log.calls.count("append") == calls


def test_a_failure_at_the_very_end_is_raised_by_close() -> None:
    log = MemoryLog()
    run = open_journal(log)
    log.failing["append"] = TargetError("no space")
    run.record(*RECORDS[0])
    with pytest.raises(TargetError, match="no space"):
        run.close()
    assert log.calls[-1] == "close"


def test_closing_twice_is_nothing_more() -> None:
    log = MemoryLog()
    run = open_journal(log)
    run.record(*RECORDS[0])
    run.close()
    data = log.data
    run.close()
    assert log.data == data


def test_a_journal_that_cannot_start_closes_its_log() -> None:
    log = MemoryLog()
    log.failing["append"] = TargetError("no space")
    with pytest.raises(TargetError, match="no space"):
        open_journal(log)
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
    log = MemoryLog(COMPLETE_JOURNAL)
    with pytest.raises(TargetError) as caught:
        open_journal(log, {**FINGERPRINT, **changed})
    message = str(caught.value)
    assert message.startswith("map.dzi was ")
    assert words in message
    assert "\n" not in message
    assert (log.data, log.calls) == (COMPLETE_JOURNAL, ["close"]), "it is untouched"


def test_what_is_missing_now_is_named_too() -> None:
    with pytest.raises(TargetError, match=r"fasttile 1\.2, which now is not given"):
        check_same_fingerprint(FINGERPRINT, {"quality": 80, "layout": "dzi"}, "map.dzi")


@given(
    st.dictionaries(
        st.text(max_size=5),
        st.none() | st.booleans() | st.integers() | st.text(max_size=5) | st.tuples(st.integers()),
        max_size=5,
    )
)
def test_any_identity_comes_back_the_same(identity: dict[str, Any]) -> None:
    log = MemoryLog()
    open_journal(log, identity).close()
    again = open_journal(MemoryLog(log.data), identity)
    again.close()
    assert again.is_resumed


# ---- in a folder -------------------------------------------------------------------------------


def open_files_below(folder: Path) -> list[Path]:
    """Files below a folder that this process has open (Linux)."""
    found = []
    for link in Path("/proc/self/fd").glob("*"):
        with suppress(OSError):
            found.append(link.readlink())
    return [path for path in found if path.is_relative_to(folder)]


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Path]:
    before = open_files_below(tmp_path)
    yield tmp_path
    assert open_files_below(tmp_path) == before, "a file is still open"


@pytest.fixture
def opened(folder: Path) -> Iterator[Folder]:
    with Folder.open(folder) as work:
        yield work


def test_a_journal_in_a_folder(folder: Path, opened: Folder) -> None:
    for number, piece in enumerate(RECORDS):
        run = open_journal(FolderLog(opened, "journal"))
        assert run.is_resumed == (number > 0)
        run.record(*piece)
        run.close()
    assert (folder / "journal").read_bytes() == COMPLETE_JOURNAL
    assert [path.name for path in folder.iterdir()] == ["journal"]


def test_a_journal_is_replaced_in_one_step(
    folder: Path, opened: Folder, monkeypatch: pytest.MonkeyPatch
) -> None:
    (folder / "journal").write_bytes(COMPLETE_JOURNAL + b"torn")

    def full(*_: object) -> int:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("fasttile.storage.journal.os.write", full)
    with pytest.raises(TargetError, match="No space left on device"):
        open_journal(FolderLog(opened, "journal"))
    assert (folder / "journal").read_bytes() == COMPLETE_JOURNAL + b"torn"


def test_a_write_that_stops_short_goes_on(
    folder: Path, opened: Folder, monkeypatch: pytest.MonkeyPatch
) -> None:
    write = os.write
    monkeypatch.setattr(
        "fasttile.storage.journal.os.write", lambda file, data: write(file, bytes(data[:3]))
    )
    run = open_journal(FolderLog(opened, "journal"))
    for piece in RECORDS:
        run.record(*piece)
    run.close()
    assert (folder / "journal").read_bytes() == COMPLETE_JOURNAL


def test_each_append_is_synced(
    folder: Path, opened: Folder, monkeypatch: pytest.MonkeyPatch
) -> None:
    sizes: list[int] = []
    fsync = os.fsync

    def spy(file: int) -> None:
        fsync(file)
        sizes.append(os.fstat(file).st_size)

    monkeypatch.setattr("fasttile.storage.journal.os.fsync", spy)
    log = FolderLog(opened, "journal")
    log.append(b"first")
    assert sizes[0] == 5, "the new journal, before it has its name"
    assert len(sizes) == 2, "and the folder, for the name"
    log.append(b" second")
    assert sizes[2:] == [12]
    log.close()


def test_a_sync_that_fails_is_an_error(
    folder: Path, opened: Folder, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("fasttile.storage.journal.sync", lambda file: 5)
    log = FolderLog(opened, "journal")
    with pytest.raises(TargetError, match=r"cannot sync .*: Input/output error"):
        log.sync_tiles()
    log.close()


def test_a_system_that_cannot_sync_is_an_error(
    folder: Path, opened: Folder, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("fasttile.storage.journal.sync", lambda file: 38)
    log = FolderLog(opened, "journal")
    with pytest.raises(TargetError, match="resuming needs syncfs"):
        log.sync_tiles()
    log.close()


def test_syncing_a_real_file_system_and_no_file(folder: Path, opened: Folder) -> None:
    log = FolderLog(opened, "journal")
    log.sync_tiles()
    log.close()
    log.close()
    assert _files.sync(-1) == 9


def test_a_folder_that_is_closed_is_an_error(folder: Path) -> None:
    opened = Folder(folder, -1)
    with pytest.raises(TargetError, match=r"cannot work in .*: Bad file descriptor"):
        FolderLog(opened, "journal")
