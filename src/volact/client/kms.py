"""Asking a KMS host for a lease (K5 to K7, K10, K14; PROTOCOL sections 2, 3, 5, 6).

1. ``GET /v1/host``, the same for everybody: the host proves that the pinned publisher delegated to it, and that
   this very connection is its own. Whatever fails here is ``host-untrusted``, and nothing about this machine has
   left it but its address. Where DNS named several hosts, the next one is asked (D3, D4; `discovery` says when).
2. Whether it may serve this product in this version is seen from its delegation, without asking.
3. Only then ``POST /v1/leases``. The check-in is noted before it is sent; a lost answer is asked for again under
   the same ``req`` with the same content, a received refusal ends that ``req``. Only a nonce that is refused is
   replaced at once, on the same connection and under the same ``req``: once.
4. The lease is verified to the pinned root and compared with the check-in, claim by claim, before it is stored.
5. A publisher's status list that the lease names and this machine has not taken is fetched on the same connection (M5).

A refusal changes what is tried next, and the intervals, and nothing else.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from volact.calls import MAX_ANSWER, problem_of
from volact.client import check, contact, discovery, events, noting, planning, timekeeping
from volact.client.discovery import HAND, Known
from volact.client.finding import Search, Wanted
from volact.protocol import matching, trust
from volact.protocol.problems import DocumentRefused, Refusal, Refused, Unreachable, VolactError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from volact.calls import Answer, HostCaller
    from volact.client.address import Address
    from volact.client.finding import Target
    from volact.client.installation import Installation
    from volact.protocol.documents import Document
    from volact.protocol.trust import Granted

_OK, _SERVER_ERROR = 200, 500
_MOST_NONCE = 200
_NONCE_REFUSED = "nonce-refused"
_UNPROVED = (
    "host-not-activated",
    "host-blocked",
    "host-clock-wrong",
    "machine-not-entitled",
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
        seen: the same for `discovery`.
    """

    def __init__(self, error: VolactError, *, proved: bool, answered: bool) -> None:
        super().__init__(str(error))
        self.error, self.proved, self.answered = error, proved, answered
        self.seen = discovery.Outcome(error.refusal, proved)


def renew(here: Installation, product: str) -> Granted:
    """Try once: ask the hosts there are for a lease, until one grants it or refuses for good, and take that in.

    Raises:
        Refused: a host's refusal, or one of this machine's own (``host-not-found``, ``machine-is-container``).
        Unreachable: ``host-unreachable``, or ``host-untrusted``: nothing was sent then.
        DocumentRefused: if the lease does not hold.
    """
    search, failures = _search(here, product), list[_Outcome]()
    if here.facts.container:
        raise _failed(here, product, Refused(Refusal("machine-is-container")))
    made: set[str] = set()
    for target in search.targets():
        try:
            granted = _ask(here, product, target, made)
        except _Outcome as outcome:
            _after(here, product, target.address, outcome)
            failures.append(outcome)
            if here.is_over or not discovery.goes_on(outcome.seen):
                break
        else:
            figures = _figures(here, product, granted)
            noting.event(here, product, events.ANSWERED, events.DONE, str(target.address), **figures)
            return granted
    if not failures:
        raise _failed(here, product, Refused(search.nothing_found()))
    told = discovery.telling([one.seen for one in failures])
    error = next(one.error for one in failures if one.seen is told)
    waits = [noting.count(one.seen.refusal.extra, "retry_after") or 0 for one in failures if one.seen.proved]
    noting.failed(here, product, told.refusal, asked=max(waits, default=0))
    here.save()
    raise error


def _search(here: Installation, product: str) -> Search:
    own, known = here.store.settings(here.pub, product), here.record(product).known
    wanted = Wanted(
        host=own.host,
        port=own.port,
        domain=own.domain,
        label=here.around.label,
        known=Known(*known) if known is not None and own.caching else None,
    )
    return Search(wanted, lambda: here.around.names(here.lab), here.around.has_route, here.around.chance)


def _failed(here: Installation, product: str, error: Refused) -> Refused:
    """Plan the next try, and log, after a refusal of this machine's own, for which nobody was asked."""
    noting.failed(here, product, error.refusal)
    noting.event(here, product, events.ANSWERED, error.refusal.code, "")
    here.save()
    return error


def _ask(here: Installation, product: str, target: Target, made_here: set[str]) -> Granted:
    """Ask one host; `made_here` are the check-ins, by their `req`, that were made in this very try."""
    proved = answered = False
    address = target.address
    try:
        with here.around.call_host(address.name, address.port, here.until, target.ips) as caller:
            for nonces_left in (1, 0):
                proved = False
                proof = prove(here, caller)
                proved = True
                here.learn(proof.host)
                _check_serves(here, product, proof.delegation)
                checkin = _check_in(here, product, proof, made_here)
                noting.event(here, product, events.SENT, "", str(address))
                answer = caller.post("/v1/leases", checkin)
                if not (nonces_left and _is_nonce_refused(answer)):
                    break
                noting.event(here, product, events.ANSWERED, _NONCE_REFUSED, str(address))
            answered = answer.status < _SERVER_ERROR
            asked = trust.open_self_keyed(checkin, "checkin").document
            granted = _lease_or_list(here, caller, answer, asked)
            known = None if target.way == HAND else Known(address.name, address.port, caller.ip)
            take_up(here, granted, fresh=asked["req"] in made_here, host=str(address), known=known)
            if contact.wants_list(here, tuple(granted.document["sver"])):
                _take_list(here, caller)
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


def _check_in(here: Installation, product: str, proof: Proof, made_here: set[str]) -> dict[str, Any]:
    """The check-in, noted before it is sent; a `req` that is a fresh one is added to `made_here`."""
    record, lease = here.record(product), here.held(product)
    content = {
        "prev": lease.document.jti if lease else None,
        "fp": here.fingerprint(product),
        "vm": here.facts.virtual,
    }
    noted = record.checkin
    if noted is None or {name: noted.get(name) for name in content} != content:
        noted = {"req": contact.random_id(here), **content}
        made_here.add(noted["req"])
        here.remember(product, record._replace(checkin=noted))
    here.save()
    return here.signer.bundle(
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
    matching.check_answer(granted.document, checkin)
    return granted


def _lease_or_list(here: Installation, caller: HostCaller, answer: Answer, checkin: Document) -> Granted:
    """The lease; where the machine is blocked, its host's list is taken first, by which alone the state changes (M5)."""
    try:
        return _lease(here, answer, checkin)
    except Refused as error:
        if error.refusal.code == "machine-blocked":
            _take_list(here, caller)
        raise


def _take_list(here: Installation, caller: HostCaller) -> None:
    """Take the publisher's list from a proved host. Without it the lease stands, and it is asked for at the next one."""
    try:
        answer = caller.get("/v1/status", most=MAX_ANSWER)
        if answer.status == _OK:
            contact.take_list(here, answer.body)
    except (Unreachable, DocumentRefused):
        return
    here.save()


def take_up(
    here: Installation, granted: Granted, *, fresh: bool, host: str, known: Known | None = None
) -> None:
    """Put a lease into force that answers this machine's own check-in.

    `fresh` says that the check-in was made in this very try: only then is the lease's date the present time. An
    answer that was lost and came again may be old, and only says how late it is at least (PROTOCOL section 8).
    `known` is the host as DNS named it, to be asked first from now on.

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
    here.state = here.state._replace(
        clock=here.answered_at(document.iat) if fresh else timekeeping.signed(here.state.clock, document.iat)
    )
    end = min(document["exp"], document.iat + here.product(product).policy.validity)
    adopted = planning.bounded(document["ren"], document["rty"])
    wait = planning.renew_after(adopted, end - here.now, here.around.chance())
    here.remember(
        product,
        here.record(product)._replace(
            fp=document["fp"],
            key_removed=False,
            given_back=False,
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
            known=(known.name, known.port, known.ip) if known else None,
        ),
    )
    here.save()


def _after(here: Installation, product: str, address: Address, outcome: _Outcome) -> None:
    """Note what one host said: adopt what a proved one says of its intervals, and log it (K6, K8)."""
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
    noting.event(
        here, product, events.ANSWERED, refusal.code, str(address), required=required, current=current
    )


def _figures(here: Installation, product: str, granted: Granted) -> Mapping[str, int]:
    """The count at the grant; what is required is the product's first threshold on machines, as the host's is."""
    thresholds = here.product(product).policy.thresholds
    required = [one.minimum for one in thresholds if one.counted == "machines"] or [thresholds[0].minimum]
    return {"required": required[0], "current": granted.document["cnt"]}
