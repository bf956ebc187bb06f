"""What every test gets: no network unless it asks, no settings of this machine, a bounded hypothesis."""

import os
import sys
from collections.abc import Iterator

import pytest
from hypothesis import HealthCheck, settings

import postgres

# Where compiled code is not kept, each of the many programs that are started here compiles volact anew, and each worker
# rewrites the assertions of every test.
sys.dont_write_bytecode = False
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)

# A shared CI core can stall for a second: a deadline would fail the build, not find a fault.
# In CI the same examples come every time, so that a red build can be repeated.
settings.register_profile("here", deadline=None)
settings.register_profile(
    "ci", deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow], print_blob=True
)
settings.load_profile("ci" if os.environ.get("CI") == "true" else "here")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Give loopback, and nothing else, back to the tests marked `sockets`.

    By pytest-socket's own marks, not by a fixture: they hold before fixtures of a wider scope are set up.
    """
    for item in items:
        if item.get_closest_marker("sockets"):
            # The last two are nobody's: a host asks the system from which address it would call there, and does not call.
            own = ["127.0.0.0/8", "::1", "localhost", "203.0.113.253", "2001:db8::fffe"]
            item.add_marker(pytest.mark.allow_hosts(own))


@pytest.fixture(autouse=True)
def _no_log_of_another_test() -> Iterator[None]:
    """A test that served has logged to what was standard error then, which is closed by now."""
    yield
    if "structlog" in sys.modules:
        sys.modules["structlog"].reset_defaults()


@pytest.fixture(autouse=True)
def _no_settings_of_this_machine(
    monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """Keep a developer's own VOLACT_* settings out, and their home safe."""
    for name in [name for name in os.environ if name.startswith("VOLACT_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("VOLACT_HOME", str(tmp_path_factory.getbasetemp() / "no-home-was-given"))


@pytest.fixture(scope="session")
def server() -> Iterator[postgres.Postgres]:
    """A PostgreSQL server of this test process's own; started by the first test that asks for it."""
    with postgres.running() as running:
        yield running
