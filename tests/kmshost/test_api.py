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
from volact.kmshost.kmshost import Intervals, KmsHost
from volact.kmshost.setup import Opened
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
            opened.keyring(),
            secrets.token_bytes,
            Intervals(),
            lambda _events: None,
        )
        host.start()
        face = Face(host)
        scope = {"method": method, "path": path, "client": ("192.0.2.1", 5), "headers": []}
        await face.app()(scope, receive, send)
        await face.close()

    asyncio.run(run())
    start, body = sent
    return start["status"], dict(start["headers"]), json.loads(body["body"])


def test_a_host_that_is_not_activated_says_so(opened: Opened) -> None:
    for method, path, body in (
        ("GET", "/v1/host", b""),
        ("POST", "/v1/leases", b'{"token":"a","jwk":{}}'),
    ):
        status, headers, problem = call(opened, method, path, body)
        assert (status, problem["code"]) == (503, "host-not-activated")
        assert headers[b"content-type"] == b"application/problem+json"
        assert headers[b"cache-control"] == b"no-store"


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
