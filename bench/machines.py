"""Machines that stand in for real ones in section h: so many SSH servers in this process, each at an address of its own.

    machines.py FOLDER COUNT PORT [--bad]

Each has a host key of its own, lets one user in by one key, and answers ``client status --json`` as a client would. With
``--bad`` 16 of them are as RELIABILITY F45 has them: one hangs, five refuse the connection and five the key, five print
what is no answer. What it made is in FOLDER: the user's key, known_hosts. It says ``ready`` and goes when it is told to.
"""

from __future__ import annotations

import argparse
import asyncio
import sys
from pathlib import Path
from typing import Any

import asyncssh

sys.path.insert(0, str(Path(__file__).parent.parent / "tests"))

from vamt.collecting.standins import floods, hangs, product, says, status
from volact.protocol import ids

LIES = (
    floods,
    floods,
    says(b"\x1b[2J\x1b]0;owned\x07"),
    says(b'{"products": [' * 9999),
    says(status(name="x\0y", macs=1)),
)
CLOSED, STRANGE = range(1, 6), range(6, 11)


def address(number: int) -> str:
    """Where a machine listens."""
    return f"127.9.{number // 250}.{number % 250 + 1}"


def _answer(number: int, *, bad: bool) -> Any:
    if bad and number == 0:
        return hangs
    if bad and STRANGE.stop <= number < STRANGE.stop + len(LIES):
        return LIES[number - STRANGE.stop]
    own = ids.b64u(number.to_bytes(32, "big"))
    return says(status(f"m{number}", product(cmid=own), identity=own, macs=[f"0200{number:08x}"]))


class _Server(asyncssh.SSHServer):
    def __init__(self, key: asyncssh.SSHKey) -> None:
        self._key = key

    def begin_auth(self, _username: str) -> bool:
        return True

    def public_key_auth_supported(self) -> bool:
        return True

    def validate_public_key(self, _username: str, key: asyncssh.SSHKey) -> bool:
        return key == self._key


async def _serve(folder: Path, count: int, port: int, *, bad: bool) -> None:
    own, other = (asyncssh.generate_private_key("ssh-ed25519") for _ in range(2))
    own.write_private_key(str(folder / "id"))
    (folder / "id").chmod(0o600)
    lines = []
    for number in range(count):
        host_key = asyncssh.generate_private_key("ssh-ed25519")
        shown = " ".join(host_key.export_public_key("openssh").decode().split()[:2])
        lines.append(f"[{address(number)}]:{port} {shown}\n")
        if bad and number in CLOSED:
            continue
        answer = _answer(number, bad=bad)

        async def handle(process: Any, answer: Any = answer) -> None:
            waiting = answer(process)
            if waiting is not None:
                await waiting

        wanted = (other if bad and number in STRANGE else own).convert_to_public()
        await asyncssh.create_server(
            lambda wanted=wanted: _Server(wanted), address(number), port, server_host_keys=[host_key],
            process_factory=handle, encoding=None, gss_host=None,
        )  # fmt: skip
    (folder / "known_hosts").write_text("".join(lines))
    print("ready", flush=True)
    await asyncio.get_running_loop().run_in_executor(None, sys.stdin.readline)


def main() -> None:
    """Serve until standard input ends."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("count", type=int)
    parser.add_argument("port", type=int)
    parser.add_argument("--bad", action="store_true")
    options = parser.parse_args()
    asyncio.run(_serve(options.folder, options.count, options.port, bad=options.bad))


if __name__ == "__main__":
    main()
