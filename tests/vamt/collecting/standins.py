"""Machines of the tests' own: many SSH servers in this process, each answering as it is told (RIGS.md).

async with StandIns() as machines:
    target = await machines.add(answer=status("web1"))
"""

import asyncio
import contextlib
import json
from collections.abc import Awaitable, Callable
from types import TracebackType
from typing import Any, Self, TypeAlias

import asyncssh

from volact.vamt.collecting.collector import collect
from volact.vamt.collecting.targets import Limits, Login, Outcome, Progress, Target

LOOPBACK = "127.0.0.1"
PASSWORD = "a password that no test prints"
PUBLISHER = "P" * 43
CMID = "C" * 43
OWN_KEY = asyncssh.generate_private_key("ssh-ed25519")
HOST_KEY = asyncssh.generate_private_key("ssh-ed25519")
PRIVATE = OWN_KEY.export_private_key("openssh").decode()
LOGIN = Login(user="vamt", key=PRIVATE)

Process: TypeAlias = "asyncssh.SSHServerProcess[bytes]"
Answer = Callable[[Process], Awaitable[None] | None]


def pinned(key: asyncssh.SSHKey = HOST_KEY) -> str:
    """A host key as known_hosts writes it, without a comment."""
    return " ".join(key.export_public_key("openssh").decode().split()[:2])


def product(**members: Any) -> dict[str, Any]:
    """A product as `client status --json` has it."""
    row: dict[str, Any] = {
        "publisher": PUBLISHER,
        "cmid": CMID,
        "product": "com.example.cad",
        "state": 1,
        "state_name": "Licensed",
        "channel": "mak",
        "partial_key": "A0001",
        "granted": "2026-01-31T12:00:00Z",
        "expires": None,
        "next_try": None,
        "host": None,
        "iid": None,
        "virtual": False,
        "reason": "activated",
        "grant": {"token": "t", "chain": [], "roots": []},
    }
    return {**row, **members}


def status(name: str = "web1", *rows: dict[str, Any], **machine: Any) -> dict[str, Any]:
    """What `client status --json` holds."""
    whole: dict[str, Any] = {
        "name": name,
        "domain": "corp.example",
        "system": "Debian GNU/Linux 12 (bookworm)",
        "platform": "linux",
        "virtual": True,
        "hypervisor": "kvm",
        "container": False,
        "identity": "I" * 43,
        "host_identity": None,
        "running_instances": None,
        "macs": ["a4bb6d112233"],
    }
    return {"products": list(rows or [product()]), "machine": {**whole, **machine}}


def says(value: Any, code: int = 0, err: bytes = b"") -> Answer:
    """An answer: bytes as they are, or JSON."""
    data = value if isinstance(value, bytes) else json.dumps(value).encode()

    def answer(process: Process) -> None:
        process.stdout.write(data)
        process.stderr.write(err)
        process.exit(code)

    return answer


async def hangs(process: Process) -> None:
    """No answer as long as somebody waits."""
    await process.channel.wait_closed()


async def floods(process: Process) -> None:
    """A gigabyte, or as much of it as is taken."""
    some = b"\x1b[2J" * 8192
    with contextlib.suppress(OSError):
        for _ in range((1 << 30) // len(some)):
            process.stdout.write(some)
            await process.stdout.drain()
            StandIns.flooded += len(some)
    process.exit(0)


class _Server(asyncssh.SSHServer):
    def __init__(self, taken: dict[str, Any]) -> None:
        self._taken = taken

    def begin_auth(self, username: str) -> bool:
        self._taken["users"].append(username)
        return True

    def public_key_auth_supported(self) -> bool:
        return True

    def validate_public_key(self, username: str, key: asyncssh.SSHKey) -> bool:
        return key == OWN_KEY.convert_to_public()

    def validate_ca_key(self, username: str, key: asyncssh.SSHKey) -> bool:
        return key == HOST_KEY.convert_to_public()  # the key that signs certificates in these tests

    def password_auth_supported(self) -> bool:
        return True

    def validate_password(self, username: str, password: str) -> bool:
        self._taken["passwords"].append(password)
        return password == PASSWORD

    def connection_requested(self, dest_host: str, dest_port: int, orig_host: str, orig_port: int) -> bool:
        self._taken["forwarded"].append((dest_host, dest_port))
        return True


class StandIns:
    """SSH servers of this process; use as a context."""

    flooded = 0
    """Bytes that `floods` got rid of."""

    def __init__(self) -> None:
        self.taken: dict[str, Any] = {"users": [], "passwords": [], "forwarded": [], "commands": []}
        self._servers: list[asyncssh.SSHAcceptor | asyncio.Server] = []

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for server in self._servers:
            server.close()

    async def add(
        self,
        answer: Answer,
        mid: str = "m",
        *,
        key: asyncssh.SSHKey = HOST_KEY,
        more: list[asyncssh.SSHKey] | None = None,
    ) -> Target:
        """A machine that answers so; its host key is pinned in what this returns. It may have more than that one."""

        async def handle(process: Process) -> None:
            self.taken["commands"].append(process.command)
            done = answer(process)
            if done is not None:
                await done

        server = await asyncssh.create_server(
            lambda: _Server(self.taken),
            LOOPBACK,
            0,
            server_host_keys=[*(more or []), key],
            process_factory=handle,
            encoding=None,
            gss_host=None,
        )
        self._servers.append(server)
        return Target(mid, (LOOPBACK,), server.get_port(), host_keys=(pinned(key),))

    async def silent(self, mid: str = "m") -> Target:
        """A machine that takes the connection and says nothing."""
        server = await asyncio.start_server(_wait, LOOPBACK, 0)
        self._servers.append(server)
        return Target(mid, (LOOPBACK,), server.sockets[0].getsockname()[1], host_keys=(pinned(),))

    async def lying(self, said: bytes, mid: str = "m") -> Target:
        """A machine that says this instead of SSH, and hangs up."""

        async def lie(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            with contextlib.suppress(OSError):
                writer.write(said)
                await writer.drain()
            writer.close()

        server = await asyncio.start_server(lie, LOOPBACK, 0)
        self._servers.append(server)
        return Target(mid, (LOOPBACK,), server.sockets[0].getsockname()[1], host_keys=(pinned(),))


async def _wait(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with contextlib.suppress(OSError):
        await reader.read()
    writer.close()


async def outcomes(
    targets: list[Target], logins: dict[str, Login] | None = None, limits: Limits | None = None
) -> list[Outcome]:
    """What comes of asking these, in the order in which it came."""
    found: list[Outcome] = []
    told: list[Progress] = []
    asked = collect(targets, logins or {"": LOGIN}, limits or Limits(whole=5.0), told.append, lambda: 0)
    async with contextlib.aclosing(asked) as coming:
        async for one in coming:
            found.append(one)
    last = told[-1]
    assert last == (len(targets), sum(one.report is not None for one in found), last.failed)
    assert last.done + last.failed == len(targets)
    return found


def code(outcome: Outcome) -> str:
    """Why there is no report."""
    assert outcome.report is None
    assert outcome.refusal is not None
    return outcome.refusal.code
