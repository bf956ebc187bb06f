"""What VAMT's commands share: the open role, who commands, and how a selection of machines is given."""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, NamedTuple

from cyclopts import Parameter

from volact.protocol.problems import UsageError
from volact.vamt import setup
from volact.vamt.filters import FIELDS
from volact.vamt.selecting import Selection

if TYPE_CHECKING:
    from collections.abc import Iterator

    from volact.vamt.people import Person
    from volact.vamt.setup import Opened
    from volact.vamt.vamt import Vamt

Names = Annotated[
    str, Parameter(help="Names, full names, addresses or ids of machines.", allow_leading_hyphen=True)
]
Where = Annotated[
    str,
    Parameter(
        help="A filter: 'state=unlicensed product=com.example.* name~web seen<7d'; `vamt view fields` lists the fields.",
        allow_leading_hyphen=True,
    ),
]
Group = Annotated[str, Parameter(help="Only machines of this group.", allow_leading_hyphen=True)]
ViewName = Annotated[
    str, Parameter(name="--view", help="Only what this saved view shows.", allow_leading_hyphen=True)
]
All = Annotated[bool, Parameter(name="--all", help="All machines.")]
MOST_ROWS = 100_000
_ID = 22
"""Characters of an id, which may begin with hyphens: so such options are taken for names."""


class Desk(NamedTuple):
    """VAMT, opened, and who commands it here."""

    opened: Opened
    vamt: Vamt
    person: Person


@contextmanager
def desk() -> Iterator[Desk]:
    """The VAMT that is set up here, commanded by the user whose process this is."""
    with setup.opened() as opened:
        yield Desk(opened, opened.vamt(), setup.operating_person())


@Parameter(name="*")
@dataclass(frozen=True)
class Narrowed:
    """The options of a command that say which machines, beside names."""

    where: Where = ""
    group: Group = ""
    view: ViewName = ""
    all_: All = False

    def selection(self, machines: tuple[str, ...]) -> Selection:
        """What is selected by them and by names.

        Raises:
            UsageError: if all machines are asked for, and only some.
        """
        return selection(machines, self.where, self.group, self.view, every=self.all_)


ANY = Narrowed()
"""No such option is given."""


def selection(
    machines: tuple[str, ...], where: str = "", group: str = "", view: str = "", *, every: bool = False
) -> Selection:
    """What a command's arguments select.

    Raises:
        UsageError: if all machines are asked for, and only some; or of an option that there is not.
    """
    for name in machines:
        if name.startswith("--") and len(name) != _ID:
            raise UsageError(f"There is no option {name[:40]!r}.")
    found = Selection(tuple(machines), group, where, view, every)
    if every and any(found[:-1]):
        raise UsageError("--all is all machines; leave it out, or the rest.")
    return found


def check_page(limit: int, offset: int = 0) -> None:
    """See to it that a page can be had.

    Raises:
        UsageError: naming the bounds.
    """
    if not 1 <= limit <= MOST_ROWS:
        raise UsageError(f"--limit is 1 to {MOST_ROWS}.")
    if not 0 <= offset <= 2**53 - 1:
        raise UsageError("--offset is the number of rows before the page.")


def fields() -> list[tuple[str, str, str]]:
    """The fields of a filter for people: name, what values it takes, and what it is."""
    return [(name, ", ".join(one.words) or one.kind, one.help) for name, one in FIELDS.items()]
