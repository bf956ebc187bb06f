"""K9, K18, K21: how a host gets its delegation, and everything that can go wrong on the way."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from authority_site import ADDRESS, Site
from kmshost.enterprise import Enterprise
from volact.kmshost import setup
from volact.protocol import keys
from volact.protocol.problems import DocumentRefused, Refused, Unreachable, UsageError, VolactError
from world import DAY, PRODUCT, claims_of, new_key

OTHER = "com.example.other"


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


def code(error: pytest.ExceptionInfo[VolactError]) -> str:
    return error.value.refusal.code


def test_online_with_the_key_which_is_dropped_afterwards(host: Enterprise, site: Site) -> None:
    key = site.key("kms-host")
    host.install_key(key)
    pem = host.home / "kmshost" / "keys" / "product.pem"
    assert pem.stat().st_mode & 0o777 == 0o600
    done = host.activate()
    assert done.products == (PRODUCT,)
    assert done.until == site.clock.now() + 90 * DAY
    assert not pem.exists()
    with host.opened() as opened:
        keyring = opened.keyring()
        assert keyring
        assert keyring.newest
        assert keyring.newest["sub"] == opened.signer.kid
    kept = b"".join(file.read_bytes() for file in host.home.rglob("*") if file.is_file())
    assert key.text().encode() not in kept
    assert key.symbols[:20].encode() not in kept
    with pytest.raises(Refused) as refused:
        host.activate()
    assert code(refused) == "no-key-installed"
    assert key.label in refused.value.refusal.detail


def test_the_products_file_says_where_the_authority_is_and_which_key_it_has(
    host: Enterprise, site: Site
) -> None:
    site.office.add_product(
        {"sub": PRODUCT, "name": PRODUCT, "edition": "client", "pol": {}, "url": "https://there.test"},
        ["T" * 42 + "A"],
    )
    host.install_key(site.key("kms-host"))
    with pytest.raises(UsageError):  # the file that it has names no address
        host.activate(authority=None)
    host.activate()
    host.activate("extend", authority=None)
    assert host.wire.called == [
        ("https://authority.test", ()),
        ("https://there.test", ("T" * 42 + "A",)),
    ]


def test_a_host_that_knows_its_publishers_id_alone_learns_the_rest(tmp_path: Path, site: Site) -> None:
    host = Enterprise(tmp_path, site)
    setup.initialise(site.pub, [], host.environ)
    with pytest.raises(UsageError):
        host.install_key(site.key("kms-host"))
    host.install_key(site.key("kms-host"), PRODUCT)
    with pytest.raises(UsageError):
        host.request()
    assert host.activate().products == (PRODUCT,)
    with host.opened() as opened:
        assert opened.publisher.lab is True
        assert list(opened.products()) == [PRODUCT]


def test_a_lost_answer_is_asked_for_with_the_same_bytes_and_costs_nothing(
    host: Enterprise, site: Site
) -> None:
    host.install_key(site.key("kms-host"))
    host.wire.lose = 2
    for _ in range(2):
        with pytest.raises(VolactError):
            host.activate()
    host.activate()
    assert host.wire.asked[0] == host.wire.asked[1] == host.wire.asked[2]
    assert [row.activations for row in site.rows("host")] == [1]
    assert not (host.home / "kmshost" / "pending.json").exists()


def test_another_key_is_another_request(host: Enterprise, site: Site) -> None:
    host.install_key(new_key("kms-host"))
    with pytest.raises(Refused) as refused:
        host.activate()
    assert code(refused) == "key-unknown"
    host.install_key(site.key("kms-host"))
    assert host.activate().products == (PRODUCT,)


@pytest.mark.parametrize(("of_kind", "named"), [("mak", "MAK"), ("retail", "retail key")])
def test_a_machines_key_is_of_the_wrong_kind(host: Enterprise, of_kind: str, named: str) -> None:
    with pytest.raises(Refused) as refused:
        host.install_key(new_key(of_kind))
    assert code(refused) == "key-wrong-kind"
    assert named in refused.value.refusal.detail
    assert "volact client install-key" in refused.value.refusal.detail


def test_a_mistyped_key_is_found_before_anything_is_kept(host: Enterprise) -> None:
    text = new_key("kms-host").text()
    with host.work() as work, pytest.raises(Refused) as refused:
        work.install_key(("1" if text[0] == "0" else "0") + text[1:], None)
    assert code(refused) == "key-mistyped"
    assert not (host.home / "kmshost" / "key.json").exists()


def test_which_product_the_key_is_for_must_be_clear(tmp_path: Path, site: Site) -> None:
    site.product(OTHER)
    host = Enterprise(tmp_path, site)
    host.init(PRODUCT, OTHER)
    key = site.key("kms-host", None, OTHER)
    with pytest.raises(Refused) as refused:
        host.install_key(key)
    assert code(refused) == "product-ambiguous"
    with pytest.raises(UsageError):
        host.install_key(key, "No Product")
    host.install_key(key, PRODUCT)
    with pytest.raises(Refused) as refused:
        host.activate()
    assert code(refused) == "key-wrong-product"
    host.install_key(key, OTHER)
    assert host.activate().products == (OTHER,)


def test_one_key_serves_six_hosts(tmp_path: Path, site: Site) -> None:
    key, codes = site.key("kms-host"), []
    for number in range(7):
        host = Enterprise(tmp_path, site, f"host-{number}")
        host.init()
        host.install_key(key)
        try:
            host.activate()
            codes.append("")
        except Refused as refused:
            codes.append(refused.refusal.code)
    assert codes == [""] * 6 + ["no-activations-left"]


def test_one_host_is_activated_ten_times(host: Enterprise, site: Site) -> None:
    key = site.key("kms-host")
    for _ in range(10):
        host.install_key(key)
        host.activate()
    host.install_key(key)
    with pytest.raises(Refused) as refused:
        host.activate()
    assert code(refused) == "host-activated-too-often"
    assert len(host.rows("delegation")) == 10
    host.pass_(1)
    assert host.activate("extend").until == site.clock.now() + 90 * DAY  # which is not counted


def test_a_blocked_key_activates_and_extends_no_host(host: Enterprise, site: Site) -> None:
    key = site.key("kms-host")
    host.install_key(key)
    host.activate()
    site.office.block_key(key.label, everything=False)
    with pytest.raises(Refused) as refused:
        host.activate("extend")
    assert code(refused) == "key-blocked"


def test_a_host_that_is_not_activated_has_nothing_to_extend(host: Enterprise, site: Site) -> None:
    for ask in (lambda: host.activate("extend"), lambda: host.request("extend")):
        with pytest.raises(Refused) as refused:
            ask()
        assert code(refused) == "host-not-activated"
    with pytest.raises(Refused) as refused:
        host.activate()
    assert code(refused) == "no-key-installed"


# --- by file ----------------------------------------------------------------------------------------------------


def answered(host: Enterprise, op: str = "host", address: str = "file") -> dict[str, Any]:
    answer: dict[str, Any] = host.site.ask_one(host.request(op), address=address)
    return answer


def test_by_file_for_400_days(host: Enterprise, site: Site) -> None:
    host.install_key(site.key("kms-host"))
    assert host.request() == host.request()
    assert host.apply(answered(host)).until == site.clock.now() + 400 * DAY
    host.pass_(DAY)
    answer = answered(host, "extend")
    assert host.apply(answer).until == site.clock.now() + 400 * DAY
    assert host.apply(answer).until == site.clock.now() + 400 * DAY  # the same file twice
    assert len(host.rows("delegation")) == 2


def test_a_file_that_another_sends_online_is_good_for_400_days_too(host: Enterprise, site: Site) -> None:
    """What was asked for online and not answered is made anew for the medium; that may be sent online as it is."""
    host.install_key(site.key("kms-host"))
    host.wire.lose = 1
    with pytest.raises(Unreachable):
        host.activate()
    request = host.request()
    assert claims_of(request["token"])["file"] is True
    assert claims_of(request["token"])["jti"] != claims_of(host.wire.asked[-1]["token"])["jti"]
    assert host.apply(answered(host, address=ADDRESS)).until == site.clock.now() + 400 * DAY


def test_an_answer_that_is_older_than_what_is_held_changes_nothing(host: Enterprise, site: Site) -> None:
    host.install_key(site.key("kms-host"))
    old = answered(host)
    host.apply(old)
    host.pass_(DAY)
    host.apply(answered(host, "extend"))
    before = host.everything()
    with pytest.raises(DocumentRefused, match="older"):
        host.apply(old)
    assert host.everything() == before


def test_answers_that_are_not_for_this_host(tmp_path: Path, host: Enterprise, site: Site) -> None:
    key = site.key("kms-host")
    host.install_key(key)
    other = Enterprise(tmp_path, site, "other")
    other.init()
    other.install_key(key)
    before = host.everything()
    with pytest.raises(Refused) as refused:
        host.apply(answered(other))
    assert code(refused) == "other-machine"
    foreign = Site(tmp_path / "foreign.db")
    foreign.product()
    (tmp_path / "abroad").mkdir()
    abroad = Enterprise(tmp_path / "abroad", foreign)
    abroad.init()
    abroad.install_key(foreign.key("kms-host"))
    good, theirs = answered(host), answered(abroad)
    foreign.close()
    other_product = {**good, "products": theirs["products"]}
    wrong: tuple[dict[str, Any], ...] = (
        theirs,
        other_product,
        {**good, "products": "x"},
        {**good, "products": [{**good["products"][0], "token": good["token"]}]},
        {**good, "chain": theirs["chain"]},
        {**good, "token": good["token"][:-4] + "AAAA"},
        {"token": good["products"][0]["token"], "chain": good["chain"], "roots": []},
        {"answers": []},
    )
    for bad in wrong:
        with pytest.raises((DocumentRefused, Refused)) as error:
            host.apply(bad)
        assert error.value.refusal.code in ("document-refused", "root-mismatch")
    assert host.everything() == before
    assert (host.home / "kmshost" / "keys" / "product.pem").exists()
    assert host.apply(good).products == (PRODUCT,)


def test_an_answer_without_a_product_that_the_host_does_not_know_is_refused(
    host: Enterprise, site: Site
) -> None:
    site.product(OTHER)
    host.install_key(site.key("kms-host", None, PRODUCT, OTHER))
    good = answered(host)
    half = {
        **good,
        "products": [one for one in good["products"] if claims_of(one["token"])["sub"] == PRODUCT],
    }
    before = host.everything()
    with pytest.raises(DocumentRefused, match=OTHER):
        host.apply(half)
    assert host.everything() == before
    assert host.apply(good).products == (PRODUCT, OTHER)


def test_a_refusal_that_came_by_file_is_said(host: Enterprise, site: Site) -> None:
    host.install_key(new_key("kms-host"))
    refusal = site.ask_one(host.request(), address="file")
    with pytest.raises(Refused) as refused:
        host.apply(refusal.document())
    assert code(refused) == "key-unknown"


@pytest.mark.parametrize("data", [b"", b"{", b"[]", b"[" * 100_000, b"\xff", b"{}" + b" " * 5_000_000])
def test_files_that_hold_no_answer(host: Enterprise, data: bytes) -> None:
    with host.work() as work, pytest.raises(DocumentRefused):
        work.apply(data)


# --- extending --------------------------------------------------------------------------------------------------


def test_an_extension_brings_new_products_and_a_usage_statement(host: Enterprise, site: Site) -> None:
    """K18, K21."""
    host.install_key(site.key("kms-host"))
    first = host.activate()
    site.office.add_product(
        {"sub": PRODUCT, "name": "CAD 2", "edition": "client", "pol": {"retry": 3600}, "url": ""}, []
    )
    host.pass_(30 * DAY)
    done = host.activate("extend")
    assert done.until == first.until + 30 * DAY
    assert [(row.prd, row.ver, row.name) for row in host.rows("product")] == [(PRODUCT, 2, "CAD 2")]
    (statement,) = site.rows("usage")
    claims = claims_of(statement.token)
    assert (claims["from"], claims["to"]) == (site.clock.now() - 30 * DAY, site.clock.now())
    assert claims["peaks"] == {}
    assert claims["sources"] == {"private": 0, "global": 0}
    assert [row.activations for row in site.rows("host")] == [1]


@pytest.mark.parametrize(("over", "refused"), [(-1, True), (0, False), (1, False)])
def test_an_extension_online_does_not_shorten_what_came_by_file(
    host: Enterprise, site: Site, over: int, refused: bool
) -> None:
    """K18: 400 days by file, 90 online; from day 310 on it is no loss."""
    host.install_key(site.key("kms-host"))
    end = host.apply(answered(host)).until
    host.pass_(310 * DAY + over)
    if refused:
        before, asked = host.everything(), len(host.wire.asked)
        with pytest.raises(UsageError, match="lasts until") as error:
            host.activate("extend")
        assert "--request-file" in error.value.next_step
        assert (host.everything(), len(host.wire.asked)) == (before, asked), "nobody was asked"
        with host.work() as work:
            done = work.online("extend", "https://authority.test", shorten=True)
    else:
        done = host.activate("extend")
    assert (done.until, done.was) == (end + over, end)
    assert bool(done.warning()) is (over < 0), "no silent loss"


def test_an_activation_anew_that_ends_before_what_is_held_says_so(host: Enterprise, site: Site) -> None:
    """An activation brings what its key is for, so it is not refused."""
    for _ in range(2):
        host.install_key(site.key("kms-host"))
        done = host.apply(answered(host)) if not host.rows("delegation") else host.activate()
        host.pass_(1)
    assert "--request-file" in done.warning()
    assert (done.was or 0) - done.until == 310 * DAY - 1


def test_what_was_held_before_is_told(host: Enterprise, site: Site) -> None:
    host.install_key(site.key("kms-host"))
    first = host.activate()
    assert first.was is None
    host.pass_(DAY)
    second = host.activate("extend")
    assert (second.was, second.until) == (first.until, first.until + DAY)
    host.pass_(DAY)
    answer = answered(host, "extend")
    assert host.apply(answer).was == second.until
    assert host.apply(answer).was is None, "the same once more"


def test_a_key_for_a_product_that_is_not_known_is_refused(host: Enterprise, site: Site) -> None:
    key = site.key("kms-host").text()
    with host.work() as work, pytest.raises(Refused) as refused:
        work.install_key(key, "com.nope")
    assert code(refused) == "product-unknown"
    assert PRODUCT in refused.value.refusal.detail
    assert not (host.home / "kmshost" / "key.json").exists()


def test_a_replaced_key_is_told_if_it_was_not_used(host: Enterprise, site: Site) -> None:
    one, two = site.key("kms-host"), site.key("kms-host")
    with host.work() as work:
        assert work.install_key(one.text(), None).replaced == ""
        assert work.install_key(one.text(), None).replaced == "", "the same once more"
        assert work.install_key(two.text(), None).replaced == one.label
        (host.home / "kmshost" / "key.json").write_text("{")
        assert work.install_key(two.text(), None).replaced == "", "a damaged label is mended"
    host.activate()
    with host.work() as work:
        assert work.install_key(one.text(), None).replaced == "", "the other was used"


def test_a_second_command_at_once_is_told(host: Enterprise, site: Site) -> None:
    host.install_key(site.key("kms-host"))
    with host.work() as work, work._alone(), pytest.raises(Refused) as refused:
        host.activate()
    assert code(refused) == "in-use"


def test_a_damaged_label_is_said(host: Enterprise, site: Site) -> None:
    (host.home / "kmshost" / "key.json").write_text("{")
    with pytest.raises(VolactError) as broken:
        host.activate()
    assert code(broken) == "data-broken"


def test_the_request_is_a_host_request_with_the_keys_proof(host: Enterprise, site: Site) -> None:
    key = site.key("kms-host")
    host.install_key(key)
    request = host.request()
    claims = claims_of(request["token"])
    assert (claims["op"], claims["prd"], claims["iss"]) == ("host", PRODUCT, claims["sub"])
    assert set(request) == {"token", "jwk", "proof"}
    assert not isinstance(keys.read(key.text()), Refused)
    assert key.text() not in json.dumps(request)
