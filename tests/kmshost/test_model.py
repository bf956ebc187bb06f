"""Whatever is called in whatever order: the ledger counts as a dictionary of last contacts does (K1 to K5, K11, K14)."""

import itertools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    Bundle,
    RuleBasedStateMachine,
    initialize,
    invariant,
    rule,
    run_state_machine_as_test,
)

import postgres
from kmshost.site import PRODUCT, SERVER, Machine, Site
from volact import db
from volact.kmshost.store import Store
from volact.protocol.problems import Refusal
from world import DAY, NOW, facts, new_id

MACHINES, SERVERS = 4, 2
VALIDITY, RENEWAL, RETRY, LIFETIME = 8 * DAY, 2 * DAY, 7200, 5 * DAY
LAST_DAY = NOW + 380 * DAY

PRODUCTS = st.sampled_from([PRODUCT, PRODUCT, SERVER])
# A machine's hardware: its innards and its board. Another board is a change, other innards are another machine.
SHAPES = st.sampled_from([("own", 0), ("own", 0), ("own", 0), ("own", 1), ("own", 2), ("other", 0)])


class Body:
    """One identity, and the hardware on which it may turn up."""

    def __init__(self, site: Site) -> None:
        first = site.machine()
        self.cmid = first.cmid
        other = facts()
        self.shapes: dict[tuple[str, int], Machine] = {("own", 0): first}
        for board in (1, 2):
            swapped = facts()
            parts = {**first.parts, "uuid": swapped["uuid"], "board": swapped["board"]}
            self.shapes["own", board] = site.machine(parts=parts, signer=first.signer)
        self.shapes["other", 0] = site.machine(parts=other, signer=first.signer)


class Entry:
    """The model of a record."""

    def __init__(self, shape: tuple[str, int]) -> None:
        self.shape = shape
        self.before: tuple[str, int] | None = None
        self.last = 0
        self.lease_end = 0
        self.granted: tuple[dict[str, Any], tuple[str, int], bytes] | None = None


class Model(RuleBasedStateMachine):
    """Joins, calls, renewals, lost answers, copies, board swaps, restarts and time, in any order."""

    database: Callable[[], str | Path]

    bodies = Bundle("bodies")

    @initialize(scope=st.sampled_from(["both", "activation"]))
    def set_up(self, scope: str) -> None:
        self.scope = scope
        rules: dict[str, Any] = {
            "validity": VALIDITY,
            "renewal": RENEWAL,
            "retry": RETRY,
            "record_lifetime": LIFETIME,
            "threshold_applies_to": scope,
        }
        machines = {"count": "machines", "minimum": MACHINES}
        servers = {"count": "servers", "minimum": SERVERS}
        self.site = Site(self.database(), thresholds=[machines], **rules)
        self.site.add_product(SERVER, "server", thresholds=[servers, machines], **rules)
        self.entries: dict[tuple[str, str], Entry] = {}
        self.believed = self.saved = (self.site.clock.now(), 0)
        self.resting = False
        self.looked = self.saved_at = self.site.clock.now()

    def teardown(self) -> None:
        if hasattr(self, "site"):
            self.site.close()

    # --- the model ----------------------------------------------------------------------------------------

    def live(self) -> dict[tuple[str, str], Entry]:
        now = self.site.clock.now()
        return {place: one for place, one in self.entries.items() if now - one.last < LIFETIME}

    def counts(self) -> tuple[int, int]:
        live = self.live()
        return len({cmid for cmid, _ in live}), len({cmid for cmid, product in live if product == SERVER})

    def expect(self, body: Body, product: str, shape: tuple[str, int]) -> tuple[str, Entry | None]:
        """What a fresh call must lead to; the model is moved on."""
        now = self.site.clock.now()
        entry = self.live().get((body.cmid, product))
        if entry is None:
            entry = Entry(shape)
        elif shape != entry.shape:
            if shape[0] != entry.shape[0] or shape == entry.before:
                return "identity-cloned", None
            entry.before, entry.shape = entry.shape, shape
        self.entries[body.cmid, product] = entry
        entry.last = now
        machines, servers = self.counts()
        reached = machines >= MACHINES or (product == SERVER and servers >= SERVERS)
        free = self.scope == "activation" and now < entry.lease_end
        return ("granted" if reached or free else "count-insufficient"), entry

    def check(
        self, body: Body, product: str, shape: tuple[str, int], claims: dict[str, Any], answer: Any
    ) -> None:
        expected, entry = self.expect(body, product, shape)
        now = self.site.clock.now()
        if isinstance(answer, Refusal):
            assert answer.code == expected
            if expected == "count-insufficient":
                self.check_numbers(product, dict(answer.extra))
            return
        assert expected == "granted", expected
        assert entry
        lease = self.site.verified(answer)
        assert (lease["sub"], lease["prd"], lease["req"]) == (body.cmid, product, claims["req"])
        assert (lease["iat"], lease["exp"]) == (now, now + VALIDITY)
        entry.lease_end = now + VALIDITY
        entry.granted = claims, shape, answer

    def check_numbers(self, product: str, said: dict[str, Any]) -> None:
        machines, servers = self.counts()
        choices = [(MACHINES - machines, machines, MACHINES, "machines")]
        if product == SERVER:
            choices.insert(0, (SERVERS - servers, servers, SERVERS, "servers"))
        nearest = min(missing for missing, *_ in choices)
        count, required, counted = next(rest for missing, *rest in choices if missing == nearest)
        assert said == {
            "count": count,
            "required": required,
            "counted": counted,
            "renewal": RENEWAL,
            "retry": RETRY,
        }

    # --- what happens -------------------------------------------------------------------------------------

    @rule(target=bodies)
    def buy_machine(self) -> Body:
        return Body(self.site)

    @rule(body=bodies, product=PRODUCTS, shape=SHAPES)
    def call(self, body: Body, product: str, shape: tuple[str, int]) -> None:
        claims = {"req": new_id()}
        (answer,) = self.site.send(body.shapes[shape].checkin(product, **claims))
        self.check(body, product, shape, claims, answer)

    @rule(found=st.lists(st.tuples(bodies, PRODUCTS), min_size=2, max_size=8))
    def call_in_a_batch(self, found: list[tuple[Body, str]]) -> None:
        claims = [{"req": new_id()} for _ in found]
        shapes = [self.shape_of(body, product) for body, product in found]
        bodies = [
            body.shapes[shape].checkin(product, **one)
            for (body, product), shape, one in zip(found, shapes, claims, strict=True)
        ]
        answers = self.site.send(*bodies)
        for (body, product), shape, one, answer in zip(found, shapes, claims, answers, strict=True):
            self.check(body, product, shape, one, answer)

    def shape_of(self, body: Body, product: str) -> tuple[str, int]:
        entry = self.live().get((body.cmid, product))
        return entry.shape if entry else ("own", 0)

    @rule(body=bodies, product=PRODUCTS, other=st.sampled_from([{}, {}, {"name": "another"}]))
    def ask_for_a_lost_answer(self, body: Body, product: str, other: dict[str, Any]) -> None:
        """The last one that was granted, with another nonce and state; or with other content under its id."""
        known = self.entries.get((body.cmid, product))
        if known is None or known.granted is None:
            return
        claims, shape, before = known.granted
        sent = {**claims, "state": 1, "minutes": 5, **other}
        (answer,) = self.site.send(body.shapes[shape].checkin(product, **sent))
        if (body.cmid, product) not in self.live():
            self.check(body, product, shape, {**claims, **other}, answer)
        elif {**claims, **other} == claims:
            assert answer == before
            # Asked again later than it called last: a contact (K4).
            known.last = max(known.last, self.site.clock.now())
        else:
            assert isinstance(answer, Refusal)
            assert answer.code == "request-id-reused"

    @rule(passed=st.sampled_from([1, 59, 61, 7200, DAY, RENEWAL, LIFETIME - 1, LIFETIME, VALIDITY, 30 * DAY]))
    def time_passes(self, passed: int) -> None:
        if self.site.clock.now() + passed < LAST_DAY:
            self.site.clock.pass_(passed)

    @rule(body=bodies, product=PRODUCTS, beside=st.sampled_from([-1, 0]))
    def a_records_end_comes(self, body: Body, product: str, beside: int) -> None:
        entry = self.entries.get((body.cmid, product))
        if entry and self.site.clock.now() < entry.last + LIFETIME + beside < LAST_DAY:
            self.site.clock.pass_(entry.last + LIFETIME + beside - self.site.clock.now())

    @rule()
    def restart(self) -> None:
        self.site.restarted()
        # A clock that is ahead cannot be told from a host that was off: nothing goes for a day of its running.
        self.believed = self.saved
        self.looked = self.saved_at = self.site.clock.now()
        self.resting = self.looked - self.believed[0] > DAY

    @rule()
    def keep_house(self) -> None:
        self.site.host.expire()
        now = self.site.clock.now()
        if self.resting:
            last, rested = self.believed
            self.believed = last, rested + now - self.looked
            self.resting = self.believed[1] < DAY
        if not self.resting:
            self.believed = now, 0
        if now - self.saved_at >= 3600:
            self.saved, self.saved_at = self.believed, now
        self.looked = now
        kept = self.site.count("SELECT COUNT(*) FROM record")
        assert kept >= len(self.live()) if self.resting else kept == len(self.live())

    @invariant()
    def the_ledger_is_the_model(self) -> None:
        if not hasattr(self, "site"):
            return
        assert self.site.counts() == self.counts()
        now = self.site.clock.now()
        with self.site.store.reading() as tx:
            found = tx.exec_driver_sql(f"SELECT cmid, prd, last FROM record WHERE expires > {now}").all()
        assert {(row.cmid, row.prd): row.last for row in found} == {
            place: entry.last for place, entry in self.live().items()
        }


def run(made: Callable[[], str | Path], examples: int) -> None:
    class On(Model):
        database = staticmethod(made)

    # No explaining phase: it would take minutes, and the steps say enough.
    phases = [phase for phase in Phase if phase is not Phase.explain]
    run_state_machine_as_test(
        On,
        settings=settings(
            max_examples=examples,
            stateful_step_count=50,
            suppress_health_check=list(HealthCheck),
            phases=phases,
        ),
    )


def test_the_model_on_sqlite(tmp_path: Path, databases: Any) -> None:
    numbers = itertools.count()
    run(lambda: databases.sqlite(tmp_path / f"{next(numbers)}.db"), 10)


def test_the_model_on_postgresql(server: postgres.Postgres) -> None:
    template = server.new_database()
    store = Store(db.connect(server.url(template)))
    store.migrate()
    store.close()
    run(lambda: server.url(server.new_database(template)), 3)


@pytest.mark.slow
def test_the_model_for_long(tmp_path: Path, databases: Any) -> None:
    numbers = itertools.count()
    run(lambda: databases.sqlite(tmp_path / f"{next(numbers)}.db"), 1000)
