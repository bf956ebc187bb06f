"""How long a connection may take: over all addresses of a name, its handshake, and everything asked on it."""

import socket
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from client.kms_server import KmsHost, KmsServer
from client.machine import refused
from client.publisher import Publisher
from client.server import drip
from volact import calls
from volact.calls import HOST_TRY, HostCaller, for_one_try
from volact.client.store import LOCK_PATIENCE

pytestmark = pytest.mark.sockets


class HandTime:
    """Monotonic time that a test moves."""

    def __init__(self) -> None:
        self.seconds = 1000.0

    def monotonic(self) -> float:
        return self.seconds


@pytest.fixture
def server(tmp_path: Path) -> Iterator[KmsServer]:
    with KmsServer(tmp_path / "tls", KmsHost(Publisher())) as running:
        yield running


@pytest.fixture
def hand_time(monkeypatch: pytest.MonkeyPatch) -> HandTime:
    found = HandTime()
    monkeypatch.setattr(calls, "time", found)
    return found


def test_a_try_ends_before_another_command_gives_up_waiting() -> None:
    assert HOST_TRY < LOCK_PATIENCE


@pytest.mark.parametrize(("passed", "asked"), [(14.9, 2), (15.0, 1), (15.1, 1)])
def test_the_time_for_everything_counts_over_all_that_is_asked(
    server: KmsServer, hand_time: HandTime, passed: float, asked: int
) -> None:
    with for_one_try("127.0.0.1", server.port) as caller:
        assert caller.get("/v1/host").status == 200
        hand_time.seconds += passed
        if asked == 2:
            assert caller.get("/v1/host").status == 200
        else:
            assert "no time is left" in refused("host-unreachable", caller.get, "/v1/host").detail
    assert server.host.gets == asked


def test_a_kept_connection_has_no_such_time(server: KmsServer, hand_time: HandTime) -> None:
    with HostCaller("127.0.0.1", server.port) as caller:
        for _ in range(2):
            assert caller.get("/v1/host").status == 200
            hand_time.seconds += 3600


def test_what_is_left_cuts_an_answer_that_does_not_end(server: KmsServer) -> None:
    server.misbehave = drip
    with HostCaller("127.0.0.1", server.port, read=30, whole=30, everything=1) as caller:
        assert "no whole answer within" in refused("host-unreachable", caller.get, "/v1/host").detail


def test_no_further_address_is_tried_when_the_time_is_over(
    server: KmsServer, hand_time: HandTime, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each dead address takes its 3 seconds; the good one is the sixth."""
    waited: list[float] = []

    class Socket(socket.socket):
        def connect(self, address: Any) -> None:
            if address[1] == server.port:
                super().connect(address)
                return
            waited.append(self.gettimeout() or 0)
            hand_time.seconds += waited[-1]
            raise TimeoutError("timed out")

    def lookup(dead: int) -> Any:
        one = (socket.AF_INET, socket.SOCK_STREAM, 6, "")
        ports = [1] * dead + [server.port]
        return lambda *_, **__: [(*one, ("127.0.0.1", port)) for port in ports]

    monkeypatch.setattr(socket, "socket", Socket)
    monkeypatch.setattr(socket, "getaddrinfo", lookup(4))
    with for_one_try("kms.example.com", server.port) as caller:
        assert caller.get("/v1/host").status == 200
    monkeypatch.setattr(socket, "getaddrinfo", lookup(9))
    with for_one_try("kms.example.com", server.port) as caller:
        refused("host-unreachable", caller.get, "/v1/host")
    assert waited == [3.0] * 4 + [3.0] * 5


def test_a_name_without_an_address_is_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: [])
    with for_one_try("kms.example.com", 1688) as caller:
        assert "no address" in refused("host-unreachable", caller.get, "/v1/host").detail


def test_a_handshake_that_does_not_end_is_cut() -> None:
    """A byte at a time, each in good time: the longest TLS record, which takes minutes."""
    over = threading.Event()

    def serve(listening: socket.socket) -> None:
        peer, _ = listening.accept()
        with peer:
            peer.sendall(b"\x16\x03\x03\x3f\xff")
            while not over.wait(0.05):
                try:
                    peer.sendall(b"\x02")
                except OSError:
                    return

    with socket.create_server(("127.0.0.1", 0)) as listening:
        thread = threading.Thread(target=serve, args=(listening,))
        thread.start()
        with HostCaller("127.0.0.1", listening.getsockname()[1], connect=30, whole=1) as caller:
            assert "no whole answer within" in refused("host-unreachable", caller.get, "/v1/host").detail
        over.set()
        thread.join()
