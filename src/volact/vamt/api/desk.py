"""What the API's routes share: the role, its undertakings, who calls, and how names in a path and files are sent."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Annotated, Any
from urllib.parse import unquote_to_bytes

import msgspec
from litestar import Response
from litestar.di import NamedDependency
from litestar.params import HeaderParameter, QueryParameter

from volact.protocol import ids
from volact.protocol.problems import Refusal, Refused
from volact.vamt import reaching, reporting, sealing
from volact.vamt.desk import Desk
from volact.vamt.people import Person
from volact.vamt.performing import Means

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from volact import http
    from volact.vamt.api.works import Works
    from volact.vamt.collecting.targets import Limits, Login
    from volact.vamt.machines import Shown
    from volact.vamt.sealing import Sealer
    from volact.vamt.setup import Opened
    from volact.vamt.vamt import Vamt

MOST_PAGE = 1000
"""Rows of a page, at most."""
USUAL_PAGE = 100
_MOST_OFFSET = 2**53 - 1
_ETAG_CHARACTERS = 22
_NUL = b"\0"

Limit = Annotated[
    int, QueryParameter(ge=1, le=MOST_PAGE, description=f"At most so many rows: 1 to {MOST_PAGE}.")
]
Offset = Annotated[int, QueryParameter(ge=0, le=_MOST_OFFSET, description="Leave out so many rows before.")]
IfMatch = Annotated[
    str,
    HeaderParameter(
        name="If-Match",
        description="The ETag of what the change was made on: refused with `changed-meanwhile` if it is another by now.",
    ),
]
IfNoneMatch = Annotated[
    str, HeaderParameter(name="If-None-Match", description="An ETag that is known already.")
]


class ApiDesk:
    """What the routes work with.

    Attributes:
        vamt: the role.
        works: its undertakings.
        opened: its store and settings.
    """

    def __init__(self, opened: Opened, vamt: Vamt, works: Works, sealer: Sealer | None = None) -> None:
        """Serve `vamt`; `sealer` opens what is sealed, if its passphrase was given to the service."""
        self.opened, self.vamt, self.works = opened, vamt, works
        self._sealer = sealer

    def unlock(self) -> Sealer:
        """The sealer: that of the passphrase which the service was given, or of the system's keyring.

        Raises:
            Refused: `not-set-up`, `passphrase-missing`, `keyring-unavailable`.
        """
        if self._sealer is None:
            self._sealer = sealing.unlock(self.opened.folder, _missing)
        return self._sealer

    def reaching(
        self, seconds: int | None, at_once: int | None = None, *, accept_new: bool = False
    ) -> tuple[Limits, Mapping[str, Login]]:
        """Within which limits and by which logins machines are asked."""
        limits = reaching.limits(self.opened.settings, at_once, seconds, accept_new=accept_new)
        return limits, reaching.by_group(self.opened.store, self.unlock, self.opened.environ)

    def means(self, seconds: int | None = None, at_once: int | None = None) -> Means:
        """What it takes to do something on machines."""
        limits, logins = self.reaching(seconds, at_once)
        return Means(logins, limits, self.unlock)

    def of(self, person: Person) -> Desk:
        """The same, as the commands' parts take it."""
        return Desk(self.opened, self.vamt, person)


At = NamedDependency[ApiDesk]
By = NamedDependency[Person]
"""What each route is given: what it works with, and who calls."""


def _missing() -> str:
    detail = "Start the service with --passphrase @FILE, or VOLACT_VAMT_PASSPHRASE_FILE."
    raise Refused(Refusal("passphrase-missing", detail))


def name_in(path: str) -> str:
    """A name as it stands in a path, where its own slashes are escaped.

    Raises:
        Refused: `request-malformed`.
    """
    data = unquote_to_bytes(path)
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError:
        raise Refused(Refusal("request-malformed", "A name in the address is not UTF-8 text.")) from None


def is_clean(text: bytes) -> bool:
    """Whether a path, query or body holds no NUL, which no database keeps in a text."""
    return _NUL not in text and b"%00" not in text and b"\\u0000" not in text


def etag_of(told: Mapping[str, Any]) -> str:
    """The ETag of an answer."""
    digest = hashlib.sha256(msgspec.json.encode(told, order="sorted")).digest()
    return f'"{ids.b64u(digest)[:_ETAG_CHARACTERS]}"'


def matches(header: str, etag: str) -> bool:
    """Whether an ``If-Match`` or ``If-None-Match`` names an ETag."""
    return header.strip() == "*" or etag in {one.strip().removeprefix("W/") for one in header.split(",")}


def unchanged(if_match: str) -> Callable[[Shown], None] | None:
    """What sees to it that a machine is as who changes it has seen it; None if they do not say how."""
    if not if_match:
        return None

    def check(shown: Shown) -> None:
        told = reporting.machine(shown)
        if not matches(if_match, etag_of(told)):
            raise Refused(Refusal("changed-meanwhile", extra=(("current", told),)))

    return check


def tagged(answer: object, told: Mapping[str, Any], known: str) -> Response[Any]:
    """An answer with its ETag, or 304 for who knows it."""
    etag = etag_of(told)
    if known and matches(known, etag):
        return Response(None, status_code=304, headers={"etag": etag})
    return Response(answer, headers={"etag": etag, "cache-control": "no-cache"})


def as_response(made: http.Response) -> Response[bytes]:
    """An answer that was made without the framework."""
    headers = {name.decode(): value.decode() for name, value in made.headers}
    kind = headers.pop("content-type", None)
    return Response(made.body, status_code=made.status, media_type=kind, headers=headers)
