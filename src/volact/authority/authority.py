"""The role: answers what machines and hosts ask, one use case a method (PROTOCOL section 7).

The order is always: verify, decide and record in one transaction, commit, sign, answer. A crash at any point
leaves either nothing or a recorded answer that a repetition of the same request gets, to the letter.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from volact.authority import activated, activation, asks, orders, records, statuslist, store
from volact.authority.book import Book
from volact.authority.keyring import ISSUER, STATUS, Delegation, Recorded
from volact.authority.orders import HostRow
from volact.authority.store import StoredAnswer
from volact.protocol import documents, ids, jws
from volact.protocol.policy import HOST_DELEGATION_BY_FILE, HOST_DELEGATION_ONLINE
from volact.protocol.problems import Refusal

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from typing import Any

    from sqlalchemy import Connection

    from volact.authority.asks import Asked, KeyAndPublic, Sent
    from volact.authority.keyring import Keyring
    from volact.authority.speed import Speed
    from volact.authority.store import Store
    from volact.clock import Clock
    from volact.protocol.policy import Policy

_ID_BYTES = 16
_TIME_BYTES = 5
_REMEMBERED_KEYS = 100_000
_REMEMBERED_SOURCES = 100_000

Outcome = StoredAnswer | Refusal


class _Batch(NamedTuple):
    """What holds for all asks of a batch."""

    tx: Connection
    book: Book
    issuer: Delegation
    now: int


class Authority:
    """Answers asks. One object serves one process; several processes may share a PostgreSQL."""

    def __init__(
        self,
        clock: Clock,
        books: Store,
        keyring: Keyring,
        randomness: Callable[[int], bytes],
        speed: Speed,
        report: Callable[[str, Mapping[str, str]], None],
    ) -> None:
        """Take the time from `clock`, keep everything in `books`, sign with `keyring`.

        `report` hears of events that are rows already: a name and its fields.
        """
        self.clock = clock
        self.store = books
        self.keyring = keyring
        self._randomness = randomness
        self._speed = speed
        self._report = report
        self._known_keys: dict[str, KeyAndPublic] = {}
        self._known_sources: set[tuple[int, str]] = set()
        self._policies: dict[tuple[int, int], Policy] = {}
        self.newest_list = 0
        """The newest status list that this process wrote; 0 before its first."""

    # --- before the transaction ---------------------------------------------------------------------------

    def verify(self, sent: Sequence[tuple[Sent, str]]) -> list[Asked | Refusal]:
        """Verify what was sent, each with its address (or ``file``), and hold it to the limits of speed.

        Raises:
            VolactError: if the store cannot be read.
        """
        now = self.clock.now()
        opened = asks.open_all(sent, self.keyring.publisher, self._find_key, now)
        return [one if isinstance(one, Refusal) else self._limited(one, now) for one in opened]

    def _limited(self, asked: Asked, now: int) -> Asked | Refusal:
        if asked.address == orders.BY_FILE:
            return asked
        limit = self._speed.limit_unproved if asked.op in asks.UNPROVED else self._speed.limit
        return limit(asked.key.id, asked.source, now) or asked

    def _find_key(self, thumbprint: str) -> KeyAndPublic | None:
        known = self._known_keys.get(thumbprint)
        if known is None:
            with self.store.reading() as tx:
                found = store.find_key(tx, thumbprint)
            if found is None:
                return None
            if len(self._known_keys) >= _REMEMBERED_KEYS:
                self._known_keys.clear()
            known = asks.KeyAndPublic(found, jws.load_key(ids.Jwk(found.x, found.y)))
            self._known_keys[thumbprint] = known
        return known

    # --- the transaction ----------------------------------------------------------------------------------

    def decide(self, batch: Sequence[Asked]) -> list[Outcome]:
        """Decide the asks in their order and record every answer, in one transaction; on return it is on disk.

        Takes activate, return, host and extend. A return is on the status list when this returns.

        Raises:
            VolactError: if the store failed; then nothing of the batch happened.
        """
        now = self.clock.now()
        issuer = self.keyring.in_force(ISSUER, now)
        if isinstance(issuer, Refusal):
            return [issuer] * len(batch)
        with self.store.writing() as tx:
            book = Book(tx, batch, now)
            whole = _Batch(tx, book, issuer, now)
            outcomes = [self._decide_one(whole, asked) for asked in batch]
            book.write()
            ver = statuslist.renew(tx, self.keyring, self._randomness, now) if book.returns else 0
            # A return does not use the key, and whoever reads a medium can bring it.
            places = {(asked.key.id, asked.source) for asked in batch if asked.op != "return"}
            places -= self._known_sources
            new = store.add_sources(tx, places, now) if places else set()
        self.newest_list = max(self.newest_list, ver)
        self._remember_sources(places)
        labels = {asked.key.id: asked.key.label for asked in batch}
        for key, source in sorted(new):
            self._report("first-use-from-source", {"label": labels[key], "source": source})
        for one in book.returns:
            self._report("activation-returned", {"label": labels[one.key], "activation": one.act})
        return outcomes

    def _remember_sources(self, places: set[tuple[int, str]]) -> None:
        if len(self._known_sources) > _REMEMBERED_SOURCES:
            self._known_sources = set()
        self._known_sources |= places

    def _decide_one(self, batch: _Batch, asked: Asked) -> Outcome:
        order = batch.book.order(asked.key.id)
        known = batch.book.answer(asked.document["iss"], asked.document.jti)
        if known:
            repeated = activation.repeat(
                activation.Recorded(known.digest, known.blocked, known.name == "receipt"),
                asked.digest,
                order.blocked,
            )
            return repeated if isinstance(repeated, Refusal) else known
        if asked.op == "activate":
            return self._activate(batch, asked)
        if asked.op == "return":
            return self._give_back(batch, asked)
        return self._extend(batch, asked) if asked.op == "extend" else self._activate_host(batch, asked)

    def _activate(self, batch: _Batch, asked: Asked) -> Outcome:
        claims, key, book = asked.document.claims, asked.key.id, batch.book
        cmid, fp = claims["iss"], claims["fp"]
        own = book.own(key, cmid)
        decision = activation.decide(
            _ask(asked),
            book.order(key),
            self._policy(batch.tx, book.keys[key]),
            own=own,
            similar=() if own else book.similar(key, fp),
            listed=book.listed(key, cmid),
            now=batch.now,
        )
        if isinstance(decision, Refusal):
            return decision
        row = book.grant(key, decision, self._new_act(batch.now))
        return self._record(
            batch, asked, "confirmation", row.act, self._confirmation(claims, row.act, batch.now)
        )

    def _confirmation(self, claims: Mapping[str, Any], act: str, now: int) -> bytes:
        return documents.write(
            "confirmation",
            {
                **self.keyring.common(),
                "iss": self.keyring.issuer.kid,
                "iat": now,
                "jti": self._new_id(),
                "sub": claims["iss"],
                "prd": claims["prd"],
                "key": claims["key"],
                "act": act,
                "fp": claims["fp"],
                "req": claims["jti"],
            },
        )

    def _give_back(self, batch: _Batch, asked: Asked) -> Outcome:
        """M6. By file is what the machine says is, or what comes on a medium: its seat is free after 30 days."""
        claims, key, book = asked.document.claims, asked.key.id, batch.book
        unlisted = self.keyring.in_force(STATUS, batch.now)
        if isinstance(unlisted, Refusal):
            return unlisted  # no return without its entry on the status list
        order = book.order(key)
        most = activation.most_returns(order.bought, self._policy(batch.tx, book.keys[key]))
        decision = activation.decide_return(
            _ask(asked),
            claims["ref"],
            order,
            book.holding(key, claims["iss"], most),
            by_file=asked.by_file,
            now=batch.now,
        )
        if isinstance(decision, Refusal):
            return decision
        book.give_back(key, decision)
        act = decision.row.act
        detail = {"act": act, "file": asked.by_file, "frees": decision.frees}
        store.add_event(batch.tx, batch.now, "activation-returned", key, detail)
        return self._record(batch, asked, "receipt", act, self._receipt(claims, act, batch.now))

    def _receipt(self, claims: Mapping[str, Any], act: str, now: int) -> bytes:
        return documents.write(
            "receipt",
            {
                **self.keyring.common(),
                "iss": self.keyring.issuer.kid,
                "iat": now,
                "jti": self._new_id(),
                "sub": claims["iss"],
                "op": "return",
                "prd": claims["prd"],
                "key": claims["key"],
                "act": act,
                "ref": claims["jti"],
                "req": claims["jti"],
            },
        )

    def _policy(self, tx: Connection, locked: store.LockedKey) -> Policy:
        place = locked.order.product, locked.product_ver
        policy = self._policies.get(place)
        if policy is None:
            policy = self._policies[place] = records.policy(tx, *place)
        return policy

    def _activate_host(self, batch: _Batch, asked: Asked) -> Outcome:
        key, host = asked.key.id, asked.document["iss"]
        order = batch.book.order(key)
        known = store.find_host(batch.tx, key, host)
        listed = batch.book.listed(key, host)
        refusal = orders.decide_host(order, known, asked.address, listed=listed)
        if refusal:
            return refusal
        row = known or HostRow(self._new_act(batch.now), host, 0)
        row = row._replace(activations=row.activations + 1)
        payload, delegated = self._delegation(batch, asked, row)
        if known:
            store.update_host(batch.tx, row, batch.now, delegated.exp)
        else:
            store.add_host(batch.tx, key, row, batch.now, delegated.exp)
            batch.book.take_one(key)
        return self._record(batch, asked, "delegation", row.act, payload)

    def _extend(self, batch: _Batch, asked: Asked) -> Outcome:
        key, host = asked.key.id, asked.document["iss"]
        followed = records.delegation(batch.tx, asked.document["ref"])
        known = store.find_host(batch.tx, key, host)
        if followed is None or known is None or followed.sub != host:
            return Refusal("delegation-unknown")
        order = batch.book.order(key)
        if order.blocked:
            return Refusal("key-blocked")
        if known.blocked:
            return Refusal("machine-blocked", "The host is blocked.")
        payload, delegated = self._delegation(batch, asked, known)
        store.update_host(batch.tx, known, batch.now, delegated.exp)
        if asked.usage:
            store.add_usage(
                batch.tx, asked.usage.jti, host, asked.document["ref"], asked.usage.token, batch.now
            )
        return self._record(batch, asked, "delegation", known.act, payload)

    def _delegation(self, batch: _Batch, asked: Asked, row: HostRow) -> tuple[bytes, Delegation]:
        """Write and keep a host's delegation: 90 days online, 400 by file."""
        lasts = HOST_DELEGATION_BY_FILE if asked.by_file else HOST_DELEGATION_ONLINE
        order = batch.book.order(asked.key.id)
        jwk = asked.jwk
        if jwk is None:
            raise RuntimeError("a host asks with its own key")
        jti, exp = self._new_id(), batch.now + lasts
        payload = documents.write(
            "delegation",
            {
                **self.keyring.common(),
                "iss": self.keyring.issuer.kid,
                "iat": batch.now,
                "jti": jti,
                "sub": row.host,
                "exp": exp,
                "cnf": {"jwk": jwk.members()},
                "rol": "kms-host",
                "prd": list(asked.key.products),
                "lmax": records.longest_validity(batch.tx, asked.key.id),
                "cus": order.cus,
                "min_ver": {},
                "act": row.act,
                "cmax": order.cmax,
            },
        )
        delegated = Delegation(jti, row.host, "kms-host", batch.now, exp, "")
        records.add_delegation(batch.tx, delegated, self.keyring.issuer.kid, payload, None)
        return payload, delegated

    def _record(self, batch: _Batch, asked: Asked, name: str, act: str, payload: bytes) -> StoredAnswer:
        answer = StoredAnswer(
            asked.document.jti,
            asked.digest,
            name,
            act,
            payload,
            self.keyring.issuer.kid,
            batch.issuer.jti,
        )
        batch.book.record(asked.key.id, asked.document["iss"], answer)
        return answer

    # --- after the transaction ----------------------------------------------------------------------------

    def sign(self, answer: StoredAnswer) -> bytes:
        """The bundle of a recorded answer, the same bytes each time.

        A host's delegation comes with the products that it names, as they are now: only that member differs later.

        Raises:
            VolactError: if the store cannot be read.
        """
        bundle = self.keyring.bundle(Recorded(answer.name, answer.payload, answer.kid, answer.delegation))
        if answer.name != "delegation":
            return bundle
        named = set(jws.read_json(answer.payload)["prd"])
        with self.store.reading() as tx:
            products = [one.recorded() for one in records.products(tx) if one.prd in named]
        files = b",".join(self.keyring.product_file(one) for one in products)
        return bundle[:-1] + b',"products":[' + files + b"]}"

    def remaining(self, asked: Asked) -> bytes | Refusal:
        """The statement of how many activations a key bought and how many remain (M3), as a bundle.

        It grants nothing, so nothing is recorded: each says what is so at its `iat`.

        Raises:
            VolactError: if the store cannot be read.
        """
        now = self.clock.now()
        issuer = self.keyring.in_force(ISSUER, now)
        if isinstance(issuer, Refusal):
            return issuer
        with self.store.reading() as tx:
            order = activated.present_order(tx, asked.key.id, now, only_read=True)
        payload = documents.write(
            "statement",
            {
                **self.keyring.common(),
                "iss": self.keyring.issuer.kid,
                "iat": now,
                "jti": self._new_id(),
                "sub": order.thumbprint,
                "prd": asked.document["prd"],
                "bought": order.bought,
                "activated": order.used,
                "remaining": order.remaining,
                "req": asked.document.jti,
            },
        )
        return self.keyring.bundle(Recorded("statement", payload, self.keyring.issuer.kid, issuer.jti))

    def answer(self, sent: Sequence[tuple[Sent, str]]) -> list[bytes | Refusal]:
        """Answer what was sent, each with its address, in its order: one transaction, bundles or refusals.

        Raises:
            VolactError: if the store failed; then nothing of it happened.
        """
        asked = self.verify(sent)
        writes = [one for one in asked if not isinstance(one, Refusal) and one.op != "remaining"]
        outcomes = iter(self.decide(writes) if writes else ())
        answers: list[bytes | Refusal] = []
        for one in asked:
            if isinstance(one, Refusal):
                answers.append(one)
            elif one.op == "remaining":
                answers.append(self.remaining(one))
            else:
                outcome = next(outcomes)
                answers.append(outcome if isinstance(outcome, Refusal) else self.sign(outcome))
        return answers

    def renew_status_list(self) -> None:
        """Write the status list anew if it is a day old (another process may have done it).

        Raises:
            VolactError: if the store failed, or no status key is in force.
        """
        now = self.clock.now()
        with self.store.writing() as tx:
            records.lock_publisher(tx)
            if statuslist.due(records.status_list(tx, records.newest_list(tx)), now):
                statuslist.renew(tx, self.keyring, self._randomness, now)

    def _new_id(self) -> str:
        return ids.b64u(self._randomness(_ID_BYTES))

    def _new_act(self, now: int) -> str:
        """An activation's id: it begins with its time, so that the index of a million grows at one end."""
        return ids.b64u(now.to_bytes(_TIME_BYTES, "big") + self._randomness(_ID_BYTES - _TIME_BYTES))


def _ask(asked: Asked) -> activation.Ask:
    """What `activation` decides on, of a verified request."""
    claims = asked.document.claims
    return activation.Ask(claims["jti"], asked.digest, claims["iss"], claims["fp"], asked.address)
