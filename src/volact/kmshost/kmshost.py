"""The role: answers check-ins, a batch at a time (K1 to K5, K10, K11, K13, K14; PROTOCOL sections 5 and 6).

The order is always: verify, decide and record in one transaction, commit, sign, answer. A crash at any point leaves
either nothing or a recorded lease that a repetition of the same check-in gets, to the letter.
"""

from __future__ import annotations

import json
from collections import Counter
from typing import TYPE_CHECKING, NamedTuple

import msgspec

from volact.kmshost import checkins, counting, ledger, nonces, placing, store, surveys
from volact.kmshost.admission import LONELY_FOR, Admission
from volact.kmshost.clockwatch import Clockwatch
from volact.kmshost.counting import GRANTED
from volact.kmshost.housekeeping import Housekeeping
from volact.kmshost.lapses import Lapses
from volact.kmshost.ledger import Group, Record
from volact.kmshost.store import Event
from volact.kmshost.surveys import Copy
from volact.protocol import documents, ids
from volact.protocol.policy import HOUR
from volact.protocol.problems import Refusal, VolactError, printable
from volact.stores import Conflict

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from sqlalchemy import Connection

    from volact.clock import Clock
    from volact.kmshost.admission import Turn
    from volact.kmshost.checkins import CheckIn, Sent
    from volact.kmshost.keyring import Keyring, Product
    from volact.kmshost.statuslist import Held
    from volact.kmshost.store import Store
    from volact.kmshost.terms import Terms
    from volact.protocol.documents import Document

_ID_BYTES = 16
_COUNT_EVERY = HOUR
_REMEMBERED = 60
_encode = msgspec.json.Encoder().encode


class _Using(NamedTuple):
    """The terms, and what follows from them; put in its place as one, since a batch runs in another thread."""

    terms: Terms
    groups: dict[str, Group]
    strong: bool


class _Lease(NamedTuple):
    """A lease as it was recorded, to be signed after the commit."""

    payload: bytes
    kid: str
    delegation: str


class _Work(NamedTuple):
    """What holds for all check-ins of a batch; `lease` are the claims that its leases begin with."""

    tx: Connection
    batch: ledger.Batch
    turn: Turn
    keyring: Keyring
    using: _Using
    delegation: Document
    now: int
    enrolled: set[str]
    lease: dict[str, object]
    events: list[Event]
    copies: list[Copy]
    turned_away: list[tuple[str, int]]

    def group_of(self, product: Product, cmid: str) -> str:
        """Where a machine counts (K17)."""
        counts = not product.policy.strong_count or cmid in self.enrolled
        return product.group if counts else placing.NOWHERE


Outcome = _Lease | Refusal


class KmsHost:
    """Answers check-ins. One object serves one process; several processes may share a PostgreSQL."""

    def __init__(
        self,
        clock: Clock,
        books: Store,
        terms: Terms,
        randomness: Callable[[int], bytes],
        report: Callable[[Sequence[Event]], None],
        warn: Callable[[str], None] = lambda _text: None,
    ) -> None:
        """Take the time from `clock`, keep everything in `books`, answer on `terms`.

        `report` hears of the events of each batch, which are rows already; `warn` of what an administrator should
        look at.
        """
        self.clock = clock
        self.store = books
        self._randomness = randomness
        self._report = report
        self._warn = warn
        self._memory = ledger.Memory()
        self._nonce_key = b""
        self._watch = Clockwatch()
        self._housekeeping = Housekeeping(self._watch)
        self._last_now = 0
        self._warned = False
        self._introduced: tuple[int, bytes | Refusal] = (-1, Refusal("busy"))
        self._using = _using(terms)
        self._admission = Admission(terms.limits)
        self._lapses = Lapses()
        self._failed: tuple[int, str] | None = None
        self._counted_at: int | None = None

    def start(self) -> None:
        """Read what must be known before the first request; of machines at most how many records there are.

        Raises:
            VolactError: if the store cannot be read.
        """
        with self.store.reading() as tx:
            found, placed = store.publisher(tx), placing.places(tx)
            self._admission.start(tx)
        self._nonce_key = found.nonce_key if found else b""
        self._housekeeping.start(self.clock, self.store)
        self._place(placed, self._using.terms)

    def use(self, terms: Terms) -> None:
        """Answer on these terms from the next batch on; called between two batches.

        Raises:
            VolactError: if the store failed; then nothing is changed.
        """
        self._place(self._using.terms.places(), terms)
        self._using = _using(terms)
        self._admission.limit(terms.limits)
        self._memory.forget()
        self._introduced = (-1, Refusal("busy"))

    def _place(self, before: dict[str, placing.Place], terms: Terms) -> None:
        """Let the records of products count where their newest documents say (K1), if they did not `before`."""
        changed = {prd: where for prd, where in terms.places().items() if before.get(prd) != where}
        if changed:
            with self.store.writing() as tx:
                for prd, where in sorted(changed.items()):
                    placing.place(tx, prd, where)

    @property
    def blocks(self) -> Held:
        """The publisher's status list on whose terms it answers."""
        return self._using.terms.blocks

    # --- GET /v1/host -------------------------------------------------------------------------------------

    def introduction(self) -> bytes | Refusal:
        """What the host says of itself, the same for everybody: its proof, and a nonce that is a second old at most."""
        now = self.clock.now()
        if self._introduced[0] != now:
            self._introduced = now, self._introduce(now)
        return self._introduced[1]

    def _introduce(self, now: int) -> bytes | Refusal:
        terms = self._using.terms
        keyring, delegation = terms.keyring, terms.delegation(now)
        if isinstance(delegation, Refusal):
            self._lapses.meet(delegation.code)
            return delegation
        assert keyring is not None  # noqa: S101 - there is no delegation without one
        # Signed anew each second: its date is one that a client has just asked for.
        members = keyring.introduction(terms.tls, delegation, now, self._new_id)
        random = self._randomness(nonces.RANDOM_BYTES)
        nonce = nonces.make(self._nonce_key, keyring.host, now, random)
        return json.dumps({**members, "nonce": nonce}, separators=(",", ":")).encode("ascii")

    # --- POST /v1/leases ----------------------------------------------------------------------------------

    def answer(self, sent: Sequence[tuple[Sent, str]]) -> list[bytes | Refusal]:
        """Answer check-ins, each with its address, in their order: bundles or refusals, in one transaction.

        Raises:
            VolactError: if the store failed; then nothing of it happened.
        """
        now = self._watch.look(self.clock).now
        using = self._using
        keyring, delegation = using.terms.keyring, using.terms.delegation(now)
        if isinstance(delegation, Refusal):
            self._lapses.meet(delegation.code)
            return [delegation] * len(sent)
        assert keyring is not None  # noqa: S101 - there is no delegation without one
        if now < self._last_now:
            self._memory.forget()
        self._last_now = now
        frame = checkins.Frame(keyring.pub, keyring.roots.lab, keyring.hosts, self._nonce_key, now)
        opened = checkins.open_all(sent, frame)
        asked = [one for one in opened if not isinstance(one, Refusal)]
        outcomes = iter(self._decide_or_repeat(asked, using, keyring, delegation, now) if asked else ())
        answers: list[bytes | Refusal] = []
        for one in opened:
            outcome: Outcome = one if isinstance(one, Refusal) else next(outcomes)
            answers.append(outcome if isinstance(outcome, Refusal) else keyring.bundle(*outcome))
        return answers

    def _decide_or_repeat(
        self, asked: Sequence[CheckIn], using: _Using, keyring: Keyring, delegation: Document, now: int
    ) -> list[Outcome]:
        """Decide; once more if another host of this count wrote the same records first, and these can be read now."""
        try:
            try:
                outcomes = self._decide(asked, using, keyring, delegation, now)
            except Conflict:
                outcomes = self._decide(asked, using, keyring, delegation, now)
        except VolactError as error:
            self._lapses.meet(error.refusal.code)
            self._failed = self.clock.running(), error.refusal.code
            raise
        self._failed = None
        return outcomes

    def _decide(
        self, asked: Sequence[CheckIn], using: _Using, keyring: Keyring, delegation: Document, now: int
    ) -> list[Outcome]:
        """Decide the check-ins in their order and record everything; on return it is on disk."""
        events: list[Event] = []
        with self.store.writing() as tx:
            cmids = {one.document["iss"] for one in asked}
            batch = ledger.Batch(tx, self._memory, cmids, now)
            enrolled = placing.listed(tx, cmids) if using.strong else set()
            lease = {"v": documents.VERSION, **keyring.common(), "iss": keyring.host, "iat": now}
            turn = self._admission.turn(tx)
            work = _Work(tx, batch, turn, keyring, using, delegation, now, enrolled, lease, events, [], [])
            outcomes = [self._decide_one(work, one) for one in asked]
            batch.write()
            surveys.note_copies(tx, work.copies)
            store.add_event(tx, *events)
            store.add_tally(
                tx, Counter([*((one.result, one.state or 0) for one in events), *work.turned_away])
            )
        batch.remember()
        turn.remember()
        self._watch_clocks(asked, now)
        self._report(events)
        return outcomes

    def _decide_one(self, work: _Work, asked: CheckIn) -> Outcome:
        claims, keyring = asked.document.claims, work.keyring
        product = keyring.products.get(claims["prd"])
        if product is None or claims["prd"] not in work.delegation["prd"]:
            return self._refuse(work, asked, Refusal("product-not-served"))
        if work.using.terms.blocks.blocks_machine(claims["iss"]):
            return self._refuse(work, asked, Refusal("machine-blocked"))
        record = work.batch.find(claims["iss"], claims["prd"])
        known = record.known() if record else None
        repeated = counting.repeats(known, claims["req"], asked.digest)
        if isinstance(repeated, Refusal):
            return self._refuse(work, asked, repeated)
        if repeated and record and record.payload is not None and record.kid == keyring.host:
            self._hear_again(work, asked, product, record)
            return _Lease(record.payload, record.kid, record.delegation or "")
        seen = counting.recognise(known, claims["fp"])
        if isinstance(seen, Refusal):
            work.copies.append(_copy(asked, work.now))
            return self._refuse(work, asked, seen)
        refusal = None if work.batch.knows(claims["iss"]) else self._turn_away(work, asked, product)
        if refusal is not None:
            return refusal
        called = self._called(work, asked, product, record, seen)
        work.batch.call(called)
        return self._count(work, asked, product, known, called)

    def _turn_away(self, work: _Work, asked: CheckIn, product: Product) -> Refusal | None:
        """Why a machine that has no record may not have one now (K17).

        It is counted and leaves no event of its own: there could be as many as there are fake identities.
        """
        retry = work.using.terms.told(product)[1]
        refusal = work.turn.admit(asked.address, work.now, retry)
        if refusal is not None:
            self._lapses.meet(refusal.code)
            work.turned_away.append((refusal.code, asked.document["state"]))
        return refusal

    def _hear_again(self, work: _Work, asked: CheckIn, product: Product, record: Record) -> None:
        """A lost answer is asked for again: a contact like any other (K4), if the nonce is younger than the last one.

        Captured bytes that are sent again have the nonce of their first time, and change nothing (T14).
        """
        if asked.given <= record.last:
            return
        last, expires = work.now, work.now + product.policy.record_lifetime
        work.batch.put(record._replace(last=last, expires=expires, address=asked.address))
        self._note(work, asked, GRANTED)

    def _called(
        self, work: _Work, asked: CheckIn, product: Product, record: Record | None, seen: counting.Seen
    ) -> Record:
        """The record as this contact leaves it, before it is decided whether a lease is given."""
        claims, now = asked.document.claims, work.now
        fp, before = ledger.as_json(seen.fp) or "{}", ledger.as_json(seen.before)
        contact = {
            "grp": work.group_of(product, claims["iss"]),
            "server": product.server,
            "last": now,
            "expires": now + product.policy.record_lifetime,
            "fp": fp,
            "before": before,
            "state": claims["state"],
            "minutes": claims["minutes"],
            "virtual": claims["vm"],
            "name": _for_people(claims.get("name")),
            "address": asked.address,
            "outcome": GRANTED,
        }
        if record:
            return record._replace(**contact)
        return Record(id=0, cmid=claims["iss"], prd=claims["prd"], first=now, **contact)

    def _count(
        self,
        work: _Work,
        asked: CheckIn,
        product: Product,
        known: counting.Known | None,
        called: Record,
    ) -> Outcome:
        group, rules = work.using.groups[product.group], product.policy
        missing, count = work.batch.missing(group, rules.thresholds)
        renewal, retry = work.using.terms.told(product)
        if missing and counting.threshold_applies(rules, known, work.now):
            refusal = counting.insufficient(missing, renewal, retry)
            work.batch.put(called._replace(outcome=refusal.code))
            return self._refuse(work, asked, refusal, missing[1], missing[0])
        lease, granted = self._lease(work, asked, product, called, count)
        work.batch.put(granted)
        needed = next((one.minimum for one in rules.thresholds if one.counted != counting.SERVERS), None)
        self._note(work, asked, GRANTED, needed, count, renewal, retry)
        return lease

    def _lease(
        self, work: _Work, asked: CheckIn, product: Product, called: Record, count: int
    ) -> tuple[_Lease, Record]:
        claims, host = asked.document.claims, work.keyring.host
        renewal, retry = work.using.terms.told(product)
        jti = self._new_id()
        end = work.now + min(product.policy.validity, work.delegation["lmax"])
        # As `documents.write` would, without its look at every claim, which costs as much as the signature: each was
        # looked at when the check-in, the delegation or the product was read. A test compares the two.
        payload = _encode(
            {
                **work.lease,
                "jti": jti,
                "sub": claims["iss"],
                "exp": end,
                "prd": claims["prd"],
                "cus": work.delegation["cus"],
                "req": claims["req"],
                "fp": claims["fp"],
                "ren": renewal,
                "rty": retry,
                "cnt": count,
                "sver": work.using.terms.blocks.pair,
            }
        )
        granted = called._replace(
            req=claims["req"],
            digest=asked.digest,
            payload=payload,
            kid=host,
            delegation=work.delegation.jti,
            lease=jti,
            lease_end=end,
            renewals=called.renewals + (called.req is not None),
        )
        return _Lease(payload, host, work.delegation.jti), granted

    def _refuse(
        self,
        work: _Work,
        asked: CheckIn,
        refusal: Refusal,
        required: int | None = None,
        current: int | None = None,
    ) -> Refusal:
        self._note(work, asked, refusal.code, required, current)
        return refusal

    def _note(
        self,
        work: _Work,
        asked: CheckIn,
        result: str,
        required: int | None = None,
        current: int | None = None,
        renewal: int | None = None,
        retry: int | None = None,
    ) -> None:
        claims = asked.document.claims
        work.events.append(
            Event(
                work.now,
                store.HANDLED,
                result,
                claims["prd"],
                claims["iss"],
                asked.address,
                required,
                current,
                claims["iat"],
                claims["vm"],
                claims["state"],
                claims["minutes"],
                renewal,
                retry,
            )
        )

    def _watch_clocks(self, asked: Sequence[CheckIn], now: int) -> None:
        """Warn once if the machines' clocks say that this one is wrong, and go on (PROTOCOL section 8)."""
        self._watch.hear(((one.document["iss"], one.document.iat) for one in asked), now)
        doubted = self._watch.doubted
        if doubted and not self._warned:
            self._warn("the clocks of the last machines lie more than a day from this host's")
        self._warned = doubted

    def _new_id(self) -> str:
        return ids.b64u(self._randomness(_ID_BYTES))

    @property
    def clock_doubted(self) -> bool:
        """Whether the machines' clocks say that this host's is wrong."""
        return self._watch.doubted

    @property
    def clock_jumped(self) -> bool:
        """Whether this host's clock has jumped, or was doubted, within a day of running time."""
        return self._housekeeping.resting

    @property
    def store_problem(self) -> str:
        """Why the newest batch could not be recorded, for a minute, or until one is; empty if nothing is known.

        A full disk still takes what needs no new page, so that only who needs one finds out.
        """
        failed = self._failed
        if failed is None or self.clock.running() - failed[0] >= _REMEMBERED:
            return ""
        return failed[1]

    # --- housekeeping -------------------------------------------------------------------------------------

    def expire(self) -> None:
        """Do a slice of housekeeping.

        Raises:
            VolactError: if the store failed; then nothing of it happened.
        """
        terms, now = self._using.terms, self.clock.now()
        behind = terms.keyring is not None and terms.keyring.is_behind(now)
        self._housekeeping.work(self.clock, self.store, clock_is_behind=behind)
        with self.store.reading() as tx:
            if self._counted_at is None or not self._counted_at <= now < self._counted_at + _COUNT_EVERY:
                self._counted_at = now
                self._admission.count(tx)
            self._admission.look(tx, now - LONELY_FOR * terms.longest_retry())
        self._report(self._lapses.note(self.clock, self.store))


def _using(terms: Terms) -> _Using:
    return _Using(terms, terms.groups(), terms.has_strong_count())


def _copy(asked: CheckIn, now: int) -> Copy:
    """A machine that calls with another one's identity, as it is listed (K14)."""
    claims = asked.document.claims
    fp = ledger.as_json(claims["fp"]) or "{}"
    return Copy(claims["iss"], claims["prd"], fp, asked.address, _for_people(claims.get("name")), now, now, 1)


def _for_people(name: str | None) -> str | None:
    """A machine's own name as it is kept: nothing in it steers a terminal, or breaks a database."""
    return None if name is None else printable(name)
