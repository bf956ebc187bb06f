"""What a vector looks like, and shorthands to write one."""

from __future__ import annotations

from typing import Any

from vectors.forge import JSON, Key, Publisher, thumbprint

CAD_PUBLISHER = Publisher("cad")
OTHER = Publisher("other")
LAB = Publisher("lab", lab=True)
MALLORY = Key("mallory")
OFF_CURVE = {
    "kty": "EC",
    "crv": "P-256",
    "x": CAD_PUBLISHER.machine.jwk["x"],
    "y": CAD_PUBLISHER.host_key.jwk["y"],
}
OFF_CURVE_KID = thumbprint(OFF_CURVE["x"], OFF_CURVE["y"])


def refused(step: int, detail: str) -> JSON:
    return {"refused": step, "detail_contains": detail}


def case(name: str, description: str, verify: JSON, given: Any, expect: str | JSON = "good") -> JSON:
    return {"name": name, "description": description, "verify": verify, "input": given, "expect": expect}


def pinned(kind: str, publisher: Publisher = CAD_PUBLISHER, **more: Any) -> JSON:
    """Under which root a bundle is verified; `roots` are later root documents known before it came."""
    return {"as": kind, "pin": publisher.pub, "root": publisher.first(), "roots": [], **more}


def self_keyed(text: str, jwk: JSON) -> JSON:
    return {"token": text, "jwk": jwk}


def broken_bundle(
    name: str, why: str, kind: str, step: int, detail: str, *, change: JSON | None = None, **how: Any
) -> JSON:
    """A bundle of `kind` whose own token is broken."""
    return case(name, why, pinned(kind), CAD_PUBLISHER.bundle(kind, change, **how), refused(step, detail))


def broken_chain(
    name: str, why: str, kind: str, chain: list[Any], step: int, detail: str, **more: Any
) -> JSON:
    """A bundle of `kind` with another chain; `token`, `roots` and `known` roots can be given as well."""
    bundle = CAD_PUBLISHER.bundle(kind) | {"chain": chain}
    bundle |= {member: more[member] for member in ("token", "roots") if member in more}
    verify = pinned(kind) | ({"roots": more["known"]} if "known" in more else {})
    return case(name, why, verify, bundle, refused(step, detail))
