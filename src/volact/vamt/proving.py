"""Whether what a machine shows proves what it says (V2, T26). Pure.

A machine says anything; a lease or a confirmation that it shows is checked to the pinned root. A state is *proved* if

1. it says Licensed: nothing that is signed says more, and a grace is nobody's word but the machine's;
2. the grant is one of this publisher's, for this product, and no known root document takes it back;
3. it is this machine's: its subject is the CMID that the machine says. One that VAMT kept for rebuilt hardware (P4) names
   another CMID and stays reported, for the fingerprint's parts are not VAMT's to read;
4. a lease has not ended, by its own end and by the product's validity.

Everything else is *reported*; a grant that does not hold is said to be so.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from volact.protocol import policy, trust
from volact.protocol.problems import DocumentRefused

if TYPE_CHECKING:
    from collections.abc import Mapping

    from volact.protocol.trust import Granted, Roots
    from volact.vamt.inventory import Product

REPORTED, PROVED = "reported", "proved"
_LICENSED = 1


def proof(product: Product, roots: Roots | None, document: Mapping[str, Any] | None, now: int) -> str:
    """`PROVED` or `REPORTED`; `roots` are the publisher's if it is known, `document` the product's newest likewise."""
    if product.state != _LICENSED or product.grant is None or roots is None:
        return REPORTED
    granted = _granted(product.grant, roots)
    if granted is None or not trust.still_stands(granted):
        return REPORTED
    claims = granted.document.claims
    is_its_own = claims["prd"] == product.product and claims["sub"] == product.cmid
    return PROVED if is_its_own and now < _end(granted, document) else REPORTED


def _granted(bundle: Mapping[str, Any], roots: Roots) -> Granted | None:
    """The confirmation or lease that a bundle is, verified; None if it is neither."""
    for name in ("confirmation", "lease"):
        try:
            return trust.verify(bundle, name, roots)
        except DocumentRefused:
            continue
    return None


def _end(granted: Granted, document: Mapping[str, Any] | None) -> float:
    """When it ends, seconds UTC: a lease by its end or the product's validity, a confirmation never."""
    claims = granted.document.claims
    if "exp" not in claims:
        return float("inf")
    if document is None:
        return float(claims["exp"])
    return float(
        min(claims["exp"], claims["iat"] + policy.read(document["pol"], document["edition"]).validity)
    )
