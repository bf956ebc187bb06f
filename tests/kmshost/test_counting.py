"""K1, K2, K4, K5 and rows 1, 2, 4 and 5 of PROTOCOL section 5, as values: each number one less, exactly, one more."""

import pytest

from volact.kmshost import counting
from volact.kmshost.counting import Known, Seen
from volact.protocol import machine, policy
from volact.protocol.policy import Policy, Threshold
from volact.protocol.problems import Refusal
from world import NOW, facts

CLIENT = policy.of_edition("client").thresholds
SERVERS = policy.of_edition("server").thresholds
SMALL = (Threshold("machines", 7), Threshold("servers", 3))
ANY = 1000


def fp(**parts: str) -> dict[str, str]:
    return machine.fingerprint("A" * 43, "com.example.cad", {**facts(1), **parts})


A = fp()
B = fp(uuid="b" * 32, board="b")  # S = 11, D = 10: changed
C = fp(uuid="c" * 32, board="c")
A_WITH_ANOTHER_DISK = fp(disk="d")  # S = 17, D = 4, UUID equal: same
FOREIGN = machine.fingerprint("A" * 43, "com.example.cad", {**facts(2), "cpu": "another"})


def known(**more: object) -> Known:
    of = {"fp": A, "before": None, "expires": NOW + 100, "req": None, "digest": None, "lease_end": None}
    return Known(**{**of, **more})  # type: ignore[arg-type]


# --- K1 ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("thresholds", "machines", "servers", "missing"),
    [
        (CLIENT, 0, 0, (0, 25, "machines")),
        (CLIENT, 24, 0, (24, 25, "machines")),
        (CLIENT, 24, 24, (24, 25, "machines")),  # five servers are no client's alternative
        (CLIENT, 25, 0, None),
        (CLIENT, 25, 25, None),  # servers are machines
        (CLIENT, 26, 3, None),
        (SERVERS, 4, 4, (4, 5, "servers")),
        (SERVERS, 5, 5, None),
        (SERVERS, 6, 6, None),
        (SERVERS, 24, 4, (4, 5, "servers")),  # one is missing for each: the first alternative is named
        (SERVERS, 25, 4, None),
        (SERVERS, 26, 0, None),
        (SERVERS, 24, 0, (24, 25, "machines")),  # one machine is nearer than five servers
        (SERVERS, 24, 5, None),
        (SERVERS, 20, 0, (0, 5, "servers")),  # five are missing for each
        (SERVERS, 21, 0, (21, 25, "machines")),
        (SERVERS, 19, 0, (0, 5, "servers")),
        (SMALL, 6, 2, (6, 7, "machines")),
        (SMALL, 6, 3, None),
        (SMALL, 7, 0, None),
        (SMALL, 5, 2, (2, 3, "servers")),
    ],
)
def test_k1_a_product_is_activated_when_any_alternative_is_reached(
    thresholds: tuple[Threshold, ...], machines: int, servers: int, missing: tuple[int, int, str] | None
) -> None:
    assert counting.shortfall(thresholds, machines, servers) == missing


def test_a_host_counts_to_twice_its_largest_threshold() -> None:
    assert counting.most_to_count([]) == 0
    assert counting.most_to_count([Policy(thresholds=CLIENT)]) == 50
    assert counting.most_to_count([Policy(thresholds=SMALL), Policy(thresholds=SERVERS)]) == 50
    assert counting.most_to_count([Policy(thresholds=SMALL)]) == 14


# --- K4 ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("later", "live"), [(-1, True), (0, False), (1, False)])
def test_k4_a_record_counts_before_its_end(later: int, live: bool) -> None:
    assert counting.is_live(NOW, NOW + later) is live


@pytest.mark.parametrize(
    ("ends", "minimum", "until"),
    [
        ([], 1, 0),
        ([9], 1, 9),
        ([9], 2, 0),
        ([3, 9, 5], 1, 9),
        ([3, 9, 5], 2, 5),
        ([3, 9, 5], 3, 3),
        ([3, 9, 5], 4, 0),
    ],
)
def test_at_least_so_many_count_until_the_nth_latest_end(ends: list[int], minimum: int, until: int) -> None:
    assert counting.until(ends, minimum) == until
    for now in range(11):
        assert (sum(now < end for end in ends) >= minimum) is (now < until)


# --- K5 ---------------------------------------------------------------------------------------------------------

BOTH = Policy()
ACTIVATION = Policy(threshold_applies_to="activation")


@pytest.mark.parametrize(
    ("rules", "record", "applies"),
    [
        (BOTH, None, True),
        (BOTH, known(lease_end=NOW + 1), True),
        (BOTH, known(lease_end=NOW - 1), True),
        (ACTIVATION, None, True),
        (ACTIVATION, known(), True),
        (ACTIVATION, known(lease_end=NOW - 1), True),
        (ACTIVATION, known(lease_end=NOW), True),
        (ACTIVATION, known(lease_end=NOW + 1), False),
    ],
)
def test_k5_below_the_threshold_renewal_is_refused_too_unless_the_policy_says_activation(
    rules: Policy, record: Known | None, applies: bool
) -> None:
    assert counting.threshold_applies(rules, record, NOW) is applies


def test_k5_the_refusal_says_the_count_what_is_required_and_the_intervals() -> None:
    refusal = counting.insufficient((24, 25, "machines"), 604800, 7200)
    assert refusal.code == "count-insufficient"
    assert dict(refusal.extra) == {
        "count": 24,
        "required": 25,
        "counted": "machines",
        "renewal": 604800,
        "retry": 7200,
    }
    assert refusal.detail == "The count is 24, 25 machines are required."
    assert "4, 5 servers are" in counting.insufficient((4, 5, "servers"), 1, 1).detail


# --- repetitions ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("record", "expected"),
    [
        (None, False),
        (known(), False),
        (known(req="other", digest="same"), False),
        (known(req="req", digest="same"), True),
        (known(req="req", digest="another"), Refusal("request-id-reused")),
    ],
)
def test_the_same_id_with_other_content_is_refused(record: Known | None, expected: object) -> None:
    assert counting.repeats(record, "req", "same") == expected


# --- K14 --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("record", "shown", "expected"),
    [
        (None, A, Seen(A, None, changed=False)),
        # row 1
        (known(), A, Seen(A, None, changed=False)),
        (known(fp=B, before=A), B, Seen(B, A, changed=False)),
        (known(before=B), A_WITH_ANOTHER_DISK, Seen(A_WITH_ANOTHER_DISK, B, changed=False)),
        # row 2
        (known(), B, Seen(B, A, changed=True)),
        (known(fp=B, before=A), C, Seen(C, B, changed=True)),
        (known(fp=C, before=B), A, Seen(A, C, changed=True)),
        # row 4: A, B, A, exactly or nearly
        (known(fp=B, before=A), A, Refusal("identity-cloned")),
        (known(fp=B, before=A_WITH_ANOTHER_DISK), A, Refusal("identity-cloned")),
        # row 5
        (known(), FOREIGN, Refusal("identity-cloned")),
        (known(fp=B, before=FOREIGN), FOREIGN, Refusal("identity-cloned")),
        # nothing to compare: the record is left as it is
        (known(), {}, Seen(A, None, changed=False)),
        (known(fp=B, before=A), {}, Seen(B, A, changed=False)),
        (known(fp={"hv": A["uuid"]}), A, Seen({"hv": A["uuid"]}, None, changed=False)),
    ],
    ids=range(14),
)
def test_k14_what_a_vector_says(
    record: Known | None, shown: dict[str, str], expected: Seen | Refusal
) -> None:
    assert counting.recognise(record, shown) == expected


# Of 20 points, CPU left out: UUID 6, board 4, disk 4, OS 3, card 3.
@pytest.mark.parametrize(
    ("differing", "verdict"),
    [
        ("board disk", "same"),  # UUID equal, 12 of 20
        ("board disk os", "changed"),  # UUID equal, 9 of 20
        ("uuid", "changed"),  # 14 of 20, but another UUID
        ("uuid os net", "changed"),  # 8 of 20
        ("uuid board os", "changed"),  # 7 of 20: 0.35 exactly
        ("uuid board disk", "foreign"),  # 6 of 20
    ],
)
def test_k14_the_borders_of_same_and_foreign(differing: str, verdict: str) -> None:
    old = {name: part for name, part in A.items() if name != "cpu"}
    new = {**old, **{name: FOREIGN[name] for name in differing.split()}}
    expected = {
        "same": Seen(new, None, changed=False),
        "changed": Seen(new, old, changed=True),
        "foreign": Refusal("identity-cloned"),
    }
    assert counting.recognise(known(fp=old), new) == expected[verdict]


# --- clocks (PROTOCOL section 8) --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("wall", "running", "jump"),
    [
        (100, 100, False),
        (100 + 3600, 100, False),
        (101 + 3600, 100, True),
        (100 - 3600, 100, False),
        (99 - 3600, 100, True),
        (86400, 86400, False),
    ],
)
def test_a_jump_is_more_than_an_hour_either_way(wall: int, running: int, jump: bool) -> None:
    before = counting.Look(NOW, 1000)
    assert counting.jumped(before, counting.Look(NOW + wall, 1000 + running)) is jump


def test_a_first_look_is_no_jump() -> None:
    assert not counting.jumped(None, counting.Look(NOW, 0))


@pytest.mark.parametrize(("last", "ahead"), [(3599, False), (3600, False), (3601, True)])
def test_a_contact_more_than_an_hour_ahead_is_of_a_wrong_clock(last: int, ahead: bool) -> None:
    assert counting.is_ahead(NOW + last, NOW) is ahead
