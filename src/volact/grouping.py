"""Natural group commit: while one batch is at work, the next asks gather (DESIGN section 4).

No timer and no queue length decides what a batch is: it is what came while the one before was verified, decided,
committed and signed. Asks are decided in the order in which they came; a caller that has gone leaves its ask in the
batch, where it disturbs nobody and waits for a repetition.

One thread does it all, beside the loop that speaks HTTP. Three threads, one a stage, were tried and were slower:
they wait for the interpreter's lock more than they gain, and their batches are smaller, so that each commit and
each statement is shared by fewer asks.
"""

from __future__ import annotations

import asyncio
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Generic, TypeVar

from volact.protocol.problems import Refusal, VolactError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

MOST_AT_ONCE = 512
MOST_WAITING = 4_096
"""Asks that may wait, some two seconds' work: who comes then is told to come again, and gets an answer at once (T20)."""
_AGAIN_AFTER = 5

Answer = asyncio.Future[bytes | Refusal]
S = TypeVar("S")


class GroupCommit(Generic[S]):
    """The one batching writer of a process."""

    def __init__(self, answer: Callable[[Sequence[tuple[S, str]]], Sequence[bytes | Refusal]]) -> None:
        """Answer by `answer`, in a thread of its own.

        It takes what was sent, each with the address it came from, and gives their answers in the same order;
        it may raise a `VolactError`, which is then every caller's answer.
        """
        self._answer = answer
        self._thread = ThreadPoolExecutor(1, "writer")
        self._waiting: list[tuple[S, str, Answer]] = []
        self._work: asyncio.Task[None] | None = None

    def submit(self, sent: S, address: str) -> Answer:
        """Hand in what was sent; the future holds its answer when that is on disk and signed."""
        loop = asyncio.get_running_loop()
        answer: Answer = loop.create_future()
        if len(self._waiting) >= MOST_WAITING:
            answer.set_result(Refusal("busy", "Too many are waiting.", (("retry_after", _AGAIN_AFTER),)))
            return answer
        self._waiting.append((sent, address, answer))
        if self._work is None:
            self._work = loop.create_task(self._write())
        return answer

    async def _write(self) -> None:
        try:
            while self._waiting:
                batch = self._waiting[:MOST_AT_ONCE]
                del self._waiting[:MOST_AT_ONCE]
                await self._write_batch(batch)
        finally:
            self._work = None

    async def _write_batch(self, batch: Sequence[tuple[S, str, Answer]]) -> None:
        loop = asyncio.get_running_loop()
        asks = [(sent, address) for sent, address, _ in batch]
        answers: Sequence[bytes | Refusal]
        try:
            answers = await loop.run_in_executor(self._thread, self._answer, asks)
        except VolactError as error:
            answers = [error.refusal] * len(batch)
        except Exception as error:  # noqa: BLE001 - whatever it was, every caller must be answered
            if len(batch) > 1:
                # One ask that breaks us must not take the others with it.
                for one in batch:
                    await self._write_batch([one])
            elif not batch[0][2].done():
                batch[0][2].set_exception(error)
            return
        for (_, _, waiting), answer in zip(batch, answers, strict=True):
            if not waiting.done():
                waiting.set_result(answer)

    async def between(self, work: Callable[[], None]) -> None:
        """Do `work` in the writer's thread, so between two batches and never during one; raises what it raises."""
        await asyncio.get_running_loop().run_in_executor(self._thread, work)

    async def close(self) -> None:
        """Finish what was handed in."""
        while self._work:
            await asyncio.wait([self._work])
        self._thread.shutdown()
