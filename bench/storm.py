"""F36: machines that renew at an even pace while garbage and idle connections press on the same host.

Runs as a process of its own on the core that the host does not use, and prints what the machines met as JSON. The
pace is kept whatever the host does: a renewal's time is from the moment at which it was due, so that waiting counts.
Traffic goes to loopback only, and ends after the seconds that were asked for.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import os
import random
import ssl
import time
from pathlib import Path

from load import read_bodies

_RENEWING, _GARBAGING = 16, 32
_TIMEOUT = 10.0
_HELD = 10.0
"""Seconds for which the host bears a connection that says nothing."""


class Line:
    """One kept connection that posts one body after the other, and is opened again when the host hangs up."""

    def __init__(self, port: int, context: ssl.SSLContext) -> None:
        """Post to a host on this machine."""
        self._port, self._context = port, context
        self._streams: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None
        self.opened = 0

    async def open(self) -> None:
        """Connect, if it is not."""
        if self._streams is None:
            self._streams = await asyncio.open_connection(
                "127.0.0.1", self._port, ssl=self._context, server_hostname="localhost"
            )
            self.opened += 1

    async def hold(self) -> None:
        """Keep the connection without a word; open it again whenever the host has hung up."""
        try:
            while True:
                await self.open()
                assert self._streams
                with contextlib.suppress(OSError):
                    await self._streams[0].read(1)
                self.close()
        finally:
            self.close()

    async def post(self, body: bytes) -> int:
        """The status of the answer."""
        try:
            await self.open()
            assert self._streams
            reader, writer = self._streams
            head = f"POST /v1/leases HTTP/1.1\r\nHost: localhost\r\nContent-Length: {len(body)}\r\n\r\n"
            writer.write(head.encode() + body)
            answer = (await reader.readuntil(b"\r\n\r\n")).lower()
            length = int(answer.split(b"content-length:")[1].split(b"\r\n", 1)[0])
            await reader.readexactly(length)
            return int(answer[9:12])
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """Hang up."""
        if self._streams:
            self._streams[1].close()
            self._streams = None


def garbage(bodies: list[bytes], seed: int = 1) -> list[bytes]:
    """Equal parts of noise, JSON that is no check-in, dead nonces, and good nonces under a broken signature."""
    chance = random.Random(seed)
    found: list[bytes] = []
    for body in bodies[:200]:
        members = json.loads(body)
        head, payload, signature = members["token"].split(".")
        # Another payload than was signed: with the nonce in it, and with one that nobody gave.
        forged = {**members, "token": f"{head}.{payload}.{signature[::-1]}"}
        dead = {**members, "token": f"{head}.{payload[::-1]}.{signature}"}
        found += [
            chance.randbytes(1024),
            json.dumps({"token": "a.b.c", "jwk": {}, "x": [[]] * 50}).encode(),
            json.dumps(dead).encode(),
            json.dumps(forged).encode(),
        ]
    return found


class Storm:
    """The storm, and what came of it."""

    def __init__(self, options: argparse.Namespace, bodies: list[bytes]) -> None:
        """Renew with `bodies`, as the options say."""
        self._options, self._bodies = options, bodies
        self._context = ssl.create_default_context()
        self._context.check_hostname, self._context.verify_mode = False, ssl.CERT_NONE
        self.waits: list[float] = []
        self.reopened = self.renewed = self.thrown = self.failed = 0
        self.statuses: dict[int, int] = {}

    async def run(self) -> None:
        """Press, and renew meanwhile."""
        idle = [Line(self._options.port, self._context) for _ in range(self._options.idle)]
        holding = []
        for line in idle:
            # Evenly, so that the host does not hang up on all of them at once.
            holding.append(asyncio.create_task(line.hold()))
            await asyncio.sleep(_HELD / len(idle))
        began = time.perf_counter()
        await asyncio.gather(
            self._paced(self._options.garbage, _GARBAGING, self._throw, began),
            self._paced(self._options.renewals, _RENEWING, self._renew, began),
        )
        for task in holding:
            task.cancel()
        await asyncio.gather(*holding, return_exceptions=True)
        self.reopened = sum(line.opened - 1 for line in idle)

    async def _paced(self, rate: int, lines: int, work, began: float) -> None:  # noqa: ANN001
        """Do `work` `rate` times a second over some connections, each from the moment at which it is due."""
        total, numbers = int(rate * self._options.seconds), iter(range(10**9))

        async def worker() -> None:
            line = Line(self._options.port, self._context)
            while (number := next(numbers)) < total:
                due = began + number / rate
                await asyncio.sleep(max(0.0, due - time.perf_counter()))
                await work(line, number, due)
            line.close()

        await asyncio.gather(*(worker() for _ in range(lines)))

    async def _throw(self, line: Line, number: int, _due: float) -> None:
        try:
            status = await asyncio.wait_for(line.post(self._garbage[number % len(self._garbage)]), _TIMEOUT)
            self.statuses[status] = self.statuses.get(status, 0) + 1
        except (OSError, EOFError, TimeoutError):
            self.statuses[0] = self.statuses.get(0, 0) + 1
        self.thrown += 1

    async def _renew(self, line: Line, number: int, due: float) -> None:
        try:
            done = await asyncio.wait_for(line.post(self._bodies[number]), _TIMEOUT) == 200
        except (OSError, EOFError, TimeoutError):
            done = False
        self.renewed += done
        self.failed += not done
        self.waits.append(time.perf_counter() - due)

    @property
    def _garbage(self) -> list[bytes]:
        if not hasattr(self, "_made"):
            self._made = garbage(self._bodies)
        return self._made


def main() -> None:
    """Press on a host as the arguments say and print what came of it as JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("bodies", type=Path)
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--core", type=int, default=-1)
    parser.add_argument("--seconds", type=float, default=20)
    parser.add_argument("--garbage", type=int, default=2000, help="garbage requests a second")
    parser.add_argument("--idle", type=int, default=1000, help="idle connections")
    parser.add_argument("--renewals", type=int, default=100, help="renewals a second")
    options = parser.parse_args()
    if options.core >= 0:
        os.sched_setaffinity(0, {options.core})
    storm = Storm(options, read_bodies(options.bodies))
    began, cpu = time.perf_counter(), time.process_time()
    asyncio.run(storm.run())
    took = time.perf_counter() - began
    waits = sorted(storm.waits)
    print(
        json.dumps(
            {
                "seconds": round(took, 1),
                "renewals": storm.renewed + storm.failed,
                "renewed": storm.renewed,
                "p50_ms": round(waits[len(waits) // 2] * 1000, 1),
                "p99_ms": round(waits[int(len(waits) * 0.99)] * 1000, 1),
                "worst_ms": round(waits[-1] * 1000, 1),
                "idle_reopened": storm.reopened,
                "garbage": storm.thrown,
                "garbage_per_second": round(storm.thrown / options.seconds),
                "garbage_statuses": {str(code): many for code, many in sorted(storm.statuses.items())},
                "generator_core": round((time.process_time() - cpu) / took, 2),
            }
        )
    )


if __name__ == "__main__":
    main()
