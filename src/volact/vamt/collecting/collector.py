"""Hundreds of machines asked at once; each comes to a report or to the reason why not (V2, F45).

- One machine that hangs, lies or floods holds up none of the others, and no longer than its own time limit.
- Outcomes come as they are ready. Who stops taking them stops the asking: what came out by then stays done, and asking
  changes nothing on the machines.
"""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack, aclosing
from typing import TYPE_CHECKING, Self

from volact.protocol.problems import Refusal, Refused, Unreachable, VolactError
from volact.vamt.collecting import answers, local
from volact.vamt.collecting.ssh import Ssh
from volact.vamt.collecting.targets import LOCAL, SSH, VOLACT, WINRM, Login, Outcome, Progress, program_words
from volact.vamt.discovering.atonce import each
from volact.vamt.inventory import Report

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable, Iterable, Mapping, Sequence

    from volact.vamt.collecting.targets import Limits, Ran, Target
    from volact.vamt.collecting.winrm import WinRm

STATUS = ("client", "status", "--json")
"""The words after the one that starts volact."""


class Asking:
    """Machines and how they are reached. Use as a context: it ends all that it began."""

    def __init__(self, logins: Mapping[str, Login], limits: Limits, clock: Callable[[], int]) -> None:
        """Ask with these logins, by name, within these limits; `clock` says the time, seconds UTC."""
        self._logins, self._limits, self._clock = logins, limits, clock
        self._stack = AsyncExitStack()
        self._winrm: WinRm | None = None

    async def __aenter__(self) -> Self:
        """Begin."""
        self._ssh = await self._stack.enter_async_context(Ssh(self._limits))
        return self

    async def __aexit__(self, *error: object) -> None:
        """End all connections."""
        await self._stack.aclose()

    async def outcome(self, target: Target) -> Outcome:
        """What comes of asking one machine for its status; never an error."""
        try:
            async with asyncio.timeout(self._limits.whole):
                found, host_key = await self._answer(target)
        except TimeoutError:
            return Outcome(
                target, refusal=Refusal("timed-out", f"No answer within {self._limits.whole:g} s.")
            )
        except VolactError as error:
            return Outcome(target, refusal=error.refusal)
        except Exception as error:  # noqa: BLE001 - whatever a machine made a library stumble over concerns it alone
            said = f"Reading it failed: {type(error).__name__}."
            return Outcome(target, refusal=Refusal("answer-nonsense", said))
        if isinstance(found, Report):
            return Outcome(target, found, host_key=host_key)
        return Outcome(target, refusal=found, host_key=host_key)

    async def run(
        self, target: Target, words: Sequence[str], stdin: bytes = b"", program: str = VOLACT
    ) -> Ran:
        """Run volact (or slmgr) with these words on a machine, and give it `stdin` to read (V5, M8).

        Raises:
            Unreachable: nobody answered in time, another than the one asked, or with too much.
            Refused: `login-missing`, `login-unusable`, `credential-refused`; `usage` over WinRM, which is read only.
        """
        try:
            async with asyncio.timeout(self._limits.whole):
                return await self._run(target, words, stdin, program)
        except TimeoutError:
            raise Unreachable(self._late()) from None

    async def _answer(self, target: Target) -> tuple[Report | Refusal, str]:
        if target.transport == WINRM:
            return await self._windows().report(target, self._login(target), self._clock()), ""
        ran = await self._run(target, STATUS)
        return answers.of_run(ran), ran.host_key

    async def _run(
        self, target: Target, words: Sequence[str], stdin: bytes = b"", program: str = VOLACT
    ) -> Ran:
        if target.transport == LOCAL:
            login = self._logins.get(target.login, Login())
            return await local.run((*_started(local.own_words(login), program), *words), stdin)
        if target.transport != SSH:
            raise Refused(Refusal("usage", "Over WinRM machines are read, and nothing is run on them."))
        login = self._login(target)
        return await self._ssh.run(target, login, (*_started(login.command, program), *words), stdin)

    def _late(self) -> Refusal:
        return Refusal("timed-out", f"No answer within {self._limits.whole:g} s.")

    def _windows(self) -> WinRm:
        if self._winrm is None:
            from volact.vamt.collecting.winrm import WinRm  # noqa: PLC0415 - half a second that only Windows needs

            self._winrm = WinRm(self._limits)
        return self._winrm

    def _login(self, target: Target) -> Login:
        found = self._logins.get(target.login)
        if found is None:
            raise Refused(Refusal("login-missing", target.login and f"Group {target.login}."))
        return found


def _started(command: tuple[str, ...], program: str) -> tuple[str, ...]:
    found = program_words(command, program)
    if found is None:
        raise Refused(
            Refusal("usage", f"The login's command is not volact itself, so {program} cannot be found.")
        )
    return found


async def collect(
    targets: Iterable[Target],
    logins: Mapping[str, Login],
    limits: Limits,
    tell: Callable[[Progress], None],
    clock: Callable[[], int],
) -> AsyncGenerator[Outcome, None]:
    """Ask machines for their status; an outcome for each, as they are ready, and `tell` hears of each.

    Close it (`contextlib.aclosing`) to stop: no connection is left then.
    """
    asked = list(targets)
    progress = Progress(len(asked))
    tell(progress)
    async with Asking(logins, limits, clock) as asking:
        at_once = max(1, min(limits.at_once, len(asked)))
        async with aclosing(each(asked, asking.outcome, at_once)) as outcomes:
            async for _, outcome in outcomes:
                if outcome.report is None:
                    progress = progress._replace(failed=progress.failed + 1)
                else:
                    progress = progress._replace(done=progress.done + 1)
                tell(progress)
                yield outcome
