"""The command ``volact``: looks at the first word, then imports that role and nothing else.

A machine with only the client installed has no server libraries; the other words name the extra to install.
"""

from __future__ import annotations

import importlib
import sys
from typing import NamedTuple

from volact import __version__
from volact.console import DONE, USAGE, Console
from volact.protocol.problems import Refusal


class Role(NamedTuple):
    """A first word.

    Attributes:
        module: whose `main(arguments)` it runs.
        extra: what it needs.
        help: one line.
        pages: the module whose `pages` its service shows to people, handed to `main` as a value; empty without.
    """

    module: str
    extra: str
    help: str
    pages: str = ""


ROLES = {
    "client": Role("volact.client.cli", "", "the licensed machine: install, activate, status"),
    "authority": Role(
        "volact.authority.cli",
        "server",
        "the publisher's licensing site: products, keys, serve",
        "volact.web.phone",
    ),
    "lab": Role("volact.lab.cli", "server", "made-up machines by the thousand, and rule K8 as a story"),
    "kmshost": Role(
        "volact.kmshost.cli", "server", "the enterprise's activation host: activate, serve, status"
    ),
    "vamt": Role(
        "volact.vamt.cli", "vamt", "the enterprise's management tool: find, collect, activate machines"
    ),
    "slmgr": Role("volact.slmgr", "", "the classic switches, here or on a machine of VAMT's: see `slmgr /?`"),
    "doctor": Role("volact.doctor.cli", "", "what is wrong here, and what to do: host, client, DNS"),
    "completion": Role("volact.completion", "", "shell completion: see `volact completion --help`"),
    "quickstart": Role(
        "volact.quickstart", "server", "see it work: authority, KMS host and thirty machines on this one"
    ),
}


def usage() -> str:
    """What ``volact`` says without a word that it knows."""
    lines = [
        f"volact {__version__}: volume activation, self-hosted",
        "",
        "usage: volact ROLE COMMAND ... [--json]",
        "",
    ]
    lines += [f"  {name:<11} {role.help}" for name, role in ROLES.items()]
    lines += [
        "",
        "`volact ROLE --help` tells more; `slmgr` has the classic switches; exit codes: 0 done, 1 refused,",
    ]
    return "\n".join([*lines, "2 usage, 3 could not reach, 4 broken data."])


def main(arguments: list[str] | None = None) -> int:
    """Run the command line and say its exit code."""
    words = sys.argv[1:] if arguments is None else arguments
    console = Console(json="--json" in words, words=words, known=lambda: ROLES)
    if not words or words[0] in ("-h", "--help", "help"):
        console.answer({"version": __version__, "roles": list(ROLES)}, usage())
        return DONE if words else USAGE
    if words[0] in ("-V", "--version", "version"):
        console.answer({"version": __version__}, __version__)
        return DONE
    role = ROLES.get(words[0])
    if role is None:
        named = "No role is named" if words == ["--json"] else f"There is no role {words[0][:40]!r}"
        return console.refuse(Refusal("usage", f"{named}; roles: {', '.join(ROLES)}."), USAGE)
    try:
        module = importlib.import_module(role.module)
    except ModuleNotFoundError as error:
        if not role.extra or (error.name or "").startswith("volact"):
            raise
        detail = f"`{words[0]}` needs {error.name}: pip install 'volact[{role.extra}]'"
        return console.refuse(Refusal("program-missing", detail), USAGE)
    if role.pages:
        return int(module.main(words[1:], lambda *given: importlib.import_module(role.pages).pages(*given)))
    return int(module.main(words[1:]))
