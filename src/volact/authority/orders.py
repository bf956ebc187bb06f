"""What a product key allows: kinds, numbers, bindings, blocks, hosts, speed. Pure: values in, a verdict out.

- M1, M3: `bought` = activated + remaining, always; it can be raised and never lowered.
- M5: a block of a key stops every new confirmation; ``new`` leaves given ones alone, ``all`` takes them too.
- M10: a key can be bound to machines (CMIDs) or networks (CIDR) or both; whoever is on either is entitled.
  Speed is limited per key and per key and source; a source is an IPv4 address or an IPv6 /64.
- K9: a KMS host key serves 6 hosts, each activated up to 10 times; a host that was activated is counted once.
- M7, K9: a kind of key in the wrong place is `key-wrong-kind`, before anything is looked up about the machine.

Precedence of the refusals about a key: `key-wrong-kind`, `key-wrong-product`, `too-many-requests`, then, in the
transaction, `key-blocked`, `machine-not-entitled`. Those about a machine come after them (`activation`); for a
host they are `machine-blocked`, `host-activated-too-often`, `no-activations-left`.
"""

from __future__ import annotations

import ipaddress
from functools import lru_cache
from typing import TYPE_CHECKING, NamedTuple

from volact.protocol.jws import MAX_INTEGER
from volact.protocol.policy import ACTIVATIONS_PER_HOST, HOSTS_PER_KEY
from volact.protocol.problems import Refusal

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

MAK, RETAIL, KMS_HOST = "mak", "retail", "kms-host"
OPERATION_OF = {MAK: "activate", RETAIL: "activate", KMS_HOST: "host"}
"""The one operation that a kind of key proves, beside its own remaining count."""

OPEN, BLOCKED_NEW, BLOCKED_ALL = "", "new", "all"
BY_FILE = "file"
"""The source of a request that came on a medium."""

_COST = 60
"""Levels of a bucket are counted in sixtieths, so that a rate a minute is a whole number a second."""
_IPV6_SOURCE = 64
_MAPPED = 96


class Order(NamedTuple):
    """A product key's record, as it stands in the transaction that decides on it.

    Attributes:
        id: its number in the store.
        thumbprint: of its public half; the only name by which it is found.
        kind: mak, retail or kms-host.
        label: its last group.
        product: number of its (first) product in the store.
        cus: the customer's id.
        bought: activations (hosts, for a host key) that it is good for.
        used: how many of them are taken.
        blocked: ``""``, ``new`` or ``all``.
        machines_bound: whether only listed machines may use it.
        networks: the networks it is bound to; empty if it is bound to none.
        cmax: most machines that a host of this key may count.
    """

    id: int
    thumbprint: str
    kind: str
    label: str
    product: int
    cus: str
    bought: int
    used: int
    blocked: str = OPEN
    machines_bound: bool = False
    networks: tuple[str, ...] = ()
    cmax: int = 0

    @property
    def remaining(self) -> int:
        """Activations that are left."""
        return self.bought - self.used


def bought_by(kind: str, activations: int | None) -> int | Refusal:
    """How many activations a new key is good for; a retail key is for one machine, a host key for 6 hosts."""
    if kind == MAK:
        if activations is None or not 1 <= activations <= MAX_INTEGER:
            return Refusal("usage", "A MAK needs --activations N, at least 1.")
        return activations
    if activations is not None:
        fixed = "one machine" if kind == RETAIL else f"{HOSTS_PER_KEY} hosts"
        return Refusal("usage", f"A {kind} key is for {fixed}; --activations is a MAK's.")
    return 1 if kind == RETAIL else HOSTS_PER_KEY


def raised(order: Order, bought: int) -> Refusal | None:
    """Whether a key may be raised to `bought` activations in all (M1's top-up)."""
    if order.kind == RETAIL:
        return Refusal("raise-refused", "A retail key is for one machine; issue a MAK for more.")
    if bought <= order.bought:
        return Refusal(
            "raise-refused", f"The key has {order.bought} already, and a number once sold is not lowered."
        )
    if bought > MAX_INTEGER:
        return Refusal("raise-refused", "No document can say so large a number.")
    return None


def check_kind(kind: str, op: str) -> Refusal | None:
    """Whether a kind of key may prove an operation (K9, M7)."""
    if op == "remaining" or OPERATION_OF[kind] == op:
        return None
    here = "activates machines and not a KMS host" if op == "host" else "activates KMS hosts and not machines"
    return Refusal("key-wrong-kind", f"A {kind} key {here}.")


def check_product(products: Iterable[str], prd: str) -> Refusal | None:
    """Whether a key is for the product that is asked for (M7)."""
    return (
        None if prd in products else Refusal("key-wrong-product", "It is not for the product of the request.")
    )


def check_blocked(order: Order) -> Refusal | None:
    """Whether a key is blocked for something new: every mode of a block is (M5)."""
    return Refusal("key-blocked") if order.blocked else None


def check_entitled(order: Order, source: str, *, listed: bool) -> Refusal | None:
    """Whether a machine is one that the key is bound to (M10); `listed` says that its CMID is on the key's list."""
    if not order.machines_bound and not order.networks:
        return None
    if (order.machines_bound and listed) or inside(source, order.networks):
        return None
    return Refusal("machine-not-entitled")


def inside(source: str, networks: Sequence[str]) -> bool:
    """Whether an address lies in one of the networks; a request that came by file comes from none."""
    try:
        address = ipaddress.ip_address(source)
    except ValueError:
        return False
    mapped = getattr(address, "ipv4_mapped", None)
    return any((mapped or address) in ipaddress.ip_network(network) for network in networks)


def network(text: str) -> str | None:
    """A network as it is stored, or None if the text is none; host bits must be zero, so that a slip is seen.

    IPv4 written as IPv6 (``::ffff:192.0.2.0/120``) is stored as IPv4, as callers are known by it.
    """
    try:
        found = ipaddress.ip_network(text.strip())
    except ValueError:
        return None
    mapped = getattr(found.network_address, "ipv4_mapped", None)
    if mapped and found.prefixlen >= _MAPPED:
        found = ipaddress.ip_network((mapped, found.prefixlen - _MAPPED))
    return str(found)


@lru_cache(maxsize=4096)
def source_of(address: str) -> str:
    """What limits and first-use events call a caller: an IPv4 address or an IPv6 /64."""
    try:
        found = ipaddress.ip_address(address)
    except ValueError:
        return address
    mapped = getattr(found, "ipv4_mapped", None)
    if mapped:
        return str(mapped)
    if found.version == 4:  # noqa: PLR2004 - IPv4
        return str(found)
    return str(ipaddress.ip_network((found, _IPV6_SOURCE), strict=False))


class HostRow(NamedTuple):
    """A KMS host that a key has activated: its activation id, how often, and whether it is blocked."""

    act: str
    host: str
    activations: int
    blocked: str = OPEN


def decide_host(order: Order, known: HostRow | None, source: str, *, listed: bool) -> Refusal | None:
    """Whether a key may activate a host: K9's publisher side. `known` is the host's row, if it has one."""
    refusal = check_blocked(order) or check_entitled(order, source, listed=listed)
    if refusal:
        return refusal
    if known and known.blocked:
        return Refusal("machine-blocked", "The host is blocked.")
    if known and known.activations >= ACTIVATIONS_PER_HOST:
        return Refusal(
            "host-activated-too-often", f"A host is activated at most {ACTIVATIONS_PER_HOST} times."
        )
    if not known and order.remaining < 1:
        return none_left(order, f"The key has activated {order.used} hosts of {order.bought}.")
    return None


def none_left(order: Order, detail: str = "") -> Refusal:
    """`no-activations-left`, with the numbers."""
    detail = detail or f"All {order.bought} activations of the key are used."
    return Refusal("no-activations-left", detail, (("bought", order.bought), ("remaining", order.remaining)))


class Bucket(NamedTuple):
    """A token bucket: its level in sixtieths of an activation, and when that was so."""

    level: int
    at: int


def take(bucket: Bucket | None, rate: int, burst: int, now: int) -> tuple[Bucket | None, int]:
    """Take one activation out of a bucket that fills by `rate` a minute up to `burst`.

    Answers the bucket as it is then and the seconds to wait, 0 if it was granted. A rate of 0 is no limit. A clock
    that went back fills nothing and takes nothing away.
    """
    if rate == 0:
        return bucket, 0
    full = max(burst, 1) * _COST
    level = full if bucket is None else min(full, bucket.level + rate * max(0, now - bucket.at))
    at = now if bucket is None else max(now, bucket.at)
    if level >= _COST:
        return Bucket(level - _COST, at), 0
    return Bucket(level, at), -(-(_COST - level) // rate)
