"""A machine's service, ticked by hand, and KMS clients by the numbers of a policy."""

from pathlib import Path
from typing import Any, NamedTuple

import pytest

from client.kms_server import HOST
from client.machine import Machine
from client.publisher import Publisher
from volact.client import running
from volact.protocol.policy import DAY, HOUR

MINUTE = 60


class Service:
    """A machine's service, ticked by hand."""

    def __init__(self, machine: Machine) -> None:
        self.machine = machine
        self.reports: list[str] = []

    def tick(self, *, at_start: bool = False, may_hold_back: bool = False) -> None:
        running.tick(self.machine.client, self._report, at_start=at_start, may_hold_back=may_hold_back)

    def _report(self, where: str, error: Exception) -> None:
        self.reports.append(f"{where}: {getattr(error, 'refusal', None) and error.refusal.code}")  # type: ignore[attr-defined]

    @property
    def asked(self) -> int:
        return len(self.machine.authority.requests)


class Numbers(NamedTuple):
    """The numbers of a policy: RULES.md's, and one that differs in every one of them."""

    validity: int = 180 * DAY
    renewal: int = 7 * DAY
    retry: int = 2 * HOUR
    warn_from: int = 150 * DAY
    tolerance_grace: int = 30 * DAY
    initial_grace: int = 30 * DAY

    @property
    def policy(self) -> dict[str, Any]:
        return {} if self == Numbers() else self._asdict()


USUAL = Numbers()
DIFFERENT = Numbers(40 * DAY, 3 * DAY, 45 * MINUTE, 31 * DAY, 9 * DAY, 5 * DAY)
BOTH = pytest.mark.parametrize("numbers", [USUAL, DIFFERENT], ids=["rules", "different"])


def made(folder: Path, numbers: Numbers = USUAL, *, host: str | None = HOST) -> Machine:
    machine = Machine(folder, Publisher())
    machine.kms.validity, machine.kms.renewal, machine.kms.retry = numbers[:3]
    machine.install(**numbers.policy)
    if host:
        machine.client.set_host(None, host)
    return machine
