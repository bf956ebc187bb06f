"""What a host does with its publisher by itself: extension and status list (K18, K21, M5, F41)."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from authority_site import Site
from kmshost.enterprise import Enterprise
from volact.kmshost import statuslist, upkeep
from volact.kmshost.statuslist import NONE, Held
from volact.kmshost.upkeep import Tries, Upkeep
from volact.protocol.documents import Document
from world import DAY, NOW, PRODUCT, new_id

HOUR = 3600
ONLINE, BY_FILE = 90 * DAY, 400 * DAY
URL = "https://authority.test"


# --- when ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("gone", "due"), [(45 * DAY - 1, False), (45 * DAY, True), (45 * DAY + 1, True), (91 * DAY, True)]
)
def test_an_online_delegation_is_extended_at_half_of_its_time(gone: int, due: bool) -> None:
    assert upkeep.is_extension_due(NOW, NOW + ONLINE, Tries(), NOW + gone) == due


@pytest.mark.parametrize(
    ("lasts", "due"), [(ONLINE - 1, True), (ONLINE, True), (ONLINE + 1, False), (BY_FILE, False)]
)
def test_one_that_came_by_file_is_only_warned_of(lasts: int, due: bool) -> None:
    assert upkeep.is_extension_due(NOW, NOW + lasts, Tries(), NOW + lasts) == due


@pytest.mark.parametrize(("since", "due"), [(DAY - 1, False), (DAY, True), (DAY + 1, True), (-1, True)])
def test_then_daily(since: int, due: bool) -> None:
    now = NOW + 60 * DAY
    assert upkeep.is_extension_due(NOW, NOW + ONLINE, Tries(now - since, "busy"), now) == due


@pytest.mark.parametrize(("since", "due"), [(DAY - 1, False), (DAY, True), (DAY + 1, True), (-1, True)])
def test_the_list_is_taken_daily(since: int, due: bool) -> None:
    assert upkeep.is_list_due(NOW - since, Tries(), NOW) == due


@pytest.mark.parametrize(("since", "due"), [(HOUR - 1, False), (HOUR, True), (HOUR + 1, True), (-1, True)])
def test_and_hourly_after_a_failure(since: int, due: bool) -> None:
    assert upkeep.is_list_due(None, Tries(NOW - since, "authority-unreachable"), NOW) == due


# --- what ---------------------------------------------------------------------------------------------------------


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    site = Site(tmp_path / "authority.db")
    site.office.add_product({"sub": PRODUCT, "name": PRODUCT, "edition": "client", "pol": {}, "url": URL}, [])
    yield site
    site.close()


@pytest.fixture
def host(tmp_path: Path, site: Site) -> Enterprise:
    host = Enterprise(tmp_path, site)
    host.init()
    host.install_key(site.key("kms-host"))
    host.activate()
    return host


class Kept:
    """The upkeep of a host that runs on while time passes."""

    def __init__(self, host: Enterprise) -> None:
        self.host = host
        self.tries = Tries(), Tries()

    def work(self) -> Upkeep:
        with self.host.opened() as opened:
            made = Upkeep(opened, opened.keyring, self.host.wire)
            made.extension, made.list = self.tries
            made.work(self.host.site.clock.now())
            self.tries = made.extension, made.list
        return made


def ends(host: Enterprise) -> list[int]:
    return sorted(row.exp for row in host.rows("delegation"))


def list_of(host: Enterprise) -> Held:
    with host.opened() as opened, opened.store.reading() as tx:
        return statuslist.held(tx)


def is_blocked(host: Enterprise) -> bool:
    with host.opened() as opened:
        keyring = opened.keyring()
    assert keyring
    assert keyring.newest
    return list_of(host).blocks_host(keyring.host, keyring.newest)


def test_a_running_host_extends_itself_and_learns_a_new_product(host: Enterprise, site: Site) -> None:
    """K18, K21: with the usage statement."""
    kept, first = Kept(host), site.clock.now() + ONLINE
    site.office.add_product(
        {"sub": "com.example.new", "name": "N", "edition": "client", "pol": {}, "url": ""}, []
    )
    kept.work()
    assert ends(host) == [first]
    host.pass_(45 * DAY)
    kept.work()
    assert ends(host) == [first, first + 45 * DAY]
    assert "usage" in host.wire.asked[-1]
    host.pass_(DAY)
    kept.work()
    assert len(ends(host)) == 2


def test_a_blocked_host_key_gets_no_extension_and_the_host_goes_on(host: Enterprise, site: Site) -> None:
    label = next(row.label for row in site.rows("product_key"))
    site.office.block_key(label, everything=False)
    kept = Kept(host)
    host.pass_(45 * DAY)
    for day in range(3):
        assert kept.work().extension.failed == "key-blocked"
        assert len(host.wire.asked) == 2 + day
        kept.work()
        assert len(host.wire.asked) == 2 + day
        host.pass_(DAY)
    assert len(ends(host)) == 1


def test_a_host_whose_key_is_blocked_altogether_answers_nobody(host: Enterprise, site: Site) -> None:
    """M5, F41: from the next list on."""
    kept = Kept(host)
    kept.work()
    site.office.block_key(next(row.label for row in site.rows("product_key")), everything=True)
    assert not is_blocked(host)
    host.pass_(DAY)
    kept.work()
    assert is_blocked(host)


def test_the_list_is_taken_asked_about_and_replaced(host: Enterprise, site: Site) -> None:
    kept = Kept(host)
    assert list_of(host).pair == NONE
    kept.work()
    first = list_of(host)
    assert first.content.endswith(b"}\n")
    assert first.pair == (NOW, 1)
    assert not is_blocked(host)
    host.pass_(DAY - 1)
    kept.work()
    assert host.wire.lists == [None]
    host.pass_(1)
    kept.work()
    assert host.wire.lists == [None, first.etag]
    assert list_of(host).content == first.content
    site.office.block_activation(next(row.act for row in site.rows("host")))
    host.pass_(DAY)
    kept.work()
    assert list_of(host).pair == (NOW, 2)
    assert is_blocked(host)


def told(one: Held) -> tuple[object, bytes]:
    """What a list says; its head's bundle may have later roots."""
    return one.pair, one.content.partition(b"\n")[2]


def test_an_older_list_is_never_taken_and_a_forged_one_changes_nothing(host: Enterprise, site: Site) -> None:
    kept = Kept(host)
    kept.work()
    with host.opened() as opened, opened.store.reading() as tx:
        old = statuslist.held(tx).content
    site.office.block_activation(next(row.act for row in site.rows("host")))
    host.pass_(DAY)
    kept.work()
    newer = list_of(host)
    for forged in (old, newer.content + b"x\n", newer.content[:-1], b"{}\n", b"", old[:-9]):
        host.wire.forged = forged
        host.pass_(DAY)
        site.authority.renew_status_list()  # the authority's ETag is another one
        kept.work()
        assert told(list_of(host)) == told(newer)


def test_an_authority_that_is_away_is_asked_again_hourly(host: Enterprise) -> None:
    kept = Kept(host)
    host.wire.lose = 1
    assert kept.work().list.failed == "authority-unreachable"
    host.pass_(HOUR - 1)
    kept.work()
    assert list_of(host).pair == NONE
    host.pass_(1)
    assert kept.work().list.failed == ""
    assert list_of(host).pair == (NOW, 1)


def test_a_host_without_an_authoritys_address_asks_nobody(tmp_path: Path, site: Site) -> None:
    site.office.add_product({"sub": PRODUCT, "name": PRODUCT, "edition": "client", "pol": {}, "url": ""}, [])
    host = Enterprise(tmp_path, site, "isolated")
    host.init()
    host.install_key(site.key("kms-host"))
    host.activate()
    host.wire.called.clear()
    host.pass_(60 * DAY)
    Kept(host).work()
    assert host.wire.called == []


def test_k18_k21_a_host_whose_key_s_product_names_no_address_asks_where_another_one_says(
    tmp_path: Path, site: Site
) -> None:
    other = "com.example.other"
    for prd, url in ((PRODUCT, ""), (other, URL)):
        site.office.add_product({"sub": prd, "name": prd, "edition": "client", "pol": {}, "url": url}, [])
    host = Enterprise(tmp_path, site, "mixed")
    host.init(PRODUCT, other)
    host.install_key(site.key("kms-host"), PRODUCT)
    host.activate()
    first = site.clock.now() + ONLINE
    host.pass_(45 * DAY)
    assert Kept(host).work().extension.failed == ""
    assert ends(host) == [first, first + 45 * DAY]


def test_a_host_that_is_not_activated_asks_nobody(tmp_path: Path, site: Site) -> None:
    host = Enterprise(tmp_path, site, "new")
    host.init()
    Kept(host).work()
    assert host.wire.called == []


def test_what_a_list_says_of_host_and_machine() -> None:
    act = new_id()
    delegation = Document("delegation", "", {"act": act}, "")
    for line, host, machine in (
        (f"host {'H' * 43} new 1\n", True, False),
        (f"act {act} returned 1\n", True, False),
        (f"machine {'M' * 43} new 1\n", False, True),
        (f"machine {'N' * 43} all 1\n", False, False),
    ):
        found = Held((1, 1), "", line.encode())
        assert found.blocks_host("H" * 43, delegation) == host
        assert found.blocks_machine("M" * 43) == machine
