"""Both databases, and a VAMT with a clock moved by hand, under every test of VAMT's store and role."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from databases import KINDS, Databases
from vamt.site import Site
from volact.authority import schema as authority_schema
from volact.authority import store as authority_store
from volact.vamt import schema, setup
from volact.vamt.store import Store


@pytest.fixture(scope="session")
def databases(tmp_path_factory: pytest.TempPathFactory) -> Databases:
    return Databases(tmp_path_factory.mktemp("template"), Store, schema.metadata)


@pytest.fixture(scope="session")
def authorities(tmp_path_factory: pytest.TempPathFactory) -> Databases:
    """Databases of authorities, which a VAMT's trips lead to."""
    return Databases(tmp_path_factory.mktemp("authority"), authority_store.Store, authority_schema.metadata)


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Every test that has a database runs on both."""
    if "kind" in metafunc.fixturenames:
        metafunc.parametrize("kind", KINDS)


@pytest.fixture
def database(kind: str, request: pytest.FixtureRequest, tmp_path: Path, databases: Databases) -> str | Path:
    """A migrated, empty database: a file's path or a URL."""
    if kind == "sqlite":
        return databases.sqlite(tmp_path / "vamt.db")
    return databases.postgresql(request.getfixturevalue("server"))


@pytest.fixture
def site(database: str | Path) -> Iterator[Site]:
    """A VAMT on each database."""
    made = Site(database)
    yield made
    made.close()


@pytest.fixture
def light_site(tmp_path: Path, databases: Databases) -> Iterator[Site]:
    """A VAMT on SQLite, where the kind of database says nothing more."""
    made = Site(databases.sqlite(tmp_path / "vamt.db"))
    yield made
    made.close()


@pytest.fixture(scope="session")
def api_template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A home with a new VAMT, made once, for tests of the API."""
    made = tmp_path_factory.mktemp("api")
    setup.initialise("VAMT", {"VOLACT_HOME": str(made)})
    return made
