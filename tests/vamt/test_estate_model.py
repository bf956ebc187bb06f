"""V1 against a model: machines that are renamed, moved, readdressed and swapped, found and asked in any order.

Each shows its own host key, and who shows another than the pinned one is not asked further, as over SSH. One of the
machines is hostile: it may say another's name, CMID and identity, and wins nothing by it.
"""

import itertools

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from volact.vamt.estate import Estate
from volact.vamt.inventory import Product, Report, Sighting

PUB = "P" * 43
NAMES = ("web", "db", "mail", "pc")
DOMAINS = ("a.test", "b.test")
MACHINES = range(4)
OLD_NAMES = st.tuples(st.sampled_from(NAMES), st.sampled_from(DOMAINS))
WHICH = st.sampled_from(MACHINES)


KEYS = {number: f"ssh-ed25519 {number}" for number in MACHINES}
HOSTILE = 3


class Moving(RuleBasedStateMachine):
    """The truth: machine n has CMID and identity n for ever, and a name and an address that change hands."""

    def __init__(self) -> None:
        super().__init__()
        numbers = itertools.count(1)
        self.estate = Estate((), lambda: f"row {next(numbers)}")
        self.now = 100
        self.named = {number: (NAMES[number], "a.test") for number in MACHINES}
        self.at = {number: f"192.0.2.{number}" for number in MACHINES}
        self.met: dict[int, str] = {}

    @rule(which=WHICH, source=st.sampled_from(("ldap", "dns", "csv")))
    def find_by_name(self, which: int, source: str) -> None:
        name, domain = self.named[which]
        addresses = () if source == "ldap" else (self.at[which],)
        self.estate.see(Sighting(source, name, domain, addresses), self.now)

    @rule(which=WHICH)
    def find_by_address(self, which: int) -> None:
        self.estate.see(Sighting("addresses", addresses=(self.at[which],)), self.now)

    @rule(which=WHICH)
    def find_without_domain(self, which: int) -> None:
        self.estate.see(Sighting("known-hosts", self.named[which][0]), self.now)

    @rule(name=OLD_NAMES)
    def find_what_is_long_gone(self, name: tuple[str, str]) -> None:
        self.estate.see(Sighting("csv", *name), self.now)

    @rule(one=WHICH, name=OLD_NAMES)
    def rename(self, one: int, name: tuple[str, str]) -> None:
        if name not in self.named.values():
            self.named[one] = name
            self.now += 1

    @rule(one=WHICH, other=WHICH, what=st.sampled_from(("named", "at")))
    def swap(self, one: int, other: int, what: str) -> None:
        held = getattr(self, what)
        held[one], held[other] = held[other], held[one]
        self.now += 1

    @precondition(lambda self: any(True for _ in self.estate))
    @rule(data=st.data(), speaks_of_its_domain=st.booleans())
    def ask(self, data: st.DataObject, speaks_of_its_domain: bool) -> None:
        row = data.draw(st.sampled_from(sorted(self.estate, key=lambda row: row.mid)))
        by_name = [number for number in MACHINES if self.named[number] == (row.name, row.domain)]
        by_address = [number for number in MACHINES if self.at[number] in row.addresses]
        for which in (by_name or by_address)[:1]:
            name, domain = self.named[which]
            says = Report(
                name,
                domain if speaks_of_its_domain else "",
                identity=f"identity {which}",
                products=(Product(PUB, "com.example.cad", 1, f"cmid {which}"),),
            )
            if row.host_keys not in ((), (KEYS[which],)):
                continue
            placed = self.estate.report(row.mid, says, self.now, KEYS[which])
            # The row is kept whatever happened to name and address since (V1).
            assert self.met.setdefault(which, placed.mid) == placed.mid
            self.now += 1

    @precondition(lambda self: HOSTILE in self.met)
    @rule(as_name=WHICH, as_cmid=st.none() | WHICH, as_identity=st.none() | WHICH, speaks=st.booleans())
    def lie(self, as_name: int, as_cmid: int | None, as_identity: int | None, speaks: bool) -> None:
        """The hostile machine, reached by its own row, says what is others'."""
        mine = self.met[HOSTILE]
        before = {row.mid: (row.name, row.domain, row.host_keys, row.addresses) for row in self.estate}
        name, domain = self.named[as_name]
        products = () if as_cmid is None else (Product(PUB, "com.example.cad", 1, f"cmid {as_cmid}"),)
        identity = "" if as_identity is None else f"identity {as_identity}"
        says = Report(name, domain if speaks else "", identity=identity, products=products)
        copy = Estate(self.estate, lambda: "new row")
        copy.report(mine, says, self.now, KEYS[HOSTILE])
        for mid in self.met.values():
            if mid != mine:
                row = copy[mid]
                assert (row.name, row.domain, row.host_keys, row.addresses) == before[mid]
                assert row.report == self.estate[mid].report
        for row in copy:
            assert not (KEYS[HOSTILE] in row.host_keys and len(row.host_keys) > 1)

    @invariant()
    def each_machine_that_has_answered_is_one_row(self) -> None:
        told = sorted(cmid for row in self.estate for _, cmid in row.cmids)
        assert told == sorted(f"cmid {which}" for which in self.met)
        for which, mid in self.met.items():
            assert self.estate[mid].identity == f"identity {which}"

    @invariant()
    def no_two_rows_have_one_full_name(self) -> None:
        full = [row.full_name for row in self.estate if row.name and row.domain]
        assert len(full) == len(set(full))

    @invariant()
    def rows_that_are_gone_lead_to_rows_that_are_there(self) -> None:
        there = {row.mid for row in self.estate}
        assert set(self.estate.gone.values()) <= there
        assert not set(self.estate.gone) & there
        assert self.estate.changed <= there


Moving.TestCase.settings = settings(max_examples=60, stateful_step_count=30, deadline=None)
TestMoving = Moving.TestCase
