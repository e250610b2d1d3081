"""What holds for each engine: a class of tests, for the test files to inherit."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from fasttile.abc.engine import Engine
from fasttile.errors import OptionError, TruncatedError
from fasttile.workers import WorkerError
from support import worker_tasks
from support.worker_tasks import Note


class EngineContract:
    """Wants a fixture `engine`: one that was entered."""

    @pytest.mark.parametrize("count", [0, 1, 2, 3, 40])
    def test_every_task_ends_once(self, engine: Engine, count: int) -> None:
        outcomes = list(engine.run(worker_tasks.double, range(count)))
        assert sorted(outcomes) == [(number, 2 * number) for number in range(count)]

    def test_it_runs_again(self, engine: Engine) -> None:
        for _ in range(3):
            assert len(list(engine.run(worker_tasks.double, range(3)))) == 3

    @pytest.mark.parametrize(
        ("kind", "expected"),
        [
            ("value", ValueError("a value")),
            ("option", OptionError("an option")),
            ("memory", MemoryError()),
            ("missing", FileNotFoundError(2, "not there", "map.tif")),
            ("damaged", WorkerError("an image")),
            ("local", WorkerError("LocalError: a class that cannot travel")),
        ],
    )
    def test_errors_are_outcomes(self, engine: Engine, kind: str, expected: Exception) -> None:
        ((index, outcome),) = engine.run(worker_tasks.raise_error, [kind])
        assert index == 0
        assert isinstance(outcome, Exception)
        if kind == "damaged":  # whether it can travel, its class decides
            assert isinstance(outcome, TruncatedError | WorkerError)
        else:
            assert type(outcome) is type(expected)
        assert str(outcome) == str(expected)
        assert "worker_tasks.py" in outcome.__notes__[0]

    def test_results_that_cannot_travel_are_errors(self, engine: Engine) -> None:
        ((_, outcome),) = engine.run(worker_tasks.raise_error, ["result"])
        assert isinstance(outcome, Exception)
        assert "raise_error.<locals>.<lambda>" in str(outcome)

    def test_on_wait_is_called_and_its_error_ends_the_run(
        self, engine: Engine, tmp_path: Path
    ) -> None:
        def on_wait() -> None:
            (tmp_path / "go").touch()
            raise LookupError("no longer needed")

        tasks = [Note(str(tmp_path), 0)]
        with pytest.raises(LookupError):
            list(engine.run(worker_tasks.wait_for_go, tasks, None, on_wait))

    def test_errors_do_not_stop_others(self, engine: Engine) -> None:
        outcomes = dict(engine.run(worker_tasks.double, [1, None, 3]))  # type: ignore[list-item]
        assert isinstance(outcomes.pop(1), TypeError)
        assert outcomes == {0: 2, 2: 6}

    def test_tasks_are_taken_when_they_are_needed(self, engine: Engine) -> None:
        taken = ended = 0

        def tasks() -> Iterator[int]:
            nonlocal taken
            for number in range(50):
                taken += 1
                assert taken - ended <= 2 * engine.width + 1
                yield number

        for _ in engine.run(worker_tasks.double, tasks()):
            ended += 1
        assert taken == ended == 50

    def test_an_error_of_the_tasks_is_raised(self, engine: Engine, tmp_path: Path) -> None:
        def tasks() -> Iterator[Note]:
            yield Note(str(tmp_path), 0)
            raise LookupError("no more")

        with pytest.raises(LookupError, match="no more"):
            list(engine.run(worker_tasks.write_note, tasks()))
        assert len(list(engine.run(worker_tasks.double, range(5)))) == 5

    def test_what_is_left_is_not_begun(self, engine: Engine, tmp_path: Path) -> None:
        tasks = (Note(str(tmp_path), number) for number in range(1000))
        run = engine.run(worker_tasks.write_note, tasks)
        next(run)
        run.close()  # type: ignore[attr-defined]
        assert len(list(engine.run(worker_tasks.double, range(5)))) == 5
        begun = worker_tasks.noted_numbers(tmp_path, "begun")
        assert 1 <= len(begun) <= 2 * engine.width + 1


class MessageContract:
    """Contract of engines that forward messages of the work."""

    def test_messages_arrive_before_the_outcome(self, engine: Engine) -> None:
        messages: dict[int, list[tuple[int, int]]] = {}
        for index, outcome in engine.run(
            worker_tasks.send_messages,
            [1, 0, 3, 2],
            lambda index, message: messages.setdefault(index, []).append(message),
        ):
            assert outcome == 0
            messages.setdefault(index, [])
        assert messages == {0: [(1, 0)], 1: [], 2: [(3, 0), (3, 1), (3, 2)], 3: [(2, 0), (2, 1)]}

    def test_nobody_need_listen(self, engine: Engine) -> None:
        assert dict(engine.run(worker_tasks.send_messages, [2])) == {0: 0}
