"""The commands about product keys: issue, list, show, block, bind, raise (DESIGN section 5).

A key is shown or written once, when it is issued, and nowhere else.
"""

from __future__ import annotations

import csv
import io
import os
import time
from pathlib import Path  # noqa: TC003 - as below
from typing import TYPE_CHECKING, Annotated, Literal

from cyclopts import Parameter

from volact import commands
from volact.authority import desk, orders
from volact.authority.desk import Label  # noqa: TC001 - cyclopts reads the annotations
from volact.authority.publisher import Wanted
from volact.commands import Json  # noqa: TC001 - as above
from volact.console import Console
from volact.files import PRIVATE
from volact.protocol.jws import MAX_INTEGER
from volact.protocol.policy import HOST_MACHINES
from volact.protocol.problems import BrokenData, Refusal, Refused, UsageError, VolactError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from volact.authority.publisher import Office
    from volact.authority.records import KeyRow
    from volact.protocol.keys import ProductKey

app = commands.group("key", "Product keys: issue, list, show, block, bind, raise.")

_SLOW_SECONDS = 1.0


@app.command(name="issue")
def key_issue(
    *,
    product: list[str],
    customer: str,
    kind: Literal["mak", "retail", "kms-host"],
    activations: int | None = None,
    copies: int = 1,
    csv_file: Annotated[Path | None, Parameter(name="--csv")] = None,
    machines: int = HOST_MACHINES,
    json: Json = False,
) -> None:
    """Issue keys. They are shown or written this once and cannot be shown again, only replaced.

    Parameters
    ----------
    product
        The product's id; repeat it for a kms-host key of several products.
    customer
        The customer's name.
    kind
        A MAK for N activations, a retail key for one machine, or a key for KMS hosts.
    activations
        How many machines each MAK is good for.
    copies
        How many keys; one, if it is not given.
    csv_file
        Write the keys to this new file, 0600, complete on disk before they are good.
    machines
        Most machines that a host of a kms-host key may count; a million, if it is not given.
    """
    if not (1 <= machines <= MAX_INTEGER and copies >= 1):
        raise UsageError("--copies and --machines are at least 1.")
    wanted = Wanted(kind, tuple(dict.fromkeys(product)), customer, activations, copies, machines)
    console = Console(json=json)
    issued: list[ProductKey] = []

    def keep(made: Sequence[ProductKey]) -> None:
        issued.extend(made)
        if csv_file:
            commands.write(csv_file, _csv(wanted, made), PRIVATE)

    with desk.office() as (_, office):
        if csv_file:
            _reserve(csv_file)
        try:
            office.issue(wanted, keep, _progress(console, copies))
        except BaseException:
            if csv_file:
                _withdraw(console, office, csv_file, issued)
            raise
    labels = [made.label for made in issued]
    if csv_file:
        console.answer({"labels": labels, "csv": str(csv_file)}, f"{len(labels)} keys in {csv_file}")
    else:
        console.answer(
            {"labels": labels, "keys": [made.text() for made in issued]},
            "\n".join(made.text() for made in issued),
        )


def _reserve(csv_file: Path) -> None:
    """Take the name of a new file, so that two commands cannot write their keys over each other's."""
    try:
        os.close(os.open(csv_file, os.O_CREAT | os.O_EXCL | os.O_WRONLY, PRIVATE))
    except FileExistsError:
        raise Refused(
            Refusal("already-exists", f"{csv_file} is there; keys are never overwritten.")
        ) from None
    except OSError as error:
        raise commands.not_writable(csv_file, error) from None


def _withdraw(console: Console, office: Office, csv_file: Path, issued: Sequence[ProductKey]) -> None:
    """Remove the file of keys that were not issued; keep it if they may have been, for they cannot be shown again."""
    if issued:
        try:
            office.keys(issued[0].label)
        except Refused as error:
            if error.refusal.code == "label-unknown":
                csv_file.unlink()
                return
        except VolactError:
            pass
        console.remark(f"{csv_file} is kept: its keys may be good. Compare with `volact authority key list`.")
    else:
        csv_file.unlink()


def _csv(wanted: Wanted, made: Sequence[ProductKey]) -> bytes:
    text = io.StringIO()
    rows = csv.writer(text, lineterminator="\n")
    rows.writerow(("key", "label", "kind", "product", "activations"))
    bought = orders.bought_by(wanted.kind, wanted.activations)
    products = " ".join(wanted.products)
    rows.writerows((key.text(), key.label, wanted.kind, products, bought) for key in made)
    return text.getvalue().encode("ascii")


def _progress(console: Console, copies: int) -> Callable[[int], None]:
    """Say on standard error how far it is, once a second, of what takes longer than one."""
    said = time.monotonic()

    def progress(done: int) -> None:
        nonlocal said
        if time.monotonic() - said > _SLOW_SECONDS:
            said = time.monotonic()
            console.remark(f"{done} of {copies} keys")

    return progress


def _key_json(row: KeyRow) -> dict[str, object]:
    return {
        "label": row.label,
        "kind": row.kind,
        "key": row.thumbprint,
        "products": list(row.products),
        "customer": row.customer,
        "bought": row.bought,
        "activated": row.used,
        "remaining": row.bought - row.used,
        "returning": row.returning,
        "blocked": row.blocked or None,
        "blocked_since": commands.when(row.blocked_since) if row.blocked else None,
        "machines": row.machines,
        "networks": list(row.networks),
        "sources": row.sources,
        "issued": commands.when(row.created),
    }


@app.command(name="list")
def key_list(*, json: Json = False) -> None:
    """List the keys, by their last group."""
    with desk.office() as (_, office):
        found = office.keys()
    commands.show(
        Console(json=json),
        [_key_json(row) for row in found],
        [
            (row.label, row.kind, " ".join(row.products), row.customer, row.bought, row.used, row.bought - row.used,
             row.blocked)
            for row in found
        ],
        ("label", "kind", "product", "customer", "bought", "activated", "remaining", "blocked"),
        "There are no keys. Issue one: volact authority key issue --product ID --customer NAME --kind mak --activations N",
    )  # fmt: skip


@app.command(name="show")
def key_show(label: Label, /, *, json: Json = False) -> None:
    """Show what is known of a key (never the key itself)."""
    with desk.office() as (_, office):
        row = office.keys(label_of(label))[0]
        newest = office.newest_sources(row.label)
    shown = _key_json(row)
    lines = []
    for name, value in shown.items():
        text = " ".join(value) if isinstance(value, list) else "-" if value is None else str(value)
        lines.append(f"{name:<14}{text or '-'}")
    lines += [f"{'new source':<14}{source} since {commands.when(since)}" for source, since in newest]
    shown["new_sources"] = [{"source": source, "since": commands.when(since)} for source, since in newest]
    Console(json=json).answer(shown, "\n".join(lines))


@app.command(name="block")
def key_block(
    label: Label,
    /,
    *,
    everything: Annotated[bool, Parameter(name="--all", negative="")] = False,
    json: Json = False,
) -> None:
    """Block a key: no new activations.

    Parameters
    ----------
    everything
        Take the activations that were given, too: their machines go to Non-genuine grace when they learn of it.
    """
    with desk.office() as (_, office):
        version = office.block_key(label_of(label), everything=everything)
    mode = "all" if everything else "new"
    what = "all its activations are blocked" if everything else "no new activations"
    Console(json=json).answer(
        {"label": label_of(label), "blocked": mode, "status_list": version},
        f"{label_of(label)}: {what} (status list {version})",
    )


@app.command(name="bind")
def key_bind(
    label: Label, /, *, machines: Path | None = None, networks: str | None = None, json: Json = False
) -> None:
    """Bind a key to machines or networks; whoever is on either list is entitled.

    Parameters
    ----------
    machines
        A file of CMIDs, one a line; it replaces the list there was, an empty file unbinds.
    networks
        Networks such as 192.0.2.0/24,2001:db8::/32; they replace those there were, "" unbinds.
    """
    if machines is None and networks is None:
        raise UsageError("Give --machines FILE or --networks CIDR,...")
    cmids = None
    if machines is not None:
        try:
            cmids = [line for line in machines.read_text("ascii").splitlines() if line.strip()]
        except UnicodeDecodeError:
            raise BrokenData(f"{machines} is no list of CMIDs.", "not-readable") from None
    ranges = None if networks is None else [one for one in networks.split(",") if one.strip()]
    with desk.office() as (_, office):
        office.bind_key(label_of(label), cmids, ranges)
        row = office.keys(label_of(label))[0]
    Console(json=json).answer(
        _key_json(row), f"{row.label}: {row.machines} machines, networks {' '.join(row.networks) or '-'}"
    )


@app.command(name="raise")
def key_raise(
    label: Label,
    activations: Annotated[int, Parameter(name="N", help="Activations in all, more than now.")],
    /,
    *,
    json: Json = False,
) -> None:
    """Raise the number of activations that a key is good for, to N in all."""
    with desk.office() as (_, office):
        order = office.raise_key(label_of(label), activations)
    Console(json=json).answer(
        {"label": order.label, "bought": order.bought, "activated": order.used, "remaining": order.remaining},
        f"{order.label}: {order.remaining} of {order.bought} remain",
    )


def label_of(text: str) -> str:
    """A label as it was typed, as it is stored."""
    return text.strip().upper()
