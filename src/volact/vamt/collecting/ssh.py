"""Commands on machines over SSH, hundreds at once. The one file that speaks SSH (V2, T26, T29).

- A machine shows its host key before anything is told to it. One that is not pinned is told nothing, unless the first
  key may be believed; one that differs from the pinned ones, or was revoked, never is.
- Who is only believed is told no password, and nothing to read, which may be a product key: keys and agents alone prove
  who we are there.
- What a shell there gets is one command of quoted words; nothing of it is the shell's to expand.
- Nothing of this user's own SSH settings counts: no configuration, known_hosts, agent or key that the login does not name.
- What a machine says in an error is cut and cannot steer a terminal.
"""

from __future__ import annotations

import asyncio
import contextlib
import ipaddress
import logging
import os
import shlex
import socket
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any, NamedTuple, Self

import asyncssh

from volact.files import is_exposed
from volact.protocol.problems import BrokenData, Refusal, Refused, Unreachable
from volact.vamt.collecting import reading
from volact.vamt.collecting.answers import first_line
from volact.vamt.collecting.targets import SSH_PORT, Jump, Login, Ran
from volact.vamt.inventory import is_pinned

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence

    from volact.vamt.collecting.targets import Limits, Target

_WINDOW, _PACKET = 65_536, 32_768
"""Bytes that a machine may send ahead: it cannot fill the memory with what nobody has read yet."""
_GOODBYE = 1.0
"""Seconds within which a connection is closed in good order, or dropped."""
_LOOKING_UP = 32
_CIPHERS = "^aes256-gcm@openssh.com,aes128-gcm@openssh.com"
"""These before the library's own order: its ChaCha20 takes a third of a connection's time."""
_SHOWN = (
    "ssh-ed25519",
    "ecdsa-sha2-nistp256",
    "ecdsa-sha2-nistp384",
    "ecdsa-sha2-nistp521",
    "rsa-sha2-512",
    "rsa-sha2-256",
)
"""How a machine may prove its host key. The library's own order asks for RSA first, and ends with SHA-1."""
_RSA = {"ssh-rsa": ("rsa-sha2-256", "rsa-sha2-512")}

# Without a handler the library's remarks would reach standard error.
logging.getLogger("asyncssh").addHandler(logging.NullHandler())


_PINNED_ONLY = "is told only to a machine whose host key is pinned."


class _Place(NamedTuple):
    """Where an SSH server is, by which keys it is known, and whether another first one is believed; if not, why."""

    host: str
    port: int
    host_keys: tuple[str, ...]
    accept_new: bool
    revoked: tuple[str, ...] = ()
    remark: str = ""


class _Watch(asyncssh.SSHClient):
    """Compares the host key that is shown with the pinned ones, and offers the login's keys once that is done."""

    def __init__(self, place: _Place, keys: Sequence[Any], agent: str, remark: str) -> None:
        self._place, self._keys, self._agent = place, list(keys), agent
        self._connected: asyncssh.SSHAgentClient | None = None
        self._offered = False
        self.shown = self.fingerprint = ""
        self.remark = remark

    def validate_host_public_key(self, _host: str, _addr: str, _port: int, key: asyncssh.SSHKey) -> bool:
        self.shown = " ".join(key.export_public_key("openssh").decode("ascii").split()[:2])
        self.fingerprint = key.get_fingerprint()
        if self.shown in self._place.revoked:
            return False
        if self._place.host_keys:
            return is_pinned(self.shown, self._place.host_keys)
        return self._place.accept_new

    async def public_key_auth_requested(self) -> list[Any] | None:
        """All keys of the login, once. Given to the library beforehand, none would mean this user's own ones."""
        if self._offered:
            return None
        self._offered = True
        if not self._agent:
            return self._keys
        try:
            self._connected = await asyncssh.connect_agent(self._agent)
            return [*self._keys, *await self._connected.get_keys()]
        except (OSError, ValueError, asyncssh.Error):
            self.remark = f"The agent at {self._agent} was not reached."
            return self._keys

    def auth_completed(self) -> None:
        self._leave_agent()

    def connection_lost(self, _error: Exception | None) -> None:
        self._leave_agent()

    def _leave_agent(self) -> None:
        if self._connected:
            self._connected.close()
            self._connected = None

    def refusal(self) -> Refusal:
        """Why the key that was shown is not believed."""
        is_revoked = self.shown in self._place.revoked
        code = "host-key-changed" if self._place.host_keys or is_revoked else "host-key-unknown"
        extra = (("host_key", self.shown), ("fingerprint", self.fingerprint))
        said = (
            f"It shows {self.fingerprint}.",
            "That key was revoked." if is_revoked else self._place.remark,
        )
        return Refusal(code, " ".join(filter(None, said)), extra)


class _Connected(NamedTuple):
    connection: asyncssh.SSHClientConnection
    host_key: str


class Ssh:
    """SSH to many machines; jump hosts are connected to once. Use as a context: it ends all that it began."""

    def __init__(self, limits: Limits) -> None:
        """Keep to these limits."""
        self._limits = limits
        self._keys: dict[Login, list[Any]] = {}
        self._jumps: dict[tuple[Jump, Login], asyncio.Task[_Connected]] = {}
        self._names = ThreadPoolExecutor(_LOOKING_UP, thread_name_prefix="names")

    async def __aenter__(self) -> Self:
        """Begin."""
        return self

    async def __aexit__(self, *_error: object) -> None:
        """Drop the connections to jump hosts."""
        self._names.shutdown(wait=False, cancel_futures=True)
        for task in self._jumps.values():
            task.cancel()
        for found in await asyncio.gather(*self._jumps.values(), return_exceptions=True):
            if isinstance(found, _Connected):
                found.connection.abort()

    async def run(self, target: Target, login: Login, words: Sequence[str], stdin: bytes = b"") -> Ran:
        """Run a command of `words` on a machine, with `stdin` for it to read.

        Raises:
            Unreachable: nobody answered, another than the one asked, or with too much.
            Refused: `credential-refused`, `login-unusable`.
        """
        async with contextlib.AsyncExitStack() as stack:
            found = await self._reach(target, login, is_told=bool(stdin))
            stack.push_async_callback(_close, found.connection)
            with _translated():
                async with _within(self._limits.answer, "an answer"):
                    process = await found.connection.create_process(
                        shlex.join(words), encoding=None, window=_WINDOW, max_pktsize=_PACKET
                    )
                    with contextlib.suppress(BrokenPipeError):  # it need not read what it is given
                        process.stdin.write(stdin)
                        process.stdin.write_eof()
                    out, err = await reading.both(process.stdout, process.stderr)
                    await process.channel.wait_closed()
            code = process.exit_status
            return Ran(-1 if code is None else code, out, err, found.host_key)

    async def _reach(self, target: Target, login: Login, *, is_told: bool) -> _Connected:
        """Connect to a machine at the first of its names and addresses at which one can; `is_told` something to read."""
        remark = ""
        if self._limits.accept_new and not target.host_keys:
            has_key = login.key or login.key_file or login.agent
            what = "What it is to read" if is_told else "" if has_key else "Its password"
            remark = f"{what} {_PINNED_ONLY}" if what else ""
        accept_new = self._limits.accept_new and not remark
        tunnel = await self._through(login) if login.jump else None
        port = target.port or SSH_PORT
        refused = Refusal("unreachable-name")
        for host in target.hosts:
            place = _Place(host, port, target.host_keys, accept_new, target.revoked, remark)
            try:
                return await self._connect(place, login, tunnel)
            except Unreachable as error:
                if error.refusal.code not in ("unreachable-name", "unreachable-port"):
                    raise
                refused = error.refusal
        raise Unreachable(refused)

    async def _through(self, login: Login) -> asyncssh.SSHClientConnection:
        """The connection to a login's jump host; all who need it wait for the same one."""
        assert login.jump is not None  # noqa: S101 - asked for logins with one
        jump, own = login.jump, login.jump.login or login
        if (jump, own) in self._jumps and _is_gone(self._jumps[jump, own]):
            del self._jumps[jump, own]
        if (jump, own) not in self._jumps:
            self._jumps[jump, own] = asyncio.create_task(self._to_jump(jump, own))
        try:
            found = await asyncio.shield(self._jumps[jump, own])
        except (Unreachable, Refused) as error:
            detail = f"Jump host {jump.host}: {error.refusal.detail}"
            raise type(error)(error.refusal._replace(detail=detail)) from None
        return found.connection

    async def _to_jump(self, jump: Jump, login: Login) -> _Connected:
        place = _Place(jump.host, jump.port, jump.host_keys, accept_new=False)
        try:
            async with asyncio.timeout(self._limits.whole):
                return await self._connect(place, login, None)
        except TimeoutError:  # said once, and not waited for by each machine behind it again
            raise Unreachable(Refusal("timed-out", f"No answer within {self._limits.whole:g} s.")) from None

    async def _connect(
        self, place: _Place, login: Login, tunnel: asyncssh.SSHClientConnection | None
    ) -> _Connected:
        if login not in self._keys:
            self._keys[login] = _keys(login)
        remark = f"Its password {_PINNED_ONLY}" if login.password and not place.host_keys else ""
        watch = _Watch(place, self._keys[login], login.agent, remark)
        options = self._options(place, login)
        with _translated(watch):
            way = {"tunnel": tunnel} if tunnel else {"sock": await self._socket(place)}
            async with _within(self._limits.login, "a login"):
                connection, _ = await asyncssh.create_connection(
                    lambda: watch, place.host, place.port, **way, **options
                )
        return _Connected(connection, watch.shown)

    async def _socket(self, place: _Place) -> socket.socket:
        """A connection to the first address of a host that takes one.

        Raises:
            Unreachable: `unreachable-name`, `unreachable-port`.
        """
        loop = asyncio.get_running_loop()
        refused = Refusal("unreachable-name", place.host)
        for family, address in await self._addresses(place):
            own = socket.socket(family, socket.SOCK_STREAM)
            try:
                own.setblocking(False)
                async with asyncio.timeout(self._limits.connect):
                    await loop.sock_connect(own, address)
                return own
            except TimeoutError:
                own.close()
                refused = Refusal("unreachable-port", f"{place.host} port {place.port}: no answer.")
            except OSError as error:
                own.close()
                refused = Refusal("unreachable-port", f"{place.host} port {place.port}: {error.strerror}.")
            except BaseException:
                own.close()
                raise
        raise Unreachable(refused)

    async def _addresses(self, place: _Place) -> list[tuple[int, Any]]:
        with contextlib.suppress(ValueError):
            family = socket.AF_INET6 if ipaddress.ip_address(place.host).version == 6 else socket.AF_INET  # noqa: PLR2004 - IPv6
            return [(family, (place.host, place.port))]
        try:
            async with asyncio.timeout(
                self._limits.connect
            ):  # a name server may be silent, and the address good
                found = await asyncio.get_running_loop().run_in_executor(
                    self._names, lambda: socket.getaddrinfo(place.host, place.port, type=socket.SOCK_STREAM)
                )
        except (OSError, UnicodeError, TimeoutError):
            raise Unreachable(Refusal("unreachable-name", place.host)) from None
        return [(family, address) for family, _, _, _, address in found]

    def _options(self, place: _Place, login: Login) -> dict[str, Any]:
        """What a connection is made with: of this user's own settings nothing."""
        return {
            "config": None,
            "username": login.user or (),
            "password": (login.password or None) if place.host_keys else None,
            "client_keys": None,
            "agent_path": None,
            "known_hosts": ([], [], []),
            "server_host_key_algs": _algorithms(place.host_keys),
            "encryption_algs": _CIPHERS,
            "compression_algs": ["none"],
            "x509_trusted_certs": None,
            "gss_kex": False,
            "gss_auth": False,
            "login_timeout": self._limits.whole,
            "keepalive_interval": 0,
        }


def _is_gone(task: asyncio.Task[_Connected]) -> bool:
    """Whether a jump host let go of a connection that was made; one that was refused stays so for this run."""
    return task.done() and not task.exception() and task.result().connection.is_closed()


def _algorithms(host_keys: Sequence[str]) -> list[str]:
    """Signature algorithms for host keys, those of pinned keys first: of several keys such a one is to be shown."""
    kinds = [key.split(" ", 1)[0] for key in host_keys]
    first = [name for kind in kinds for name in _RSA.get(kind, (kind,))]
    return list(dict.fromkeys([*(name for name in first if name in _SHOWN), *_SHOWN]))


def _keys(login: Login) -> list[Any]:
    """The keys of a login as the library takes them.

    Raises:
        Refused: `login-unusable`.
        BrokenData: `not-readable` or `key-file-exposed`, if its key's file is.
    """
    text = login.key
    if login.key_file:
        try:
            with open(login.key_file, encoding="ascii") as file:  # noqa: PTH123 - the text that the login holds
                if is_exposed(os.fstat(file.fileno()).st_mode):
                    raise BrokenData(
                        f"The SSH key's file {login.key_file} can be read by others.", "key-file-exposed"
                    )
                text = file.read()
        except (OSError, UnicodeDecodeError):
            raise BrokenData(f"The SSH key's file {login.key_file} cannot be read.", "not-readable") from None
    if not text:
        return []
    try:
        key = asyncssh.import_private_key(text, login.passphrase or None)
        if not login.certificate:
            return [key]
        return [(key, asyncssh.import_certificate(login.certificate))]
    except (asyncssh.KeyImportError, asyncssh.KeyEncryptionError) as error:
        raise Refused(Refusal("login-unusable", f"Its key or certificate: {error}.")) from None


class _translated(contextlib.AbstractContextManager[None]):  # noqa: N801 - used as `with _translated():`
    """Turns what the library raises into the errors of this package."""

    def __init__(self, watch: _Watch | None = None) -> None:
        self._watch = watch

    def __exit__(self, _kind: object, error: BaseException | None, _trace: object) -> None:
        if error is None or isinstance(error, Unreachable | Refused | BrokenData):
            return
        said = first_line(str(error).encode("utf-8", "replace"))
        if isinstance(error, asyncssh.HostKeyNotVerifiable) and self._watch and self._watch.shown:
            raise Unreachable(self._watch.refusal()) from None
        if isinstance(error, asyncssh.PermissionDenied):
            raise Refused(Refusal("credential-refused", self._watch.remark if self._watch else "")) from None
        if isinstance(error, asyncssh.ChannelOpenError):
            code = "credential-refused" if self._watch is None else "unreachable-port"
            raise Unreachable(Refusal(code, said)) from None
        if isinstance(error, asyncssh.Error | OSError | ValueError) and not isinstance(error, TimeoutError):
            raise Unreachable(Refusal("answer-nonsense", f"As an SSH server: {said}")) from None


@contextlib.asynccontextmanager
async def _within(seconds: float, what: str) -> AsyncIterator[None]:
    """One step's time limit."""
    try:
        async with asyncio.timeout(seconds):
            yield
    except TimeoutError:
        raise Unreachable(Refusal("timed-out", f"No sign of {what} within {seconds:g} s.")) from None


async def _close(connection: asyncssh.SSHClientConnection) -> None:
    """Close a connection in good order, or drop it where the other side does not let go."""
    connection.close()
    try:
        async with asyncio.timeout(_GOODBYE):
            await connection.wait_closed()
    except TimeoutError:
        pass
    finally:
        connection.abort()
