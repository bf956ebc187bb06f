"""One batch's view of the store: read at once, changed in memory in the order of the asks, written at once.

What an ask of the batch changes, the next one sees: two requests of one machine, the same request twice, the last
activation of a key. Nothing here decides.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from volact.authority import activated, activation, store
from volact.authority.activation import RETURNED, Former, Holding
from volact.protocol import jws, machine
from volact.protocol.policy import REBUILD_WINDOW, RETURN_PAUSE

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from sqlalchemy import Connection

    from volact.authority.activated import NewReturn
    from volact.authority.activation import Grant, Return, Row
    from volact.authority.asks import Asked
    from volact.authority.orders import Order
    from volact.authority.store import LockedKey, StoredAnswer


class Book:
    """The records that a batch of asks is about, in one writing transaction."""

    def __init__(self, tx: Connection, batch: Sequence[Asked], now: int) -> None:
        """Lock the keys of the batch and read all that its decisions rest on."""
        self._tx = tx
        self._now = now
        self.keys: dict[int, LockedKey] = store.lock_keys(tx, (asked.key.id for asked in batch))
        self._answers: dict[tuple[str, str], StoredAnswer] = {}
        self._rows: dict[str, tuple[int, Row]] = {}
        self._own: dict[tuple[int, str], str] = {}
        self._by_token: dict[tuple[int, str], set[str]] = {}
        self._counted: dict[int, int] = {}
        self._due = activated.due(tx, self.keys, now)
        for key, seats in self._due.items():
            self._take(key, -seats)
        machines = [asked for asked in batch if asked.op in ("activate", "return")]
        self._load_own(machines)
        self._has_returned: set[tuple[int, str]] = set()
        self._load_answers(batch)
        self._load_similar(machines)
        bound = {key for key, locked in self.keys.items() if locked.order.machines_bound}
        self._listed = store.listed_machines(
            tx, bound, {asked.document["iss"] for asked in batch if asked.key.id in bound}
        )
        self._new: list[str] = []
        self._touched: set[str] = set()
        self._changes: list[tuple[str, int, str, str]] = []
        self._new_answers: list[tuple[int, StoredAnswer]] = []
        self._returns: list[activated.NewReturn] = []

    def _load_own(self, asks: Sequence[Asked]) -> None:
        if asks:
            keys, cmids = {asked.key.id for asked in asks}, {asked.document["iss"] for asked in asks}
            own = store.activations_of(self._tx, keys, cmids, self._now - REBUILD_WINDOW)
            for (key, _), row in own.items():
                self._enter(key, row)

    def _load_answers(self, batch: Sequence[Asked]) -> None:
        """What was answered before: a request belongs to its asker, so it is looked for under his activations.

        A machine may have had more than the one it has: rebuilt hardware took it over.
        """
        acts: dict[tuple[int, str], list[str]] = {place: [act] for place, act in self._own.items()}
        askers = {asked.document["iss"] for asked in batch}
        others = []
        for key, asker, act, returned in store.former_activations(self._tx, askers):
            others.append((key, asker, act))
            if returned:
                self._has_returned.add((key, asker))
        if any(asked.op in ("host", "extend") for asked in batch):
            others += store.hosts(self._tx, askers)
        for key, asker, act in others:
            acts.setdefault((key, asker), []).append(act)
        places = [(asked.key.id, asked.document["iss"], asked.document.jti) for asked in batch]
        wanted = {act for key, asker, _ in places for act in acts.get((key, asker), ())}
        if wanted:
            found = store.answers(self._tx, wanted, [req for _, _, req in places])
            for key, asker, req in places:
                for act in acts.get((key, asker), ()):
                    if (act, req) in found:
                        self._answers[asker, req] = found[act, req]

    def _load_similar(self, asks: Sequence[Asked]) -> None:
        """The rows that a machine without a row of its own might be.

        Among several asks one may take over or return the row of another, who then has none: all are looked up.
        """
        strangers = [
            asked.document["fp"]
            for asked in asks
            if asked.op == "activate"
            and (len(asks) > 1 or (asked.key.id, asked.document["iss"]) not in self._own)
            and (asked.document["iss"], asked.document.jti) not in self._answers
        ]
        if strangers:
            found = store.similar_activations(self._tx, strangers, self._now - REBUILD_WINDOW)
            for key, row in found:
                if key in self.keys:
                    self._enter(key, row)

    def _enter(self, key: int, row: Row) -> None:
        self._rows[row.act] = key, row
        self._own[key, row.cmid] = row.act
        for token in machine.search_tokens(row.fp):
            self._by_token.setdefault((key, token), set()).add(row.act)

    def order(self, key: int) -> Order:
        """The key's record, with what this batch has taken of it."""
        return self.keys[key].order

    def answer(self, asker: str, req: str) -> StoredAnswer | None:
        """The recorded answer of an asker's request id, of this batch too."""
        found = self._answers.get((asker, req))
        if found and any(one.act == found.act for one in self._returns):
            return found._replace(blocked=RETURNED)
        return found

    def listed(self, key: int, cmid: str) -> bool:
        """Whether a CMID is on the key's list of machines."""
        return (key, cmid) in self._listed

    def own(self, key: int, cmid: str) -> Row | None:
        """The key's row of a CMID."""
        act = self._own.get((key, cmid))
        return self._rows[act][1] if act else None

    def similar(self, key: int, fp: Mapping[str, str]) -> list[Row]:
        """The key's rows that share a search token with a vector; one that was given back is nobody's to take over."""
        acts = {act for token in machine.search_tokens(fp) for act in self._by_token.get((key, token), ())}
        rows = [self._rows[act][1] for act in sorted(acts)]
        return [row for row in rows if row.blocked != RETURNED]

    def grant(self, key: int, grant: Grant, act: str) -> Row:
        """Enter what was granted; `act` is the id of a new row."""
        row = grant.row
        if grant.how == activation.NEW:
            row = row._replace(act=act)
            self._new.append(act)
            self.take_one(key)
        else:
            before = self._rows[row.act][1]
            self._own.pop((key, before.cmid), None)
            self._touched.add(row.act)
            if grant.how in (activation.MOVED, activation.TAKEN_OVER):
                self._changes.append((row.act, self._now, grant.how, before.cmid))
        self._enter(key, row)
        return row

    def take_one(self, key: int) -> None:
        """Count one more activation (or host) of a key."""
        self._take(key, 1)

    def _take(self, key: int, more: int) -> None:
        locked = self.keys[key]
        self.keys[key] = locked._replace(order=locked.order._replace(used=locked.order.used + more))
        self._counted[key] = self._counted.get(key, 0) + more

    def holding(self, key: int, cmid: str, most: int) -> Holding:
        """What a CMID's return is decided on; `most` are the returns that its key may have in 365 days."""
        own = self.own(key, cmid)
        returned = (key, cmid) in self._has_returned
        if own is None:
            return Holding(None, returned, (), (), None)
        newest = [
            jws.read_json(one.payload)["jti"]
            for _, one in self._new_answers
            if (one.act, one.name) == (own.act, "confirmation")
        ]
        now_returned = [one for one in self._returns if one.key == key]
        earlier = activated.earlier_returns(self._tx, key, cmid, own.fp, self._now - RETURN_PAUSE)
        earlier += [Former(one.cmid, self._rows[one.act][1].fp, one.at) for one in now_returned]
        return Holding(
            own,
            returned,
            newest or activated.newest_confirmations(self._tx, own.act),
            earlier,
            self._now
            if len(now_returned) >= most
            else activated.nth_newest_return(self._tx, key, most - len(now_returned)),
        )

    def give_back(self, key: int, given: Return) -> None:
        """Enter a return: nobody holds the row any more, and its seat is free now or when its time has come."""
        row, waits = given.row, given.frees > self._now
        self._returns.append(
            activated.NewReturn(row.act, key, row.cmid, self._now, given.frees if waits else None)
        )
        self._own.pop((key, row.cmid))
        self._rows[row.act] = key, row._replace(cmid=store.nobody(row.act), blocked=RETURNED)
        self._has_returned.add((key, row.cmid))
        if not waits:
            self._take(key, -1)

    @property
    def returns(self) -> Sequence[NewReturn]:
        """What the batch returned."""
        return self._returns

    def record(self, key: int, asker: str, answer: StoredAnswer) -> None:
        """Enter what is going to be answered."""
        self._answers[asker, answer.req] = answer
        self._new_answers.append((key, answer))

    def write(self) -> None:
        """Write everything that the batch changed.

        Raises:
            RuntimeError: if a counter would pass what was bought, or 0; under the lock only a mistake of ours can do that.
        """
        given_up = {act for act, *_ in self._changes} | {one.act for one in self._returns}
        if given_up:
            # One row may take the CMID that another gives up in the same batch: first give up, then take.
            store.release_cmids(self._tx, sorted(given_up.difference(self._new)))
        store.add_activations(self._tx, [self._rows[act] for act in self._new])
        changed = sorted(self._touched.difference(self._new))
        store.update_activations(self._tx, [self._rows[act][1] for act in changed])
        store.add_changes(self._tx, self._changes)
        store.add_answers(self._tx, self._new_answers)
        for key in self._due:
            activated.free(self._tx, key, self._now)
        activated.add_returns(self._tx, self._returns)
        for key, more in sorted(self._counted.items()):
            if not store.count(self._tx, key, more):
                raise RuntimeError(f"the counter of key {key} would pass what was bought, or 0")
