"""Two VAMTs and an authority for a test of the MAK proxy."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from databases import Databases
from vamt.proxy.trips import Trip


@pytest.fixture
def trip(tmp_path: Path, databases: Databases, authorities: Databases) -> Iterator[Trip]:
    made = Trip(tmp_path, databases, authorities)
    yield made
    made.close()
