"""What a product key allows: kinds, numbers, bindings, blocks, hosts. Pure: values in, a verdict out.

- M1, M3: `bought` = activated + remaining, always; it can be raised and never lowered.
- M5: a block of a key stops every new confirmation; ``new`` leaves given ones alone, ``all`` takes them too.
- M10: a key can be bound to machines (CMIDs) or networks (CIDR) or both; whoever is on either is entitled.
  Speed is limited per key and per key and source (`speed`).
- K9: a KMS host key serves 6 hosts, each activated up to 10 times; a host that was activated is counted once.
- M7, K9: a kind of key in the wrong place is `key-wrong-kind`, before anything is looked up about the machine.

Precedence of the refusals about a key: `key-wrong-kind`, `key-wrong-product`, `too-many-requests`, then, in the
transaction, `key-blocked`, `machine-not-entitled`. Those about a machine come after them (`activation`); for a
host they are `machine-blocked`, `host-activated-too-often`, `no-activations-left`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from volact.protocol.jws import MAX_INTEGER
from volact.protocol.policy import ACTIVATIONS_PER_HOST, HOSTS_PER_KEY
from volact.protocol.problems import Refusal
from volact.sources import Networks

if TYPE_CHECKING:
    from collections.abc import Iterable

MAK, RETAIL, KMS_HOST = "mak", "retail", "kms-host"
OPERATION_OF = {MAK: "activate", RETAIL: "activate", KMS_HOST: "host"}
"""The one operation that a kind of key proves, beside its own remaining count."""

OPEN, BLOCKED_NEW, BLOCKED_ALL = "", "new", "all"
BY_FILE = "file"
"""The source of a request that came on a medium."""


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
    if (order.machines_bound and listed) or Networks(order.networks).hold(source):
        return None
    return Refusal("machine-not-entitled")


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
