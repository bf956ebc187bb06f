"""``volact vamt serve``: the HTTPS API, and what is due beside it (V6)."""

from __future__ import annotations

import os
from typing import Annotated

from cyclopts import Parameter

from volact import commands
from volact.commands import Json  # noqa: TC001 - cyclopts reads the annotations
from volact.console import Console
from volact.vamt import sealing, setup
from volact.vamt.logincommands import Passphrase  # noqa: TC001 - as above


def serve(
    *,
    listen: Annotated[
        str, Parameter(help="HOST:PORT; port 0 is a free one. By default the setting listen, 127.0.0.1:1689.")
    ] = "",
    port: Annotated[
        int | None, commands.WHOLE, Parameter(help="Only the port, in place of the setting's.")
    ] = None,
    passphrase: Passphrase = None,
    json: Json = False,
) -> None:
    """Serve the API over HTTPS until SIGTERM or Ctrl-C. Who calls it brings a token: `volact vamt token add`.

    Without the passphrase of VAMT's seal the service does what needs no sealed login or key.
    """
    from volact.vamt import serving  # noqa: PLC0415 - Litestar: a second of imports for this command alone

    console = Console(json=json)

    def say(host: str, where: int) -> None:
        commands.say_listening(console, host, where, os.getpid())

    with setup.opened() as opened:
        serving.serve(opened, serving.place(opened, listen, port), _sealer(opened, passphrase), say)


def _sealer(opened: setup.Opened, passphrase: str | None) -> sealing.Sealer | None:
    """What opens what is sealed; None if no passphrase was given, or nothing was ever sealed.

    Raises:
        Refused: `passphrase-wrong`, so that it is found at the start and not in the night.
    """
    given = passphrase is not None or sealing.PASSPHRASE_FILE in opened.environ
    if not given or (passphrase is None and not sealing.is_set_up(opened.folder)):
        return None
    return sealing.unlock(opened.folder, lambda: sealing.passphrase_argument(passphrase, opened.environ))
