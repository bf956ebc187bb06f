"""Both databases under every test of the authority's store and role."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from authority_site import Site
from databases import KINDS, Databases
from volact.authority import schema
from volact.authority.store import Store


@pytest.fixture(scope="session")
def databases(tmp_path_factory: pytest.TempPathFactory) -> Databases:
    return Databases(tmp_path_factory.mktemp("template"), Store, schema.metadata)


@pytest.fixture(params=KINDS)
def database(request: pytest.FixtureRequest, tmp_path: Path, databases: Databases) -> str | Path:
    """A migrated, empty database: a file's path or a URL."""
    if request.param == "sqlite":
        return databases.sqlite(tmp_path / "authority.db")
    return databases.postgresql(request.getfixturevalue("server"))


@pytest.fixture
def make_site(database: str | Path) -> Iterator[Callable[..., Site]]:
    made: list[Site] = []

    def make(**more: Any) -> Site:
        made.append(Site(database, **more))
        return made[-1]

    yield make
    for site in made:
        site.close()


@pytest.fixture
def site(make_site: Callable[..., Site]) -> Site:
    """A site with one product."""
    site = make_site()
    site.product()
    return site
