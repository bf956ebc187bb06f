"""What a person may say of a network, and how advice is told as JSON: the same for commands and API (V8)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from volact.protocol.problems import UsageError
from volact.vamt.advising import Told

if TYPE_CHECKING:
    from volact.vamt.advising import Advised

_MOST = 10_000_000


def told(product: str, publisher: str, machines: int | None, servers: int | None, *, isolated: bool) -> Told:
    """What a person says of a network.

    Raises:
        UsageError: if it cannot be so.
    """
    for name, value in (("--machines", machines), ("--servers", servers)):
        if value is not None and not 0 <= value <= _MOST:
            raise UsageError(f"{name} is 0 to {_MOST}.")
    if publisher and not product:
        raise UsageError("--publisher says whose --product is meant.")
    if machines is not None and servers is not None and servers > machines:
        raise UsageError("--servers are among --machines.")
    return Told(isolated, machines, servers)


def json_of(found: Advised) -> dict[str, Any]:
    """What is advised, and what was looked at."""
    network, said = found.network, found.advice
    return {
        "way": said.way,
        "why": list(said.why),
        "takes": list(said.takes),
        "mind": list(said.mind),
        "network": {
            "machines": network.machines,
            "servers": network.servers,
            "isolated": network.isolated,
            "activated": network.activated,
            "left": network.left,
            "thresholds": [
                {"count": one.counted, "minimum": one.minimum} for one in network.policy.thresholds
            ],
        },
    }
