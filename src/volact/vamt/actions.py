"""What is done to machines: each action, its words on a machine, and when what waits or is repeated is due. Pure (V5).

- An action is done to one product on one machine, by a few commands of that machine's own volact. A product key goes on
  their standard input and stands in none of their words (M8).
- What a machine says of itself decides which commands there are: none where it is so already. So an action that was
  begun before, and of whose end nobody knows, is done once: it counts no second activation.
- What failed because the machine is off, or busy, may wait for it: tried again ever more seldom, so often and so long
  as `policy` says.
- What is repeated and was missed is done once, not as often as it was missed.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from volact.protocol import policy
from volact.protocol.policy import DAY, HOUR, MINUTE
from volact.protocol.problems import PROBLEMS, Refusal
from volact.vamt.collecting.targets import SLMGR, VOLACT, WINRM
from volact.vamt.discovering import names
from volact.vamt.inventory import WINDOWS
from volact.vamt.recommending import MAK, RETAIL

if TYPE_CHECKING:
    from collections.abc import Mapping

    from volact.vamt.inventory import Product

INSTALL_KEY, REMOVE_KEY = "install-key", "remove-key"
ONLINE, KMS = "activate-online", "activate-kms"
SET_HOST, CLEAR_HOST = "set-host", "clear-host"
DEACTIVATE, REFRESH = "deactivate", "refresh-status"

LEAST: Mapping[str, str] = {
    INSTALL_KEY: "install-key",
    REMOVE_KEY: "remove-key",
    ONLINE: "activate",
    KMS: "activate",
    SET_HOST: "set-host",
    CLEAR_HOST: "set-host",
    DEACTIVATE: "deactivate",
    REFRESH: "collect",
}
"""Each action, and the name in `people.LEAST` that says who may do it."""

_LICENSED = 1
_OWN = (MAK, RETAIL)
_KMS_CHANNEL = "kms"
_AGAIN_LATER = frozenset(
    (
        "unreachable-name",
        "unreachable-port",
        "timed-out",
        "machine-in-use",
        "in-use",
        "busy",
        "authority-unreachable",
        "authority-expired",
        "storage-unavailable",
        "too-many-requests",
        "host-unreachable",
        "host-not-found",
        "count-insufficient",
    )
)
"""What a later try may mend without anybody's doing."""
ABOUT_THE_KEY = frozenset(("key-blocked", "no-activations-left", "key-not-held", "key-unknown"))
"""What another key, or more of this one, would mend."""
_MOST_PORT = 65535


class Action(NamedTuple):
    """What is to be done.

    Attributes:
        name: one of `LEAST`.
        product: only to this product; empty: to each of a machine's.
        key: `INSTALL_KEY`: thumbprint of the one key to take; empty: those that are recommended.
        activate: `INSTALL_KEY`: whether to activate with it at once.
        host: `SET_HOST`: ``NAME[:PORT]``, ``[IPv6]:PORT`` or ``:PORT``; empty: the host stays.
        domain: `SET_HOST`: in which domain hosts are looked for; empty: that stays.
    """

    name: str
    product: str = ""
    key: str = ""
    activate: bool = False
    host: str = ""
    domain: str = ""

    @property
    def least(self) -> str:
        """The name in `people.LEAST` that says who may do it."""
        return LEAST[self.name]

    def said(self) -> dict[str, Any]:
        """It as JSON, without what is not given; of a key that is its thumbprint."""
        return {name: value for name, value in self._asdict().items() if value}


def read(said: Mapping[str, Any]) -> Action:
    """The action that `Action.said` wrote; members of other things beside it are left out."""
    return Action(**{name: value for name, value in said.items() if name in Action._fields})


def wrong(action: Action) -> str:
    """What is wrong with an action as it was given, as a sentence; empty if nothing is."""
    if action.name not in LEAST:
        return f"There is no action {action.name[:40]!r}; there are {', '.join(LEAST)}."
    if action.name == SET_HOST and not (action.host or action.domain):
        return "Nothing is to be set: neither a host nor a domain."
    if action.host and not is_host(action.host):
        return f"{names.shown(action.host)} is no NAME, NAME:PORT, [IPv6]:PORT or :PORT."
    if action.domain and names.host(action.domain) is None:
        return f"{names.shown(action.domain)} is no domain."
    of_a_host, of_a_key = action.host or action.domain, action.key or action.activate
    if (of_a_host and action.name != SET_HOST) or (of_a_key and action.name != INSTALL_KEY):
        return f"A host or domain goes with {SET_HOST}, a key with {INSTALL_KEY}."
    return ""


def is_host(text: str) -> bool:
    """Whether a text is a KMS host's address as slmgr takes it; the machine reads it again."""
    if text.startswith("["):
        name, bracket, port = text[1:].partition("]")
        is_name = bool(bracket) and ":" in name and names.address(name) is not None
    else:
        name, colon, rest = text.partition(":")
        port = colon + rest
        is_name = not name or names.host(name) is not None or names.address(name) is not None
        is_name = is_name and (bool(name) or bool(rest))
    return is_name and (not port or _is_port(port))


def _is_port(text: str) -> bool:
    digits = text.removeprefix(":")
    is_number = digits.isascii() and digits.isdigit() and text.startswith(":")
    return is_number and len(digits) <= len(str(_MOST_PORT)) and 1 <= int(digits) <= _MOST_PORT


# --- on one machine -------------------------------------------------------------------------------------------


class Step(NamedTuple):
    """One command on a machine.

    Attributes:
        program: `VOLACT` or `SLMGR`.
        words: what follows it.
        takes_key: whether the product key goes on its standard input.
    """

    program: str
    words: tuple[str, ...]
    takes_key: bool = False


def steps(
    action: Action, there: Product | None, label: str = "", *, again: bool = False
) -> tuple[Step, ...] | Refusal:
    """The commands that do it where a machine says `there` of the product; none if it is so already.

    `label` is that of the key that this machine is to take. `again`: whether it was begun before, so that what it finds
    done is taken for its own doing.
    """
    if action.name == REFRESH:
        return ()
    if there is None:
        return Refusal("product-not-installed", action.product and f"{action.product} is not.")
    if there.publisher == WINDOWS:
        return Refusal("transport-reads-only", "Of Windows itself VAMT shows the state, and changes nothing.")
    return _STEPS[action.name](action, there, label, again)


def _volact(words: tuple[str, ...], there: Product, *, takes_key: bool = False) -> Step:
    more = ("-",) if takes_key else ()
    return Step(VOLACT, ("client", *words, "--product", there.product, *more, "--json"), takes_key)


def _slmgr(there: Product, *words: str) -> Step:
    return Step(SLMGR, (*words, there.product, "--role", "client", "--json"))


def _install(action: Action, there: Product, label: str, again: bool) -> tuple[Step, ...] | Refusal:
    has = there.channel in _OWN and there.partial_key == label
    is_enough = there.state == _LICENSED or (again and not action.activate)
    if not action.key and there.state == _LICENSED and there.channel in _OWN:
        return ()  # a recommended key is for who has none: another one would cost an activation
    if has and is_enough:
        return ()
    if not label:
        return Refusal("no-activations-left", "No key is left for this machine.")
    install = _volact(("install-key",), there, takes_key=True)
    return (install, _volact(("activate",), there)) if action.activate else (install,)


def _online(_action: Action, there: Product, _label: str, _again: bool) -> tuple[Step, ...] | Refusal:
    if there.channel not in _OWN:
        return Refusal("no-key-installed", "It is a KMS client.")
    return () if there.state == _LICENSED else (_volact(("activate",), there),)


def _by_kms(_action: Action, there: Product, _label: str, again: bool) -> tuple[Step, ...] | Refusal:
    if there.channel != _KMS_CHANNEL:
        return Refusal("key-in-the-way")
    return () if again and there.state == _LICENSED else (_slmgr(there, "/ato"),)


def _set_host(action: Action, there: Product, _label: str, _again: bool) -> tuple[Step, ...]:
    host = (_slmgr(there, "/skms", action.host),) if action.host else ()
    return (*host, _slmgr(there, "/skms-domain", action.domain)) if action.domain else host


def _clear_host(_action: Action, there: Product, _label: str, _again: bool) -> tuple[Step, ...]:
    return (_slmgr(there, "/ckms"),)


def _deactivate(_action: Action, there: Product, _label: str, again: bool) -> tuple[Step, ...] | Refusal:
    if there.reason == "activation-returned":
        return () if again else Refusal("activation-returned", "This machine gave it back.")
    if there.channel == _KMS_CHANNEL or there.granted is None:
        return Refusal("nothing-to-return")
    return (_volact(("return",), there),)


def _remove(_action: Action, there: Product, _label: str, again: bool) -> tuple[Step, ...] | Refusal:
    if there.partial_key:
        return (_slmgr(there, "/upk"),)
    return () if again else Refusal("no-key-installed")


_STEPS = {
    INSTALL_KEY: _install,
    REMOVE_KEY: _remove,
    ONLINE: _online,
    KMS: _by_kms,
    SET_HOST: _set_host,
    CLEAR_HOST: _clear_host,
    DEACTIVATE: _deactivate,
}


def is_out_of_reach(transport: str, action: Action) -> Refusal | None:
    """Why an action cannot be brought to a machine by its transport; None if it can."""
    if transport == WINRM and action.name != REFRESH:
        return Refusal("transport-reads-only", "Only `refresh-status` goes this way.")
    return None


def done(action: Action, label: str, *, changed: bool) -> str:
    """What is said of a row that is done; `changed`: whether anything had to be."""
    if not changed and action.name != REFRESH:
        return "It was so already; nothing was changed."
    key = f"The key ...-{label} is installed" + (
        ", and the product activated with it." if action.activate else "."
    )
    host = f"The KMS host is {action.host}." if action.host else ""
    domain = f"KMS hosts are looked for in {action.domain}." if action.domain else ""
    return {
        INSTALL_KEY: key,
        REMOVE_KEY: "The key is removed.",
        ONLINE: "Activated.",
        KMS: "Activated by a KMS host.",
        SET_HOST: f"{host} {domain}".strip(),
        CLEAR_HOST: "No KMS host is set; hosts are found by DNS.",
        DEACTIVATE: "The activation is given back.",
        REFRESH: "The machine said how it is.",
    }[action.name]


def next_step(code: str) -> str:
    """What to do next after a row came to this code; one that is not known here is a newer machine's."""
    return PROBLEMS[code].next_step if code in PROBLEMS else "Ask on the machine what it means."


def sentence(code: str, detail: str) -> str:
    """A row's code and detail as one text for people."""
    title = PROBLEMS[code].sentence if code in PROBLEMS else ""
    return title if detail == title else f"{title} {detail}".strip()


# --- waiting --------------------------------------------------------------------------------------------------


def may_wait(code: str) -> bool:
    """Whether a later try may mend what a row came to."""
    return code in _AGAIN_LATER


def next_try(now: int, tries: int, until: int) -> int | None:
    """When a row that was tried so often is tried again; None if it is given up. Seconds UTC."""
    if tries >= policy.QUEUE_TRIES or now >= until:
        return None
    # Twice as long each time; the shift is bounded, for a number of a thousand digits would be no time.
    wait = min(policy.QUEUE_AGAIN << min(max(tries - 1, 0), 16), policy.QUEUE_LONGEST)
    return min(now + wait, until)


# --- repeating ------------------------------------------------------------------------------------------------


def every(text: str) -> int | None:
    """Seconds of ``15m``, ``2h``, ``1d``; None if it is none of these, or out of bounds."""
    seconds = policy.duration(text)
    if seconds is None or not policy.SCHEDULE_SHORTEST <= seconds <= policy.SCHEDULE_LONGEST:
        return None
    return seconds


def time_of_day(text: str) -> int | None:
    """Seconds into the day, UTC, of ``02:00``; None if it is none."""
    hours, _, minutes = text.partition(":")
    parts = (hours, minutes)
    if not all(len(one) == len("00") and one.isascii() and one.isdigit() for one in parts):
        return None
    seconds = int(hours) * HOUR + int(minutes) * MINUTE
    return seconds if seconds < DAY and int(minutes) * MINUTE < HOUR else None


def first(now: int, interval: int, at: int | None) -> int:
    """When something is done first that begins at `now`: at its time of day, or after one interval."""
    if at is None:
        return now + interval
    return now + ((at - now) % DAY or DAY)


def following(planned: int, interval: int, now: int) -> int:
    """When it is done after the time that was `planned` and has come: the next moment of its rhythm after `now`."""
    return planned + interval * ((now - planned) // interval + 1)
