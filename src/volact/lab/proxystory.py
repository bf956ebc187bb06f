"""``volact lab story proxy``: machines behind an air gap are activated through two VAMTs that share nothing but files (P1 to P5).

The isolated side is a VAMT, the sample group *SecureNetwork* and a KMS host; the outer side is a VAMT and the authority.
Each machine is a home of its own, which the inner VAMT asks as it asks any machine: by running its commands. What goes
from side to side are the bytes of the lists, and the story says what can be read in them.
"""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING, Any

from volact.children import Volact
from volact.files import PRIVATE, write_durably
from volact.lab import sample
from volact.lab.publisher import PRODUCT
from volact.lab.telling import Machine, Tale
from volact.protocol.policy import DAY, HOUR

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from volact.lab.handclock import HandClock
    from volact.lab.narrating import Line
    from volact.lab.publisher import Publisher
    from volact.protocol.policy import Policy

ACTIVATIONS = 10
_GROUP = ("--group", sample.GROUP)
_WAITING = "state!=licensed"
_REBUILT = "sec-ws-02"


class Proxy:
    """The story while it is played; the number in each line is how many of the group are Licensed, as VAMT knows it."""

    def __init__(
        self,
        folder: Path,
        clock: HandClock,
        publisher: Publisher,
        policy: Policy,
        say: Callable[[Line], None],
    ) -> None:
        """Play with this publisher, which serves; both sides are in `folder`."""
        self.tale = Tale(clock, say)
        self._folder, self._publisher, self._policy = folder, publisher, policy
        self._inside = Volact(folder / "inside", **clock.environ)
        self._outside = Volact(folder / "outside", **clock.environ)
        self._host = Volact(folder / "kms-host", **clock.environ)
        self._machines = {
            name: Machine(folder, name, facts, clock) for name, facts in sample.MACHINES.items()
        }
        self._medium = folder / "medium"
        self._mak = ""

    def document(self) -> dict[str, Any]:
        """Everything that happened, as JSON-ready members."""
        shown = [self._receipt(one) for one in (self._inside, self._outside)]
        return self.tale.document(
            self._publisher, group=sample.GROUP, receipts=dict(zip(("inside", "outside"), shown, strict=True))
        )

    def _receipt(self, vamt: Volact) -> list[dict[str, Any]]:
        return list(vamt("vamt", "receipt")["outcomes"])

    def _rows(self) -> list[dict[str, Any]]:
        return list(self._inside("vamt", "machine", "list", *_GROUP)["rows"])

    def _tell(self, event: str, text: str) -> None:
        licensed = sum(row["state_name"] == "Licensed" for row in self._rows()) if event != "begin" else 0
        self.tale.tell(event, licensed, text)

    def play(self) -> None:
        """Live through all of it.

        Raises:
            Refused: a refusal that has no place in the story.
        """
        self._medium.mkdir()
        self._set_up()
        self._find()
        self._install_keys()
        self.tale.wait(HOUR)
        self._export()
        self.tale.wait(DAY)
        self._acquire()
        self.tale.wait(DAY)
        self._apply()
        self.tale.wait(DAY)
        self._set_up_anew()

    # --- inside ---------------------------------------------------------------------------------------------------

    def _set_up(self) -> None:
        """The machines as they are before VAMT comes: one has a retail key, and was activated by files."""
        publisher, root = self._publisher, f"--root={self._publisher.pub}"
        for one in self._machines.values():
            one.install(publisher)
        first = self._machines[sample.WITH_RETAIL_KEY]
        first.volact("client", "install-key", "-", stdin=publisher.issue("retail") + "\n")
        request, response = str(self._medium / "request"), str(self._medium / "response")
        first.volact("/dti", request, program="slmgr")
        publisher.volact("authority", "answer", request, "-o", response)
        first.volact("/atp", response, program="slmgr")
        for vamt, name in ((self._inside, "inside"), (self._outside, "outside")):
            vamt("vamt", "init", "--name", name)
            vamt("vamt", "publisher", "add", str(publisher.signed), root)
        self._mak = publisher.issue("mak", ACTIVATIONS)
        self._tell("begin", "two VAMTs are set up, one on each side; no network joins them")

    def _find(self) -> None:
        """VAMT gets to know the machines, and asks them. A machine is reached by running its commands, as its login says."""
        self._inside("vamt", "group", "create", sample.GROUP)
        for one in self._machines.values():
            own = ("--group", one.name)
            self._inside("vamt", "machine", "add", one.name, "--transport", "local", *own)
            self._inside("vamt", "group", "add", sample.GROUP, one.name)
            self._inside(
                "vamt", "login", "set", *own, "--key-file", str(one.facts_file), "--command", one.command()
            )
        self._collect()
        found = sorted(f"{row['name']} {row['state_name']} ({row['channel']})" for row in self._rows())
        self._tell("collected", f"the VAMT inside asks the group {sample.GROUP}: {', '.join(found)}")

    def _collect(self) -> None:
        self._inside("vamt", "collect", *_GROUP)

    def _install_keys(self) -> None:
        passphrase = self._folder / "passphrase"
        write_durably(passphrase, b"correct horse battery staple\n", PRIVATE)
        seal = ("--passphrase", f"@{passphrase}")
        self._inside("vamt", "seal", *seal)
        self._inside("vamt", "key", "add", "-", "--product", PRODUCT, *seal, stdin=self._mak + "\n")
        self._inside("vamt", "install-key", *_GROUP, "--where", _WAITING, *seal)
        self._collect()
        installed = [row["name"] for row in self._rows() if row["channel"] == "mak"]
        self._host("kmshost", "init", f"--root={self._publisher.pub}", str(self._publisher.signed))
        self._host("kmshost", "install-key", "-", stdin=self._publisher.issue("kms-host") + "\n")
        self._host("kmshost", "activate", "--request-file", self._on_medium("host-request"))
        self._tell(
            "keys-installed",
            f"it installs its MAK on the {len(installed)} others; the isolated KMS host gets a key of its own",
        )

    def _export(self) -> None:
        file = self._on_medium("out.cil")
        words = ("--where", _WAITING, *_GROUP, "--request", self._on_medium("host-request"), "--proxy-only")
        rows = self._inside("vamt", "export", file, *words)["rows"]
        written = (self._medium / "out.cil").read_bytes()
        told = [name for name in (*self._machines, "secure.example", self._mak) if name.encode() in written]
        self._tell(
            "exported",
            f"it writes a list of proxy data, {rows} rows in {len(written)} bytes; of"
            f" {len(self._machines) + 2} names and keys that were looked for {len(told)} are in it",
        )

    # --- outside --------------------------------------------------------------------------------------------------

    def _acquire(self) -> None:
        """Outside the list is asked of the authority; the inner one is not reached, and not needed."""
        taken = self._outside("vamt", "import", self._on_medium("out.cil"))
        self._outside("vamt", "trust", taken["writer"]["fingerprint"], "--name", "inside")
        answered = self._outside("vamt", "acquire")["answered"]
        self._tell(
            "acquired", f"the list is carried out; the VAMT outside asks the authority: {answered} answers"
        )
        self._outside("vamt", "export", self._on_medium("back.cil"), "--answers", "newest")

    # --- inside again ---------------------------------------------------------------------------------------------

    def _apply(self) -> None:
        self._inside("vamt", "import", self._on_medium("back.cil"))
        again = self._inside("vamt", "import", self._on_medium("back.cil"))["counts"]
        applied = self._inside("vamt", "apply")["applied"]
        self._inside("vamt", "apply", "--into", str(self._medium))
        response = self._on_medium(f"host-{PRODUCT}.json")
        until = self._host("kmshost", "activate", "--response-file", response)["until"]
        self._collect()
        self._tell(
            "applied",
            f"the answers are carried back, taken in twice ({again.get('known', 0)} were known the second time), and"
            f" brought to {applied} machines; the KMS host is activated until {until}",
        )
        inside, outside = self._receipt(self._inside), self._receipt(self._outside)
        same = {row["row"] for row in inside} == {row["row"] for row in outside}
        self._tell(
            "receipts",
            f"both sides have a receipt for {len(inside)} rows, {'the same' if same else 'and they differ'}",
        )

    def _set_up_anew(self) -> None:
        """P4: from what is kept, nobody is asked and nothing is counted."""
        one = self._machines[_REBUILT]
        before = self._remaining()
        shutil.rmtree(one.volact.home)
        one.install(self._publisher, self._mak)
        state = one.said()
        self._inside("vamt", "apply", "--kept", "--machine", _REBUILT)
        self._collect()
        self._tell(
            "rebuilt",
            f"{_REBUILT} is set up anew ({state}) and activated from what VAMT kept: {one.said()};"
            f" {self._remaining()} of {ACTIVATIONS} activations remain, as before it: {before}",
        )

    def _remaining(self) -> int:
        label = self._mak.rpartition("-")[2]
        return int(self._publisher.volact("authority", "key", "show", label)["remaining"])

    def _on_medium(self, name: str) -> str:
        return str(self._medium / name)
