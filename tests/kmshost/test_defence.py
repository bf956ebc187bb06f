"""What a host refuses beside the count: blocked machines and hosts, too many new ones (K17, M5, T10, T11)."""

from collections.abc import Callable
from typing import Any

import pytest

from kmshost.site import PRODUCT, SERVER, Site, granted, refused
from volact.kmshost.admission import Limits
from volact.kmshost.statuslist import Held
from volact.protocol.problems import Refusal
from world import DAY

PAIR = (1_790_000_000, 3)
RETRY = 7200


@pytest.fixture
def site(make_site: Callable[..., Site]) -> Site:
    return make_site(thresholds=[{"count": "machines", "minimum": 2}])


def held(*lines: str) -> Held:
    return Held(PAIR, "{}", "".join(f"{line}\n" for line in sorted(lines)).encode())


def renewed(site: Site, number: int) -> list[Any]:
    """Machines that have called twice, each with a lease."""
    machines = site.machines(number)
    for _ in range(2):
        site.clock.pass_(60)
        answers = site.call(machines)
    assert granted(answers)
    return machines


# --- the publisher's list -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("mode", ["new", "all"])
def test_a_blocked_machine_is_refused_and_does_not_count(site: Site, mode: str) -> None:
    machines = site.machines(3)
    site.restarted(blocks=held(f"machine {machines[0].cmid} {mode} 1"))
    answers = site.call(machines)
    assert refused("machine-blocked", answers[:1])
    assert refused("count-insufficient", answers[1:2])
    assert granted(answers[2:])
    assert site.counts() == (2, 0)


def test_one_that_counts_ages_out_like_any_other(site: Site) -> None:
    machines = renewed(site, 2)
    site.restarted(blocks=held(f"machine {machines[0].cmid} all 1"))
    assert site.call(machines)[0].code == "machine-blocked"
    assert site.counts() == (2, 0)
    site.clock.pass_(30 * DAY)
    assert site.counts() == (0, 0)


@pytest.mark.parametrize("named", ["host", "act"])
def test_a_blocked_host_answers_nobody(site: Site, named: str) -> None:
    newest = site.keyring().newest
    assert newest
    blocked = {"host": f"host {site.signer.kid} new 1", "act": f"act {newest['act']} returned 1"}[named]
    nonce = site.nonce()
    site.restarted(blocks=held(blocked))
    said = site.host.introduction()
    assert isinstance(said, Refusal)
    assert said.code == "host-blocked"
    assert site.machine().call(nonce=nonce).code == "host-blocked"
    assert site.rows("record") == []


def test_a_lease_says_which_list_its_host_holds(site: Site) -> None:
    machines = renewed(site, 2)
    assert [one["sver"] for one in site.call(machines)] == [[0, 0]] * 2
    site.restarted(blocks=held())
    assert [one["sver"] for one in site.call(machines)] == [list(PAIR)] * 2


# --- new machines -------------------------------------------------------------------------------------------------


def test_a_source_that_brings_too_many_is_held_up_and_renewals_are_not(site: Site) -> None:
    known = renewed(site, 3)
    site.restarted(limits=Limits(rate=60, burst=2))
    answers = site.call([*site.machines(4), *known])
    assert granted(answers[:2])
    assert refused("too-many-requests", answers[2:4])
    assert dict(answers[2].extra) == {"retry_after": 1}
    assert granted(answers[4:])
    assert site.counts() == (5, 0)
    events = len(site.rows("event"))
    assert refused("too-many-requests", site.call(site.machines(2)))
    # Counted, and no row more than that.
    assert len(site.rows("event")) == events
    assert sum(row.n for row in site.rows("tally") if row.outcome == "too-many-requests") == 4


def test_the_same_machine_for_another_product_is_not_new(site: Site) -> None:
    site.add_product(SERVER, "server", thresholds=[{"count": "servers", "minimum": 1}])
    known = renewed(site, 2)
    site.restarted(limits=Limits(rate=1, burst=1, cap=2))
    assert granted(site.call(known, SERVER))
    batch = [one.checkin(prd) for one in site.machines(1) for prd in (PRODUCT, SERVER)]
    assert refused("host-full", site.ask(*batch))


def test_at_the_cap_newcomers_are_refused_until_somebody_makes_room(site: Site) -> None:
    renewed(site, 3)
    once = site.machine()
    once.call()
    site.restarted(limits=Limits(cap=4))
    assert refused("host-full", [site.machine().call()])
    site.clock.pass_(2 * RETRY)
    site.host.expire()
    newcomer = site.machine()
    assert refused("host-full", [newcomer.call()])
    site.clock.pass_(1)
    site.host.expire()
    assert granted([newcomer.call()])
    assert site.counts() == (4, 0)
    assert once.cmid not in {row.cmid for row in site.rows("record")}
    assert refused("host-full", [once.call()])


def test_a_flood_of_keys_fills_no_more_than_the_cap_and_removes_nobody(site: Site) -> None:
    """T10, T11: by whatever route, and however long it lasts."""
    known = renewed(site, 5)
    site.restarted(limits=Limits(cap=12))
    for _ in range(10):
        site.call(site.machines(10))
        site.clock.pass_(3 * RETRY)
        site.host.expire()
        assert granted(site.call(known))
    assert len(site.rows("record")) <= 12
    assert {one.cmid for one in known} <= {row.cmid for row in site.rows("record")}


def test_what_has_ended_frees_its_place_within_the_hour(site: Site) -> None:
    renewed(site, 3)
    site.restarted(limits=Limits(cap=3))
    site.clock.pass_(30 * DAY - 1)
    site.host.expire()
    assert refused("host-full", [site.machine().call()])
    site.clock.pass_(3599)
    site.host.expire()  # deletes what has ended
    assert refused("host-full", [site.machine().call()])
    site.clock.pass_(1)
    site.host.expire()  # and counts anew
    assert refused("count-insufficient", [site.machine().call()])
