"""The publisher's commands (DESIGN section 5). They open the authority's store directly, never the network.

Every command takes ``--json``. A product key is shown once, when it is issued, and nowhere else.
"""

from __future__ import annotations

import csv
import io
import os
import secrets
import sys
import time
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import msgspec
from cyclopts import App, CycloptsError, Parameter

from volact.authority import orders, setup
from volact.authority.publisher import Office, Wanted
from volact.console import DONE, USAGE, Console, run, table
from volact.files import PRIVATE, write_durably
from volact.protocol.policy import HOST_MACHINES
from volact.protocol.problems import BrokenData, Refusal, Refused, UsageError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from volact.authority.records import Activated, KeyRow
    from volact.protocol.keys import ProductKey

Json = Annotated[bool, Parameter(name="--json", negative="", help="Answer with one JSON value.")]
Label = Annotated[str, Parameter(help="The key's last group.")]

app = App(
    name="volact authority",
    help="The publisher's licensing site: products, customers, keys, activations.",
    version_flags=[],
    usage="usage: volact authority COMMAND ... [--json]",
)
_product = App(name="product", help="Products: their policy, and the signed file that goes with them.")
_customer = App(name="customer", help="Customers: whom keys are issued to.")
_key = App(name="key", help="Product keys: issue, list, block, bind, raise.")
_activation = App(name="activation", help="Activations of machines and KMS hosts.")
for _group in (_product, _customer, _key, _activation):
    app.command(_group)

_SLOW_SECONDS = 1.0


def main(arguments: list[str]) -> int:
    """Run a command and say its exit code."""
    console = Console(json="--json" in arguments)
    if not [word for word in arguments if word != "--json"]:
        app.help_print([])
        return USAGE
    return run(console, lambda: _call(arguments))


def _call(arguments: list[str]) -> int:
    try:
        done = app(arguments, exit_on_error=False, print_error=False, result_action="return_value")
    except CycloptsError as error:
        # Its own text repeats what was typed, which may be a key.
        raise UsageError(_without_input(error, arguments)) from None
    return done if isinstance(done, int) else DONE


def _without_input(error: CycloptsError, arguments: Sequence[str]) -> str:
    text = " ".join(str(error).split())
    for word in sorted(arguments, key=len, reverse=True):
        if len(word.replace("-", "")) > 20:  # noqa: PLR2004 - nothing of ours is so long, and keys are 25
            text = text.replace(word, "…")
    return text


@contextmanager
def _office() -> Iterator[tuple[setup.Opened, Office]]:
    with setup.opened() as opened:
        yield opened, Office(opened.clock, opened.store, opened.keyring, secrets.token_bytes)


def _when(seconds: int) -> str:
    return datetime.fromtimestamp(seconds, UTC).isoformat().replace("+00:00", "Z")


def _show(
    console: Console, value: object, rows: Sequence[Sequence[object]], head: Sequence[str], empty: str
) -> None:
    """Answer a list: JSON, or a table, or what to do so that there is something to list."""
    if not rows:
        console.answer(value, empty)
    elif console.json or not sys.stdout.isatty():
        console.answer(value, table([[str(cell) for cell in row] for row in rows], head))
    else:
        from rich.console import Console as Terminal
        from rich.table import Table

        drawn = Table(*head, box=None, header_style="bold", pad_edge=False)
        for row in rows:
            drawn.add_row(*[str(cell) for cell in row])
        Terminal().print(drawn)


# --- setting up -------------------------------------------------------------------------------------------------


@app.command
def init(*, name: str = "", url: str = "", lab: bool = False, json: Json = False) -> None:
    """Set up a new authority: root, issuer and status keys, certificate, store.

    Parameters
    ----------
    name
        The publisher's name, for people.
    url
        Where machines will reach the authority; product files can say otherwise.
    lab
        A laboratory: its documents are worth nothing outside of tests, and its clocks can be moved.
    """
    if url and not url.startswith("https://"):
        raise UsageError("--url is an https:// address.")
    pub = setup.initialise(name, url, lab=lab)
    folder = setup.folder()
    Console(json=json).answer(
        {"root": pub, "folder": str(folder), "lab": lab},
        f"root: {pub}\n\nProducts pin this root for ever. Its key is {folder / 'keys' / 'root.pem'}; nothing but\n"
        "a new root or issuer needs it: move that file to where no network reaches, and keep two copies.\n"
        "Next: volact authority product add FILE.toml",
    )


# --- products and customers -------------------------------------------------------------------------------------


@_product.command(name="add")
def product_add(file: Path, /, *, json: Json = False) -> None:
    """Add a product from its TOML file, or a new version of one."""
    from volact.authority import productfile

    try:
        text = file.read_text("utf-8")
    except UnicodeDecodeError:
        raise Refused(Refusal("product-file-invalid", "It is not UTF-8 text.", (("line", 1),))) from None
    claims = productfile.read(text)
    with _office() as (opened, office):
        claims["url"] = claims["url"] or opened.keyring.publisher.url
        prd, ver, written = office.add_product(claims, opened.tls_digests())
    Console(json=json).answer(
        {"product": prd, "version": ver, "added": written},
        f"{prd} version {ver}" + ("" if written else ": nothing has changed"),
    )


@_product.command(name="list")
def product_list(*, json: Json = False) -> None:
    """List the products."""
    with _office() as (_, office):
        found = office.products()
    _show(
        Console(json=json),
        [
            {
                "product": one["sub"],
                "name": one["name"],
                "edition": one["edition"],
                "version": one["ver"],
                "url": one["url"],
                "policy": one["pol"],
                "tls": one["tls"],
                "changed": _when(one["iat"]),
            }
            for one in found
        ],
        [(one["sub"], one["name"], one["edition"], one["ver"], one["url"]) for one in found],
        ("product", "name", "edition", "version", "url"),
        "There are no products. Add one: volact authority product add FILE.toml",
    )


@_product.command(name="export")
def product_export(
    prd: Annotated[str, Parameter(name="ID")],
    /,
    *,
    output: Annotated[Path | None, Parameter(name=("--output", "-o"))] = None,
    json: Json = False,
) -> None:
    """Write a product's signed file, which is installed on machines; by default ID.volact-product."""
    with _office() as (_, office):
        bundle = office.export_product(prd)
    path = output or Path(f"{prd}.volact-product")
    write_durably(path, bundle + b"\n")
    Console(json=json).answer({"product": prd, "file": str(path)}, f"{path}")


@_customer.command(name="add")
def customer_add(name: str, /, *, json: Json = False) -> None:
    """Add a customer."""
    with _office() as (_, office):
        cus = office.add_customer(name)
    Console(json=json).answer({"customer": name.strip(), "id": cus}, f"{name.strip()}: {cus}")


@_customer.command(name="list")
def customer_list(*, json: Json = False) -> None:
    """List the customers."""
    with _office() as (_, office):
        found = office.customers()
    _show(
        Console(json=json),
        [{"customer": one.name, "id": one.cus, "since": _when(one.created)} for one in found],
        [(one.name, one.cus, _when(one.created)) for one in found],
        ("customer", "id", "since"),
        "There are no customers. Add one: volact authority customer add NAME",
    )


# --- keys -------------------------------------------------------------------------------------------------------


@_key.command(name="issue")
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
        Of each MAK.
    copies
        How many keys.
    csv_file
        Write the keys to this new file, 0600, complete on disk before they are good.
    machines
        Most machines that a host of a kms-host key may count.
    """
    if copies < 1 or machines < 1:
        raise UsageError("--copies and --machines are at least 1.")
    wanted = Wanted(kind, tuple(product), customer, activations, copies, machines)
    if csv_file and csv_file.exists():
        raise Refused(Refusal("already-exists", f"{csv_file} is there; keys are never overwritten."))
    console = Console(json=json)
    issued: list[ProductKey] = []
    written = False

    def keep(made: Sequence[ProductKey]) -> None:
        nonlocal written
        issued.extend(made)
        if csv_file:
            write_durably(csv_file, _csv(wanted, made), PRIVATE)
            written = True

    with _office() as (_, office):
        try:
            office.issue(wanted, keep, _progress(console, copies))
        except BaseException:
            if csv_file and written:
                csv_file.unlink()  # keys that were not committed are worth nothing
            raise
    labels = [made.label for made in issued]
    if csv_file:
        console.answer({"labels": labels, "csv": str(csv_file)}, f"{len(labels)} keys in {csv_file}")
    else:
        console.answer(
            {"labels": labels, "keys": [made.text() for made in issued]},
            "\n".join(made.text() for made in issued),
        )


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
        "blocked": row.blocked or None,
        "blocked_since": _when(row.blocked_since) if row.blocked else None,
        "machines": row.machines,
        "networks": list(row.networks),
        "sources": row.sources,
        "issued": _when(row.created),
    }


@_key.command(name="list")
def key_list(*, json: Json = False) -> None:
    """List the keys, by their last group."""
    with _office() as (_, office):
        found = office.keys()
    _show(
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


@_key.command(name="show")
def key_show(label: Label, /, *, json: Json = False) -> None:
    """Show what is known of a key (never the key itself)."""
    with _office() as (_, office):
        row = office.keys(_label(label))[0]
    shown = _key_json(row)
    lines = []
    for name, value in shown.items():
        text = " ".join(value) if isinstance(value, list) else "-" if value is None else str(value)
        lines.append(f"{name:<14}{text or '-'}")
    Console(json=json).answer(shown, "\n".join(lines))


@_key.command(name="block")
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
    with _office() as (_, office):
        version = office.block_key(_label(label), everything=everything)
    mode = "all" if everything else "new"
    what = "all its activations are blocked" if everything else "no new activations"
    Console(json=json).answer(
        {"label": _label(label), "blocked": mode, "status_list": version},
        f"{_label(label)}: {what} (status list {version})",
    )


@_key.command(name="bind")
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
    with _office() as (_, office):
        office.bind_key(_label(label), cmids, ranges)
        row = office.keys(_label(label))[0]
    Console(json=json).answer(
        _key_json(row), f"{row.label}: {row.machines} machines, networks {' '.join(row.networks) or '-'}"
    )


@_key.command(name="raise")
def key_raise(
    label: Label, activations: Annotated[int, Parameter(name="N")], /, *, json: Json = False
) -> None:
    """Raise the number of activations that a key is good for, to N in all."""
    with _office() as (_, office):
        order = office.raise_key(_label(label), activations)
    Console(json=json).answer(
        {"label": order.label, "bought": order.bought, "activated": order.used, "remaining": order.remaining},
        f"{order.label}: {order.remaining} of {order.bought} remain",
    )


def _label(text: str) -> str:
    return text.strip().upper()


# --- activations ------------------------------------------------------------------------------------------------


def _activation_json(row: Activated) -> dict[str, object]:
    return {
        "activation": row.act,
        "of": row.kind,
        "id": row.id,
        "label": row.label,
        "activated": _when(row.created),
        "granted": _when(row.granted),
        "times": row.times,
        "blocked": row.blocked or None,
    }


@_activation.command(name="list")
def activation_list(*, key: str | None = None, json: Json = False) -> None:
    """List the activations of machines and KMS hosts, of all keys or of the one with a label."""
    with _office() as (_, office):
        found = office.activations(None if key is None else _label(key))
    _show(
        Console(json=json),
        [_activation_json(row) for row in found],
        [(row.act, row.kind, row.id, row.label, _when(row.granted), row.times, row.blocked) for row in found],
        ("activation", "of", "id", "key", "granted", "times", "blocked"),
        "There are no activations yet. Machines ask for them at the address that their product's file names.",
    )


@_activation.command(name="block")
def activation_block(
    act: Annotated[str, Parameter(name="ID", allow_leading_hyphen=True)], /, *, json: Json = False
) -> None:
    """Block one activation, by the id that `activation list` shows."""
    with _office() as (_, office):
        version = office.block_activation(act)
    Console(json=json).answer(
        {"activation": act, "blocked": "all", "status_list": version},
        f"{act}: blocked (status list {version})",
    )


# --- answering --------------------------------------------------------------------------------------------------


@app.command
def serve(*, listen: str = "", json: Json = False) -> None:
    """Answer machines over HTTPS until SIGTERM or Ctrl-C.

    Parameters
    ----------
    listen
        HOST:PORT; port 0 is a free one.
    """
    from volact.authority import serving

    console = Console(json=json)

    def say(host: str, port: int) -> None:
        address = f"https://[{host}]:{port}" if ":" in host else f"https://{host}:{port}"
        console.remark(f"listening on {address}")
        if json:
            sys.stdout.write(msgspec.json.encode({"listening": address, "pid": os.getpid()}).decode() + "\n")
            sys.stdout.flush()

    with setup.opened() as opened:
        serving.serve(opened, listen, say)


@app.command
def answer(
    request: Annotated[Path, Parameter(name="REQUEST_FILE")],
    /,
    *,
    output: Annotated[Path, Parameter(name=("--output", "-o"))],
    json: Json = False,
) -> None:
    """Answer a request file that came on a medium.

    Parameters
    ----------
    output
        The response file to write, for the way back.
    """
    from volact.authority import bodies, serving
    from volact.authority.asks import Sent
    from volact.protocol.trust import MAX_BUNDLE

    with request.open("rb") as file:
        body = file.read(MAX_BUNDLE * 4 + 1)
    if len(body) > MAX_BUNDLE * 4:
        raise Refused(Refusal("body-too-large"))
    sent = bodies.read_batch(body)
    if isinstance(sent, Refusal):
        raise Refused(sent)
    console = Console(json=json)
    with setup.opened() as opened:
        authority = serving.authority_of(opened)
        entries = sent if isinstance(sent, list) else [sent]
        good = iter(authority.answer([(one, orders.BY_FILE) for one in entries if isinstance(one, Sent)]))
        answers = [next(good) if isinstance(one, Sent) else one for one in entries]
    if isinstance(sent, list):
        content = bodies.answers_json(answers)
    elif isinstance(answers[0], Refusal):
        raise Refused(answers[0])
    else:
        content = answers[0]
    write_durably(output, content + b"\n")
    refused = [one for one in answers if isinstance(one, Refusal)]
    console.answer(
        {
            "file": str(output),
            "answered": len(answers) - len(refused),
            "refused": [one.code for one in refused],
        },
        f"{output}: {len(answers) - len(refused)} answered, {len(refused)} refused",
    )
