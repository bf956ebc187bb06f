"""How the story of rule K8 is told: one line for each noteworthy change, and nothing for the rest.

The narrator sees every try and every sample of the host's count; what it says is what has been seen, never what ought
to happen.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from volact.client import lifecycle
from volact.protocol.policy import DAY, HOUR, MINUTE

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from volact.lab.simulated import Simulated
    from volact.protocol.policy import Policy

GRANTED, COUNT_INSUFFICIENT = "granted", "count-insufficient"


class Line(NamedTuple):
    """A noteworthy change.

    Attributes:
        at: seconds from the first call.
        event: what it is, a stable word.
        counted: what the host counts then.
        text: the same for people.
    """

    at: int
    event: str
    counted: int
    text: str

    def document(self) -> dict[str, Any]:
        """As JSON-ready members."""
        return {
            "at": self.at,
            "when": clock_face(self.at),
            "event": self.event,
            "count": self.counted,
            "text": self.text,
        }

    def prose(self) -> str:
        """As it is printed: ``day 10 02:05   25  ...``."""
        return f"{clock_face(self.at)}  {self.counted:>4}  {self.text}"


class Try(NamedTuple):
    """One check-in and its answer.

    Attributes:
        at: seconds from the first call.
        machine: the machine's number.
        result: ``granted`` or the refusal's code.
        counted: what the host said that it counts.
        state: the machine's state after the answer.
    """

    at: int
    machine: int
    result: str
    counted: int
    state: int

    def document(self) -> dict[str, Any]:
        """As JSON-ready members."""
        return {
            "at": self.at,
            "machine": self.machine,
            "result": self.result,
            "count": self.counted,
            "state": self.state,
        }


class Narrator:
    """Watches the story and says each line with `say`.

    Attributes:
        lines: what was said so far.
    """

    def __init__(
        self,
        say: Callable[[Line], None],
        present: Mapping[int, Simulated],
        policy: Policy,
        *,
        fleet: int,
        start: int,
    ) -> None:
        """Tell of the machines that are `present`, `fleet` of them at the `start` (seconds UTC)."""
        self.lines: list[Line] = []
        self._say = say
        self._present = present
        self._policy = policy
        self._fleet = fleet
        self._start = start
        self._count = 0
        self._ever = 0
        self._refusals = 0
        self._left = 0
        self._joined_at: int | None = None
        self._said: set[str] = set()

    def _tell(self, at: int, event: str, text: str) -> None:
        line = Line(at, event, self._count, text)
        self.lines.append(line)
        self._say(line)
        self._said.add(event)

    def asked(self, told: Try, one: Simulated) -> None:
        """A machine asked, and was answered."""
        self._count = told.counted
        self._refusals += told.result != GRANTED
        newcomer = told.machine > self._ever
        self._ever = max(self._ever, told.machine)
        if newcomer:
            self._called_first(told, one)
        elif self._left and told.result != GRANTED and "first-refusal" not in self._said:
            self._tell(
                told.at,
                "first-refusal",
                f"{one.machine.name} is to renew and is refused: {told.result}, {told.counted} of {self._fleet}"
                f" (event 12290 on the host; a client logs 12289); it stays {_state(told)}",
            )
        self._all(told)

    def _called_first(self, told: Try, one: Simulated) -> None:
        at, name = told.at, one.machine.name
        refused = f"refused, {told.result}: {told.counted} of {self._fleet}"
        if told.machine > self._fleet:
            self._joined_at = at
            outcome = f"{told.counted} counted; it gets a lease" if told.result == GRANTED else refused
            self._tell(at, "joins", f"{name} joins and calls for the first time: {outcome}")
        elif told.machine == 1:
            self._tell(at, "first-call", f"{name} is the first of {self._fleet} to call: {refused}")
        if told.result == GRANTED and "first-lease" not in self._said:
            self._tell(at, "first-lease", f"{told.counted} counted; first lease, for {name}")

    def _all(self, told: Try) -> None:
        """What holds for all that are present since this try."""
        at, one_and_all = told.at, list(self._present.values())
        licensed = all(one.machine.lease for one in one_and_all)
        refused = all(one.failed for one in one_and_all)
        if "all-licensed" not in self._said and licensed and len(one_and_all) == self._fleet:
            self._tell(
                at,
                "all-licensed",
                f"the refused tried again by themselves; all {self._fleet} have a lease for"
                f" {spell(self._policy.validity)}, and renew every {spell(self._policy.renewal)}",
            )
            self._refusals = 0
        fallen = self._left and told.counted == self._fleet - self._left
        if fallen and "all-refused" not in self._said and refused:
            self._tell(
                at,
                "all-refused",
                f"each of the {len(one_and_all)} has been refused by now ({self._refusals} refusals); all"
                f" try again every {spell(self._policy.retry)}, {self._states(at)}",
            )
        if (
            self._joined_at is not None
            and "all-granted" not in self._said
            and not any(one.failed for one in one_and_all)
        ):
            self._tell(
                at,
                "all-granted",
                f"all {len(one_and_all)} have renewed, {spell(at - self._joined_at)} after the last"
                f" joined; {self._refusals} refusals in all, and nobody had to do anything",
            )

    def leaves(self, at: int, number: int, gone: int) -> None:
        """A machine calls no more; its record goes at `gone`."""
        self._left += 1
        name = self._present[number].machine.name
        self._tell(at, "leaves", f"{name} leaves; its record lives on until {clock_face(gone)}")

    def sampled(self, at: int, count: int) -> None:
        """The host said what it counts; a change that no try has shown is a record that went."""
        if count == self._count:
            return
        gone = self._count - count
        crossed = count < self._fleet <= self._count
        self._count = count
        if gone > 0:
            low = f", {self._fleet} are required: renewals are refused from now on" if crossed else ""
            self._tell(
                at,
                "record-gone",
                f"{gone} record has not been renewed for {spell(self._policy.record_lifetime)} and is gone:"
                f" {count} counted{low}",
            )

    def end(self, at: int, count: int, logged: int) -> None:
        """The last line sums up; `logged` is how many of the host's events tell of a refusal for the count."""
        self._count = count
        self._tell(
            at,
            "end",
            f"{count} counted (required {self._fleet}), {self._states(at)}; the {self._refusals} refusals"
            f" ended by themselves ({logged} events of refusals on the host, those of the first day included)",
        )

    def _states(self, at: int) -> str:
        """How many of the present are in which state."""
        found = dict.fromkeys(lifecycle.STATE_NAMES, 0)
        for one in self._present.values():
            found[lifecycle.STATE_NAMES[one.licence(self._start + at).state]] += 1
        return ", ".join(f"{count} are {name}" for name, count in found.items() if count)


def _state(told: Try) -> str:
    return lifecycle.STATE_NAMES[told.state]


def clock_face(at: int) -> str:
    """A moment of the story: ``day 10 02:05``."""
    return f"day {at // DAY:>2} {at % DAY // HOUR:02}:{at % HOUR // MINUTE:02}"


def spell(seconds: int) -> str:
    """A duration for people, in the largest unit that leaves it whole, else in hours and minutes."""
    for unit, name in ((DAY, "day"), (HOUR, "hour"), (MINUTE, "minute")):
        if seconds % unit == 0:
            return f"{seconds // unit} {name}{'' if seconds == unit else 's'}"
    return f"{seconds // HOUR} h {seconds % HOUR // MINUTE} min"
