"""What an authority answered a host, as it came by HTTP or in a file, before anything of it is verified (K9, K18)."""

from __future__ import annotations

from typing import Any

from volact.calls import problem_of
from volact.protocol import jws
from volact.protocol.problems import DocumentRefused, Refusal, Unreachable, VolactError

MAX_ANSWER = 4 * 1024 * 1024
"""Bytes of an answer with the products of a delegation."""
_OK = 200


def check_sort(body: dict[str, Any]) -> None:
    """Name a file of another sort.

    Raises:
        DocumentRefused: if it is one.
    """
    if "jwk" in body and "chain" not in body:
        raise DocumentRefused(
            "the file holds a request and no answer; the publisher makes the answer: `volact authority answer`"
        )
    if "root" in body and "products" not in body:
        raise DocumentRefused("the file holds a product and no answer; it is for `volact kmshost init`")


def products(body: dict[str, Any]) -> list[dict[str, Any]]:
    """The bundles of the products that an answer brings.

    Raises:
        DocumentRefused: if they are none.
    """
    found = body.get("products", [])
    if not isinstance(found, list) or not all(isinstance(one, dict) for one in found):
        raise DocumentRefused("the answer's products are no bundles")
    return found


def read(data: bytes) -> dict[str, Any]:
    """The JSON of an answer.

    Raises:
        DocumentRefused: if it is too large, or none.
    """
    if len(data) > MAX_ANSWER:
        raise DocumentRefused(f"the answer is larger than {MAX_ANSWER} bytes")
    return jws.read_json(data)


def of_authority(status: int, data: bytes) -> dict[str, Any]:
    """The body of an authority's answer.

    Raises:
        Refused: the authority's refusal.
        Unreachable: if it is none.
    """
    try:
        body = read(data)
    except VolactError as error:
        raise Unreachable(Refusal("answer-nonsense", f"Status {status}: {error.refusal.detail}.")) from None
    if status != _OK and problem_of(body) is None:
        raise Unreachable(Refusal("answer-nonsense", f"Status {status}, and no problem document."))
    return body
