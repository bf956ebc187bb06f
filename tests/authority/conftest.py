"""Both databases under every test of the authority's store and role."""

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import postgres
from authority_site import Site
from volact import db
from volact.authority import schema
from volact.authority.store import Store


@pytest.fixture(scope="session")
def server() -> Iterator[postgres.Postgres]:
    with postgres.running() as running:
        yield running


@pytest.fixture(scope="session")
def templates(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """One migrated, empty store of each kind, which tests copy."""
    return {"folder": tmp_path_factory.mktemp("template")}


@pytest.fixture(params=["sqlite", "postgresql"])
def database(request: pytest.FixtureRequest, tmp_path: Path, templates: dict[str, Any]) -> str | Path:
    """A migrated, empty database: a file's path or a URL."""
    if request.param == "sqlite":
        if "sqlite" not in templates:
            path = templates["folder"] / "template.db"
            store = Store(db.connect(path))
            store.migrate()
            store.close()
            templates["sqlite"] = path
        return Path(shutil.copy(templates["sqlite"], tmp_path / "authority.db"))
    server: postgres.Postgres = request.getfixturevalue("server")
    if "postgresql" not in templates:
        templates["postgresql"] = server.url(server.new_database())
    # One database, emptied: making one takes longer than most tests.
    store = Store(db.connect(templates["postgresql"]))
    store.migrate()
    with store.writing() as tx:
        for table in reversed(schema.metadata.sorted_tables):
            tx.execute(table.delete())
    store.close()
    return str(templates["postgresql"])


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
