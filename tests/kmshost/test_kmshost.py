"""The role on both databases: K2 to K5, K10, K11, K14, repetitions, intervals; by RULES.md's numbers and by others."""

from collections.abc import Callable
from typing import Any

import pytest

from kmshost.site import CUSTOMER, LASTS, PRODUCT, SERVER, Numbers, Site, activated, granted, refused
from volact.kmshost.terms import Intervals, Terms
from volact.protocol import machine
from world import DAY, NOW, new_id

HOUR = 3600
THIRD = "com.example.third"


# --- K2, K3 -----------------------------------------------------------------------------------------------------


def test_k2_the_requester_is_counted_before_the_answer(site: Site, numbers: Numbers) -> None:
    machines = site.machines(numbers.machines)
    for place, one in enumerate(machines[:-1], start=1):
        refusal = one.call()
        assert refusal.code == "count-insufficient"
        assert dict(refusal.extra) == {
            "count": place,
            "required": numbers.machines,
            "counted": "machines",
            "renewal": numbers.renewal,
            "retry": numbers.retry,
        }
    lease = machines[-1].call()
    assert lease["cnt"] == numbers.machines
    site.clock.pass_(numbers.retry)
    assert granted([one.call() for one in machines[:-1]])
    assert site.counts() == (numbers.machines, 0)


def test_k2_in_one_batch_each_is_counted_in_its_turn(site: Site, numbers: Numbers) -> None:
    for size in (numbers.machines - 1, 64):
        site.clock.pass_(numbers.lifetime)
        answers = site.call(site.machines(size))
        assert [dict(one.extra)["count"] for one in answers[: numbers.machines - 1]] == list(
            range(1, numbers.machines)
        )
        # A host counts to twice its largest threshold.
        expected = [min(n, 2 * numbers.machines) for n in range(numbers.machines, size + 1)]
        assert [one["cnt"] for one in answers[numbers.machines - 1 :]] == expected


def test_k1_servers_count_as_servers_and_as_machines(site: Site, numbers: Numbers) -> None:
    servers = site.machines(numbers.servers)
    answers = site.call(servers, SERVER)
    assert refused("count-insufficient", answers[:-1])
    assert dict(answers[-2].extra)["counted"] == "servers"
    assert dict(answers[-2].extra)["count"] == numbers.servers - 1
    assert dict(answers[-2].extra)["required"] == numbers.servers
    assert granted(answers[-1:])
    clients = site.machines(numbers.machines - numbers.servers)
    answers = site.call(clients)
    assert refused("count-insufficient", answers[:-1])
    assert granted(answers[-1:])
    assert site.counts() == (numbers.machines, numbers.servers)


def test_k1_clients_activate_a_server(site: Site, numbers: Numbers) -> None:
    clients = site.machines(numbers.machines - 2)
    assert refused("count-insufficient", site.call(clients))
    refusal, lease = site.call(site.machines(2), SERVER)
    # The nearest alternative is named; of two that are as near the first.
    nearest = ("machines", numbers.machines - 1) if numbers.servers > 2 else ("servers", 1)
    assert (dict(refusal.extra)["counted"], dict(refusal.extra)["count"]) == nearest
    assert lease["cnt"] == numbers.machines


def test_k3_one_cmid_is_one_machine_however_often_and_for_whatever_it_calls(
    site: Site, numbers: Numbers
) -> None:
    site.add_product(THIRD, **numbers.client)
    machines = site.machines(numbers.machines - 1)
    for _ in range(3):
        for product in (PRODUCT, THIRD):
            assert refused("count-insufficient", site.call(machines * 2, product))
        site.clock.pass_(HOUR)
    assert site.counts() == (numbers.machines - 1, 0)
    assert site.machine().call(THIRD)["prd"] == THIRD
    assert len(site.rows("record")) == 2 * (numbers.machines - 1) + 1
    # One that called for several is counted with each of them, and once.
    assert granted(site.call(machines[:1]))
    assert site.counts() == (numbers.machines, 0)


def test_a_client_that_is_a_server_too_is_one_machine_and_one_server(site: Site, numbers: Numbers) -> None:
    machines = site.machines(numbers.servers)
    site.call(machines)
    assert granted(site.call(machines, SERVER)[-1:])
    assert site.counts() == (numbers.servers, numbers.servers)


def test_groups_count_apart(site: Site, numbers: Numbers) -> None:
    site.add_product(THIRD, **{**numbers.client, "count_group": "another"})
    machines = activated(site, numbers)
    answers = site.call(machines[:-1], THIRD)
    assert [dict(one.extra)["count"] for one in answers] == list(range(1, numbers.machines))
    assert granted(site.call(machines[-1:], THIRD))


def test_a_product_that_moves_to_another_group_takes_its_machines_along(site: Site, numbers: Numbers) -> None:
    """K2: whoever calls is counted where it is asked how many there are."""
    machines = activated(site, numbers)
    site.add_product(PRODUCT, ver=2, **{**numbers.client, "count_group": "another"})
    answers = site.call(machines)
    assert granted(answers)
    assert {one["cnt"] for one in answers} == {numbers.machines}
    assert site.counts() == (0, 0)


# --- K4 ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("later", [-1, 0, 1])
def test_k4_a_record_lives_so_long_from_its_last_contact(site: Site, numbers: Numbers, later: int) -> None:
    machines = site.machines(numbers.machines - 1)
    site.call(machines)
    site.clock.pass_(numbers.lifetime // 2)
    site.call(machines)  # contact restarts it, refused or not
    assert site.counts()[0] == numbers.machines - 1
    site.clock.pass_(numbers.lifetime + later)
    answer = site.machine().call()
    if later < 0:
        assert answer["cnt"] == numbers.machines
    else:
        assert dict(answer.extra)["count"] == 1
        assert site.counts() == (1, 0)


@pytest.mark.parametrize("later", [-1, 0])
def test_k4_what_is_said_from_memory_is_exact(site: Site, numbers: Numbers, later: int) -> None:
    """The last batch before the end warms the memory; one second later the rows have ended, and it says so."""
    activated(site, numbers)
    end = site.clock.now() + numbers.lifetime
    site.clock.time = end - 2
    assert granted(site.call(site.machines(1)))
    site.clock.time = end + later
    answer = site.machine().call()
    if later < 0:
        assert isinstance(answer, dict)
    else:
        assert dict(answer.extra)["count"] == 2


def test_k4_memory_says_nothing_after_all_have_ended(site: Site, numbers: Numbers) -> None:
    activated(site, numbers)
    assert granted(site.call(site.machines(1)))
    site.clock.pass_(numbers.lifetime + numbers.renewal)
    assert dict(site.machine().call().extra)["count"] == 1
    assert dict(site.machine().call().extra)["count"] == 2


def test_k4_memory_knows_that_a_record_may_end_sooner_by_a_newer_policy(
    make_site: Callable[..., Site],
) -> None:
    site = make_site(record_lifetime=60 * DAY)
    machines = site.machines(25)
    site.call(machines)
    day: dict[str, Any] = {"renewal": DAY, "record_lifetime": 2 * DAY}
    site.add_product(PRODUCT, ver=2, **day)
    for _ in range(2):
        assert granted(site.call(machines))
        site.clock.pass_(HOUR)
    site.clock.pass_(2 * DAY)
    for place in (1, 2, 3):
        assert dict(site.machine().call().extra)["count"] == place


def test_the_count_in_a_lease_is_at_most_a_minute_old(site: Site, numbers: Numbers) -> None:
    machines = activated(site, numbers)
    for passed, least in ((0, 0), (59, 0), (60, 2)):
        site.clock.time = NOW + passed
        lease = site.machine().call()
        assert numbers.machines + least <= lease["cnt"] <= numbers.machines + 3
    site.clock.pass_(60)
    assert machines[0].call()["cnt"] == numbers.machines + 3


# --- K5 ---------------------------------------------------------------------------------------------------------


def test_k5_below_the_threshold_activation_and_renewal_are_refused(site: Site, numbers: Numbers) -> None:
    machines = activated(site, numbers)
    lease = machines[0].call()
    assert lease["exp"] == site.clock.now() + numbers.validity
    site.clock.pass_(numbers.lifetime - 1)
    site.call(machines[:-1])  # the last one stays away
    site.clock.pass_(1)
    for one in (machines[0], machines[1]):
        refusal = one.call()
        assert (refusal.code, dict(refusal.extra)["count"]) == ("count-insufficient", numbers.machines - 1)
        assert dict(refusal.extra)["renewal"] == numbers.renewal
        assert dict(refusal.extra)["retry"] == numbers.retry
    # Leases already given stand in the ledger to their own end; nothing but the count is needed.
    assert site.count("SELECT MIN(lease_end) FROM record") == NOW + numbers.validity
    assert granted([site.machine().call(), machines[0].call()])


@pytest.mark.parametrize("scope", ["both", "activation"])
@pytest.mark.parametrize("later", [-1, 0, 1])
def test_k5_activation_lets_those_with_a_lease_renew(
    make_site: Callable[..., Site], scope: str, later: int
) -> None:
    """A lease of 8 days, records of 365: the record outlives the lease."""
    site = make_site(
        validity=8 * DAY,
        renewal=2 * DAY,
        record_lifetime=365 * DAY,
        threshold_applies_to=scope,
        thresholds=[{"count": "machines", "minimum": 2}],
    )
    first, second = site.machines(2)
    site.call([first])
    assert granted([second.call()])
    # A newer policy asks for more: below the threshold without anyone's leaving.
    site.add_product(
        PRODUCT,
        ver=2,
        validity=8 * DAY,
        renewal=2 * DAY,
        record_lifetime=365 * DAY,
        threshold_applies_to=scope,
        thresholds=[{"count": "machines", "minimum": 3}],
    )
    site.clock.pass_(8 * DAY + later)
    assert refused("count-insufficient", [first.call()])  # it never had a lease
    answer = second.call()
    if scope == "activation" and later < 0:
        assert answer["exp"] == site.clock.now() + 8 * DAY
    else:
        assert answer.code == "count-insufficient"


# --- K10 and time -----------------------------------------------------------------------------------------------


def test_k10_a_host_that_is_not_activated(make_site: Callable[..., Site]) -> None:
    site = make_site(activated=False)
    body = site.machine().checkin(nonce="A" * 43)
    assert refused("host-not-activated", [*site.ask(body), site.host.introduction()])
    site.host.use(Terms(None))
    assert refused("host-not-activated", [*site.ask(body, body), site.host.introduction()])
    assert site.rows("record") == site.rows("event") == site.rows("tally") == []


def test_k10_a_product_that_the_delegation_does_not_name(site: Site, numbers: Numbers) -> None:
    machines = activated(site, numbers)
    assert refused("product-not-served", [machines[0].call(THIRD)])
    # It has the document, and its newest delegation lacks it.
    site.clock.pass_(1)
    site.served.remove(PRODUCT)
    site.delegate()
    assert refused("product-not-served", [machines[0].call()])
    assert machines[0].call(SERVER)["prd"] == SERVER
    assert site.counts() == (numbers.machines, 1)


def test_k10_the_five_codes_differ(site: Site) -> None:
    codes = {"host-not-activated", "product-not-served", "count-insufficient", "host-clock-wrong"}
    found = {site.machine().call().code, site.machine().call(THIRD).code}
    site.clock.time -= 2 * DAY
    found.add(site.machine().call(nonce="A" * 43).code)
    site.host.use(Terms(None))
    found.add(site.machine().call(nonce="A" * 43).code)
    assert found == codes


@pytest.mark.parametrize(
    ("moved", "signs"), [(-DAY, False), (-3601, False), (-3600, True), (-3599, True), (-1, True), (0, True)]
)
def test_a_clock_before_the_newest_signed_date(site: Site, numbers: Numbers, moved: int, signs: bool) -> None:
    machines = activated(site, numbers)
    site.clock.time = NOW + moved
    before = site.rows("record"), site.rows("event"), site.rows("tally")
    answer = machines[0].call(nonce=None if signs else "A" * 43)
    assert isinstance(site.host.introduction(), bytes) is signs
    if signs:
        assert answer["iat"] == NOW + moved
    else:
        assert answer.code == "host-clock-wrong"
        assert (site.rows("record"), site.rows("event"), site.rows("tally")) == before


@pytest.mark.parametrize(("later", "signs"), [(-1, True), (0, True), (1, False)])
def test_the_delegations_end_is_its_last_moment(
    site: Site, numbers: Numbers, later: int, signs: bool
) -> None:
    site.delegate(lasts=LASTS)
    site.clock.time = NOW + LASTS + later
    answers = site.ask(
        *[one.checkin(nonce=None if signs else "A" * 43) for one in site.machines(numbers.machines)]
    )
    if signs:
        assert answers[-1]["exp"] == site.clock.now() + numbers.validity
    else:
        assert refused("host-clock-wrong", [*answers, site.host.introduction()])
        site.publisher.iat = site.clock.now()
        site.publisher.new_issuer()
        site.delegate()
        assert granted(site.call(site.machines(numbers.machines))[-1:])


def test_a_host_that_the_publisher_took_back_is_not_activated(site: Site) -> None:
    site.publisher.new_root(site.signer, "all")
    with site.store.writing() as tx:
        tx.exec_driver_sql("UPDATE publisher SET roots = '[\"" + site.publisher.roots_later[0] + "\"]'")
    site.restarted()
    assert refused("host-not-activated", [site.machine().call(nonce="A" * 43)])


# --- the lease --------------------------------------------------------------------------------------------------


def test_the_lease_says_what_was_asked_and_what_the_policy_says(site: Site, numbers: Numbers) -> None:
    machines = activated(site, numbers)
    req = new_id()
    lease = machines[0].call(req=req)
    del lease["jti"]
    assert lease == {
        "v": 1,
        "pub": site.publisher.pub,
        "lab": True,
        "iss": site.signer.kid,
        "iat": NOW,
        "sub": machines[0].cmid,
        "exp": NOW + numbers.validity,
        "prd": PRODUCT,
        "cus": CUSTOMER,
        "req": req,
        "fp": machine.fingerprint(site.publisher.pub, PRODUCT, machines[0].parts),
        "ren": numbers.renewal,
        "rty": numbers.retry,
        "cnt": numbers.machines,
        "sver": [0, 0],
    }


@pytest.mark.parametrize("longer", [-1, 0, 1])
def test_no_lease_is_longer_than_the_delegation_lets(site: Site, numbers: Numbers, longer: int) -> None:
    site.clock.pass_(1)
    site.delegate(lmax=numbers.validity + longer)
    (lease,) = site.call(site.machines(numbers.machines))[-1:]
    assert lease["exp"] - lease["iat"] == numbers.validity + min(longer, 0)


@pytest.mark.parametrize(
    ("own", "told"),
    [
        (Intervals(), None),
        (Intervals(DAY), (DAY, None)),
        (Intervals(None, 900), (None, 900)),
        (Intervals(30 * DAY, 5 * HOUR), (30 * DAY, 5 * HOUR)),
        (Intervals(900), (900, 900)),  # a retry is no longer than a renewal
        (Intervals(4000, 5000), (4000, 4000)),
    ],
)
def test_k6_the_hosts_own_intervals_go_before_the_policys(
    site: Site, numbers: Numbers, own: Intervals, told: tuple[int | None, int | None] | None
) -> None:
    renewal, retry = told or (None, None)
    expected = renewal or numbers.renewal, retry or numbers.retry
    site.restarted(own)
    answers = site.call(site.machines(numbers.machines))
    assert {(dict(one.extra)["renewal"], dict(one.extra)["retry"]) for one in answers[:-1]} == {expected}
    assert (answers[-1]["ren"], answers[-1]["rty"]) == expected


def test_a_switch_during_a_batch_counts_from_the_next_one_on(site: Site, numbers: Numbers) -> None:
    """`use` comes from another thread than `answer`: a batch is decided by what held when it began."""
    machines = activated(site, numbers)
    random = site.host._randomness

    def switching(size: int) -> bytes:
        site.host.use(Terms(None, Intervals(DAY, HOUR)))
        return random(size)

    bodies = [one.checkin() for one in machines[:3]]
    site.host._randomness = switching
    assert [one["ren"] for one in site.ask(*bodies)] == [numbers.renewal] * 3
    assert refused("host-not-activated", site.ask(*bodies))
