"""A real HTTPS server on loopback that answers as an authority would, or as it is told to misbehave."""

import datetime as dt
import http.server
import ssl
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Self

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from client.publisher import Publisher, request_of
from volact.calls import spki_digest
from volact.protocol import jws, trust


class Server:
    """Serves until the context ends.

    Attributes:
        url: where.
        pin: SPKI digest of its key.
        requests: bodies that came.
    """

    def __init__(self, folder: Path, publisher: Publisher) -> None:
        self.publisher = publisher
        self.requests: list[bytes] = []
        self.misbehave: Callable[[http.server.BaseHTTPRequestHandler], None] | None = None
        self.pin = _certificate(folder)
        outer = self

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                outer.requests.append(body)
                self._answer(lambda: outer.posted(body))

            def do_GET(self) -> None:
                self._answer(outer.got)

            def _answer(self, make: Callable[[], tuple[int, bytes]]) -> None:
                if outer.misbehave is not None:
                    outer.misbehave(self)
                    return
                send(self, *make())

            def log_message(self, *_: Any) -> None:
                pass

        self._server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(folder / "tls.pem")
        self._server.socket = context.wrap_socket(
            self._server.socket, server_side=True, do_handshake_on_connect=False
        )
        self._server.handle_error = lambda *_: None  # type: ignore[method-assign]  # a client that hangs up
        self.url = f"https://127.0.0.1:{self._server.server_address[1]}"

    def posted(self, body: bytes) -> tuple[int, bytes]:
        """What a POST is answered by: status and body."""
        bundle = self.publisher.confirmation(request_of(trust.read_bundle(body)))
        return 200, jws.write_json(bundle)

    def got(self) -> tuple[int, bytes]:
        """What a GET is answered by."""
        return 200, self.publisher.status_list()

    def __enter__(self) -> Self:
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def stop(self) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


def send(handler: http.server.BaseHTTPRequestHandler, status: int, body: bytes, **headers: str) -> None:
    handler.send_response(status)
    handler.send_header("Content-Type", "application/json")
    handler.send_header("Content-Length", str(len(body)))
    for name, value in headers.items():
        handler.send_header(name.replace("_", "-"), value)
    handler.end_headers()
    handler.wfile.write(body)


def slow(seconds: float) -> Callable[[http.server.BaseHTTPRequestHandler], None]:
    def answer(handler: http.server.BaseHTTPRequestHandler) -> None:
        time.sleep(seconds)
        send(handler, 200, b"{}")

    return answer


def drip(handler: http.server.BaseHTTPRequestHandler) -> None:
    """Promise an answer and send it a byte at a time, each in good time."""
    handler.send_response(200)
    handler.send_header("Content-Length", "10000")
    handler.end_headers()
    try:
        while True:
            handler.wfile.write(b" ")
            time.sleep(0.05)
    except OSError:
        handler.close_connection = True


def cut(handler: http.server.BaseHTTPRequestHandler) -> None:
    """Promise more than is sent, then hang up."""
    handler.send_response(200)
    handler.send_header("Content-Length", "10000")
    handler.end_headers()
    handler.wfile.write(b'{"token":"')
    handler.close_connection = True


def _certificate(folder: Path) -> str:
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "authority.test")])
    now = dt.datetime(2026, 1, 1, tzinfo=dt.UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now)
        .not_valid_after(now + dt.timedelta(days=9000))
        .sign(key, hashes.SHA256())
    )
    folder.mkdir(parents=True, exist_ok=True)
    pem = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    (folder / "tls.pem").write_bytes(pem + certificate.public_bytes(serialization.Encoding.PEM))
    return spki_digest(certificate.public_bytes(serialization.Encoding.DER))
