"""How an answer is sent: a large one in pieces, as fast as the caller takes it and no slower than it must (T20)."""

import asyncio
from collections.abc import Awaitable
from typing import Any

import pytest

from volact import http
from volact.http import PIECE, Response


def sent(body: bytes, taken: Awaitable[None] | None = None) -> list[dict[str, Any]]:
    """The messages that a caller takes at once, or after the second never."""
    messages: list[dict[str, Any]] = []

    async def send(message: Any) -> None:
        if taken is not None and len(messages) > 2:
            await taken
        messages.append(message)

    asyncio.run(Response(200, [(b"etag", b"1")], body).send(send))
    return messages


@pytest.mark.parametrize("length", [0, 1, PIECE - 1, PIECE, PIECE + 1, 2 * PIECE, 2 * PIECE + 1])
def test_every_length_arrives_whole_in_pieces_that_are_no_larger_than_one(length: int) -> None:
    body = bytes(range(256)) * (length // 256) + b"x" * (length % 256)
    start, *pieces = sent(body)
    assert start["headers"] == [(b"etag", b"1"), (b"content-length", str(length).encode())]
    assert b"".join(one["body"] for one in pieces) == body
    assert len(pieces) == max(1, -(-length // PIECE))
    assert [bool(one.get("more_body")) for one in pieces] == [True] * (len(pieces) - 1) + [False]


@pytest.mark.parametrize(("seconds", "slowest"), [(0.05, 1 << 40), (0.0, 1 << 21)])
def test_who_stops_reading_is_not_waited_for(
    seconds: float, slowest: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(http, "SEND_SECONDS", seconds)
    monkeypatch.setattr(http, "SLOWEST", slowest)

    async def never() -> None:
        await asyncio.Event().wait()

    with pytest.raises(TimeoutError):
        sent(b"x" * 8 * PIECE, never())
