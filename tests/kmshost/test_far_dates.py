"""A host that lives in 2038 or 2106, on both databases: no number of seconds is too large for a document or a column (F19)."""

from collections.abc import Callable

import pytest

import kmshost.site
from kmshost.site import Site, granted
from world import DAY

MACHINES, LIFETIME = 25, 30 * DAY


@pytest.mark.parametrize("age", [2**31, 2**32], ids=["2038", "2106"])
@pytest.mark.parametrize("offset", [-1, 0, 1])
def test_a_host_that_lives_then_does_everything(
    make_site: Callable[..., Site], monkeypatch: pytest.MonkeyPatch, age: int, offset: int
) -> None:
    """The 25th call is in the second itself."""
    monkeypatch.setattr(kmshost.site, "NOW", age - DAY)
    site = make_site()
    machines = site.machines(MACHINES)
    site.clock.time = age + offset - 60
    site.call(machines[:-1])
    site.clock.pass_(60)
    (lease,) = site.call(machines[-1:])
    assert (lease["iat"], lease["exp"]) == (age + offset, age + offset + 180 * DAY)
    assert granted(site.call(machines))
    site.clock.time = age + offset + LIFETIME - 61
    site.host.expire()
    assert site.counts() == (MACHINES, 0)
    site.clock.time = age + offset + LIFETIME
    assert site.counts() == (0, 0)
