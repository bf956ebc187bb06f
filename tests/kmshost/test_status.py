"""What `status` tells of the machines that count: from where they called last (K17)."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from authority_site import Site
from kmshost.enterprise import Enterprise
from volact.kmshost import reporting, schema
from world import DAY, PRODUCT


@pytest.fixture
def host(tmp_path: Path) -> Iterator[Enterprise]:
    site = Site(tmp_path / "authority.db")
    site.product()
    yield Enterprise(tmp_path, site)
    site.close()


def test_k17_machines_are_told_apart_by_private_and_global_source(host: Enterprise) -> None:
    host.init()
    with host.opened() as opened:
        now = opened.clock.now()
        rows = [
            _record(cmid, address, now + DAY)
            for cmid, address in enumerate(("10.0.0.1", "fd00::1", "8.8.8.8"))
        ]
        with opened.store.writing() as tx:
            tx.execute(sa.insert(schema.record), [*rows, _record(3, "8.8.4.4", now)])
        found = reporting.status(opened)
    assert found["sources"] == {"private": 2, "global": 1}
    assert "\nsources     2 machines at private, 1 at global addresses\n" in reporting.prose(found)


def _record(cmid: int, address: str, expires: int) -> dict[str, Any]:
    """A machine's record; it counts until `expires`."""
    given = {"cmid": str(cmid), "prd": PRODUCT, "grp": "publisher", "address": address, "expires": expires}
    numbers = dict.fromkeys(("first", "last", "state", "minutes", "renewals"), 0)
    return {**given, **numbers, "server": False, "virtual": False, "fp": "{}", "outcome": "ok"}
