"""The KMS host's commands (DESIGN section 5). They open the host's store directly; `activate` and `extend` call out.

Every command takes ``--json``. A product key is never repeated: its last group stands for it.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, NamedTuple
from urllib.parse import urlsplit

from cyclopts import Parameter

from volact import commands
from volact.commands import WHOLE, Json
from volact.console import DONE, REFUSED, Console, secret_argument
from volact.kmshost import activating, answers, placing, reporting, setup
from volact.protocol import policy
from volact.protocol.jws import MAX_INTEGER
from volact.protocol.problems import Refusal, Refused, UsageError

if TYPE_CHECKING:
    from volact.kmshost.activating import Activated

app = commands.role(
    "kmshost", "The enterprise's activation host: machines activate here, once enough of them call."
)

_product = commands.group("product", "Products: the signed files that the publisher gives out.")
app.command(_product)

_Authority = Annotated[
    str | None, Parameter(help="The authority's address; by default the one in the product file.")
]
_RequestFile = Annotated[
    Path | None, Parameter(help="Write the request to this file instead, for a way without a network.")
]
_ResponseFile = Annotated[Path | None, Parameter(help="Put the answer in this file into force.")]


_MOST_LIST = 64 * 1024 * 1024


def main(arguments: list[str]) -> int:
    """Run a command and say its exit code."""
    return commands.main(app, arguments)


# --- setting up -------------------------------------------------------------------------------------------------


@app.command
def init(
    *files: Annotated[Path, Parameter(name="FILE", help="Signed product files, ID.volact-product.")],
    root: Annotated[
        str,
        Parameter(
            help="The publisher: the id that `authority init` prints, or its root document's file.",
            allow_leading_hyphen=True,
        ),
    ],
    json: Json = False,
) -> None:
    """Set up a KMS host of one publisher: its key, its certificate, its store.

    With product files it knows the authority's address and key from the start.
    """
    made = setup.initialise(root, files)
    folder = setup.folder()
    known = ", ".join(made.products) or "none yet; they come with the activation"
    joined = "\nIt shares the count of the hosts that the database holds already." if made.joined else ""
    Console(json=json).answer(
        {
            "publisher": made.pub,
            "host": made.host,
            "folder": str(folder),
            "products": list(made.products),
            "joined": made.joined,
        },
        f"host: {made.host}\nproducts: {known}{joined}\nNext: volact kmshost install-key KEY",
    )


@_product.command(name="add")
def product_add(
    *files: Annotated[Path, Parameter(name="FILE", help="Signed product files, ID.volact-product.")],
    json: Json = False,
) -> None:
    """Let a host that is set up know a product, or a newer version of one.

    From then on a key of that product can be installed. What the host serves is decided by its delegation: `activate`
    with such a key brings the product into it.
    """
    if not files:
        raise UsageError("Name a signed product file, ID.volact-product.")
    with setup.opened() as opened:
        found = setup.teach(opened, files)
    more = "Next, for what is not served: volact kmshost install-key KEY, then volact kmshost activate"
    lines = [
        f"{one.product} version {one.version}"
        + ("" if one.added else ": nothing has changed")
        + ("" if one.served else ": not served")
        for one in found
    ]
    Console(json=json).answer(
        [one._asdict() for one in found],
        "\n".join(lines if all(one.served for one in found) else [*lines, more]),
    )


@app.command
def install_key(
    key: Annotated[
        str,
        Parameter(name="KEY", help="A KMS host key; - (standard input) or @FILE.", allow_leading_hyphen=True),
    ],
    /,
    *,
    product: Annotated[str | None, Parameter(help="The product it is for, where several are known.")] = None,
    json: Json = False,
) -> None:
    """Install the KMS host key; nothing is sent, and only the key pair that it makes is kept."""
    with setup.opened() as opened:
        done = activating.Activating(opened).install_key(secret_argument(key), product)
    replaced = f"\nit replaces ...-{done.replaced}, which was not used" if done.replaced else ""
    Console(json=json).answer(
        {"product": done.product, "partial_key": done.label, "replaced": done.replaced or None},
        f"{done.product}: key ...-{done.label} is installed{replaced}\nNext: volact kmshost activate",
    )


@app.command
def activate(
    *,
    authority: _Authority = None,
    request_file: _RequestFile = None,
    response_file: _ResponseFile = None,
    json: Json = False,
) -> None:
    """Activate this host with its key: online, or by a request and a response file."""
    _ask(activating.HOST, _Way(authority, request_file, response_file), json=json)


@app.command
def extend(
    *,
    authority: _Authority = None,
    request_file: _RequestFile = None,
    response_file: _ResponseFile = None,
    shorten: Annotated[
        bool, Parameter(help="Extend online even if what is held ends later, as one by file does.")
    ] = False,
    json: Json = False,
) -> None:
    """Extend this host's delegation, which also brings new products; it needs no key.

    By file it lasts longer than online.
    """
    _ask(activating.EXTEND, _Way(authority, request_file, response_file, shorten), json=json)


class _Way(NamedTuple):
    """How the authority is asked."""

    authority: str | None
    request_file: Path | None
    response_file: Path | None
    shorten: bool = False


def _ask(op: str, way: _Way, *, json: bool) -> None:
    if sum(one is not None for one in (way.authority, way.request_file, way.response_file)) > 1:
        raise UsageError("Give one of --authority, --request-file and --response-file.")
    if way.authority is not None and not _is_https(way.authority):
        raise UsageError(
            f"{way.authority[:200]!r} is no https address.", "Give https://NAME or https://NAME:PORT."
        )
    console = Console(json=json)
    with setup.opened() as opened:
        work = activating.Activating(opened)
        if way.request_file is not None:
            commands.write(way.request_file, activating.file_content(work.write_request(op)))
            console.answer(
                {"file": str(way.request_file), "host": opened.signer.kid},
                f"{way.request_file}\nNext: the publisher answers it (`volact authority answer`); then"
                f" volact kmshost {_COMMANDS[op]} --response-file FILE",
            )
            return
        if way.response_file is not None:
            done = work.apply(commands.read(way.response_file, answers.MAX_ANSWER))
        else:
            done = work.online(op, way.authority, shorten=way.shorten)
        _say(console, opened.signer.kid, done)


def _is_https(url: str) -> bool:
    try:
        parts = urlsplit(url)
        return parts.scheme == "https" and bool(parts.hostname) and parts.port != 0
    except ValueError:
        return False


_COMMANDS = {activating.HOST: "activate", activating.EXTEND: "extend"}


def _say(console: Console, host: str, done: Activated) -> None:
    until, was = commands.when(done.until), None if done.was is None else commands.when(done.was)
    if done.warning():
        console.remark(f"warning: {done.warning()}")
    console.answer(
        {
            "host": host,
            "activated": True,
            "until": until,
            "products": list(done.products),
            "activation": done.activation,
            "was": was,
        },
        f"activated until {until}{f' (was {was})' if was else ''} for {', '.join(done.products)}",
    )


# --- serving and looking ----------------------------------------------------------------------------------------


@app.command
def serve(*, listen: str = "", json: Json = False) -> None:
    """Answer machines over HTTPS until SIGTERM or Ctrl-C.

    Parameters
    ----------
    listen
        HOST:PORT; port 0 is a free one. If it is not given: the settings `listen` and `port`, port 1688 by default.
    """
    from volact.kmshost import serving

    console = Console(json=json)
    serving.run(listen, lambda host, port: commands.say_listening(console, host, port, os.getpid()))


@app.command
def publish(
    *,
    show: Annotated[
        bool, Parameter(help="Print the records, for entering them by hand; change nothing.")
    ] = False,
    withdraw: Annotated[bool, Parameter(help="Take back what this host has published.")] = False,
    json: Json = False,
) -> int:
    """Publish this host in DNS now, in each domain of the setting `dns_domains`, and say what came of it.

    A running service does so by itself, also at its start, every day, and when something changes.
    """
    from volact.kmshost import dnscommands

    if show and withdraw:
        raise UsageError("Give one of --show and --withdraw.")
    console = Console(json=json)
    with setup.opened() as opened:
        if show:
            records = dnscommands.by_hand(opened)
            nothing = "This machine has no name of its own: set dns_name."
            console.answer({"records": records}, "\n".join(records) or nothing)
            return DONE
        found = (dnscommands.withdraw_now if withdraw else dnscommands.publish_now)(opened)
        if withdraw and dnscommands.is_published_again(opened):
            console.remark("The service that runs publishes again at its next change or day: slmgr /cdns")
    console.answer(dnscommands.members(found), "\n".join(dnscommands.lines(found)) or "Nothing is published.")
    return DONE if all(one.done for one in found) else REFUSED


@app.command
def enrol(
    file: Annotated[
        Path | None, Parameter(name="FILE", help="CMIDs, one a line; what stands behind one is passed over.")
    ] = None,
    /,
    *,
    replace: Annotated[bool, Parameter(help="In place of all that were enrolled before.")] = False,
    json: Json = False,
) -> None:
    """Enrol the machines that count where a product's policy asks for a strong count; without FILE, list them.

    Such a product counts nobody else, so that keys which somebody makes up reach no threshold. A machine's CMID is in
    `volact client status` there, and in `volact kmshost clients` once it has called.
    """
    console = Console(json=json)
    if file is None:
        if replace:
            raise UsageError("--replace needs FILE.")
        with setup.opened() as opened, opened.store.reading() as tx:
            known = placing.enrolled(tx)
        console.answer(known, "\n".join(known) or "No machine is enrolled: volact kmshost enrol FILE")
        return
    cmids = placing.read_list(commands.read(file, _MOST_LIST).decode("utf-8", "replace"), str(file))
    with setup.opened() as opened:
        with opened.store.writing() as tx:
            done = placing.enrol(tx, cmids, opened.clock.now(), alone=replace)
        if not any(one.strong_count for one in opened.policies()):
            console.remark("No product here asks for a strong count: until one does, every machine counts.")
    console.answer(
        {"added": done.added, "removed": done.removed, "enrolled": done.total},
        f"added {done.added}, removed {done.removed}, enrolled now {done.total}",
    )


@app.command(name="firewall")
def show_firewall(
    *,
    apply: Annotated[bool, Parameter(help="Add the rule, if there is none; needs root.")] = False,
    kind: Annotated[
        str | None,
        Parameter(
            name="--for", help="Show the commands for another firewall: firewalld, ufw, nftables, windows."
        ),
    ] = None,
    json: Json = False,
) -> None:
    """Show which rule of this machine's firewall lets machines call the host's port, and how to add or remove it.

    Nothing but that rule is ever touched. The port is that of the service that runs, else the one that is set.
    """
    from volact.kmshost import firewall, listening

    if kind is not None and (apply or kind not in firewall.KINDS):
        known = ", ".join(firewall.KINDS)
        raise UsageError("--for only shows." if apply else f"{kind[:40]!r} is none of {known}.")
    with setup.opened() as opened:
        running = listening.read(opened.folder)
        port = running.port if running else opened.settings.port
    if not port:
        raise UsageError("The port is not known: it is set to 0, and no service runs.", "Start the service.")
    console = Console(json=json)
    if not apply:
        seen = firewall.of_kind(kind, port) if kind else firewall.Firewall().look(port)
        console.answer(firewall.members(seen), firewall.prose(seen))
        return
    done = firewall.Firewall().apply(port)
    if isinstance(done, Refusal):
        raise Refused(done)
    changed = done[0] != done[1]
    console.answer(firewall.members(done[1], changed=changed), firewall.prose(done[1], changed=changed))


@app.command
def status(*, json: Json = False) -> None:
    """Show the host's activation, products, counts, requests and settings."""
    with setup.opened() as opened:
        found = reporting.status(opened)
    Console(json=json).answer(found, reporting.prose(found))


@app.command
def clients(
    *,
    limit: Annotated[int, WHOLE, Parameter(help="At most so many rows, 1 to 100000; by default 100.")] = 100,
    after: Annotated[
        int, WHOLE, Parameter(help="Only rows after this one: the last of the page before.")
    ] = 0,
    json: Json = False,
) -> None:
    """List the machines that count now, in the order in which they called first, a page at a time."""
    if not 1 <= limit <= reporting.MOST_ROWS:
        raise UsageError(f"--limit is 1 to {reporting.MOST_ROWS}.")
    if not 0 <= after <= MAX_INTEGER:
        raise UsageError("--after is the row of a listing.")
    with setup.opened() as opened:
        found = reporting.clients(opened, after, limit)
    commands.show(
        Console(json=json),
        found,
        [[row[name] if row[name] is not None else "" for name in reporting.CLIENT_COLUMNS] for row in found],
        reporting.CLIENT_COLUMNS,
        "No machine has called yet. On a machine: slmgr /skms THIS_HOST, then slmgr /ato"
        if not after
        else "There are no more.",
    )


@app.command
def events(
    *,
    since: Annotated[
        str | None,
        Parameter(help="2h, 30m, 7d, or a time such as 2027-01-31T12:00:00Z.", allow_leading_hyphen=True),
    ] = None,
    limit: Annotated[
        int, WHOLE, Parameter(help="Only the newest so many; 0, the default: all that are kept.")
    ] = 0,
    event: Annotated[int | None, WHOLE, Parameter(help="Only events of this number.")] = None,
    result: Annotated[
        str | None, Parameter(help="Only with this result: ok, or the code of a refusal.")
    ] = None,
    cmid: Annotated[
        str | None, Parameter(help="Only of this machine, by its CMID.", allow_leading_hyphen=True)
    ] = None,
    product: Annotated[str | None, Parameter(help="Only of this product, by its id.")] = None,
    json: Json = False,
) -> None:
    """List what happened, the oldest first; the newest 100,000 events are kept.

    12290 a request was handled, 12291 the service could not start or move, 12293 DNS publishing failed,
    12294 it succeeded, 12295 the count will fall, or holds again. (12288 and 12289, a client sent a request and got
    its answer, are in the clients' own lists: volact client events.)
    """
    if not 0 <= limit <= MAX_INTEGER:
        raise UsageError("--limit is 0, for all that are kept, or a number of events.")
    with setup.opened() as opened:
        found = reporting.events(opened, since, limit, event=event, result=result, cmid=cmid, product=product)
    commands.show(
        Console(json=json),
        found,
        [
            [row.get(name) if row.get(name) is not None else "" for name in reporting.EVENT_COLUMNS]
            for row in found
        ],
        reporting.EVENT_COLUMNS,
        _nothing_happened(since, event or result or cmid or product),
    )


def _nothing_happened(since: str | None, narrowed: object) -> str:
    if narrowed:
        return "No such event is kept."
    return "Nothing has happened" + (" in this time." if since else " yet.")


@app.command
def forecast(
    *,
    days: Annotated[
        int, WHOLE, Parameter(help="How many days to look ahead, 1 to 365; by default 30.")
    ] = policy.FORECAST_DAYS,
    json: Json = False,
) -> None:
    """Say what will be counted in the days to come, and on which day a threshold is lost.

    Two lines: what is certain even if no machine calls any more, and what is expected if those that call go on and
    those that are overdue have left.
    """
    from volact.kmshost import foretelling

    if not 1 <= days <= foretelling.LONGEST:
        raise UsageError(f"--days is 1 to {foretelling.LONGEST}.")
    with setup.opened() as opened:
        found = foretelling.forecast(opened, days)
    Console(json=json).answer(found, foretelling.prose(found))


@app.command(name="clones")
def list_clones(*, json: Json = False) -> None:
    """List the machines that called with another one's identity: copies of an image, and the machine it came from."""
    from volact.kmshost import clones

    with setup.opened() as opened:
        found = clones.images(opened)
    Console(json=json).answer(found, clones.prose(found))
