"""Reading what a machine prints, and never more than an answer may hold (T26)."""

from __future__ import annotations

import asyncio
from typing import Protocol

from volact.protocol.problems import Refusal, Unreachable
from volact.vamt.collecting.targets import MOST_OUTPUT

_AT_ONCE = 32_768


class Reader(Protocol):
    """What bytes come out of: a channel, a pipe."""

    async def read(self, n: int = -1, /) -> bytes:
        """At most `n` bytes as soon as there are some; none at the end."""
        ...


async def both(out: Reader, err: Reader) -> tuple[bytes, bytes]:
    """All of two streams, read side by side, so that neither waits for the other.

    Raises:
        Unreachable: `answer-too-long`, as soon as one of them is; the rest is left unread.
    """
    said, remarked = await asyncio.gather(_all(out), _all(err))
    return said, remarked


async def _all(reader: Reader) -> bytes:
    found = bytearray()
    while some := await reader.read(_AT_ONCE):
        found += some
        if len(found) > MOST_OUTPUT:
            raise Unreachable(Refusal("answer-too-long", f"More than {MOST_OUTPUT // 1024} KiB."))
    return bytes(found)
