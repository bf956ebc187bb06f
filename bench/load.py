"""The load generator: sends prepared bodies over kept or new connections and times every answer.

Runs as a process of its own on the core that the server does not use. Bodies are made beforehand (see
`prepare`), so that what is measured is the server. Traffic goes to loopback only, and ends with the bodies.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import ssl
import struct
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

_LENGTH = struct.Struct(">I")


def write_bodies(path: Path, bodies: list[bytes]) -> None:
    """Store bodies, each behind its length."""
    with path.open("wb") as file:
        for body in bodies:
            file.write(_LENGTH.pack(len(body)) + body)


def read_bodies(path: Path) -> list[bytes]:
    """What `write_bodies` stored."""
    data, at, bodies = path.read_bytes(), 0, []
    while at < len(data):
        (length,) = _LENGTH.unpack_from(data, at)
        bodies.append(data[at + _LENGTH.size : at + _LENGTH.size + length])
        at += _LENGTH.size + length
    return bodies


class Run:
    """One run: what is still to be sent, and what came back."""

    def __init__(self, bodies: list[bytes], seconds: float) -> None:
        """Send `bodies`, but begin none after `seconds`."""
        self._bodies: Iterator[bytes] = iter(bodies)
        self.deadline = time.perf_counter() + seconds
        self.latencies: list[float] = []
        self.statuses: dict[str, int] = {}
        self.answers: list[bytes] = []
        self.errors: list[str] = []

    def next_body(self) -> bytes | None:
        """The next body to send, or None when the run is over."""
        return next(self._bodies, None) if time.perf_counter() < self.deadline else None

    def answered(self, head: bytes, body: bytes, seconds: float) -> None:
        """Note an answer."""
        self.latencies.append(seconds)
        status = head[9:12].decode()
        self.statuses[status] = self.statuses.get(status, 0) + 1
        self.answers.append(body)


class Connection(asyncio.Protocol):
    """One connection that sends the next body as soon as an answer is whole."""

    def __init__(self, run: Run, head: bytes, *, once: bool, began: float) -> None:
        """Send requests that begin with `head`; `once`: one request, then close."""
        self.run, self._head, self._once, self._began = run, head, once, began
        self._transport: asyncio.Transport | None = None
        self._received = b""
        self._expected = 0
        self.closed = asyncio.get_running_loop().create_future()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Send the first body."""
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        self._send()

    def _send(self) -> None:
        body = self.run.next_body()
        assert self._transport
        if body is None:
            self._transport.close()
            return
        if not self._once:
            self._began = time.perf_counter()
        self._transport.write(self._head + str(len(body)).encode() + b"\r\n\r\n" + body)

    def data_received(self, data: bytes) -> None:
        """Collect an answer; when it is whole, note it and go on."""
        self._received += data
        if not self._expected:
            end = self._received.find(b"\r\n\r\n")
            if end < 0:
                return
            head = self._received[:end].lower()
            at = head.find(b"content-length:")
            length = int(head[at + 15 :].split(b"\r\n", 1)[0]) if at >= 0 else 0
            self._expected = end + 4 + length
        if len(self._received) >= self._expected:
            split = self._received.index(b"\r\n\r\n")
            answer = self._received[split + 4 : self._expected]
            self.run.answered(self._received[:split], answer, time.perf_counter() - self._began)
            self._received, self._expected = b"", 0
            assert self._transport
            if self._once:
                self._transport.close()
            else:
                self._send()

    def connection_lost(self, exc: Exception | None) -> None:
        """Say that the connection is over."""
        if exc is not None:
            self.run.errors.append(repr(exc))
        if not self.closed.done():
            self.closed.set_result(None)


async def drive(options: argparse.Namespace, bodies: list[bytes]) -> Run:
    """Run the load and say what came of it."""
    context = None
    if options.tls:
        context = ssl.create_default_context()
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    head = (
        f"POST {options.path} HTTP/1.1\r\nHost: localhost\r\nContent-Type: {options.content_type}\r\n"
        f"{'Connection: close' + chr(13) + chr(10) if options.new else ''}Content-Length: "
    ).encode()
    run = Run(bodies, options.seconds)
    loop = asyncio.get_running_loop()

    async def one() -> None:
        began = time.perf_counter()
        _, connection = await loop.create_connection(
            lambda: Connection(run, head, once=options.new, began=began),
            "127.0.0.1",
            options.port,
            ssl=context,
            server_hostname="localhost" if context else None,
        )
        await connection.closed

    async def worker() -> None:
        while True:
            await one()
            if not options.new or time.perf_counter() >= run.deadline or len(run.latencies) >= len(bodies):
                return

    await asyncio.gather(*(worker() for _ in range(options.connections)))
    return run


def main() -> None:
    """Drive a server as the arguments say and print what came of it as JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("bodies", type=Path)
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--path", required=True)
    parser.add_argument("--content-type", default="application/json")
    parser.add_argument("--connections", type=int, default=64)
    parser.add_argument("--seconds", type=float, default=20.0)
    parser.add_argument("--tls", action="store_true")
    parser.add_argument(
        "--new", action="store_true", help="a new connection for each request, full handshake"
    )
    parser.add_argument("--core", type=int, default=-1, help="the core to run on; -1: any")
    parser.add_argument("--answers", type=Path, help="where to store the answers' bodies")
    options = parser.parse_args()
    if options.core >= 0:
        os.sched_setaffinity(0, {options.core})
    bodies = read_bodies(options.bodies)
    began, cpu = time.perf_counter(), time.process_time()
    run = asyncio.run(drive(options, bodies))
    seconds = time.perf_counter() - began
    if options.answers:
        write_bodies(options.answers, run.answers)
    latencies = sorted(run.latencies) or [0.0]
    json.dump(
        {
            "requests": len(run.latencies),
            "seconds": round(seconds, 3),
            "per_second": round(len(run.latencies) / seconds, 1),
            "p50_ms": round(1000 * latencies[len(latencies) // 2], 2),
            "p99_ms": round(1000 * latencies[int(len(latencies) * 0.99)], 2),
            "max_ms": round(1000 * latencies[-1], 2),
            "statuses": run.statuses,
            "errors": run.errors[:5],
            "generator_cpu": round((time.process_time() - cpu) / seconds, 2),
        },
        sys.stdout,
    )


if __name__ == "__main__":
    main()
