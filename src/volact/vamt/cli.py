"""VAMT's commands (DESIGN section 5). They open VAMT's store directly; only `discover`, `collect` and the like call out.

Every command takes ``--json`` and is done as a key administrator who has the name of the user of the machine.
"""

from __future__ import annotations

from pathlib import Path  # noqa: TC003 - cyclopts reads the annotations
from typing import Annotated

from cyclopts import Parameter

from volact import commands
from volact.commands import Json  # noqa: TC001 - cyclopts reads the annotations
from volact.console import Console, root_argument
from volact.protocol.documents import MAX_TEXT
from volact.protocol.problems import UsageError
from volact.protocol.trust import MAX_BUNDLE
from volact.vamt import (
    actioncommands,
    advicecommands,
    collectcommands,
    desk,
    exportcommands,
    groupcommands,
    keycommands,
    logincommands,
    machinecommands,
    peoplecommands,
    proxycommands,
    queuecommands,
    servecommand,
    setup,
)
from volact.vamt.collecting import cli as collecting
from volact.vamt.discovering import cli as discovering

app = commands.role(
    "vamt", "The enterprise's management tool: find machines, know their licences, activate them."
)
_publisher = commands.group("publisher", "Publishers whose products are managed here.")
for _group in (
    _publisher,
    discovering.app,
    logincommands.app,
    machinecommands.app,
    keycommands.app,
    groupcommands.app,
    groupcommands.views,
    peoplecommands.app,
    peoplecommands.tokens,
    actioncommands.app,
    queuecommands.app,
    queuecommands.schedules,
):
    app.command(_group)
for _command in (
    logincommands.seal,
    collectcommands.collect,
    peoplecommands.log,
    exportcommands.export,
    advicecommands.advise,
    actioncommands.install_key,
    actioncommands.remove_key,
    actioncommands.set_host,
    actioncommands.deactivate,
    actioncommands.refresh_status,
    proxycommands.acquire,
    proxycommands.apply,
    proxycommands.trust,
    proxycommands.lists,
    proxycommands.receipt,
    servecommand.serve,
):
    app.command(_command)
app.command(proxycommands.import_, name="import")
app.command(actioncommands.activate_, name="activate")
collecting.mount(app)


def main(arguments: list[str]) -> int:
    """Run a command and say its exit code."""
    return commands.main(app, arguments)


@app.command
def init(
    *, name: Annotated[str, Parameter(help="What this VAMT is called.")] = "", json: Json = False
) -> None:
    """Set up VAMT on this machine, as an ordinary user: its key, its certificate, its store."""
    if len(name) > MAX_TEXT or not name.isprintable():
        raise UsageError(f"--name has at most {MAX_TEXT} printable characters.")
    fingerprint = setup.initialise(name or "VAMT")
    folder = setup.folder()
    Console(json=json).answer(
        {"fingerprint": fingerprint, "folder": str(folder)},
        f"fingerprint: {fingerprint}\n\nAnother VAMT knows the lists of this one by it: `volact vamt trust`.\n"
        "Next: volact vamt publisher add FILE --root ROOT",
    )


@_publisher.command(name="add")
def publisher_add(
    *files: Annotated[Path, Parameter(name="FILE", help="Signed product files, ID.volact-product.")],
    root: Annotated[
        str,
        Parameter(
            help="The publisher: the id that `authority init` prints, or its root document's file.",
            allow_leading_hyphen=True,
        ),
    ],
    name: Annotated[str, Parameter(help="What the publisher is called here.")] = "",
    json: Json = False,
) -> None:
    """Let VAMT know a publisher's products by their signed files, or newer versions of them."""
    if not files:
        raise UsageError("Name a signed product file, ID.volact-product.")
    if len(name) > MAX_TEXT or not name.isprintable():
        raise UsageError(f"--name has at most {MAX_TEXT} printable characters.")
    pub, _ = root_argument(root)
    contents = {str(file): commands.read(file, MAX_BUNDLE) for file in files}
    with desk.desk() as at:
        found = at.vamt.publishers.add_all(at.person, contents, pub, name)
    Console(json=json).answer(
        [
            {"publisher": one.pub, "product": one.product, "version": one.version, "added": one.added}
            for one in found
        ],
        "\n".join(
            f"{one.product} version {one.version}" + ("" if one.added else ": nothing has changed")
            for one in found
        )
        + "\nNext: volact vamt discover --help",
    )


@_publisher.command(name="list")
def publisher_list(*, json: Json = False) -> None:
    """List the publishers and their products."""
    with desk.desk() as at:
        found = at.vamt.publishers.list(at.person)
    commands.show(
        Console(json=json),
        [
            {
                "publisher": one.pub,
                "name": one.name,
                "lab": one.lab,
                "url": one.url or None,
                "products": [
                    {"product": each.prd, "name": each.name, "edition": each.edition, "version": each.ver}
                    for each in products
                ],
            }
            for one, products in found
        ],
        [
            (one.name, each.prd, each.name, each.edition, each.ver, one.url)
            for one, products in found
            for each in products
        ],
        ("publisher", "product", "name", "edition", "version", "authority"),
        "No publisher is known. Add one by a product file: volact vamt publisher add FILE --root ROOT",
    )
