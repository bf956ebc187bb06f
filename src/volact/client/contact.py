"""Asking the publisher's authority, and what an answer must be before it is believed (PROTOCOL sections 2, 6, 7).

- A request is stored before it is sent; until it is answered it is sent again byte for byte, so that a lost
  answer costs nothing.
- An answer is verified to the pinned root and compared with the request, claim by claim, before a byte is stored.
- A refusal changes what is tried next and nothing else.
"""

from __future__ import annotations

import hashlib
import io
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from volact.calls import problem_of
from volact.client import check, events, folder, noting
from volact.protocol import ids, machine, matching, status, trust
from volact.protocol.problems import DocumentRefused, Refusal, Refused, Unreachable, VolactError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from volact.calls import Caller
    from volact.client.installation import Installation
    from volact.client.state import Record
    from volact.protocol.documents import Document
    from volact.protocol.trust import Granted
    from volact.signing import Signer

_OK, _NOT_MODIFIED, _HTTPS = 200, 304, 443
_SPENT = ("request-id-reused", "activation-returned", "machine-blocked", "document-refused")
"""Refusals of this very request id for ever: the next try needs a new one."""


def pending_request(here: Installation, product: str) -> dict[str, Any]:
    """The request that asks for a product's activation: the one that waits for its answer, or a new one, stored.

    Raises:
        Refused: if there is no key, or this is a container or shows nothing that identifies it.
    """
    key = here.store.key(here.pub, product)
    if key is None:
        raise Refused(Refusal("no-key-installed", _no_key(here, product)))
    if here.facts.container:
        raise Refused(Refusal("machine-is-container"))
    seen = here.fingerprint(product)
    if not seen:
        raise Refused(Refusal("machine-unidentified"))
    bundle = here.store.pending(here.pub, product)
    if bundle is not None and _still_right(here, product, bundle, key.kid, seen):
        return bundle
    bundle = _request(here, product, key, seen)
    here.store.write_pending(here.pub, product, bundle)
    return bundle


def _no_key(here: Installation, product: str) -> str:
    label = here.store.label(here.pub, product)
    return f"The key {label.label} was dropped after its activation; install it again." if label else ""


def _still_right(
    here: Installation, product: str, bundle: dict[str, Any], key: str, seen: Mapping[str, str]
) -> bool:
    try:
        claims = request_document(bundle).claims
    except DocumentRefused:
        return False
    wanted = {"iss": here.signer.kid, "pub": here.pub, "prd": product, "key": key, "fp": seen}
    return all(claims[name] == value for name, value in wanted.items())


def request_document(bundle: dict[str, Any]) -> Document:
    """The request in a request bundle."""
    return trust.open_self_keyed(bundle, "request").document


def _request(here: Installation, product: str, key: Signer, seen: dict[str, str]) -> dict[str, Any]:
    common = {
        "pub": here.pub,
        "lab": here.lab,
        "iat": here.now,
        "aud": here.pub,
        "op": "activate",
        "prd": product,
    }
    request = here.signer.bundle(
        "request", {**common, "jti": random_id(here), "sub": here.signer.kid, "key": key.kid, "fp": seen}
    )
    signing_input = str(request["token"]).rpartition(".")[0]
    digest = ids.digest(signing_input.encode("ascii"))
    proof = key.sign("key-proof", {**common, "jti": random_id(here), "sub": here.signer.kid, "dig": digest})
    return {**request, "proof": proof}


def random_id(here: Installation) -> str:
    """A new id, 22 characters."""
    return ids.b64u(here.around.entropy(16))


def activate(here: Installation, product: str) -> Granted:
    """Activate a product online, once, and take in what the authority says.

    Raises:
        Refused: the authority's refusal, or one of this machine's own.
        Unreachable: if nobody answers, or somebody else.
        DocumentRefused: if the answer does not hold.
    """
    if here.store.key(here.pub, product) is None:
        raise Refused(Refusal("no-key-installed", _no_key(here, product)))  # nothing to try again by itself
    try:
        request = pending_request(here, product)
        with caller(here, product) as server:
            note(here, product, events.SENT, "")
            granted = ask(here, server, request, "confirmation")
            take_up(here, granted, answers=True)
    except VolactError as error:
        _after_refusal(here, product, error.refusal)
        raise
    note(here, product, events.ANSWERED, events.DONE)
    return granted


def caller(here: Installation, product: str) -> Caller:
    """A connection to a product's authority.

    Raises:
        Unreachable: if the product names no address of it.
    """
    document = here.product(product).document
    if not document["url"]:
        raise Unreachable(Refusal("authority-unreachable", "The product names no address of its authority."))
    return here.around.call(document["url"], document["tls"], here.until)


def ask(here: Installation, server: Caller, request: dict[str, Any], name: str) -> Granted:
    """Send a request; the document `name` that answers it, verified to the root and compared with the request.

    Raises:
        Refused: the authority's refusal.
        Unreachable: if nobody answers, or what comes is no answer.
        DocumentRefused: if the answer does not hold.
    """
    answer = server.post("/v1/requests", request)
    bundle = answer.bundle()
    refusal = problem_of(bundle)
    if refusal is not None:
        raise Refused(noting.with_wait(refusal, answer))
    if answer.status != _OK or "token" not in bundle:
        raise Unreachable(
            Refusal("answer-nonsense", f"Status {answer.status}, and neither an answer nor a problem.")
        )
    granted = trust.take_up(trust.verify(bundle, name, here.roots))
    matching.check_answer(granted.document, request_document(request))
    return granted


def _after_refusal(here: Installation, product: str, refusal: Refusal) -> None:
    if refusal.code in _SPENT:
        here.store.remove(here.pub, product, folder.PENDING)
    noting.failed(here, product, refusal)
    note(here, product, events.ANSWERED, refusal.code)
    here.save()


def take_up(here: Installation, granted: Granted, *, answers: bool) -> None:
    """Put a confirmation into force; `answers` says that it answers the request that this machine sent just now.

    Raises:
        Refused: if it is another machine's, or the status list that was taken last forbids it.
    """
    document = granted.document
    product = document["prd"]
    seen = here.fingerprint(product)
    if machine.compare(document["fp"], seen).verdict != machine.SAME:
        raise Refused(Refusal("other-machine"))
    modes = check.marks_on(here.state, granted)
    if "returned" in modes:
        raise Refused(Refusal("activation-returned"))
    if modes:
        raise Refused(Refusal("machine-blocked", "The status list that was taken last names it."))
    if _was_given_back(here.record(product), document):
        raise Refused(Refusal("activation-returned", "This machine gave it back."))
    here.store.write_grant(granted)
    here.learn(granted)
    if answers:
        here.state = here.state._replace(clock=here.answered_at(document.iat))
    record = here.record(product).without_lease()
    record = record._replace(fp=document["fp"], key_removed=False, next_try=None, failed="")
    here.remember(product, record._replace(given_back=False))
    here.save()
    here.store.remove(here.pub, product, folder.PENDING, folder.LEASE, folder.RETURN)
    label = here.store.label(here.pub, product)
    if here.product(product).policy.forget_key and label is not None and label.key == document["key"]:
        here.store.remove(here.pub, product, folder.KEY)


def _was_given_back(record: Record, document: Document) -> bool:
    """Whether a confirmation is one that was given back, or of the same activation and no newer.

    Not those of a later second: by file an activation may stand although it was promised, and is confirmed anew.
    """
    return any(document["act"] == act and document.iat <= signed for act, _, signed in record.returned)


def fetch_status(here: Installation, product: str) -> bool:
    """Take the publisher's status list from the authority; whether it was a newer one, or newly looked through.

    Raises:
        Unreachable: if nobody answers, or what comes is no status list.
        DocumentRefused: if it does not hold.
    """
    wanted = _ids_of_interest(here)
    headers = {}
    if here.state.pair != (0, 0) and set(wanted) <= set(here.state.looked_for):
        headers["If-None-Match"] = '"{}.{}"'.format(*here.state.pair)
    here.state = here.state._replace(list_checked=here.now)
    with caller(here, product) as server:
        answer = server.get("/v1/status", headers)
    taken = False
    if answer.status == _OK:
        taken = take_list(here, answer.body)
    elif answer.status != _NOT_MODIFIED:
        raise Unreachable(Refusal("answer-nonsense", f"Status {answer.status} instead of a status list."))
    here.save()
    return taken


def wants_list(here: Installation, pair: tuple[int, ...]) -> bool:
    """Whether a list with this pair would say more than the one that was taken: a newer one, or of another grant."""
    if pair == (0, 0) or pair < here.state.pair:
        return False
    return pair > here.state.pair or not _ids_of_interest(here) <= set(here.state.looked_for)


def take_list(here: Installation, data: bytes) -> bool:
    """Take from a status list what concerns this machine; an older one is ignored.

    Raises:
        DocumentRefused: if it does not hold.
    """
    head, _, body = data.partition(b"\n")
    granted = trust.take_up(trust.verify(trust.read_bundle(head), "status", here.roots))
    document, pair = granted.document, status.pair(granted)
    if len(body) != document["len"] or ids.b64u(hashlib.sha256(body).digest()) != document["dig"]:
        raise DocumentRefused("status: the body is not the one that was signed")
    here.learn(granted)
    if pair < here.state.pair:
        return False
    wanted = _ids_of_interest(here)
    found = [(one.kind, one.id, one.mode) for one in status.read(io.BytesIO(body)) if one.id in wanted]
    here.state = here.state._replace(pair=pair, looked_for=tuple(sorted(wanted)), marks=tuple(found))
    return True


def _ids_of_interest(here: Installation) -> set[str]:
    """The ids that a list could say something about here: the machine, its activations and their keys."""
    wanted = {here.signer.kid}
    for product in here.state.products:
        held = here.held(product)
        if held is not None:
            document = held.document
            names = ("sub", "iss") if document.name == "lease" else ("sub", "act", "key")
            wanted |= {document[name] for name in names}
        label = here.store.label(here.pub, product)
        if label is not None:
            wanted.add(label.key)
    return wanted


def note(here: Installation, product: str, number: int, result: str) -> None:
    """Log an event about the product's authority."""
    address = urlsplit(here.product(product).document["url"])
    host = f"{address.hostname}:{address.port or _HTTPS}" if address.hostname else ""
    noting.event(here, product, number, result, host)
