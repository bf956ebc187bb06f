"""Logins as they are kept: what is open in columns, what is secret sealed (V2, T28).

- The secret part is one sealed text under the record's name; the open part says who and how, so that it can be shown
  without the seal.
- SSH keys, agents' sockets and certificates that stay in their files are named, not copied.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, NamedTuple

import asyncssh

from volact.protocol.problems import BrokenData, Refusal, Refused
from volact.vamt.collecting.targets import COMMAND, SSH_PORT, Jump, Login

if TYPE_CHECKING:
    from volact.vamt.sealing import Sealer

_SECRET = ("password", "key", "passphrase")
_OPEN = ("key_file", "certificate", "agent", "ca", "plain")


class Kept(NamedTuple):
    """A login as a row holds it.

    Attributes:
        kind: how it is proved, for people: ``key``, ``certificate``, ``agent``, ``password``, several joined by ``+``.
        account: the account's name.
        options: the rest of its open part, JSON.
        sealed: its secrets; empty if it has none.
    """

    kind: str
    account: str
    options: str
    sealed: str


def keep(name: str, login: Login, sealer: Sealer | None) -> Kept:
    """A login as it is kept under the name of its record; `sealer` may be None if nothing in it is secret.

    Raises:
        Refused: `login-unusable` if it proves nothing, or its key cannot be read with its passphrase; `not-set-up` if
            there is a secret and no seal.
    """
    _check(login)
    own = _parts(login, _OPEN)
    secret: dict[str, Any] = _parts(login, _SECRET)
    if login.command != COMMAND:
        own["command"] = list(login.command)
    if login.jump:
        jump = login.jump
        own["jump"] = {"host": jump.host, "port": jump.port, "host_keys": list(jump.host_keys)}
        if jump.login:
            _check(jump.login)
            own["jump"].update(user=jump.login.user, **_parts(jump.login, _OPEN))
            secret["jump"] = _parts(jump.login, _SECRET)
    if any(secret.values()) and sealer is None:
        raise Refused(Refusal("not-set-up", "VAMT has no seal yet; `volact vamt seal` makes one."))
    sealed = sealer.seal(name, json.dumps(secret).encode()) if sealer and any(secret.values()) else ""
    return Kept(_kind(login), login.user, json.dumps(own, sort_keys=True), sealed)


def is_sealed(kept: Kept) -> bool:
    """Whether the seal is needed to use it."""
    return bool(kept.sealed)


def login(name: str, kept: Kept, sealer: Sealer | None) -> Login:
    """The login that is kept.

    Raises:
        BrokenData: if it is damaged.
    """
    try:
        own = json.loads(kept.options)
        secret = json.loads(sealer.open(name, kept.sealed)) if kept.sealed and sealer else {}
        jump = own.pop("jump", None)
        command = tuple(own.pop("command", COMMAND))
        through = secret.pop("jump", {})
        found = Login(user=kept.account, command=command, **own, **secret)
        if jump is not None:
            place = (jump.pop("host"), jump.pop("port", SSH_PORT), tuple(jump.pop("host_keys", ())))
            found = found._replace(jump=Jump(*place, Login(**jump, **through) if jump or through else None))
    except (ValueError, TypeError, KeyError, AttributeError):
        raise BrokenData(f"The login {name!r} is damaged.") from None
    if kept.sealed and sealer is None:
        raise Refused(Refusal("passphrase-missing", f"The login {name!r} is sealed."))
    return found


def _parts(login: Login, names: tuple[str, ...]) -> dict[str, Any]:
    return {name: getattr(login, name) for name in names if getattr(login, name)}


def _kind(login: Login) -> str:
    kinds = {
        "certificate": login.certificate,
        "key": (login.key or login.key_file) and not login.certificate,
        "agent": login.agent,
        "password": login.password,
    }
    return "+".join(name for name, is_set in kinds.items() if is_set)


def _check(login: Login) -> None:
    """Refuse what could never let anybody in; the key itself is not shown."""
    if not _kind(login):
        raise Refused(
            Refusal(
                "login-unusable", "It names no key, certificate, agent or password: nothing would prove it."
            )
        )
    if login.certificate and not (login.key or login.key_file):
        raise Refused(Refusal("login-unusable", "A certificate needs the key that it is for."))
    try:
        if login.key:
            asyncssh.import_private_key(login.key, login.passphrase or None)
        if login.certificate:
            asyncssh.import_certificate(login.certificate)
    except (asyncssh.KeyImportError, asyncssh.KeyEncryptionError) as error:
        raise Refused(Refusal("login-unusable", f"Its key or certificate: {error}.")) from None
