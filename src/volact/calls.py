"""The HTTP APIs as Python calls: one connection, JSON out, JSON in, TLS by the peer's own key (DESIGN section 2).

Licence trust rests on signatures and never on TLS; the connection's key is compared so that what a machine
reveals about itself reaches nobody but the one who is meant. Where a product names no key of its authority, the
system's CAs decide. A KMS host's key is compared with its signed host document, which comes over the connection
itself: `HostCaller` says whose key it is, and takes no other from then on (PROTOCOL section 6).
"""

from __future__ import annotations

import contextlib
import hashlib
import http.client
import json
import os
import socket
import ssl
import threading
import time
from typing import TYPE_CHECKING, Any, NamedTuple, Self
from urllib.parse import urlsplit

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization

from volact.protocol import ids, trust
from volact.protocol.problems import DocumentRefused, Refusal, Unreachable

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

TIMEOUT = 10.0
"""Seconds for connecting and for each read."""
WHOLE = 120.0
"""Seconds for a whole answer, so that one who sends a byte a second holds nobody for long."""
MAX_ANSWER = 65 * 1024 * 1024
"""The largest is a status list: its body of at most 64 MiB, and its head."""
HOST_CONNECT, HOST_READ, HOST_WHOLE = 3.0, 5.0, 8.0
"""The same for a KMS host: a dead one is passed over within 3 s (D3)."""
HOST_TRY = 15.0
"""Seconds for all that one try asks a KMS host, over all its addresses: it ends within the 20 s that another command
of the machine waits. Only the lookup of a name is the system's own, and lasts as long as that lets it."""
_JSON = "application/json"


class Answer(NamedTuple):
    """What came back: an HTTP status, the headers in lower case, and the body."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    def bundle(self) -> dict[str, Any]:
        """The body as a bundle or, from a refusing server, a problem document."""
        try:
            return trust.read_bundle(self.body)
        except DocumentRefused as error:
            raise Unreachable(
                Refusal("answer-nonsense", f"Status {self.status}: {error.refusal.detail}.")
            ) from None


def spki_digest(certificate: bytes) -> str:
    """SHA-256 of the subject public key info of a DER certificate, 43 characters."""
    key = x509.load_der_x509_certificate(certificate).public_key()
    spki = key.public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)
    return ids.b64u(hashlib.sha256(spki).digest())


def problem_of(body: Mapping[str, Any]) -> Refusal | None:
    """The refusal in a problem document, or None if it is none. An unknown code is kept as it is, for people."""
    code, detail = body.get("code"), body.get("detail", "")
    if not isinstance(code, str) or "title" not in body:
        return None
    if detail == body["title"]:
        detail = ""  # the sentence of the code, which is said anyhow
    usual = {"type", "title", "status", "detail", "code", "next"}
    extra = tuple((name, value) for name, value in body.items() if name not in usual)
    return Refusal.received(code, str(detail), str(body["title"]), extra)


class _Connection:
    """One TLS connection to one server, opened at the first call and kept; whose key it has is compared each time.

    `_pins` are the SPKI digests that are taken; with none, the system's CAs decide or, for a host, nobody yet.
    """

    _unreachable, _untrusted, _not_named = "authority-unreachable", "authority-untrusted", "the product"
    _answer_limit = MAX_ANSWER

    def __init__(self, host: str, port: int, *, connect: float, read: float, whole: float) -> None:
        self._host, self._port = host, port
        self._prefix = ""
        self._pins: tuple[str, ...] = ()
        self._connect, self._read, self._whole = connect, read, whole
        self._connection: http.client.HTTPSConnection | None = None
        self._until: float | None = None  # monotonic; None for a connection that is kept for long

    def __enter__(self) -> Self:
        """Use as a context: the connection is closed at its end."""
        return self

    def __exit__(self, *_: object) -> None:
        """Close the connection."""
        self.close()

    def close(self) -> None:
        """Close the connection, if one is open."""
        if self._connection:
            self._connection.close()
            self._connection = None

    def post(self, path: str, body: Mapping[str, Any]) -> Answer:
        """POST `body` as JSON.

        Raises:
            Unreachable: if nobody answers, or somebody else.
        """
        data = json.dumps(body, ensure_ascii=False, separators=(",", ":")).encode()
        return self._call("POST", path, data, {"Content-Type": _JSON})

    def get(self, path: str, headers: Mapping[str, str] | None = None) -> Answer:
        """GET `path`.

        Raises:
            Unreachable: if nobody answers, or somebody else.
        """
        return self._call("GET", path, None, dict(headers or {}))

    def _call(self, method: str, path: str, data: bytes | None, headers: dict[str, str]) -> Answer:
        cut = threading.Event()
        whole = self._whole
        try:
            connection = self._connected(cut)
            whole = self._within(whole)
            with _cut_after(whole, connection.sock, cut):
                connection.request(method, self._prefix + path, data, headers)
                response = connection.getresponse()
                body = response.read(self._answer_limit + 1)
            if response.length and len(body) <= self._answer_limit:
                raise http.client.IncompleteRead(body, response.length)
        except (OSError, UnicodeError, http.client.HTTPException) as error:  # Unicode: a name that is none
            self.close()
            reason = str(error) or type(error).__name__
            if cut.is_set():
                reason = f"no whole answer within {whole:.3g} seconds"
            raise Unreachable(
                Refusal(self._unreachable, f"{self._host} port {self._port}: {reason}.")
            ) from None
        if len(body) > self._answer_limit:
            self.close()
            raise Unreachable(Refusal("answer-nonsense", f"More than {self._answer_limit} bytes."))
        named = {name.lower(): value for name, value in response.getheaders()}
        return Answer(response.status, named, body)

    def _within(self, most: float) -> float:
        """`most` seconds, or what is left of the time for everything.

        Raises:
            TimeoutError: if nothing is left.
        """
        left = most if self._until is None else min(most, self._until - time.monotonic())
        if left <= 0:
            raise TimeoutError("no time is left for it")
        return left

    def _connected(self, cut: threading.Event) -> http.client.HTTPSConnection:
        if self._connection is not None and self._connection.sock is None:
            self._connection = None  # the server closed it after its answer
        if self._connection is None:
            context = self._context()
            connection = http.client.HTTPSConnection(self._host, self._port, context=context)
            connection.auto_open = 0  # nothing is sent on a connection whose key was not compared
            self._connection = connection  # so that `close` finds it, whatever fails
            with (
                _closed_if_it_fails(self._opened()) as plain,
                _cut_after(self._within(self._whole), plain, cut),
            ):
                connection.sock = context.wrap_socket(plain, server_hostname=self._host)
            connection.sock.settimeout(self._read)
            self._look_at_key(connection.sock)
        return self._connection

    def _opened(self) -> socket.socket:
        """A socket that is connected to the first of the host's addresses that answers."""
        failure = OSError("The name has no address")
        for family, kind, protocol, _, address in socket.getaddrinfo(
            self._host, self._port, type=socket.SOCK_STREAM
        ):
            try:
                with _closed_if_it_fails(socket.socket(family, kind, protocol)) as sock:
                    sock.settimeout(self._within(self._connect))
                    sock.connect(address)
                    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                return sock
            except OSError as error:
                failure = error
        raise failure

    def _context(self) -> ssl.SSLContext:
        return _context(by_key=bool(self._pins))

    def _look_at_key(self, sock: socket.socket) -> None:
        if self._pins:
            self._compare(_key_of(sock))

    def _compare(self, key: str) -> None:
        if key not in self._pins:
            self.close()
            where = f"{self._host} port {self._port}"
            raise Unreachable(
                Refusal(self._untrusted, f"{where} has a key that {self._not_named} does not name.")
            )


class Caller(_Connection):
    """A connection to the authority."""

    def __init__(
        self, url: str, pins: Sequence[str] = (), *, timeout: float = TIMEOUT, whole: float = WHOLE
    ) -> None:
        """Call the server at `url`, whose public key must be one of `pins` (SPKI digests) if there are any.

        Raises:
            Unreachable: if the address is none.
        """
        parts = urlsplit(url)
        try:
            port = parts.port
        except ValueError:
            port = -1
        if parts.scheme != "https" or not parts.hostname or port == -1:
            raise Unreachable(Refusal(self._unreachable, f"{url[:200]!r} is no https address."))
        super().__init__(parts.hostname, port or 443, connect=timeout, read=timeout, whole=whole)
        self._prefix = parts.path.rstrip("/")
        self._pins = tuple(pins)


class HostCaller(_Connection):
    """A connection to a KMS host: whoever answers, until `take_only` says which keys are its own.

    Attributes:
        key: SPKI digest of the peer's key, 43 characters; empty before the first call.
    """

    _unreachable, _untrusted, _not_named = "host-unreachable", "host-untrusted", "its host document"
    _answer_limit = trust.MAX_BUNDLE

    def __init__(
        self,
        host: str,
        port: int,
        *,
        connect: float = HOST_CONNECT,
        read: float = HOST_READ,
        whole: float = HOST_WHOLE,
        everything: float | None = None,
    ) -> None:
        """Call the host at `host` (a name or an address) and `port`; nothing is opened yet.

        `everything` is the time, seconds from now on, for whatever is asked on it; without it the connection may be
        kept.
        """
        super().__init__(host, port, connect=connect, read=read, whole=whole)
        self._until = None if everything is None else time.monotonic() + everything
        self.key = ""

    def take_only(self, pins: Sequence[str]) -> None:
        """From now on, also on a connection that is opened anew, only these keys are the host's.

        Raises:
            Unreachable: ``host-untrusted`` if the present connection's key is none of them.
        """
        self._pins = tuple(pins)
        self._compare(self.key)

    def _context(self) -> ssl.SSLContext:
        return _context(by_key=True)

    def _look_at_key(self, sock: socket.socket) -> None:
        self.key = _key_of(sock)
        super()._look_at_key(sock)


def for_one_try(host: str, port: int) -> HostCaller:
    """A caller for one try of a machine at its KMS host."""
    return HostCaller(host, port, everything=HOST_TRY)


@contextlib.contextmanager
def _closed_if_it_fails(sock: socket.socket) -> Iterator[socket.socket]:
    try:
        yield sock
    except BaseException:
        sock.close()
        raise


def _key_of(sock: socket.socket) -> str:
    certificate = sock.getpeercert(binary_form=True) if isinstance(sock, ssl.SSLSocket) else None
    try:
        return spki_digest(certificate) if certificate else ""
    except (ValueError, UnsupportedAlgorithm):
        return ""  # a certificate that nobody could name


@contextlib.contextmanager
def _cut_after(seconds: float, sock: socket.socket, cut: threading.Event) -> Iterator[None]:
    """Shut the connection down if the block takes longer; a timeout of the socket's own only bounds each read."""
    # A twin of the descriptor: TLS's own object is the reading thread's alone.
    twin = socket.socket(fileno=os.dup(sock.fileno()))

    def shut() -> None:
        cut.set()
        with contextlib.suppress(OSError):
            twin.shutdown(socket.SHUT_RDWR)

    timer = threading.Timer(seconds, shut)
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()
        timer.join()
        twin.close()


def _context(*, by_key: bool) -> ssl.SSLContext:
    context = ssl.create_default_context()
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    if by_key:
        # The key itself is compared after the handshake; names and dates of a self-made certificate say nothing.
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    return context
