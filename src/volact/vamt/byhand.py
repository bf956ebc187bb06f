"""What a person says of a machine, by command or API: a name or address, how it is reached, its host keys (V1, T29)."""

from __future__ import annotations

import re

from volact.protocol.problems import UsageError
from volact.vamt.discovering import names
from volact.vamt.inventory import FINGERPRINT, HAND, Sighting

TRANSPORTS = ("ssh", "winrm", "local")
MOST_PORT = 65535
MOST_NOTE = 1000


def sighting(name: str, addresses: tuple[str, ...], port: int | None, transport: str) -> Sighting:
    """A machine as a person tells of it.

    Raises:
        UsageError: naming what is none.
    """
    found = [names.address(one) for one in addresses]
    if None in found:
        raise UsageError(f"{names.shown(addresses[found.index(None)])} is no address of a machine.")
    by_name, by_address = names.host(name), names.address(name)
    if by_name is None and by_address is None:
        raise UsageError(
            f"{names.shown(name)} is no name or address of a machine.",
            "Give web1, web1.example.com or 192.0.2.1.",
        )
    if port is not None and not 0 < port <= MOST_PORT:
        raise UsageError(f"--port is 1 to {MOST_PORT}.")
    if transport and transport not in TRANSPORTS:
        raise UsageError(f"--transport is one of {', '.join(TRANSPORTS)}.")
    known = tuple(one for one in (by_address, *found) if one)
    host = by_name or names.Host("")
    return Sighting(HAND, host.name, host.domain, known, port, transport)


def note(text: str, option: str = "--note") -> str:
    """What is to be remembered.

    Raises:
        UsageError: if it could not be shown.
    """
    if not text.isprintable() or len(text) > MOST_NOTE:
        raise UsageError(f"{option} has at most {MOST_NOTE} printable characters.")
    return text


def fingerprint(text: str) -> str:
    """A host key's SHA-256 fingerprint, as ``ssh-keygen -l`` and a machine's console print it.

    Raises:
        UsageError: if it is none.
    """
    found = text.strip()
    if not re.fullmatch(rf"{FINGERPRINT}[A-Za-z0-9+/]{{42}}[AEIMQUYcgkosw048]", found):
        raise UsageError(
            f"{names.shown(text)} is no SHA-256 fingerprint of a host key.",
            "Run on the machine: ssh-keygen -lf /etc/ssh/ssh_host_ed25519_key.pub",
        )
    return found


def host_key(text: str) -> str:
    """A host key as known_hosts and ``ssh-keyscan`` write it, without a comment; or its fingerprint.

    Raises:
        UsageError: if it is none.
    """
    if text.strip().startswith(FINGERPRINT):
        return fingerprint(text)
    kind, _, rest = text.strip().partition(" ")
    data = rest.split(" ", 1)[0]
    if not re.fullmatch(r"[a-z0-9@.-]{1,60}", kind) or not re.fullmatch(
        r"[A-Za-z0-9+/]{40,16000}={0,2}", data
    ):
        raise UsageError(
            f"{names.shown(text)} is no SSH host key.", "Give it as /etc/ssh/ssh_host_ed25519_key.pub has it."
        )
    return f"{kind} {data}"
