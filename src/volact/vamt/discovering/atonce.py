"""Asking many, so many at once and no more; who stops listening stops the asking (V1, V2).

What is heard is kept while others are still asked, and neither waits for the other.
"""

from __future__ import annotations

import asyncio
import contextlib
import queue
from typing import TYPE_CHECKING, NamedTuple, TypeVar

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Awaitable, Callable, Iterable, Iterator

T = TypeVar("T")
R = TypeVar("R")


async def each(
    items: Iterable[T], ask: Callable[[T], Awaitable[R]], at_once: int
) -> AsyncGenerator[tuple[T, R], None]:
    """Ask for each item, at most `at_once` at a time; answers come as they are ready, each with its item.

    What `ask` raises ends it all and comes out here. No ask is under way any more when this has ended.
    """
    left = iter(items)
    answers: asyncio.Queue[tuple[T, R] | None] = asyncio.Queue()

    async def work() -> None:
        for item in left:
            answers.put_nowait((item, await ask(item)))

    workers = [asyncio.ensure_future(work()) for _ in range(at_once)]
    ending = asyncio.gather(*workers)
    ending.add_done_callback(lambda _: answers.put_nowait(None))
    try:
        while (answer := await answers.get()) is not None:
            yield answer
        await ending
    finally:
        for worker in workers:
            worker.cancel()
        await asyncio.gather(*workers, ending, return_exceptions=True)


class _End(NamedTuple):
    """The end of what was heard, and what ended it before its time."""

    error: BaseException | None


async def kept(heard: AsyncGenerator[T, None], keep: Callable[[Iterator[T | None]], R]) -> R:
    """What `keep` comes to, which is given all that is heard as it comes, in a thread of its own.

    It is given None where nothing more has come yet: then is the time to write. What ends the hearing, a cancellation
    too, comes out of the iterator once all that was heard has; and what ends `keep` ends the hearing.
    """
    came: queue.SimpleQueue[tuple[T] | _End] = queue.SimpleQueue()

    async def hear() -> None:
        error: BaseException | None = None
        try:
            async with contextlib.aclosing(heard):
                async for one in heard:
                    came.put((one,))
        except BaseException as raised:  # noqa: BLE001 - it is raised where it is heard
            error = raised
        came.put(_End(error))

    coming = _coming(came)
    hearing = asyncio.ensure_future(hear())
    keeping = asyncio.ensure_future(asyncio.to_thread(keep, coming))
    keeping.add_done_callback(lambda _: hearing.cancel())
    try:
        await asyncio.wait([hearing])
    finally:
        hearing.cancel()
        await asyncio.wait([hearing, keeping])
    return await keeping


def _coming(came: queue.SimpleQueue[tuple[T] | _End]) -> Iterator[T | None]:
    while True:
        try:
            one = came.get_nowait()
        except queue.Empty:
            yield None
            one = came.get()
        if isinstance(one, _End):
            break
        yield one[0]
    if one.error is not None:
        raise one.error
