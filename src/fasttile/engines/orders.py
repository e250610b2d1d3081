"""Which task is done next, of those that are new and those whose worker was lost."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass


@dataclass
class Order:
    """A task as it travels.

    Attributes:
        index: Its number.
        data: What the worker is sent.
        losses: How often a worker was lost over it.
    """

    index: int
    data: bytes
    losses: int = 0


class Orders:
    """Hands out tasks; new ones are made when they are asked for.

    Args:
        fresh: What workers are sent for the new ones.
    """

    def __init__(self, fresh: Iterable[bytes]) -> None:
        self._fresh = enumerate(fresh)
        self._again: deque[Order] = deque()
        self._aside: deque[Order] = deque()

    def next(self, *, alone: bool) -> Order | None:
        """The next one, if there is any to be begun now.

        Args:
            alone: Whether nothing else is under way.
        """
        if self._again:
            return self._again.popleft()
        for index, data in self._fresh:
            return Order(index, data)
        return self._aside.popleft() if alone and self._aside else None

    def again(self, order: Order) -> None:
        """Hand it out once more, before any new one."""
        self._again.append(order)

    def aside(self, order: Order) -> None:
        """Hand it out when nothing else is left to do, and by itself.

        Where it has killed its worker, it meets no others then; where memory has run out, it has
        all of it.
        """
        self._aside.append(order)
