"""Every number of the rules, once: a product's policy with its defaults and bounds (PROTOCOL section 10).

All durations are integer seconds. The constants below the class are not a product's to change.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from volact.protocol.ids import is_product_id
from volact.protocol.problems import DocumentRefused
from volact.protocol.values import NamedTuple

if TYPE_CHECKING:
    from collections.abc import Mapping

MINUTE, HOUR, DAY = 60, 3600, 86400

THRESHOLD_COUNTS = ("machines", "servers")
THRESHOLD_SCOPES = ("both", "activation")
PUBLISHER_GROUP = "publisher"
"""`count_group` when machines of all the publisher's products count together."""


class Threshold(NamedTuple):
    """One alternative of K1: at least `minimum` of what is `counted` (``machines`` or ``servers``)."""

    counted: str
    minimum: int


class Policy(NamedTuple):
    """A product's policy; the defaults are RULES.md's, `thresholds` and `warn_from` apart (see `of_edition`)."""

    thresholds: tuple[Threshold, ...] = (Threshold("machines", 25),)
    threshold_applies_to: str = "both"
    validity: int = 180 * DAY
    renewal: int = 7 * DAY
    retry: int = 2 * HOUR
    record_lifetime: int = 30 * DAY
    count_group: str = PUBLISHER_GROUP
    strong_count: bool = False
    forget_key: bool = True
    initial_grace: int = 30 * DAY
    tolerance_grace: int = 30 * DAY
    non_genuine_grace: int = 30 * DAY
    warn_from: int = 150 * DAY
    rearms: int = 3
    rebuilds_per_year: int = 6
    moves_per_year: int = 1
    returns_per_year: int = 10
    status_check: bool = False


SERVER_THRESHOLDS = (Threshold("servers", 5), Threshold("machines", 25))

DEFAULT_PORT = 1688
HOST_LABEL = "_volact._tcp"
"""Under which name of a domain KMS hosts are published and looked for, unless a setting says so (D1)."""
HOST_TARGETS = 8
"""So many hosts a client asks at most in one try (D3)."""
PUBLISH_EVERY = DAY
"""A host publishes its DNS records again after so long (D2)."""
PUBLISH_AGAIN = HOUR
"""It tries again so long after an update that was refused (D2)."""
WITHDRAW_WITHIN = 5
"""At a clean stop its records are withdrawn within so many seconds, or stay (D2)."""

YEAR = 365 * DAY
REBUILD_WINDOW = YEAR
"""Rebuilds, moves and returns are counted over this long (M2)."""

RETURN_PAUSE = 90 * DAY
"""A machine returns once in so long, and not within so long of a takeover (PROTOCOL section 7)."""
RETURNED_BY_FILE = 30 * DAY
"""The seat of a return by file is free after so long (M6)."""
FEWEST_RETURNS = 2
"""So many returns a key has in a year, however few activations it is for."""

HOSTS_PER_KEY = 6
ACTIVATIONS_PER_HOST = 10
HOST_MACHINES = 1_000_000
"""`cmax` of a host's delegation unless its order says otherwise."""

ISSUER_DELEGATION = YEAR
STATUS_DELEGATION = YEAR
HOST_DELEGATION_ONLINE = 90 * DAY
HOST_DELEGATION_BY_FILE = 400 * DAY
LONGEST_LEASE = 3650 * DAY
CLOCK_TOLERANCE = HOUR
"""How far clocks of signers may lie apart (PROTOCOL section 3), and a client's may jump back (section 8)."""

DOUBT_LIMIT = 7 * DAY
"""Running time in doubt after which the highest wall time seen counts (PROTOCOL section 8)."""

RUNNING_SAVE = 10 * MINUTE
REMAINING_PROOF = 90 * DAY
STATUS_LIST_DUE = 7 * DAY
STATUS_CHECK_EVERY = DAY
RETURNED_ENTRY = 400 * DAY
"""A `returned` entry goes from the status list so long after it came (PROTOCOL section 7)."""
BATCH_MOST = 100
QUEUE_AGAIN = 15 * MINUTE
"""What waits for a machine that is off is tried again after so long, then after twice as long, and so on (V5)."""
QUEUE_LONGEST = 6 * HOUR
"""No longer than so long lies between two such tries."""
QUEUE_TRIES = 100
"""So often it is tried at most."""
QUEUE_AGE = 30 * DAY
"""For so long at most, both ends included."""
SCHEDULE_SHORTEST, SCHEDULE_LONGEST = 15 * MINUTE, YEAR
"""What is repeated is repeated no more often, and no more seldom (V2, V5)."""
NONCE_LIFETIME = 5 * MINUTE
"""How long a host's nonce is good, both ends included (PROTOCOL section 6)."""

CLOCK_WITNESSES = 25
"""A host holds its clock against so many machines' (PROTOCOL section 8)."""

LONGEST_SPREAD = 11, 10
"""A machine waits at most 11/10 of the interval that it was told (K6)."""

MISSED_TRIES = 2
"""A machine that has missed its renewal and so many tries is overdue (K15)."""

FORECAST_DAYS = 30
"""How far a host looks ahead unless it is asked to look farther (K15)."""

FORESEEN = 14 * DAY
"""A host warns of a loss of its count that lies at most so far ahead (K15)."""

CALM = DAY
"""Without a loss in sight for so long, the next one is worth a new warning."""

SHORTEST_WAIT = 15 * MINUTE
LONGEST_RENEWAL = 30 * DAY
"""Bounds of renewal and retry intervals, whoever sets them (K6)."""

_MINIMUM = (1, 100_000)
_VALIDITY = (HOUR, 3650 * DAY)
_LONGEST_RECORD = 365 * DAY
_GRACE = (0, 365 * DAY)
_REARMS = (0, 100)
_COUNT = (0, 1000)
_MOST_THRESHOLDS = 8
DURATIONS = (
    "validity",
    "renewal",
    "retry",
    "record_lifetime",
    "initial_grace",
    "tolerance_grace",
    "non_genuine_grace",
    "warn_from",
)
"""The members that are durations; a product file writes them as ``180d``, ``2h`` or ``15m``."""


def of_edition(edition: str) -> Policy:
    """The defaults of a client or server product."""
    return Policy(thresholds=SERVER_THRESHOLDS) if edition == "server" else Policy()


class OutOfBounds(DocumentRefused):
    """A member of a policy is out of its bounds.

    Attributes:
        member: its name.
    """

    def __init__(self, member: str, allowed: str) -> None:
        """Say which `member`, and what is `allowed`."""
        super().__init__(f"policy: {member} must be {allowed}")
        self.member = member
        self.allowed = allowed


def read(members: Mapping[str, Any], edition: str) -> Policy:
    """The policy of a product document's `pol`: absent members have their default, unknown ones are ignored.

    Raises:
        OutOfBounds: naming the first member out of its bounds.
    """
    policy = of_edition(edition)
    given = {name: value for name, value in members.items() if name in Policy._fields}
    if "thresholds" in given:
        given["thresholds"] = _thresholds(given["thresholds"])
    policy = policy._replace(**given)
    if "warn_from" not in given:
        policy = policy._replace(warn_from=_default_warning(policy.validity))
    _check(policy)
    return policy


def written(policy: Policy, edition: str) -> dict[str, Any]:
    """The `pol` of a policy: what differs from the defaults of its edition."""
    default = of_edition(edition)
    default = default._replace(warn_from=_default_warning(policy.validity))
    members = {
        name: value
        for name, value, usual in zip(Policy._fields, policy, default, strict=True)
        if value != usual
    }
    if "thresholds" in members:
        members["thresholds"] = [
            {"count": threshold.counted, "minimum": threshold.minimum} for threshold in policy.thresholds
        ]
    return members


def _default_warning(validity: object) -> int:
    """5/6 of the validity (K7), rounded down to a second."""
    return validity * 5 // 6 if type(validity) is int else 0


def _thresholds(value: object) -> tuple[Threshold, ...]:
    allowed = f'1 to {_MOST_THRESHOLDS} of {{count = "machines" or "servers", minimum = 1 to 100000}}'
    if not isinstance(value, list) or not 1 <= len(value) <= _MOST_THRESHOLDS:
        raise OutOfBounds("thresholds", allowed)
    for one in value:
        if (
            not isinstance(one, dict)
            or one.keys() != {"count", "minimum"}
            or one["count"] not in THRESHOLD_COUNTS
            or not _within(one["minimum"], *_MINIMUM)
        ):
            raise OutOfBounds("thresholds", allowed)
    return tuple(Threshold(one["count"], one["minimum"]) for one in value)


def _within(value: object, low: int, high: int) -> bool:
    return type(value) is int and low <= value <= high


def _integers(policy: Policy) -> tuple[tuple[str, int, int, str], ...]:
    """Name, lowest, highest and, in words, the bounds of each integer member; later ones rest on earlier ones."""
    return (
        ("validity", *_VALIDITY, "1 h to 3650 d"),
        (
            "renewal",
            SHORTEST_WAIT,
            min(LONGEST_RENEWAL, _quarter(policy)),
            "15 min to 30 d, at most validity / 4",
        ),
        ("retry", SHORTEST_WAIT, _int(policy.renewal), "15 min to renewal"),
        ("record_lifetime", 2 * _int(policy.renewal), _LONGEST_RECORD, "2 renewals to 365 d"),
        ("initial_grace", *_GRACE, "0 to 365 d"),
        ("tolerance_grace", *_GRACE, "0 to 365 d"),
        ("non_genuine_grace", *_GRACE, "0 to 365 d"),
        ("warn_from", 0, _int(policy.validity), "0 to validity"),
        ("rearms", *_REARMS, "0 to 100"),
        ("rebuilds_per_year", *_COUNT, "0 to 1000"),
        ("moves_per_year", *_COUNT, "0 to 1000"),
        ("returns_per_year", *_COUNT, "0 to 1000"),
    )


def _int(value: object) -> int:
    return value if type(value) is int else 0


def _quarter(policy: Policy) -> int:
    return _int(policy.validity) // 4


def _check(policy: Policy) -> None:
    for name, low, high, allowed in _integers(policy):
        if not _within(getattr(policy, name), low, high):
            raise OutOfBounds(name, allowed)
    for name in ("strong_count", "forget_key", "status_check"):
        if not isinstance(getattr(policy, name), bool):
            raise OutOfBounds(name, "true or false")
    if policy.threshold_applies_to not in THRESHOLD_SCOPES:
        raise OutOfBounds("threshold_applies_to", '"both" or "activation"')
    if not is_product_id(policy.count_group):
        raise OutOfBounds("count_group", "a name of lower-case letters, digits, dots and hyphens")


_UNITS: Mapping[str, int] = {"m": MINUTE, "h": HOUR, "d": DAY}


def duration(text: object) -> int | None:
    """Seconds of ``180d``, ``2h`` or ``15m``; None if it is none of these."""
    if (
        not isinstance(text, str)
        or text[-1:] not in _UNITS
        or not text[:-1].isascii()
        or not text[:-1].isdigit()
    ):
        return None
    return int(text[:-1]) * _UNITS[text[-1]] if len(text) <= 9 else None  # noqa: PLR2004 - far above every bound
