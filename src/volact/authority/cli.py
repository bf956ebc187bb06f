"""The publisher's commands (DESIGN section 5). They open the authority's store directly, never the network.

Every command takes ``--json``. A product key is shown once, when it is issued, and nowhere else.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from cyclopts import Parameter

from volact import commands
from volact.authority import desk, issuing, orders, setup
from volact.commands import Json  # noqa: TC001 - cyclopts reads the annotations
from volact.console import Console
from volact.protocol.documents import MAX_TEXT
from volact.protocol.problems import Refusal, Refused, UsageError

if TYPE_CHECKING:
    from volact.authority.activated import Activated
    from volact.authority.api import Pages

app = commands.role("authority", "The publisher's licensing site: products, customers, keys, activations.")
_product = commands.group("product", "Products: their policy, and the signed file that goes with them.")
_customer = commands.group("customer", "Customers: whom keys are issued to.")
_activation = commands.group("activation", "Activations of machines and KMS hosts.")
for _group in (_product, _customer, issuing.app, _activation):
    app.command(_group)


def main(arguments: list[str], pages: Pages | None = None) -> int:
    """Run a command and say its exit code; `pages` are what `serve` shows to people."""
    return commands.main(app, arguments, {"pages": pages})


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
    from volact.authority import productfile

    if url and not productfile.is_url(url):
        raise UsageError("--url is an address such as https://licensing.example.com.")
    if len(name) > MAX_TEXT or not name.isprintable():
        raise UsageError(f"--name has at most {MAX_TEXT} printable characters.")
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
def product_add(
    file: Annotated[Path, Parameter(help="The product's TOML file.")], /, *, json: Json = False
) -> None:
    """Add a product from its TOML file, or a new version of one."""
    from volact.authority import productfile

    with file.open("rb") as opened_file:
        claims = productfile.read_bytes(opened_file.read(productfile.MOST_BYTES + 1))
    with desk.office() as (opened, office):
        claims["url"] = claims["url"] or opened.keyring.publisher.url
        prd, ver, written = office.add_product(claims, opened.tls_digests())
    Console(json=json).answer(
        {"product": prd, "version": ver, "added": written},
        f"{prd} version {ver}" + ("" if written else ": nothing has changed"),
    )


@_product.command(name="list")
def product_list(*, json: Json = False) -> None:
    """List the products."""
    with desk.office() as (_, office):
        found = office.products()
    commands.show(
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
                "changed": commands.when(one["iat"]),
            }
            for one in found
        ],
        [(one["sub"], one["name"], one["edition"], one["ver"], one["url"]) for one in found],
        ("product", "name", "edition", "version", "url"),
        "There are no products. Add one: volact authority product add FILE.toml",
    )


@_product.command(name="export")
def product_export(
    prd: Annotated[str, Parameter(name="ID", help="The product's id.")],
    /,
    *,
    output: Annotated[Path | None, Parameter(name=("--output", "-o"), help="The file to write.")] = None,
    json: Json = False,
) -> None:
    """Write a product's signed file, which is installed on machines; by default ID.volact-product."""
    with desk.office() as (_, office):
        bundle = office.export_product(prd)
    path = output or Path(f"{prd}.volact-product")
    commands.write(path, bundle + b"\n")
    Console(json=json).answer({"product": prd, "file": str(path)}, f"{path}")


@_customer.command(name="add")
def customer_add(
    name: Annotated[str, Parameter(help="As keys are issued to it.")], /, *, json: Json = False
) -> None:
    """Add a customer."""
    with desk.office() as (_, office):
        cus = office.add_customer(name)
    Console(json=json).answer({"customer": name.strip(), "id": cus}, f"{name.strip()}: {cus}")


@_customer.command(name="list")
def customer_list(*, json: Json = False) -> None:
    """List the customers."""
    with desk.office() as (_, office):
        found = office.customers()
    commands.show(
        Console(json=json),
        [{"customer": one.name, "id": one.cus, "since": commands.when(one.created)} for one in found],
        [(one.name, one.cus, commands.when(one.created)) for one in found],
        ("customer", "id", "since"),
        "There are no customers. Add one: volact authority customer add NAME",
    )


# --- activations ------------------------------------------------------------------------------------------------


def _activation_json(row: Activated) -> dict[str, object]:
    return {
        "activation": row.act,
        "of": row.kind,
        "id": row.id,
        "label": row.label,
        "activated": commands.when(row.created),
        "granted": commands.when(row.granted),
        "times": row.times,
        "blocked": row.blocked or None,
        "returned": None if row.returned is None else commands.when(row.returned),
        "seat_free": None if row.frees is None else commands.when(row.frees),
    }


def _returned(row: Activated) -> str:
    """That it was given back, and when its seat is free, if it is not yet."""
    if row.returned is None:
        return ""
    return "returned" if row.frees is None else f"returned, seat free {commands.when(row.frees)}"


@_activation.command(name="list")
def activation_list(
    *, key: Annotated[str | None, Parameter(help="A key's last group.")] = None, json: Json = False
) -> None:
    """List the activations of machines and KMS hosts, of all keys or of the one with a label."""
    with desk.office() as (_, office):
        found = office.activations(None if key is None else issuing.label_of(key))
    commands.show(
        Console(json=json),
        [_activation_json(row) for row in found],
        [
            (
                row.act,
                row.kind,
                row.id,
                row.label,
                commands.when(row.granted),
                row.times,
                row.blocked or _returned(row),
            )
            for row in found
        ],
        ("activation", "of", "id", "key", "granted", "times", "blocked"),
        "There are no activations yet. Machines ask for them at the address that their product's file names.",
    )


@_activation.command(name="block")
def activation_block(
    act: Annotated[
        str, Parameter(name="ID", help="As `activation list` shows it.", allow_leading_hyphen=True)
    ],
    /,
    *,
    json: Json = False,
) -> None:
    """Block one activation, by the id that `activation list` shows."""
    with desk.office() as (_, office):
        version = office.block_activation(act)
    Console(json=json).answer(
        {"activation": act, "blocked": "all", "status_list": version},
        f"{act}: blocked (status list {version})",
    )


# --- answering --------------------------------------------------------------------------------------------------


@app.command
def serve(
    *,
    listen: str = "",
    json: Json = False,
    pages: Annotated[Any, Parameter(parse=False)] = None,  # noqa: ANN401 - `api.Pages`, which cyclopts cannot read
) -> None:
    """Answer machines over HTTPS until SIGTERM or Ctrl-C.

    Parameters
    ----------
    listen
        HOST:PORT; port 0 is a free one. If it is not given: the setting `listen`, 127.0.0.1:8443 by default.
    """
    from volact.authority import serving

    console = Console(json=json)

    def say(host: str, port: int) -> None:
        commands.say_listening(console, host, port, os.getpid())

    with setup.opened() as opened:
        serving.serve(opened, listen, say, pages)


@app.command
def answer(
    request: Annotated[Path, Parameter(name="REQUEST_FILE", help="What a machine or VAMT wrote.")],
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
    from volact.authority.speed import Speed
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
        speed = Speed(opened.settings)
        authority = serving.authority_of(
            opened, speed, lambda name, fields: console.remark(f"{name}: {', '.join(fields.values())}")
        )
        entries = sent if isinstance(sent, list) else [sent]
        good = iter(authority.answer([(one, orders.BY_FILE) for one in entries if isinstance(one, Sent)]))
        answers = [next(good) if isinstance(one, Sent) else one for one in entries]
    if isinstance(sent, list):
        content = bodies.answers_json(answers)
    elif isinstance(answers[0], Refusal):
        raise Refused(answers[0])
    else:
        content = answers[0]
    commands.write(output, content + b"\n")
    refused = [one for one in answers if isinstance(one, Refusal)]
    console.answer(
        {
            "file": str(output),
            "answered": len(answers) - len(refused),
            "refused": [one.code for one in refused],
        },
        f"{output}: {len(answers) - len(refused)} answered, {len(refused)} refused",
    )
