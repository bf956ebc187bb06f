"""What the API answers about undertakings, actions and computer lists, row by row; the rest is in `apianswers`."""

from __future__ import annotations

from typing import Any, Literal

import msgspec

from volact.vamt.api.answers import Answer, Problem

# --- undertakings -------------------------------------------------------------------------------------------------

WorkState = Literal["waiting", "running", "done", "stopped", "failed"]


class Undertaking(Answer):
    """Something that takes longer than an answer may: how far it is, and what it came to.

    `what` is the action as the log names it. `total` is null as long as nobody knows it, `result` until it is over;
    `problem` says why it failed. `file` is the name of what it wrote, for ``GET /v1/undertakings/ID/file``.
    """

    id: str
    what: str
    about: dict[str, Any]
    who: str
    asked: str
    began: str | None
    ended: str | None
    state: WorkState
    done: int
    failed: int
    total: int | None
    rows: int
    result: dict[str, Any] | None
    problem: Problem | None
    file: str | None


class UndertakingRow(Answer):
    """What became of one row of an undertaking; `next` says what a person can do about a `code`."""

    machine: str | None
    id: str | None
    product: str | None
    operation: str | None
    key: str | None
    state: str
    code: str | None
    detail: str | None
    next: str | None


class UndertakingRows(Answer):
    """Some of an undertaking's rows: those from `offset` on, of `total` so far."""

    total: int
    offset: int
    rows: list[UndertakingRow]


# --- actions, the queue, schedules --------------------------------------------------------------------------------


class ActionRow(Answer):
    """An action on one product of one machine: what came of it, why not, and when it is tried again."""

    id: str
    machine: str
    publisher: str | None
    product: str | None
    outcome: str
    code: str | None
    detail: str | None
    next: str | None
    key: str | None
    tries: int
    due: str | None


class Action(Answer):
    """An action on a selection; with `dry_run` what it would do, and then it has no id."""

    id: str | None
    action: str
    key: str | None
    by: str
    begun: str
    dry_run: bool
    counts: dict[str, int]
    rows: list[ActionRow]
    product: str | msgspec.UnsetType = msgspec.UNSET
    activate: bool | msgspec.UnsetType = msgspec.UNSET
    host: str | msgspec.UnsetType = msgspec.UNSET
    domain: str | msgspec.UnsetType = msgspec.UNSET


class BegunAction(Answer):
    """An action that was begun, and how many of its rows are in which state."""

    id: str
    action: str
    by: str
    begun: str
    state: str
    rows: dict[str, int]


class WaitingRow(ActionRow):
    """A row that waits for its machine, and the action that it is of."""

    action: str
    action_id: str
    by: str


class Schedule(Answer):
    """What is done again and again, every so many seconds."""

    name: str
    what: str
    selection: dict[str, Any]
    every: int
    next: str
    last: str | None
    result: str | None
    by: str


# --- computer lists -----------------------------------------------------------------------------------------------


class _List(Answer):
    """What is said of a computer list everywhere."""

    list_: str = msgspec.field(name="list")
    publisher: str
    direction: str
    mode: str
    seq: int
    writer: str
    answers: str | None
    rows: int
    time: str
    who: str


class ComputerList(_List):
    """A computer list that went out or came in, and how many of its rows are in which state."""

    states: dict[str, int]


class Outcome(Answer):
    """What became of one row of a computer list."""

    row: str | None
    machine: str | None
    product: str | None
    operation: str | None
    key: str | None
    state: str
    code: str | None
    detail: str | None
    next: str | None


class ReceiptRow(Outcome):
    """A row of a receipt: which machine, which key, when, and through whom."""

    cmid: str | None
    time: str | None
    who: str


class Receipt(_List):
    """A computer list, and what became of each row of it."""

    outcomes: list[ReceiptRow]


class ListWriter(Answer):
    """A VAMT whose lists were met; names in its lists count if it is trusted."""

    fingerprint: str
    name: str | None
    trusted: bool
    met: str


class Wrote(Answer):
    """Who wrote a list that came in."""

    fingerprint: str
    name: str
    trusted: bool


class Import(Answer):
    """What a file came to; which members are there depends on its `kind`."""

    kind: Literal["cil-xml", "status-list", "questions", "answers"]
    sightings: int | msgspec.UnsetType = msgspec.UNSET
    new: int | msgspec.UnsetType = msgspec.UNSET
    dropped: int | msgspec.UnsetType = msgspec.UNSET
    version: int | msgspec.UnsetType = msgspec.UNSET
    list_: str | msgspec.UnsetType | None = msgspec.field(name="list", default=msgspec.UNSET)
    answers: str | msgspec.UnsetType | None = msgspec.UNSET
    publisher: str | msgspec.UnsetType | None = msgspec.UNSET
    writer: Wrote | msgspec.UnsetType | None = msgspec.UNSET
    again: bool | msgspec.UnsetType = msgspec.UNSET
    older: bool | msgspec.UnsetType = msgspec.UNSET
    damage: str | msgspec.UnsetType | None = msgspec.UNSET
    counts: dict[str, int] | msgspec.UnsetType = msgspec.UNSET
    machines: int | msgspec.UnsetType | None = msgspec.UNSET
    outcomes: list[Outcome] | msgspec.UnsetType = msgspec.UNSET
