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

from volact.protocol.problems import Refusal, printable

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

NFTABLES, UFW, FIREWALLD, WINDOWS = "nftables", "ufw", "firewalld", "windows"
KINDS = (FIREWALLD, UFW, NFTABLES, WINDOWS)
COMMENT = "volact kmshost"
"""Marks our own rule, where a firewall keeps a remark."""
ALLOWED, BLOCKED, OPEN, PARTLY, UNKNOWN = "allowed", "blocked", "open", "partly", "unknown"
"""A rule lets the port in; none does, and what no rule names is refused; nothing is refused in general; only some
machines are let in; it cannot be read."""
_SECONDS = 20
"""For one program; a firewall that is asked answers at once, ufw takes a second or two."""
_ROOTS = "/usr/sbin:/sbin:/usr/local/sbin"
_GUESSED = "inet", "filter", "input"
_FAMILIES = ("inet", "ip", "ip6")

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
    if chain.refuses_at is None:
        return ("nft", "add", "rule", *where, *rule)
    return ("nft", "insert", "rule", *where, "position", str(chain.refuses_at), *rule)


def nft_back(chain: Chain, handle: int) -> Command:
    """What takes a rule of that handle back."""
    return ("nft", "delete", "rule", chain.family, chain.table, chain.name, "handle", str(handle))


class Chain(NamedTuple):
    """An nftables chain through which calls for this machine come, as far as one port is concerned.

    Attributes:
        family, table, name: which one.
        policy: what becomes of what no rule decides: ``accept`` or ``drop``.
        refuses_at: the handle of the first rule that refuses, or hands on, all that has come so far; None if none does.
        allowed: whether a rule lets everybody call the port, before that.
        partly: whether one lets somebody.
        own: the handles of our own rules for the port.
    """

    family: str
    table: str
    name: str
    policy: str
    refuses_at: int | None
    allowed: bool
    partly: bool
    own: tuple[int, ...]

    @property
    def blocks(self) -> bool:
        """Whether the chain may refuse a call for the port."""
        return not self.allowed and (self.policy == "drop" or self.refuses_at is not None)


def chains(ruleset: Mapping[str, Any], port: int) -> list[Chain]:
    """The input chains in what ``nft -j list ruleset`` prints, in its order."""
    members = [(kind, one) for entry in ruleset.get("nftables", ()) for kind, one in entry.items()]
    rules = [one for kind, one in members if kind == "rule"]
    return [
        _chain(one, [rule for rule in rules if _place(rule, "chain") == _place(one, "name")], port)
        for kind, one in members
        if kind == "chain" and one.get("hook") == "input" and one.get("type") == "filter"
        if one.get("family") in _FAMILIES
    ]


def _place(one: Mapping[str, Any], name: str) -> tuple[object, ...]:
    return one.get("family"), one.get("table"), one.get(name)


def _chain(chain: Mapping[str, Any], rules: Sequence[Mapping[str, Any]], port: int) -> Chain:
    refuses_at: int | None = None
    allowed = partly = False
    own = []
    for rule in rules:
        words = {name for statement in rule.get("expr", ()) for name in statement}
        everybody, port_meant = _meant(rule, port)
        if "accept" in words and port_meant and refuses_at is None:
            allowed, partly = allowed or everybody, True
            if rule.get("comment") == COMMENT:
                own.append(int(rule["handle"]))
        if words & _REFUSING and not words & _CONDITIONS and refuses_at is None:
            refuses_at = int(rule["handle"])
    family, table, name = (str(one) for one in _place(chain, "name"))
    policy = str(chain.get("policy", "accept"))
    return Chain(family, table, name, policy, refuses_at, allowed, partly and not allowed, tuple(own))


_REFUSING = {"drop", "reject", "jump", "goto", "queue", "xt"}
"""Statements that refuse, or hand on to where that may happen."""
_CONDITIONS = {"match", "limit", "ct count", "xt"}


def _meant(rule: Mapping[str, Any], port: int) -> tuple[bool, bool]:
    """Whether a rule is for everybody's calls, and whether it names the TCP port."""
    everybody, named = True, False
    for statement in rule.get("expr", ()):
        match = statement.get("match")
        if match is None:
            everybody = everybody and not _CONDITIONS & statement.keys()
            continue
        left, right = match.get("left", {}), match.get("right")
        payload, ct = left.get("payload", {}), left.get("ct", {})
        if payload.get("protocol") in ("tcp", "th") and payload.get("field") == "dport":
            named = named or (match.get("op") in ("==", "in") and _holds(right, port))
            everybody = everybody and named
        elif ct.get("key") == "state":
            everybody = everybody and "new" in (right if isinstance(right, list) else [right])
        else:
            everybody = False
    return everybody, named


def _holds(right: object, port: int) -> bool:
    """Whether a port is among what a rule names: a number, a range, or a set of both."""
    if isinstance(right, dict):
        if "range" in right:
            low, high = right["range"]
            return bool(low <= port <= high)
        return any(_holds(one, port) for one in right.get("set", ()))
    return right == port if isinstance(right, int) else False


def of_nftables(ruleset: Mapping[str, Any], port: int) -> Seen:
    """What the rules of nftables, read as a whole, do with the port."""
    found = chains(ruleset, port)
    blocking = [one for one in found if one.blocks]
    names = ", ".join(f"{one.family} {one.table} {one.name}" for one in blocking or found)
    back = tuple(nft_back(one, handle) for one in found for handle in one.own)
    if not blocking:
        if any(one.allowed for one in found):
            return Seen(
                NFTABLES, port, ALLOWED, f"A rule lets it in: {names}", (), back, _NOT_KEPT if back else ""
            )
        return Seen(NFTABLES, port, OPEN, "No rule of nftables refuses calls in general.")
    partly = any(one.partly for one in blocking)
    detail = f"Only some machines are let in: {names}" if partly else f"No rule lets it in: {names}"
    commands = tuple(nft_command(port, one) for one in blocking)
    return Seen(NFTABLES, port, PARTLY if partly else BLOCKED, detail, commands, back, _NOT_KEPT)


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
        guessed = Chain(*_GUESSED, "drop", None, allowed=False, partly=False, own=())
        remark = f"The chain is guessed: `nft list ruleset` shows the real one. {_NOT_KEPT}"
        return Seen(NFTABLES, port, UNKNOWN, _unreadable(done), (nft_command(port, guessed),), (), remark)


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
        guessed = Chain(*_GUESSED, "drop", None, allowed=False, partly=False, own=())
        remark = f"The chain is a usual one: `nft list ruleset` shows yours. {_NOT_KEPT}"
        return Seen(kind, port, UNKNOWN, _NOT_LOOKED, (nft_command(port, guessed),), (), remark)
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
        yield "To let machines in, as an administrator (or with --apply):"
        yield from (f"    {shown(one)}" for one in seen.commands)
    if seen.back:
        yield "To take it back:"
        yield from (f"    {shown(one)}" for one in seen.back)
    if seen.remark:
        yield seen.remark
    if not seen.kind:
        yield f"If another firewall stands between: let TCP port {seen.port} in."
