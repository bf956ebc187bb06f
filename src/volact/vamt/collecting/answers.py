"""What a machine printed, read as a report or refused. Pure, for who prints it may be anybody (V2, T26).

- Whole or not at all: one member that is not what it must be, and nothing of the answer counts.
- A report is "reported": nothing in it is proved here, a grant that it shows is another's to verify to the pinned root,
  its machine included.
- Texts that are shown lose what would steer a terminal. Members that are not known here are a newer client's.
"""

from __future__ import annotations

import re
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, TypeVar

from volact.protocol import ids, jws
from volact.protocol.documents import STATE_NAMES
from volact.protocol.problems import DocumentRefused, Refusal, printable
from volact.vamt.collecting.targets import MOST_OUTPUT
from volact.vamt.discovering import names
from volact.vamt.inventory import Product, Report

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from volact.vamt.collecting.targets import Ran

T = TypeVar("T")

MOST_PRODUCTS, MOST_MACS, MOST_INSTANCES = 1000, 64, 1_000_000
_CHANNELS = ("mak", "retail", "kms")
_PARTIAL_KEY = re.compile(r"[0-9A-Z]{1,8}")
_IID = re.compile(r"[0-9 -]{1,100}")
_TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", re.ASCII)
_TEXT = 250
_NOT_FOUND = (126, 127)
"""What a shell says of a command that is not there, or cannot be run."""


class _Wrong(Exception):
    """A member of an answer that is not what it must be."""


def of_run(ran: Ran) -> Report | Refusal:
    """The report in what ``volact client status --json`` came to on a machine, or why there is none."""
    said = first_line(ran.err) or first_line(ran.out)
    if ran.exit in _NOT_FOUND:
        return Refusal("client-missing", said)
    if ran.exit != 0:
        return Refusal("client-failed", f"Exit code {ran.exit}: {said or 'nothing was said'}")
    return of_status(ran.out)


def of_command(ran: Ran) -> dict[str, Any] | Refusal:
    """What a command of volact's or slmgr's with ``--json`` answered; or why it did not, in its own words if it has some."""
    said = first_line(ran.err) or first_line(ran.out)
    if ran.exit in _NOT_FOUND:
        return Refusal("client-missing", said)
    failed = Refusal("client-failed", f"Exit code {ran.exit}: {said or 'nothing was said'}")
    try:
        members = jws.read_json(ran.out)
    except DocumentRefused as error:
        began = first_line(ran.out) or "(nothing)"
        return (
            failed if ran.exit else Refusal("answer-nonsense", f"{error.refusal.detail}; it begins: {began}")
        )
    if not ran.exit:
        return members
    code, title = members.get("code"), members.get("title")
    if not isinstance(code, str) or not isinstance(title, str):
        return failed
    return Refusal.received(code, str(members.get("detail", "")), title)


def of_status(data: bytes) -> Report | Refusal:
    """The report in what ``volact client status --json`` printed."""
    if len(data) > MOST_OUTPUT:
        return Refusal("answer-too-long")
    try:
        members = jws.read_json(data)
        products = _products(_member(members, "products", list))
        return _report(_member(members, "machine", dict, {}), products)
    except DocumentRefused as error:
        began = first_line(data)
        return Refusal("answer-nonsense", f"{error.refusal.detail}; it begins: {began or '(nothing)'}")
    except _Wrong as error:
        return Refusal("answer-nonsense", f"What the machine printed: {error}.")


def first_line(data: bytes) -> str:
    """The first line with anything on it, for people: cut, and without what would steer a terminal."""
    lines = data[: _TEXT * 8].decode("utf-8", "replace").splitlines()
    return next((_cut(line.strip()) for line in lines if line.strip()), "")


def _cut(text: str) -> str:
    return printable(text[:_TEXT]) + ("…" if len(text) > _TEXT else "")


def _report(machine: Mapping[str, Any], products: tuple[Product, ...]) -> Report:
    said = (_text(machine, "name"), _text(machine, "domain"))
    host = (names.host(".".join(filter(None, said))) if said[0] else None) or names.Host("")
    instances = _member(machine, "running_instances", int, None)
    if instances is not None and not 0 <= instances <= MOST_INSTANCES:
        raise _Wrong("running_instances is out of range")
    return Report(
        name=host.name,
        domain=host.domain,
        platform=_text(machine, "platform").lower(),
        system=_text(machine, "system"),
        identity=_such(machine, "identity", ids.is_thumbprint),
        virtual=_member(machine, "virtual", bool, False),
        hypervisor=_text(machine, "hypervisor"),
        host_identity=_text(machine, "host_identity"),
        instances=instances,
        macs=_macs(_member(machine, "macs", list, [])),
        products=products,
    )


def _macs(found: list[Any]) -> tuple[str, ...]:
    if len(found) > MOST_MACS:
        raise _Wrong(f"more than {MOST_MACS} macs")
    macs = [names.mac(one) if isinstance(one, str) else None for one in found]
    return tuple(sorted({one for one in macs if one}))


def _products(rows: list[Any]) -> tuple[Product, ...]:
    if len(rows) > MOST_PRODUCTS:
        raise _Wrong(f"more than {MOST_PRODUCTS} products")
    found: dict[tuple[str, str], Product] = {}
    for row in rows:
        if not isinstance(row, dict):
            raise _Wrong("a product is no object")
        product = _product(row)
        if product[:2] in found:
            raise _Wrong(f"{product.product} stands twice")
        found[product.publisher, product.product] = product
    return tuple(found.values())


def _product(row: Mapping[str, Any]) -> Product:
    publisher = _such(row, "publisher", ids.is_thumbprint)
    product = _such(row, "product", ids.is_product_id)
    if not publisher or not product:
        raise _Wrong("a product without publisher or product")
    state = _member(row, "state", int)
    if not 0 <= state < len(STATE_NAMES):
        raise _Wrong("state is out of range")
    return Product(
        publisher,
        product,
        state,
        cmid=_such(row, "cmid", ids.is_thumbprint),
        channel=_such(row, "channel", _CHANNELS.__contains__),
        partial_key=_such(row, "partial_key", lambda text: _PARTIAL_KEY.fullmatch(text) is not None),
        granted=_time(row, "granted"),
        expires=_time(row, "expires"),
        host=_text(row, "host"),
        iid=_such(row, "iid", lambda text: _IID.fullmatch(text) is not None),
        reason=_text(row, "reason"),
        grant=_member(row, "grant", dict, None),
    )


_REQUIRED: Any = object()


def _member(members: Mapping[str, Any], name: str, kind: type[T], default: Any = _REQUIRED) -> T | Any:  # noqa: ANN401 - the default's type
    """A member of exactly this type; null and a missing one are the default, if there may be one."""
    value = members.get(name)
    if value is None and default is not _REQUIRED:
        return default
    if type(value) is not kind:
        raise _Wrong(f"{name} is not what it must be")
    return value


def _text(members: Mapping[str, Any], name: str) -> str:
    return _cut(_member(members, name, str, ""))


def _such(members: Mapping[str, Any], name: str, is_such: Callable[[str], bool]) -> str:
    """A text of a certain form; empty if there is none."""
    text: str = _member(members, name, str, "")
    if text and not is_such(text):
        raise _Wrong(f"{name} is not what it must be")
    return text


def _time(members: Mapping[str, Any], name: str) -> int | None:
    text = _such(members, name, lambda text: _TIME.fullmatch(text) is not None)
    try:
        return int(datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp()) if text else None
    except ValueError:
        raise _Wrong(f"{name} is no time") from None
