"""Name servers of the tests' own, as RIGS.md says: real BIND and real Knot on loopback, and one that does as it is told.

    with Named({"corp.test": "www A 192.0.2.1"}, [Key("host1", [("_volact._tcp.corp.test", "SRV")])]) as server:
        server.query("www.corp.test", "A") == ["192.0.2.1"]

`Scripted` is for what no real server does: silence, SERVFAIL, nothing, a half, ten seconds, an answer without a signature.
Tests that use one are marked `sockets`.
"""

import base64
import contextlib
import shutil
import socket
import tempfile
import threading
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Self

import dns.exception
import dns.flags
import dns.message
import dns.name
import dns.opcode
import dns.query
import dns.rcode
import dns.rdatatype
import dns.tsig

from programs import LOOPBACK, TIMEOUT, Program, installed

_POLL_SECONDS = 0.1


class Key:
    """A TSIG key and what it may change.

    Attributes:
        name: its name at the server, without a final dot.
        grants: owner names and the types there, such as ``("host1.corp.test", "A AAAA")``.
        secret: base64.
        algorithm: as in a key file.
    """

    def __init__(
        self, name: str, grants: Sequence[tuple[str, str]] = (), algorithm: str = "hmac-sha256"
    ) -> None:
        self.name, self.grants, self.algorithm = name, list(grants), algorithm
        self.secret = base64.b64encode(f"secret of {name}, long enough: {'.' * 32}".encode()).decode()

    def text(self, secret: str = "") -> str:
        """The key as `tsig-keygen` writes it."""
        return (
            f'key "{self.name}" {{\n\talgorithm {self.algorithm};\n\tsecret "{secret or self.secret}";\n}};\n'
        )

    def ring(self) -> dict[dns.name.Name, dns.tsig.Key]:
        """The key for dnspython."""
        key = dns.tsig.Key(self.name, self.secret, self.algorithm)
        return {key.name: key}


def free_port() -> int:
    """A port of loopback that is free on UDP and on TCP."""
    while True:
        with (
            socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as udp,
            socket.socket(socket.AF_INET, socket.SOCK_STREAM) as tcp,
        ):
            udp.bind((LOOPBACK, 0))
            port = int(udp.getsockname()[1])
            with contextlib.suppress(OSError):
                tcp.bind((LOOPBACK, port))
                return port


class NameServer(Program):
    """A real server in a folder of its own; use as a context, or `start` and `close`.

    `zones` are texts of a zone file, each record relative to its zone; SOA, NS and a TTL of 60 s are added.
    """

    program: str
    package: str

    def __init__(self, zones: Mapping[str, str], keys: Sequence[Key] = ()) -> None:
        self.zones = {name.rstrip("."): text for name, text in zones.items()}
        self.keys = list(keys)
        self.port = 0

    def __enter__(self) -> Self:
        found = installed(self.program, self.package)
        self.folder = Path(tempfile.mkdtemp(prefix="vdns"))
        try:
            # A copy: a desktop's AppArmor lets the installed program read its own folders only.
            self._program = str(shutil.copy(found, self.folder / self.program))
            self.port = free_port()
            self._write()
            self.start()
        except BaseException:
            self.close()
            raise
        return self

    @property
    def address(self) -> str:
        """HOST:PORT."""
        return f"{LOOPBACK}:{self.port}"

    def start(self) -> None:
        """Start it, or start it again with the zones as they were when it stopped, and wait until it answers."""
        self.run([self._program, *self._arguments()], self._answers)

    def query(self, name: str, rdtype: str, timeout: float = TIMEOUT) -> list[str]:
        """What it serves there, as sorted texts; an empty list for nothing at all."""
        query = dns.message.make_query(name, rdtype)
        answer, _ = dns.query.udp_with_fallback(query, LOOPBACK, timeout=timeout, port=self.port)
        assert answer.rcode() in (dns.rcode.NOERROR, dns.rcode.NXDOMAIN), answer
        wanted = dns.rdatatype.from_text(rdtype)
        return sorted(
            record.to_text() for rrset in answer.answer if rrset.rdtype == wanted for record in rrset
        )

    def _answers(self) -> bool:
        for zone in self.zones:
            try:
                if not self.query(zone, "SOA", _POLL_SECONDS):
                    return False
            except (OSError, dns.exception.DNSException, AssertionError):
                return False
        return True

    def _write(self) -> None:
        for name, text in self.zones.items():
            head = f"$ORIGIN {name}.\n$TTL 60\n@ SOA ns hostmaster 1 3600 600 86400 60\n@ NS ns\nns A {LOOPBACK}\n"
            (self.folder / f"{name}.zone").write_text(head + text.strip("\n") + "\n")
        (self.folder / "conf").write_text(self._conf())

    def _grants(self, zone: str) -> list[tuple[Key, str, str]]:
        """The key, owner and types of what may be changed in a zone, where no zone below it has the owner."""
        return [
            (key, owner.rstrip("."), types)
            for key in self.keys
            for owner, types in key.grants
            if self._zone(owner) == zone
        ]

    def _zone(self, owner: str) -> str:
        found = [zone for zone in self.zones if f".{owner.rstrip('.')}".endswith(f".{zone}")]
        return max(found, key=len, default="")

    def _arguments(self) -> list[str]:
        raise NotImplementedError

    def _conf(self) -> str:
        raise NotImplementedError


class Named(NameServer):
    """BIND's `named`."""

    program, package = "named", "bind9"

    def _arguments(self) -> list[str]:
        return ["-g", "-n", "1", "-c", str(self.folder / "conf")]

    def _conf(self) -> str:
        folder = self.folder
        lines = [
            f'options {{ directory "{folder}"; pid-file "{folder}/pid"; managed-keys-directory "{folder}";',
            f'  session-keyfile none; lock-file none; bindkeys-file "{folder}/none"; geoip-directory none;',
            f"  listen-on port {self.port} {{ {LOOPBACK}; }}; listen-on-v6 {{ none; }};",
            "  recursion no; dnssec-validation no; notify no; allow-query { any; }; };",
            "controls { };",
            *[key.text() for key in self.keys],
        ]
        for zone in self.zones:
            grants = "".join(
                f" grant {key.name} name {owner}. {types};" for key, owner, types in self._grants(zone)
            )
            update = f"update-policy {{{grants} }};" if grants else ""
            lines.append(f'zone "{zone}" {{ type primary; file "{folder}/{zone}.zone"; {update} }};')
        return "\n".join(lines) + "\n"


class Knot(NameServer):
    """Knot's `knotd`.

    One of its rules must allow a whole update; so a key has one rule for a zone, with all its names and types.
    """

    program, package = "knotd", "knot"

    def _arguments(self) -> list[str]:
        return ["-c", str(self.folder / "conf")]

    def _conf(self) -> str:
        folder = self.folder
        (folder / "db").mkdir(exist_ok=True)
        rules = [
            (zone, key.name, found)
            for zone in self.zones
            for key in self.keys
            if (found := [grant[1:] for grant in self._grants(zone) if grant[0] is key])
        ]
        lines = [
            "server:",
            f"  rundir: {folder}",
            f"  listen: {LOOPBACK}@{self.port}",
            "  udp-workers: 1",
            "  tcp-workers: 1",
            "  background-workers: 1",
            "log:",
            "  - target: stderr",
            "    any: info",
            "database:",
            f"  storage: {folder}/db",
            "  journal-db-max-size: 16M",
            "control:",
            f"  listen: {folder}/control",
        ]
        if self.keys:
            lines.append("key:")
        for key in self.keys:
            lines += [f"  - id: {key.name}", f"    algorithm: {key.algorithm}", f"    secret: {key.secret}"]
        if rules:
            lines.append("acl:")
        for number, (_, key_name, grants) in enumerate(rules):
            types = dict.fromkeys(" ".join(types for _, types in grants).split())
            lines += [
                f"  - id: acl{number}",
                f"    key: {key_name}",
                "    action: update",
                "    update-owner: name",
                "    update-owner-match: equal",
                f"    update-owner-name: [{', '.join(f'{owner}.' for owner, _ in grants)}]",
                f"    update-type: [{', '.join(types)}]",
            ]
        lines.append("zone:")
        for zone in self.zones:
            mine = ", ".join(f"acl{number}" for number, rule in enumerate(rules) if rule[0] == zone)
            lines += [
                f"  - domain: {zone}.",
                f"    file: {folder}/{zone}.zone",
                "    semantic-checks: off",
                *([f"    acl: [{mine}]"] if mine else []),
            ]
        return "\n".join(lines) + "\n"


# --- a server that does as it is told -----------------------------------------------------------------------------

Answer = Callable[[bytes, bool], bytes | None]
"""From a query's bytes, and whether it came by TCP, to the answer's bytes; None for silence."""


class Scripted:
    """A name server with one thread a query, which answers as `answer` says; use as a context.

    `answer` may be changed while it runs; `asked` holds the bytes of all queries so far.
    """

    def __init__(self, answer: Answer) -> None:
        self.answer = answer
        self.asked: list[bytes] = []
        self._ended = threading.Event()

    def __enter__(self) -> Self:
        self._udp = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._tcp = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
        self._tcp.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self.port = free_port()
        self._udp.bind((LOOPBACK, self.port))
        self._tcp.bind((LOOPBACK, self.port))
        self._tcp.listen()
        self._threads = [
            threading.Thread(target=serve, daemon=True) for serve in (self._serve_udp, self._serve_tcp)
        ]
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        with contextlib.suppress(OSError):
            self._tcp.shutdown(socket.SHUT_RDWR)  # wakes the one that accepts
        with contextlib.suppress(OSError):
            self._udp.sendto(b"", (LOOPBACK, self.port))  # wakes the one that reads
        for thread in self._threads:
            thread.join(TIMEOUT)
        self._udp.close()
        self._tcp.close()

    @property
    def address(self) -> str:
        """HOST:PORT."""
        return f"{LOOPBACK}:{self.port}"

    def late(self, seconds: float, answer: Answer) -> Answer:
        """That answer, late; at once when the server is to end."""

        def waiting(wire: bytes, tcp: bool) -> bytes | None:
            self._ended.wait(seconds)
            return answer(wire, tcp)

        return waiting

    def questions(self) -> list[tuple[str, str]]:
        """Name and type of all that was asked so far."""
        found = [dns.message.from_wire(wire, keyring=False, question_only=True) for wire in self.asked]
        return [
            (one.question[0].name.to_text(), dns.rdatatype.to_text(one.question[0].rdtype)) for one in found
        ]

    def _serve_udp(self) -> None:
        while not self._ended.is_set():
            with contextlib.suppress(OSError):
                wire, peer = self._udp.recvfrom(65535)
                if wire:
                    threading.Thread(target=self._answer_udp, args=(wire, peer), daemon=True).start()

    def _answer_udp(self, wire: bytes, peer: tuple[str, int]) -> None:
        self.asked.append(wire)
        answer = self.answer(wire, False)
        if answer is not None and not self._ended.is_set():
            with contextlib.suppress(OSError):
                self._udp.sendto(answer, peer)

    def _serve_tcp(self) -> None:
        while not self._ended.is_set():
            try:
                connection, _ = self._tcp.accept()
            except OSError:
                return
            threading.Thread(target=self._answer_tcp, args=(connection,), daemon=True).start()

    def _answer_tcp(self, connection: socket.socket) -> None:
        with connection, contextlib.suppress(OSError):
            connection.settimeout(TIMEOUT)
            while head := _exactly(connection, 2):
                wire = _exactly(connection, int.from_bytes(head, "big"))
                self.asked.append(wire)
                answer = self.answer(wire, True)
                if answer is None:
                    self._ended.wait(TIMEOUT)
                    return
                connection.sendall(len(answer).to_bytes(2, "big") + answer)


def _exactly(connection: socket.socket, size: int) -> bytes:
    found = b""
    while len(found) < size and (more := connection.recv(size - len(found))):
        found += more
    return found if len(found) == size else b""


def reply(
    wire: bytes, records: Sequence[str] = (), rcode: str = "NOERROR", *, truncated: bool = False
) -> bytes:
    """An unsigned answer to `wire`: records as lines of a zone file with absolute names, such as ``a.test. 60 IN A 192.0.2.1``."""
    query = dns.message.from_wire(wire, keyring=False)
    answer = dns.message.Message(query.id)
    answer.flags = dns.flags.QR | dns.flags.AA | (query.flags & dns.flags.RD)
    answer.set_opcode(query.opcode())
    answer.set_rcode(dns.rcode.from_text(rcode))
    if truncated:
        answer.flags |= dns.flags.TC
    answer.question = list(query.question)
    answer.answer = [dns.rrset.from_text(*_fields(line)) for line in records]
    return answer.to_wire(max_size=65535)


def _fields(line: str) -> tuple[str, int, str, str, str]:
    owner, ttl, rdclass, rdtype, rdata = line.split(maxsplit=4)
    return owner, int(ttl), rdclass, rdtype, rdata


def failing(rcode: str = "SERVFAIL") -> Answer:
    """Says that code to everything; NOERROR is an empty answer."""
    return lambda wire, _tcp: reply(wire, rcode=rcode)


def silent() -> Answer:
    """Never says anything."""
    return lambda _wire, _tcp: None


def relay(server: NameServer, change: Callable[[bytes], bytes] = bytes) -> Answer:
    """Asks a real server, and passes its answer on as `change` makes it of the real one."""

    def answer(wire: bytes, tcp: bool) -> bytes:
        if tcp:
            with socket.create_connection((LOOPBACK, server.port), TIMEOUT) as connection:
                connection.sendall(len(wire).to_bytes(2, "big") + wire)
                return change(_exactly(connection, int.from_bytes(_exactly(connection, 2), "big")))
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as asking:
            asking.settimeout(TIMEOUT)
            asking.sendto(wire, (LOOPBACK, server.port))
            return change(asking.recv(65535))

    return answer


def unsigned(wire: bytes) -> bytes:
    """For `relay`: an answer without its signature, as some servers send it."""
    answer = dns.message.from_wire(wire, keyring=False)
    answer.tsig = None
    return answer.to_wire(max_size=65535)


def cut(wire: bytes) -> bytes:
    """For `relay`: an answer of which nothing is left but its head and its question, marked as truncated."""
    answer = dns.message.from_wire(wire, keyring=False)
    answer.tsig, answer.answer, answer.authority, answer.additional = None, [], [], []
    answer.flags |= dns.flags.TC
    return answer.to_wire()


def is_update(wire: bytes) -> bool:
    """Whether a query is an update (RFC 2136)."""
    return dns.opcode.from_flags(int.from_bytes(wire[2:4], "big")) == dns.opcode.UPDATE


FAULTS: dict[str, Callable[[Scripted], Answer]] = {
    "silent": lambda _server: silent(),
    "SERVFAIL": lambda _server: failing("SERVFAIL"),
    "REFUSED": lambda _server: failing("REFUSED"),
    "empty": lambda _server: failing("NOERROR"),
    "NXDOMAIN": lambda _server: failing("NXDOMAIN"),
    "10 s late": lambda server: server.late(10, failing("NOERROR")),
    "cut short": lambda _server: lambda wire, _tcp: reply(wire, truncated=True),
}
"""What may be wrong with a name server."""
