"""K9, K18: a key that waits and the key of the activation are two; a host that is set up is taught products."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from authority_site import Site
from kmshost.enterprise import Enterprise
from volact.kmshost import cli, reporting, setup
from volact.kmshost.hostkeys import HostKeys
from volact.protocol.keys import ProductKey
from volact.protocol.problems import BrokenData, DocumentRefused, Refused, VolactError
from volact.signing import Signer
from world import DAY, PRODUCT, claims_of

OTHER = "com.example.other"
BY_FILE = 400 * DAY


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    site = Site(tmp_path / "authority.db")
    site.product()
    yield site
    site.close()


@pytest.fixture
def host(tmp_path: Path, site: Site) -> Enterprise:
    host = Enterprise(tmp_path, site)
    host.init()
    return host


def activated(host: Enterprise) -> ProductKey:
    """Activate the host; the key that did it."""
    key = host.site.key("kms-host")
    host.install_key(key)
    host.activate()
    host.pass_(DAY)
    return key


def waiting(host: Enterprise) -> str | None:
    found = HostKeys(host.home / "kmshost").waiting()
    return found.label if found else None


def thumbprint(host: Enterprise, key: ProductKey) -> str:
    return Signer(key.private_key(host.site.pub)).kid


def answered(host: Enterprise, request: dict[str, Any]) -> Any:
    return host.site.ask_one(request, address="file")


@pytest.mark.parametrize("by_file", [False, True])
def test_an_extension_asks_in_the_name_of_the_activations_key_whatever_waits(
    host: Enterprise, site: Site, by_file: bool
) -> None:
    first, second = activated(host), site.key("kms-host")
    host.install_key(second)
    request = host.request("extend")
    assert claims_of(request["token"])["key"] == thumbprint(host, first)
    done = host.apply(answered(host, request)) if by_file else host.activate("extend")
    assert done.until == site.clock.now() + BY_FILE, "the request that waited set out on a medium"
    assert waiting(host) == second.label, "it was not what was answered"
    host.pass_(DAY)
    host.activate()
    assert waiting(host) is None
    host.pass_(DAY)
    assert claims_of(host.request("extend")["token"])["key"] == thumbprint(host, second), (
        "that of the newest activation"
    )


def test_an_answer_to_an_earlier_extension_leaves_a_key_that_was_installed_since(
    host: Enterprise, site: Site
) -> None:
    activated(host)
    request = host.request("extend")
    second = site.key("kms-host")
    host.install_key(second)
    host.apply(answered(host, request))
    assert waiting(host) == second.label
    assert host.activate().activation


def test_an_answer_to_an_earlier_extension_leaves_the_request_of_an_activation(
    host: Enterprise, site: Site
) -> None:
    """Its answer may be lost, and one that is asked for anew costs one of ten."""
    activated(host)
    extension = host.request("extend")
    second = site.key("kms-host")
    host.install_key(second)
    host.wire.lose = 1
    with pytest.raises(VolactError):
        host.activate()
    host.pass_(1)
    host.apply(answered(host, extension))
    assert waiting(host) == second.label
    sent = host.wire.asked[-1]
    with pytest.raises(DocumentRefused, match="older"):  # the lost answer is the older one by now
        host.activate()
    assert host.wire.asked[-1] == sent, "the same bytes"
    assert sorted(row.activations for row in site.rows("host")) == [1, 1]
    host.activate()  # which asks anew, or it would be refused for ever
    assert waiting(host) is None
    assert sorted(row.activations for row in site.rows("host")) == [1, 2]


def test_a_key_that_replaced_the_one_that_was_asked_with_still_waits(host: Enterprise, site: Site) -> None:
    first, second = site.key("kms-host"), site.key("kms-host")
    host.install_key(first)
    answer = answered(host, host.request())
    host.install_key(second)
    host.apply(answer)
    assert waiting(host) == second.label
    host.pass_(1)
    assert claims_of(host.request("extend")["token"])["key"] == thumbprint(host, first)


def test_a_refused_activation_keeps_what_was_held(host: Enterprise, site: Site) -> None:
    first, second = activated(host), site.key("kms-host")
    site.office.block_key(second.label, everything=False)
    host.install_key(second)
    with pytest.raises(Refused):
        host.activate()
    assert waiting(host) == second.label
    host.activate("extend")
    with host.opened() as opened:
        assert reporting.status(opened)["partial_key"] == first.label


def test_an_answer_that_was_stored_before_the_power_failed_is_settled_by_the_next_try(
    host: Enterprise, site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    key = site.key("kms-host")
    host.install_key(key)
    with monkeypatch.context() as broken:

        def fail(*_: object) -> None:
            raise OSError

        broken.setattr(HostKeys, "note_activated", fail)
        with pytest.raises(OSError):
            host.activate()
    assert waiting(host) == key.label
    host.activate()
    assert waiting(host) is None
    assert [row.activations for row in site.rows("host")] == [1]
    host.pass_(1)
    host.activate("extend")


def test_status_tells_both(host: Enterprise, site: Site) -> None:
    def told() -> tuple[Any, Any, str]:
        with host.opened() as opened:
            found = reporting.status(opened)
            return found["partial_key"], found["waiting_key"], reporting.prose(found)

    first, second = site.key("kms-host"), site.key("kms-host")
    assert told()[:2] == (None, None)
    host.install_key(first)
    assert told()[:2] == (first.label, first.label)
    host.activate()
    assert told()[:2] == (first.label, None)
    host.pass_(1)
    host.install_key(second)
    partial, waits, prose = told()
    assert (partial, waits) == (first.label, second.label)
    assert f"...-{second.label} waits for its activation" in prose
    host.activate()
    assert told()[:2] == (second.label, None)


def test_an_activation_whose_key_is_not_known_any_more_is_said(host: Enterprise, site: Site) -> None:
    activated(host)
    (host.home / "kmshost" / "activated.json").unlink()
    with pytest.raises(Refused) as refused:
        host.activate("extend")
    assert refused.value.refusal.code == "no-key-installed"
    assert "activate anew" in refused.value.refusal.detail


@pytest.mark.parametrize("content", ["{", "[]", "[" * 100_000, '{"label": 1, "key": "k", "product": "p"}'])
def test_damaged_labels_are_said(host: Enterprise, site: Site, content: str) -> None:
    activated(host)
    (host.home / "kmshost" / "key.json").write_text(content)
    with pytest.raises(BrokenData), host.work() as work:
        work.write_request("host")
    host.install_key(site.key("kms-host"))
    host.activate()


# --- teaching products (K18) ------------------------------------------------------------------------------------


def teach(host: Enterprise, *files: Path) -> list[setup.Taught]:
    with host.opened() as opened:
        return setup.teach(opened, files)


def test_a_host_that_is_set_up_is_taught_a_product_and_serves_it_when_its_key_activates(
    host: Enterprise, site: Site
) -> None:
    activated(host)
    site.product(OTHER)
    key = site.key("kms-host", None, OTHER)
    with pytest.raises(Refused) as refused:
        host.install_key(key, OTHER)
    assert refused.value.refusal.code == "product-unknown"
    assert "volact kmshost product add" in refused.value.refusal.detail
    file = host.product_file(OTHER)
    assert teach(host, file) == [setup.Taught(OTHER, 1, added=True, served=False)]
    assert teach(host, file, host.product_file()) == [
        setup.Taught(OTHER, 1, added=False, served=False),
        setup.Taught(PRODUCT, 1, added=False, served=True),
    ]
    host.install_key(key, OTHER)
    assert host.activate().products == (OTHER,)
    assert teach(host, file)[0].served is True


def test_a_newer_version_is_taken_and_an_older_one_is_not(host: Enterprise, site: Site) -> None:
    old = host.product_file().read_bytes()
    site.office.add_product({"sub": PRODUCT, "name": "CAD 2", "edition": "client", "pol": {}, "url": ""}, [])
    assert teach(host, host.product_file()) == [setup.Taught(PRODUCT, 2, added=True, served=False)]
    before = host.rows("product")
    older = host.home.parent / "older.volact-product"
    older.write_bytes(old)
    assert teach(host, older) == [setup.Taught(PRODUCT, 2, added=False, served=False)]
    assert host.rows("product") == before


def test_a_host_that_knows_its_publishers_id_alone_is_taught(tmp_path: Path, site: Site) -> None:
    host = Enterprise(tmp_path, site)
    setup.initialise(site.pub, [], host.environ)
    assert teach(host, host.product_file()) == [setup.Taught(PRODUCT, 1, added=True, served=False)]
    host.install_key(site.key("kms-host"))
    assert host.request()


def test_files_that_are_no_products_of_this_publisher_teach_nothing(
    host: Enterprise, site: Site, tmp_path: Path
) -> None:
    site.product(OTHER)
    good, bad = host.product_file(OTHER), tmp_path / "bad"
    foreign = Site(tmp_path / "foreign.db")
    foreign.product()
    theirs = foreign.office.export_product(PRODUCT)
    foreign.close()
    broken = json.loads(good.read_bytes())
    broken["token"] = broken["token"][:-8] + "AAAAAAAA"
    before = host.everything()
    for content in (b"", b"{}", theirs, json.dumps(broken).encode()):
        bad.write_bytes(content)
        with pytest.raises((DocumentRefused, Refused)):
            teach(host, good, bad)
    with pytest.raises(BrokenData):
        teach(host, good, tmp_path / "none")
    assert host.everything() == before


def test_the_command_teaches(
    host: Enterprise, site: Site, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for name, value in host.environ.items():
        monkeypatch.setenv(name, value)
    site.product(OTHER)
    assert cli.main(["product", "add", str(host.product_file(OTHER)), "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == [
        {"product": OTHER, "version": 1, "added": True, "served": False}
    ]
    assert cli.main(["product", "add", str(host.product_file(OTHER))]) == 0
    said = capsys.readouterr().out
    assert "nothing has changed" in said
    assert "install-key" in said
    assert cli.main(["product", "add", "--json"]) == 2
