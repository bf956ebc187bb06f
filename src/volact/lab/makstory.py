"""``volact lab story mak``: a volume key from its first activation to its block, played with a real authority (M1 to M6).

Machines activate, the count falls; one is set up anew and is not counted again; a copy of one's disk on other hardware
becomes a machine of its own; the key is used up and topped up; a machine is retired, and what it gave back is worth
nothing any more; the key leaks and is blocked, first for new machines, then for all. Each machine is a home with facts of
its own; everything goes through the public commands.
"""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING, Any

from volact.children import START_LIMIT
from volact.lab import sample
from volact.lab.telling import Machine, Tale, refused
from volact.protocol.policy import DAY, RETURN_PAUSE

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from volact.lab.handclock import HandClock
    from volact.lab.narrating import Line
    from volact.lab.publisher import Publisher
    from volact.protocol.policy import Policy

BOUGHT, TOPPED_UP = 3, 5
"""Activations that the key is good for, at first and later."""
_FIRST, _SECOND, _COPY, _LATE = sample.MACHINES


class Mak:
    """The story while it is played; the number in each line is how many activations remain."""

    def __init__(
        self,
        folder: Path,
        clock: HandClock,
        publisher: Publisher,
        policy: Policy,
        say: Callable[[Line], None],
    ) -> None:
        """Play with this publisher, which serves; the machines' disks are in `folder`."""
        self.tale = Tale(clock, say)
        self._publisher, self._policy = publisher, policy
        self._machines = {
            name: Machine(folder, name, facts, clock) for name, facts in sample.MACHINES.items()
        }
        self._key = ""

    @property
    def _label(self) -> str:
        return self._key.rpartition("-")[2]

    def remaining(self) -> int:
        """How many activations remain, as the authority says."""
        return int(self._publisher.volact("authority", "key", "show", self._label)["remaining"])

    def _tell(self, event: str, text: str) -> None:
        self.tale.tell(event, self.remaining(), text)

    def play(self) -> None:
        """Live through all of it.

        Raises:
            Refused: a refusal that has no place in the story, or one that did not come.
        """
        self._key = self._publisher.issue("mak", BOUGHT)
        self._tell("issued", f"the publisher issues a MAK for {BOUGHT} activations, ...-{self._label}")
        for name in (_FIRST, _SECOND):
            self._activate(name, "activates", "activates with it, online")
        self.tale.wait(DAY)
        self._set_up_anew()
        self.tale.wait(DAY)
        self._copied()
        self.tale.wait(DAY)
        self._used_up()
        self.tale.wait(DAY)
        self._returned()
        self.tale.wait(DAY)
        self._blocked()

    def document(self) -> dict[str, Any]:
        """Everything that happened, as JSON-ready members."""
        return self.tale.document(self._publisher, bought=TOPPED_UP, remaining=self.remaining())

    def _activate(self, name: str, event: str, text: str, key: str | None = None) -> None:
        one = self._machines[name]
        one.install(self._publisher, self._key if key is None else key)
        one.volact("client", "activate")
        self._tell(event, f"{name} {text}: {one.said()}")

    def _set_up_anew(self) -> None:
        one = self._machines[_FIRST]
        shutil.rmtree(one.volact.home)
        text = "is set up anew on the same hardware and activates: it is known again, and not counted"
        self._activate(_FIRST, "rebuilt", text)

    def _copied(self) -> None:
        """The disk of one on other hardware (PROTOCOL section 5, row 3; M4)."""
        one, source = self._machines[_COPY], self._machines[_SECOND]
        before = source.state()["cmid"]
        shutil.copytree(source.volact.home, one.volact.home)
        one.volact("client", "run", "--once")
        is_own = "a machine of its own" if one.state()["cmid"] != before else "the same machine"
        self._tell(
            "copied",
            f"the disk of {_SECOND} is copied to {_COPY}: other hardware, so it is {is_own}: {one.said()}",
        )
        text = f"gets the key again, as any new machine does, and is counted ({_SECOND} is {source.said()} as before)"
        self._activate(_COPY, "copy-activates", text)

    def _used_up(self) -> None:
        one = self._machines[_LATE]
        one.install(self._publisher, self._key)
        said = refused(one.volact, "no-activations-left", "client", "activate")
        self._tell("used-up", f"{_LATE} asks and is refused, {said.code}; it stays in {one.said()}")
        self.tale.wait(DAY)
        self._publisher.volact("authority", "key", "raise", self._label, str(TOPPED_UP))
        self._tell("topped-up", f"the publisher tops the key up to {TOPPED_UP}")
        self._activate(_LATE, "activates", "tries again", "")

    def _returned(self) -> None:
        """A machine is retired: not soon after it was set up anew, but later; then its confirmation is worth nothing."""
        one = self._machines[_FIRST]
        said = refused(one.volact, "taken-over-recently", "client", "return")
        self._tell(
            "return-refused",
            f"{_FIRST} wants to give its activation back and is refused, {said.code}: it was set up anew"
            f" less than {RETURN_PAUSE // DAY} days ago; it stays {one.said()}",
        )
        self.tale.wait(RETURN_PAUSE)
        old = one.folder / "confirmation"
        old.write_text(_confirmation(one), "utf-8")
        one.volact("client", "return")
        self._tell("returned", f"{_FIRST} gives it back, online: {one.said()}; its seat is free at once")
        said = refused(one.volact, "activation-returned", "/atp", str(old), program="slmgr")
        self._tell(
            "replayed", f"its old confirmation is applied again, and refused: {said.code}; {one.said()}"
        )

    def _blocked(self) -> None:
        """The key leaks: blocked for new machines first, then for all (M5)."""
        one, never_told, contact = (self._machines[name] for name in (_FIRST, _COPY, _SECOND))
        self._publisher.volact("authority", "key", "block", self._label)
        one.install(self._publisher, self._key)
        said = refused(one.volact, "key-blocked", "client", "activate")
        contact.volact("client", "activate")
        self._tell(
            "blocked-for-new",
            f"the key has leaked and is blocked: {_FIRST} asks and is refused, {said.code};"
            f" {_SECOND} hears of it and stays {contact.said()}",
        )
        self.tale.wait(DAY)
        self._publisher.volact("authority", "key", "block", self._label, "--all")
        said = refused(contact.volact, "machine-blocked", "client", "activate", within=START_LIMIT)
        self._tell(
            "blocked-for-all",
            f"it is blocked for all: {_SECOND} hears of it, {said.code}: {contact.said()};"
            f" {_COPY}, which has no contact, is {never_told.said()}",
        )
        self.tale.wait(self._policy.non_genuine_grace)
        self._tell(
            "grace-over",
            f"{self._policy.non_genuine_grace // DAY} days later: {_SECOND} is in {contact.said()},"
            f" {_COPY} {never_told.said()}",
        )


def _confirmation(one: Machine) -> str:
    (path,) = one.volact.home.glob("client/*/products/*/grant.json")
    return path.read_text("utf-8")
