"""`init`, all or nothing, and the host's settings with their bounds (K6, K16)."""

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import postgres
from authority_site import Site
from kmshost.enterprise import Enterprise
from volact import config
from volact.config import SettingInvalid
from volact.kmshost import settings, setup
from volact.protocol.problems import DocumentRefused, Refused, UsageError, VolactError
from world import DAY, PRODUCT

MINUTES_A_DAY = 1440


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    site = Site(tmp_path / "authority.db")
    site.product()
    yield site
    site.close()


@pytest.fixture
def host(tmp_path: Path, site: Site) -> Enterprise:
    return Enterprise(tmp_path, site)


def test_a_new_host_has_a_private_key_and_knows_what_its_files_say(host: Enterprise, site: Site) -> None:
    made = host.init()
    assert (made.pub, made.products, made.joined) == (site.pub, (PRODUCT,), False)
    folder = host.home / "kmshost"
    assert folder.stat().st_mode & 0o777 == 0o700
    for name in ("keys/host.pem", "tls/key.pem"):
        assert (folder / name).stat().st_mode & 0o777 == 0o600
    with host.opened() as opened:
        assert opened.signer.kid == made.host
        assert opened.publisher.lab is True
        assert opened.roots()
        assert opened.clock.now() == site.clock.now()  # a laboratory's can be moved
        assert [one.retry for one in opened.policies()] == [7200]
    with pytest.raises(Refused) as refused:
        host.init()
    assert refused.value.refusal.code == "already-exists"


def test_the_root_may_be_its_documents_file(host: Enterprise, site: Site, tmp_path: Path) -> None:
    file = tmp_path / "root.json"
    file.write_text(json.dumps(site.keyring.roots.first))
    assert setup.initialise(str(file), [], host.environ).pub == site.pub
    with host.opened() as opened:
        assert opened.publisher.root == site.keyring.roots.first
        assert opened.products() == {}


@pytest.mark.parametrize("content", [b"", b"{}", b"[" * 100_000, b'{"root": 1}', b"\x00"])
def test_a_file_that_is_no_product_sets_nothing_up(host: Enterprise, site: Site, content: bytes) -> None:
    bad = host.home.parent / "bad"
    bad.write_bytes(content)
    for root, files in ((site.pub, [host.product_file(), bad]), (str(bad), [])):
        with pytest.raises(DocumentRefused):
            setup.initialise(root, files, host.environ)
    assert list(host.home.iterdir()) == []


def test_another_publishers_file_and_a_root_that_is_none(
    host: Enterprise, site: Site, tmp_path: Path
) -> None:
    foreign = Site(tmp_path / "foreign.db")
    with pytest.raises(Refused) as refused:
        setup.initialise(foreign.pub, [host.product_file()], host.environ)
    foreign.close()
    assert refused.value.refusal.code == "root-mismatch"
    with pytest.raises(UsageError):
        setup.initialise("no-root", [], host.environ)
    with pytest.raises(Refused) as refused, host.opened():
        pass
    assert refused.value.refusal.code == "not-set-up"
    assert list(host.home.iterdir()) == []


def test_a_damaged_product_file_is_refused_whole(host: Enterprise, site: Site) -> None:
    file = host.product_file()
    bundle = json.loads(file.read_bytes())
    file.write_text(json.dumps({**bundle, "token": bundle["token"][:-8] + "AAAAAAAA"}))
    with pytest.raises(DocumentRefused):
        setup.initialise(site.pub, [file], host.environ)
    assert list(host.home.iterdir()) == []


@pytest.mark.enable_socket
def test_hosts_that_share_a_database_join_one_count(site: Site, tmp_path: Path) -> None:
    """K12; K1: a database holds one publisher's count."""
    with postgres.running() as server:
        url = server.url(server.new_database())
        first, second, third = (Enterprise(tmp_path, site, name) for name in ("a", "b", "c"))
        for one in (first, second, third):
            one.environ["VOLACT_KMSHOST_DATABASE"] = url
        made, joined = first.init(), second.init()
        assert (made.joined, joined.joined) == (False, True)
        assert made.host != joined.host
        with first.opened() as here, second.opened() as there:
            assert here.publisher == there.publisher
        other = Site(tmp_path / "foreign.db")
        with pytest.raises(Refused) as refused:
            setup.initialise(other.pub, [], third.environ)
        other.close()
        assert refused.value.refusal.code == "already-exists"
        assert list(third.home.iterdir()) == []


@pytest.mark.parametrize("url", ["nonsense", "mysql://u:secret@h/d"])
def test_a_database_that_is_none_sets_nothing_up(host: Enterprise, url: str) -> None:
    host.environ["VOLACT_KMSHOST_DATABASE"] = url
    with pytest.raises(SettingInvalid) as error:
        host.init()
    assert "secret" not in str(error.value)
    assert list(host.home.iterdir()) == []


# --- settings ---------------------------------------------------------------------------------------------------


@pytest.mark.sockets  # a port is tried before it is set
@pytest.mark.parametrize(
    ("change", "good", "bad"),
    [
        (settings.set_port, (1, 1688, 65535), (0, -1, 65536)),
        (settings.set_renewal, (15, 10080, 43200), (14, 0, 43201)),
        (settings.set_retry, (15, 120, 10080), (14, 0, 10081)),
    ],
)
def test_bounds(
    host: Enterprise, change: Callable[..., settings.Changed], good: tuple[int, ...], bad: tuple[int, ...]
) -> None:
    host.init()
    with host.opened() as opened:
        for value in good:
            assert change(opened, value).value == value
        kept = opened.settings_now()
        for value in bad:
            with pytest.raises(UsageError):
                change(opened, value)
        assert opened.settings_now() == kept


def test_the_retry_interval_is_never_longer_than_the_renewal_interval(host: Enterprise) -> None:
    host.init()
    with host.opened() as opened:
        settings.set_renewal(opened, 60)
        assert settings.set_retry(opened, 60).warning == ""
        for change, value in ((settings.set_retry, 61), (settings.set_renewal, 59)):
            with pytest.raises(UsageError):
                change(opened, value)


@pytest.mark.parametrize(
    ("minutes", "warned"), [(15 * MINUTES_A_DAY, False), (15 * MINUTES_A_DAY + 1, True), (43200, True)]
)
def test_a_renewal_interval_above_half_the_record_lifetime_is_taken_with_a_warning(
    host: Enterprise, minutes: int, warned: bool
) -> None:
    host.init()
    with host.opened() as opened:
        changed = settings.set_renewal(opened, minutes)
        assert bool(changed.warning) is warned
        assert opened.settings_now().renewal_minutes == minutes


@pytest.mark.sockets  # a port is tried before it is set
def test_which_place_wins(host: Enterprise) -> None:
    """DESIGN 5: environment variable, table row, TOML file, default."""
    host.init()
    with host.opened() as opened:
        assert settings.where(opened, "port") == "default"
        (host.home / "kmshost.toml").write_text("port = 1700\n")
        assert settings.where(opened, "port") == str(host.home / "kmshost.toml")
        assert opened.settings_now().port == 1700
        assert settings.set_port(opened, 1701)._asdict() == {
            "name": "port",
            "value": 1701,
            "warning": "",
            "wins": "setting table",
        }
        assert opened.settings_now().port == 1701
    host.environ["VOLACT_KMSHOST_PORT"] = "1702"
    with host.opened() as opened:
        changed = settings.set_port(opened, 1703)
        assert changed.wins == "environment variable VOLACT_KMSHOST_PORT"
        assert "no effect" in changed.warning
        assert opened.settings_now().port == 1702


@pytest.mark.parametrize(
    ("given", "wrong"),
    [
        ({}, ""),
        ({"port": 65536}, "port"),
        ({"renewal_minutes": 14}, "renewal_minutes"),
        ({"renewal_minutes": 43201}, "renewal_minutes"),
        ({"retry_minutes": 14}, "retry_minutes"),
        ({"renewal_minutes": 20, "retry_minutes": 21}, "retry_minutes"),
        ({"renewal_minutes": 20, "retry_minutes": 20}, ""),
    ],
)
def test_settings_from_elsewhere_are_looked_at_too(given: dict[str, Any], wrong: str) -> None:
    problem = settings.problem_of(config.KmshostSettings(**given))
    assert problem.startswith(wrong)
    assert bool(problem) is bool(wrong)


def test_nothing_of_a_key_or_password_is_shown(host: Enterprise, site: Site) -> None:
    from volact.kmshost import reporting

    host.init()
    key = site.key("kms-host")
    host.install_key(key)
    host.activate()
    with host.opened() as opened:
        text = json.dumps(reporting.status(opened)) + reporting.prose(reporting.status(opened))
    assert key.text() not in text
    assert f"...-{key.label}" in text


@pytest.mark.parametrize(
    ("percent", "stage"), [(49, 0), (50, 1), (74, 1), (75, 2), (89, 2), (90, 3), (100, 3), (101, 4)]
)
def test_a_service_warns_at_50_75_and_90_percent(percent: int, stage: int) -> None:
    from volact.kmshost import reporting

    assert reporting.stage(1000, 1100, 1000 + percent) == stage


@pytest.mark.parametrize(
    ("days", "says"),
    [
        (44, ""),
        (45, "good time"),
        (67, "good time"),
        (68, "soon"),
        (80, "soon"),
        (81, "extend it now"),
        (90, "extend it now"),
        (91, "is over"),
    ],
)
def test_the_end_of_the_delegation_is_announced_long_before(
    host: Enterprise, site: Site, days: int, says: str
) -> None:
    """K9: from half of its 90 days on."""
    from volact.kmshost import reporting

    host.init()
    host.install_key(site.key("kms-host"))
    host.activate()
    host.pass_(days * DAY)
    with host.opened() as opened:
        found = reporting.status(opened)
    assert (found["warning"] is None) is (says == "")
    assert says in (found["warning"] or "")
    assert found["reason"] == ("host-clock-wrong" if days > 90 else None)
    assert "volact kmshost extend" in (found["warning"] or "volact kmshost extend")


def test_errors_of_the_store_have_codes(host: Enterprise) -> None:
    host.init()
    (host.home / "kmshost" / "kmshost.db").write_bytes(b"no database at all, but long enough to look at" * 40)
    with pytest.raises(VolactError) as broken, host.opened():
        pass
    assert broken.value.refusal.code == "data-broken"
