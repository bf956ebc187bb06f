"""One host that takes batches of check-ins one after the other, as a model: what several hosts of a count may say (F39)."""

import itertools
from collections.abc import Iterator, Sequence
from typing import NamedTuple

REQUIRED = 25
"""K1's number."""
GRANTED = 0
"""What a model says instead of the count that a refusal names."""


class Told(NamedTuple):
    """A batch: who called, when it was sent and answered, and for each the count that was not enough, or `GRANTED`."""

    callers: tuple[str, ...]
    sent: float
    answered: float
    counts: tuple[int, ...]


def is_linearizable(before: frozenset[str], history: Sequence[Told]) -> bool:
    """Whether one host that took these batches one after the other could have said all this."""
    return any(
        all(early.sent <= late.answered for early, late in itertools.combinations(order, 2))
        and [one.counts for one in order] == list(_one_host(before, [one.callers for one in order]))
        for order in itertools.permutations(history)
    )


def _one_host(counted: frozenset[str], batches: Sequence[tuple[str, ...]]) -> Iterator[tuple[int, ...]]:
    """What a host says that counts each caller before it answers (K2, K3)."""
    machines = set(counted)
    for callers in batches:
        told = []
        for caller in callers:
            machines.add(caller)
            told.append(GRANTED if len(machines) >= REQUIRED else len(machines))
        yield tuple(told)
