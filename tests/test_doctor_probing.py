"""What the doctor makes of what answers where a record points (D4, D5): `foreign` is who says something else than a host.

Who is silent, or says that it does not serve, may be a host in trouble: nobody is told to take its record out of DNS.
"""

import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler
from pathlib import Path

import pytest

from client.kms_server import KmsHost, KmsServer
from client.publisher import Publisher
from volact.calls import Answer
from volact.client.address import Address
from volact.doctor import domains, probing
from volact.doctor.checks import CLIENT, FAILED, HOST, OK, SKIPPED, WARNING
from volact.doctor.probing import FOREIGN, GOOD, UNREACHABLE, UNREADY, Verdict
from volact.protocol.problems import PROBLEMS, Refusal

pytestmark = pytest.mark.sockets

PUBLISHER = Publisher()


@pytest.fixture
def server(tmp_path: Path) -> Iterator[KmsServer]:
    with KmsServer(tmp_path / "tls", KmsHost(PUBLISHER)) as running:
        yield running


def probed(port: int) -> Verdict:
    return probing.probe(Address("127.0.0.1", port), ("127.0.0.1",), {})


def test_d5_a_host_that_proves_itself_is_good(server: KmsServer) -> None:
    assert probed(server.port).verdict == GOOD


@pytest.mark.parametrize(
    "code",
    [
        "host-not-activated",
        "host-blocked",
        "host-clock-wrong",
        "machine-not-entitled",
        "busy",
        "storage-unavailable",
        "too-many-requests",
        "internal",
        "not-found",
        "code-of-a-newer-host",
    ],
)
def test_d5_a_problem_document_is_never_foreign(server: KmsServer, code: str) -> None:
    refusal = Refusal(code) if code in PROBLEMS else Refusal.received(code, "Something newer.", "Not now.")
    server.host.proofs.append(refusal)
    found = probed(server.port)
    assert (found.verdict, found.code, found.host) == (UNREADY, code, "")
    assert "out of DNS" not in domains.judged(CLIENT, "hosts", "", [found]).next


@pytest.mark.parametrize(
    "answer", [Answer(200, {}, b"<html>"), Answer(200, {}, b"{}"), Answer(404, {}, b'{"error": "none"}')]
)
def test_d5_who_says_something_else_is_foreign(server: KmsServer, answer: Answer) -> None:
    server.host.proofs.append(answer)
    assert probed(server.port).verdict == FOREIGN


@contextmanager
def taking(serve: Callable[[socket.socket], None]) -> Iterator[int]:
    """A port that takes connections; `serve` is what is done with each."""
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def work() -> None:
            while True:
                try:
                    peer, _ = listener.accept()
                except OSError:
                    return
                with peer:
                    serve(peer)

        thread = threading.Thread(target=work)
        thread.start()
        try:
            yield listener.getsockname()[1]
        finally:
            listener.shutdown(socket.SHUT_RDWR)
            thread.join()


def test_d5_another_service_is_foreign() -> None:
    with taking(lambda peer: peer.sendall(b"SSH-2.0-OpenSSH_9.9\r\n" * 20)) as port:
        assert probed(port).verdict == FOREIGN


def test_d5_who_ends_the_connection_or_says_nothing_in_time_is_unreachable(
    server: KmsServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    with taking(socket.socket.close) as port:
        assert probed(port).verdict == UNREACHABLE
    monkeypatch.setattr(probing, "TARGET_SECONDS", 0.5)
    over = threading.Event()

    def late(_: BaseHTTPRequestHandler) -> None:
        over.wait(30)

    server.misbehave = late
    try:
        found = probed(server.port)
    finally:
        over.set()
    assert found.verdict == UNREACHABLE
    assert "says nothing" in found.detail
    assert "out of DNS" not in domains.judged(CLIENT, "hosts", "", [found]).next


@pytest.mark.parametrize(
    ("verdict", "on_host", "elsewhere"),
    [
        (Verdict("h:1", GOOD, ""), OK, OK),
        (Verdict("h:1", UNREADY, "", code="busy"), WARNING, WARNING),
        (Verdict("h:1", UNREADY, "", code="machine-not-entitled"), SKIPPED, WARNING),
        (Verdict("h:1", FOREIGN, "", other=True), WARNING, WARNING),
        (Verdict("h:1", FOREIGN, ""), FAILED, FAILED),
        (Verdict("h:1", UNREACHABLE, ""), FAILED, FAILED),
    ],
)
def test_d5_how_bad_each_verdict_is(verdict: Verdict, on_host: str, elsewhere: str) -> None:
    assert (domains.result_of(verdict, HOST), domains.result_of(verdict, CLIENT)) == (on_host, elsewhere)
    assert bool(domains.judged(CLIENT, "hosts", "", [verdict]).next) == (elsewhere != OK)
