"""Which rows an action has, which key each of them takes, and what is to be expected of each (V4, V5)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from volact.protocol.problems import Refusal, Refused
from volact.vamt import actionrecords, actions, keyrecords, recommending, records, selecting
from volact.vamt import keys as product_keys
from volact.vamt.acting import OK
from volact.vamt.actionrecords import DONE, FAILED, WAITING, WOULD, Row

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from sqlalchemy import Connection

    from volact.vamt.actions import Action
    from volact.vamt.keyrecords import Key
    from volact.vamt.recommending import Candidate
    from volact.vamt.searching import Target
    from volact.vamt.selecting import Selection

_ANY = "?????"
"""A label that no key has: for asking whether a key would be needed at all."""


def planned(tx: Connection, action: Action, selection: Selection, now: int) -> list[Row]:
    """The rows of an action on a selection, with their keys; one that cannot have any says why.

    Raises:
        Refused: `selection-empty`, `product-unknown`, or as `selecting.select`.
        UsageError: if several publishers have the product that was named.
    """
    targets = _targets(tx, action, selecting.select(tx, selection, now))
    if not targets:
        raise Refused(Refusal("selection-empty", f"{action.product} is on none of these machines."))
    rows = [Row(0, 0, one.mid, one.name or one.mid, one.pub, one.prd) for one in targets]
    return with_keys(tx, action, rows) if action.name == actions.INSTALL_KEY else rows


def _targets(tx: Connection, action: Action, found: Sequence[Target]) -> list[Target]:
    """What an action is done to; a machine of which nobody knows what is on it gets the product that was named."""
    if action.name == actions.REFRESH:
        return [one._replace(pub="", prd="") for one in {one.mid: one for one in found}.values()]
    if action.product and not all(one.prd for one in found):
        pub = product_keys.publisher_of(tx, action.product)
        found = [one if one.prd else one._replace(pub=pub, prd=action.product) for one in found]
    return [one for one in found if action.product in ("", one.prd)]


def with_keys(tx: Connection, action: Action, rows: Sequence[Row]) -> list[Row]:
    """Rows with the keys that they take: as many as each has left, then the next one's; `FAILED` where none is left."""
    numbers = records.numbers(tx, {one.mid for one in rows})
    there = actionrecords.there(tx, numbers.values())
    said = {id(one): there.get((numbers.get(one.mid, 0), one.pub, one.prd)) for one in rows}
    held = keyrecords.keys(tx, [action.key] if action.key else None)
    found: dict[int, Row] = {}
    for pub, prd in dict.fromkeys((one.pub, one.prd) for one in rows):
        here = [one for one in rows if (one.pub, one.prd) == (pub, prd)]
        label = next((one.label for one in held if action.key), _ANY)
        # What is on a machine that nobody asked yet may need one.
        needy = [one for one in here if actions.steps(action, said[id(one)], label) != ()]
        found.update({id(one): _blank(one, WAITING) for one in here})
        # What these machines have is what they are given now.
        candidates = product_keys.left(tx, held, {numbers.get(one.mid, 0) for one in needy})
        found.update(_allotted(action, needy, held, candidates))
    return [found[id(one)] for one in rows]


def _allotted(
    action: Action, rows: Sequence[Row], held: Sequence[Key], candidates: Sequence[Candidate]
) -> dict[int, Row]:
    """Rows for one product, by identity: with keys, as far as there are any."""
    if not rows:
        return {}
    pub, prd = rows[0].pub, rows[0].prd
    plan = recommending.plan(candidates, pub, prd, len(rows))
    each = [part.key.thumbprint for part in plan.parts for _ in range(part.machines)]
    why = _why_not(action, pub, prd, held)
    return {
        id(row): _blank(row, WAITING)._replace(key=each[place])
        if place < len(each)
        else _blank(row, FAILED)._replace(code=why.code, detail=why.detail)
        for place, row in enumerate(rows)
    }


def _blank(row: Row, state: str) -> Row:
    return row._replace(state=state, code="", detail="", key="", due=None)


def _why_not(action: Action, pub: str, prd: str, held: Sequence[Key]) -> Refusal:
    """Why a row has no key."""
    if not prd:
        return Refusal("machine-not-collected")
    fitting = [one for one in held if (one.pub, one.product) == (pub, prd)]
    if not fitting:
        if action.key and held:
            return Refusal(
                "key-wrong-product", f"Key ...-{held[0].label} is for {held[0].product}, not {prd}."
            )
        return Refusal("key-not-held", f"VAMT holds none for {prd}: volact vamt key add.")
    if all(one.blocked for one in fitting):
        return Refusal("key-blocked", ", ".join(f"...-{one.label}" for one in fitting) + ".")
    if len(fitting) == 1:
        return Refusal("no-activations-left", f"None of key ...-{fitting[0].label} is left for this machine.")
    return Refusal(
        "no-activations-left", f"None of the {len(fitting)} keys for {prd} is left for this machine."
    )


def judged(tx: Connection, action: Action, rows: Sequence[Row], labels: Mapping[str, str]) -> list[Row]:
    """What is to be expected of rows that wait, by what is known here: `WOULD`, `DONE` already, or `FAILED`."""
    numbers = records.numbers(tx, {one.mid for one in rows})
    there = actionrecords.there(tx, numbers.values())
    transports = actionrecords.transports(tx, numbers.values())
    found = []
    for row in rows:
        if row.state != WAITING:
            found.append(row)
            continue
        number = numbers.get(row.mid, 0)
        product = there.get((number, row.pub, row.prd))
        refusal = actions.is_out_of_reach(transports.get(number, ""), action)
        # What is not known here is the machine's to say.
        steps = refusal or (actions.steps(action, product, labels.get(row.key, "")) if product else None)
        if isinstance(steps, Refusal):
            found.append(row._replace(state=FAILED, code=steps.code, detail=steps.detail))
        elif steps == () and action.name != actions.REFRESH:
            found.append(row._replace(state=DONE, code=OK, detail=actions.done(action, "", changed=False)))
        else:
            label = labels.get(row.key, "")
            found.append(row._replace(state=WOULD, code=OK, detail=f"Key ...-{label}." if label else ""))
    return found
