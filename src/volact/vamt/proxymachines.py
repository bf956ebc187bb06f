"""Fetches requests from machines, and brings them confirmations and status lists, hundreds at once (P1, M5).

There it is `slmgr /dti` and `/atp`, and `volact client status-list`.

The bundle goes on standard input, and what a machine says is read as anybody's: the caller verifies it. One that fails
holds up none of the others.
"""

from __future__ import annotations

import asyncio
import queue
import threading
from contextlib import aclosing
from typing import TYPE_CHECKING, Any, TypeVar

from volact.protocol.problems import Refusal, VolactError
from volact.vamt.applying import STATUS_LIST, Applied, Work
from volact.vamt.collecting import answers
from volact.vamt.collecting.targets import SLMGR, VOLACT
from volact.vamt.discovering.atonce import each
from volact.vamt.proxy import Said

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence

    from volact.vamt.applying import Apply
    from volact.vamt.collecting.collector import Asking
    from volact.vamt.collecting.targets import Limits, Login, Target
    from volact.vamt.proxy import Ask
    from volact.vamt.searching import Target as Row

    Connect = Callable[[], Asking]
    Targets = Callable[[Sequence[str]], Mapping[str, Target]]
    """How the machines with these ids are reached."""

T = TypeVar("T")
R = TypeVar("R")
_HOW = {
    "activate": (SLMGR, ("/atp", "-", "--role", "client", "--json")),
    STATUS_LIST: (VOLACT, ("client", "status-list", "-", "--json")),
}
"""How a machine takes what is brought to it: a program of volact's and its words."""
_MOST_NAME = 150
_ENDINGS = {STATUS_LIST: "status"}


def asker(targets: Targets, logins: Mapping[str, Login], limits: Limits) -> Ask:
    """What asks machines for the requests that are pending on them."""

    def ask(rows: Sequence[Row]) -> Iterator[Said]:
        reached = targets([one.mid for one in rows])

        async def one_of(asking: Asking, row: Row) -> Said:
            words = ("/dti", row.prd, "--role", "client", "--json")
            answer = await _run(asking, reached.get(row.mid), words)
            return Said(row, answer if isinstance(answer, Refusal) else _request(answer, row.prd))

        yield from _all(rows, one_of, logins, limits)

    return ask


def applier(targets: Targets, logins: Mapping[str, Login], limits: Limits) -> Apply:
    """What brings confirmations to machines; a host's delegation goes there by its administrator's hand."""

    def apply(works: Sequence[Work]) -> Iterator[Applied]:
        reached = targets([one.mid for one in works if one.mid])

        async def one_of(asking: Asking, work: Work) -> Applied:
            if work.op not in _HOW:
                return Applied(work, Refusal("host-by-hand", "Write it to a file with --into."))
            program, words = _HOW[work.op]
            answer = await _run(asking, reached.get(work.mid), words, work.data(), program)
            return Applied(work, answer if isinstance(answer, Refusal) else None)

        yield from _all(works, one_of, logins, limits)

    return apply


async def _run(
    asking: Asking, target: Target | None, words: Sequence[str], stdin: bytes = b"", program: str = SLMGR
) -> dict[str, Any] | Refusal:
    """What a machine's slmgr (or volact) answers, as JSON; or why it did not, in its own words if it has some."""
    if target is None:
        return Refusal(
            "machine-unknown",
            "No machine here is known to have asked for it; write it to a file with --into.",
        )
    try:
        ran = await asking.run(target, words, stdin, program=program)
    except VolactError as error:
        return error.refusal
    except Exception as error:  # noqa: BLE001 - whatever it is, it concerns this one alone or comes out where answers are taken
        return Refusal("answer-nonsense", f"Reading it failed: {type(error).__name__}.")
    return answers.of_command(ran)


def _request(members: Mapping[str, Any], prd: str) -> Mapping[str, Any] | Refusal:
    bundle = members.get("request")
    if members.get("product") != prd or not isinstance(bundle, dict):
        return Refusal("answer-nonsense", "It answered with no request for the product.")
    return bundle


def _all(
    items: Sequence[T],
    one_of: Callable[[Asking, T], Awaitable[R]],
    logins: Mapping[str, Login],
    limits: Limits,
) -> Iterator[R]:
    """What comes of each, as it is ready: the asking runs beside, so that who takes it may write meanwhile."""
    found: queue.Queue[R | BaseException | None] = queue.Queue(limits.at_once)
    stop = threading.Event()

    async def work() -> None:
        from volact.vamt.collecting.collector import Asking  # noqa: PLC0415 - asyncssh: half a second for this alone

        async with (
            Asking(logins, limits, lambda: 0) as asking,
            aclosing(each(items, lambda item: one_of(asking, item), limits.at_once)) as answers,
        ):
            async for _, answer in answers:
                await asyncio.to_thread(found.put, answer)
                if stop.is_set():
                    return

    def run() -> None:
        try:
            asyncio.run(work())
        except BaseException as error:  # noqa: BLE001 - whatever it is, it concerns this one alone or comes out where answers are taken
            found.put(error)
        else:
            found.put(None)

    thread = threading.Thread(target=run, name="machines", daemon=True)
    thread.start()
    try:
        while (answer := found.get()) is not None:
            if isinstance(answer, BaseException):
                raise answer
            yield answer
    finally:
        stop.set()
        while thread.is_alive():
            _drained(found)
            thread.join(0.1)


def _drained(found: queue.Queue[Any]) -> None:
    while not found.empty():
        found.get_nowait()


def filer(write: Callable[[str, bytes], None]) -> Apply:
    """What writes each bundle to a file of its own, for a way by hand: by machine, product and, where two are alike, number."""

    def apply(works: Sequence[Work]) -> Iterator[Applied]:
        taken: dict[str, int] = {}
        for work in works:
            said = f"{work.name or work.op}-{work.prd or work.op}"
            name = "".join(one if one.isalnum() or one in ".-_" else "_" for one in said)[:_MOST_NAME].lstrip(
                ".-"
            )
            taken[name] = taken.get(name, 0) + 1
            number = f"-{taken[name]}" if taken[name] > 1 else ""
            write(f"{name}{number}.{_ENDINGS.get(work.op, 'json')}", work.data())
            yield Applied(work, None, handed=True)

    return apply
