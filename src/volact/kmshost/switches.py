"""The classic switches on a KMS host (rule S): what `slmgr` does when it addresses the host of this machine.

Each opens the host, calls one method, and prints in the words of rule S; a running service takes up a setting within
a second.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from volact import config
from volact.commands import when
from volact.kmshost import dnscommands, reporting, settings, setup
from volact.kmshost.activating import HOST, Activating
from volact.protocol.policy import MINUTE
from volact.protocol.problems import Refusal, Refused, UsageError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from volact.console import Console
    from volact.kmshost.settings import Changed
    from volact.kmshost.setup import Opened

_CLASSIC = {"Out-of-tolerance grace": "Expired or out of tolerance"}
"""States whose requests `/dli` counts under another name than that of rule E (rule S)."""


def install_key(out: Console, text: str, product: str | None = None) -> None:
    """`/ipk` with a KMS host key."""
    with setup.opened() as opened:
        done = Activating(opened).install_key(text, product)
    replaced = f"\nIt replaces ...-{done.replaced}, which was not used." if done.replaced else ""
    out.answer(
        {
            "product": done.product,
            "channel": "kms-host",
            "partial_key": done.label,
            "replaced": done.replaced or None,
        },
        f"Installed KMS host key ...-{done.label} successfully.{replaced}",
    )


def activate(out: Console, _words: list[str]) -> None:
    """`/ato`: activate the host with its key, online."""
    with setup.opened() as opened:
        done = Activating(opened).online(HOST, None)
        found = {**reporting.status(opened), "was": None if done.was is None else when(done.was)}
    if done.warning():
        out.remark(f"warning: {done.warning()}")
    out.answer(found, f"KMS host activated successfully until {found['until']}.")


def set_port(out: Console, words: list[str]) -> None:
    """`/sprt PORT`."""
    _set(out, settings.set_port, words[0], "KMS port set to {}.")


def set_retry(out: Console, words: list[str]) -> None:
    """`/sai MIN`."""
    _set(out, settings.set_retry, words[0], "Activation (retry) interval set to {} minutes.")


def set_renewal(out: Console, words: list[str]) -> None:
    """`/sri MIN`."""
    _set(out, settings.set_renewal, words[0], "Renewal interval set to {} minutes.")


def publish(out: Console, _words: list[str]) -> None:
    """`/sdns`."""
    _switch(out, on=True, prose="DNS publishing enabled.")


def do_not_publish(out: Console, _words: list[str]) -> None:
    """`/cdns`."""
    _switch(out, on=False, prose="DNS publishing disabled.")


def normal_priority(out: Console, _words: list[str]) -> None:
    """`/spri`."""
    _prioritise(out, low=False, prose="KMS priority set to Normal.")


def low_priority(out: Console, _words: list[str]) -> None:
    """`/cpri`."""
    _prioritise(out, low=True, prose="KMS priority set to Low.")


def _prioritise(out: Console, *, low: bool, prose: str) -> None:
    with setup.opened() as opened:
        done = settings.set_priority(opened, low=low)
    _say(out, done, prose)


def _switch(out: Console, *, on: bool, prose: str) -> None:
    with setup.opened() as opened:
        done = settings.set_publishing(opened, on=on)
    _say(out, done, prose)


def _set(out: Console, change: Callable[[Opened, int], Changed], word: str, prose: str) -> None:
    number = config.whole(word)
    if number is None:
        raise UsageError(f"{word[:40]!r} is no whole number.", "See `slmgr /?`.")
    with setup.opened() as opened:
        done = change(opened, number)
    _say(out, done, prose.format(done.value))


def _say(out: Console, done: Changed, prose: str) -> None:
    if done.warning:
        out.remark(f"warning: {done.warning}")
    members = {**done._asdict(), "from": done.wins}
    del members["wins"]
    out.answer(members, prose)


def information(out: Console, _words: list[str]) -> None:
    """`/dli`."""
    found = status()
    out.answer(found, "\n".join(lines(found)))


def all_information(out: Console, _words: list[str]) -> None:
    """`/dlv`: the host, and the products that are installed beside it."""
    found = status(detailed=True)
    out.answer(found, "\n".join([*lines(found), *details(found)]))


def expiry(out: Console, _words: list[str]) -> None:
    """`/xpr`: until when the host may issue."""
    found = status()
    if not found["activated"]:
        raise Refused(Refusal("host-not-activated"))
    members = {
        name: found[name] for name in ("host", "activated", "since", "until", "used_percent", "warning")
    }
    out.answer(members, f"KMS host: activated until {found['until']}")


def status(*, detailed: bool = False) -> dict[str, Any]:
    """All that `/dli` tells, or `/dlv`.

    That has the records to enter by hand where the host does not publish itself, and what the products' policies say.
    """
    with setup.opened() as opened:
        found = reporting.status(opened)
        if detailed:
            if not (found["dns"]["publishing"] and found["dns"]["domains"]):
                found["dns"]["records"] = dnscommands.by_hand(opened)
            policies = opened.policies()
            found["policy_minutes"] = {
                "retry": sorted({one.retry // MINUTE for one in policies}),
                "renewal": sorted({one.renewal // MINUTE for one in policies}),
            }
        return found


def lines(found: Mapping[str, Any]) -> list[str]:
    """`/dli` in the words of rule S."""
    requests = found["requests"]
    activated = f"activated until {found['until']}" if found["activated"] else "not activated"
    text = [f"Key Management Service is {activated}", f"Partial Product Key: {found['partial_key'] or '-'}"]
    if found["waiting_key"] and found["activated"]:
        text.append(f"Notice: the key ...-{found['waiting_key']} is installed and not activated yet.")
    if found["warning"]:
        text.append(f"Notice: {found['warning']}")
    if found["settings_problem"]:
        text.append(f"Notice: {reporting.broken_settings(found)}")
    for one in found["products"]:
        text.append(f"Product: {one['name']} ({one['product']})")
        text.append(f"    Current count: {one['count']} (required {one['required']} {one['counted']})")
    text.append(f"Listening on Port: {port_of(found)}")
    switched, *domains = dnscommands.prose(found["dns"])
    text.append(switched)
    if found["dns"]["publishing"] and not found["dns"]["domains"]:
        text.append("    Nothing is published: no domain is set (setting dns_domains).")
    text += domains
    text.append(f"KMS priority: {'Low' if found['settings']['low_priority']['value'] else 'Normal'}")
    text.append("Cumulative requests received from clients:")
    text.append(f"    Total requests received: {requests['total']}")
    text.append(f"    Failed requests received: {requests['failed']}")
    text += [
        f"    Requests with License Status {_CLASSIC.get(name, name)}: {many}"
        for name, many in requests["by_state"].items()
    ]
    text += [f"    Requests answered {outcome}: {many}" for outcome, many in requests_by_outcome(found)]
    return text


def port_of(found: Mapping[str, Any]) -> str:
    """The port that is listened on now, or that nothing listens."""
    listening = found["listening"]
    return str(listening["port"]) if listening else f"not running (set: {found['settings']['port']['value']})"


def details(found: Mapping[str, Any]) -> list[str]:
    """What `/dlv` says beyond `/dli`."""
    text = [
        f"KMS host id: {found['host']}",
        f"Publisher: {found['publisher']}",
        f"Storage: {found['storage']}",
    ]
    for name, label in (("listen", "Listening on address"), ("port", "Port")):
        one = found["settings"][name]
        text.append(f"{label}: {one['value']} (from: {one['from']})")
    for name, label in (("retry", "Activation (retry) interval"), ("renewal", "Renewal interval")):
        one = found["settings"][f"{name}_minutes"]
        told = " or ".join(map(str, found["policy_minutes"][name]))
        policies = f"{told} minutes (from: the product's policy)" if told else "each product's policy"
        text.append(
            f"{label}: {one['value']} minutes (from: {one['from']})"
            if one["value"]
            else f"{label}: {policies}"
        )
    return text


def requests_by_outcome(found: Mapping[str, Any]) -> list[tuple[str, int]]:
    """How often each answer was given, the most frequent first."""
    given: dict[str, int] = found["requests"]["by_outcome"]
    return sorted(given.items(), key=lambda one: (-one[1], one[0]))
