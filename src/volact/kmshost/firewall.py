"""Which firewall rules on this machine, whether it lets the host's port in, and the rule that does (K19).

- Only a rule of our own is ever added: nothing else is changed, nothing is taken away, and what is there already is
  not added again. How to take it back is always said.
- Programs are run from lists of words, never by a shell; what they left behind is read back and judged by that.
- firewalld and ufw go before nftables, which both of them rule. What Windows takes is written here from its
  documentation and untested; it is shown and never run.

The words of every command are made by pure functions; `Firewall` runs them.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
from typing import TYPE_CHECKING, Any, NamedTuple

from volact.kmshost import nftables
from volact.kmshost.nftables import ALLOWED, BLOCKED, OPEN, PARTLY, UNKNOWN, Chain
from volact.protocol.problems import Refusal, printable

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

NFTABLES, UFW, FIREWALLD, WINDOWS = "nftables", "ufw", "firewalld", "windows"
KINDS = (FIREWALLD, UFW, NFTABLES, WINDOWS)
COMMENT = "volact kmshost"
"""Marks our own rule, where a firewall keeps a remark."""
_SECONDS = 20
"""For one program; a firewall that is asked answers at once, ufw takes a second or two."""
_ROOTS = "/usr/sbin:/sbin:/usr/local/sbin"
_GUESSED = Chain("inet", "filter", "input", "drop")

Command = tuple[str, ...]


class Seen(NamedTuple):
    """What was found for one port.

    Attributes:
        kind: one of `KINDS`; empty if no firewall that is known here was found.
        port: the TCP port.
        state: `ALLOWED`, `BLOCKED`, `OPEN`, `PARTLY` or `UNKNOWN`.
        detail: what was seen, in words.
        commands: what lets the port in; none if nothing has to be done.
        back: what takes our rule back.
        remark: what else is to be known of them; may be empty.
    """

    kind: str
    port: int
    state: str
    detail: str
    commands: tuple[Command, ...] = ()
    back: tuple[Command, ...] = ()
    remark: str = ""


# --- the words of the commands, pure ----------------------------------------------------------------------------


def ufw_commands(port: int) -> tuple[tuple[Command, ...], tuple[Command, ...]]:
    """What lets the port in by ufw, for IPv4 and IPv6, and what takes that back."""
    rule = f"{port}/tcp"
    return (("ufw", "allow", rule, "comment", COMMENT),), (("ufw", "delete", "allow", rule),)


def firewalld_commands(port: int) -> tuple[tuple[Command, ...], tuple[Command, ...]]:
    """The same by firewalld, in its default zone: now, and after its next start."""
    words = [("firewall-cmd", *kept) for kept in ((), ("--permanent",))]
    return (
        tuple((*one, f"--add-port={port}/tcp") for one in words),
        tuple((*one, f"--remove-port={port}/tcp") for one in words),
    )


def windows_commands(port: int) -> tuple[tuple[Command, ...], tuple[Command, ...]]:
    """The same on Windows: by PowerShell, as it is entered there; untested."""
    named = ("-DisplayName", f"{COMMENT} {port}")
    what = ("-Direction", "Inbound", "-Protocol", "TCP", "-LocalPort", str(port), "-Action", "Allow")
    return (("New-NetFirewallRule", *named, *what),), (("Remove-NetFirewallRule", *named),)


def nft_command(port: int, chain: Chain) -> Command:
    """What lets the port in at an nftables chain: before the rule that refuses all the rest, or at the chain's end."""
    where = (chain.family, chain.table, chain.name)
    rule = ("tcp", "dport", str(port), "accept", "comment", f'"{COMMENT}"')
    if chain.decides_at is None:
        return ("nft", "add", "rule", *where, *rule)
    return ("nft", "insert", "rule", *where, "position", str(chain.decides_at), *rule)


def nft_back(chain: Chain, handle: int) -> Command:
    """What takes a rule of that handle back."""
    return ("nft", "delete", "rule", chain.family, chain.table, chain.name, "handle", str(handle))


def of_nftables(ruleset: Mapping[str, Any], port: int) -> Seen:
    """What the rules of nftables, read as a whole, do with the port."""
    found = nftables.chains(ruleset, port, COMMENT)
    state = nftables.state_of(found)
    meant = [one for one in found if one.state == state]
    commands = tuple(nft_command(port, one) for one in found if one.blocks)
    back = tuple(nft_back(one, handle) for one in found for handle in one.own)
    said = _SAID[state]
    if state == PARTLY:
        said = _SAID[PARTLY if any(one.lets_in and one.blocks for one in meant) else ""]
    detail = f"{said}: {printable('; '.join(map(str, meant)))}" if meant and state != OPEN else said
    return Seen(NFTABLES, port, state, detail, commands, back, _NOT_KEPT if commands or back else "")


_SAID = {
    ALLOWED: "A rule lets it in",
    OPEN: "No rule of nftables refuses calls for it.",
    BLOCKED: "No rule lets it in",
    PARTLY: "Only some machines are let in",
    UNKNOWN: "What becomes of calls cannot be told",
    "": "Some calls are refused, or may be; see whether these rules mean machines that are to call",
}
_NOT_KEPT = "nft keeps a rule until the system's next start: write it into /etc/nftables.conf, too."


# --- what runs them ---------------------------------------------------------------------------------------------


class Done(NamedTuple):
    """What a program came to: its exit code, and what it printed."""

    code: int
    out: str
    err: str


class Firewall:
    """The firewall of this machine, as the programs on the path tell."""

    def __init__(self, environ: Mapping[str, str] = os.environ) -> None:
        """Look for programs where `environ` says, and where root's are."""
        self._environ = {**environ, "LC_ALL": "C"}
        self._path = f"{environ.get('PATH', os.defpath)}:{_ROOTS}"

    def look(self, port: int) -> Seen:
        """Which firewall rules here, and what it does with the port."""
        for kind, look in ((FIREWALLD, self._firewalld), (UFW, self._ufw), (NFTABLES, self._nftables)):
            if self._has(_PROGRAMS[kind]):
                seen = look(port)
                if seen is not None:
                    return seen
        return Seen("", port, UNKNOWN, "No firewall that volact knows rules here (firewalld, ufw, nftables).")

    def apply(self, port: int) -> tuple[Seen, Seen] | Refusal:
        """Let the port in, if it is not; what was found before, and what is there afterwards, read back.

        `program-missing` if no firewall is here, `firewall-not-changed` if it did not come to the rule.
        """
        before = self.look(port)
        if not before.kind:
            return Refusal("program-missing", before.detail)
        if before.state in (ALLOWED, OPEN):
            return before, before
        for command in before.commands:
            done = self._run(command)
            if done.code:
                said = (done.err or done.out).strip().partition("\n")[0]
                return Refusal("firewall-not-changed", f"`{shown(command)}`: {printable(said[:300])}")
        after = self.look(port)
        if after.state in (BLOCKED, UNKNOWN):
            return Refusal("firewall-not-changed", f"It was told to, and yet: {after.detail}")
        return before, after

    def _has(self, program: str) -> bool:
        return shutil.which(program, path=self._path) is not None

    def _run(self, command: Sequence[str]) -> Done:
        program = shutil.which(command[0], path=self._path)
        if program is None:
            return Done(127, "", f"{command[0]} is not installed")
        try:
            done = subprocess.run(
                [program, *command[1:]],
                env=self._environ,
                stdin=subprocess.DEVNULL,
                capture_output=True,
                text=True,
                errors="replace",
                timeout=_SECONDS,
                check=False,
            )
        except subprocess.TimeoutExpired:
            return Done(124, "", f"{command[0]} did not end within {_SECONDS} seconds")
        except OSError as error:
            return Done(126, "", f"{command[0]}: {error.strerror}")
        return Done(done.returncode, done.stdout, done.stderr)

    def _firewalld(self, port: int) -> Seen | None:
        """As firewalld says; None if it does not run."""
        if self._run(("firewall-cmd", "--state")).code:
            return None
        commands, back = firewalld_commands(port)
        zone = self._run(("firewall-cmd", "--get-default-zone")).out.strip() or "?"
        now, kept = (
            self._run(("firewall-cmd", *words, f"--query-port={port}/tcp"))
            for words in ((), ("--permanent",))
        )
        where = f"the zone {printable(zone[:60])}"
        if not {now.code, kept.code} <= {0, 1}:
            return Seen(FIREWALLD, port, UNKNOWN, _unreadable(now if now.code else kept), commands, back)
        if now.code == kept.code == 0:
            return Seen(FIREWALLD, port, ALLOWED, f"A rule lets it in: {where}", (), back)
        detail = f"No rule lets it in: {where}"
        if now.code == 0:
            detail = f"A rule lets it in until firewalld's next start: {where}"
        return Seen(FIREWALLD, port, BLOCKED, detail, commands, back)

    def _ufw(self, port: int) -> Seen | None:
        """As ufw says; None if it is off."""
        commands, back = ufw_commands(port)
        done = self._run(("ufw", "status"))
        if done.code:
            return Seen(UFW, port, UNKNOWN, _unreadable(done), commands, back)
        if "Status: active" not in done.out:
            return None
        rules = [match for match in _UFW.finditer(done.out) if int(match[1]) == port]
        if any(match[2] == "Anywhere" for match in rules):
            return Seen(UFW, port, ALLOWED, "A rule of ufw lets it in.", (), back)
        if rules:
            return Seen(UFW, port, PARTLY, "A rule of ufw lets only some machines in.", commands, back)
        return Seen(UFW, port, BLOCKED, "No rule of ufw lets it in.", commands, back)

    def _nftables(self, port: int) -> Seen:
        done = self._run(("nft", "-j", "list", "ruleset"))
        try:
            ruleset = json.loads(done.out) if not done.code else None
        except ValueError:
            ruleset = None
        if isinstance(ruleset, dict):
            return of_nftables(ruleset, port)
        remark = f"The chain is guessed: `nft list ruleset` shows the real one. {_NOT_KEPT}"
        return Seen(NFTABLES, port, UNKNOWN, _unreadable(done), (nft_command(port, _GUESSED),), (), remark)


_UFW = re.compile(r"^([0-9]{1,5})(?:/tcp)?\s+ALLOW(?: IN)?\s+(\S+)", re.MULTILINE)
_PROGRAMS = {FIREWALLD: "firewall-cmd", UFW: "ufw", NFTABLES: "nft"}


def _unreadable(done: Done) -> str:
    said = (done.err or done.out).strip().partition("\n")[0]
    return f"It cannot be read: {printable(said[:200]) or f'exit code {done.code}'}"


# --- for people -------------------------------------------------------------------------------------------------


def shown(command: Sequence[str]) -> str:
    """A command as it is entered in a shell."""
    return " ".join(word if re.fullmatch(r"[\w./=:-]+", word) else _quoted(word) for word in command)


def _quoted(word: str) -> str:
    return f"'{word}'" if "'" not in word else json.dumps(word)


def of_kind(kind: str, port: int) -> Seen:
    """What the firewall of that kind would be told, wherever this is asked."""
    if kind == NFTABLES:
        remark = f"The chain is a usual one: `nft list ruleset` shows yours. {_NOT_KEPT}"
        return Seen(kind, port, UNKNOWN, _NOT_LOOKED, (nft_command(port, _GUESSED),), (), remark)
    commands, back = {UFW: ufw_commands, FIREWALLD: firewalld_commands, WINDOWS: windows_commands}[kind](port)
    remark = (
        "For an administrator's PowerShell. volact was never tried on Windows." if kind == WINDOWS else ""
    )
    return Seen(kind, port, UNKNOWN, _NOT_LOOKED, commands, back, remark)


_NOT_LOOKED = "Not looked at: these are the commands for such a firewall."


def members(seen: Seen, *, changed: bool = False) -> dict[str, Any]:
    """What ``firewall --json`` holds."""
    return {
        "firewall": seen.kind or None,
        "port": seen.port,
        "state": seen.state,
        "detail": seen.detail,
        "commands": [list(one) for one in seen.commands],
        "back": [list(one) for one in seen.back],
        "remark": seen.remark or None,
        "changed": changed,
    }


def prose(seen: Seen, *, changed: bool = False) -> str:
    """The same for people."""
    return "\n".join(_lines(seen, changed=changed))


def _lines(seen: Seen, *, changed: bool) -> Iterator[str]:
    yield f"firewall  {seen.kind or 'none found'}"
    yield f"port      TCP {seen.port}, IPv4 and IPv6"
    yield f"state     {seen.state}: {seen.detail}{' It was added just now.' if changed else ''}"
    if seen.commands:
        or_apply = "" if seen.detail == _NOT_LOOKED else " (or with --apply)"
        yield f"To let machines in, as an administrator{or_apply}:"
        yield from (f"    {shown(one)}" for one in seen.commands)
    if seen.back:
        yield "To take it back:"
        yield from (f"    {shown(one)}" for one in seen.back)
    if seen.remark:
        yield seen.remark
    if not seen.kind:
        yield f"If another firewall stands between: let TCP port {seen.port} in."
