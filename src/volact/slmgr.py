"""``slmgr``: the classic switches, with ``/`` or ``-``, on this machine (rule S).

Each switch calls one method of the client and prints in the words of rules E and S; ``--json`` prints the same
as one JSON value. Of a key only the last group is ever shown.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from volact import config, console
from volact.client import cli, reporting
from volact.client.folder import read_file
from volact.console import DONE, USAGE, Console
from volact.files import write_durably
from volact.protocol import jws
from volact.protocol.problems import BrokenData, Refusal, Refused, UsageError

if TYPE_CHECKING:
    from collections.abc import Callable


class Switch(NamedTuple):
    """A switch: what it takes, how many words that may be (PRODUCT not counted), what it does, and its help."""

    words: str
    least: int
    most: int
    run: Callable[[Console, list[str], str | None], None]
    help: str


def usage() -> str:
    """What ``slmgr`` says without a switch."""
    lines = ["usage: slmgr SWITCH [WORDS] [PRODUCT] [--json]", ""]
    lines += [f"  /{name + ' ' + switch.words:<18} {switch.help}" for name, switch in SWITCHES.items()]
    lines += ["", "PRODUCT is needed when several products are installed. - may stand for /."]
    return "\n".join([*lines, "Exit codes: 0 done, 1 refused, 2 usage, 3 could not reach, 4 broken data."])


def main(arguments: list[str] | None = None) -> int:
    """Run ``slmgr ...`` and say its exit code."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    out = Console(json="--json" in words)
    words = [word for word in words if word != "--json"]
    if not words or words[0] in ("/?", "-?", "-h", "--help", "/help"):
        out.answer({"switches": [f"/{name}" for name in SWITCHES]}, usage())
        return DONE if words else USAGE
    return console.run(out, lambda: _run(out, words))


def _run(out: Console, words: list[str]) -> None:
    first = words[0]
    name = first[1:].lower() if first[:1] in ("/", "-") else ""
    switch = SWITCHES.get(name)
    if switch is None:
        known = {f"/{one}": one for one in SWITCHES}
        raise UsageError(
            f"There is no switch {first[:40]!r}{config.nearest(f'/{name}', known)}.", "See `slmgr /?`."
        )
    given = words[1:]
    if not switch.least <= len(given) <= switch.most + 1:
        raise UsageError(f"/{name} takes: {switch.words or 'nothing'}, and PRODUCT.", "See `slmgr /?`.")
    given, product = _split_product(given, switch)
    switch.run(out, given, product)


def _split_product(given: list[str], switch: Switch) -> tuple[list[str], str | None]:
    """The switch's own words, and PRODUCT.

    That is the last word if there is one more than the switch takes, or if it is a product that is installed.
    """
    if len(given) > switch.most or (len(given) > switch.least and _is_installed(given[-1])):
        return given[:-1], given[-1]
    return given, None


def _is_installed(word: str) -> bool:
    return any(row.members["product"] == word for row in cli.rows())


def _selected(product: str | None) -> reporting.Row:
    """The row of the product that is meant."""
    rows = [row for row in cli.rows() if product in (None, row.members["product"])]
    if not rows:
        raise Refused(Refusal("product-not-installed", f"{product} is not." if product else ""))
    if len(rows) > 1:
        names = ", ".join(row.members["product"] for row in rows)
        raise Refused(Refusal("product-ambiguous", f"Installed: {names}."))
    return rows[0]


def _install_key(out: Console, words: list[str], product: str | None) -> None:
    client = cli.client()
    pub, name = client.select(product)
    label = client.install_key(console.secret_argument(words[0]), name)
    members = {"publisher": pub, "product": name, "channel": label.kind, "partial_key": label.label}
    out.answer(members, f"Installed product key ...-{label.label} successfully.")


def _remove_key(out: Console, _words: list[str], product: str | None) -> None:
    pub, name = cli.client().remove_key(product)
    out.answer({"publisher": pub, "product": name}, f"Uninstalled the product key of {name} successfully.")


def _activate(out: Console, _words: list[str], product: str | None) -> None:
    done = cli.activated(out, product)
    row = _selected(done.product)
    out.answer(row.members, f"Product activated successfully: {row.members['state_name']}.")


def _information(out: Console, _words: list[str], product: str | None) -> None:
    row = _selected(product)
    out.answer(row.members, "\n".join(reporting.lines(row)))


def _all_information(out: Console, _words: list[str], product: str | None) -> None:
    row = _selected(product)
    intervals: dict[str, Any] = (
        {"renewal": row.policy.renewal, "retry": row.policy.retry} if row.policy is not None else {}
    )
    members = {**row.members, "rearms_left": row.rearms_left, "thin": row.thin, **intervals}
    members["unreadable"] = list(row.unreadable)
    out.answer(members, "\n".join([*reporting.lines(row), *reporting.details(row)]))


def _expiry(out: Console, _words: list[str], product: str | None) -> None:
    row = _selected(product)
    names = ("publisher", "product", "state", "state_name", "expires")
    prose = f"{row.name or row.members['product']}: {reporting.expiry(row)}"
    out.answer({name: row.members[name] for name in names}, prose)


def _question(out: Console, words: list[str], product: str | None) -> None:
    question = cli.client().question(product)
    if words:
        try:
            write_durably(Path(words[0]), jws.write_json(question.bundle))
        except OSError as error:
            raise BrokenData(f"{words[0]}: {error.strerror}.", "not-writable") from None
    where = f"The request is in {words[0]}." if words else "`slmgr /dti FILE` writes the request to a file."
    members = {"publisher": question.publisher, "product": question.product, "iid": question.iid}
    out.answer({**members, "request": question.bundle}, f"Installation ID: {question.iid}\n{where}")


def _apply(out: Console, words: list[str], _product: str | None) -> None:
    done = cli.client().apply(_confirmation(words[0]))
    row = _selected(done.product)
    out.answer(row.members, f"Confirmation for {done.product} applied: {row.members['state_name']}.")


def _confirmation(word: str) -> bytes:
    """The bundle itself, pasted, from standard input (``-``), or from a file."""
    if word.lstrip().startswith("{"):
        return word.encode("utf-8", "replace")
    if word == "-":
        return _standard_input()
    if not os.path.exists(word):  # noqa: PTH110 - a Path raises for a name that is too long
        raise BrokenData(f"{word[:200]} is no file and no confirmation.", "not-readable")
    return read_file(word)


def _standard_input() -> bytes:
    try:
        return sys.stdin.read().encode("utf-8", "replace")
    except UnicodeDecodeError:
        raise BrokenData("Standard input is not text.", "not-readable") from None


def _rearm(out: Console, _words: list[str], product: str | None) -> None:
    pub, name, left = cli.client().rearm(product)
    members = {"publisher": pub, "product": name, "rearms_left": left}
    out.answer(members, f"{name} was reset; remaining rearm count: {left}.")


SWITCHES = {
    "ipk": Switch("KEY", 1, 1, _install_key, "install a product key (- for standard input, @FILE)"),
    "upk": Switch("", 0, 0, _remove_key, "remove the product key"),
    "ato": Switch("", 0, 0, _activate, "activate"),
    "dli": Switch("", 0, 0, _information, "show the licence"),
    "dlv": Switch("", 0, 0, _all_information, "show the licence in detail"),
    "xpr": Switch("", 0, 0, _expiry, "show when the present state ends"),
    "dti": Switch("[FILE]", 0, 1, _question, "show the installation id; write the request to FILE"),
    "atp": Switch("TEXT|FILE", 1, 1, _apply, "apply a confirmation"),
    "rearm": Switch("", 0, 0, _rearm, "reset grace and identity"),
}
"""What `slmgr` knows; a host's switches and those of another machine come with their roles."""
