"""Asking a KMS host for a lease (K5 to K7, K10, K14; PROTOCOL sections 2, 3, 5, 6).

1. ``GET /v1/host``, the same for everybody: the host proves that the pinned publisher delegated to it, and that
   this very connection is its own. Whatever fails here is ``host-untrusted``, and nothing about this machine has
   left it but its address.
2. Whether it may serve this product in this version is seen from its delegation, without asking.
3. Only then ``POST /v1/leases``. The check-in is noted before it is sent; a lost answer is asked for again under
   the same ``req`` with the same content, a received refusal ends that ``req``. Only a nonce that is refused is
   replaced at once, on the same connection and under the same ``req``: once.
4. The lease is verified to the pinned root and compared with the check-in, claim by claim, before it is stored.

A refusal changes what is tried next, and the intervals, and nothing else.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from volact.calls import problem_of
from volact.client import check, contact, events, noting, planning, timekeeping
from volact.protocol import trust
from volact.protocol.problems import DocumentRefused, Refusal, Refused, Unreachable, VolactError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from volact.calls import Answer, HostCaller
    from volact.client.address import Address
    from volact.client.installation import Installation
    from volact.protocol.documents import Document
    from volact.protocol.trust import Granted

_OK, _SERVER_ERROR = 200, 500
_MOST_NONCE = 200
_NONCE_REFUSED = "nonce-refused"
_UNPROVED = (
    "host-not-activated",
    "host-clock-wrong",
    "busy",
    "storage-unavailable",
    "too-many-requests",
    "internal",
)
"""What a host may say instead of its proof; from anybody, so it decides nothing but the words that are shown."""


class Proof(NamedTuple):
    """A host that has proved itself on this connection.

    Attributes:
        host: its verified host document, with its chain.
        nonce: what the check-in must repeat.
    """

    host: Granted
    nonce: str

    @property
    def delegation(self) -> Document:
        """The host's own delegation."""
        return self.host.chain[-1]


class _Outcome(Exception):
    """A refusal, and how far the try had come.

    Attributes:
        error: what is raised in the end.
        proved: whether the host had proved itself, so that its intervals and waits count.
        answered: whether the check-in was answered, so that its `req` is used up.
    """

    def __init__(self, error: VolactError, *, proved: bool, answered: bool) -> None:
        super().__init__(str(error))
        self.error, self.proved, self.answered = error, proved, answered


def renew(here: Installation, product: str) -> Granted:
    """Ask the host that is set for a lease, once, and take in what it says.

    Raises:
        Refused: the host's refusal, or one of this machine's own (``host-not-found``, ``machine-is-container``).
        Unreachable: ``host-unreachable``, or ``host-untrusted``: nothing was sent then.
        DocumentRefused: if the lease does not hold.
    """
    address = here.store.settings(here.pub, product).host
    if address is None:
        raise Refused(Refusal("host-not-found"))  # nothing to try again by itself, and no event
    try:
        granted = _ask(here, product, address)
    except _Outcome as outcome:
        _after(here, product, address, outcome)
        raise outcome.error from None
    noting.event(
        here, product, events.ANSWERED, events.DONE, str(address), **_figures(here, product, granted)
    )
    return granted


def _ask(here: Installation, product: str, address: Address) -> Granted:
    proved = answered = False
    try:
        if here.facts.container:
            raise Refused(Refusal("machine-is-container"))
        with here.around.call_host(address.name, address.port) as caller:
            fresh = False
            for nonces_left in (1, 0):
                proved = False
                proof = prove(here, caller)
                proved = True
                here.learn(proof.host)
                _check_serves(here, product, proof.delegation)
                checkin, made = _check_in(here, product, proof)
                fresh = fresh or made
                noting.event(here, product, events.SENT, "", str(address))
                answer = caller.post("/v1/leases", checkin)
                if not (nonces_left and _is_nonce_refused(answer)):
                    break
                noting.event(here, product, events.ANSWERED, _NONCE_REFUSED, str(address))
        answered = answer.status < _SERVER_ERROR
        asked = trust.open_self_keyed(checkin, "checkin").document
        granted = _lease(here, answer, asked)
        take_up(here, granted, fresh=fresh, host=str(address))
        return granted
    except VolactError as error:
        raise _Outcome(error, proved=proved, answered=answered) from None


def _is_nonce_refused(answer: Answer) -> bool:
    """Whether the host only wants another nonce: it gave this one too long ago, or before it got another key."""
    try:
        refusal = problem_of(trust.read_bundle(answer.body))
    except DocumentRefused:
        return False
    return refusal is not None and refusal.code == _NONCE_REFUSED


def prove(here: Installation, caller: HostCaller) -> Proof:
    """Have the host prove itself: PROTOCOL section 6's order, nothing sent but the question.

    Raises:
        Refused: what a host says instead, if it is one of the few things that it may say unproved.
        Unreachable: ``host-untrusted`` or ``host-unreachable``.
    """
    answer = caller.get("/v1/host")
    try:
        body = trust.read_bundle(answer.body)
    except DocumentRefused:
        raise _untrusted(f"Status {answer.status}, and no answer of a host") from None
    refusal = problem_of(body)
    if refusal is not None and refusal.code in _UNPROVED:
        raise Refused(noting.with_wait(refusal, answer))
    if answer.status != _OK:
        raise _untrusted(f"Status {answer.status} instead of its proof")
    nonce = body.get("nonce")
    if not isinstance(nonce, str) or not 1 <= len(nonce) <= _MOST_NONCE:
        raise _untrusted("It gives no nonce")
    try:
        trust.open_roots(body.get("root"), here.pub)
        host = trust.take_up(trust.verify(body, "host", here.roots))
    except DocumentRefused as error:
        raise _untrusted(error.refusal.detail) from None
    if _is_blocked(here, host.document.kid):
        raise _untrusted("The publisher's status list blocks it")
    caller.take_only(host.document["tls"])
    return Proof(host, nonce)


def _untrusted(detail: str) -> Unreachable:
    return Unreachable(Refusal("host-untrusted", f"{detail}."))


def _is_blocked(here: Installation, host: str) -> bool:
    return any((kind, identifier) == ("host", host) for kind, identifier, _ in here.state.marks)


def _check_serves(here: Installation, product: str, delegation: Document) -> None:
    """Whether a host of this delegation may serve the product in its installed version.

    Raises:
        Refused: ``product-not-served`` or ``product-outdated``.
    """
    if product not in delegation["prd"]:
        raise Refused(
            Refusal("product-not-served", "It was not asked: its delegation does not name the product.")
        )
    least = delegation["min_ver"].get(product, 1)
    version = here.product(product).document["ver"]
    if version < least:
        raise Refused(
            Refusal("product-outdated", f"Version {version} is installed, at least {least} is needed.")
        )


def _check_in(here: Installation, product: str, proof: Proof) -> tuple[dict[str, Any], bool]:
    """The check-in, noted before it is sent, and whether its `req` is a fresh one."""
    record, lease = here.record(product), here.held(product)
    content = {
        "prev": lease.document.jti if lease else None,
        "fp": here.fingerprint(product),
        "vm": here.facts.virtual,
    }
    noted = record.checkin
    fresh = noted is None or {name: noted.get(name) for name in content} != content
    if noted is None or fresh:
        noted = {"req": contact.random_id(here), **content}
        here.remember(product, record._replace(checkin=noted))
    here.save()
    bundle = here.signer.bundle(
        "checkin",
        {
            "pub": here.pub,
            "lab": here.lab,
            "iat": here.now,
            "jti": contact.random_id(here),
            "sub": here.signer.kid,
            "aud": proof.host.document.kid,
            "prd": product,
            "nonce": proof.nonce,
            "state": here.standing(product).state,
            "minutes": noting.minutes(here, product),
            **noted,
        },
    )
    return bundle, fresh


def _lease(here: Installation, answer: Answer, checkin: Document) -> Granted:
    bundle = answer.bundle()
    refusal = problem_of(bundle)
    if refusal is not None:
        raise Refused(noting.with_wait(refusal, answer))
    if answer.status != _OK or "token" not in bundle:
        raise Unreachable(
            Refusal("answer-nonsense", f"Status {answer.status}, and neither a lease nor a problem.")
        )
    granted = trust.take_up(trust.verify(bundle, "lease", here.roots))
    trust.check_answer(granted.document, checkin)
    return granted


def take_up(here: Installation, granted: Granted, *, fresh: bool, host: str) -> None:
    """Put a lease into force that answers this machine's own check-in.

    `fresh` says that the check-in was made in this very try: only then is the lease's date the present time. An
    answer that was lost and came again may be old, and only says how late it is at least (PROTOCOL section 8).

    Raises:
        Refused: ``product-outdated``, or the status list that was taken last forbids it.
    """
    document = granted.document
    product = document["prd"]
    _check_serves(here, product, granted.chain[-1])
    if check.marks_on(here.state, granted):
        raise Refused(
            Refusal("machine-blocked", "The status list that was taken last names machine or host.")
        )
    here.store.write_lease(granted)
    here.learn(granted)
    dated = timekeeping.answered if fresh else timekeeping.signed
    here.state = here.state._replace(clock=dated(here.state.clock, document.iat))
    end = min(document["exp"], document.iat + here.product(product).policy.validity)
    adopted = planning.bounded(document["ren"], document["rty"])
    wait = planning.renew_after(adopted, end - here.now, here.around.chance())
    here.remember(
        product,
        here.record(product)._replace(
            fp=document["fp"],
            key_removed=False,
            next_try=here.now + wait,
            failed="",
            lease=document.jti,
            lease_end=end,
            heard=here.now,
            host=host,
            renewal=adopted.renewal,
            retry=adopted.retry,
            counted=document["cnt"],
            checkin=None,
        ),
    )
    here.save()


def _after(here: Installation, product: str, address: Address, outcome: _Outcome) -> None:
    """Note a failed try: adopt what a proved host says of its intervals, plan the next try, log it (K6, K8)."""
    refusal, record = outcome.error.refusal, here.record(product)
    current = required = None
    if outcome.proved:
        current, required = noting.count(refusal.extra, "count"), noting.count(refusal.extra, "required")
        record = record._replace(counted=record.counted if current is None else current)
        renewal, retry = noting.count(refusal.extra, "renewal"), noting.count(refusal.extra, "retry")
        if renewal is not None and retry is not None:
            adopted = planning.bounded(renewal, retry)
            record = record._replace(renewal=adopted.renewal, retry=adopted.retry)
    if outcome.answered:
        record = record._replace(checkin=None)
    here.remember(product, record)
    noting.failed(here, product, refusal, wait=outcome.proved)
    noting.event(
        here, product, events.ANSWERED, refusal.code, str(address), required=required, current=current
    )
    here.save()


def _figures(here: Installation, product: str, granted: Granted) -> Mapping[str, int]:
    """The count at the grant; what is required is the product's first threshold on machines, as the host's is."""
    thresholds = here.product(product).policy.thresholds
    required = [one.minimum for one in thresholds if one.counted == "machines"] or [thresholds[0].minimum]
    return {"required": required[0], "current": granted.document["cnt"]}
