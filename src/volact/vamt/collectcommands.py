"""``volact vamt collect``: asks machines for their status, with progress, and says why some gave none (V2)."""

from __future__ import annotations

import asyncio
import os
import sys
from contextlib import contextmanager
from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter

from volact.commands import WHOLE, Json
from volact.console import DONE, UNREACHABLE, Console
from volact.protocol.problems import UsageError
from volact.vamt import desk, reaching, reporting
from volact.vamt.desk import ANY, Names, Narrowed
from volact.vamt.logincommands import Passphrase, unlocked

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from volact.vamt.collecting.targets import Limits, Login, Progress
    from volact.vamt.collection import Collected
    from volact.vamt.desk import Desk

_SAID = 50
"""Failed machines that are said to people; --json has all."""
_STEP = 100


def collect(
    *machines: Names,
    narrowed: Narrowed = ANY,
    resume: Annotated[
        bool, Parameter(help="Go on with the collection that was stopped last, where it was stopped.")
    ] = False,
    accept_new: Annotated[
        bool,
        Parameter(
            help="UNSAFE: believe and pin the host key of machines that have none pinned. They are told no password."
        ),
    ] = False,
    at_once: Annotated[
        int | None, WHOLE, Parameter(help="Machines at a time; by default the setting at_once.")
    ] = None,
    limit: Annotated[
        int | None, WHOLE, Parameter(help="Seconds for one machine; by default the setting machine_seconds.")
    ] = None,
    passphrase: Passphrase = None,
    json: Json = False,
) -> int:
    """Ask machines for their licences, without an agent: over SSH, WinRM for Windows.

    What each says is kept as it comes. Ctrl-C stops; --resume goes on.
    """
    chosen = narrowed.selection(machines)
    if resume and any(chosen):
        raise UsageError("--resume goes on with the machines that were selected then.")
    console = Console(json=json)
    with desk.desk() as at:
        limits = limits_of(at, at_once, limit, accept_new=accept_new)
        by_group = logins_of(at, passphrase)
        with telling(console) as tell:
            work = at.vamt.collecting.collect(at.person, None if resume else chosen, by_group, limits, tell)
            try:
                done = asyncio.run(work)
            except KeyboardInterrupt:
                console.remark("What came out is kept. To go on: volact vamt collect --resume")
                raise
    return _say(console, done)


def limits_of(at: Desk, at_once: int | None, seconds: int | None, *, accept_new: bool) -> Limits:
    """The limits of collecting, as set and as commanded.

    Raises:
        UsageError: naming the bounds.
    """
    return reaching.limits(at.opened.settings, at_once, seconds, accept_new=accept_new)


def logins_of(at: Desk, passphrase: str | None) -> Mapping[str, Login]:
    """The logins by group; the SSH agent of who commands serves where none is set."""
    return reaching.by_group(at.opened.store, lambda: unlocked(at, passphrase), os.environ)


@contextmanager
def telling(console: Console) -> Iterator[Callable[[Progress], None]]:
    """What shows how far it is: a bar on a terminal, else a line now and then; nothing with --json but on a terminal."""
    if not sys.stderr.isatty():

        def tell(progress: Progress) -> None:
            finished = progress.done + progress.failed
            if finished and finished % _STEP == 0:
                console.remark(f"{finished} of {progress.total} machines, {progress.failed} failed")

        yield tell
        return
    from rich.console import Console as Terminal  # noqa: PLC0415 - only a terminal pays for these
    from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeElapsedColumn  # noqa: PLC0415
    from rich.progress import Progress as Bar  # noqa: PLC0415

    columns = (
        TextColumn("machines"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[failed]} failed"),
    )
    with Bar(*columns, TimeElapsedColumn(), console=Terminal(stderr=True), transient=True) as bar:
        task = bar.add_task("", total=None, failed=0)

        def draw(progress: Progress) -> None:
            finished = progress.done + progress.failed
            bar.update(task, total=progress.total, completed=finished, failed=progress.failed)

        yield draw


def _say(console: Console, done: Collected) -> int:
    prose = f"{done.asked} machines were asked, {done.done} answered, {len(done.failed)} did not"
    if done.failed:
        prose += "\n\n" + reporting.failures(done.failed, _SAID)
    if len(done.failed) > _SAID:
        prose += f"\n{len(done.failed) - _SAID} more: volact vamt machine list --where outcome!=ok"
    console.answer(
        {
            "asked": done.asked,
            "answered": done.done,
            "failed": [reporting.failed(one) for one in done.failed],
        },
        f"{prose}\nNext: volact vamt machine list",
    )
    return UNREACHABLE if done.asked and not done.done else DONE
