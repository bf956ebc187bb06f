"""The host's HTTP face without a network: the ASGI app itself; `tests/system/test_kmshost_serve.py` has the sockets."""

import asyncio
import json
import secrets
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from authority_site import Site
from kmshost.enterprise import Enterprise
from volact.kmshost.api import MAX_BODY, Face, read_sent
from volact.kmshost.checkins import Sent
from volact.kmshost.kmshost import KmsHost
from volact.kmshost.setup import Opened
from volact.kmshost.statuslist import Held
from volact.kmshost.terms import Terms
from volact.protocol.problems import Refusal


@pytest.fixture
def opened(tmp_path: Path) -> Iterator[Opened]:
    site = Site(tmp_path / "authority.db")
    site.product()
    host = Enterprise(tmp_path, site)
    host.init()
    with host.opened() as opened:
        yield opened
    site.close()


def call(opened: Opened, method: str, path: str, *parts: bytes) -> tuple[int, dict[bytes, bytes], Any]:
    """One request to a host that is not activated."""
    status, headers, body = ask(opened, method, path, *parts)
    return status, headers, json.loads(body)


def ask(
    opened: Opened,
    method: str,
    path: str,
    *parts: bytes,
    blocks: Held = Held(),  # noqa: B008 - a value
    networks: tuple[str, ...] = (),
    known: str = "",
) -> tuple[int, dict[bytes, bytes], bytes]:
    """The same, to a host that may hold a list or serve some networks only; `known` is the list that the caller has."""
    sent: list[dict[str, Any]] = []
    left = list(parts) or [b""]

    async def receive() -> dict[str, Any]:
        body = left.pop(0)
        return {"type": "http.request", "body": body, "more_body": bool(left)}

    async def send(message: Any) -> None:
        sent.append(message)

    async def run() -> None:
        host = KmsHost(
            opened.clock,
            opened.store,
            Terms(opened.keyring(), blocks=blocks),
            secrets.token_bytes,
            lambda _events: None,
        )
        host.start()
        face = Face(host)
        face.serve_only(networks)
        headers = [(b"if-none-match", known.encode())]
        scope = {"method": method, "path": path, "client": ("192.0.2.1", 5), "headers": headers}
        await face.app()(scope, receive, send)
        await face.close()

    asyncio.run(run())
    start, body = sent
    return start["status"], dict(start["headers"]), body["body"]


def test_a_host_that_is_not_activated_says_so(opened: Opened) -> None:
    for method, path, body in (
        ("GET", "/v1/host", b""),
        ("POST", "/v1/leases", b'{"token":"a","jwk":{}}'),
    ):
        status, headers, problem = call(opened, method, path, body)
        assert (status, problem["code"]) == (503, "host-not-activated")
        assert headers[b"content-type"] == b"application/problem+json"
        assert headers[b"cache-control"] == b"no-store"


def test_the_publishers_list_is_given_as_it_came(opened: Opened) -> None:
    """M5: to who does not have it."""
    held = Held((1_790_000_000, 7), '{"token":"t"}', b"machine x all 1\n")
    status, headers, body = ask(opened, "GET", "/v1/status", blocks=held)
    assert (status, body) == (200, b'{"token":"t"}\nmachine x all 1\n')
    assert headers[b"etag"] == b'"1790000000.7"'
    for known, expected in (
        ('"1790000000.7"', 304),
        ('"1.7", W/"1790000000.7"', 304),
        ('"1790000000.6"', 200),
    ):
        assert ask(opened, "GET", "/v1/status", blocks=held, known=known)[0] == expected
    assert call(opened, "GET", "/v1/status")[2]["code"] == "not-found"
    assert call(opened, "POST", "/v1/status")[1][b"allow"] == b"GET"


@pytest.mark.parametrize(
    ("networks", "served"),
    [
        ((), True),
        (("192.0.2.0/24",), True),
        (("2001:db8::/32", "192.0.2.1/32"), True),
        (("192.0.2.2/31",), False),
        (("2001:db8::/32",), False),
    ],
)
def test_a_host_serves_the_networks_that_are_set(
    opened: Opened, networks: tuple[str, ...], *, served: bool
) -> None:
    for method, path in (("GET", "/v1/host"), ("POST", "/v1/leases"), ("GET", "/v1/status")):
        problem = json.loads(ask(opened, method, path, b'{"token":"a","jwk":{}}', networks=networks)[2])
        assert (problem["code"] != "machine-not-entitled") == served


def test_other_addresses_and_methods(opened: Opened) -> None:
    assert call(opened, "GET", "/v1/hosts")[0] == 404
    status, headers, _ = call(opened, "PUT", "/v1/leases")
    assert (status, headers[b"allow"]) == (405, b"POST")
    assert call(opened, "POST", "/v1/host")[1][b"allow"] == b"GET"


def test_a_body_of_16_kib_is_read_and_one_byte_more_is_not(opened: Opened) -> None:
    head, tail = b'{"token":"', b'","jwk":{}}'
    most = head + b"x" * (MAX_BODY - len(head) - len(tail)) + tail
    assert len(most) == 16 * 1024
    assert call(opened, "POST", "/v1/leases", most)[2]["code"] == "host-not-activated"
    assert call(opened, "POST", "/v1/leases", most[:9000], most[9000:])[2]["code"] == "host-not-activated"
    assert call(opened, "POST", "/v1/leases", most + b" ")[2]["code"] == "body-too-large"
    assert call(opened, "POST", "/v1/leases", *[b" " * 1024] * 1024)[2]["code"] == "body-too-large"


def test_a_check_ins_body_has_a_token_and_its_key() -> None:
    assert read_sent(b'{"jwk":{"x":"y"},"token":"t"}') == Sent("t", {"x": "y"})


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"null",
        b"[]",
        b'"x"',
        b"{",
        b'{"token":"t"}',
        b'{"jwk":{}}',
        b'{"token":1,"jwk":{}}',
        b'{"token":"t","jwk":[]}',
        b'{"token":"t","jwk":null}',
        b'{"token":"t","jwk":{},"more":1}',
        b'{"token":"\xff","jwk":{}}',
        b'{"token":"t","jwk":' + b"[" * 8000,
        b'{"token":"t","jwk":' + b'{"a":' * 3000,
    ],
)
def test_what_is_no_check_in(body: bytes) -> None:
    read = read_sent(body)
    assert isinstance(read, Refusal)
    assert read.code == "request-malformed"
