"""Whom VAMT asks, as whom, within which limits, and what came of it. Pure values (V2, T28).

- Secrets are in `Login` alone, and no `repr` shows one.
- A machine's host keys are pinned before it is asked. Whoever shows another one is told nothing (T29).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from volact.protocol.problems import Refusal
    from volact.vamt.inventory import Report

SSH, WINRM, LOCAL = "ssh", "winrm", "local"
SSH_PORT, WINRM_TLS_PORT, WINRM_PORT = 22, 5986, 5985
MOST_OUTPUT = 256 * 1024
"""Bytes that are read of what a machine prints; one that prints more is cut off (T26)."""
VOLACT, SLMGR = "volact", "slmgr"
COMMAND = (VOLACT,)
_SECRETS = ("password", "key", "passphrase")


class Login(NamedTuple):
    """As whom the machines of a group are asked, and how that is proved. Several ways may be set; all are tried.

    Attributes:
        user: the account's name; ``user@domain`` for Windows. Empty for SSH: the one who runs VAMT.
        password: its password; empty for none.
        key: a private SSH key, PEM or OpenSSH text.
        passphrase: that one's passphrase.
        key_file: a private SSH key that stays in its file, which is read when it is needed.
        certificate: an OpenSSH certificate for the key, one line.
        agent: the socket of an SSH agent; empty: none is asked.
        ca: PEM certificates that WinRM's TLS certificates may come from; empty: those that the system trusts.
        plain: whether WinRM may go without TLS, on port 5985; its messages are encrypted all the same.
        jump: the machine through which the others are reached.
        command: the words that start volact there.
    """

    user: str = ""
    password: str = ""
    key: str = ""
    passphrase: str = ""
    key_file: str = ""
    certificate: str = ""
    agent: str = ""
    ca: str = ""
    plain: bool = False
    jump: Jump | None = None
    command: tuple[str, ...] = COMMAND

    def __repr__(self) -> str:
        """The login without its secrets."""
        shown = {**self._asdict(), **{name: "..." for name in _SECRETS if getattr(self, name)}}
        return f"Login({', '.join(f'{name}={value!r}' for name, value in shown.items() if value)})"


class Jump(NamedTuple):
    """A machine through which others are reached. It forwards bytes: what goes through is SSH of its own.

    Attributes:
        host: its name or address.
        port: its port.
        host_keys: its host keys, as known_hosts writes them.
        login: as whom; None: as the machines behind it.
    """

    host: str
    port: int = SSH_PORT
    host_keys: tuple[str, ...] = ()
    login: Login | None = None


class Target(NamedTuple):
    """A machine that is to be asked.

    Attributes:
        mid: which row it is; comes back with the outcome.
        hosts: names and addresses at which it may be reached, in the order in which they are tried.
        port: the port; None: the transport's own.
        transport: ``ssh``, ``winrm`` or ``local``.
        host_keys: its pinned host keys, or their fingerprints; without one it is not asked, unless `Limits.accept_new`
            says so.
        login: name of its login, which is its group's; empty: the login for all.
        revoked: host keys that were its own and are never believed again.
    """

    mid: str
    hosts: tuple[str, ...]
    port: int | None = None
    transport: str = SSH
    host_keys: tuple[str, ...] = ()
    login: str = ""
    revoked: tuple[str, ...] = ()


class Limits(NamedTuple):
    """How many at once and how long, seconds.

    Attributes:
        at_once: so many machines at a time.
        whole: within so long a machine has answered in full.
        connect: within so long it has taken the connection.
        login: within so long after that it has shown its host key and let us in.
        answer: within so long after that it has answered; what hangs is let go before `whole`.
        accept_new: whether the first host key of a machine without a pinned one is believed (T29: off). Such a machine
            is told no password, and nothing on standard input.
    """

    at_once: int = 100
    whole: float = 30.0
    connect: float = 10.0
    login: float = 15.0
    answer: float = 20.0
    accept_new: bool = False


class Ran(NamedTuple):
    """What a command on a machine came to.

    Attributes:
        exit: its exit code; -1 if a signal ended it or none was told.
        out: what it printed, at most `MOST_OUTPUT` bytes.
        err: what it said besides, cut at as much.
        host_key: the host key that the machine showed, as known_hosts writes it; empty if it shows none.
    """

    exit: int
    out: bytes
    err: bytes = b""
    host_key: str = ""


class Outcome(NamedTuple):
    """What came of asking one machine: a report, or the reason why there is none.

    Attributes:
        target: the machine.
        report: what it said; None if it said nothing that counts.
        refusal: why; None if there is a report. A host key that is not pinned stands in ``extra``, with its
            fingerprint, so that it can be compared and pinned.
        host_key: the host key that it showed. One that was not pinned before was believed by `Limits.accept_new`.
    """

    target: Target
    report: Report | None = None
    refusal: Refusal | None = None
    host_key: str = ""


class Progress(NamedTuple):
    """How far it is: machines.

    Attributes:
        total: how many there are.
        done: so many gave a report.
        failed: so many gave none.
    """

    total: int
    done: int = 0
    failed: int = 0


def transport_of(said: str, platform: str) -> str:
    """How a machine is reached: as was said, or as is usual for its platform."""
    return said or (WINRM if platform == "windows" else SSH)


def program_words(command: tuple[str, ...], program: str) -> tuple[str, ...] | None:
    """What starts a program of volact's where `command` starts volact: slmgr stands beside it. None if that is not known."""
    if program == VOLACT:
        return command
    *before, last = command
    folder, slash, name = last.rpartition("/")
    if name != VOLACT:
        return None
    if before[-1:] == ["-m"]:
        return (*before, f"{VOLACT}.{program}")
    return (*before, f"{folder}{slash}{program}")
