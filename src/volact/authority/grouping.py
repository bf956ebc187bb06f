"""Natural group commit: while one commit is on its way to disk, the next asks gather (DESIGN section 4).

Asks go through three stages, each a thread with at most one batch in it: verify, decide and commit, sign. No timer
and no queue length decides what a batch is: it is what came while the one before was at work. The arithmetic of
signatures and the waiting for the disk let other threads run, so the stages overlap. Asks are decided in the order
in which they came; a caller that has gone leaves its ask in the batch, where it disturbs nobody and waits for a
repetition.
"""

from __future__ import annotations

import asyncio
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Generic, TypeVar

from volact.protocol.problems import Refusal, VolactError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from volact.authority.asks import Asked, Sent
    from volact.authority.authority import Authority
    from volact.authority.store import StoredAnswer

MOST_AT_ONCE = 512

_In = TypeVar("_In")
_Out = TypeVar("_Out")
Answer = asyncio.Future["bytes | Refusal"]


class _Stage(Generic[_In, _Out]):
    """One stage: batches what comes while it works, works in its thread, and hands each outcome on."""

    def __init__(
        self, name: str, work: Callable[[Sequence[_In]], Sequence[_Out]], then: Callable[[Answer, _Out], None]
    ) -> None:
        self._work = work
        self._then = then
        self._thread = ThreadPoolExecutor(1, name)
        self._waiting: list[tuple[Answer, _In]] = []
        self._task: asyncio.Task[None] | None = None

    def put(self, future: Answer, item: _In) -> None:
        """Take an item into the next batch."""
        self._waiting.append((future, item))
        if self._task is None:
            self._task = asyncio.get_running_loop().create_task(self._run())

    async def _run(self) -> None:
        try:
            while self._waiting:
                batch = self._waiting[:MOST_AT_ONCE]
                del self._waiting[:MOST_AT_ONCE]
                await self._run_batch(batch)
        finally:
            self._task = None

    async def _run_batch(self, batch: Sequence[tuple[Answer, _In]]) -> None:
        loop = asyncio.get_running_loop()
        try:
            outcomes = await loop.run_in_executor(self._thread, self._work, [item for _, item in batch])
        except VolactError as error:
            for future, _ in batch:
                settle(future, error.refusal)
        except Exception as error:  # noqa: BLE001 - whatever it was, every caller must be answered
            if len(batch) > 1:
                # One ask that breaks us must not take the others with it.
                for one in batch:
                    await self._run_batch([one])
            elif not batch[0][0].done():
                batch[0][0].set_exception(error)
        else:
            for (future, _), outcome in zip(batch, outcomes, strict=True):
                self._then(future, outcome)

    async def close(self) -> None:
        """Finish what was handed in."""
        while self._task:
            await asyncio.wait([self._task])
        self._thread.shutdown()


def settle(future: Answer, answer: bytes | Refusal) -> None:
    """Answer a caller who may have gone."""
    if not future.done():
        future.set_result(answer)


class GroupCommit:
    """The one batching writer of a process, with what comes before and after it."""

    def __init__(self, authority: Authority) -> None:
        """Verify, decide and sign through `authority`."""
        self._authority = authority
        self._verify = _Stage("verify", authority.verify, self._verified)
        self._write = _Stage("write", authority.decide, self._written)
        self._sign = _Stage("sign", self._finish, settle)

    def submit(self, sent: Sent, address: str) -> Answer:
        """Hand in what was sent; the future holds its answer when that is on disk and signed."""
        future: Answer = asyncio.get_running_loop().create_future()
        self._verify.put(future, (sent, address))
        return future

    def _verified(self, future: Answer, outcome: Asked | Refusal) -> None:
        if isinstance(outcome, Refusal):
            settle(future, outcome)
        elif outcome.op == "remaining":
            self._sign.put(future, outcome)
        else:
            self._write.put(future, outcome)

    def _written(self, future: Answer, outcome: StoredAnswer | Refusal) -> None:
        if isinstance(outcome, Refusal):
            settle(future, outcome)
        else:
            self._sign.put(future, outcome)

    def _finish(self, batch: Sequence[StoredAnswer | Asked]) -> list[bytes | Refusal]:
        return [self._authority.finish(one) for one in batch]

    async def close(self) -> None:
        """Finish what was handed in."""
        for stage in (self._verify, self._write, self._sign):
            await stage.close()
