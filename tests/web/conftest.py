"""A publisher's site, its pages, and somebody who visits them."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from authority_site import Site
from web.visitor import Visitor


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    made = Site(tmp_path / "authority.db")
    made.product()
    yield made
    made.close()


@pytest.fixture
def visitor(site: Site) -> Iterator[Visitor]:
    with Visitor(site) as made:
        yield made
