"""What a ruleset of nftables does with a new call for one TCP port (K19): values in, values out.

- The question is what becomes of a call from another machine. Where a rule asks for what such a call may or may not
  be (its source, its interface, a rate), it holds for some calls, and what follows from it is said with doubt.
- So a rule that refuses, and may mean the port, is never passed over: a port is called allowed or open only if no
  call for it is refused by any rule that was read.
- Chains that are jumped to are followed. What is done outside of the ruleset (a queue, an old extension) is unknown.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from volact.protocol.values import NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

ALLOWED, BLOCKED, OPEN, PARTLY, UNKNOWN = "allowed", "blocked", "open", "partly", "unknown"
"""A rule lets the port in; none does, and what no rule names is refused; nothing is refused; only some calls are let
in, or some may be refused; it cannot be told."""
_FAMILIES = ("inet", "ip", "ip6")
_ALWAYS, _SOME, _NEVER = 2, 1, 0
"""For which calls something holds."""
_DEEPEST = 16
"""So many chains deep the kernel itself follows jumps."""
_REFUSING = ("drop", "reject")
_HANDING_ON = ("jump", "goto")
_HARMLESS = (
    "counter",
    "log",
    "mangle",
    "notrack",
    "set",
    "map",
    "ct helper",
    "ct timeout",
    "secmark",
    "last",
)
_HARMLESS_TARGETS = ("LOG", "NFLOG", "MARK", "CONNMARK", "TRACE")
_PROTOCOLS = ("tcp", "th")
_WORST_FIRST = (BLOCKED, PARTLY, UNKNOWN, ALLOWED, OPEN)


class Chain(NamedTuple):
    """A chain through which calls for this machine come, as far as one port is concerned.

    Attributes:
        family, table, name: which one.
        policy: what becomes of what no rule decides: ``accept`` or ``drop``.
        fate: what a rule does with every call that has come so far: `ALLOWED`, `BLOCKED`, `UNKNOWN`; empty if none does.
        decides_at: the handle of that rule; None if none does.
        decider: that rule in words.
        lets_in: whether a rule before it lets some calls in.
        refusing: the rules before it that refuse some calls, or may, in words.
        unknown: those of which that cannot be told.
        own: the handles of our own rules for the port.
    """

    family: str
    table: str
    name: str
    policy: str
    fate: str = ""
    decides_at: int | None = None
    decider: str = ""
    lets_in: bool = False
    refusing: tuple[str, ...] = ()
    unknown: tuple[str, ...] = ()
    own: tuple[int, ...] = ()

    @property
    def blocks(self) -> bool:
        """Whether every call, but those that a rule lets in before, is refused: the port needs a rule."""
        return self.fate == BLOCKED or (not self.fate and self.policy == "drop")

    @property
    def state(self) -> str:
        """What it does with the port."""
        if self.blocks:
            return PARTLY if self.lets_in else BLOCKED
        if self.refusing:
            return PARTLY
        if self.unknown:
            return UNKNOWN
        return self.fate or OPEN

    def __str__(self) -> str:
        """What it does with the port, in words."""
        where = f"{self.family} {self.table} {self.name}"
        if self.blocks:
            by = f"`{self.decider}`" if self.decider else f"policy {self.policy}"
            return f"{where} refuses the rest by {by}" if self.lets_in else f"{where} refuses it by {by}"
        if self.refusing or self.unknown:
            return f"{where}: {', '.join(f'`{one}`' for one in (*self.refusing, *self.unknown)[:3])}"
        return f"{where}: `{self.decider}`" if self.decider else where


def chains(ruleset: Mapping[str, Any], port: int, comment: str) -> list[Chain]:
    """The input chains in what ``nft -j list ruleset`` prints, in its order; `comment` marks our own rules."""
    members = [(kind, one) for entry in ruleset.get("nftables", ()) for kind, one in entry.items()]
    rules: dict[tuple[object, ...], list[Mapping[str, Any]]] = {}
    for kind, one in members:
        if kind == "rule":
            rules.setdefault(_place(one, "chain"), []).append(one)
    return [
        _Walk(rules, one, port, comment).chain()
        for kind, one in members
        if kind == "chain" and one.get("hook") == "input" and one.get("type") == "filter"
        if one.get("family") in _FAMILIES
    ]


def state_of(found: Sequence[Chain]) -> str:
    """What all chains together do with the port: a call has to pass each of them."""
    states = {one.state for one in found}
    return next((state for state in _WORST_FIRST if state in states), OPEN)


def _place(one: Mapping[str, Any], name: str) -> tuple[object, ...]:
    return one.get("family"), one.get("table"), one.get(name)


class _Walk:
    """The way of a call through one input chain."""

    def __init__(
        self,
        rules: Mapping[tuple[object, ...], Sequence[Mapping[str, Any]]],
        chain: Mapping[str, Any],
        port: int,
        comment: str,
    ) -> None:
        self._rules, self._chain, self._port, self._comment = rules, chain, port, comment
        self._lets_in = False
        self._refusing: list[str] = []
        self._unknown: list[str] = []

    def chain(self) -> Chain:
        """What the chain does."""
        family, table, name = (str(one) for one in _place(self._chain, "name"))
        policy = str(self._chain.get("policy", "accept"))
        found, fate, decides_at, decider = self._rules.get(_place(self._chain, "name"), ()), "", None, ""
        certainty = _ALWAYS
        for rule in found:
            ends, fate, certainty = self._rule(rule, shown(rule), certainty, 0)
            if ends:
                decides_at, decider = (int(rule["handle"]), shown(rule)) if fate else (None, "")
                break
        own = [
            int(rule["handle"])
            for rule in found
            if rule.get("comment") == self._comment
            if any(verdict == "accept" for _, verdict, _ in _verdicts(rule, self._port))
        ]
        refusing, unknown = tuple(dict.fromkeys(self._refusing)), tuple(dict.fromkeys(self._unknown))
        return Chain(
            family,
            table,
            name,
            policy,
            fate,
            decides_at,
            decider,
            self._lets_in,
            refusing,
            unknown,
            tuple(own),
        )

    def _rule(self, rule: Mapping[str, Any], text: str, certainty: int, depth: int) -> tuple[bool, str, int]:
        """Whether every call's way ends at this rule, with which fate, and for which calls those behind it are.

        `text` is the input chain's rule by which a call came here.
        """
        for held, verdict, target in _verdicts(rule, self._port):
            both = min(certainty, held)
            if verdict == "return":
                if held == _ALWAYS:
                    return True, "", certainty
                certainty = _SOME
            elif verdict in _HANDING_ON:
                fate = self._through(target, text, both, depth + 1)
                if fate or (verdict == "goto" and held == _ALWAYS):
                    return True, fate, certainty
            else:
                fate = self._decided(verdict, text, both)
                if fate:
                    return True, fate, certainty
        return False, "", certainty

    def _through(self, name: str, text: str, certainty: int, depth: int) -> str:
        """The fate of every call in another chain; empty if it comes back, or not every call gets there."""
        if depth > _DEEPEST:
            self._unknown.append(text)
            return ""
        for rule in self._rules.get((*_place(self._chain, "name")[:2], name), ()):
            ends, fate, certainty = self._rule(rule, text, certainty, depth)
            if ends:
                return fate
        return ""

    def _decided(self, verdict: str, text: str, certainty: int) -> str:
        """The fate that a verdict is for every call; empty if it is not for every one, and then it is noted."""
        if verdict == "accept":
            self._lets_in = self._lets_in or certainty < _ALWAYS
            return ALLOWED if certainty == _ALWAYS else ""
        if certainty < _ALWAYS:
            (self._refusing if verdict in _REFUSING else self._unknown).append(text)
            return ""
        if verdict in _REFUSING:
            return BLOCKED
        self._unknown.append(text)
        return UNKNOWN


# --- what a rule is for -----------------------------------------------------------------------------------------


def _verdicts(rule: Mapping[str, Any], port: int) -> Iterator[tuple[int, str, str]]:
    """For which calls (never for none) a rule has which verdict, and the chain that it hands them on to."""
    certainty = _ALWAYS
    for statement in rule.get("expr", ()):
        name, body = next(iter(statement.items()))
        if name == "match":
            certainty = min(certainty, _matches(body, port))
        elif name == "vmap":
            yield from _mapped(body, certainty, port)
        elif name in ("accept", "return", *_REFUSING):
            yield certainty, name, ""
        elif name in _HANDING_ON:
            yield certainty, name, str(body.get("target", ""))
        elif name == "xt":
            ends = body.get("type") == "target" if body else None  # an older nft does not say what it is
            if ends is not False and (not body or body.get("name") not in _HARMLESS_TARGETS):
                yield certainty if ends else min(certainty, _SOME), name, ""
            certainty = certainty if ends else min(certainty, _SOME)
        elif name == "queue":
            yield certainty, name, ""
        elif name not in _HARMLESS:
            certainty = min(certainty, _SOME)  # a limit, say
        if certainty == _NEVER:
            return


def _mapped(body: Mapping[str, Any], certainty: int, port: int) -> Iterator[tuple[int, str, str]]:
    """The same of a map of verdicts."""
    data = body.get("data")
    entries = data.get("set", ()) if isinstance(data, dict) else ()
    if not isinstance(data, dict):
        yield min(certainty, _SOME), "vmap", ""  # a named map, whose entries come and go
    for key, verdict in entries:
        held = min(certainty, _matches({"op": "==", "left": body.get("key"), "right": key}, port))
        name, target = next(iter(verdict.items()))
        if held != _NEVER:
            yield held, name, str((target or {}).get("target", ""))


def _matches(match: Mapping[str, Any], port: int) -> int:
    """For which calls a match holds."""
    left, right, op = match.get("left"), match.get("right"), match.get("op")
    kind, what = _first(left)
    negated = op == "!="
    if kind == "payload" and what.get("protocol") not in (*_PROTOCOLS, "ip", "ip6", "ether", "vlan", None):
        return _NEVER  # another protocol's
    if _is_flags(left):
        return _flags(left, op, right)
    if kind == "meta" and what.get("key") in ("iif", "iifname"):
        loopback = _equal("lo", right)  # nobody else calls there
        held = _NEVER if loopback == _ALWAYS and right == "lo" else _SOME
        return _ALWAYS - held if negated else held
    if kind == "payload" and (what.get("protocol"), what.get("field")) in (
        ("ip", "protocol"),
        ("ip6", "nexthdr"),
    ):
        held = _equal("tcp", right)
        held = _ALWAYS - held if negated else held
        return min(held, _SOME)  # of one family alone
    value = _known(kind, what, port)
    if value is None:
        return _SOME
    if op in ("<", ">", "<=", ">="):
        return _compared(value, op, right)
    held = _equal(value, right)
    return _ALWAYS - held if negated else held


def _first(left: object) -> tuple[str, Any]:
    """What an expression is, and its members, if it has such."""
    if isinstance(left, dict):
        kind, what = next(iter(left.items()))
        if isinstance(what, dict):
            return kind, what
    return "", {}


def _known(kind: str, what: Any, port: int) -> object:  # noqa: ANN401 - whatever nft prints
    """What every call is known to be, where a rule asks for that; None if they differ."""
    if kind == "payload" and what.get("protocol") in _PROTOCOLS and what.get("field") == "dport":
        return port
    if kind == "meta":
        return {"l4proto": "tcp", "pkttype": "host"}.get(what.get("key"))
    if kind == "ct":
        return {"state": "new", "direction": "original"}.get(what.get("key"))
    if kind == "fib" and what.get("result") == "type" and "daddr" in what.get("flags", ()):
        return "local"
    return None


def _equal(value: object, right: object) -> int:
    """For which calls a known value is the one, or among those, that a rule names."""
    if isinstance(right, list):
        return max((_equal(value, one) for one in right), default=_NEVER)
    if isinstance(right, dict):
        if "set" in right:
            return _equal(value, right["set"])
        if "range" in right and isinstance(value, int):
            low, high = right["range"]
            return _ALWAYS if low <= value <= high else _NEVER
        return _SOME
    if isinstance(right, str) and right.startswith("@"):
        return _SOME  # a named set, whose elements come and go
    if value == "tcp" and right == _TCP:
        return _ALWAYS
    return _ALWAYS if value == right else _NEVER


_TCP = 6
"""Its number, as nft prints it in sets with protocols that have no name."""


def _compared(value: object, op: str, right: object) -> int:
    if not (isinstance(value, int) and isinstance(right, int)):
        return _SOME
    held = {"<": value < right, ">": value > right, "<=": value <= right, ">=": value >= right}[op]
    return _ALWAYS if held else _NEVER


def _is_flags(left: object) -> bool:
    if isinstance(left, dict) and "&" in left:
        return _is_flags(left["&"][0])
    return left == _FLAGS


_FLAGS = {"payload": {"protocol": "tcp", "field": "flags"}}


def _flags(left: Any, op: object, right: object) -> int:  # noqa: ANN401 - whatever nft prints
    """For which calls a match of TCP's flags holds: a new call has SYN alone."""
    seen = {"syn"} & set(_words(left["&"][1])) if "&" in left else {"syn"}
    wanted = set(_words(right))
    held = bool(seen & wanted) if op == "in" else seen == wanted
    return _ALWAYS if held != (op == "!=") else _NEVER


def _words(found: object) -> Iterable[str]:
    """The names of flags in what nft prints: one, a list, or an expression of them."""
    if isinstance(found, dict):
        found = [one for value in found.values() for one in value]
    if isinstance(found, list):
        return [word for one in found for word in _words(one)]
    return [found] if isinstance(found, str) else []


# --- a rule for people ------------------------------------------------------------------------------------------


def shown(rule: Mapping[str, Any]) -> str:
    """A rule nearly as nft lists it; what has no short form is JSON."""
    return " ".join(filter(None, (_statement(*next(iter(one.items()))) for one in rule.get("expr", ()))))


def _statement(name: str, body: Any) -> str:  # noqa: ANN401 - whatever nft prints
    if name == "match":
        op = "" if body.get("op") in ("==", "in") else f"{body.get('op')} "
        return f"{_expression(body.get('left'))} {op}{_value(body.get('right'))}"
    if name in _HANDING_ON:
        return f"{name} {body.get('target')}"
    return "" if name == "counter" else name


def _expression(left: Any) -> str:  # noqa: ANN401 - whatever nft prints
    kind, what = _first(left)
    if kind == "payload" and "field" in what:
        return f"{what['protocol']} {what['field']}"
    if kind == "meta" and str(what.get("key")).startswith(("iif", "oif")):
        return str(what["key"])
    if kind in ("meta", "ct") and "key" in what:
        return f"{kind} {what['key']}"
    return json.dumps(left)


def _value(right: Any) -> str:  # noqa: ANN401 - whatever nft prints
    if isinstance(right, dict):
        if "set" in right:
            return "{ " + ", ".join(_value(one) for one in right["set"]) + " }"
        if "prefix" in right:
            return f"{right['prefix'].get('addr')}/{right['prefix'].get('len')}"
        if "range" in right:
            return "-".join(_value(one) for one in right["range"])
    if isinstance(right, list):
        return ",".join(_value(one) for one in right)
    return right if isinstance(right, str) else json.dumps(right)
