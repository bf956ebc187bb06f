"""What `slmgr MACHINE ...` asks of VAMT, as the person whose process this is. `volact.slmgr` reads and prints."""

from __future__ import annotations

import asyncio
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, NamedTuple

from volact.console import without_keys
from volact.protocol import jws
from volact.protocol.problems import DocumentRefused, Refusal, Refused, Unreachable
from volact.vamt import desk, setup
from volact.vamt.collectcommands import limits_of, logins_of
from volact.vamt.collecting.answers import first_line
from volact.vamt.remote import Order, harmless

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from volact.vamt.desk import Desk


class Said(NamedTuple):
    """What a machine's slmgr said; nothing of it steers a terminal or is a whole key.

    Attributes:
        exit: its exit code, 0 to 4.
        out: what it printed.
        err: what it said besides.
    """

    exit: int
    out: str
    err: str

    def members(self) -> dict[str, Any]:
        """What it printed with ``--json``: its answer, or its problem document.

        Raises:
            Refused: `client-failed` if it printed none because it, or what stands before it, failed.
            Unreachable: `answer-nonsense`.
        """
        try:
            found: dict[str, Any] = _harmless(jws.read_json(self.out.encode()))
        except DocumentRefused as error:
            if self.exit:
                said = first_line(self.err.encode()) or "nothing was said"
                raise Refused(Refusal("client-failed", f"Exit code {self.exit}: {said}")) from None
            detail = f"{error.refusal.detail}; it begins: {first_line(self.out.encode()) or '(nothing)'}"
            raise Unreachable(Refusal("answer-nonsense", detail)) from None
        return found


def _harmless(value: Any) -> Any:  # noqa: ANN401 - any JSON value
    """The value without what would steer a terminal: JSON's escapes hid it so far."""
    if isinstance(value, dict):
        return {harmless(name): _harmless(member) for name, member in value.items()}
    if isinstance(value, list):
        return [_harmless(one) for one in value]
    return harmless(value) if isinstance(value, str) else value


class Distant:
    """A machine of VAMT's, by a name of it, and its slmgr."""

    def __init__(self, at: Desk, machine: str, user: str) -> None:
        """Ask `machine`, by the account `user` instead of its login's if one is given."""
        self._at, self._machine, self._user = at, machine, user

    def has(self, product: str) -> bool:
        """Whether VAMT knows a product of that id, from its publisher or from this machine."""
        vamt, person = self._at.vamt, self._at.person
        known = {each.prd for _, products in vamt.publishers.list(person) for each in products}
        shown = vamt.machines.show(person, self._machine)
        return product in known | {one.product.product for one in shown.products}

    def tell(self, switch: str, words: Sequence[str], stdin: bytes = b"") -> Said:
        """What its slmgr said to a switch with these words; ``-`` stands for what is on `stdin`.

        Raises:
            VolactError: as `Remote.run`, and what `logins_of` raises.
        """
        limits = limits_of(self._at, None, None, accept_new=False)
        logins = logins_of(self._at, None)
        order = Order(switch, tuple(words), stdin)
        work = self._at.vamt.remote.run(
            self._at.person, self._machine, order, logins, limits, user=self._user
        )
        ran = asyncio.run(work)
        out, err = (without_keys(harmless(one.decode("utf-8", "replace"))) for one in (ran.out, ran.err))
        return Said(ran.exit, out, err)


@contextmanager
def distant(machine: str, user: str) -> Iterator[Distant]:
    """The machine of that name, asked by the VAMT that is set up here.

    Raises:
        Refused: `not-set-up`.
    """
    if not setup.folder().is_dir():
        raise Refused(Refusal("not-set-up", "Other machines are asked by VAMT: run `volact vamt init`."))
    with desk.desk() as at:
        yield Distant(at, machine, user)
