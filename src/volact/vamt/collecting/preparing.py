"""What machines need so that VAMT can ask them: port, service, account, firewall exception; and scripts for it (V10).

The scripts stand beside this file as they are printed; each says what it does, and Windows' and macOS' that nobody has
tried them there.
"""

from __future__ import annotations

from importlib import resources
from typing import NamedTuple

from volact.vamt.collecting.targets import SSH, SSH_PORT, WINRM, WINRM_TLS_PORT


class Needed(NamedTuple):
    """What one platform's machines need.

    Attributes:
        platform: ``linux``, ``windows`` or ``macos``.
        transport: ``ssh`` or ``winrm``.
        port: TCP port that VAMT connects to.
        service: what must run there.
        account: as whom VAMT asks, and what it may do.
        firewall: the exception.
        trust: how VAMT knows that it is the machine.
        tested: whether this was tried on the real thing.
    """

    platform: str
    transport: str
    port: int
    service: str
    account: str
    firewall: str
    trust: str
    tested: bool


NEEDED: tuple[Needed, ...] = (
    Needed(
        "linux",
        SSH,
        SSH_PORT,
        "OpenSSH's server (Debian: openssh-server), and volact",
        "volact-vamt, without a password; its key may run `volact client status --json` and nothing else",
        f"inbound TCP port {SSH_PORT} from VAMT's machine",
        "its SSH host key, which is pinned before it is asked",
        tested=True,
    ),
    Needed(
        "windows",
        WINRM,
        WINRM_TLS_PORT,
        "WinRM with a listener for HTTPS; volact is not needed",
        'a member of "Remote Management Users" with "Enable Account" and "Remote Enable" on root\\cimv2; read only',
        f"inbound TCP port {WINRM_TLS_PORT} from VAMT's machine",
        "its TLS certificate, from a CA that the group's login names",
        tested=False,
    ),
    Needed(
        "macos",
        SSH,
        SSH_PORT,
        "Remote Login (System Settings, General, Sharing), and volact",
        "one that exists; its key may run `volact client status --json` and nothing else",
        f"inbound TCP port {SSH_PORT} from VAMT's machine",
        "its SSH host key, which is pinned before it is asked",
        tested=False,
    ),
)
_SCRIPTS = {"linux": "prepare-linux.sh", "windows": "prepare-windows.ps1", "macos": "prepare-macos.sh"}


def script(platform: str) -> str:
    """The script for a platform of `NEEDED`."""
    return (resources.files("volact.vamt.collecting") / _SCRIPTS[platform]).read_text(encoding="utf-8")


def prose(needed: Needed) -> str:
    """What is needed, as labelled lines."""
    words = {
        "Port": f"TCP {needed.port}",
        "Service": needed.service,
        "Account": needed.account,
        "Firewall": needed.firewall,
        "Trust": needed.trust,
        "Tested": "yes" if needed.tested else "no: written from the documentation",
        "Script": f"volact vamt prepare --platform {needed.platform} --script > {_SCRIPTS[needed.platform]}",
    }
    lines = [f"  {name + ':':<9} {text}" for name, text in words.items()]
    return "\n".join([f"{needed.platform} ({needed.transport})", *lines])
