"""How keys and plans for them are told as JSON, the same for commands and API: never more of a key than its label (M8)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from volact.commands import when

if TYPE_CHECKING:
    from volact.vamt.keyrecords import Key
    from volact.vamt.keys import Recommended, Refreshed


def plan(one: Recommended) -> dict[str, Any]:
    """The keys for one product of a selection."""
    return {
        "publisher": one.pub,
        "product": one.product,
        "selected": one.selected,
        "need": one.need,
        "missing": one.plan.missing,
        "keys": [
            {
                "label": part.key.label,
                "key": part.key.thumbprint,
                "kind": part.key.kind,
                "machines": part.machines,
                "remaining": part.key.remaining,
                "assured": part.assured,
            }
            for part in one.plan.parts
        ],
    }


def key(one: Key) -> dict[str, Any]:
    """What is known of a key."""
    return {
        "label": one.label,
        "key": one.thumbprint,
        "publisher": one.pub,
        "kind": one.kind,
        "product": one.product,
        "bought": one.bought,
        "activated": one.activated,
        "remaining": one.remaining,
        "as_of": None if one.as_of is None else when(one.as_of),
        "blocked": one.blocked or None,
        "note": one.notes or None,
        "added": when(one.added),
        "by": one.who,
    }


def refreshed(one: Refreshed) -> dict[str, Any]:
    """A key as it is known after asking, and why nothing was learned."""
    return {**key(one.key), "refused": one.refusal.document() if one.refusal else None}
