"""Asking many, so many at once and no more; who stops listening stops the asking (V1, V2)."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Awaitable, Callable, Iterable

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
