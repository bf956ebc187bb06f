"""Who may do what (V6). Pure.

- A viewer sees; an operator also acts on machines; a key administrator also holds keys, credentials, publishers and
  people, and alone spends keys on machines and takes them back. Each may what the one before may.
- An auditor sees everything, the log included, and changes nothing.
- Whose host key is believed, and which machines are told a group's password, is a key administrator's to say: an operator
  who could would hold the password (T28, T29).
- What is not in the table, nobody may.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Mapping

VIEWER, OPERATOR, KEY_ADMINISTRATOR, AUDITOR = "viewer", "operator", "key-administrator", "auditor"
ROLES = (VIEWER, OPERATOR, KEY_ADMINISTRATOR, AUDITOR)
_RANK = {VIEWER: 0, OPERATOR: 1, KEY_ADMINISTRATOR: 2}

LOOK, LOOK_AT_LOG = "look", "look-at-log"
TRUST_HOST_KEYS, GIVE_LOGIN = "trust-host-keys", "give-login"
"""Saying whose host keys are believed; putting machines into a group that has a login."""
EXPORT_TABLE = "export-table"
"""What may be looked at, as a file: it changes nothing, and is in the log, for it carries everything away at once."""
_AUDITORS = frozenset((LOOK, LOOK_AT_LOG, EXPORT_TABLE))

LEAST: Mapping[str, str] = {
    LOOK: VIEWER,
    EXPORT_TABLE: VIEWER,
    "save-view": VIEWER,
    "discover": OPERATOR,
    "collect": OPERATOR,
    "change-machines": OPERATOR,
    "change-groups": OPERATOR,
    "activate": OPERATOR,
    "set-host": OPERATOR,
    "refresh-keys": OPERATOR,
    "export": OPERATOR,
    "import": OPERATOR,
    "acquire": OPERATOR,
    "apply": OPERATOR,
    "schedule": OPERATOR,
    LOOK_AT_LOG: KEY_ADMINISTRATOR,
    "install-key": KEY_ADMINISTRATOR,
    "remove-key": KEY_ADMINISTRATOR,
    "deactivate": KEY_ADMINISTRATOR,
    TRUST_HOST_KEYS: KEY_ADMINISTRATOR,
    GIVE_LOGIN: KEY_ADMINISTRATOR,
    "change-keys": KEY_ADMINISTRATOR,
    "change-credentials": KEY_ADMINISTRATOR,
    "change-publishers": KEY_ADMINISTRATOR,
    "trust-writer": KEY_ADMINISTRATOR,
    "change-settings": KEY_ADMINISTRATOR,
    "change-people": KEY_ADMINISTRATOR,
}
"""Each action and the least role that may do it."""


class Person(NamedTuple):
    """Who asks: a name, for the log, and one of `ROLES`."""

    name: str
    role: str


def may(role: str, action: str) -> bool:
    """Whether a role may do an action; an unknown one of either may not."""
    if role == AUDITOR:
        return action in _AUDITORS
    return role in _RANK and action in LEAST and _RANK[role] >= _RANK[LEAST[action]]
