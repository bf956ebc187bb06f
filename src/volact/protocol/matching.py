"""What two documents must have in common, each of which is verified by itself (`trust`): answer and ask, proof and request.

Part of step 9 of the verifier: a good document of the right signer is still none if it was made for another.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from volact.protocol import ids, policy
from volact.protocol.problems import DocumentRefused
from volact.protocol.trust import check_publisher

if TYPE_CHECKING:
    from volact.protocol.documents import Document


def check_answer(granted: Document, ask: Document) -> None:
    """What is compared on receipt: that the document answers one's own ask, claim by claim.

    The ask is a request (confirmation, receipt), a check-in (lease) or a key proof for the remaining count
    (statement). A receipt names its request twice: by what it answers, and by what it gives a receipt for.

    Raises:
        DocumentRefused: naming the claim that differs.
    """
    wanted = {"sub": ask["iss"], "prd": ask["prd"], "req": ask["req"] if ask.name == "checkin" else ask.jti}
    if granted.name in ("confirmation", "lease"):
        wanted["fp"] = ask["fp"]
    if granted.name in ("confirmation", "receipt"):
        wanted["key"] = ask["key"]
    if granted.name == "receipt":
        wanted |= {"op": ask["op"], "ref": ask.jti}
    for claim, value in wanted.items():
        if granted[claim] != value:
            raise DocumentRefused(f"{granted.name}: {claim} is not that of the request")


def check_proof_fits(proof: Document, request: Document | None, *, pub: str, lab: bool) -> None:
    """Check that a proof, verified with the product key, is for `request`, or, if None, for the remaining count.

    Raises:
        DocumentRefused: naming the claim that differs.
    """
    check_publisher(proof, pub, lab=lab)
    claims = proof.claims
    if request is None:
        if claims["op"] != "remaining" or claims["exp"] > proof.iat + policy.REMAINING_PROOF:
            raise DocumentRefused("key-proof: not for the remaining count, or for too long")
        return
    check_publisher(request, pub, lab=lab)
    if claims["op"] != request["op"] or claims["prd"] != request["prd"]:
        raise DocumentRefused("key-proof: for another operation or product")
    if claims["sub"] != request["iss"] or proof.kid != request["key"]:
        raise DocumentRefused("key-proof: for another machine or key")
    signing_input = request.token[: request.token.rindex(".")]
    if claims["dig"] != ids.digest(signing_input.encode("ascii")):
        raise DocumentRefused("key-proof: for another request")
