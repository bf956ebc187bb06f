"""The client and a real HTTPS server on loopback: good, unreachable, slow, cut, nonsense, somebody else."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from client.machine import Machine
from client.publisher import PRODUCT, Publisher
from client.server import Server, cut, drip, send, slow
from volact.calls import Caller
from volact.client.client import Client
from volact.protocol import jws
from volact.protocol.problems import Refusal, Refused, Unreachable

pytestmark = pytest.mark.sockets

TIMEOUT = 0.5


@pytest.fixture
def publisher() -> Publisher:
    return Publisher()


@pytest.fixture
def server(tmp_path: Path, publisher: Publisher) -> Iterator[Server]:
    with Server(tmp_path / "tls", publisher) as running:
        yield running


@pytest.fixture
def machine(tmp_path: Path, publisher: Publisher, server: Server) -> Machine:
    machine = Machine(tmp_path / "home", publisher)
    machine.around = machine.around._replace(
        call=lambda url, pins, _until: Caller(url, pins, timeout=TIMEOUT)
    )
    machine.client = Client(machine.store, machine.around)
    install(machine, server.url, server.pin)
    machine.client.install_key(publisher.key().text())
    return machine


def install(machine: Machine, url: str, *pins: str) -> None:
    machine.publisher.version += 1
    data = machine.publisher.product_file(ver=machine.publisher.version, url=url, tls=pins)
    machine.client.install(data, machine.publisher.pub)


def unreachable(machine: Machine, code: str) -> Refusal:
    """Nothing is lost: no state changes, and the request stays as it is."""
    before = machine.standing()
    with pytest.raises(Unreachable) as caught:
        machine.client.activate()
    assert caught.value.exit_code == 3
    assert caught.value.refusal.code == code
    assert machine.standing() == before
    assert machine.file("pending.json").exists()
    return caught.value.refusal


def test_a_machine_is_activated_over_https(machine: Machine, server: Server) -> None:
    done = machine.client.activate()
    assert done.standing.licensed
    assert done.list_failure is None
    assert len(server.requests) == 1


def test_an_authority_that_is_not_there(machine: Machine, server: Server) -> None:
    server.stop()
    unreachable(machine, "authority-unreachable")


@pytest.mark.parametrize("misbehaviour", ["slow", "cut"])
def test_a_lost_answer_is_asked_for_again_by_the_same_bytes(
    machine: Machine, server: Server, misbehaviour: str
) -> None:
    server.misbehave = slow(3 * TIMEOUT) if misbehaviour == "slow" else cut
    unreachable(machine, "authority-unreachable")
    server.misbehave = None
    assert machine.client.activate().standing.licensed
    assert len(set(server.requests)) == 1
    assert len(server.requests) == 2


def test_an_answer_that_drips_is_cut_after_a_time_in_all(server: Server) -> None:
    """A byte in good time, again and again, holds nobody: the whole answer has its own limit."""
    server.misbehave = drip
    with Caller(server.url, [server.pin], whole=0.5) as caller, pytest.raises(Unreachable) as caught:
        caller.get("/v1/status")
    assert caught.value.refusal.code == "authority-unreachable"
    assert "no whole answer within 0.5 seconds" in caught.value.refusal.detail


@pytest.mark.parametrize(
    ("status", "body"),
    [
        (200, b"<html>captive portal</html>"),
        (200, b"{}"),
        (200, b"[]"),
        (200, b'{"token": "x"' + b" " * 300_000 + b"}"),
        (302, b"{}"),
        (500, b"Internal Server Error"),
        (200, b'{"code": "key-blocked"}'),
    ],
)
def test_nonsense_is_called_nonsense(machine: Machine, server: Server, status: int, body: bytes) -> None:
    server.misbehave = lambda handler: send(handler, status, body)
    unreachable(machine, "answer-nonsense")


def test_a_server_with_another_key_learns_nothing(machine: Machine, server: Server) -> None:
    install(machine, server.url, "A" * 43)
    unreachable(machine, "authority-untrusted")
    assert server.requests == []


def test_without_a_pinned_key_a_self_made_certificate_is_nobody(machine: Machine, server: Server) -> None:
    install(machine, server.url)
    unreachable(machine, "authority-unreachable")
    assert server.requests == []


def test_a_refusal_comes_with_its_code_and_the_header_s_wait(machine: Machine, server: Server) -> None:
    problem = jws.write_json(Refusal("too-many-requests").document())
    server.misbehave = lambda handler: send(handler, 429, problem, Retry_After="9000")
    with pytest.raises(Refused) as caught:
        machine.client.activate()
    assert caught.value.refusal.code == "too-many-requests"
    record = machine.client.open(machine.publisher.pub).record(PRODUCT)
    assert record.next_try == machine.clock.wall + 9000 + 900  # in the middle of the spread above it


def test_a_code_of_a_newer_authority_is_shown_with_its_sentence(machine: Machine, server: Server) -> None:
    body = jws.write_json(
        {"code": "moon-phase", "title": "The moon is wrong.", "status": 403, "detail": "x" * 5000}
    )
    server.misbehave = lambda handler: send(handler, 403, body)
    with pytest.raises(Refused, match="The moon is wrong"):
        machine.client.activate()


def test_an_activation_stands_although_the_list_cannot_be_fetched(machine: Machine, server: Server) -> None:
    def no_list(handler: object) -> None:
        if handler.command == "GET":  # type: ignore[attr-defined]
            send(handler, 503, b"busy")  # type: ignore[arg-type]
        else:
            send(handler, *server.posted(server.requests[-1]))  # type: ignore[arg-type]

    server.misbehave = no_list
    done = machine.client.activate()
    assert done.standing.licensed
    assert done.list_failure
    assert done.list_failure.code == "answer-nonsense"


def test_an_authority_that_closes_after_each_answer_is_compared_by_its_key_again(
    machine: Machine, server: Server
) -> None:
    def hang_up(handler: Any) -> None:
        answer = server.got() if handler.command == "GET" else server.posted(server.requests[-1])
        send(handler, *answer, Connection="close")
        handler.close_connection = True

    server.misbehave = hang_up
    done = machine.client.activate()
    assert done.standing.licensed
    assert done.list_failure is None
