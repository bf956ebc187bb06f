"""The ledger's cost and its corners: what an index serves, what a renewal leaves alone, products that change."""

from collections.abc import Callable

import pytest

from kmshost.site import PRODUCT, SERVER, Site
from volact.kmshost import ledger, schema
from volact.protocol import documents, jws
from volact.protocol.problems import Refusal
from world import DAY

WEEK = 7 * DAY


def test_an_index_serves_the_question_and_a_renewal_writes_none(
    make_site: Callable[..., Site], kind: str
) -> None:
    """A few servers, or a small group, among a million records must not mean reading all of them."""
    indexed = {column.name for index in schema.record.indexes for column in index.columns}
    unique = {"cmid", "prd"}
    assert {"grp", "server"} <= indexed
    assert not (indexed | unique) & set(ledger._CHANGED)
    if kind == "postgresql":  # its planner goes by statistics, which a test's few rows do not have
        return
    site = make_site()
    asked = {"grp": "publisher", "now": 0, "most": 50}
    with site.store.reading() as tx:
        for statement in (ledger._LIVE_MACHINES, ledger._LIVE_SERVERS):
            text, order = statement._text(tx)
            assert order is not None
            given = tuple(asked[name] for name in order)
            plan = str(tx.exec_driver_sql(f"EXPLAIN QUERY PLAN {text}", given).all())
            assert "USING INDEX ix_record_grp_server" in plan


def test_few_servers_among_more_machines_than_are_counted_are_counted_exactly(
    make_site: Callable[..., Site],
) -> None:
    """A host counts to 50 machines here; the servers behind the 50th are found all the same."""
    site = make_site()
    only = [{"count": "servers", "minimum": 5}]
    site.add_product(SERVER, "server", thresholds=only)
    site.call(site.machines(120))
    servers = site.machines(6)
    answers = [one.call(SERVER) for one in servers[:5]]
    said = [dict(one.extra)["count"] for one in answers[:4] if isinstance(one, Refusal)]
    assert said == [1, 2, 3, 4]
    assert isinstance(answers[4], dict)
    assert isinstance(servers[5].call(SERVER), dict)


def test_a_product_that_becomes_a_servers_makes_its_machines_servers(make_site: Callable[..., Site]) -> None:
    """K1: its newest document says what they are, whether they have called since or not."""
    site = make_site()
    machines = site.machines(5)
    site.call(machines[:4])
    assert site.counts() == (4, 0)
    site.add_product(PRODUCT, "server", ver=2)
    assert site.counts() == (4, 4)
    assert not isinstance(machines[4].call(), Refusal)
    assert site.counts() == (5, 5)
    site.add_product(PRODUCT, ver=3)
    assert site.counts() == (5, 0)


def test_a_lease_is_written_as_every_document_is(make_site: Callable[..., Site]) -> None:
    """The host writes it faster than `documents.write` would, and to the same bytes."""
    site = make_site(thresholds=[{"count": "machines", "minimum": 1}])
    site.delegate(cus='Contoso "M\u00fcnchen" \u2713 \U0001f600 \\ / \x1f\x7f\u2028')
    for parts in ({}, {"hv": "h", "uuid": "4c4c4544"}, None):
        site.machine(parts=parts).call()
    rows = site.rows("record")
    assert len(rows) == 3
    for row in rows:
        payload = bytes(row.payload)
        claims = jws.read_json(payload)
        assert documents.read("lease", site.signer.kid, payload, "").claims == claims
        assert documents.write("lease", claims) == payload


@pytest.mark.parametrize("fleet", [25, 40])
def test_a_small_fleets_last_calls_are_days_old_and_no_reason_to_warn(
    make_site: Callable[..., Site], fleet: int
) -> None:
    """Machines with right clocks, each once a week: most of the last 25 called more than a day ago."""
    site = make_site()
    machines = site.machines(fleet)
    for _ in range(2):
        for one in machines:
            one.call()
            site.clock.pass_(WEEK // fleet)
    assert site.warned == []
