"""The HTTP APIs as Python calls: one connection, JSON out, JSON in, TLS by the peer's own key (DESIGN section 2).

Licence trust rests on signatures and never on TLS; the connection's key is compared so that what a machine
reveals about itself reaches nobody but the one who is meant. Where a product names no key of its authority, the
system's CAs decide. A KMS host's key is compared with its signed host document, which comes over the connection
itself: `HostCaller` says whose key it is, and takes no other from then on (PROTOCOL section 6).

What only a real call needs is imported by it: most commands of a machine look at files alone.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import socket
import ssl
import threading
import time
from typing import TYPE_CHECKING, Any, NamedTuple, Self
from urllib.parse import urlsplit

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization

from volact.protocol import ids, trust
from volact.protocol.problems import DocumentRefused, Refusal, Unreachable

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from http.client import HTTPSConnection

    _SocketAddress = tuple[int, int, int, str, Any]
    """As `socket.getaddrinfo` gives them."""

TIMEOUT = 10.0
"""Seconds for connecting and for each read."""
WHOLE = 120.0
"""Seconds for a whole answer, so that one who sends a byte a second holds nobody for long."""
MAX_ANSWER = 65 * 1024 * 1024
"""The largest is a status list: its body of at most 64 MiB, and its head."""
HOST_CONNECT, HOST_READ, HOST_WHOLE = 3.0, 5.0, 8.0
"""The same for a KMS host: a dead one is passed over within 3 s (D3)."""
HOST_PROOF = 3.0
"""Seconds within which a host that DNS named must have proved itself, over all its addresses: others may follow."""
HOST_TRY = 30.0
"""Seconds for all that one try asks, over all hosts, addresses and connections: 8 dead hosts and a name server that is
down fit in (D3), and it ends within the 40 s that another command of the machine waits. The lookup of a name that was
set by hand is the system's own, and lasts as long as that lets it; the publisher's status list, from an authority that
has proved whose key it has, has its own time, for it may be large."""


def end_of_try() -> float:
    """When a try that begins now must be over, on the monotonic clock."""
    return time.monotonic() + HOST_TRY


_JSON = "application/json"


class Silent(Unreachable):
    """Nobody said a word: the time went by, or the connection ended. Who is overloaded does so, too."""


_SILENCE = (TimeoutError, ConnectionError, ssl.SSLEOFError)


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
    from cryptography import x509  # noqa: PLC0415

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
        self._connection: HTTPSConnection | None = None
        self._until: float | None = None  # monotonic; None for a connection that is kept for long
        self.ip = ""

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
        return self._call("POST", path, data, {"Content-Type": _JSON}, self._answer_limit)

    def get(self, path: str, headers: Mapping[str, str] | None = None, *, most: int | None = None) -> Answer:
        """GET `path`; `most` bytes of an answer where it may be a long one.

        Raises:
            Unreachable: if nobody answers, or somebody else.
        """
        return self._call("GET", path, None, dict(headers or {}), most or self._answer_limit)

    def _call(self, method: str, path: str, data: bytes | None, headers: dict[str, str], most: int) -> Answer:
        from http.client import HTTPException, IncompleteRead  # noqa: PLC0415

        cut = threading.Event()
        whole = self._whole
        try:
            connection = self._connected(cut)
            whole = whole if self._has_own_time(method) else self._within(whole)
            with _cut_after(whole, connection.sock, cut):
                connection.request(method, self._prefix + path, data, headers)
                response = connection.getresponse()
                body = response.read(most + 1)
            if response.length and len(body) <= most:
                raise IncompleteRead(body, response.length)
        except (OSError, UnicodeError, HTTPException) as error:  # Unicode: a name that is none
            self.close()
            reason = str(error) or type(error).__name__
            if cut.is_set():
                reason = f"no whole answer within {whole:.3g} seconds"
            kind = Silent if cut.is_set() or isinstance(error, _SILENCE) else Unreachable
            raise kind(Refusal(self._unreachable, f"{self._host} port {self._port}: {reason}.")) from None
        if len(body) > most:
            self.close()
            raise Unreachable(Refusal("answer-nonsense", f"More than {most} bytes."))
        named = {name.lower(): value for name, value in response.getheaders()}
        return Answer(response.status, named, body)

    def _has_own_time(self, _method: str) -> bool:
        """Whether an answer's time is not of that for everything, once the connection stands."""
        return False

    def _within(self, most: float) -> float:
        """`most` seconds, or what is left of the time for everything.

        Raises:
            TimeoutError: if nothing is left.
        """
        left = most if self._until is None else min(most, self._until - time.monotonic())
        if left <= 0:
            raise TimeoutError("no time is left for it")
        return left

    def _connected(self, cut: threading.Event) -> HTTPSConnection:
        from http.client import HTTPSConnection  # noqa: PLC0415

        if self._connection is not None and self._connection.sock is None:
            self._connection = None  # the server closed it after its answer
        if self._connection is None:
            context = self._context()
            connection = HTTPSConnection(self._host, self._port, context=context)
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
        found = self._addresses()
        for left, (family, kind, protocol, _, address) in zip(range(len(found), 0, -1), found, strict=True):
            try:
                with _closed_if_it_fails(socket.socket(family, kind, protocol)) as sock:
                    sock.settimeout(self._within(self._share(left)))
                    sock.connect(address)
                    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                self.ip = str(address[0])
                return sock
            except OSError as error:
                failure = error
        raise failure

    def _addresses(self) -> Sequence[_SocketAddress]:
        """The host's addresses, in the order in which they are tried."""
        return socket.getaddrinfo(self._host, self._port, type=socket.SOCK_STREAM)

    def _share(self, _left: int) -> float:
        """Seconds for connecting to the next of so many addresses that are left."""
        return self._connect

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
        self,
        url: str,
        pins: Sequence[str] = (),
        until: float | None = None,
        *,
        timeout: float = TIMEOUT,
        whole: float = WHOLE,
    ) -> None:
        """Call the server at `url`, whose public key must be one of `pins` (SPKI digests) if there are any.

        `until` is the end of the try, on the monotonic clock: of all but the body of a GET, the status list.

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
        self._until = until

    def _has_own_time(self, method: str) -> bool:
        return method == "GET"


class HostCaller(_Connection):
    """A connection to a KMS host: whoever answers, until `take_only` says which keys are its own.

    Attributes:
        key: SPKI digest of the peer's key, 43 characters; empty before the first call.
        ip: the address at which it answered, likewise.
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
        until: float | None = None,
        ips: Sequence[str] | None = None,
    ) -> None:
        """Call the host at `host` (a name or an address) and `port`; nothing is opened yet.

        `until` is the end, on the monotonic clock, of the time for whatever is asked on it; without it the connection
        may be kept. `ips` are the host's addresses as DNS gave them: then nobody else is asked for them, and the host
        has `HOST_PROOF` seconds until `take_only`.
        """
        super().__init__(host, port, connect=connect, read=read, whole=whole)
        self._proved_until = self._until = until
        self._ips = ips
        if ips is not None:
            proof = time.monotonic() + HOST_PROOF
            self._until = proof if until is None else min(proof, until)
        self.key = ""

    def take_only(self, pins: Sequence[str]) -> None:
        """From now on, also on a connection that is opened anew, only these keys are the host's.

        Raises:
            Unreachable: ``host-untrusted`` if the present connection's key is none of them.
        """
        self._pins = tuple(pins)
        self._compare(self.key)
        self._until = self._proved_until

    def _addresses(self) -> Sequence[_SocketAddress]:
        if self._ips is None:
            return super()._addresses()
        flags = socket.AI_NUMERICHOST
        return [
            one
            for ip in self._ips
            for one in socket.getaddrinfo(ip, self._port, type=socket.SOCK_STREAM, flags=flags)
        ]

    def _share(self, left: int) -> float:
        if self._ips is None or self._until is None:
            return super()._share(left)
        return min(self._connect, (self._until - time.monotonic()) / left)

    def _context(self) -> ssl.SSLContext:
        return _context(by_key=True)

    def _look_at_key(self, sock: socket.socket) -> None:
        self.key = _key_of(sock)
        super()._look_at_key(sock)


def for_one_try(host: str, port: int, until: float, ips: Sequence[str] | None = None) -> HostCaller:
    """A caller for one try of a machine at its KMS host, which ends at `until` on the monotonic clock."""
    return HostCaller(host, port, until=until, ips=ips)


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

    timer, end = threading.Timer(seconds, shut), time.monotonic() + seconds
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()
        timer.join()
        twin.close()
        if time.monotonic() >= end:
            cut.set()  # the socket's own time may end with this one, and its thread be first


def _context(*, by_key: bool) -> ssl.SSLContext:
    context = ssl.create_default_context()
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    if by_key:
        # The key itself is compared after the handshake; names and dates of a self-made certificate say nothing.
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    return context
