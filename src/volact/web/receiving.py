"""Receives the forms that strangers send, at a least speed and of each source no more than its share (T20).

- Who sends too slowly is let go, so nobody keeps a connection busy with a few bytes; what was sent fast earns no
  pause later.
- While a form comes it takes nobody's place at work, only memory. When that is used up, the source gives way that
  holds most: others cannot be shut out by a few.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Self

from volact import http
from volact.protocol.problems import Refusal

if TYPE_CHECKING:
    from volact.http import Receive, Scope

MAX_BODY = 8 * 1024 * 1024
PAUSE_SECONDS = 5.0
SLOWEST = 64 * 1024
"""A form comes within PAUSE_SECONDS and a second for every so many bytes."""
MOST_HELD, MOST_HELD_OF_ONE = 16 * MAX_BODY, 4 * MAX_BODY
"""Bytes of forms that are held at once, in all and of one source."""


class Pace:
    """Until when the next bytes must come, in seconds of any clock that only goes on."""

    def __init__(self, now: float) -> None:
        """Begin now."""
        self.until = now + PAUSE_SECONDS

    def came(self, length: int, now: float) -> None:
        """So many bytes have come now."""
        self.until = min(self.until + length / SLOWEST, now + PAUSE_SECONDS)


class Bodies:
    """What is held of all forms."""

    def __init__(self) -> None:
        """Hold nothing yet."""
        self._held: dict[str, int] = {}
        self._all = 0

    def of(self, source: str) -> Body:
        """A form that `source` begins to send."""
        return Body(self, source)

    def take(self, source: str, length: int) -> bool:
        """Hold so many bytes more (or fewer) of a source; False if it holds too much now."""
        held = self._held.pop(source, 0) + length
        if held:
            self._held[source] = held
        self._all += length
        return held <= MOST_HELD_OF_ONE and (self._all <= MOST_HELD or held < max(self._held.values()))


class Body:
    """A form on its way; use as a context: at its end nothing of it is held any more."""

    def __init__(self, bodies: Bodies, source: str) -> None:
        """Count it with the others of `source`."""
        self._bodies = bodies
        self._source = source
        self._length = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._bodies.take(self._source, -self._length)

    async def read(self, scope: Scope, receive: Receive) -> bytes | Refusal:
        """The whole of it: `busy` if its source holds too much, `request-malformed` if it comes too slowly."""
        loop = asyncio.get_running_loop()
        pace, too_much = Pace(loop.time()), False

        async def paced() -> dict[str, object]:
            nonlocal too_much
            async with asyncio.timeout_at(pace.until):
                message = dict(await receive())
            length = len(message.get("body", b""))
            pace.came(length, loop.time())
            self._length += length
            if not self._bodies.take(self._source, length):
                too_much = True
                return {"body": b""}
            return message

        longest = PAUSE_SECONDS + MAX_BODY / SLOWEST
        try:
            body = await http.read_body(scope, paced, limit=MAX_BODY, seconds=longest)
        except TimeoutError:
            return Refusal(
                "request-malformed", f"The form came more slowly than {SLOWEST // 1024} KB a second."
            )
        return Refusal("busy", "Too much is being sent at once.") if too_much else body
