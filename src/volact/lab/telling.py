"""What stories share that are played by commands alone: who plays, what is told, and a refusal that belongs to the story.

What is told is what was seen: each line is said after the commands that it tells of, with what they answered.
"""

from __future__ import annotations

import json
import sys
import time
from typing import TYPE_CHECKING, Any

from volact import config
from volact.children import Volact
from volact.commands import when
from volact.facts import MACHINE_FACTS
from volact.lab.narrating import Line
from volact.protocol.problems import Refusal, Refused

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    from volact.lab.handclock import HandClock
    from volact.lab.publisher import Publisher

_LOOK_AGAIN = 0.2


class Machine:
    """A machine of a story, driven by its commands.

    Attributes:
        name: what it is called.
        folder: what is on its disk.
        volact: its commands.
    """

    def __init__(self, folder: Path, name: str, facts: Mapping[str, object], clock: HandClock) -> None:
        """A machine of this hardware, whose disk is under `folder`."""
        self.name = name
        self.folder = folder / name
        self.folder.mkdir(parents=True)
        self.facts_file = self.folder / "facts.json"
        self.facts_file.write_text(json.dumps(facts), "utf-8")
        self.own = {MACHINE_FACTS: str(self.facts_file), **clock.environ}
        self.volact = Volact(self.folder / "disk", **self.own)

    def command(self) -> str:
        """What runs volact on it, for who asks from elsewhere."""
        own = {**self.own, config.HOME: str(self.volact.home)}
        return " ".join(
            ["env", *(f"{name}={value}" for name, value in own.items()), sys.executable, "-P", "-m", "volact"]
        )

    def install(self, publisher: Publisher, key: str = "") -> None:
        """Install the product, and a key if there is one."""
        self.volact("client", "install", str(publisher.signed), f"--root={publisher.pub}")
        if key:
            self.volact("client", "install-key", "-", stdin=key + "\n")

    def state(self) -> dict[str, Any]:
        """The product's row of ``client status``."""
        (product,) = self.volact("client", "status")["products"]
        return dict(product)

    def said(self) -> str:
        """The state, in the word that people know it by."""
        return str(self.state()["state_name"])


class Tale:
    """A story while it is told.

    Attributes:
        start: when it began, seconds UTC.
        lines: what was told so far.
    """

    def __init__(self, clock: HandClock, say: Callable[[Line], None]) -> None:
        """Begin now by `clock`; each line is said by `say`."""
        self.start = clock.now
        self.lines: list[Line] = []
        self._clock, self._say = clock, say

    def tell(self, event: str, counted: int, text: str) -> None:
        """Say what happened, and the number that the story is about."""
        line = Line(self._clock.now - self.start, event, counted, text)
        self.lines.append(line)
        self._say(line)

    def wait(self, seconds: int) -> None:
        """Let time pass, for everybody."""
        self._clock.move(self._clock.now + seconds)

    def document(self, publisher: Publisher, **more: Any) -> dict[str, Any]:  # noqa: ANN401 - JSON-ready members
        """Everything that was told, as JSON-ready members; times in seconds from the beginning."""
        return {
            "start": when(self.start),
            "publisher": publisher.pub,
            **more,
            "timeline": [line.document() for line in self.lines],
        }


def refused(volact: Volact, code: str, *words: str, program: str = "volact", within: float = 0) -> Refusal:
    """Run a command that is to be refused with this code, if not at once then `within` so many seconds of real time.

    The authority's service sees what its commands changed when it looks the next time, which takes it a second or so.

    Raises:
        Refused: if it is refused for another reason, or done.
    """
    until = time.monotonic() + within
    while True:
        try:
            volact(*words, program=program)
        except Refused as error:
            if error.refusal.code != code:
                raise
            return error.refusal
        if time.monotonic() >= until:
            said = f"{program} {' '.join(words)}: it was done, and {code} was to be said."
            raise Refused(Refusal("internal", said))
        time.sleep(_LOOK_AGAIN)
