"""Who counts where: newest documents, and the strong count that only an administrator's list makes (K1, K17, T9)."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from kmshost.site import PRODUCT, Machine, Site
from volact import db
from volact.kmshost import placing
from volact.kmshost.placing import Enrolled
from volact.kmshost.store import Store
from volact.protocol.problems import BrokenData, Refusal
from world import DAY, NOW

THRESHOLDS: dict[str, Any] = {"thresholds": [{"count": "machines", "minimum": 25}]}


@pytest.fixture
def site(make_site: Callable[..., Site]) -> Site:
    return make_site(strong_count=True, **THRESHOLDS)


def enrol(site: Site, machines: list[Machine], *, alone: bool = False) -> Enrolled:
    with site.store.writing() as tx:
        return placing.enrol(tx, [one.cmid for one in machines], site.clock.now(), alone=alone)


def granted(answers: list[object]) -> list[bool]:
    return [isinstance(one, dict) for one in answers]


def test_25_machines_that_nobody_enrolled_count_as_none(site: Site) -> None:
    machines = site.machines(26)
    answers = site.call(machines)
    assert granted(answers) == [False] * 26
    assert {dict(one.extra)["count"] for one in answers if isinstance(one, Refusal)} == {0}
    assert site.counts() == (0, 0)


def test_without_it_they_do(make_site: Callable[..., Site]) -> None:
    site = make_site(strong_count=False, **THRESHOLDS)
    assert granted(site.call(site.machines(25))) == [False] * 24 + [True]


@pytest.mark.parametrize(("enrolled", "last"), [(24, False), (25, True), (26, True)])
def test_the_25th_enrolled_machine_is_activated(site: Site, enrolled: int, last: bool) -> None:
    machines = site.machines(enrolled)
    enrol(site, machines)
    assert granted(site.call(machines))[-1] == last
    assert site.counts() == (enrolled, 0)


def test_one_that_is_not_enrolled_is_served_and_does_not_count(site: Site) -> None:
    machines = site.machines(25)
    enrol(site, machines)
    site.call(machines)
    lease = site.machine().call()
    assert isinstance(lease, dict)
    assert lease["cnt"] == 25
    assert site.counts() == (25, 0)


def test_machines_that_have_called_count_as_soon_as_they_are_enrolled(site: Site) -> None:
    machines = site.machines(25)
    site.call(machines)
    assert enrol(site, machines) == Enrolled(25, 0, 25)
    assert site.counts() == (25, 0)
    assert granted([machines[0].call()]) == [True]


def test_a_list_in_place_of_the_one_before_takes_the_others_out_of_the_count(site: Site) -> None:
    machines = site.machines(26)
    enrol(site, machines)
    site.call(machines)
    assert enrol(site, machines[:24], alone=True) == Enrolled(0, 2, 24)
    assert site.counts() == (24, 0)
    site.clock.pass_(DAY)
    assert granted(site.call(machines)) == [False] * 26
    assert enrol(site, machines[:24]) == Enrolled(0, 0, 24)


@pytest.mark.parametrize("running", [True, False])
def test_a_product_that_turns_to_a_strong_count_and_back(
    make_site: Callable[..., Site], *, running: bool
) -> None:
    site = make_site(**THRESHOLDS)
    machines = site.machines(26)
    enrol(site, machines[:3])
    site.call(machines)
    assert site.counts() == (26, 0)
    site.add_product(PRODUCT, ver=2, running=running, strong_count=True, **THRESHOLDS)
    assert site.counts() == (3, 0)
    assert granted([machines[0].call()]) == [False]
    site.add_product(PRODUCT, ver=3, running=running, **THRESHOLDS)
    assert site.counts() == (26, 0)
    assert granted([machines[0].call()]) == [True]


def test_what_is_enrolled_is_listed_in_pages(database: str | Path) -> None:
    books = Store(db.connect(database))
    with books.writing() as tx:
        placing.enrol(tx, [letter * 43 for letter in "cab"], NOW, alone=False)
        assert placing.enrolled(tx) == ["a" * 43, "b" * 43, "c" * 43]
        assert placing.enrolled(tx, "a" * 43, 1) == ["b" * 43]
        assert placing.listed(tx, ["a" * 43, "x" * 43]) == {"a" * 43}
    books.close()


def test_no_more_are_enrolled_than_a_host_counts(
    database: str | Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(placing, "MOST_ENROLLED", 3)
    books = Store(db.connect(database))
    with books.writing() as tx:
        placing.enrol(tx, [letter * 43 for letter in "abc"], NOW, alone=False)
        with pytest.raises(BrokenData):
            placing.enrol(tx, ["d" * 43], NOW, alone=False)
        assert placing.enrol(tx, ["d" * 43], NOW, alone=True).total == 1
    books.close()


# --- the list as a file -------------------------------------------------------------------------------------------

A, B = "A" * 43, "-" * 43


@pytest.mark.parametrize(
    "text",
    [f"{A}\n{B}\n", f"cmid,name\n{A},one\n{B};two\n", f'\n# both\n{A}  # a\n"{B}"\tb\r\n', f"CMID\n{A}\n{B}"],
)
def test_a_list_is_read(text: str) -> None:
    assert placing.read_list(text, "list") == [A, B]


@pytest.mark.parametrize(
    ("text", "line"), [(f"{A}\nnonsense\n", 2), (f"{A[:-1]}\n", 1), (f"{A}A\n", 1), (f"{A}\ncmid\n", 2)]
)
def test_what_is_no_list_is_said_with_its_line(text: str, line: int) -> None:
    with pytest.raises(BrokenData) as refused:
        placing.read_list(text, "machines.csv")
    assert f"machines.csv, line {line}:" in refused.value.refusal.detail


def test_an_empty_list_is_one() -> None:
    assert placing.read_list("# nobody\n", "list") == []
