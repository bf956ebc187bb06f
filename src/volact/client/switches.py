"""The classic switches on a licensed machine (rule S): what `slmgr` shows, sets and takes away there.

Each calls one method of the client and prints in the words of rule S; a licence is put into words in `reporting`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from volact import config
from volact.client import cli, reporting
from volact.protocol.policy import MINUTE
from volact.protocol.problems import Refusal, Refused, UsageError

if TYPE_CHECKING:
    from volact.client.store import Settings
    from volact.console import Console


def selected(product: str | None) -> reporting.Row:
    """The row of the product that is meant.

    Raises:
        Refused: `product-not-installed`, `product-ambiguous`.
    """
    rows = [row for row in cli.rows() if product in (None, row.members["product"])]
    if not rows:
        raise Refused(Refusal("product-not-installed", f"{product} is not." if product else ""))
    if len(rows) > 1:
        names = ", ".join(row.members["product"] for row in rows)
        raise Refused(Refusal("product-ambiguous", f"Installed: {names}."))
    return rows[0]


def activate(out: Console, _words: list[str], product: str | None) -> None:
    """`/ato`."""
    done = cli.activated(out, product)
    row = selected(done.product)
    out.answer(row.members, f"Product activated successfully: {row.members['state_name']}.")


def information(out: Console, _words: list[str], product: str | None) -> None:
    """`/dli`."""
    row = selected(product)
    out.answer(row.members, "\n".join(reporting.lines(row)))


def all_information(out: Console, _words: list[str], product: str | None) -> None:
    """`/dlv`."""
    members, lines = all_of(selected(product))
    out.answer(members, "\n".join(lines))


def all_of(row: reporting.Row) -> tuple[dict[str, Any], list[str]]:
    """What `/dlv` tells of a product, as members and as lines."""
    kms = row.kms
    intervals: dict[str, Any] = {"renewal": kms.renewal, "retry": kms.retry} if kms is not None else {}
    members = {**row.members, "rearms_left": row.rearms_left, "thin": row.thin, **intervals}
    members["unreadable"] = list(row.unreadable)
    members["kms"] = kms.members() if kms is not None else None
    return members, [*reporting.lines(row), *reporting.details(row)]


def expiry(out: Console, _words: list[str], product: str | None) -> None:
    """`/xpr`."""
    row = selected(product)
    names = ("publisher", "product", "state", "state_name", "expires")
    ends = row.members["expires"] or row.standing.licensed
    prose = f"{row.name or row.members['product']}: {reporting.expiry(row) if ends else row.members['state_name']}"
    out.answer({name: row.members[name] for name in names}, prose)


def remove_key(out: Console, _words: list[str], product: str | None) -> None:
    """`/upk`: remove the product key."""
    pub, name = cli.client().remove_key(product)
    out.answer({"publisher": pub, "product": name}, f"Uninstalled the product key of {name} successfully.")


def rearm(out: Console, _words: list[str], product: str | None) -> None:
    """`/rearm`: reset grace and identity."""
    pub, name, left = cli.client().rearm(product)
    members = {"publisher": pub, "product": name, "rearms_left": left}
    out.answer(members, f"{name} was reset; remaining rearm count: {left}.")


def set_host(out: Console, words: list[str], product: str | None) -> None:
    """`/skms NAME[:PORT]`."""
    pub, name, found = cli.client().set_host(product, words[0])
    if found.host is not None:
        prose = f"The KMS host of {name} is {found.host}."
    else:
        prose = f"The KMS hosts of {name} that DNS names are asked on port {found.port}; none is set by name."
    out.answer(_set_members(pub, name, found), prose)


def clear_host(out: Console, _words: list[str], product: str | None) -> None:
    """`/ckms`: back to discovery."""
    pub, name, found = cli.client().clear_host(product)
    out.answer(_set_members(pub, name, found), f"The KMS host of {name} is cleared; hosts are found by DNS.")


def set_domain(out: Console, words: list[str], product: str | None) -> None:
    """`/skms-domain DOMAIN`."""
    pub, name, found = cli.client().set_domain(product, words[0])
    prose = f"KMS hosts of {name} are looked for in {found.domain}."
    if found.host is not None:
        prose += f" The host set by hand, {found.host}, comes before them until `slmgr /ckms` clears both."
    out.answer(_set_members(pub, name, found), prose)


def cache_host(out: Console, _words: list[str], product: str | None) -> None:
    """`/skhc`."""
    pub, name, found = cli.client().set_caching(product, caching=True)
    out.answer(_set_members(pub, name, found), f"KMS host caching is enabled for {name}.")


def do_not_cache_host(out: Console, _words: list[str], product: str | None) -> None:
    """`/ckhc`."""
    pub, name, found = cli.client().set_caching(product, caching=False)
    out.answer(_set_members(pub, name, found), f"KMS host caching is disabled for {name}.")


def _set_members(pub: str, name: str, found: Settings) -> dict[str, Any]:
    host = str(found.host) if found.host else None
    intervals = {"renewal": found.renewal, "retry": found.retry}
    members = {"publisher": pub, "product": name, "host": host, "port": found.port, **intervals}
    return {**members, "domain": found.domain or None, "caching": found.caching}


def set_retry(out: Console, words: list[str], product: str | None) -> None:
    """`/sai MINUTES`, until a host tells its own."""
    pub, name, found = cli.client().set_intervals(product, retry=_minutes(words[0]))
    prose = f"The retry interval of {name} is {words[0]} minutes until a KMS host tells its own."
    out.answer(_set_members(pub, name, found), prose)


def set_renewal(out: Console, words: list[str], product: str | None) -> None:
    """`/sri MINUTES`, likewise."""
    pub, name, found = cli.client().set_intervals(product, renewal=_minutes(words[0]))
    prose = f"The renewal interval of {name} is {words[0]} minutes until a KMS host tells its own."
    out.answer(_set_members(pub, name, found), prose)


def _minutes(word: str) -> int:
    number = config.whole(word)
    if number is None:
        raise UsageError(f"{word[:40]!r} is no number of minutes.", "See `slmgr /?`.")
    return number * MINUTE
