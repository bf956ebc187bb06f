"""``volact vamt prepare`` (V10); `volact.vamt.cli` mounts it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Literal

from cyclopts import Parameter

from volact.commands import Json  # noqa: TC001 - the commands are read at run time
from volact.console import Console
from volact.protocol.problems import UsageError
from volact.vamt.collecting import preparing

if TYPE_CHECKING:
    from cyclopts import App

Platform = Annotated[
    Literal["linux", "windows", "macos"] | None, Parameter(help="Only for machines with this system.")
]
Script = Annotated[bool, Parameter(help="Print the platform's script: sh, or PowerShell for Windows.")]


def prepare(*, platform: Platform = None, script: Script = False, json: Json = False) -> None:
    """Show what machines need so that VAMT can ask them: port, service, account, firewall exception.

    Nothing is changed here or there. With --script it prints what makes a machine ready, to be run on that machine.
    """
    out = Console(json=json)
    if script:
        if platform is None:
            raise UsageError("--script needs a platform.", "Add --platform linux, windows or macos.")
        text = preparing.script(platform)
        out.answer({"platform": platform, "script": text}, text)
        return
    needed = [one for one in preparing.NEEDED if platform in (None, one.platform)]
    out.answer([one._asdict() for one in needed], "\n\n".join(preparing.prose(one) for one in needed))


def mount(app: App) -> None:
    """Give `app` the commands of this module."""
    app.command(prepare)
