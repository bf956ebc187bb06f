"""Drives a host with signed check-ins over many connections and times every answer.

HTTP/1.1 by hand: a generator of load has to be cheaper than the server that it measures. Traffic goes to the one
given address and ends with the check-ins.
"""

from __future__ import annotations

import asyncio
import contextlib
import ssl
import time
from collections import deque
from typing import TYPE_CHECKING, NamedTuple

from volact.calls import spki_digest
from volact.lab.wire import LEASES_PATH

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from volact.client.address import Address
    from volact.lab.machines import Checkin

_BLANK_LINE = b"\r\n\r\n"
_LENGTH = b"content-length:"
TIMEOUT = 30.0
"""Seconds after which an answer is given up."""
_LOOK_EVERY = 0.2
_MOST_REFUSED = 3
"""Connections in a row that may not come about before a worker gives up."""
_MOST_REASONS = 5


class Drive(NamedTuple):
    """How to send check-ins.

    Attributes:
        address: the host.
        tls: digests of its keys; a connection of another gets nothing.
        connections: how many at once.
        new_connections: whether each check-in has a connection of its own (a full handshake).
        attempts: how often a check-in is sent, in all, whose answer was lost.
    """

    address: Address
    tls: tuple[str, ...]
    connections: int
    new_connections: bool = False
    attempts: int = 2


class Answered(NamedTuple):
    """An answer: to which check-in, its HTTP status, its body, and how long it took (s)."""

    checkin: Checkin
    status: int
    body: bytes
    seconds: float


class Leg:
    """Check-ins that are sent under one nonce, and what came back.

    Attributes:
        answers: what was answered, in order.
        failed: check-ins that got no answer; those that were never sent are not among them.
        reasons: why answers were lost, the first few; those that a second attempt got are among them.
        seconds: from the first to the last.
    """

    def __init__(self, checkins: Sequence[Checkin], attempts: int, deadline: float) -> None:
        """Send `checkins`, but begin none after `deadline` (`time.perf_counter`)."""
        self._waiting = deque((checkin, attempts) for checkin in checkins)
        self._deadline = deadline
        self.answers: list[Answered] = []
        self.failed: list[Checkin] = []
        self.reasons: list[str] = []
        self.seconds = 0.0

    def next(self) -> tuple[Checkin, int] | None:
        """The next check-in to send and how many attempts it has; None when the leg is over."""
        if not self._waiting or time.perf_counter() >= self._deadline:
            return None
        return self._waiting.popleft()

    def has_more(self) -> bool:
        """Whether something is left to send."""
        return bool(self._waiting) and time.perf_counter() < self._deadline

    def lost(self, checkin: Checkin, attempts: int, reason: str) -> None:
        """Note that no answer came; it is asked for again while attempts are left (same bytes, PROTOCOL section 6)."""
        self.remark(reason)
        if attempts > 1:
            self._waiting.append((checkin, attempts - 1))
        else:
            self.failed.append(checkin)

    def unsent(self) -> list[Checkin]:
        """What was never sent, or is to be sent once more, when the leg was over."""
        return [checkin for checkin, _ in self._waiting]

    def remark(self, reason: str) -> None:
        """Keep the first few reasons."""
        if len(self.reasons) < _MOST_REASONS:
            self.reasons.append(reason)


class _Connection(asyncio.Protocol):
    """One connection that sends the next check-in as soon as an answer is whole."""

    def __init__(self, leg: Leg, drive: Drive, known: dict[bytes, bool], began: float) -> None:
        self._leg, self._drive, self._known = leg, drive, known
        self._began = began
        close = "Connection: close\r\n" if drive.new_connections else ""
        self._head = (
            f"POST {LEASES_PATH} HTTP/1.1\r\nHost: {drive.address}\r\nContent-Type: application/json\r\n"
            f"{close}Content-Length: "
        ).encode()
        self._transport: asyncio.Transport | None = None
        self._received = b""
        self._expected = 0
        self._sent: tuple[Checkin, int] | None = None
        self.worked = False
        self.untrusted = False
        self.closed: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Compare the key, then send the first check-in."""
        assert isinstance(transport, asyncio.Transport)  # noqa: S101 - what asyncio gives a Protocol
        self._transport = transport
        certificate = _certificate(transport.get_extra_info("ssl_object"))
        if certificate not in self._known:
            self._known[certificate] = bool(certificate) and spki_digest(certificate) in self._drive.tls
        if not self._known[certificate]:
            self.untrusted = True
            transport.close()
            return
        self._send()

    def _send(self) -> None:
        self._sent = self._leg.next()
        transport = self._transport
        if transport is None:
            return
        if self._sent is None:
            transport.close()
            return
        if not self._drive.new_connections:
            self._began = time.perf_counter()
        body = self._sent[0].body
        transport.write(self._head + str(len(body)).encode() + _BLANK_LINE + body)

    def data_received(self, data: bytes) -> None:
        """Collect an answer; when it is whole, note it and go on."""
        self._received += data
        if not self._expected and not self._read_head():
            return
        if self._sent is None or len(self._received) < self._expected:
            return
        taken = time.perf_counter() - self._began
        split = self._received.index(_BLANK_LINE) + len(_BLANK_LINE)
        body, status = self._received[split : self._expected], int(self._received[9:12])
        self._leg.answers.append(Answered(self._sent[0], status, body, taken))
        self.worked = True
        self._received, self._expected, self._sent = b"", 0, None
        if self._drive.new_connections and self._transport:
            self._transport.close()
        else:
            self._send()

    def _read_head(self) -> bool:
        end = self._received.find(_BLANK_LINE)
        if end < 0:
            return False
        head = self._received[:end].lower()
        at = head.find(_LENGTH)
        if at < 0 or not head[9:12].isdigit():
            self.abort("an answer without a length")
            return False
        self._expected = end + len(_BLANK_LINE) + int(head[at + len(_LENGTH) :].split(b"\r\n", 1)[0])
        return True

    def look(self, now: float) -> None:
        """Give an answer up that takes too long."""
        if self._sent is not None and now - self._began > TIMEOUT:
            self.abort(f"no answer within {TIMEOUT:g} seconds")

    def abort(self, reason: str) -> None:
        """End the connection; what was on its way is lost."""
        if self._sent is not None:
            self._leg.lost(*self._sent, reason)
            self._sent = None
        if self._transport:
            self._transport.abort()

    def connection_lost(self, exc: Exception | None) -> None:
        """Say that the connection is over, and what was lost with it."""
        if self._sent is not None:
            self._leg.lost(*self._sent, str(exc or "the connection was closed before the answer"))
            self._sent = None
        if not self.closed.done():
            self.closed.set_result(None)


def _certificate(tls: ssl.SSLObject | None) -> bytes:
    return (tls.getpeercert(binary_form=True) if tls else None) or b""


def _context() -> ssl.SSLContext:
    """Names and dates of a self-made certificate say nothing; its key is compared."""
    made = ssl.create_default_context()
    made.minimum_version = ssl.TLSVersion.TLSv1_2
    made.check_hostname = False
    made.verify_mode = ssl.CERT_NONE
    return made


async def send(
    checkins: Sequence[Checkin],
    drive: Drive,
    deadline: float,
    progress: Callable[[int], None] = lambda _done: None,
) -> Leg:
    """Send check-ins as `drive` says and answer what came of it; `progress` is told how many are answered."""
    leg = Leg(checkins, drive.attempts, deadline)
    began = time.perf_counter()
    alive: set[_Connection] = set()
    watch = asyncio.create_task(_watch(alive, leg, progress))
    workers = min(drive.connections, len(checkins))
    try:
        tls = _context()
        known: dict[bytes, bool] = {}
        await asyncio.gather(*(_worker(leg, drive, tls, known, alive) for _ in range(workers)))
    finally:
        watch.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await watch
    leg.seconds = time.perf_counter() - began
    progress(len(leg.answers))
    return leg


async def _watch(alive: set[_Connection], leg: Leg, progress: Callable[[int], None]) -> None:
    while True:
        await asyncio.sleep(_LOOK_EVERY)
        now = time.perf_counter()
        for connection in list(alive):
            connection.look(now)
        progress(len(leg.answers))


async def _worker(
    leg: Leg, drive: Drive, tls: ssl.SSLContext, known: dict[bytes, bool], alive: set[_Connection]
) -> None:
    """Keep one connection going until nothing is left to send, or the host cannot be reached."""
    loop = asyncio.get_running_loop()
    in_a_row = 0
    while leg.has_more() and in_a_row < _MOST_REFUSED:
        began = time.perf_counter()
        try:
            _, connection = await asyncio.wait_for(
                loop.create_connection(
                    lambda began=began: _Connection(leg, drive, known, began),  # type: ignore[misc]  # bound now
                    drive.address.name,
                    drive.address.port,
                    ssl=tls,
                    server_hostname=drive.address.name,
                ),
                TIMEOUT,
            )
        except (OSError, TimeoutError) as error:
            leg.remark(str(error) or type(error).__name__)
            in_a_row += 1
            continue
        alive.add(connection)
        await connection.closed
        alive.discard(connection)
        if connection.untrusted:
            leg.remark("host-untrusted: the connection's key is not in the host's document")
        in_a_row = 0 if connection.worked else in_a_row + 1
