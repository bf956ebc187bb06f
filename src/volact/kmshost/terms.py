"""On what terms a host answers: its keyring, intervals, limits, the publisher's list, and what follows from them.

Put in place as one value, between two batches: a batch is decided on the terms that held when it began.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from volact.kmshost import counting, placing
from volact.kmshost.admission import Limits
from volact.kmshost.ledger import Group
from volact.kmshost.statuslist import Held
from volact.protocol.policy import MINUTE
from volact.protocol.problems import Refusal

if TYPE_CHECKING:
    from volact.config import KmshostSettings
    from volact.kmshost.keyring import Keyring, Product
    from volact.protocol.documents import Document
    from volact.protocol.policy import Policy


class Intervals(NamedTuple):
    """What the host's administrator set, seconds; None where the product's policy counts."""

    renewal: int | None = None
    retry: int | None = None

    def told(self, policy: Policy) -> tuple[int, int]:
        """Renewal and retry interval that machines are told, seconds (K6)."""
        renewal = self.renewal or policy.renewal
        return renewal, min(self.retry or policy.retry, renewal)


def intervals_of(found: KmshostSettings) -> Intervals:
    """The intervals that settings say."""
    return Intervals(found.renewal_minutes * MINUTE or None, found.retry_minutes * MINUTE or None)


class Terms(NamedTuple):
    """What a host signs and answers with.

    Attributes:
        keyring: what it signs with; None as long as it is not set up for that.
        intervals: what its administrator set.
        tls: SPKI digests of the keys that it is served with.
        limits: how many machines may be new.
        blocks: the publisher's status list.
    """

    keyring: Keyring | None
    intervals: Intervals = Intervals()
    tls: tuple[str, ...] = ()
    limits: Limits = Limits()
    blocks: Held = Held()

    def delegation(self, now: int) -> Document | Refusal:
        """The delegation under which the host signs now; why it does not (K9, K10, M5; PROTOCOL section 8)."""
        if self.keyring is None:
            return Refusal("host-not-activated")
        found = self.keyring.in_force(now)
        if not isinstance(found, Refusal) and self.blocks.blocks_host(self.keyring.host, found):
            return Refusal("host-blocked")
        return found

    def products(self) -> list[Product]:
        """The products that the host has documents of."""
        return list(self.keyring.products.values()) if self.keyring else []

    def groups(self) -> dict[str, Group]:
        """The products that count together."""
        found: dict[str, list[Product]] = {}
        for one in self.products():
            found.setdefault(one.group, []).append(one)
        return {
            name: Group(name, len(members), counting.most_to_count(one.policy for one in members))
            for name, members in found.items()
        }

    def places(self) -> dict[str, placing.Place]:
        """Where the products' documents say that their machines count."""
        products = self.keyring.products if self.keyring else {}
        return {
            prd: placing.Place(one.group, one.server, one.policy.strong_count)
            for prd, one in products.items()
        }

    def has_strong_count(self) -> bool:
        """Whether any product counts enrolled machines alone (K17)."""
        return any(one.policy.strong_count for one in self.products())

    def told(self, product: Product) -> tuple[int, int]:
        """What a product's machines are told: `Intervals.told`."""
        return self.intervals.told(product.policy)

    def longest_retry(self) -> int:
        """The longest retry interval that any machine is told, seconds; 0 without a product."""
        return max((self.told(one)[1] for one in self.products()), default=0)
