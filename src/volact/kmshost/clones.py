"""What `volact kmshost clones` tells: which machines called with another one's identity, and whose it was (K14).

A host tells each of them once that it is a copy; it makes itself an identity of its own, by which it counts. That is
found here by its fingerprint, which stays what it was. The JSON is append-only: members are added, never renamed or
removed.
"""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING, Any

from volact.commands import when
from volact.console import table
from volact.kmshost import surveys

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from volact.kmshost.setup import Opened

_HEAD = ("name", "address", "since", "last", "times", "own CMID")


def images(opened: Opened) -> list[dict[str, Any]]:
    """The identities that other hardware called with, each with its copies, as JSON-ready members.

    Raises:
        VolactError: if the store cannot be read.
    """
    now = opened.clock.now()
    with opened.store.reading() as tx:
        rows = surveys.copies(tx)
        originals, own = (surveys.originals(tx, now), surveys.own_identities(tx, now)) if rows else ({}, {})
    found = []
    for (cmid, prd), copies in itertools.groupby(rows, key=lambda one: (one.cmid, one.prd)):
        original = originals.get((cmid, prd))
        found.append(
            {
                "cmid": cmid,
                "product": prd,
                "name": original.name if original else None,
                "address": original.address if original else None,
                "since": when(original.first) if original else None,
                "last": when(original.last) if original else None,
                "copies": [_copy(one, own.get((one.fp, prd))) for one in copies],
            }
        )
    return found


def _copy(one: surveys.Copy, own: tuple[str, str | None] | None) -> dict[str, Any]:
    cmid, name = own or (None, None)
    return {
        "name": name or one.name,
        "address": one.address,
        "since": when(one.first),
        "last": when(one.last),
        "times": one.n,
        "own_cmid": None if cmid == one.cmid else cmid,
    }


def prose(found: Sequence[Mapping[str, Any]]) -> str:
    """The same for people."""
    if not found:
        return "No machine has called with another one's identity."
    return "\n\n".join(_image(one) for one in found)


def _image(one: Mapping[str, Any]) -> str:
    if one["since"] is None:
        of = "its own record has ended"
    else:
        of = f"{one['name'] or 'no name'}, {one['address']}, since {one['since']}"
    many = len(one["copies"])
    told = sum(copy["own_cmid"] is not None for copy in one["copies"])
    title = f"{one['product']}: image of {one['cmid']} ({of})"
    rows = [
        [
            copy["name"] or "-",
            copy["address"],
            copy["since"],
            copy["last"],
            str(copy["times"]),
            copy["own_cmid"] or "-",
        ]
        for copy in one["copies"]
    ]
    copies = "1 copy" if many == 1 else f"{many} copies"
    return f"{title}\n{copies}, {told} with an identity of their own\n{table(rows, _HEAD)}"
