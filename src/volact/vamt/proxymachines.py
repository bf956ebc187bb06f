"""Fetches requests from machines and brings confirmations to them, hundreds at once (P1): `slmgr /dti` and `/atp` there.

The bundle goes on standard input, and what a machine says is read as anybody's: the caller verifies it. One that fails
holds up none of the others.
"""

from __future__ import annotations

import asyncio
import queue
import threading
from contextlib import aclosing
from typing import TYPE_CHECKING, Any, TypeVar

from volact.protocol import jws
from volact.protocol.problems import DocumentRefused, Refusal, VolactError
from volact.vamt.applying import Applied, Work
from volact.vamt.collecting.answers import first_line
from volact.vamt.collecting.targets import SLMGR
from volact.vamt.discovering.atonce import each
from volact.vamt.proxy import Said

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence

    from volact.vamt.applying import Apply
    from volact.vamt.collecting.collector import Asking
    from volact.vamt.collecting.targets import Limits, Login, Ran, Target
    from volact.vamt.proxy import Ask
    from volact.vamt.searching import Target as Row

    Connect = Callable[[], Asking]
    Targets = Callable[[Sequence[str]], Mapping[str, Target]]
    """How the machines with these ids are reached."""

T = TypeVar("T")
R = TypeVar("R")
_NOT_FOUND = (126, 127)
_MOST_NAME = 150


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
            if work.op != "activate":
                detail = "It is a KMS host's: write it to a file with --into, then there `volact kmshost activate --response-file`."
                return Applied(work, Refusal("machine-unknown", detail))
            words = ("/atp", "-", "--role", "client", "--json")
            answer = await _run(asking, reached.get(work.mid), words, jws.write_json(dict(work.bundle)))
            return Applied(work, answer if isinstance(answer, Refusal) else None)

        yield from _all(works, one_of, logins, limits)

    return apply


async def _run(
    asking: Asking, target: Target | None, words: Sequence[str], stdin: bytes = b""
) -> dict[str, Any] | Refusal:
    """What a machine's slmgr answers, as JSON; or why it did not, in its own words if it has some."""
    if target is None:
        return Refusal(
            "machine-unknown",
            "No machine here is known to have asked for it; write it to a file with --into.",
        )
    try:
        ran = await asking.run(target, words, stdin, program=SLMGR)
    except VolactError as error:
        return error.refusal
    except Exception as error:  # noqa: BLE001 - whatever it is, it concerns this one alone or comes out where answers are taken
        return Refusal("answer-nonsense", f"Reading it failed: {type(error).__name__}.")
    return _answer(ran)


def _answer(ran: Ran) -> dict[str, Any] | Refusal:
    said = first_line(ran.err) or first_line(ran.out)
    if ran.exit in _NOT_FOUND:
        return Refusal("client-missing", said)
    try:
        members = jws.read_json(ran.out)
    except DocumentRefused as error:
        if ran.exit:
            return Refusal("client-failed", f"Exit code {ran.exit}: {said or 'nothing was said'}")
        return Refusal(
            "answer-nonsense", f"{error.refusal.detail}; it begins: {first_line(ran.out) or '(nothing)'}"
        )
    if ran.exit:
        code, title = members.get("code"), members.get("title")
        if isinstance(code, str) and isinstance(title, str):
            return Refusal.received(code, str(members.get("detail", "")), title)
        return Refusal("client-failed", f"Exit code {ran.exit}: {said or 'nothing was said'}")
    return members


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
            said = f"{work.name or work.op}-{work.prd}"
            name = "".join(one if one.isalnum() or one in ".-_" else "_" for one in said)[:_MOST_NAME].lstrip(
                ".-"
            )
            taken[name] = taken.get(name, 0) + 1
            number = f"-{taken[name]}" if taken[name] > 1 else ""
            write(f"{name}{number}.json", jws.write_json(dict(work.bundle)))
            yield Applied(work, None)

    return apply
