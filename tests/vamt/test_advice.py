"""V8: MAK online, MAK proxy (isolated, fewer than 5 servers and 25 machines), or KMS."""

import pytest

from volact.protocol import policy
from volact.protocol.policy import Threshold
from volact.vamt.advice import Network, advise


@pytest.mark.parametrize("isolated", [False, True])
@pytest.mark.parametrize("servers", [0, 4, 5, 6])
@pytest.mark.parametrize("machines", [24, 25, 26])
def test_at_the_numbers_of_the_rule(machines: int, servers: int, *, isolated: bool) -> None:
    enough = servers in (5, 6) or machines in (25, 26)
    expected = "kms" if enough else "mak-proxy" if isolated else "mak-online"
    said = advise(Network(machines, servers, isolated))
    assert said.way == expected
    assert said.why
    assert said.takes
    assert said.mind


@pytest.mark.parametrize(("machines", "way"), [(24, "mak-proxy"), (25, "kms"), (26, "kms")])
def test_servers_do_not_count_for_a_client_product(machines: int, way: str) -> None:
    """K1: a client product's host grants from 25 machines alone."""
    assert advise(Network(machines, 20, isolated=True, policy=policy.of_edition("client"))).way == way


@pytest.mark.parametrize(("machines", "way"), [(1, "mak-online"), (2, "kms"), (3, "kms")])
def test_a_products_own_thresholds(machines: int, way: str) -> None:
    rules = policy.Policy(thresholds=(Threshold("machines", 2), Threshold("servers", 9)))
    assert advise(Network(machines, 0, isolated=False, policy=rules)).way == way


def test_an_empty_network() -> None:
    said = advise(Network(0, 0, isolated=False))
    assert said.way == "mak-online"
    assert "0 machines, 0 servers" in said.why[0]
    assert "0 activations" in said.takes[0]


@pytest.mark.parametrize(("left", "missing"), [(0, "14 more"), (13, "1 more"), (14, ""), (15, "")])
def test_what_a_mak_takes(left: int, missing: str) -> None:
    """20 machines of which 6 are activated need 14."""
    said = advise(Network(20, 4, isolated=False, activated=6, left=left))
    assert "14 activations" in said.takes[0]
    assert (missing in said.takes[0]) if missing else ("more" not in said.takes[0])
    assert "over HTTPS" in said.takes[-1]
    assert "1 activation;" in advise(Network(1, 0, isolated=False)).takes[0]
    assert "0 activations" in advise(Network(1, 0, isolated=False, activated=2)).takes[0]


def test_what_the_proxy_takes() -> None:
    said = advise(Network(24, 4, isolated=True))
    assert "VAMT outside" in said.takes[-1]
    assert "5 servers or 25 machines" in said.why[0]


@pytest.mark.parametrize(("isolated", "how"), [(True, "by file"), (False, "activated online")])
def test_what_a_host_takes(how: str, *, isolated: bool) -> None:
    said = advise(Network(100, 0, isolated=isolated))
    assert how in said.takes[1]
    assert "25" in said.why[0]
    assert "180 days" in said.mind[0]
    assert len(said.mind) == 1


@pytest.mark.parametrize(("machines", "slim"), [(25, "1 machine less"), (29, "5 machines less"), (30, "")])
def test_a_slim_count(machines: int, slim: str) -> None:
    said = advise(Network(machines, 0, isolated=False))
    assert (slim in said.mind[1]) if slim else (len(said.mind) == 1)
