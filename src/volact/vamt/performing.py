"""Doing an action on machines, hundreds at once, over the same connections as collection (V5, F40, F45).

- Each row is begun in the store before its machine is told anything, and has its end there as soon as it is known. One
  whose end nobody knows, after a crash, a stop or a time limit, is looked at first when it goes on.
- The store's word that nothing is to be done, or cannot be, is asked of the machine before it is believed.
- A machine that was told something is asked for its state afterwards, and so is what refused to be reached flagged: the
  inventory is true.
- One machine that fails holds up none of the others. A product key goes on standard input, to whom shows its pinned host
  key, and is nowhere else (M8, T29).
"""

from __future__ import annotations

import asyncio
from concurrent.futures import ThreadPoolExecutor
from contextlib import aclosing, asynccontextmanager
from functools import partial
from typing import TYPE_CHECKING, NamedTuple, TypeVar

from volact.protocol import policy
from volact.protocol.problems import Refusal, Refused, VolactError
from volact.vamt import actionrecords, actions, keyrecords, records
from volact.vamt import store as sql
from volact.vamt.acting import OK
from volact.vamt.actionrecords import BEGUN, BUSY, DONE, FAILED, QUEUED, Row
from volact.vamt.collecting import answers
from volact.vamt.collecting.targets import Outcome, Progress
from volact.vamt.discovering.atonce import each

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Mapping, Sequence
    from contextlib import AbstractContextManager

    from volact.protocol.keys import ProductKey
    from volact.vamt.acting import Deed, Office
    from volact.vamt.actions import Action, Step
    from volact.vamt.collecting.collector import Asking
    from volact.vamt.collecting.targets import Limits, Login, Target
    from volact.vamt.collection import Collecting
    from volact.vamt.inventory import Product, Report
    from volact.vamt.keyrecords import Key
    from volact.vamt.people import Person
    from volact.vamt.sealing import Sealer

T = TypeVar("T")
_MARGIN = 5
"""Seconds by which a row is longer claimed than its machine may take for all of it."""
_CALLS = 4
"""Connections that a row may take at most: a look, two commands, and what is asked afterwards."""


class _Taken(Refused):
    """Somebody else has begun or ended this very row."""


class Means(NamedTuple):
    """What it takes to reach machines.

    Attributes:
        logins: by group.
        limits: how many at once, and how long.
        unlock: opens the seal, if a product key is to be installed.
    """

    logins: Mapping[str, Login]
    limits: Limits
    unlock: Callable[[], Sealer]


class Work(NamedTuple):
    """Rows that are to be done.

    Attributes:
        person: for whom.
        aid: the action's id.
        action: what.
        rows: on which machines.
        queue: whether a row whose machine is off waits for it.
        keys: the keys that they take, by thumbprint: what is known of each, and itself.
    """

    person: Person
    aid: str
    action: Action
    rows: Sequence[Row]
    queue: bool
    keys: Mapping[str, tuple[Key, ProductKey]]


class Performing:
    """Does work on machines."""

    def __init__(
        self, office: Office, collecting: Collecting, means: Means, tell: Callable[[Progress], None]
    ) -> None:
        """Work in `office`; `collecting` says how machines are reached, and `tell` hears how far it is."""
        self._office, self._collecting, self._means, self._tell = office, collecting, means, tell

    async def perform(self, work: Work) -> list[Row]:
        """Do it; each row as it stands then. Those that somebody else did meanwhile are left out.

        Raises:
            asyncio.CancelledError: when it is stopped; what was done until then stays done.
        """
        from volact.vamt.collecting.collector import Asking  # noqa: PLC0415 - asyncssh: half a second for this alone

        progress = Progress(len(work.rows))
        self._tell(progress)
        by_machine: dict[str, list[Row]] = {}
        for row in work.rows:
            by_machine.setdefault(row.mid, []).append(row)
        limits, found = self._means.limits, list[Row]()
        with ThreadPoolExecutor(1, thread_name_prefix="actions") as thread:
            beside = _Beside(thread)
            targets, keep = await beside.call(
                partial(self._collecting.reach, work.person, by_machine, self._means.logins)
            )
            known = await beside.call(partial(self._known, list(by_machine)))
            async with Asking(self._means.logins, limits, self._office.clock.now) as asking:
                place = _Place(self._office, work, asking, keep, beside, limits, known)

                async def one_of(mid: str) -> list[Row]:
                    return await place.machine(by_machine[mid], targets.get(mid))

                at_once = max(1, min(limits.at_once, len(by_machine)))
                async with aclosing(each(by_machine, one_of, at_once)) as settled:
                    async for _, rows in settled:
                        found += rows
                        good = sum(one.state == DONE for one in rows)
                        progress = progress._replace(
                            done=progress.done + good, failed=progress.failed + len(rows) - good
                        )
                        self._tell(progress)
        return found

    def _known(self, mids: Sequence[str]) -> dict[tuple[str, str, str], Product]:
        """What machines said last of their products, by their ids."""
        with self._office.store.reading() as tx:
            numbers = records.numbers(tx, mids)
            names = {number: mid for mid, number in numbers.items()}
            there = actionrecords.there(tx, names)
        return {(names[number], pub, prd): product for (number, pub, prd), product in there.items()}


class _Beside:
    """Lets what blocks, the store, run in one other thread, one after the other."""

    def __init__(self, thread: ThreadPoolExecutor) -> None:
        self._thread = thread

    async def call(self, work: Callable[[], T]) -> T:
        """What `work` returns or raises. Who stops waiting for it does not stop it."""
        return await asyncio.get_running_loop().run_in_executor(self._thread, work)

    @asynccontextmanager
    async def inside(self, inner: AbstractContextManager[T]) -> AsyncIterator[T]:
        """A context that blocks when it is entered and left."""
        entering = asyncio.ensure_future(self.call(inner.__enter__))
        try:
            value = await asyncio.shield(entering)
        except asyncio.CancelledError as error:
            await entering  # it was begun, so it is ended, too
            await self.call(partial(inner.__exit__, type(error), error, None))
            raise
        try:
            yield value
        except BaseException as error:
            await self.call(partial(inner.__exit__, type(error), error, error.__traceback__))
            raise
        await self.call(partial(inner.__exit__, None, None, None))


class _Reached:
    """What was found out about a machine while its rows are done.

    Attributes:
        target: how it is reached.
        report: what it said of itself; None as long as it was not asked.
        lost: why it could not be reached; then it is not tried again for its other rows.
        told: whether it was told to change something since its report.
    """

    def __init__(self, target: Target) -> None:
        self.target = target
        self.report: Report | None = None
        self.lost: Refusal | None = None
        self.told = False


class _Place(NamedTuple):
    """One run of some work."""

    office: Office
    work: Work
    asking: Asking
    keep: Callable[[Sequence[Outcome]], None]
    beside: _Beside
    limits: Limits
    known: Mapping[tuple[str, str, str], Product]

    async def machine(self, rows: Sequence[Row], target: Target | None) -> list[Row]:
        """Do the rows of one machine, one after the other, and ask afterwards how it is."""
        reached = _Reached(target) if target else None
        settled = [await self._row(row, reached) for row in rows]
        if reached and reached.told:
            await self._look(reached)
        return [row for row in settled if row]

    async def _row(self, row: Row, reached: _Reached | None) -> Row | None:
        """A row as it stands afterwards; None if somebody else has it. It is in the log, for whom and by which key."""
        label = self._label(row)
        what = {"action": self.work.aid, "machine": row.machine, "id": row.mid, "what": self.work.action.name}
        what |= {"product": row.prd} if row.prd else {}
        what |= {"key": label} if label else {}
        refusal: Refusal | None = None
        detail, begun = "", row
        try:
            async with self.beside.inside(
                self.office.acting(self.work.person, self.work.action.least, what)
            ) as deed:
                begun = await self.beside.call(partial(self._claim, row))
                begun, detail = await self._do(begun, reached, label, deed)
        except _Taken:
            return None
        except VolactError as error:
            refusal = error.refusal
        except BaseException:
            await self.beside.call(partial(self._release, row))
            raise
        return await self.beside.call(partial(self._settle, begun, refusal, detail))

    def _label(self, row: Row) -> str:
        return self.work.keys[row.key][0].label if row.key in self.work.keys else ""

    def _claim(self, row: Row) -> Row:
        """Begin a row in the store.

        Raises:
            Refused: `machine-in-use`; `_Taken` if somebody else has begun or ended this very row.
        """
        now = self.office.clock.now()
        until = now + int(self.limits.whole * _CALLS) + _MARGIN
        with self.office.store.writing() as tx:
            sql.lock(tx)
            claimed = actionrecords.claim(tx, row, now, until)
        if claimed == BUSY:
            raise Refused(Refusal("machine-in-use"))
        if claimed != BEGUN:
            raise _Taken(Refusal("machine-in-use", "Somebody else does this very row."))
        return row._replace(tries=row.tries + 1, at=now)

    def _release(self, row: Row) -> None:
        with self.office.store.writing() as tx:
            actionrecords.release(tx, [row.number])

    async def _do(self, row: Row, reached: _Reached | None, label: str, deed: Deed) -> tuple[Row, str]:
        """Do a row that was begun; with the product that it turned out to be about, and what is said of it."""
        action, again = self.work.action, row.tries > 1
        if reached is None:
            raise Refused(Refusal("machine-unknown", "It was removed."))
        refused = reached.lost or actions.is_out_of_reach(reached.target.transport, action)
        if refused:
            raise Refused(refused)
        steps: tuple[Step, ...] | Refusal = ()
        label = label or row.key  # a key that is gone is on no machine
        if not again and row.prd:
            steps = actions.steps(action, self.known.get((row.mid, row.pub, row.prd)), label)
        if isinstance(steps, Refusal) or not steps:  # the machine knows better than the store
            report = await self._report(reached)
            there = None
            if action.name != actions.REFRESH:
                there = _product(report, row)
                row = row._replace(pub=there.publisher, prd=there.product)
            steps = actions.steps(action, there, label, again=again)
        if isinstance(steps, Refusal):
            raise Refused(steps)
        for step in steps:
            await self._tell(reached, row, step)
        deed.rows = 1
        deed.detail = actions.done(action, label, changed=bool(steps))
        return row, deed.detail

    async def _tell(self, reached: _Reached, row: Row, step: Step) -> None:
        """Have a machine run a command.

        Raises:
            VolactError: why it did not, or was not reached.
        """
        stdin = f"{self._key(row).text()}\n".encode("ascii") if step.takes_key else b""
        reached.told = True
        try:
            ran = await self.asking.run(reached.target, step.words, stdin, step.program)
        except VolactError as error:
            await self._lose(reached, error.refusal)
            raise
        except Exception as error:
            refusal = Refusal("answer-nonsense", f"Reading it failed: {type(error).__name__}.")
            await self._lose(reached, refusal)
            raise Refused(refusal) from error
        answer = answers.of_command(ran)
        if isinstance(answer, Refusal):
            raise Refused(answer)

    def _key(self, row: Row) -> ProductKey:
        """The key that a row takes.

        Raises:
            Refused: `key-not-held`, `key-blocked`.
        """
        if row.key not in self.work.keys:
            raise Refused(Refusal("key-not-held", "The key that it was to take is not here any more."))
        known, key = self.work.keys[row.key]
        if known.blocked:
            raise Refused(Refusal("key-blocked", f"Key ...-{known.label}."))
        return key

    async def _report(self, reached: _Reached) -> Report:
        """What a machine says of itself now.

        Raises:
            Refused: why it says nothing.
        """
        if reached.report is None or reached.told:
            await self._look(reached)
        if reached.report is None:
            raise Refused(reached.lost or Refusal("answer-nonsense"))
        return reached.report

    async def _look(self, reached: _Reached) -> None:
        outcome = await self.asking.outcome(reached.target)
        await self.beside.call(partial(self.keep, [outcome]))
        reached.report, reached.lost, reached.told = outcome.report, outcome.refusal, False

    async def _lose(self, reached: _Reached, refusal: Refusal) -> None:
        """Keep that a machine could not be reached, as collection keeps it."""
        reached.lost, reached.told = refusal, False
        await self.beside.call(partial(self.keep, [Outcome(reached.target, refusal=refusal)]))

    def _settle(self, row: Row, refusal: Refusal | None, detail: str) -> Row:
        """Write what a row came to."""
        if refusal is None:
            row = row._replace(state=DONE, code=OK, detail=detail, due=None)
        else:
            now = self.office.clock.now()
            until = row.until or now + policy.QUEUE_AGE
            waits = self.work.queue and actions.may_wait(refusal.code)
            due = actions.next_try(now, row.tries, until) if waits else None
            state = FAILED if due is None else QUEUED
            row = row._replace(
                state=state, code=refusal.code, detail=refusal.detail, due=due, until=until if waits else None
            )
        with self.office.store.writing() as tx:
            actionrecords.settle(tx, row)
            if refusal and refusal.code == "key-blocked" and row.key in self.work.keys:
                keyrecords.set_blocked(tx, self.work.keys[row.key][0].number)
        return row


def _product(report: Report, row: Row) -> Product:
    """The product that a row is about, as its machine reports it now.

    Raises:
        Refused: `product-not-installed`, `product-ambiguous`.
    """
    fitting = [
        one for one in report.products if row.pub in ("", one.publisher) and row.prd in ("", one.product)
    ]
    if not fitting:
        raise Refused(Refusal("product-not-installed", f"{row.prd} is not." if row.prd else ""))
    if len(fitting) > 1:
        raise Refused(
            Refusal("product-ambiguous", f"Installed: {', '.join(one.product for one in fitting)}.")
        )
    return fitting[0]
