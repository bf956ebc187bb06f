"""How machines are reached: by which logins, within which limits, for commands and the service alike (V2, T28)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from volact.protocol.problems import UsageError
from volact.vamt import logins
from volact.vamt.collecting.targets import Limits, Login

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from volact.config import VamtSettings
    from volact.vamt.sealing import Sealer
    from volact.vamt.store import Store

MOST_AT_ONCE, MOST_SECONDS = 2000, 3600


def limits(settings: VamtSettings, at_once: int | None, seconds: int | None, *, accept_new: bool) -> Limits:
    """The limits of asking machines, as set and as asked for.

    Raises:
        UsageError: naming the bounds.
    """
    many = settings.at_once if at_once is None else at_once
    whole = settings.machine_seconds if seconds is None else seconds
    if not 1 <= many <= MOST_AT_ONCE:
        raise UsageError(f"--at-once is 1 to {MOST_AT_ONCE}.")
    if not 1 <= whole <= MOST_SECONDS:
        raise UsageError(f"--limit is 1 to {MOST_SECONDS} seconds.")
    usual = Limits()
    scale = whole / usual.whole
    return Limits(
        many, whole, usual.connect * scale, usual.login * scale, usual.answer * scale, accept_new=accept_new
    )


def by_group(store: Store, unlock: Callable[[], Sealer], environ: Mapping[str, str]) -> Mapping[str, Login]:
    """The logins by group; the SSH agent of the environment serves where none is set.

    `unlock` is called once a sealed one is needed: `logins.unlock_for` does so before anybody is asked.
    """
    with store.reading() as tx:
        kept = logins.kept(tx)
    agent = environ.get("SSH_AUTH_SOCK", "")
    return logins.Opened(kept, unlock, {"": Login(agent=agent)} if agent else {})
