"""Two VAMTs and an authority for a test of the MAK proxy."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from databases import Databases
from vamt.proxy.trips import Trip


@pytest.fixture
def trip(
    tmp_path: Path, databases: Databases, authorities: Databases, request: pytest.FixtureRequest
) -> Iterator[Trip]:
    """On SQLite; both VAMTs on PostgreSQL, too, where a test says `ON_BOTH`."""

    def database(name: str) -> str | Path:
        if getattr(request, "param", "sqlite") == "sqlite":
            return databases.sqlite(tmp_path / f"{name}.db")
        return databases.postgresql(request.getfixturevalue("server"), name)

    made = Trip(authorities.sqlite(tmp_path / "authority.db"), database)
    yield made
    made.close()
