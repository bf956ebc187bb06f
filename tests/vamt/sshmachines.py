"""Machines of a laboratory behind real SSH servers: on each the real client, with hardware and a home of its own.

    with machines(folder, authority, 3) as found:
        found[0].sshd.target, found[0].status()

All let the same key in. A machine's home is the first one's, copied: with the authority's product installed in it.
"""

from __future__ import annotations

import json
import os
import shutil
import sys
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, Any

import inprocess
from sshd import Sshd
from world import facts

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from authority_process import Home

COMMAND = (sys.executable, "-m", "volact")


class SshMachine:
    """A machine with a client, and the server by which it is reached."""

    def __init__(self, folder: Path, number: int) -> None:
        self.name = f"pc{number:02d}"
        self.folder = folder / self.name
        self.folder.mkdir()
        self.home = self.folder / "home"
        parts = facts(10_000 + number)
        (self.folder / "facts.json").write_text(json.dumps({**parts, "name": f"{self.name}.corp.example"}))
        home, hardware = str(self.home), str(self.folder / "facts.json")
        self.environ = {
            **{name: value for name, value in os.environ.items() if not name.startswith("VOLACT_")},
            "VOLACT_HOME": home,
            "VOLACT_MACHINE_FACTS": hardware,
        }
        self.sshd = Sshd(self.folder / "sshd", VOLACT_HOME=home, VOLACT_MACHINE_FACTS=hardware)

    def run(self, *words: str, code: int = 0) -> Any:
        """A client's command on this machine, by hand."""
        done = inprocess.run("volact", "client", *words, "--json", environ=self.environ)
        assert done.code == code, (words, done)
        return json.loads(done.out)

    def status(self) -> tuple[int, str | None, str | None]:
        """State, channel and the key's label of the one product."""
        (row,) = self.run("status")["products"]
        return row["state"], row["channel"], row["partial_key"]


@contextmanager
def machines(folder: Path, authority: Home, count: int) -> Iterator[list[SshMachine]]:
    """So many machines with the authority's product; their servers run."""
    made = [SshMachine(folder, number) for number in range(count)]
    product = folder / "product"
    product.write_text(json.dumps(authority.product))
    made[0].run("install", str(product), "--root", authority.pub)
    for one in made[1:]:
        shutil.copytree(made[0].home, one.home)
    with ExitStack() as stack:
        for one in made:
            stack.enter_context(one.sshd)
            one.sshd.let_in((made[0].sshd.folder / "user_key.pub").read_text().strip())
        yield made


def known(place: Any, found: list[SshMachine]) -> None:
    """Let a VAMT, by its commands, know machines, their host keys, and who is let in."""
    key = found[0].folder / "login_key"
    shutil.copy(found[0].sshd.folder / "user_key", key)
    place.run(
        *("login", "set", "--user", found[0].sshd.login.user, "--key-file", str(key)),
        *("--command", " ".join(COMMAND)),
    )
    for one in found:
        place.run("machine", "add", one.name, "--address", "127.0.0.1", "--port", str(one.sshd.port))
        place.run("machine", "trust", one.name, "--host-key", one.sshd.host_key)
