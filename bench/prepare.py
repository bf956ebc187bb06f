"""Makes activation requests in great number: as many machines, each with its own key, one product key for all."""

from __future__ import annotations

import json
import os
import time
from typing import TYPE_CHECKING

from volact import signing
from volact.protocol import ids, keys, machine
from volact.protocol.keys import ProductKey

if TYPE_CHECKING:
    from volact.quickstart import Publisher

PARTS = ("uuid", "board", "disk", "os", "net", "cpu")


def facts() -> dict[str, str]:
    """The parts of a machine that never existed."""
    return {name: os.urandom(16).hex() for name in PARTS}


def bundle(publisher: Publisher, key: signing.Signer, product: str) -> bytes:
    """One machine's request with its key proof, as the HTTP body."""
    device = signing.generate()
    now = int(time.time())
    common = {
        "pub": publisher.pub,
        "lab": True,
        "iat": now,
        "aud": publisher.pub,
        "op": "activate",
        "prd": product,
    }
    request = device.bundle(
        "request",
        {
            **common,
            "jti": ids.b64u(os.urandom(16)),
            "sub": device.kid,
            "key": key.kid,
            "fp": machine.fingerprint(publisher.pub, product, facts()),
        },
    )
    signed = str(request["token"])
    proof = key.sign(
        "key-proof",
        {
            **common,
            "jti": ids.b64u(os.urandom(16)),
            "sub": device.kid,
            "dig": ids.digest(signed[: signed.rindex(".")].encode()),
        },
    )
    return json.dumps({**request, "proof": proof}, separators=(",", ":")).encode()


def bundles(publisher: Publisher, key_text: str, product: str, count: int) -> list[bytes]:
    """`count` bodies, all for one key."""
    key = keys.read(key_text)
    assert isinstance(key, ProductKey)
    signer = signing.Signer(key.private_key(publisher.pub))
    return [bundle(publisher, signer, product) for _ in range(count)]
