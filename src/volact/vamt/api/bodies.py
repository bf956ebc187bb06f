"""What the API takes as bodies. A member that is not known is refused: a mistyped one must not pass for one left out."""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from volact.protocol.problems import UsageError
from volact.vamt.access import MOST_TOKEN_DAYS, TOKEN_DAYS
from volact.vamt.actions import Action, every, time_of_day
from volact.vamt.byhand import MOST_NOTE, MOST_PORT
from volact.vamt.reaching import MOST_AT_ONCE, MOST_SECONDS
from volact.vamt.schedules import COLLECT, Wanted
from volact.vamt.selecting import Selection as Chosen

Name = Annotated[str, Meta(max_length=300)]
Text = Annotated[str, Meta(max_length=4000)]
Notes = Annotated[str, Meta(max_length=MOST_NOTE)]
Seconds = Annotated[int, Meta(ge=1, le=MOST_SECONDS)]
AtOnce = Annotated[int, Meta(ge=1, le=MOST_AT_ONCE)]
ActionName = Literal[
    "install-key", "remove-key", "activate-online", "activate-kms", "set-host", "clear-host", "deactivate",
    "refresh-status",
]  # fmt: skip
"""The names of `actions.LEAST`; a test holds the two together."""


class Body(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """A JSON object."""


class Selection(Body):
    """Machines: all of what is given lets them through; `all` must be said for all of them."""

    machines: list[Name] = []
    group: Name = ""
    where: Text = ""
    view: Name = ""
    all: bool = False

    def chosen(self) -> Chosen:
        """It, as a use case takes it."""
        return Chosen(tuple(self.machines), self.group, self.where, self.view, self.all)


class AddMachine(Body):
    """A machine that a person tells of."""

    name: Name
    addresses: list[Name] = []
    port: Annotated[int, Meta(ge=1, le=MOST_PORT)] | None = None
    transport: Literal["", "ssh", "winrm", "local"] = ""
    group: Name = ""
    note: Notes = ""


class Note(Body):
    """What to remember; empty: nothing any more."""

    text: Notes


class NoteMachines(Body):
    """What to remember of a selection of machines."""

    selection: Selection
    text: Notes


class HostKeys(Body):
    """SSH host keys, as ``/etc/ssh/ssh_host_ed25519_key.pub`` has them."""

    host_keys: Annotated[list[Annotated[str, Meta(max_length=20_000)]], Meta(min_length=1, max_length=20)]


class CreateGroup(Body):
    """A new group."""

    group: Name
    note: Notes = ""


class SaveView(Body):
    """A filter and an order."""

    where: Text = ""
    sort: Name = ""


class AddProduct(Body):
    """A signed product file, and the publisher's root that it must be from: 43 characters."""

    root: Annotated[str, Meta(pattern="^[A-Za-z0-9_-]{43}$")]
    file: Annotated[str, Meta(max_length=900_000)]
    name: Annotated[str, Meta(max_length=200)] = ""


class AddKeys(Body):
    """Product keys: one, one a line, or the CSV that ``volact authority key issue --csv`` writes."""

    keys: Annotated[str, Meta(max_length=900_000)]
    product: Name = ""
    publisher: Name = ""
    note: Notes = ""


class Recommend(Body):
    """For which machines, and only for this product if one is named."""

    selection: Selection
    product: Name = ""


class RefreshKeys(Body):
    """Which keys, by label or thumbprint; none: all."""

    keys: Annotated[list[Name], Meta(max_length=10_000)] = []


class Collect(Body):
    """Which machines to ask; or to go on with the collection that was stopped last."""

    selection: Selection | None = None
    resume: bool = False
    accept_new: bool = False
    at_once: AtOnce | None = None
    limit: Seconds | None = None


class Act(Body):
    """What to do to which machines: an action, its product, and what goes with it."""

    action: ActionName
    selection: Selection
    product: Name = ""
    key: Name = ""
    activate: bool = False
    host: Name = ""
    domain: Name = ""

    def wanted(self) -> Action:
        """The action, as a use case takes it."""
        return Action(self.action, self.product, activate=self.activate, host=self.host, domain=self.domain)


class Begin(Act):
    """The same, and how it is done; `queue`: machines that are off are waited for."""

    queue: bool = False
    at_once: AtOnce | None = None
    limit: Seconds | None = None


class GoOn(Body):
    """How an action goes on."""

    at_once: AtOnce | None = None
    limit: Seconds | None = None


class RunQueue(GoOn):
    """How what waits is tried again; `every`: also what is not due yet."""

    every: bool = False


class Cancel(Body):
    """What is to wait no longer: ids of actions, ids or names of machines; or `every` one."""

    names: Annotated[list[Name], Meta(max_length=10_000)] = []
    every: bool = False


class AddSchedule(Body):
    """What to do again and again: ``collect`` or an action; `every` is 15m, 2h or 1d, `at` a time of day in UTC."""

    name: Annotated[str, Meta(max_length=100)]
    what: Literal["collect"] | ActionName
    selection: Selection
    every: Annotated[str, Meta(max_length=40)]
    at: Annotated[str, Meta(max_length=5)] = ""
    product: Name = ""
    key: Name = ""
    activate: bool = False
    host: Name = ""
    domain: Name = ""
    queue: bool = False

    def action(self) -> Action | None:
        """The action, as a use case takes it; None for ``collect``.

        Raises:
            UsageError: if collecting is given what goes with actions.
        """
        found = Action(self.what, self.product, activate=self.activate, host=self.host, domain=self.domain)
        if self.what != COLLECT:
            return found
        if found != Action(COLLECT):
            raise UsageError("Collecting takes a selection and nothing else.")
        return None

    def wanted(self) -> Wanted:
        """It, as a use case takes it.

        Raises:
            UsageError: if the interval or the time is none.
        """
        interval, moment = every(self.every), time_of_day(self.at) if self.at else None
        if interval is None:
            raise UsageError("every is 15m to 365d: 15m, 2h, 1d.")
        if self.at and moment is None:
            raise UsageError("at is a time of day, UTC: 02:00.")
        return Wanted(
            self.name, self.action(), self.selection.chosen(), interval, moment, self.key, self.queue
        )


class DiscoverLdap(Body):
    """Machines of a directory."""

    url: Text
    base: Text
    account: Text = ""
    password: Text = ""
    plain: bool = False
    filter: Text = ""
    name: Name = ""
    group: Name = ""


class DiscoverDns(Body):
    """Machines of a DNS zone, by a zone transfer; the key is ``[ALGORITHM:]NAME:SECRET``."""

    zone: Name
    server: Name
    port: Annotated[int, Meta(ge=1, le=MOST_PORT)] = 53
    key: Text = ""
    group: Name = ""


class DiscoverAddresses(Body):
    """Machines among addresses: ranges, one a line or with commas between."""

    ranges: Annotated[str, Meta(max_length=900_000)]
    ssh_port: Annotated[int, Meta(ge=1, le=MOST_PORT)] = 22
    winrm_port: Annotated[int, Meta(ge=1, le=MOST_PORT)] | None = None
    timeout: Annotated[int, Meta(ge=1, le=60)] = 2
    group: Name = ""


class DiscoverFile(Body):
    """Machines of a file: CSV whose first line names columns, or OpenSSH's known_hosts."""

    kind: Literal["csv", "known-hosts"]
    name: Name
    text: Annotated[str, Meta(max_length=900_000)]
    group: Name = ""


class ExportList(Body):
    """Whose requests to fetch for a computer list."""

    selection: Selection
    publisher: Name = ""
    proxy_only: bool = False
    again: bool = False
    limit: Seconds | None = None


class Apply(Body):
    """How to bring a list's answers to their machines; `again`: also what is in force already."""

    again: bool = False
    limit: Seconds | None = None


class Reactivate(Body):
    """Which machines to activate again from confirmations that are kept here."""

    selection: Selection
    limit: Seconds | None = None


class TrustWriter(Body):
    """Whether names in another VAMT's lists count, and what it is called here."""

    trusted: bool
    name: Annotated[str, Meta(max_length=200)] = ""


class PutPerson(Body):
    """A person's role."""

    role: Literal["viewer", "operator", "key-administrator", "auditor"]


class MakeToken(Body):
    """What a token is for, and for how many days it is good."""

    label: Annotated[str, Meta(max_length=200)] = ""
    days: Annotated[int, Meta(ge=1, le=MOST_TOKEN_DAYS)] = TOKEN_DAYS
