"""Real OpenSSH servers of the tests' own, as RIGS.md says: one foreground sshd for each machine, throw-away keys.

    with Sshd(folder, VOLACT_HOME=...) as machine:
        machine.target, machine.login

Each runs as this user, lets this user in by one key, and gives its sessions the environment that it is made with.
A throw-away user is needed only where this user has no shell or a locked password, which root of a container may have:
the tests then skip (or fail in CI). Tests that use one are marked `sockets`.
"""

import getpass
import os
import shutil
import socket
import subprocess
from pathlib import Path
from typing import Self

from nameservers import free_port
from namespaces import Namespace
from programs import LOOPBACK, TIMEOUT, Program, installed, listens
from volact.vamt.collecting.targets import SSH_PORT, Login, Target

_SEPARATION = Path("/run/sshd")
_CONF = """\
ListenAddress {address}:{port}
HostKey {folder}/host_key
AuthorizedKeysFile {folder}/authorized_keys
PidFile none
UsePAM no
StrictModes no
PasswordAuthentication no
KbdInteractiveAuthentication no
PermitRootLogin prohibit-password
MaxStartups 200
LogLevel VERBOSE
SetEnv {environment}
{more}
"""


class Sshd(Program):
    """A real server; use as a context."""

    def __init__(
        self, folder: Path, *, more: str = "", within: Namespace | None = None, **environ: str
    ) -> None:
        """Keep its files in `folder`, which is made; `more` are further lines of its configuration.

        In a namespace it listens at that one's address on SSH's own port, else on loopback.
        """
        self.folder, self._more, self._within, self._environ = folder, more, within, environ
        self._kept: socket.socket | None = None

    def __enter__(self) -> Self:
        program = _program()
        within = self._within
        self.address, self.port = (within.address, SSH_PORT) if within else (LOOPBACK, free_port())
        self.folder.mkdir(parents=True, exist_ok=True)
        for name in ("host_key", "user_key"):
            _keygen("-t", "ed25519", "-N", "", "-f", str(self.folder / name))
        shutil.copy(self.folder / "user_key.pub", self.folder / "authorized_keys")
        self._write_conf()
        if os.getuid() == 0:
            _SEPARATION.mkdir(mode=0o755, exist_ok=True)  # its own check; a service manager makes it else
        words = (program, "-D", "-e", "-f", str(self.folder / "conf"))
        if within:
            self.run(
                within.words(*words), lambda: within.connects((within.address, SSH_PORT)) == ["connected"]
            )
        else:
            self.run(words, lambda: listens(self.port))
        return self

    @property
    def host_key(self) -> str:
        """Its host key as known_hosts writes it."""
        return " ".join((self.folder / "host_key.pub").read_text().split()[:2])

    @property
    def target(self) -> Target:
        """It as VAMT asks it, its host key pinned."""
        return Target(self.folder.name, (self.address,), self.port, host_keys=(self.host_key,))

    @property
    def login(self) -> Login:
        """Who is let in."""
        return Login(user=getpass.getuser(), key=(self.folder / "user_key").read_text())

    def let_in(self, line: str) -> None:
        """Replace who is let in by a line of authorized_keys."""
        (self.folder / "authorized_keys").write_text(line + "\n")

    def go_off(self) -> None:
        """End it, and keep its port: nobody else's server takes it, and it refuses."""
        self.stop()
        self._kept = socket.socket()
        self._kept.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self._kept.bind((self.address, self.port))

    def new_host_key(self) -> None:
        """Set the machine up anew: it shows another host key from its next connection on."""
        self.close()
        for name in ("host_key", "host_key.pub"):
            (self.folder / name).unlink()
        self.__enter__()

    def close(self) -> None:
        """End it; its folder stays, for it may come back."""
        self.stop()
        if self._kept:
            self._kept.close()

    def _write_conf(self) -> None:
        environment = " ".join(f'"{name}={value}"' for name, value in self._environ.items()) or "NONE=1"
        conf = _CONF.format(
            address=self.address, port=self.port, folder=self.folder, environment=environment, more=self._more
        )
        (self.folder / "conf").write_text(conf)


def _keygen(*words: str) -> None:
    file = Path(words[-1])
    if not file.exists():
        subprocess.run(["ssh-keygen", "-q", *words], check=True, timeout=TIMEOUT)


def _program() -> str:
    """The whole path of sshd, which starts itself anew by it."""
    installed("ssh-keygen", "openssh-client")
    return installed("sshd", "openssh-server")
