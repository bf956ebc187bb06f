"""G2: whatever happens in whatever order, bought = activated + remaining (M3), against an independent model.

A returned activation is activated no more, its seat is free at once, or 30 days later by file (M6).
"""

import itertools
from collections.abc import Callable
from contextlib import nullcontext
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
    multiple,
    rule,
    run_state_machine_as_test,
)

import postgres
from authority_site import Site
from databases import Databases
from volact import db
from volact.authority.store import Store
from volact.protocol.problems import Refusal, Refused
from world import DAY, Machine, claims_of, new_id

YEAR = 365 * DAY


class Hardware:
    """The model of one machine: its installed copies, and the activation that it has."""

    def __init__(self, machine: Machine) -> None:
        self.machine = machine  # the copy that is installed now
        self.owner: Machine | None = None  # the copy that the activation was last granted to
        self.act: str | None = None
        self.ref = new_id()  # its newest confirmation; of none, any id
        self.rebuilds: list[int] = []
        self.blocked = False
        self.returns: list[int] = []
        self.returners: list[Machine] = []  # the copies that returned it


class Model(RuleBasedStateMachine):
    """Activations, returns, repetitions, rebuilds, blocks, top-ups and time, in any order."""

    database: Callable[[], str | Path]

    hardware = Bundle("hardware")
    requests = Bundle("requests")
    returns = Bundle("returns")

    @initialize(bought=st.integers(1, 4))
    def set_up(self, bought: int) -> None:
        self.site = Site(self.database())
        self.site.product()
        self.key = self.site.key("mak", bought)
        self.bought = bought
        self.counted: set[str] = set()
        self.key_blocked = ""
        self.answers: dict[str, Any] = {}
        self.returned: dict[str, tuple[int, int]] = {}  # act -> when, and when its seat is free

    def teardown(self) -> None:
        if hasattr(self, "site"):
            self.site.close()

    @rule(target=hardware)
    def buy_machine(self) -> Hardware:
        return Hardware(self.site.machine())

    @rule(one=hardware)
    def rebuild(self, one: Hardware) -> None:
        one.machine = one.machine.rebuilt()

    @rule(target=requests, one=hardware)
    def activate(self, one: Hardware) -> Any:
        request = one.machine.request(self.key, now=self.site.clock.now())
        answer = self.site.ask_one(request)
        expected = self._expected(one)
        if isinstance(answer, Refusal):
            assert answer.code == expected
            return multiple()
        assert expected == "granted", expected
        claims = claims_of(answer["token"])
        if one.act is None:
            assert claims["act"] not in self.counted
            one.act = claims["act"]
            self.counted.add(claims["act"])
        elif one.owner is not one.machine:
            one.rebuilds.append(self.site.clock.now())
        assert claims["act"] == one.act
        one.owner = one.machine
        one.ref = claims["jti"]
        self.answers[claims["req"]] = answer
        return one, one.act, request

    def _expected(self, one: Hardware) -> str:
        if self.key_blocked:
            return "key-blocked"
        if one.act is None:
            return "granted" if self._used() < self.bought else "no-activations-left"
        if one.blocked:
            return "machine-blocked"
        recent = [at for at in one.rebuilds if self.site.clock.now() - at < YEAR]
        if one.owner is not one.machine and len(recent) >= 6:
            return "reactivated-too-often"
        return "granted"

    def _used(self) -> int:
        now = self.site.clock.now()
        return len(self.counted) + sum(frees > now for _, frees in self.returned.values())

    @rule(target=returns, one=hardware, by_file=st.booleans())
    def give_back(self, one: Hardware, by_file: bool) -> Any:
        now = self.site.clock.now()
        more: dict[str, Any] = {"file": True} if by_file else {}
        request = one.machine.request(self.key, "return", now=now, ref=one.ref, **more)
        answer = self.site.ask_one(request)
        expected = self._expected_of_return(one)
        if isinstance(answer, Refusal):
            assert answer.code == expected
            return multiple()
        assert expected == "granted", expected
        assert one.act
        assert claims_of(answer["token"])["act"] == one.act
        self.counted.remove(one.act)
        self.returned[one.act] = now, now + (30 * DAY if by_file else 0)
        one.returns.append(now)
        one.returners.append(one.machine)
        one.act, one.owner, one.rebuilds = None, None, []
        return request, answer

    def _expected_of_return(self, one: Hardware) -> str:
        now = self.site.clock.now()
        if self.key_blocked == "all":
            return "key-blocked"
        if one.owner is not one.machine:
            return "activation-returned" if one.machine in one.returners else "nothing-to-return"
        if one.blocked:
            return "machine-blocked"
        if any(now - at < 90 * DAY for at in one.rebuilds):
            return "taken-over-recently"
        if any(now - at < 90 * DAY for at in one.returns):
            return "returned-too-soon"
        recent = [at for at, _ in self.returned.values() if now - at < YEAR]
        return "returns-used-up" if len(recent) + 1 > max(2, self.bought / 10) else "granted"

    @rule(given=returns)
    def repeat_return(self, given: Any) -> None:
        request, receipt = given
        assert self.site.ask_one(request) == receipt

    @rule(asked=requests)
    def repeat(self, asked: Any) -> None:
        one, act, request = asked
        answer = self.site.ask_one(request)
        if act in self.returned:
            assert answer.code == "activation-returned"
        elif one.blocked:
            assert answer.code == "machine-blocked"
        elif self.key_blocked == "all":
            assert answer.code == "key-blocked"
        else:
            assert answer == self.answers[claims_of(request["token"])["jti"]]

    @rule(one=hardware)
    def block_machine(self, one: Hardware) -> None:
        if one.act:
            with pytest.raises(Refused) if one.blocked else nullcontext():
                self.site.office.block_activation(one.act)
            one.blocked = True

    @rule(everything=st.booleans(), sure=st.integers(0, 5))
    def block_key(self, everything: bool, sure: int) -> None:
        mode = "all" if everything else "new"
        if sure == 0 and self.key_blocked not in (mode, "all"):
            self.site.office.block_key(self.key.label, everything=everything)
            self.key_blocked = mode

    @rule(more=st.integers(1, 3))
    def top_up(self, more: int) -> None:
        self.bought += more
        self.site.office.raise_key(self.key.label, self.bought)

    @rule(days=st.sampled_from([1, 30, 90, 200, 364, 365]), seconds=st.integers(-1, 1))
    def time_passes(self, days: int, seconds: int) -> None:
        # The issuer's delegation lasts a year; what comes after it is another test's.
        issuer = self.site.keyring.in_force("issuer", self.site.clock.now())
        assert not isinstance(issuer, Refusal)
        if self.site.clock.now() + days * DAY + 1 < issuer.exp:
            self.site.clock.pass_(days * DAY + seconds)

    @invariant()
    def bought_is_activated_and_remaining(self) -> None:
        if not hasattr(self, "site"):
            return
        (row,) = self.site.rows("product_key")
        used = self._used()
        assert used <= row.used <= row.bought == self.bought, "seats that fell due may not be written off yet"
        rows = self.site.rows("activation")
        assert {one.act for one in rows if one.blocked != "returned"} == self.counted
        assert {one.act for one in rows if one.blocked == "returned"} == self.returned.keys()
        assert self.site.counts(self.key) == (self.bought, used, self.bought - used)


def run(made: Callable[[], str | Path], examples: int) -> None:
    class On(Model):
        database = staticmethod(made)

    # No explaining phase: it would take minutes, and the steps say enough.
    phases = [phase for phase in Phase if phase is not Phase.explain]
    run_state_machine_as_test(
        On,
        settings=settings(
            max_examples=examples,
            stateful_step_count=40,
            suppress_health_check=list(HealthCheck),
            phases=phases,
        ),
    )


def test_the_model_on_sqlite(tmp_path: Path, databases: Databases) -> None:
    numbers = itertools.count()
    run(lambda: databases.sqlite(tmp_path / f"{next(numbers)}.db"), 12)


def test_the_model_on_postgresql(server: postgres.Postgres) -> None:
    template = server.new_database()
    store = Store(db.connect(server.url(template)))
    store.migrate()
    store.close()
    run(lambda: server.url(server.new_database(template)), 4)


@pytest.mark.slow
def test_the_model_for_long(tmp_path: Path, databases: Databases) -> None:
    numbers = itertools.count()
    run(lambda: databases.sqlite(tmp_path / f"{next(numbers)}.db"), 1000)
