"""``volact vamt key``: adding, listing, showing, removing, asking what is left, and which key to take (V4, M3, M8)."""

from __future__ import annotations

import getpass
import sys
from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter

from volact import commands
from volact.commands import Json  # noqa: TC001 - cyclopts reads the annotations
from volact.console import DONE, REFUSED, UNREACHABLE, Console, table
from volact.protocol.problems import BrokenData, UsageError
from volact.vamt import byhand, desk, keyfiles, keyreporting
from volact.vamt.desk import ANY, Names, Narrowed
from volact.vamt.logincommands import Passphrase, unlocked

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from volact.vamt.keyrecords import Key
    from volact.vamt.keys import Refreshed

app = commands.group("key", "Product keys: sealed here, shown by their last group alone.")
_MOST_WRONG = 20
_STEP = 100
_Label = Annotated[
    str, Parameter(name="LABEL", help="Last groups of keys, or thumbprints.", allow_leading_hyphen=True)
]
_COLUMNS = ("key", "kind", "product", "bought", "activated", "remaining", "as of", "")


@app.command
def add(
    key: Annotated[
        str,
        Parameter(
            name="KEY",
            help="The key; - (standard input) or @FILE, which may hold many, one a line, or `key issue --csv`'s list.",
            allow_leading_hyphen=True,
        ),
    ] = "",
    /,
    *,
    product: Annotated[
        str, Parameter(help="The product that it is for; a list by `key issue --csv` says it itself.")
    ] = "",
    publisher: Annotated[
        str, Parameter(help="The publisher, by id or name, if several have it.", allow_leading_hyphen=True)
    ] = "",
    note: Annotated[str, Parameter(help="Something to remember about it.")] = "",
    passphrase: Passphrase = None,
    json: Json = False,
) -> None:
    """Keep product keys, sealed. Nobody is asked: `key refresh` asks the publisher what is left of them."""
    byhand.note(note)
    if key == passphrase == "-":
        raise UsageError("Standard input holds either the key or the passphrase; give @FILE for one of them.")
    wanted = keyfiles.wanted(_text(key), product)
    with desk.desk() as at:
        sealer = unlocked(at, passphrase)
        added = at.vamt.keys.add(at.person, wanted, sealer, publisher=publisher, notes=note)
    Console(json=json).answer(
        [
            {
                "label": one.label,
                "key": one.thumbprint,
                "kind": one.kind,
                "product": one.product,
                "new": one.is_new,
            }
            for one in added
        ],
        "\n".join(
            f"{one.label}: {'kept, sealed' if one.is_new else 'kept already'}" for one in added[:_MOST_WRONG]
        )
        + (f"\nand {len(added) - _MOST_WRONG} more" if len(added) > _MOST_WRONG else "")
        + "\nNext: volact vamt key refresh",
    )


def _text(given: str) -> str:
    """What was given as keys: a file's or standard input's whole text, or the key itself; asked for if nothing was."""
    if not given:
        if not (sys.stdin.isatty() and sys.stderr.isatty()):
            raise UsageError("There is no key.", "Give a key, - for standard input, or @FILE.")
        return getpass.getpass("Product key: ", sys.stderr)
    if given != "-" and not given.startswith("@"):
        return given
    name = given[1:] if given.startswith("@") else "Standard input"
    try:
        if given == "-":
            text = sys.stdin.read(keyfiles.MOST + 1)
        else:
            with open(name, encoding="utf-8-sig") as file:  # noqa: PTH123 - the text that was given
                text = file.read(keyfiles.MOST + 1)
    except UnicodeDecodeError:
        raise BrokenData(f"{name} is not text.", "not-readable") from None
    except OSError as error:
        raise BrokenData(f"{name}: {error.strerror}.", "not-readable") from None
    if len(text) > keyfiles.MOST:
        raise UsageError(f"{name} is longer than {keyfiles.MOST} characters.", "Add it in parts.")
    return text


@app.command(name="list")
def list_(*, json: Json = False) -> None:
    """List the keys, by their last groups, and what the publisher said is left of them."""
    with desk.desk() as at:
        found = at.vamt.keys.list(at.person)
    commands.show(
        Console(json=json),
        [keyreporting.key(one) for one in found],
        [_row(one) for one in found],
        _COLUMNS,
        "No key is kept. Add one: volact vamt key add --product ID -",
    )


@app.command
def show(label: _Label, /, *, json: Json = False) -> None:
    """Show what is known of a key; the key itself is never shown."""
    with desk.desk() as at:
        told = keyreporting.key(at.vamt.keys.show(at.person, label))
    lines = [[name, str(value)] for name, value in told.items() if value not in (None, "")]
    Console(json=json).answer(told, table(lines, ("what", "is")))


@app.command
def remove(*labels: _Label, json: Json = False) -> None:
    """Forget keys; what was activated with them stays activated."""
    if not labels:
        raise UsageError("Name a key by its label.")
    with desk.desk() as at:
        count = at.vamt.keys.remove(at.person, labels)
    Console(json=json).answer({"removed": count}, f"removed {count} keys")


@app.command
def refresh(*labels: _Label, passphrase: Passphrase = None, json: Json = False) -> int:
    """Ask the publisher how many activations of keys, by default of all, are bought, used and left.

    Each key is proved by a signature and not sent. What the publisher signs is kept with its date.
    """
    from volact import calls  # noqa: PLC0415 - TLS is for who calls

    console = Console(json=json)
    with desk.desk() as at:
        done = at.vamt.keys.refresh(
            at.person, labels, lambda: unlocked(at, passphrase), calls.Caller, _telling(console)
        )
    commands.show(
        console,
        [keyreporting.refreshed(one) for one in done],
        [(*_row(one.key)[:-1], one.refusal.code if one.refusal else "asked now") for one in done],
        _COLUMNS,
        "No key is kept. Add one: volact vamt key add --product ID -",
    )
    for one in done:
        if one.refusal:
            console.remark(f"{one.key.label}: {one.refusal}\n{one.refusal.problem.next_step}")
    return _exit_code(done)


_NOT_REACHED = ("authority-unreachable", "authority-untrusted", "answer-nonsense")


def _exit_code(done: Sequence[Refreshed]) -> int:
    refused = [one.refusal.code for one in done if one.refusal]
    if not refused:
        return DONE
    return UNREACHABLE if all(code in _NOT_REACHED for code in refused) else REFUSED


def _telling(console: Console) -> Callable[[int, int], None]:
    """What says how far it is, of what takes longer than a batch."""

    def tell(done: int, total: int) -> None:
        if total > _STEP:
            console.remark(f"{done} of {total} keys")

    return tell


@app.command
def recommend(
    *machines: Names,
    narrowed: Narrowed = ANY,
    product: Annotated[str, Parameter(help="Only for this product.")] = "",
    json: Json = False,
) -> int:
    """Say which keys a selection of machines takes, for how many each. Nothing is done.

    Counts are those that the publisher signed last: `key refresh` asks anew.
    """
    chosen = narrowed.selection(machines)
    with desk.desk() as at:
        found = at.vamt.keys.recommend(at.person, chosen, product)
    rows = [
        (one.product, one.need, part.key.label, part.key.kind, part.machines, _left(part.key.remaining))
        for one in found
        for part in one.plan.parts
    ]
    remarks = "".join(
        f"\n{one.product}: no key is left for {one.plan.missing} of {one.need} machines"
        for one in found
        if one.plan.missing
    )
    remarks += "".join(f"\n{one.product}: no machine needs a key" for one in found if not one.need)
    prose = table([[str(cell) for cell in row] for row in rows], _PLAN) if rows else ""
    Console(json=json).answer(
        [keyreporting.plan(one) for one in found],
        (prose + "\n" + remarks).strip() or "No product of a known publisher is on these machines.",
    )
    return REFUSED if any(one.plan.missing for one in found) else DONE


_PLAN = ("product", "machines", "key", "kind", "for", "left before")


def _left(remaining: int | None) -> str:
    return "not known: volact vamt key refresh" if remaining is None else str(remaining)


def _row(one: Key) -> tuple[object, ...]:
    as_of = "never" if one.as_of is None else commands.when(one.as_of)
    counts = ["?" if count is None else count for count in (one.bought, one.activated, one.remaining)]
    blocked = "blocked" if one.blocked else ""
    return (f"...-{one.label}", one.kind, one.product, *counts, as_of, blocked)
