"""Receives files that are too large for memory: on disk, within their limits, from who sends them fast enough (T20, T23)."""

from __future__ import annotations

import asyncio
import tempfile
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, BinaryIO, cast

from volact.protocol.problems import Refusal, Refused

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

PAUSE_SECONDS = 20.0
"""Seconds within which the next piece must come."""
SLOWEST = 64 * 1024
"""A file comes within PAUSE_SECONDS and a second for every so many bytes."""
_SPOOLED = 1024 * 1024


@asynccontextmanager
async def received(pieces: AsyncIterator[bytes], most: int) -> AsyncIterator[BinaryIO]:
    """A file of at most so many bytes, whole.

    Raises:
        Refused: `body-too-large`, or `request-malformed` if it comes too slowly.
    """
    loop = asyncio.get_running_loop()
    until, length = loop.time() + PAUSE_SECONDS, 0
    with tempfile.SpooledTemporaryFile(_SPOOLED) as file:
        left = aiter(pieces)
        while True:
            try:
                async with asyncio.timeout_at(until):
                    piece = await anext(left)
            except StopAsyncIteration:
                break
            except TimeoutError:
                raise Refused(Refusal("request-malformed", "The file came too slowly.")) from None
            length += len(piece)
            if length > most:
                raise Refused(Refusal("body-too-large", f"A file has at most {most} bytes."))
            until = min(until + len(piece) / SLOWEST, loop.time() + PAUSE_SECONDS)
            await asyncio.to_thread(file.write, piece)
        file.seek(0)
        yield cast("BinaryIO", file)
