"""What the HTTP faces share: problem documents, bodies with limits, TLS, listening, stopping.

Every refusal is a problem document (RFC 9457) made by `problem`; nothing of an error's inside goes out. A fault
that nobody expected is `internal` with a correlation id, under which the log has its place in the code and
nothing of what was sent (T36, T39).
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import gc
import re
import resource
import secrets
import signal
import socket
import traceback
from collections.abc import Awaitable, Callable, MutableMapping
from typing import TYPE_CHECKING, Any, NamedTuple

import msgspec
import structlog
from granian._granian import SocketHolder  # the one way to hand granian a socket that is bound already
from granian.constants import HTTPModes, Interfaces, SSLProtocols
from granian.http import HTTP1Settings
from granian.server.embed import Server

from volact import certificate as certificates
from volact.protocol.problems import BrokenData, Refusal, UsageError, VolactError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]

MAX_BODY = 1024 * 1024
BODY_SECONDS = 5.0
HEAD_SECONDS = 10.0
"""Seconds in which a request's head must come, or the next request on a connection that is kept (T20)."""
PIECE = 64 * 1024
"""Bytes of a large answer that are handed over at once."""
SEND_SECONDS = 10.0
SLOWEST = 64 * 1024
"""A large answer is taken within SEND_SECONDS and a second for every so many bytes, or not at all (T20)."""
MOST_CONNECTIONS = 8_192
"""Connections that are served at once; the next ones wait to be accepted."""
_OTHER_FILES = 256
LINGER = 5.0
"""Seconds for which a service answers on a port that it has moved away from."""
_BACKLOG = 1024
_MAX_PORT = 65535
_LENGTH_DIGITS = 10
_COLLECT_AT = 20_000, 20, 20

_log = structlog.get_logger()
_encode = msgspec.json.Encoder().encode

JSON_HEADERS = [(b"content-type", b"application/json"), (b"cache-control", b"no-store")]
_AGAIN_AFTER = {"busy": 5, "storage-unavailable": 30}
"""Seconds after which it is worth asking again, where the refusal itself does not say when (T20, F5, F6)."""
_PROBLEM_HEADERS = [(b"content-type", b"application/problem+json"), (b"cache-control", b"no-store")]


class Response(NamedTuple):
    """A status, headers and a body."""

    status: int
    headers: list[tuple[bytes, bytes]]
    body: bytes

    async def send(self, send: Send) -> None:
        """Send it as the answer of an ASGI call; a large body as fast as the caller takes it, and no slower than it must.

        Raises:
            TimeoutError: if a large one is not taken at `SLOWEST` bytes a second; the connection is at its end then.
        """
        length = (b"content-length", str(len(self.body)).encode("ascii"))
        await send({"type": "http.response.start", "status": self.status, "headers": [*self.headers, length]})
        at, body = 0, memoryview(self.body)
        if len(body) > PIECE:
            # The server keeps a piece of it, not a copy of the whole, for each caller who is slow to read.
            loop = asyncio.get_running_loop()
            until = loop.time() + SEND_SECONDS
            while len(body) - at > PIECE:
                async with asyncio.timeout_at(until + at / SLOWEST):
                    piece = bytes(body[at : at + PIECE])
                    await send({"type": "http.response.body", "body": piece, "more_body": True})
                at += PIECE
        await send({"type": "http.response.body", "body": self.body[at:]})


def json_answer(body: bytes) -> Response:
    """A 200 with JSON that was made already."""
    return Response(200, JSON_HEADERS, body)


def status_list(known: str, etag: str, content: bytes) -> Response:
    """A status list, or 304 if its `etag` is among those that are `known` by ``If-None-Match`` (RFC 9110, 13.1.2)."""
    headers = [(b"etag", etag.encode("ascii")), (b"cache-control", b"no-cache")]
    if etag in {tag.strip().removeprefix("W/") for tag in known.split(",")}:
        return Response(304, headers, b"")
    return Response(200, [(b"content-type", b"application/octet-stream"), *headers], content)


def problem(refusal: Refusal) -> Response:
    """The problem document of a refusal, with `Retry-After` where it says when, or where it passes by itself."""
    headers = list(_PROBLEM_HEADERS)
    retry_after = dict(refusal.extra).get("retry_after", _AGAIN_AFTER.get(refusal.code))
    if retry_after is not None:
        headers.append((b"retry-after", str(retry_after).encode("ascii")))
    if refusal.code == "method-not-allowed":
        headers.append((b"allow", str(dict(refusal.extra).get("allow", "GET")).encode("ascii")))
    return Response(refusal.problem.status, headers, problem_bytes(refusal))


def problem_bytes(refusal: Refusal) -> bytes:
    """The problem document alone, for an array of answers."""
    return _encode(refusal.document())


def refusal_of(error: BaseException) -> Refusal:
    """What an error is to the caller; one that nobody expected is logged under a correlation id."""
    if isinstance(error, VolactError):
        if error.exit_code == BrokenData.exit_code:
            _log.error("store", code=error.refusal.code)
        return error.refusal
    correlation = secrets.token_hex(8)
    # Types and places only: messages and values may hold what was sent.
    places = [
        f"{frame.filename}:{frame.lineno} {frame.name}" for frame in traceback.extract_tb(error.__traceback__)
    ]
    _log.error("internal", correlation=correlation, error=type(error).__name__, at=places[-8:])
    return Refusal("internal", f"Correlation id {correlation}.", (("correlation", correlation),))


def header(scope: Scope, wanted: bytes) -> str:
    """A header's value; empty if it is not there."""
    for name, value in scope["headers"]:
        if name == wanted:
            return str(value, "latin-1")
    return ""


def _announced(scope: Scope) -> int:
    """How many bytes the body has by its Content-Length; -1 if that is not said."""
    for name, value in scope["headers"]:
        if name == b"content-length" and len(value) <= _LENGTH_DIGITS and value.isdigit():
            return int(value)
    return -1


async def read_body(
    scope: Scope, receive: Receive, *, limit: int = MAX_BODY, seconds: float = BODY_SECONDS
) -> bytes | Refusal:
    """The body of a request: at most `limit` bytes, whole within `seconds`."""
    task = asyncio.current_task()
    late = False

    def give_up() -> None:
        nonlocal late
        late = True
        if task:
            task.cancel()

    # A bare timer: asyncio.timeout costs four times as much, on every request.
    timer = asyncio.get_running_loop().call_later(seconds, give_up)
    try:
        message = await receive()
        parts: list[bytes] = [message.get("body", b"")]
        length, announced = len(parts[0]), _announced(scope)
        # The server says only in a message of its own that nothing more comes; waiting for it costs a fifth of an
        # empty request.
        while message.get("more_body") and length != announced and length <= limit:
            message = await receive()
            parts.append(message.get("body", b""))
            length += len(parts[-1])
    except asyncio.CancelledError:
        if not late:
            raise
        if task:
            task.uncancel()
        return Refusal("request-malformed", f"The body did not arrive within {seconds:.0f} seconds.")
    finally:
        timer.cancel()
    if length > limit:
        return Refusal("body-too-large", f"A body has at most {limit} bytes.")
    return b"".join(parts)


def listen_on(text: str) -> tuple[str, int]:
    """Read ``HOST:PORT`` or ``[IPv6]:PORT``; port 0 is a free one.

    Raises:
        UsageError: if it is neither.
    """
    host, colon, port = text.rpartition(":")
    host = host.removeprefix("[").removesuffix("]")
    if not colon or not host or not re.fullmatch(r"[0-9]{1,5}", port) or int(port) > _MAX_PORT:
        raise UsageError(f"{text[:100]!r} is no HOST:PORT to listen on.")
    return host, int(port)


def bind(host: str, port: int) -> socket.socket:
    """A listening socket, shared with nobody: a second program on the port is told, not mixed in.

    Raises:
        BrokenData: `port-taken`.
        UsageError: if the address is none of this machine, or not for this user.
    """
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        listener = socket.socket(family, kind, protocol)
    except (OSError, UnicodeError):
        raise UsageError(f"{host} is no address of this machine to listen on.") from None
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(address)
        listener.listen(_BACKLOG)
        listener.setblocking(False)
    except OSError as error:
        listener.close()
        where = f"Cannot listen on {host} port {port}: {error.strerror}."
        if error.errno == errno.EADDRINUSE:
            raise BrokenData(where, "port-taken") from None
        next_step = "Ports below 1024 are root's." if error.errno == errno.EACCES else "See --listen."
        raise UsageError(where, next_step) from None
    return listener


# What a caller may make us keep: a connection on which no head comes is ended, and buffers are no larger than what is
# ever sent here. HTTP/1.1 alone: before the server knows which version a caller speaks it would wait for ever.
_HTTP1 = HTTP1Settings(header_read_timeout=int(HEAD_SECONDS * 1000), max_buffer_size=32 * 1024)


def _most_connections() -> int:
    """How many connections are served at once: as many as the system lets the process open, some left for the rest."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = MOST_CONNECTIONS + _OTHER_FILES
    if soft < wanted and (hard == resource.RLIM_INFINITY or soft < hard):
        soft = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    return max(_OTHER_FILES, min(MOST_CONNECTIONS, soft - _OTHER_FILES))


class _Server(Server):
    """granian in this process, on a socket that is bound already."""

    def __init__(self, app: App, listener: socket.socket, certificate: Path | None, key: Path | None) -> None:
        super().__init__(
            app,
            interface=Interfaces.ASGINL,
            http=HTTPModes.http1,
            websockets=False,
            log_enabled=False,
            ssl_cert=certificate,
            ssl_key=key,
            ssl_protocol_min=SSLProtocols.tls12,
            backlog=_BACKLOG,
            backpressure=_most_connections(),
            http1_settings=_HTTP1,
        )
        self._listener = listener

    def _init_shared_socket(self) -> None:
        # It closes the descriptor at its end. granian's own types know neither the arguments nor the attribute.
        holder: Any = SocketHolder
        self._shd: Any = holder(self._listener.detach(), False, _BACKLOG)


def _rest_the_collector() -> None:
    """Keep the garbage collector off what was loaded: looking through it took 20 ms now and then, from every caller.

    Measured with 64 connections and the store on a memory file system: the 99th percentile fell from 57-70 to 41 ms.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(*_COLLECT_AT)


class _Running(NamedTuple):
    """A server that takes requests on a port, and the task that it runs in."""

    server: _Server
    serving: asyncio.Task[None]
    port: int


class Service:
    """An app that is served over TLS in this process; it can move to another socket while it runs, and back."""

    def __init__(self, app: App, certificate: Path | None = None, key: Path | None = None) -> None:
        """Serve `app` with a certificate; without one in the clear, which is for loopback listeners alone.

        Raises:
            BrokenData: if the certificate or its key cannot be used, as `certificate.check` says.
        """
        if certificate is not None and key is not None:
            certificates.check(certificate, key)
        self._app = app
        self._pair = certificate, key
        self._running: _Running | None = None
        self._lingering: dict[int, tuple[_Running, asyncio.TimerHandle]] = {}
        self._ending: dict[asyncio.Task[None], int] = {}
        self._stopping = asyncio.Event()

    async def listen(self, listener: socket.socket) -> None:
        """Take requests from `listener`, which is the service's from now on.

        A socket that was listened on before is served on for LINGER seconds, so that nobody who has just looked up
        its port is turned away; then what is in flight on it is finished.

        Raises:
            BrokenData: if the server cannot start; the one before goes on then.
        """
        port = int(listener.getsockname()[1])
        try:
            server = _Server(self._app, listener, *self._pair)
        except (OSError, ValueError):
            certificate, key = self._pair
            raise BrokenData(
                f"{certificate} and {key} are no certificate and its key.", "not-readable"
            ) from None
        started = asyncio.Event()
        server.on_startup(started.set)
        serving = asyncio.create_task(server.serve())
        start = asyncio.create_task(started.wait())
        await asyncio.wait((serving, start), return_when=asyncio.FIRST_COMPLETED)
        start.cancel()
        if not started.is_set():
            await serving
            raise BrokenData("The server did not start.", "internal")
        serving.add_done_callback(self._ended)
        self._use(_Running(server, serving, port))

    def return_to(self, port: int) -> bool:
        """Go back to a port that was moved away from and still lingers; False if none does there."""
        running, timer = self._lingering.get(port, (None, None))
        if running is None or timer is None or running.serving.done():
            return False
        timer.cancel()
        del self._lingering[port]
        self._use(running)
        return True

    def leaving(self) -> frozenset[int]:
        """The ports that were moved away from and are still this service's: nobody else can listen there yet."""
        return frozenset((*self._lingering, *self._ending.values()))

    def _use(self, running: _Running) -> None:
        before, self._running = self._running, running
        if before:
            timer = asyncio.get_running_loop().call_later(LINGER, self._leave, before.port)
            self._lingering[before.port] = before, timer

    def _leave(self, port: int) -> None:
        running, timer = self._lingering.pop(port)
        timer.cancel()
        ending = asyncio.create_task(_stop(running))
        self._ending[ending] = port
        ending.add_done_callback(self._ending.pop)

    def _ended(self, serving: asyncio.Task[None]) -> None:
        if self._running and self._running.serving is serving:
            self._stopping.set()

    @contextlib.contextmanager
    def _signals(self) -> Iterator[None]:
        """SIGTERM and SIGINT stop the service."""
        loop = asyncio.get_running_loop()
        numbers = (signal.SIGTERM, signal.SIGINT)
        for number in numbers:
            loop.add_signal_handler(number, self._stopping.set)
        try:
            yield
        finally:
            for number in numbers:
                loop.remove_signal_handler(number)

    async def run(self, listener: socket.socket, ready: Callable[[], Awaitable[None]]) -> None:
        """Serve from `listener` on until SIGTERM or SIGINT; then finish what is in flight.

        Raises:
            BrokenData: if it cannot start.
        """
        with self._signals():
            try:
                await self.listen(listener)
                _rest_the_collector()
                await ready()
                await self._stopping.wait()
            finally:
                await self.stop()

    async def until_stopping(self) -> None:
        """Wait until it is to stop, or has to: what is in flight is then still being finished."""
        await self._stopping.wait()

    async def stop(self) -> None:
        """Finish what is in flight, and take nothing more."""
        self._stopping.set()
        for port in list(self._lingering):
            self._leave(port)
        if self._running:
            await _stop(self._running)
        await asyncio.gather(*self._ending)


async def _stop(running: _Running) -> None:
    running.server.stop()  # type: ignore[no-untyped-call]
    with contextlib.suppress(asyncio.CancelledError):
        await running.serving


async def serve(
    app: App, listener: socket.socket, certificate: Path, key: Path, ready: Callable[[], Awaitable[None]]
) -> None:
    """Serve `app` over TLS until SIGTERM or SIGINT; then finish what is in flight.

    Raises:
        BrokenData: if the certificate or its key cannot be used, as `certificate.check` says.
    """
    await Service(app, certificate, key).run(listener, ready)


def log_to_stderr(level: str) -> None:
    """Write structured events to standard error, a line of JSON each; line breaks in values are escaped by JSON.

    Raises:
        UsageError: if there is no such level.
    """
    levels = {"debug": 10, "info": 20, "warning": 30, "error": 40}
    if level not in levels:
        raise UsageError(f"log_level must be one of {', '.join(levels)}.")
    structlog.configure(
        processors=[
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.JSONRenderer(),
        ],
        wrapper_class=structlog.make_filtering_bound_logger(levels[level]),
        logger_factory=structlog.PrintLoggerFactory(_stderr()),
        cache_logger_on_first_use=False,
    )


def _stderr() -> Any:  # noqa: ANN401 - a text file
    import sys  # noqa: PLC0415 - looked up when it is used: a test replaces it

    return sys.stderr
