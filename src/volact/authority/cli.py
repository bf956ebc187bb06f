"""The publisher's commands (DESIGN section 5). They open the authority's store directly, never the network.

Every command takes ``--json``. A product key is shown once, when it is issued, and nowhere else.
"""

from __future__ import annotations

import os
import re
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import msgspec
from cyclopts import App, CycloptsError, Parameter

from volact.authority import desk, issuing, orders, setup
from volact.authority.desk import Json  # noqa: TC001 - cyclopts reads the annotations
from volact.console import DONE, USAGE, Console, run
from volact.protocol.documents import MAX_TEXT
from volact.protocol.problems import Refusal, Refused, UsageError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from volact.authority.records import Activated

app = App(
    name="volact authority",
    help="The publisher's licensing site: products, customers, keys, activations.",
    version_flags=[],
    usage="Usage: volact authority COMMAND ... [--json]",
    default_parameter=desk.PLAIN,
)
_product = desk.group("product", "Products: their policy, and the signed file that goes with them.")
_customer = desk.group("customer", "Customers: whom keys are issued to.")
_activation = desk.group("activation", "Activations of machines and KMS hosts.")
for _group in (_product, _customer, issuing.app, _activation):
    app.command(_group)

_HELP = ("--help", "-h")
# Groups of a key that was given as several words; the console sees to whole ones.
_GROUPS = re.compile(r"[0-9A-Za-z]{5}(?:['\",\s]+[0-9A-Za-z]{5}){2,}")


def main(arguments: list[str]) -> int:
    """Run a command and say its exit code."""
    # Also `--json=true`, which cyclopts takes.
    console = Console(json=any(word.split("=")[0] == "--json" for word in arguments))
    if not arguments:
        app.help_print([])
        return USAGE
    return run(console, lambda: _call(console, arguments))


def _call(console: Console, arguments: list[str]) -> int:
    if not all(word.isascii() or _is_text(word) for word in arguments):
        raise UsageError("An argument is not UTF-8 text.")
    if console.json and any(word in _HELP for word in arguments):
        console.answer({"help": _help_text(arguments)}, "")
        return DONE
    try:
        if not [word for word in arguments if word.split("=")[0] != "--json"]:
            raise UsageError("There is no command.")
        done = app(arguments, exit_on_error=False, print_error=False, result_action="return_value")
    except CycloptsError as error:
        # Its own text repeats what was typed, which may be a key.
        raise UsageError(_without_input(error, arguments)) from None
    return done if isinstance(done, int) else DONE


def _is_text(word: str) -> bool:
    try:
        word.encode("utf-8")
    except UnicodeEncodeError:
        return False
    return True


def _help_text(arguments: Sequence[str]) -> str:
    """What --help prints, as a text."""
    import io

    from rich.console import Console as Terminal

    text = io.StringIO()
    words = [word for word in arguments if word not in _HELP and word.split("=")[0] != "--json"]
    try:
        app.help_print(words, console=Terminal(file=text, width=100))
    except CycloptsError as error:
        raise UsageError(_without_input(error, arguments)) from None
    return text.getvalue()


def _without_input(error: CycloptsError, arguments: Sequence[str]) -> str:
    text = " ".join(str(error).split())
    for word in sorted(arguments, key=len, reverse=True):
        if len(word.replace("-", "")) > 20:  # noqa: PLR2004 - nothing of ours is so long, and keys are 25
            text = text.replace(word, "…")
    return _GROUPS.sub("…", text)


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
    desk.show(
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
                "changed": desk.when(one["iat"]),
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
    desk.write(path, bundle + b"\n")
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
    desk.show(
        Console(json=json),
        [{"customer": one.name, "id": one.cus, "since": desk.when(one.created)} for one in found],
        [(one.name, one.cus, desk.when(one.created)) for one in found],
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
        "activated": desk.when(row.created),
        "granted": desk.when(row.granted),
        "times": row.times,
        "blocked": row.blocked or None,
    }


@_activation.command(name="list")
def activation_list(
    *, key: Annotated[str | None, Parameter(help="A key's last group.")] = None, json: Json = False
) -> None:
    """List the activations of machines and KMS hosts, of all keys or of the one with a label."""
    with desk.office() as (_, office):
        found = office.activations(None if key is None else issuing.label_of(key))
    desk.show(
        Console(json=json),
        [_activation_json(row) for row in found],
        [
            (row.act, row.kind, row.id, row.label, desk.when(row.granted), row.times, row.blocked)
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
def serve(*, listen: str = "", json: Json = False) -> None:
    """Answer machines over HTTPS until SIGTERM or Ctrl-C.

    Parameters
    ----------
    listen
        HOST:PORT; port 0 is a free one. If it is not given: the setting `listen`, 127.0.0.1:8443 by default.
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
    desk.write(output, content + b"\n")
    refused = [one for one in answers if isinstance(one, Refusal)]
    console.answer(
        {
            "file": str(output),
            "answered": len(answers) - len(refused),
            "refused": [one.code for one in refused],
        },
        f"{output}: {len(answers) - len(refused)} answered, {len(refused)} refused",
    )
