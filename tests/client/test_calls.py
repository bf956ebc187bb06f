"""How long a connection may take: over all addresses of a name, its handshake, and everything asked on it."""

import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from client.kms_server import KmsHost, KmsServer
from client.machine import refused
from client.publisher import Publisher
from client.server import drip
from volact import calls
from volact.calls import HOST_TRY, Caller, HostCaller, end_of_try, for_one_try
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


@pytest.mark.parametrize(("passed", "asked"), [(29.9, 2), (30.0, 1), (30.1, 1)])
def test_the_time_for_everything_counts_over_all_that_is_asked(
    server: KmsServer, hand_time: HandTime, passed: float, asked: int
) -> None:
    with for_one_try("127.0.0.1", server.port, end_of_try()) as caller:
        assert caller.get("/v1/host").status == 200
        hand_time.seconds += passed
        if asked == 2:
            assert caller.get("/v1/host").status == 200
        else:
            assert "no time is left" in refused("host-unreachable", caller.get, "/v1/host").detail
    assert server.host.gets == asked


def test_an_authority_s_answer_counts_to_the_try_and_its_list_has_its_own_time(
    server: KmsServer, hand_time: HandTime
) -> None:
    """A status list may be large; that the authority is the right one is known by then."""
    with Caller(server.url, (server.pin,), end_of_try()) as caller:
        assert caller.get("/v1/status").status == 200
        hand_time.seconds += HOST_TRY
        assert caller.get("/v1/status").status == 200
        assert "no time is left" in refused("authority-unreachable", caller.post, "/v1/requests", {}).detail
        assert "no time is left" in refused("authority-unreachable", caller.get, "/v1/status").detail


def test_a_kept_connection_has_no_such_time(server: KmsServer, hand_time: HandTime) -> None:
    with HostCaller("127.0.0.1", server.port) as caller:
        for _ in range(2):
            assert caller.get("/v1/host").status == 200
            hand_time.seconds += 3600


def test_what_is_left_cuts_an_answer_that_does_not_end(server: KmsServer) -> None:
    server.misbehave = drip
    with HostCaller("127.0.0.1", server.port, read=30, whole=30, until=time.monotonic() + 1) as caller:
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
    with for_one_try("kms.example.com", server.port, end_of_try()) as caller:
        assert caller.get("/v1/host").status == 200
    monkeypatch.setattr(socket, "getaddrinfo", lookup(14))
    with for_one_try("kms.example.com", server.port, end_of_try()) as caller:
        refused("host-unreachable", caller.get, "/v1/host")
    assert waited == [3.0] * 4 + [3.0] * 10


def test_a_host_that_dns_named_has_three_seconds_over_its_addresses_until_it_has_proved_itself(
    server: KmsServer, hand_time: HandTime, monkeypatch: pytest.MonkeyPatch
) -> None:
    """D3: a dead one is passed over within 3 s."""
    waited: list[float] = []

    class Socket(socket.socket):
        def connect(self, address: Any) -> None:
            if address[0] == "127.0.0.1":
                super().connect(address)
                return
            waited.append(self.gettimeout() or 0)
            hand_time.seconds += waited[-1]
            raise TimeoutError("timed out")

    monkeypatch.setattr(socket, "socket", Socket)
    for ips in (["127.0.0.2"], ["127.0.0.2", "127.0.0.3"]):
        waited.clear()
        with for_one_try("kms.example.com", server.port, end_of_try(), ips) as caller:
            began = hand_time.seconds
            refused("host-unreachable", caller.get, "/v1/host")
            assert hand_time.seconds - began == 3.0
        assert waited == [3.0 / len(ips)] * len(ips)
    with for_one_try("kms.example.com", server.port, end_of_try(), ["127.0.0.2", "127.0.0.1"]) as caller:
        assert caller.get("/v1/host").status == 200
        assert caller.ip == "127.0.0.1"
        caller.take_only([server.pin])
        hand_time.seconds += 28
        assert caller.get("/v1/host").status == 200, "now it has the time of the whole try"
        hand_time.seconds += 1
        refused("host-unreachable", caller.get, "/v1/host")


def test_a_host_that_dns_named_is_looked_up_nowhere_else(monkeypatch: pytest.MonkeyPatch) -> None:
    with for_one_try("localhost", 1688, end_of_try(), []) as caller:
        assert "no address" in refused("host-unreachable", caller.get, "/v1/host").detail


def test_a_host_that_dns_named_and_that_only_listens_is_passed_over_in_three_seconds() -> None:
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        listening.listen()
        port, began = listening.getsockname()[1], time.monotonic()
        with for_one_try("kms.example.com", port, end_of_try(), ["127.0.0.1"]) as caller:
            refused("host-unreachable", caller.get, "/v1/host")
        assert time.monotonic() - began < 8, "that is what a host set by hand has"


def test_a_name_without_an_address_is_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: [])
    with for_one_try("kms.example.com", 1688, end_of_try()) as caller:
        assert "no address" in refused("host-unreachable", caller.get, "/v1/host").detail


@pytest.mark.parametrize("role", ["host", "authority"])
def test_a_handshake_that_does_not_end_is_cut(role: str) -> None:
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
        port, until = listening.getsockname()[1], time.monotonic() + 1
        caller = (
            HostCaller("127.0.0.1", port, connect=30, until=until)
            if role == "host"
            else Caller(f"https://127.0.0.1:{port}", (), until)
        )
        with caller:
            assert "no whole answer within" in refused(f"{role}-unreachable", caller.get, "/v1/host").detail
        over.set()
        thread.join()
