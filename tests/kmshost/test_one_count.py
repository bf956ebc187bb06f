"""Several hosts, or processes of one, on one database: one count, and nobody in another's way (K12, T15, F39)."""

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from kmshost.site import ADDRESS, Numbers, Site
from volact.kmshost import ledger
from volact.kmshost.checkins import Sent
from volact.kmshost.terms import Terms
from volact.protocol.problems import Refusal, Refused


def test_k12_two_hosts_share_one_count(make_site: Callable[..., Site]) -> None:
    one = make_site()
    two = make_site(beside=one)
    assert one.signer.kid != two.signer.kid
    thirteen, twelve = one.machines(13), two.machines(12)
    assert [dict(answer.extra)["count"] for answer in one.call(thirteen)] == list(range(1, 14))
    *refused, lease = two.call(twelve)
    assert [dict(answer.extra)["count"] for answer in refused] == list(range(14, 25))
    assert (lease["cnt"], lease["iss"]) == (25, two.signer.kid)
    assert all(isinstance(answer, dict) for answer in one.call(thirteen))
    assert one.counts() == two.counts() == (25, 0)


def test_k12_each_host_of_a_count_takes_the_others_nonce_with_its_name(
    make_site: Callable[..., Site],
) -> None:
    """PROTOCOL section 6: the key is shared, the host id is in the hash."""
    one = make_site()
    two = make_site(beside=one)
    machine = one.machine()
    assert (
        machine.call(aud=two.signer.kid, nonce=two.nonce()).code == "nonce-refused"
    )  # it has not met it yet
    one.host.use(Terms(one.keyring()))
    assert machine.call(aud=two.signer.kid, nonce=two.nonce()).code == "count-insufficient"
    assert machine.call(aud=one.signer.kid, nonce=two.nonce()).code == "document-refused"
    assert machine.call(aud=two.signer.kid, nonce=one.nonce()).code == "document-refused"
    # Another host's nonce, from another count.
    other = make_site()
    assert machine.call(aud=other.signer.kid, nonce=other.nonce()).code == "nonce-refused"
    assert one.counts() == (1, 0)


def test_k12_two_processes_at_once_count_exactly(make_site: Callable[..., Site]) -> None:
    """T15: 2 x 24 machines at two hosts at once, one by one; from the 25th on all are granted, whoever comes."""
    one = make_site()
    sites = [one, make_site(beside=one)]
    barrier = threading.Barrier(2)
    bodies = [[machine.checkin() for machine in site.machines(24)] for site in sites]

    def run(number: int) -> list[Any]:
        answers = []
        barrier.wait()
        for body in bodies[number]:
            while True:
                try:
                    answers += sites[number].ask(body)
                    break
                except Refused as error:
                    assert error.refusal.code == "busy"  # noqa: PT017 - what else may happen
        return answers

    with ThreadPoolExecutor(2) as threads:
        answers = [answer for found in threads.map(run, range(2)) for answer in found]
    counts = sorted(dict(answer.extra)["count"] for answer in answers if isinstance(answer, Refusal))
    assert counts == list(range(1, 25))
    assert one.counts() == (48, 0)


def forget_at_once(site: Site, ended: list[int]) -> None:
    """Housekeeping that does not wait."""
    with site.store.writing() as tx:
        tx.exec_driver_sql("SET LOCAL lock_timeout = '100ms'")
        ledger.forget_ended(tx, ended, site.clock.now())


def test_a_machine_that_ended_and_calls_while_it_is_deleted_is_kept(site: Site, numbers: Numbers) -> None:
    """Housekeeping, here or on the other host, must not take the row that a batch has found and will write."""
    one = site.machine()
    one.call()
    site.clock.pass_(numbers.lifetime)
    with site.store.reading() as tx:
        (ended, _), _ = ledger.out_of_time(tx, 0, site.clock.now(), 10)
    if site.store.engine.dialect.name == "sqlite":
        return  # one writer at a time: BEGIN IMMEDIATE
    memory = ledger.Memory()
    with site.store.writing() as tx:
        batch = ledger.Batch(tx, memory, {one.cmid}, site.clock.now())
        with pytest.raises(Refused) as refused:
            forget_at_once(site, ended)
        assert refused.value.refusal.code == "busy"
        (row,) = ledger.pages(tx, 0, 1)
        batch.put(row._replace(id=0, expires=site.clock.now() + numbers.lifetime))
        batch.write()
    with site.store.writing() as tx:
        assert ledger.forget_ended(tx, ended, site.clock.now()) == 0
    assert site.counts() == (1, 0)


def test_the_same_check_in_at_two_processes_at_once_is_one_record(site: Site, numbers: Numbers) -> None:
    """A client that has lost an answer may ask the other process of a host: it gets the same lease."""
    machines = site.machines(numbers.machines)
    site.call(machines)
    hosts = [site.host, site.restarted()]
    barrier = threading.Barrier(2)
    bodies = [machine.checkin() for machine in machines]

    def run(number: int) -> list[Any]:
        answers = []
        barrier.wait()
        for body in bodies:
            while True:
                try:
                    answers += hosts[number].answer([(body_of(body), ADDRESS)])
                    break
                except Refused as error:
                    assert error.refusal.code == "busy"  # noqa: PT017 - what else may happen
        return answers

    with ThreadPoolExecutor(2) as threads:
        left, right = threads.map(run, range(2))
    assert left == right
    assert site.counts() == (numbers.machines, 0)
    assert {row.renewals for row in site.rows("record")} == {0, 1}


def body_of(body: dict[str, Any]) -> Sent:
    return Sent(body["token"], body["jwk"])
