"""``volact vamt login`` and ``volact vamt seal``: as whom machines are asked, and what keeps that secret (V2, T28).

A password, a private key or a passphrase is read from a file or standard input, never from an argument.
"""

from __future__ import annotations

import json as jsonlib
import os
from pathlib import Path  # noqa: TC003 - cyclopts reads the annotations
from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter

from volact import commands
from volact.commands import Json  # noqa: TC001 - as above
from volact.console import Console, credential_argument, refuse_exposed, secret_argument
from volact.protocol.problems import Refusal, Refused, UsageError
from volact.vamt import desk, sealing
from volact.vamt.collecting.targets import COMMAND, SSH_PORT, Jump, Login
from volact.vamt.discovering import names

if TYPE_CHECKING:
    from volact.vamt.desk import Desk
    from volact.vamt.sealing import Sealer

app = commands.group("login", "Logins: as whom the machines of each group are asked.")
Passphrase = Annotated[
    str | None,
    Parameter(
        help="The seal's passphrase: @FILE or - (standard input); else it is asked for.",
        allow_leading_hyphen=True,
    ),
]
_Group = Annotated[
    str, Parameter(help="The group; without it the login of all other machines.", allow_leading_hyphen=True)
]
_MOST_SECRET = 64 * 1024
_AGENT = "SSH_AUTH_SOCK"


@app.command(name="set")
def set_(
    *,
    group: _Group = "",
    user: Annotated[
        str, Parameter(help="The account; for Windows user@domain.", allow_leading_hyphen=True)
    ] = "",
    password: Annotated[
        str, Parameter(help="Its password: @FILE or - (standard input).", allow_leading_hyphen=True)
    ] = "",
    key: Annotated[Path | None, Parameter(help="A private SSH key that is sealed into VAMT's store.")] = None,
    key_file: Annotated[Path | None, Parameter(help="A private SSH key that stays in its file.")] = None,
    key_passphrase: Annotated[
        str, Parameter(help="The key's passphrase: @FILE or -.", allow_leading_hyphen=True)
    ] = "",
    certificate: Annotated[Path | None, Parameter(help="An OpenSSH certificate for the key.")] = None,
    agent: Annotated[bool, Parameter(help=f"Ask the SSH agent at {_AGENT}.")] = False,
    ca: Annotated[Path | None, Parameter(help="WinRM: the CA of the machines' certificates (PEM).")] = None,
    plain: Annotated[
        bool,
        Parameter(
            help="UNSAFE: WinRM without TLS. Messages are encrypted, but whose machine it is nobody proves."
        ),
    ] = False,
    jump: Annotated[str, Parameter(help="Reach the machines through this one: [USER@]HOST[:PORT].")] = "",
    jump_host_key: Annotated[str, Parameter(help="Its host key: @FILE, or 'ssh-ed25519 AAAA...'.")] = "",
    command: Annotated[str, Parameter(help="How volact is called there, if not by `volact`.")] = "",
    passphrase: Passphrase = None,
    json: Json = False,
) -> None:
    """Set as whom the machines of a group are asked."""
    found = Login(
        user=user,
        password=credential_argument(password, "--password"),
        key=_private(key),
        passphrase=credential_argument(key_passphrase, "--key-passphrase"),
        key_file=str(key_file.absolute()) if key_file else "",
        certificate=_text(certificate).strip(),
        agent=_agent() if agent else "",
        ca=_text(ca),
        plain=plain,
        command=tuple(command.split()) or COMMAND,
    )
    found = found._replace(jump=_jump(jump, jump_host_key, found))
    with desk.desk() as at:
        sealer = unlocked(at, passphrase) if found.password or found.key or found.passphrase else None
        at.vamt.logins.put(at.person, group, found, sealer)
    of = f"group {group}" if group else "all machines without one of their group's"
    Console(json=json).answer(
        {"group": group or None, "account": user or None, "sealed": sealer is not None},
        f"login of {of} is set\nNext: volact vamt collect --all",
    )


@app.command
def show(*, json: Json = False) -> None:
    """Show the logins, without what is secret of them."""
    with desk.desk() as at:
        found = at.vamt.logins.list(at.person)
    commands.show(
        Console(json=json),
        [
            {
                "group": one.group or None,
                "account": one.kept.account or None,
                "kind": one.kept.kind,
                "sealed": bool(one.kept.sealed),
                "options": jsonlib.loads(one.kept.options),
                "made": commands.when(one.made),
            }
            for one in found
        ],
        [
            (one.group or "(others)", one.kept.account, one.kept.kind, "sealed" if one.kept.sealed else "")
            for one in found
        ],
        ("group", "account", "proved by", ""),
        "There is no login. Set one: volact vamt login set --user NAME --key-file FILE",
    )


@app.command
def remove(*, group: _Group = "", json: Json = False) -> None:
    """Forget the login of a group, or the one of all other machines."""
    with desk.desk() as at:
        at.vamt.logins.remove(at.person, group)
    Console(json=json).answer({"removed": group or None}, "removed")


def seal(
    *,
    passphrase: Annotated[
        str | None,
        Parameter(
            help="The passphrase, at least 8 characters: @FILE or - (standard input); with --change the present one.",
            allow_leading_hyphen=True,
        ),
    ] = None,
    keyring: Annotated[bool, Parameter(help="Let the system's keyring keep the seal's key instead.")] = False,
    change: Annotated[
        bool, Parameter(help="Seal by another passphrase, or by the keyring, from now on.")
    ] = False,
    new_passphrase: Annotated[
        str | None,
        Parameter(
            help="With --change, the new one: @FILE or -; else it is asked for.", allow_leading_hyphen=True
        ),
    ] = None,
    json: Json = False,
) -> None:
    """Make the seal under which VAMT keeps passwords, private keys and product keys; or change what opens it."""
    if new_passphrase is not None and not change:
        raise UsageError("--new-passphrase goes with --change.")
    if keyring and (new_passphrase if change else passphrase) is not None:
        raise UsageError(f"Give either {'--new-passphrase' if change else '--passphrase'} or --keyring.")
    kind = "keyring" if keyring else "passphrase"
    with desk.desk() as at:
        folder, environ = at.opened.folder, at.opened.environ
        if change:
            sealer = unlocked(at, passphrase)
            words = None if keyring else sealing.new_passphrase(new_passphrase, {})
            with at.vamt.office.acting(at.person, "change-credentials", {"seal": kind, "change": True}):
                sealing.change(folder, sealer, words)
        else:
            if sealing.is_set_up(folder):
                raise Refused(Refusal("already-exists", "VAMT has a seal; --change changes what opens it."))
            words = None if keyring else sealing.new_passphrase(passphrase, environ)
            with at.vamt.office.acting(at.person, "change-credentials", {"seal": kind}):
                sealing.set_up(folder, words)
    kept = (
        "the system's keyring" if keyring else "the passphrase; without it nothing that is sealed can be used"
    )
    more = "" if change else "\nNext: volact vamt login set --help"
    Console(json=json).answer({"seal": kind}, f"sealed by {kept}{more}")


def unlocked(at: Desk, passphrase: str | None) -> Sealer:
    """The sealer, with the passphrase asked for if one is needed.

    Raises:
        Refused: `not-set-up`, `passphrase-wrong`, `passphrase-missing`, `keyring-unavailable`.
    """
    environ = at.opened.environ
    return sealing.unlock(at.opened.folder, lambda: sealing.passphrase_argument(passphrase, environ))


def _private(path: Path | None) -> str:
    if path is not None:
        refuse_exposed(str(path))
    return _text(path)


def _text(path: Path | None) -> str:
    if path is None:
        return ""
    return commands.read(path, _MOST_SECRET)[:_MOST_SECRET].decode("utf-8", "replace")


def _agent() -> str:
    found = os.environ.get(_AGENT, "")
    if not found:
        raise UsageError(f"No SSH agent runs here: {_AGENT} is not set.", "Start one, or give a key.")
    return found


def _jump(text: str, host_key: str, login: Login) -> Jump | None:
    """The machine between, with the same `login` but for the account, if one is named."""
    if not text:
        if host_key:
            raise UsageError("--jump-host-key is the host key of --jump.")
        return None
    user, _, place = text.rpartition("@")
    host, _, port = place.partition(":") if place.count(":") == 1 else (place.strip("[]"), "", "")
    if not (names.host(host) or names.address(host)) or (port and not port.isdecimal()):
        raise UsageError(f"{names.shown(text)} is no [USER@]HOST[:PORT].")
    keys = secret_argument(host_key) if host_key.startswith("@") else host_key
    own = login._replace(user=user, command=COMMAND) if user else None
    return Jump(host, int(port) if port else SSH_PORT, (keys.strip(),) if keys else (), own)
