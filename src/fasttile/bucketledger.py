"""Which pictures of a resumable batch are begun, in a bucket: there, what is announced is whole.

An object store keeps what it has taken, and a result's descriptor is written last. So a list of
what was begun where nothing stood is enough: what is announced there later was made by this batch.
The list lies below `.fasttile-batch/`, which one run at a time claims.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

from .errors import TargetError
from .identity import options_of
from .journal import check_same
from .ledger import AT_ONCE, told_of
from .options import CutOptions
from .plan import Plan
from .sinks.claim import Claim
from .sinks.objects import sweep
from .stores import Bucket, MissingError, StoreError
from .versions import versions

if TYPE_CHECKING:
    from collections.abc import Iterator

    from .batch import Picture


class BucketLedger:
    """Remembers what is begun; a context manager. See `ledger.Ledger`.

    Args:
        address: The bucket.
        folder: What stands before the results' names: "" or "site/".
        options: How the pictures are cut.

    Raises:
        TargetError: The store refuses, another batch works there, or one that differs was
            interrupted there.
    """

    def __init__(self, address: str, folder: str, options: CutOptions) -> None:
        self._bucket = Bucket(address)
        self._work = f"{folder}.fasttile-batch"
        self._identity = {**options_of(options), **versions()}
        name = f"the batch in {address}/{folder}"
        self._begun: dict[str, Any] = {}
        self._claim = Claim(self._bucket, f"{self._work}/claim", name)
        try:
            with _telling():
                self._read(name)
        except BaseException:
            self._claim.release()
            raise

    def begin(self, pictures: Sequence[Picture]) -> list[Picture]:
        """Write down which pictures are begun: those that are not done, as they are to be cut."""
        with _telling(), ThreadPoolExecutor(AT_ONCE) as pool:
            there = list(pool.map(self._stands, pictures))
            told_now = told_of(pictures)
            pending, done = [], []
            for picture, stands in zip(pictures, there, strict=True):
                name, told = str(picture.target.result), told_now[picture.source]
                before = name in self._begun and self._begun[name] == told
                if stands and before:
                    done.append(picture.target)
                    continue
                if not stands:
                    self._begun[name] = told
                pending.append(replace(picture, fresh=before))
            self._write()
            list(pool.map(sweep, done))
        return pending

    def done(self, picture: Picture) -> None:
        """A picture is done: the store knows."""

    def remove(self) -> None:
        """All is done: forget it."""
        with _telling():
            self._bucket.delete([f"{self._work}/begun"])

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._claim.release()

    def _stands(self, picture: Picture) -> bool:
        plan = Plan.of(picture.options, picture.target, picture.source)
        folder = picture.target.path.parent
        return any(self._bucket.head((folder / path).as_posix()) for path in plan.announcements())

    def _read(self, name: str) -> None:
        try:
            said = json.loads(self._bucket.get(f"{self._work}/begun"))
        except MissingError:
            return
        check_same(said["identity"], self._identity, name)
        self._begun = said["begun"]

    def _write(self) -> None:
        said = {"identity": self._identity, "begun": self._begun}
        kind = "application/json"
        self._bucket.put(f"{self._work}/begun", json.dumps(said).encode(), kind=kind)


@contextmanager
def _telling() -> Iterator[None]:
    try:
        yield
    except StoreError as error:
        raise TargetError(str(error)) from error
