"""What the API answers, as types: the OpenAPI description is made of them, and what is told is checked against them.

The members are those of the commands' ``--json`` (`reporting`, `keyreporting`, `proxyshow`), which are only ever added to.
Times are RFC 3339 in UTC.
"""

from __future__ import annotations

from typing import Any, Literal, TypeVar

import msgspec

T = TypeVar("T")


def of(kind: type[T], told: object) -> T:
    """What was told, as an answer."""
    return msgspec.convert(told, kind)


class Answer(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """A JSON object."""


class Problem(msgspec.Struct, kw_only=True):
    """A refusal (RFC 9457); some have further members, such as ``retry_after``."""

    type: str
    title: str
    status: int
    detail: str
    code: str
    next: str


# --- machines -----------------------------------------------------------------------------------------------------


class MachineRow(Answer):
    """A machine and a product on it; the product's members are null for a machine without one."""

    id: str
    name: str
    domain: str
    address: str
    groups: list[str]
    platform: str
    system: str
    virtual: bool | None
    hypervisor: str
    first_seen: str
    last_seen: str
    collected: str | None
    outcome: str | None
    detail: str | None
    publisher: str | None
    product: str | None
    state: int | None
    state_name: str | None
    channel: str | None
    partial_key: str | None
    granted: str | None
    expires: str | None
    host: str | None
    reason: str | None
    proof: str | None


class MachinePage(Answer):
    """Some of the rows that a filter lets through: those from `offset` on, of `total`."""

    total: int
    offset: int
    rows: list[MachineRow]


class Installed(Answer):
    """A product on a machine; `proof` says whether the machine only reported it, or proved it by what it was granted."""

    publisher: str
    product: str
    state: int
    state_name: str
    cmid: str | None
    channel: str | None
    partial_key: str | None
    granted: str | None
    expires: str | None
    host: str | None
    iid: str | None
    reason: str | None
    proof: str


class Machine(Answer):
    """All that is known of one machine."""

    id: str
    name: str
    domain: str
    former: str | None
    aliases: list[str]
    addresses: list[str]
    port: int | None
    transport: str | None
    platform: str | None
    system: str | None
    identity: str | None
    virtual: bool | None
    hypervisor: str | None
    host_identity: str | None
    running_instances: int | None
    macs: list[str]
    host_keys: list[str]
    sources: list[str]
    groups: list[str]
    notes: str | None
    first_seen: str
    last_seen: str
    collected: str | None
    tried: str | None
    outcome: str | None
    detail: str | None
    products: list[Installed]


class Happened(Answer):
    """What was done to one machine: an action on it, or a row of a computer list about it."""

    time: str | None
    kind: Literal["action", "list"]
    what: str
    id: str
    product: str | None
    state: str
    code: str | None
    detail: str | None
    who: str


class Added(Answer):
    """A machine that was added, or was known already."""

    id: str
    new: bool


class Count(Answer):
    """How many were changed."""

    count: int


class Field(Answer):
    """Something that a filter can ask for, and what it takes."""

    field: str
    takes: str
    help: str


# --- groups, views, publishers ------------------------------------------------------------------------------------


class Group(Answer):
    """A group of machines."""

    group: str
    machines: int
    note: str | None
    made: str


class View(Answer):
    """A saved filter and order, and whose it is."""

    view: str
    where: str
    sort: str | None
    owner: str


class Product(Answer):
    """A publisher's product that is managed here."""

    product: str
    name: str
    edition: str
    version: int


class Publisher(Answer):
    """A publisher whose products are managed here; `url` is where its authority is reached."""

    publisher: str
    name: str
    lab: bool
    url: str | None
    products: list[Product]


class Taught(Answer):
    """What a product file brought: the version that is known now, and whether the file brought it."""

    publisher: str
    product: str
    version: int
    added: bool


# --- keys ---------------------------------------------------------------------------------------------------------


class Key(Answer):
    """A product key by its last group; the counts are null until the publisher was asked."""

    label: str
    key: str
    publisher: str
    kind: str
    product: str
    bought: int | None
    activated: int | None
    remaining: int | None
    as_of: str | None
    blocked: str | None
    note: str | None
    added: str
    by: str


class KeptKey(Answer):
    """A key that is kept now, sealed."""

    label: str
    key: str
    kind: str
    product: str
    new: bool


class PlannedKey(Answer):
    """So many machines by this key; `assured` if it is known to have so many left."""

    label: str
    key: str
    kind: str
    machines: int
    remaining: int | None
    assured: bool


class Plan(Answer):
    """The keys for one product of a selection; for `missing` machines none is left."""

    publisher: str
    product: str
    selected: int
    need: int
    missing: int
    keys: list[PlannedKey]


# --- advice -------------------------------------------------------------------------------------------------------


class Threshold(Answer):
    """How many machines of which kind a KMS host counts before it activates."""

    count: str
    minimum: int


class Network(Answer):
    """What was looked at."""

    machines: int
    servers: int
    isolated: bool
    activated: int
    left: int
    thresholds: list[Threshold]


class Advice(Answer):
    """Which way of activating suits a network, why, and what it takes."""

    way: str
    why: list[str]
    takes: list[str]
    mind: list[str]
    network: Network


# --- people and the log -------------------------------------------------------------------------------------------

Role = Literal["viewer", "operator", "key-administrator", "auditor"]


class Me(Answer):
    """Who calls, and what they may do: the actions as the log names them."""

    name: str
    role: Role
    may: list[str]


class Person(Answer):
    """Somebody who uses VAMT."""

    user: str
    role: Role
    tokens: int
    since: str


class Token(Answer):
    """A token, without what makes it one."""

    id: str
    user: str
    label: str | None
    made: str
    used: str | None
    expires: str | None


class NewToken(Answer):
    """A new token; it is not told again."""

    id: str
    user: str
    token: str
    expires: str | None


class LogEntry(Answer):
    """Who did what, to which rows, with which result."""

    number: int
    time: str
    who: str
    role: str
    action: str
    what: dict[str, Any] | str
    rows: int | None
    result: str
    detail: str | None
