"""Many writes, one commit."""

from __future__ import annotations

from collections.abc import Callable
from types import TracebackType
from typing import Self, final

from t4dm.errors import TransactionError
from t4dm.t4dx.registry import Collections, EdgeTypes
from t4dm.t4dx.requests import Named, Request
from t4dm.t4dx.types import Lsn
from t4dm.t4dx.writes import Writes


@final
class Transaction(Writes):
    """Collects writes and commits them as one at the end of its `with` block: after a crash all are there, or
    none.

    Arguments are checked at each call, the existence of ids at the commit. Reads do not see the transaction
    before it commits; an exception inside the block drops it. Other writes may happen meanwhile, and come
    first.
    """

    def __init__(
        self,
        commit: Callable[[list[Request]], Lsn],
        *,
        collections: Collections,
        types: EdgeTypes,
        clock: Callable[[], float],
        lsn: Lsn,
        head: Named | None = None,
    ) -> None:
        self._commit, self._collections, self._types, self._clock = commit, collections, types, clock
        self._requests: list[Request] = [] if head is None else [head]
        self._done = False
        self.lsn = lsn
        """The LSN of the commit once it happened, before that of the store when the transaction began."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._done = True
        if kind is None:
            self.lsn = self._commit(self._requests)

    def _submit(self, requests: list[Request]) -> Lsn:
        if self._done:
            raise TransactionError("this transaction has ended; open another: with store.transaction() as tx")
        self._requests += requests
        return self.lsn
