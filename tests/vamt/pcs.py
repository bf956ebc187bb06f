"""Machines that take volact's commands over SSH in this process: each keeps a key, a state and a KMS host, as a client does.

They are a model of `volact client` and `slmgr`, written from rules M, K22 and S; `tests/system/test_actions.py` has the
real ones. An activation takes a seat of its key from `Seats`, once for each machine (M1, M2).
"""

from __future__ import annotations

import json
import shlex
from typing import TYPE_CHECKING, Any

from vamt.collecting.standins import StandIns, product, status
from volact.protocol import keys
from volact.vamt.inventory import Sighting
from world import PRODUCT

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from vamt.collecting.standins import Process
    from vamt.site import Site


class Seats:
    """The publisher's authority: how many activations each key has, and who has them."""

    def __init__(self, **bought: int) -> None:
        self.bought = bought
        self.taken: dict[str, set[str]] = {label: set() for label in bought}
        self.blocked: set[str] = set()

    def activate(self, label: str, name: str) -> str:
        """Why not; empty if it is activated."""
        if label in self.blocked:
            return "key-blocked"
        if name not in self.taken[label] and len(self.taken[label]) >= self.bought[label]:
            return "no-activations-left"
        self.taken[label].add(name)
        return ""

    def counts(self) -> dict[str, int]:
        return {label: len(taken) for label, taken in self.taken.items()}


class Pc:
    """One machine.

    Attributes:
        told: the commands that it was told, status apart.
        read: what came on standard input with them.
        before: called before each command; what it returns is answered instead, if it is something.
        after: called after a command was done and before it is answered.
    """

    def __init__(self, name: str, pub: str, seats: Seats, *products: str, number: int = 0) -> None:
        self.name, self.pub, self.seats, self.number = name, pub, seats, number
        self.products: dict[str, dict[str, Any]] = {
            one: {"state": 2, "channel": "kms", "partial_key": None, "reason": "first-start", "host": None}
            for one in products or (PRODUCT,)
        }
        self.told: list[str] = []
        self.read: list[bytes] = []
        self.before: Callable[[list[str]], bytes | None] = lambda _: None
        self.after: Callable[[list[str]], Awaitable[None] | None] = lambda _: None

    @property
    def one(self) -> dict[str, Any]:
        """Its only product."""
        (found,) = self.products.values()
        return found

    async def __call__(self, process: Process) -> None:
        """Answer a command."""
        program, *words = shlex.split(process.command or "")
        said = self.before(words)
        if said is None and words[:2] == ["client", "status"]:
            rows = [
                product(publisher=self.pub, product=name, cmid=f"{self.number:043d}", grant=None)
                | {"granted": None}
                | found
                for name, found in self.products.items()
            ]
            machine = status(self.name, *rows, domain="a.invalid", identity=f"{self.number:043d}")
            said = json.dumps(machine).encode()
            code = 0
        elif said is None:
            self.told.append(" ".join((program, *words)))
            self.read.append(await process.stdin.read() if "-" in words else b"")
            refused = self._do(words)
            waiting = self.after(words)
            if waiting is not None:
                await waiting
            code = 1 if refused else 0
            said = json.dumps(
                {"code": refused, "title": "Refused there."} if refused else {"done": True}
            ).encode()
        else:
            code = 0
        process.stdout.write(said)
        process.exit(code)

    def _do(self, words: list[str]) -> str:
        """Do a command; the code of its refusal, or nothing."""
        found = next(self.products[one] for one in words if one in self.products)
        verb = words[1] if words[0] == "client" else words[0]
        if verb == "install-key":
            key = keys.read(self.read[-1].decode())
            assert isinstance(key, keys.ProductKey)
            found.update(channel=key.kind, partial_key=key.label)
        elif verb == "activate":
            refused = self.seats.activate(found["partial_key"], self.name)
            if refused:
                return refused
            found.update(state=1, reason="activated", granted="2026-11-24T12:00:00Z")
        elif verb == "return":
            self.seats.taken[found["partial_key"]].discard(self.name)
            found.update(state=0, reason="activation-returned", granted=None)
        elif verb == "/upk":
            found.update(channel="kms", partial_key=None, state=0, granted=None)
        elif verb == "/skms":
            found.update(host=words[1])
        elif verb == "/ckms":
            found.update(host=None)
        elif verb == "/ato":
            return "host-unreachable"
        else:
            assert verb == "/skms-domain"
        return ""


async def join(site: Site, machines: StandIns, *pcs: Pc, **more: Any) -> None:
    """Start machines and let VAMT know where they are."""
    for number, pc in enumerate(pcs):
        pc.number = pc.number or number + 1
        target = await machines.add(pc)
        found = Sighting(
            "csv", pc.name, "a.invalid", target.hosts, target.port, "ssh", host_keys=target.host_keys
        )
        site.see(found._replace(**more))
