"""Both databases, and two sets of numbers, under every test of the KMS host's store and role."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from databases import KINDS, Databases
from kmshost.publishing_host import FOREIGN, KEYS, ZONE, Host, hosts
from kmshost.site import OTHER, RULES, SERVER, Numbers, Site
from nameservers import Knot, Named, NameServer
from volact.kmshost import schema
from volact.kmshost.store import Store


@pytest.fixture(scope="session")
def databases(tmp_path_factory: pytest.TempPathFactory) -> Databases:
    return Databases(tmp_path_factory.mktemp("template"), Store, schema.metadata)


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Every test that has a database on both; one that asks for numbers with RULES.md's and with others."""
    if "numbers" in metafunc.fixturenames and "kind" in metafunc.fixturenames:
        both = [("sqlite", RULES), ("postgresql", RULES), ("sqlite", OTHER)]
        metafunc.parametrize(("kind", "numbers"), both, ids=["sqlite", "postgresql", "other-numbers"])
    elif "numbers" in metafunc.fixturenames:
        metafunc.parametrize("numbers", [RULES, OTHER], ids=["rules", "other-numbers"])
    elif "kind" in metafunc.fixturenames:
        metafunc.parametrize("kind", KINDS)


@pytest.fixture
def database(kind: str, request: pytest.FixtureRequest, tmp_path: Path, databases: Databases) -> str | Path:
    """A migrated, empty database: a file's path or a URL."""
    if kind == "sqlite":
        return databases.sqlite(tmp_path / "kmshost.db")
    return databases.postgresql(request.getfixturevalue("server"))


@pytest.fixture
def make_site(database: str | Path) -> Iterator[Callable[..., Site]]:
    """Makes hosts on the test's database; `beside` another one for its second and later host."""
    made: list[Site] = []

    def make(**more: Any) -> Site:
        made.append(Site(database, **more))
        return made[-1]

    yield make
    for site in made:
        site.close()


@pytest.fixture
def site(make_site: Callable[..., Site], numbers: Numbers) -> Site:
    """A host that serves a client and a server product."""
    site = make_site(**numbers.client)
    site.add_product(SERVER, "server", **numbers.server)
    return site


# --- name servers, and hosts that publish themselves there ------------------------------------------------------------


@pytest.fixture
def make_host(tmp_path: Path) -> Iterator[Callable[..., Host]]:
    """Makes hosts that publish themselves, each in a folder of its own."""
    with hosts(tmp_path) as make:
        yield make


@pytest.fixture(params=[Named, Knot], ids=["bind", "knot"])
def dns_server(request: pytest.FixtureRequest) -> Iterator[NameServer]:
    """A real DNS server of each kind, with a record of somebody else in its zone."""
    with request.param({ZONE: FOREIGN, "other.test": ""}, KEYS) as running:
        yield running


@pytest.fixture
def bind() -> Iterator[NameServer]:
    """A real BIND, where the kind of server says nothing more."""
    with Named({ZONE: FOREIGN}, KEYS) as running:
        yield running
