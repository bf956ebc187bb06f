"""A stand-in for WinRM, written from RIGS.md's note; there is no real one outside Windows.

    with WinRmStandIn({"SoftwareLicensingService": [{...}]}) as machine:
        machine.target, machine.login

NTLM is pyspnego's acceptor; messages are encrypted as MS-WSMV 2.2.9.1 has it, or go over TLS; enumerations are WS-Enumeration.
"""

import base64
import re
import ssl
import struct
import threading
import xml.etree.ElementTree as ET
from collections.abc import Callable, Mapping, Sequence
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import TracebackType
from typing import Any, Self
from xml.sax.saxutils import escape, quoteattr

import spnego

from volact import certificate
from volact.vamt.collecting.targets import Login, Target

LOOPBACK = "127.0.0.1"
USER, PASSWORD = "vamt", "a password that no test prints"
BOUNDARY = b"Encrypted Boundary"
_NS = {
    "s": "http://www.w3.org/2003/05/soap-envelope",
    "a": "http://schemas.xmlsoap.org/ws/2004/08/addressing",
    "n": "http://schemas.xmlsoap.org/ws/2004/09/enumeration",
    "w": "http://schemas.dmtf.org/wbem/wsman/1/wsman.xsd",
    "f": "http://schemas.microsoft.com/wbem/wsman/1/wsmanfault",
}
_CLASS = "http://schemas.microsoft.com/wbem/wsman/1/wmi/root/cimv2/"

Rows = Mapping[str, Sequence[Mapping[str, str]]]


class WinRmStandIn:
    """Use as a context. `instead` may answer in place of a SOAP message; `denied` are classes nobody may read."""

    def __init__(
        self,
        rows: Rows,
        *,
        tls: Path | None = None,
        denied: Sequence[str] = (),
        instead: Callable[["_Handler", bytes], bool] | None = None,
        schemes: str = "Negotiate",
        page: int = 20,
    ) -> None:
        self.rows, self.denied, self.instead, self.schemes, self.page = rows, denied, instead, schemes, page
        self.queries: list[str] = []
        self.bodies: list[bytes] = []
        self.headers: list[str] = []
        self.left: dict[str, tuple[str, list[Mapping[str, str]]]] = {}
        self.tls = tls

    def __enter__(self) -> Self:
        self._server = _Server((LOOPBACK, 0), _Handler)
        self._server.daemon_threads = True
        self._server.block_on_close = False
        self._server.stand_in = self  # type: ignore[attr-defined]
        if self.tls:
            if not self.tls.exists():
                certificate.make(self.tls, "localhost")
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(self.tls / "certificate.pem", self.tls / "key.pem")
            self._server.socket = context.wrap_socket(
                self._server.socket, server_side=True, do_handshake_on_connect=False
            )
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.01,))
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()

    @property
    def target(self) -> Target:
        return Target(
            "win", ("localhost" if self.tls else LOOPBACK,), self._server.server_address[1], "winrm"
        )

    @property
    def login(self) -> Login:
        ca = (self.tls / "certificate.pem").read_text() if self.tls else ""
        return Login(USER, password=PASSWORD, plain=not self.tls, ca=ca)


class _Server(ThreadingHTTPServer):
    def handle_error(self, _request: Any, _address: Any) -> None:
        """Clients that hang up are what some tests are about."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    context: Any = None

    def log_message(self, *_words: Any) -> None:
        pass

    @property
    def own(self) -> WinRmStandIn:
        return self.server.stand_in  # type: ignore[attr-defined,no-any-return]

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        scheme, _, token = self.headers.get("Authorization", "").partition(" ")
        self.own.headers.append(self.headers.get("Authorization", ""))
        self.own.bodies.append(body)
        if scheme == "Negotiate" and token:
            self._handshake(base64.b64decode(token), body)
        elif self.context is not None and self.context.complete:
            self._message(body)
        else:
            self.give(401, {"WWW-Authenticate": self.own.schemes})

    def _handshake(self, token: bytes, body: bytes) -> None:
        if self.context is None:
            self.context = spnego.server(
                hostname=LOOPBACK, protocol="negotiate", options=spnego.NegotiateOptions.use_negotiate
            )
        try:
            out = self.context.step(token)
        except spnego.exceptions.SpnegoError:
            self.context = None
            self.give(401, {"WWW-Authenticate": self.own.schemes})
            return
        said = {"WWW-Authenticate": "Negotiate " + base64.b64encode(out).decode()} if out else {}
        if not self.context.complete:
            self.give(401, said)
        elif body:
            self._message(body, said)
        else:
            self.give(200, said)

    def _message(self, body: bytes, headers: Mapping[str, str] | None = None) -> None:
        is_encrypted = self.headers.get("Content-Type", "").startswith("multipart/encrypted")
        asked = self._decrypted(body) if is_encrypted else body
        if self.own.instead and self.own.instead(self, asked):
            return
        status, answer = self.answer(asked)
        self.tell(status, answer, headers)

    def answer(self, asked: bytes) -> tuple[int, bytes]:
        """What a machine that is honest answers."""
        return _answer(self.own, ET.fromstring(asked))  # noqa: S314 - what our own side sent

    def tell(self, status: int, answer: bytes, headers: Mapping[str, str] | None = None) -> None:
        """Answer a SOAP message as it was asked: over TLS as it is, else encrypted."""
        if self.own.tls:
            self.give(
                status, {**(headers or {}), "Content-Type": "application/soap+xml;charset=UTF-8"}, answer
            )
        else:
            kind = 'multipart/encrypted;protocol="application/HTTP-SPNEGO-session-encrypted";boundary="Encrypted Boundary"'
            self.give(status, {**(headers or {}), "Content-Type": kind}, self.encrypted(answer))

    def give(self, status: int, headers: Mapping[str, str], body: bytes = b"") -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def _decrypted(self, body: bytes) -> bytes:
        begin = b"--" + BOUNDARY + b"\r\n"
        _, first, second = body.split(begin)
        assert first.startswith(b"\tContent-Type: application/HTTP-SPNEGO-session-encrypted\r\n")
        length = re.search(rb"Length=(\d+)", first)
        assert length is not None
        sealed = second.removeprefix(b"\tContent-Type: application/octet-stream\r\n")
        sealed = sealed.removesuffix(b"--" + BOUNDARY + b"--\r\n")
        (size,) = struct.unpack("<i", sealed[:4])
        plain: bytes = self.context.unwrap_winrm(sealed[4 : 4 + size], sealed[4 + size :])
        assert len(plain) == int(length[1])
        return plain

    def encrypted(self, plain: bytes) -> bytes:
        header, data, padding = self.context.wrap_winrm(plain)
        lines = (
            b"--" + BOUNDARY,
            b"\tContent-Type: application/HTTP-SPNEGO-session-encrypted",
            b"\tOriginalContent: type=application/soap+xml;charset=UTF-8;Length=%d" % (len(plain) + padding),
            b"--" + BOUNDARY,
            b"\tContent-Type: application/octet-stream",
            b"",
        )
        sealed = struct.pack("<i", len(header)) + bytes(header) + bytes(data)
        return b"\r\n".join(lines) + sealed + b"--" + BOUNDARY + b"--\r\n"


def _answer(own: WinRmStandIn, asked: ET.Element) -> tuple[int, bytes]:
    action = asked.findtext("s:Header/a:Action", "", _NS).rpartition("/")[2]
    message = asked.findtext("s:Header/a:MessageID", "", _NS)
    context = asked.findtext(".//n:EnumerationContext", "", _NS)
    if action == "Enumerate":
        query = asked.findtext(".//w:Filter", "", _NS)
        own.queries.append(query)
        name = query.split(" FROM ")[1].split()[0]
        rows = list(own.rows.get(name, ()))
        if name in own.denied:
            return 500, _fault(message, 5, "Access is denied.")
    else:
        name, rows = own.left.pop(context)
    part, rest = rows[: own.page], rows[own.page :]
    context = f"uuid:{len(own.queries)}-{len(rest)}"
    own.left[context] = (name, rest)
    return 200, envelope(
        message, _list(f"{action}Response", name, part, context, ends=not rest, is_pull=action == "Pull")
    )


def _list(
    answer: str, name: str, rows: Sequence[Mapping[str, str]], context: str, *, ends: bool, is_pull: bool
) -> str:
    items = "".join(
        f"<p:{name} xmlns:p={quoteattr(_CLASS + name)}>"
        + "".join(f"<p:{key}>{escape(value)}</p:{key}>" for key, value in row.items())
        + f"</p:{name}>"
        for row in rows
    )
    kind = (
        "n" if is_pull else "w"
    )  # a pull's items are WS-Enumeration's own, an optimised answer's WS-Management's
    end = f"<{kind}:EndOfSequence/>" if ends else ""
    more = f"<n:EnumerationContext>{context}</n:EnumerationContext>"
    return f"<n:{answer}>{more}<{kind}:Items>{items}</{kind}:Items>{end}</n:{answer}>"


def envelope(message: str, body: str) -> bytes:
    names = " ".join(f'xmlns:{prefix}="{uri}"' for prefix, uri in _NS.items())
    header = f"<a:MessageID>uuid:1</a:MessageID><a:RelatesTo>{message}</a:RelatesTo>"
    return f"<s:Envelope {names}><s:Header>{header}</s:Header><s:Body>{body}</s:Body></s:Envelope>".encode()


def _fault(message: str, code: int, text: str) -> bytes:
    detail = f'<f:WSManFault Code="{code}" Machine="win"><f:Message>{escape(text)}</f:Message></f:WSManFault>'
    return envelope(
        message,
        f"<s:Fault><s:Code><s:Value>s:Sender</s:Value></s:Code>"
        f'<s:Reason><s:Text xml:lang="en-US">{escape(text)}</s:Text></s:Reason><s:Detail>{detail}</s:Detail></s:Fault>',
    )
