"""The body of a request: how far it is read, by what was announced and what came."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from volact import http
from volact.protocol.problems import Refusal


def read(parts: list[bytes], *headers: tuple[bytes, bytes], limit: int = 16) -> tuple[bytes | Refusal, int]:
    """What is read of a body that comes in `parts` and then an empty one, and how many of these were asked for."""
    left = [*parts, b""]

    async def receive() -> dict[str, Any]:
        part = left.pop(0)
        return {"type": "http.request", "body": part, "more_body": bool(left)}

    async def run() -> bytes | Refusal:
        return await http.read_body({"headers": list(headers)}, receive, limit=limit)

    return asyncio.run(run()), len(parts) + 1 - len(left)


@pytest.mark.parametrize(
    ("announced", "asked"),
    [
        (b"5", 3),  # less than came: what comes is read
        (b"6", 2),  # all: nothing more is waited for
        (b"7", 3),
        (b"-6", 3),
        (b"six", 3),
        (b"", 3),
        (b"6" * 5000, 3),
    ],
)
def test_a_body_ends_where_it_was_announced_to_end(announced: bytes, asked: int) -> None:
    headers = (b"accept", b"6"), (b"content-length", announced)
    assert read([b"abc", b"def"], *headers) == (b"abcdef", asked)


def test_a_body_of_no_announced_length_ends_where_the_server_says() -> None:
    assert read([b"abc", b"def"]) == (b"abcdef", 3)


@pytest.mark.parametrize(("length", "large"), [(15, False), (16, False), (17, True)])
@pytest.mark.parametrize("told", [True, False])
def test_the_limit_holds_whatever_was_announced(length: int, large: bool, told: bool) -> None:
    headers = [(b"content-length", b"%d" % length)] if told else []
    body, _ = read([b"x" * length], *headers)
    assert isinstance(body, Refusal) == large
    if isinstance(body, Refusal):
        assert body.code == "body-too-large"
