"""What the publisher's commands share: the open store, and the label of a key."""

from __future__ import annotations

import secrets
from contextlib import contextmanager
from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter

from volact.authority import setup
from volact.authority.publisher import Office

if TYPE_CHECKING:
    from collections.abc import Iterator

Label = Annotated[str, Parameter(help="The key's last group.")]


@contextmanager
def office() -> Iterator[tuple[setup.Opened, Office]]:
    """The authority that is set up here, and the publisher's office over it."""
    with setup.opened() as opened:
        yield opened, Office(opened.clock, opened.store, opened.keyring, secrets.token_bytes)
