"""Windows of a delegation, at both ends (PROTOCOL section 3)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from vectors.cases import CAD_PUBLISHER as P
from vectors.cases import (
    broken_bundle,
    case,
    pinned,
)
from vectors.forge import (
    DAY,
    HOUR,
    JSON,
    START,
)

if TYPE_CHECKING:
    pass

ISSUER_END = START + 365 * DAY
HOST_START, HOST_END = START + 10 * DAY, START + 100 * DAY
WINDOWS: list[tuple[str, int, int]] = [
    ("confirmation", START, ISSUER_END),
    ("product", START, ISSUER_END),
    ("status", START, ISSUER_END),
    ("delegation", START, ISSUER_END),
    ("lease", HOST_START, HOST_END),
    ("host", HOST_START, HOST_END),
]
"""Kind; iat and exp of the delegation of its signer."""


def _at(kind: str, iat: int) -> JSON:
    length = {"lease": 180 * DAY, "delegation": 90 * DAY}.get(kind)
    return {"iat": iat} | ({"exp": iat + length} if length else {})


def windows() -> list[JSON]:
    """PROTOCOL 3: G.iat - 1 h <= D.iat <= G.exp."""
    made = []
    for kind, start, end in WINDOWS:
        step = 8 if kind == "delegation" else 9
        outside = "outside its signer's delegation"
        made.append(
            broken_bundle(
                f"window-{kind}-1h-1s-early",
                f"a {kind} signed 1 h 1 s before the delegation",
                kind,
                step,
                outside,
                change=_at(kind, start - HOUR - 1),
            )
        )
        made.append(
            broken_bundle(
                f"window-{kind}-1s-late",
                f"a {kind} signed 1 s after the delegation's end",
                kind,
                step,
                outside,
                change=_at(kind, end + 1),
            )
        )
    return made


def good_windows() -> list[JSON]:
    made = []
    for kind, start, end in WINDOWS:
        for name, iat in (("1h-early", start - HOUR), ("at-end", end)):
            made.append(
                case(
                    f"window-{kind}-{name}",
                    "both ends of a window count",
                    pinned(kind),
                    P.bundle(kind, _at(kind, iat)),
                )
            )
    longest = P.bundle("lease") | {"chain": [P.issuer(), P.host_delegation({"exp": HOST_START + 400 * DAY})]}
    past = P.host_delegation({"iat": ISSUER_END, "exp": ISSUER_END + 400 * DAY})
    end = ISSUER_END + 400 * DAY
    late = P.lease({"iat": end, "exp": end + 180 * DAY})
    made += [
        case("dmax-exactly", "a delegation of exactly dmax", pinned("lease"), longest),
        case(
            "host-outlives-issuer",
            "a host's delegation ends after its issuer's; it is judged at its signing",
            pinned("lease"),
            {"token": late, "chain": [P.issuer(), past], "roots": []},
        ),
        case(
            "issuer-star",
            "* from the root",
            pinned("confirmation"),
            P.bundle("confirmation") | {"chain": [P.issuer({"prd": ["*"]})]},
        ),
        case(
            "lease-of-no-length", "exp = iat", pinned("lease"), P.bundle("lease", {"exp": START + 20 * DAY})
        ),
    ]
    return made
