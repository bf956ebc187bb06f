"""Machines: taking in what sources say of them, listing, showing, removing (V1, V3)."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from volact.protocol import ids
from volact.protocol.problems import Refusal, Refused
from volact.vamt import groups, logins, records, searching, selecting
from volact.vamt import store as sql
from volact.vamt.estate import Estate
from volact.vamt.people import GIVE_LOGIN, TRUST_HOST_KEYS, may

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

    from sqlalchemy import Connection

    from volact.vamt.acting import Office
    from volact.vamt.inventory import Machine, Sighting
    from volact.vamt.people import Person
    from volact.vamt.records import Installed
    from volact.vamt.searching import Order, Page
    from volact.vamt.selecting import Selection

BATCH = 500
"""Sightings or reports that are one transaction."""
_ID_BYTES = 16


class Listed(NamedTuple):
    """A page of machines and products, and the groups of each machine by its number."""

    page: Page
    groups: dict[int, list[str]]


class Shown(NamedTuple):
    """All that is known of one machine.

    Attributes:
        machine: the row.
        products: what is installed on it.
        groups: the groups that it is in.
        notes: what was noted about it.
        code, detail: how the last collection ended; empty if there was none.
        tried: when that was; None if there was none.
    """

    machine: Machine
    products: list[Installed]
    groups: list[str]
    notes: str
    code: str
    detail: str
    tried: int | None


class Taken(NamedTuple):
    """What became of what sources said.

    Attributes:
        sightings: how many there were.
        machines: how many machines they are.
        new: how many of these were not known before.
        dropped: how many said nothing that could be one machine: a name or address of several.
    """

    sightings: int
    machines: int
    new: int
    dropped: int


class Machines:
    """The use cases of machines."""

    def __init__(self, office: Office, random_bytes: Callable[[int], bytes]) -> None:
        """Work in `office`; new rows are named by `random_bytes`."""
        self._office = office
        self._random_bytes = random_bytes

    def new_id(self) -> str:
        """A new row's id."""
        return ids.b64u(self._random_bytes(_ID_BYTES))

    # --- taking in ------------------------------------------------------------------------------------------------

    def take_sightings(
        self,
        person: Person,
        sightings: Iterable[Sighting | None],
        *,
        source: str = "",
        tell: Callable[[int], None] | None = None,
    ) -> Taken:
        """Take in what a source says; each machine is found once, whichever way (V1).

        What came before the source failed or was stopped is kept; and what came before a None of it, which says that
        nothing more has come yet, before the source is asked on. `tell` is told how many were taken in so far.

        Raises:
            Refused: `role-insufficient`; also, unless the person is a key administrator, at the first batch that says a
                host key, or puts a machine into a group that has a login and in which it was not (T28, T29).
        """
        taking = _Taking()
        with self._office.acting(person, "discover", {"source": source}) as deed:
            for batch in _batches(sightings):
                self._take(person, batch, taking)
                deed.rows = taking.sightings
                if tell:
                    tell(taking.sightings)
            result = Taken(taking.sightings, len(taking.found), len(taking.new), taking.dropped)
            deed.detail = f"{result.machines} machines, {result.new} new"
        return result

    def add(self, person: Person, sighting: Sighting, notes: str = "") -> tuple[str, bool]:
        """Add a machine by hand, or tell more of a known one; its id, and whether it is new.

        Raises:
            Refused: `role-insufficient`, as for `take_sightings`, or `machine-unknown` if the name may be any of several.
        """
        said = {"name": sighting.name, "domain": sighting.domain, "addresses": sighting.addresses}
        taking = _Taking()
        with self._office.acting(person, "change-machines", {"add": said}) as deed:
            self._take(person, [sighting], taking)
            if taking.dropped:
                raise Refused(
                    Refusal("machine-unknown", "The name or address is several machines': say its domain.")
                )
            deed.rows = 1
            (mid,) = taking.found
            if notes:
                with self._office.store.writing() as tx:
                    records.set_notes(tx, records.numbers(tx, [mid]).values(), notes)
        return mid, bool(taking.new)

    def _take(self, person: Person, batch: Sequence[Sighting], taking: _Taking) -> None:
        """Take in a batch, in one transaction."""
        if any(one.host_keys for one in batch):
            self._office.check(person, TRUST_HOST_KEYS)
        now = self._office.clock.now()
        with self._office.store.writing() as tx:
            sql.lock(tx)
            loaded = records.load(tx, records.about(tx, batch))
            estate = Estate(loaded.values(), self.new_id, _guarded(tx, person, loaded))
            placed = [(estate.see(one, now), one.group) for one in batch]
            known = records.save(tx, estate, {one.mid: number for number, one in loaded.items()})
            members: dict[str, set[int]] = {}
            alike = groups.alike(tx) if any(group for _, group in placed) else {}
            for mid, said in placed:
                if mid and said:
                    group = alike.setdefault(said.lower(), said)
                    members.setdefault(group, set()).add(known[estate.gone.get(mid, mid)])
            have_login = logins.with_login(tx) if members else set()
            for group, numbers in members.items():
                found = groups.number(tx, group)
                added = groups.add(tx, groups.create(tx, group, "", now) if found is None else found, numbers)
                if added and group in have_login:
                    self._office.check(person, GIVE_LOGIN)
        there = {one.mid for one in loaded.values()}
        taking.add([mid for mid, _ in placed], there, estate.gone)

    # --- looking --------------------------------------------------------------------------------------------------

    def list(
        self,
        person: Person,
        where: str = "",
        order: Order | None = None,
        *,
        limit: int,
        offset: int = 0,
        group: str = "",
        view: str = "",
    ) -> Listed:
        """A page of machines and their products; a view's order holds if none is given.

        Raises:
            Refused: `filter-malformed`, `view-unknown`, `group-unknown`.
        """
        self._office.look(person)
        with self._office.store.reading() as tx:
            terms = selecting.terms_of(tx, where, group=group, view=view)
            saved = groups.view(tx, view) if view else None
            chosen = order or (searching.order_of(saved.sort) if saved else None) or searching.Order()
            page = searching.find(tx, terms, self._office.clock.now(), chosen, limit, offset)
            return Listed(page, groups.of_machines(tx, {row.number for row in page.rows}))

    def show(self, person: Person, name: str) -> Shown:
        """All that is known of the machine of that id, name or address.

        Raises:
            Refused: `machine-unknown`.
        """
        self._office.look(person)
        with self._office.store.reading() as tx:
            (number,) = selecting.named_machines(tx, [name])
            return _shown(tx, number)

    def trust(
        self,
        person: Person,
        name: str,
        host_keys: Sequence[str],
        check: Callable[[Shown], None] | None = None,
    ) -> str:
        """Pin a machine's host keys, in place of all that sources said; its id (T29).

        A fingerprint, as `inventory.fingerprint` has it, is a pin, too: the key that has it takes its place once shown.

        Raises:
            Refused: `machine-unknown`.
        """
        what = {"trust": name, "host_keys": list(host_keys)}
        with self._office.acting(person, TRUST_HOST_KEYS, what) as deed:
            with self._office.store.writing() as tx:
                sql.lock(tx)
                (number,) = selecting.named_machines(tx, [name])
                _check(tx, [number], check)
                one = records.load(tx, [number])[number]
                estate = Estate([one], self.new_id)
                estate.trust(one.mid, tuple(host_keys), self._office.clock.now())
                records.save(tx, estate, {one.mid: number})
            deed.rows = 1
        return one.mid

    def revoke_keys(self, person: Person, host_keys: Sequence[str], source: str = "") -> int:
        """Take host keys off every machine, whoever vouched for them, and never believe them there again; how many (T29).

        Nothing is logged if there are none.

        Raises:
            Refused: `role-insufficient`.
        """
        if not host_keys:
            return 0
        with self._office.acting(
            person, TRUST_HOST_KEYS, {"revoke": list(host_keys), "source": source}
        ) as deed:
            now = self._office.clock.now()
            with self._office.store.writing() as tx:
                sql.lock(tx)
                loaded = records.load(tx, records.with_host_keys(tx, host_keys))
                estate = Estate(loaded.values(), self.new_id)
                for one in host_keys:
                    estate.revoke(one, now)
                records.save(tx, estate, {one.mid: number for number, one in loaded.items()})
            deed.rows = len(estate.changed)
        return len(estate.changed)

    # --- changing -------------------------------------------------------------------------------------------------

    def remove(
        self, person: Person, selection: Selection, check: Callable[[Shown], None] | None = None
    ) -> int:
        """Remove machines with all that is known of them; how many. What was done to them stays in the log.

        Raises:
            Refused: `selection-empty`, `machine-unknown`, or what `check` says of a machine as it is.
        """
        with self._office.acting(person, "change-machines", {"remove": selection.said()}) as deed:
            with self._office.store.writing() as tx:
                sql.lock(tx)
                numbers = {one.number for one in selecting.select(tx, selection, self._office.clock.now())}
                _check(tx, numbers, check)
                deed.rows = records.remove(tx, numbers)
            return deed.rows

    def note(
        self, person: Person, selection: Selection, text: str, check: Callable[[Shown], None] | None = None
    ) -> int:
        """Note something about machines, in place of what was noted before; how many they are.

        Raises:
            Refused: `selection-empty`, `machine-unknown`, or what `check` says of a machine as it is.
        """
        with self._office.acting(person, "change-machines", {"note": selection.said()}) as deed:
            with self._office.store.writing() as tx:
                sql.lock(tx)
                numbers = {one.number for one in selecting.select(tx, selection, self._office.clock.now())}
                _check(tx, numbers, check)
                records.set_notes(tx, numbers, text)
                deed.rows = len(numbers)
            return deed.rows


def _guarded(tx: Connection, person: Person, loaded: Mapping[int, Machine]) -> dict[str, list[str]]:
    """The groups with a login that rows are in, by id: who may not give a machine a login unites no rows into one."""
    if may(person.role, GIVE_LOGIN):
        return {}
    guarded = logins.guarded(tx, loaded)
    return {one.mid: guarded[number] for number, one in loaded.items()}


def _shown(tx: Connection, number: int) -> Shown:
    code, detail, tried = records.outcome(tx, number)
    return Shown(
        records.load(tx, [number])[number],
        records.products(tx, number),
        groups.of_machines(tx, [number])[number],
        records.notes(tx, number),
        code,
        detail,
        tried,
    )


def _check(tx: Connection, numbers: Iterable[int], check: Callable[[Shown], None] | None) -> None:
    """Let whoever changes machines see them as they are, in the transaction that changes them."""
    if check:
        for number in numbers:
            check(_shown(tx, number))


class _Taking:
    """What was taken in so far: rows are united while more comes in."""

    def __init__(self) -> None:
        self.sightings = 0
        self.dropped = 0
        self.found: set[str] = set()
        self.new: set[str] = set()

    def add(self, placed: Sequence[str | None], there: set[str], gone: Mapping[str, str]) -> None:
        """Add a batch: the rows of its sightings, those that were there before, and those that became one."""
        mids = {mid for mid in placed if mid}
        self.sightings += len(placed)
        self.dropped += placed.count(None)
        self.found = {gone.get(mid, mid) for mid in self.found | mids}
        self.new = {mid for mid in self.new | (mids - there) if mid not in gone}


def _batches(sightings: Iterable[Sighting | None]) -> Iterator[list[Sighting]]:
    """What comes, in batches; if the source waits or fails, first what it said until then."""
    batch: list[Sighting] = []
    try:
        for one in sightings:
            if one is not None:
                batch.append(one)
            if batch and (one is None or len(batch) == BATCH):
                yield batch
                batch = []
    except GeneratorExit:
        raise
    except BaseException:  # Ctrl-C, too
        if batch:
            yield batch
        raise
    if batch:
        yield batch
