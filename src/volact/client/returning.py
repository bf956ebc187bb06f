"""Giving an activation back (M6; PROTOCOL sections 2 and 7; section 5, row 13).

Online nothing changes until the receipt is here: the return is stored before it is sent, and until it is answered, or
refused for good, the same bytes are sent again: by the command, and by the service at the retry interval, so that a
lost receipt leaves no machine licensed whose seat is another's. Then the machine stops: the state is written, and only
after it the confirmation goes.

By file it is a promise, so the machine stops first: the state is written, then the return is signed, stored, and
written for the medium. It says of itself that it was (`file`), since its seat is free 30 days later and not at once.
A promise is not taken back by a refusal: whoever was refused activates again, which is not counted while the activation
stands, and makes the promise void, since it names a confirmation that is not the newest any more.

A crash between two of these steps leaves a machine that goes on with the next one when the command is repeated.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from volact.client import check, contact, events, folder, noting
from volact.protocol.problems import BrokenData, DocumentRefused, Refusal, Refused, Unreachable, VolactError

if TYPE_CHECKING:
    from volact.client.installation import Installation
    from volact.protocol.trust import Granted

_AGAIN = ("busy", "storage-unavailable", "authority-expired", "too-many-requests", "internal")
"""Refusals after which the same return is sent again."""


class Held(NamedTuple):
    """What is given back: an activation, its newest confirmation that is known here, and when that was signed."""

    act: str
    confirmation: str
    signed: int


def is_waiting(here: Installation, product: str) -> bool:
    """Whether an online return waits for its answer: the service sends it again.

    A promise does not: whether and when its medium travels is a person's affair.
    """
    try:
        stored = _stored(here, product)
    except BrokenData:
        return False  # the command says what is wrong
    return stored is not None and not _is_by_file(stored[0])


def give_back(here: Installation, product: str) -> tuple[Held, Granted]:
    """Give a product's activation back online, once; what was given back, and the receipt.

    A return that was written for a medium before is sent as it is.

    Raises:
        Refused: the authority's refusal; ``nothing-to-return`` or ``activation-returned``.
        Unreachable: if nobody answers, or somebody else; the machine is as it was.
        DocumentRefused: if the receipt does not hold; likewise.
    """
    bundle, held = _stored(here, product) or _make(here, product, _returnable(here, product), by_file=False)
    try:
        with contact.caller(here, product) as server:
            contact.note(here, product, events.SENT, "")
            receipt = contact.ask(here, server, bundle, "receipt")
            if receipt.document["act"] != held.act:
                raise DocumentRefused("receipt: act is not that of the activation")
    except VolactError as error:
        _after_failure(here, product, error, held, by_file=_is_by_file(bundle))
        raise
    here.learn(receipt)
    _stop(here, product, held)
    here.store.remove(here.pub, product, folder.GRANT, folder.RETURN)
    contact.note(here, product, events.ANSWERED, events.DONE)
    return held, receipt


def promise(here: Installation, product: str) -> tuple[Held, dict[str, Any]]:
    """Stop, and sign a return for a medium; what is given back, and the bundle, the same as long as it is stored.

    Raises:
        Refused: ``nothing-to-return``, ``activation-returned``, or ``machine-blocked``, which no return changes.
    """
    stored = _stored(here, product)
    if stored is None or not _is_by_file(stored[0]):
        grant = _returnable(here, product)
        if "all" in check.marks_on(here.state, grant):
            raise Refused(Refusal("machine-blocked", "The status list that was taken last names it."))
        _stop(here, product, _held(grant))
        stored = _make(here, product, grant, by_file=True)
    here.store.remove(here.pub, product, folder.GRANT)
    return stored[1], stored[0]


def _held(grant: Granted) -> Held:
    return Held(grant.document["act"], grant.document.jti, grant.document.iat)


def _is_by_file(bundle: dict[str, Any]) -> bool:
    return contact.request_document(bundle).claims.get("file") is True


def _stored(here: Installation, product: str) -> tuple[dict[str, Any], Held] | None:
    """The return that waits for its answer, if it is this identity's and of what is held or was given back."""
    bundle = here.store.pending(here.pub, product, folder.RETURN)
    if bundle is None:
        return None
    try:
        claims = contact.request_document(bundle).claims
    except DocumentRefused:
        return None
    grant, record = here.grant(product), here.record(product)
    if grant is not None:
        held = _held(grant)
    elif record.given_back and record.returned:
        held = Held(*record.returned[-1])
    else:
        return None
    wanted = {
        "iss": here.signer.kid,
        "pub": here.pub,
        "prd": product,
        "op": "return",
        "ref": held.confirmation,
    }
    return (bundle, held) if all(claims.get(name) == value for name, value in wanted.items()) else None


def _returnable(here: Installation, product: str) -> Granted:
    """The confirmation of what can be given back."""
    grant = here.grant(product)
    if grant is None:
        if here.record(product).given_back:
            raise Refused(Refusal("activation-returned", "This machine gave it back."))
        leased = here.held(product) is not None
        raise Refused(Refusal("nothing-to-return", "A KMS host's lease ends by itself." if leased else ""))
    if "returned" in check.marks_on(here.state, grant):
        raise Refused(Refusal("activation-returned", "The publisher's status list says so."))
    if grant.document["sub"] != here.signer.kid:
        raise Refused(
            Refusal("nothing-to-return", "The activation was granted to another identity of this machine.")
        )
    return grant


def _make(here: Installation, product: str, grant: Granted, *, by_file: bool) -> tuple[dict[str, Any], Held]:
    """A new return, signed by this machine alone and stored."""
    claims = {
        "pub": here.pub,
        "lab": here.lab,
        "iat": here.now,
        "jti": contact.random_id(here),
        "sub": here.signer.kid,
        "aud": here.pub,
        "op": "return",
        "prd": product,
        "key": grant.document["key"],
        "fp": here.fingerprint(product),
        "ref": grant.document.jti,
    }
    bundle = here.signer.bundle("request", {**claims, "file": True} if by_file else claims)
    here.store.write_pending(here.pub, product, bundle, folder.RETURN)
    return bundle, _held(grant)


def _stop(here: Installation, product: str, held: Held) -> None:
    """From here on the product is Unlicensed, whatever else stands in its folder."""
    here.remember(product, here.record(product).with_return(*held))
    here.save()


def _after_failure(
    here: Installation, product: str, error: VolactError, held: Held, *, by_file: bool
) -> None:
    """Plan the next try, or forget a return that was refused for good; a promise is kept, and sent by hand alone."""
    code = error.refusal.code
    is_final = isinstance(error, Refused) and code not in _AGAIN
    if is_final and code == "activation-returned":
        is_final = _is_listed(here, product)
    if not by_file and is_final:
        here.store.remove(here.pub, product, folder.RETURN)
        superseded = held.confirmation if code == "confirmation-superseded" else ""
        record = here.record(product)._replace(next_try=None, failed="", superseded=superseded)
        here.remember(product, record)
    elif not by_file:
        noting.failed(here, product, error.refusal)
    contact.note(here, product, events.ANSWERED, code)
    here.save()


def _is_listed(here: Installation, product: str) -> bool:
    """Whether the status list, fetched now, says that it was given back, which alone is believed.

    A list that does not say so yet may be on its way: another of the authority's processes wrote the newest.
    """
    try:
        contact.fetch_status(here, product)
    except (Refused, Unreachable, DocumentRefused):
        return False
    grant = here.grant(product)
    return grant is None or "returned" in check.marks_on(here.state, grant)
