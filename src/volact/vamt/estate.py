"""Which row a sighting or a report belongs to: one machine found twice is one row (V1). Pure.

An `Estate` holds the rows that what comes in could be about, and says which of them changed. Sightings:

- A full name, ``name.domain``, is one machine. A name without a domain is a machine of its own only as long as no
  machine of that name with a domain is known; then it completes the one, or, of several, says nothing new.
- An address is a machine of its own only as long as no machine with a name has it.
- So the rows do not depend on the order in which the sources were read.

Reports, which a machine gives of itself when it was reached by a row's name or address (the *target*):

- The row is found by CMID, else by machine identity, else by full name, else it is the target's. Two of the three that
  both say something else outvote the one that agrees: an image that was copied shares the CMID, a virtual machine that
  was copied shares the firmware's identity, a new machine may get an old one's name. Each is a row of its own.
- A row that never told who it is and leads to a known machine is that machine: the two become one, and its name an
  alias. A row that has told who it is loses its name to the machine that says it now, and keeps its identity: renamed,
  moved and swapped machines keep their rows, and each finds its own again at its next report.
- MAC addresses and shared IP addresses decide nothing.
- What a machine says of itself proves nothing: it may say another's name, address, CMID or identity (T29). Another row
  than the one that was reached is its own only if that row has the host key pinned that it showed just now; or if that
  row is a mere name from a list, without host key or address, never collected, and in no group with a login in which
  the reached row is not. Else both rows stay as they are, and the report says whose they are. A person who pins the
  machine's host key at the other row says that they are one.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from volact.protocol.jws import MAX_INTEGER
from volact.vamt.inventory import (
    HAND,
    REVOKED,
    Machine,
    Report,
    Seen,
    fingerprint,
    identities,
    is_pinned,
    known_name,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Hashable, Iterable, Iterator, Mapping

    from volact.vamt.inventory import Sighting

ANSWER = "answer"
"""The source of where a machine was reached that turned out to be a new one."""
BY_ADDRESS = " by address"
"""What is added to a source's name where it said an address alone."""
_OUTVOTED = 2


class Placed(NamedTuple):
    """Where a report belongs.

    Attributes:
        mid: the row.
        elsewhere: whether the target's row, which is another machine's, was not reached.
        kept: whether it was taken in; not if all that it says is other rows' whose host key it did not show.
        claimed: rows whose name, CMID or identity it says without having shown their host key.
    """

    mid: str
    elsewhere: bool
    kept: bool = True
    claimed: tuple[str, ...] = ()


class Estate:
    """Rows, by everything that they are found by.

    Attributes:
        changed: rows that were made or changed.
        gone: rows that became one with another: their id -> that one's.
        by_report: those of them that did so because of what a machine said.
        believed: rows at which a host key was pinned that nobody had vouched for -> that key (`Limits.accept_new`).
    """

    def __init__(
        self,
        machines: Iterable[Machine],
        new_id: Callable[[], str],
        guarded: Mapping[str, Collection[str]] = {},
    ) -> None:
        """Hold `machines`; a new row's id is `new_id()`.

        `guarded` names each row's groups that have a login: by becoming one with another no row, and no host key, comes
        into one.
        """
        self._new_id = new_id
        self._guarded = guarded
        self.by_report: set[str] = set()
        self.believed: dict[str, str] = {}
        self._rows: dict[str, Machine] = {}
        self._index: dict[Hashable, set[str]] = {}
        self.changed: set[str] = set()
        self.gone: dict[str, str] = {}
        for one in machines:
            self._rows[one.mid] = one
            self._enter(one)

    def __getitem__(self, mid: str) -> Machine:
        """A row by its id."""
        return self._rows[mid]

    def __contains__(self, mid: object) -> bool:
        """Whether there is a row with this id."""
        return mid in self._rows

    def __iter__(self) -> Iterator[Machine]:
        """All rows."""
        return iter(self._rows.values())

    # --- sightings -----------------------------------------------------------------------------------------------

    def see(self, sighting: Sighting, at: int) -> str | None:
        """Take in what a source says at time `at`; the row's id, or None if it says nothing that could be a machine."""
        row = self._named(sighting) if sighting.name else self._addressed(sighting)
        if row is None:
            return None
        said = Seen.of(sighting, at)
        if row.name and not sighting.name:
            said = said._replace(addresses=tuple(one for one in said.addresses if one in row.addresses))
        source = sighting.source + ("" if sighting.name else BY_ADDRESS)
        before = row.seen.get(source)
        if before and source == HAND:
            said = said.after(before)
        seen = {**row.seen, source: before.joined(said) if before else said}
        self._put(row._replace(seen=seen, first=min(row.first, at), last=max(row.last, at)))
        if sighting.name:
            for other in self._with_addresses(sighting.addresses):
                if not other.name and other.collected is None and self._is_told_alike(row, other):
                    self._absorb(other.mid, row.mid)
        return row.mid

    def _named(self, sighting: Sighting) -> Machine | None:
        """The row of a sighting with a name; None if it may be any of several."""
        name, domain = sighting.name, sighting.domain
        rows = self._find("name", name)
        exact = [row for row in rows if row.domain == domain]
        if domain:
            found = exact or self._by_alias(sighting) or [row for row in rows if not row.domain]
        else:
            near = [row for row in rows if {*row.addresses} & {*sighting.addresses}]
            found = exact or (near if len(near) == 1 else rows)
            if len(found) > 1:
                return None
        if not found:
            nameless = [row for row in self._with_addresses(sighting.addresses) if not row.name]
            found = [row for row in nameless if row.collected is None] or [self._new()]
        row = found[0]
        if row.domain or (row.name and row.name != name):
            return row
        self._release(name, domain)
        return row._replace(name=name, domain=domain)

    def _by_alias(self, sighting: Sighting) -> list[Machine]:
        """The row that a name led to before, unless its addresses say that it leads elsewhere now."""
        found = self._find("alias", (sighting.name, sighting.domain))
        return [row for row in found if not sighting.addresses or {*row.addresses} & {*sighting.addresses}]

    def _addressed(self, sighting: Sighting) -> Machine | None:
        """The row of a sighting by address alone; None if several machines have it."""
        if not sighting.addresses:
            return None
        rows = self._with_addresses(sighting.addresses)
        named = [row for row in rows if row.name]
        if len(named) > 1:
            return None
        row = (named or rows or [self._new()])[0]
        for other in rows:
            if other.mid != row.mid and other.collected is None and self._is_told_alike(row, other):
                row = self._absorb(other.mid, row.mid)
        return row

    def _new(self) -> Machine:
        return Machine(self._new_id(), first=MAX_INTEGER)

    # --- reports -------------------------------------------------------------------------------------------------

    def report(self, target: str, report: Report, at: int, host_key: str = "") -> Placed:
        """Take in what the machine that was reached as the row `target` says of itself at time `at`.

        `host_key` is the one that it showed, as known_hosts writes it; empty where it showed none (WinRM, local).
        """
        reached = self._settled(self._rows[target], host_key)
        name, domain = known_name(report)
        if name == reached.name and not domain:
            domain = reached.domain
        said = _Said(identities(report), report.identity, name, domain, host_key)
        fitting = [one for one in self._candidates(said, reached) if said.fits(one, reached)]
        own = [one for one in fitting if self._is_own(one, said, reached)]
        claimed = {one.mid for one in fitting if one not in own and one.mid != target}
        if claimed and not own:
            return Placed(target, elsewhere=False, kept=False, claimed=tuple(sorted(claimed)))
        row = own[0] if own else self._found_there(reached, host_key, at, named=bool(name))
        is_there = said.may_be(reached) and self._is_own(reached, said, reached)
        is_other = row.mid != target and not is_there
        if row.mid != target and not is_other:
            row = self._absorb(target, row.mid, reached=True)
        others = self._barred(row, said, reached)
        if not others:
            row = self._rename(row, said, reached)
        if host_key and not is_other and not row.host_keys and host_key not in row.revoked:
            self.pin(row.mid, host_key, at)
        self._put_report(self._rows[row.mid], said, report, at)
        return Placed(row.mid, is_other, claimed=tuple(sorted((claimed | others) - self.gone.keys())))

    def _found_there(self, reached: Machine, host_key: str, at: int, *, named: bool) -> Machine:
        """A new row for a machine that answers where another one was."""
        where = Seen(at, named, reached.addresses, reached.port, reached.transport)
        where = where._replace(host_keys=(host_key,) if host_key else ())
        row = Machine(self._new_id(), seen={ANSWER: where}, first=at)
        self._put(row)
        if host_key and not reached.shows(host_key):
            self.believed[row.mid] = host_key
        return row

    def _put_report(self, row: Machine, said: _Said, report: Report, at: int) -> None:
        publishers = {pub for pub, _ in said.cmids}
        kept = {(pub, cmid) for pub, cmid in row.cmids if pub not in publishers}
        self._put(
            row._replace(
                cmids=said.cmids | kept,
                identity=report.identity or row.identity,
                report=report._replace(products=()),
                collected=at,
                last=max(row.last, at),
            )
        )

    def _is_own(self, row: Machine, said: _Said, reached: Machine) -> bool:
        """Whether a row that a report fits may be the machine's by the host key that it showed (T29)."""
        if row.mid == reached.mid:
            return not (said.host_key and row.host_keys) or row.shows(said.host_key)
        return row.shows(said.host_key) or (said.may_be(reached) and self._is_mere_name(row, reached))

    def _is_mere_name(self, row: Machine, reached: Machine) -> bool:
        """Whether a row is nothing but a name, from which its machine gains nothing that it has not got yet."""
        return not (row.host_keys or row.addresses or row.collected is not None or self._gains(reached, row))

    def _gains(self, row: Machine, other: Machine) -> bool:
        """Whether a row would come into groups that have a login by becoming one with another."""
        return not {*self._guarded.get(other.mid, ())} <= {*self._guarded.get(row.mid, ())}

    def _is_told_alike(self, row: Machine, other: Machine) -> bool:
        """Whether two rows are in the same groups that have a login: else either's host key would win the other's."""
        return not (self._gains(row, other) or self._gains(other, row))

    def trust(self, mid: str, host_keys: tuple[str, ...], at: int) -> None:
        """Keep host keys, or fingerprints of them, that a person vouches for, in place of all others."""
        row = self._rows[mid]
        before = row.seen.get(HAND, Seen(at, named=bool(row.name)))
        seen = {**row.seen, HAND: before._replace(host_keys=host_keys)}
        if row.revoked:
            rest = tuple(one for one in row.revoked if not is_pinned(one, host_keys))
            seen[REVOKED] = row.seen[REVOKED]._replace(host_keys=rest)
        self._put(row._replace(seen=seen))

    def revoke(self, host_key: str, at: int) -> None:
        """Take a host key off every row, whoever said it, and never believe it there again."""
        gone = {host_key, fingerprint(host_key)}
        for row in list(self._rows.values()):
            said = [one for source, one in row.seen.items() if source != REVOKED]
            if not any(gone & {*one.host_keys} for one in said):
                continue
            seen = {
                source: one._replace(host_keys=tuple(key for key in one.host_keys if key not in gone))
                for source, one in row.seen.items()
            }
            self._put(
                row._replace(
                    seen={**seen, REVOKED: Seen(at, named=False, host_keys=_all_revoked(row, [host_key]))}
                )
            )

    def pin(self, mid: str, host_key: str, at: int) -> None:
        """Keep the host key that a machine showed and that was believed."""
        row = self._rows[mid]
        before = row.seen.get(ANSWER, Seen(at, named=False))
        self._put(row._replace(seen={**row.seen, ANSWER: before._replace(at=at, host_keys=(host_key,))}))
        self.believed[mid] = host_key

    def _settled(self, row: Machine, host_key: str) -> Machine:
        """The row with the host key that was shown in place of the fingerprint that a person compared."""
        pinned = fingerprint(host_key)
        if pinned not in row.host_keys:
            return row
        keys = tuple(host_key if one == pinned else one for one in row.seen[HAND].host_keys)
        row = row._replace(seen={**row.seen, HAND: row.seen[HAND]._replace(host_keys=keys)})
        self._put(row)
        return row

    def _candidates(self, said: _Said, reached: Machine) -> Iterator[Machine]:
        """The rows that may be the machine's, the likeliest first."""

        def order(row: Machine) -> tuple[bool, int, str]:
            return row.mid != reached.mid, -(row.collected or 0), row.mid

        by_cmid = {row.mid: row for cmid in said.cmids for row in self._find("cmid", cmid)}
        yield from sorted(by_cmid.values(), key=order)
        if said.identity:
            yield from sorted(self._find("identity", said.identity), key=order)
        if said.domain:
            yield from sorted(
                (row for row in self._find("name", said.name) if row.domain == said.domain), key=order
            )
        yield reached

    def _barred(self, row: Machine, said: _Said, reached: Machine) -> set[str]:
        """The rows whose full name, or name in a list, a machine says without having shown their host key."""
        if not said.name or (row.name and not said.domain):
            return set()
        return {
            other.mid
            for other in self._find("name", said.name)
            if other.mid != row.mid
            and (other.domain == said.domain if other.domain else other.collected is None)
            and not self._yields(other, said, reached)
        }

    def _yields(self, other: Machine, said: _Said, reached: Machine) -> bool:
        """Whether a row gives up its name to who says it."""
        if other.mid == reached.mid:
            return self._is_own(other, said, reached)
        return other.shows(said.host_key) or self._is_mere_name(other, reached)

    def _rename(self, row: Machine, said: _Said, reached: Machine) -> Machine:
        """The row under the name that its machine says; a name without a domain is taken only where there is none."""
        name, domain = said.name, said.domain
        if not name or (row.name and not domain):
            return row
        if (row.name, row.domain) == (name, domain):
            return self._rows[row.mid]
        before = (row.name, row.domain)
        for other in self._find("name", name):
            if other.mid == row.mid or (other.domain and other.domain != domain):
                continue
            is_free = _is_anonymous(other) and (domain or other.collected is None)
            if is_free and self._yields(other, said, reached):
                row = self._absorb(other.mid, row.mid, reached=True)
            elif other.domain:
                self._put(other._replace(name="", domain="", former=other.full_name))
        self._release(name, domain)
        row = self._rows[row.mid]
        aliases = row.aliases | ({before} if all(before) and not self._is_taken(before, row.mid) else set())
        row = row._replace(name=name, domain=domain, former="", aliases=aliases - {(name, domain)})
        self._put(row)
        return row

    def _release(self, name: str, domain: str) -> None:
        """Let the name be an alias of nobody: it is a row's own now."""
        for other in self._find("alias", (name, domain)):
            self._put(other._replace(aliases=other.aliases - {(name, domain)}))

    def _is_taken(self, name: tuple[str, str], mid: str) -> bool:
        others = [row for row in self._find("name", name[0]) if row.domain == name[1]]
        return any(row.mid != mid for row in others + self._find("alias", name))

    # --- rows ----------------------------------------------------------------------------------------------------

    def _absorb(self, gone: str, into: str, *, reached: bool = False) -> Machine:
        """Make the row `gone`, which never told who it is, one with the row `into`, which was `reached` by it.

        What was `reached` gives no host key to a row that has some, and nothing entered by hand to one that has that.
        """
        old, row = self._rows[gone], self._rows[into]
        self._leave(old)
        del self._rows[gone]
        self.changed.discard(gone)
        self.gone[gone] = into
        if reached:
            self.by_report.add(gone)
        for earlier, later in self.gone.items():
            if later == gone:
                self.gone[earlier] = into
        seen = dict(row.seen)
        for source, one in old.seen.items():
            if source == REVOKED:
                seen[source] = one._replace(host_keys=_all_revoked(row, one.host_keys))
            else:
                seen[source] = _joined(row, source, one) if reached else _narrowed(old, row, source, one)
        name = (old.name, old.domain)
        is_new = all(name) and name != (row.name, row.domain) and not self._is_taken(name, into)
        row = row._replace(
            seen=seen,
            aliases=row.aliases | ({name} if is_new else set()) | old.aliases,
            first=min(row.first, old.first),
            last=max(row.last, old.last),
        )
        self._put(row)
        return row

    def _with_addresses(self, addresses: Iterable[str]) -> list[Machine]:
        found = {row.mid: row for one in addresses for row in self._find("address", one)}
        return sorted(found.values(), key=lambda row: (row.first, row.mid))

    def _find(self, kind: str, value: Hashable) -> list[Machine]:
        return [self._rows[mid] for mid in sorted(self._index.get((kind, value), ()))]

    def _put(self, row: Machine) -> None:
        before = self._rows.get(row.mid)
        if before:
            self._leave(before)
        self._rows[row.mid] = row
        self._enter(row)
        self.changed.add(row.mid)

    def _enter(self, row: Machine) -> None:
        for key in _found_by(row):
            self._index.setdefault(key, set()).add(row.mid)

    def _leave(self, row: Machine) -> None:
        for key in _found_by(row):
            self._index[key].discard(row.mid)


def _narrowed(old: Machine, row: Machine, source: str, one: Seen) -> Seen:
    """What a source said of two rows; of an address alone only what is the named one's, too."""
    if row.name and not old.name:
        one = one._replace(addresses=tuple(each for each in one.addresses if each in row.addresses))
    return row.seen[source].joined(one) if source in row.seen else one


def _all_revoked(row: Machine, host_keys: Iterable[str]) -> tuple[str, ...]:
    """The row's revoked host keys, and these."""
    return tuple(sorted({*row.revoked, *host_keys}))


def _joined(row: Machine, source: str, one: Seen) -> Seen:
    """What a source said of a row and of the one by which it was reached: its host keys stay its own."""
    before = row.seen.get(source)
    if before and source == HAND:
        return before
    both = before.joined(one) if before else one
    return both._replace(host_keys=before.host_keys if before else ()) if row.host_keys else both


def _is_anonymous(row: Machine) -> bool:
    """Whether a row never told who it is: it was never collected, or showed no identity then."""
    return not row.cmids and not row.identity


def _found_by(row: Machine) -> Iterator[Hashable]:
    if row.name:
        yield "name", row.name
    if row.identity:
        yield "identity", row.identity
    yield from (("alias", name) for name in row.aliases)
    yield from (("address", one) for one in row.addresses)
    yield from (("cmid", one) for one in row.cmids)


class _Said(NamedTuple):
    """What of a report tells machines apart."""

    cmids: frozenset[tuple[str, str]]
    identity: str
    name: str
    domain: str
    host_key: str

    def fits(self, row: Machine, reached: Machine) -> bool:
        """Whether the row may be this machine's: of what both know, what differs does not outvote what agrees."""
        votes = (self._cmid(row), self._identity(row), self._name(row, reached))
        against = votes.count(False)
        return against == 0 or (votes.count(True) > 0 and against < _OUTVOTED)

    def may_be(self, reached: Machine) -> bool:
        """Whether the row by which this machine was reached is no other machine's."""
        return _is_anonymous(reached) and self._name(reached, reached) is not False

    def _cmid(self, row: Machine) -> bool | None:
        publishers = {pub for pub, _ in self.cmids} & {pub for pub, _ in row.cmids}
        if not publishers:
            return None
        return bool(self.cmids & row.cmids)

    def _identity(self, row: Machine) -> bool | None:
        return self.identity == row.identity if self.identity and row.identity else None

    def _name(self, row: Machine, reached: Machine) -> bool | None:
        if not self.name:  # it has none of its own: it was reached by the row's
            return True if row.mid == reached.mid and row.name else None
        if self.name == row.name and self.domain in ("", row.domain):
            return True
        is_told = row.collected is not None and row.domain and self.domain
        return False if is_told else None
