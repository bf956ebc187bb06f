"""Collecting: asking the machines of a selection for their status, and keeping what each says as it comes (V2).

- A report finds its row by who the machine is, not by where it was reached (`estate`).
- What came out is kept at once, in batches: what gathers while one batch is written is the next.
- A collection that was stopped, or died, goes on with the machines that it has not tried; asking changes nothing there.
- A machine that fails has its reason and holds up nobody.
"""

from __future__ import annotations

import asyncio
from contextlib import aclosing
from typing import TYPE_CHECKING, Any, NamedTuple

from volact.protocol import trust
from volact.protocol.problems import Refusal, Refused
from volact.vamt import groups, logins, records, selecting, undertakings
from volact.vamt import store as sql
from volact.vamt.acting import OK
from volact.vamt.collecting.targets import Target, transport_of
from volact.vamt.estate import Estate
from volact.vamt.logins import unlock_for
from volact.vamt.machines import BATCH
from volact.vamt.people import TRUST_HOST_KEYS
from volact.vamt.proving import proof
from volact.vamt.publishers import roots_of
from volact.vamt.records import Installed
from volact.vamt.undertakings import Undertaking

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Collection, Iterable, Mapping, Sequence

    from sqlalchemy import Connection

    from volact.protocol.trust import Roots
    from volact.vamt.acting import Office
    from volact.vamt.collecting.targets import Limits, Login, Outcome, Progress
    from volact.vamt.estate import Placed
    from volact.vamt.inventory import Machine, Product
    from volact.vamt.people import Person
    from volact.vamt.selecting import Selection

WHAT = undertakings.COLLECT


class Failed(NamedTuple):
    """A machine that gave no report, by the name that it is known by, and why."""

    mid: str
    name: str
    refusal: Refusal


class Collected(NamedTuple):
    """What a collection came to.

    Attributes:
        asked: how many machines were asked.
        done: how many gave a report.
        failed: the others, those in whose place another machine answered, and those of which two say to be one.
    """

    asked: int
    done: int
    failed: list[Failed]


class Collecting:
    """The use case of collecting."""

    def __init__(self, office: Office, new_id: Callable[[], str]) -> None:
        """Work in `office`; new rows are named by `new_id`."""
        self._office = office
        self._new_id = new_id

    def targets(self, person: Person, selection: Selection, logins: Collection[str]) -> list[Target]:
        """The machines of a selection as they are asked, each by the login of one of its groups if there is one.

        Raises:
            Refused: `selection-empty`, `machine-unknown`, or why a sealed login that they need cannot be opened.
        """
        self._office.look(person)
        with self._office.store.reading() as tx:
            found = self._targets(tx, selection, logins)
        unlock_for(logins, {one.login for one in found})
        return found

    def _targets(
        self, tx: Connection, selection: Selection, logins: Collection[str], since: int | None = None
    ) -> list[Target]:
        """The machines of a selection; with `since` only those that were not tried from then on."""
        chosen = {one.number for one in selecting.select(tx, selection, self._office.clock.now())}
        if since is not None:
            chosen -= records.tried(tx, chosen, since)
        return _reached(tx, chosen, logins)

    def reach(
        self, person: Person, mids: Iterable[str], logins: Collection[str]
    ) -> tuple[dict[str, Target], Callable[[Sequence[Outcome]], None]]:
        """How machines are reached, by id, those that there are; and what keeps what a person's asking them came to."""
        with self._office.store.reading() as tx:
            found = _reached(tx, set(records.numbers(tx, mids).values()), logins)
            keeping = _Keeping(self._office, person, self._new_id, _Proofs(tx))
        unlock_for(logins, {one.login for one in found})
        return {one.mid: one for one in found}, keeping.keep

    async def collect(
        self,
        person: Person,
        selection: Selection | None,
        logins: Mapping[str, Login],
        limits: Limits,
        tell: Callable[[Progress], None],
    ) -> Collected:
        """Ask the machines of a selection; None goes on with the collection that was stopped last.

        Raises:
            Refused: `selection-empty`, `machine-unknown`, or `not-found` if nothing was stopped; `role-insufficient` also
                if `limits` let new host keys be believed and the person is no key administrator; or why a sealed login
                that the machines need cannot be opened.
            asyncio.CancelledError: when it is stopped; what came out until then is kept.
        """
        what: dict[str, Any] = {"resume": True} if selection is None else {"selection": selection.said()}
        if limits.accept_new:
            what["accept_new"] = True
        with self._office.acting(person, WHAT, what) as deed:
            if limits.accept_new:
                self._office.check(person, TRUST_HOST_KEYS)
            with self._office.store.writing() as tx:
                task, since = self._begin(tx, person, selection)
                targets = self._targets(tx, task.selection, logins, since)
                proofs = _Proofs(tx)
            from volact.vamt.collecting import collector  # noqa: PLC0415 - asyncssh: half a second for this alone

            keeping = _Keeping(self._office, person, self._new_id, proofs)
            state = undertakings.STOPPED
            try:
                unlock_for(logins, {one.login for one in targets})
                async with aclosing(
                    collector.collect(targets, logins, limits, tell, self._office.clock.now)
                ) as outcomes:
                    await _batched(outcomes, keeping.keep)
                state = undertakings.DONE
            finally:
                deed.rows = keeping.count
                deed.detail = f"{keeping.done} of {len(targets)} machines gave a report"
                with self._office.store.writing() as tx:
                    undertakings.end(tx, task.aid, state, self._office.clock.now())
        return Collected(len(targets), keeping.done, keeping.still_failed())

    def _begin(
        self, tx: Connection, person: Person, selection: Selection | None
    ) -> tuple[Undertaking, int | None]:
        """The collection that begins, or the one that goes on and since when machines count as tried."""
        if selection is not None:
            now = self._office.clock.now()
            task = Undertaking(self._new_id(), WHAT, selection, undertakings.RUNNING, person.name, now)
            undertakings.begin(tx, task)
            return task, None
        last = undertakings.newest(tx, WHAT)
        if last is None or last.state == undertakings.DONE:
            raise Refused(Refusal("selection-empty", "No collection was stopped that could go on."))
        return last, last.at


def _reached(tx: Connection, machines: Collection[int], logins: Collection[str]) -> list[Target]:
    """Machines as they are asked, each by the login of one of its groups if there is one."""
    in_groups = groups.of_machines(tx, machines)
    return [
        _target(one, next((name for name in in_groups[number] if name in logins), ""))
        for part in sql.in_parts(sorted(machines))  # of all at once, all that each ever said would be held
        for number, one in sorted(records.load(tx, part).items())
    ]


def _target(one: Machine, login: str) -> Target:
    """A machine as it is asked: by its name first, for an address may be another's by now."""
    hosts = tuple(filter(None, (one.full_name, *one.addresses)))
    transport = transport_of(one.transport, one.platform)
    return Target(one.mid, hosts, one.port, transport, one.host_keys, login, one.revoked)


async def _batched(outcomes: AsyncIterator[Outcome], keep: Callable[[Sequence[Outcome]], None]) -> None:
    """Keep outcomes in another thread: what comes while one batch is written is the next."""
    waiting: list[Outcome] = []
    came, over = asyncio.Event(), asyncio.Event()

    async def write() -> None:
        while waiting or not over.is_set():
            await came.wait()
            came.clear()
            while waiting:
                batch = waiting[:BATCH]
                del waiting[:BATCH]
                await asyncio.to_thread(keep, batch)

    writing = asyncio.create_task(write())
    try:
        async for one in outcomes:
            waiting.append(one)
            came.set()
            if writing.done():  # it could not write
                break
    finally:
        over.set()
        came.set()
        await asyncio.shield(writing)


def _claimed_by(placed: Placed, estate: Estate) -> Refusal:
    """What is said of a row that another machine says to be."""
    other = estate[placed.mid]
    name = other.full_name or " ".join(other.addresses) or other.mid
    return Refusal(
        "machine-elsewhere", f"What was reached as {name} says that it is this one, by another host key."
    )


class _Keeping:
    """Keeps what came out, batch by batch.

    Attributes:
        count: outcomes that were kept.
        done: those with a report.
    """

    def __init__(self, office: Office, person: Person, new_id: Callable[[], str], proofs: _Proofs) -> None:
        self._office, self._person, self._new_id, self._proofs = office, person, new_id, proofs
        self._gone: dict[str, str] = {}
        self._told: set[str] = set()
        self._failed: list[Failed] = []
        self.count = self.done = 0

    def still_failed(self) -> list[Failed]:
        """Machines that gave no report, nor were found in another's place."""
        return [one for one in self._failed if self._gone.get(one.mid, one.mid) not in self._told]

    def keep(self, outcomes: Sequence[Outcome]) -> None:
        """Keep a batch, in one transaction."""
        now = self._office.clock.now()
        with self._office.store.writing() as tx:
            sql.lock(tx)
            known, estate = self._load(tx, outcomes)
            installed: dict[str, list[Installed]] = {}
            codes: list[tuple[str, Refusal | None]] = []
            flags: list[tuple[str, Refusal | None]] = []
            for one in outcomes:
                mid = self._row(one.target.mid, estate)
                if mid not in estate:  # somebody removed it meanwhile
                    continue
                if one.report is None:
                    codes.append((mid, one.refusal or Refusal("answer-nonsense")))
                    continue
                placed = estate.report(mid, one.report, now, one.host_key)
                if placed.kept:
                    installed[placed.mid] = [
                        Installed(each, self._proofs.of(each, now)) for each in one.report.products
                    ]
                codes += self._said(mid, placed, estate)
                flags += [(each, _claimed_by(placed, estate)) for each in placed.claimed]
            flags = [(mid, refusal) for mid, refusal in flags if mid not in self._told]
            self._write(tx, estate, known, installed, codes, now)
            self._log_believed(tx, estate)
            records.flag(
                tx,
                [
                    (known[mid], one.code, one.detail)
                    for mid, one in flags
                    if one and mid in known and mid in estate
                ],
            )
        self._count(outcomes, estate, codes + flags)

    def _said(self, mid: str, placed: Placed, estate: Estate) -> list[tuple[str, Refusal | None]]:
        """What is to be said of the row that was reached and of the one whose machine answered."""
        if placed.claimed:
            whose = ", ".join(estate[each].full_name or each for each in placed.claimed)
            detail = f"It says that it is {whose}, and shows another host key than that one's."
            return [(placed.mid, Refusal("machine-elsewhere", detail))]
        self._told.add(placed.mid)
        codes: list[tuple[str, Refusal | None]] = [(placed.mid, None)]
        if placed.elsewhere and mid not in self._told:
            there = estate[placed.mid].full_name or placed.mid
            codes.append((mid, Refusal("machine-elsewhere", f"It is {there}.")))
        return codes

    def _load(self, tx: Connection, outcomes: Sequence[Outcome]) -> tuple[dict[str, int], Estate]:
        asked = records.numbers(tx, [self._gone.get(one.target.mid, one.target.mid) for one in outcomes])
        reports = [one.report for one in outcomes if one.report]
        loaded = records.load(tx, records.about(tx, [], reports) | set(asked.values()))
        known = {one.mid: number for number, one in loaded.items()}
        guarded = logins.guarded(tx, loaded)
        return known, Estate(
            loaded.values(), self._new_id, {one.mid: guarded[number] for number, one in loaded.items()}
        )

    def _row(self, mid: str, estate: Estate) -> str:
        """The row that a target's row has become by now."""
        mid = self._gone.get(mid, mid)
        return estate.gone.get(mid, mid)

    def _write(
        self,
        tx: Connection,
        estate: Estate,
        known: Mapping[str, int],
        installed: Mapping[str, list[Installed]],
        codes: Sequence[tuple[str, Refusal | None]],
        now: int,
    ) -> None:
        numbers = records.save(tx, estate, known)
        records.put_products(
            tx,
            {numbers[mid]: (estate[mid], found) for mid, found in installed.items() if mid in estate},
            now,
        )
        records.put_outcomes(
            tx,
            [
                (numbers[mid], refusal.code if refusal else OK, refusal.detail if refusal else "")
                for mid, refusal in codes
                if mid in numbers
            ],
            now,
        )

    def _log_believed(self, tx: Connection, estate: Estate) -> None:
        """Write into the log each host key that nobody had vouched for and that was pinned (T29)."""
        for mid, host_key in sorted(estate.believed.items()):
            row = estate[estate.gone.get(mid, mid)]
            what = {
                "believed": row.mid,
                "machine": row.full_name or list(row.addresses),
                "host_key": host_key,
            }
            self._office.note(tx, self._person, TRUST_HOST_KEYS, what)

    def _count(
        self, outcomes: Sequence[Outcome], estate: Estate, codes: Sequence[tuple[str, Refusal | None]]
    ) -> None:
        self.count += len(outcomes)
        self.done += sum(one.report is not None for one in outcomes)
        self._failed += [
            Failed(mid, (estate[mid].full_name or " ".join(estate[mid].addresses) or mid), refusal)
            for mid, refusal in codes
            if refusal and mid in estate
        ]
        for earlier, later in self._gone.items():
            self._gone[earlier] = estate.gone.get(later, later)
        self._gone.update(estate.gone)


class _Proofs:
    """What proves states: the publishers' roots and products as they were when the collection began."""

    def __init__(self, tx: Connection) -> None:
        self._roots: dict[str, Roots] = {one.pub: roots_of(one) for one in sql.publishers(tx)}
        self._documents = {
            (one.pub, one.prd): trust.verify(one.bundle, "product", self._roots[one.pub]).document.claims
            for one in sql.products(tx)
        }

    def of(self, product: Product, now: int) -> str:
        """`proving.PROVED` or `proving.REPORTED`."""
        document = self._documents.get((product.publisher, product.product))
        return proof(product, self._roots.get(product.publisher), document, now)
