"""Which way of activating suits a network, why, and what it takes (V8). Pure.

1. Where enough machines are for a KMS host to grant (K1: any one alternative of the product's thresholds), a KMS host is
   advised, in an isolated network, too: it is activated by file (P5), and asks nobody for each machine.
2. Where there are fewer, a MAK: online, or, where no machine reaches the authority, by the MAK proxy (P1).
3. Without a product the thresholds are the defaults of server products: 5 servers or 25 machines.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from volact.protocol import policy

if TYPE_CHECKING:
    from volact.protocol.policy import Policy, Threshold

MAK_ONLINE, MAK_PROXY, KMS = "mak-online", "mak-proxy", "kms"
USUAL = policy.of_edition("server")


class Network(NamedTuple):
    """What is known of a network.

    Attributes:
        machines: machines that a KMS host would count, servers included.
        servers: how many of them are servers.
        isolated: whether none of them reaches the publisher's authority.
        activated: machines that have a permanent activation already.
        left: activations that are left on MAKs that VAMT holds, as far as known.
        policy: of the product that it is about.
    """

    machines: int
    servers: int
    isolated: bool
    activated: int = 0
    left: int = 0
    policy: Policy = USUAL


class Advice(NamedTuple):
    """What is advised: the way, why, what it takes, and what to keep in mind."""

    way: str
    why: tuple[str, ...]
    takes: tuple[str, ...]
    mind: tuple[str, ...]


def advise(network: Network) -> Advice:
    """The way that suits a network."""
    thresholds = network.policy.thresholds
    met = [one for one in thresholds if _counted(network, one) >= one.minimum]
    if met:
        return _kms(network, met)
    why = "Too few for a KMS host, which grants from " + " or ".join(map(_said, thresholds))
    why += f": there are {_number(network.machines, 'machine')}, {_number(network.servers, 'server')} among them."
    return _proxy(network, why) if network.isolated else _online(network, why)


def _counted(network: Network, threshold: Threshold) -> int:
    return network.servers if threshold.counted == "servers" else network.machines


def _said(threshold: Threshold) -> str:
    return _number(threshold.minimum, threshold.counted.removesuffix("s"))


def _number(count: int, what: str) -> str:
    return f"{count} {what}" if count == 1 else f"{count} {what}s"


def _kms(network: Network, met: list[Threshold]) -> Advice:
    why = [f"{_number(_counted(network, one), one.counted.removesuffix('s'))}: a KMS host grants from {one.minimum}."
           for one in met]  # fmt: skip
    how = "activated and extended by file, through a VAMT outside" if network.isolated else "activated online"
    takes = (
        f"A KMS host key; it serves {policy.HOSTS_PER_KEY} hosts.",
        f"A KMS host that all machines reach, {how}.",
        "No key on the machines: they find the host by DNS.",
    )
    days = network.policy.validity // policy.DAY
    mind = [f"A machine that does not reach the host for {days} days falls out of its licence."]
    spare = max(_counted(network, one) - one.minimum for one in met)
    if spare < _SLIM:
        mind.append(
            f"The count is slim: with {_number(spare + 1, 'machine')} less the host grants no longer; "
            "a second way, a MAK, is worth having."
        )
    return Advice(KMS, tuple(why), takes, tuple(mind))


_SLIM = 5
"""With fewer to spare than this a KMS host's count is called slim: a remark, no rule."""


def _online(network: Network, why: str) -> Advice:
    takes = (*_activations(network), "Each machine reaches the publisher's authority once, over HTTPS.")
    return Advice(MAK_ONLINE, (why, "The machines reach the publisher's authority."), takes, (_FOR_GOOD,))


def _proxy(network: Network, why: str) -> Advice:
    takes = (
        *_activations(network),
        "A second VAMT outside that reaches the publisher's authority, and a medium for the computer lists.",
    )
    return Advice(
        MAK_PROXY, (why, "The machines do not reach the publisher's authority."), takes, (_FOR_GOOD,)
    )


_FOR_GOOD = "Each activation is for good; a machine whose hardware changes much is activated again."


def _activations(network: Network) -> tuple[str, ...]:
    need = max(0, network.machines - network.activated)
    missing = max(0, need - network.left)
    said = (
        f"A MAK with {_number(need, 'activation')}; the keys held here are known to have {network.left} left"
    )
    return (said + (f": {missing} more are to be bought." if missing else "."),)
