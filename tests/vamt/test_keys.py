"""V4, M3, M8: product keys, kept sealed; what is left of them by a signed statement; which of them a selection takes."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

import authority_site
from vamt.proxy.trips import ADDRESS, Wire
from vamt.site import ADMINISTRATOR, AUDITOR, OPERATOR, VIEWER, Site, product, report
from volact.calls import Answer
from volact.protocol.problems import BrokenData, Refusal, Refused, Unreachable, UsageError
from volact.vamt import keyrecords, keys, records
from volact.vamt.advising import Told
from volact.vamt.estate import Estate
from volact.vamt.inventory import Sighting
from volact.vamt.keyfiles import Wanted
from volact.vamt.records import Installed
from volact.vamt.sealing import Sealer
from volact.vamt.selecting import Selection
from world import DAY, NOW, PRODUCT, claims_of, new_key, verified

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

    from databases import Databases
    from volact.protocol.keys import ProductKey
    from volact.vamt.keys import Refreshed
    from volact.vamt.people import Person

OTHER = "com.example.other"
ALL = Selection(all=True)
SEALER = Sealer(bytes(32))


class Keyring:
    """A VAMT that holds keys of a real authority, which it reaches."""

    def __init__(self, site: Site, authority: authority_site.Site) -> None:
        self.site, self.authority = site, authority
        for prd in (PRODUCT, OTHER):
            claims = {"sub": prd, "name": prd, "edition": "client", "pol": {}, "url": ADDRESS}
            authority.office.add_product(claims, [])
            file = authority.office.export_product(prd)
            site.vamt.publishers.add(ADMINISTRATOR, file, authority.pub, "Example")
        self.wire = Wire(authority)
        self.keys = site.vamt.keys

    def add(self, *some: ProductKey, product: str = PRODUCT, **more: Any) -> list[Any]:
        return self.keys.add(ADMINISTRATOR, [Wanted(one, product) for one in some], SEALER, **more)

    def refresh(self, *names: str, connect: Any = None, who: Person = OPERATOR) -> list[Refreshed]:
        return self.keys.refresh(who, names, lambda: SEALER, connect or self.wire)

    def counts(self) -> dict[str, tuple[int | None, ...]]:
        return {
            one.label: (one.bought, one.activated, one.remaining, one.as_of) for one in self.keys.list(VIEWER)
        }

    def join(self, name: str, *products: str, state: int = 0, channel: str = "", system: str = "") -> None:
        """A machine that says what is on it."""
        said = [
            product(one, state, channel=channel)._replace(publisher=self.authority.pub) for one in products
        ]
        told = report(name, "example.com", said, system=system)
        with self.site.store.writing() as tx:
            estate = Estate((), self.site.vamt.machines.new_id)
            mid = estate.see(Sighting("csv", name, "example.com"), NOW)
            assert mid
            estate.report(mid, told, NOW)
            number = records.save(tx, estate, {})[mid]
            found = {number: (estate[mid], [Installed(one, "reported") for one in told.products])}
            records.put_products(tx, found, NOW)

    def recommended(self, selection: Selection = ALL, **more: Any) -> list[tuple[str, int, Any, int]]:
        """Product, need, keys with how many each, how many are missing."""
        found = self.keys.recommend(VIEWER, selection, **more)
        return [
            (
                one.product,
                one.need,
                [(part.key.label, part.machines) for part in one.plan.parts],
                one.plan.missing,
            )
            for one in found
        ]


@pytest.fixture
def authority(tmp_path: Path, authorities: Databases) -> Iterator[authority_site.Site]:
    made = authority_site.Site(authorities.sqlite(tmp_path / "authority.db"))
    yield made
    made.close()


@pytest.fixture
def ring(site: Site, authority: authority_site.Site) -> Keyring:
    return Keyring(site, authority)


@pytest.fixture
def light_ring(light_site: Site, authority: authority_site.Site) -> Keyring:
    return Keyring(light_site, authority)


def refusal(action: Any) -> str:
    with pytest.raises((Refused, UsageError)) as caught:
        action()
    return caught.value.refusal.code


# --- holding --------------------------------------------------------------------------------------------------------


def test_a_key_is_kept_sealed_and_shown_by_its_label(ring: Keyring) -> None:
    key = ring.authority.key(activations=7)
    (added,) = ring.add(key, notes="bought in spring")
    assert (added.label, added.kind, added.product, added.is_new) == (key.label, "mak", PRODUCT, True)
    (held,) = ring.keys.list(VIEWER)
    assert (held.label, held.kind, held.product, held.notes, held.who) == (
        key.label,
        "mak",
        PRODUCT,
        "bought in spring",
        "ada",
    )
    assert (held.bought, held.activated, held.remaining, held.as_of, held.blocked) == (None,) * 4 + ("",)
    assert held.added == NOW
    assert ring.keys.show(VIEWER, key.label.lower()) == held
    assert ring.keys.show(AUDITOR, held.thumbprint) == held
    assert keys.opened(held, SEALER) == key
    with pytest.raises(BrokenData):
        keys.opened(held._replace(thumbprint="B" * 43), SEALER)
    with pytest.raises(BrokenData):
        keys.opened(held, Sealer(bytes(31) + b"x"))
    with pytest.raises(BrokenData):
        keys.opened(held._replace(sealed=SEALER.seal(held.record, b"no key")), SEALER)


def test_the_same_key_again_is_one_and_is_for_what_is_said_now(ring: Keyring) -> None:
    key = ring.authority.key()
    ring.add(key, product=OTHER, notes="first")
    assert [one.refusal.code for one in ring.refresh() if one.refusal] == ["key-wrong-product"]
    (again,) = ring.add(key)
    assert (again.is_new, again.product) == (False, PRODUCT)
    assert [one.refusal for one in ring.refresh()] == [None]
    (held,) = ring.keys.list(VIEWER)
    assert (held.product, held.notes, held.remaining) == (PRODUCT, "first", 5)
    twice = ring.authority.key()
    assert [one.is_new for one in ring.add(twice, twice)] == [True, False]
    both = [Wanted(ring.authority.key(), each) for each in (PRODUCT, OTHER)]
    both[1] = both[1]._replace(key=both[0].key)
    ring.keys.add(ADMINISTRATOR, both, SEALER, notes="of a list")
    held = ring.keys.show(VIEWER, both[0].key.label)
    assert (held.product, held.notes) == (OTHER, "of a list")


def test_all_or_none_is_kept(light_ring: Keyring) -> None:
    good, host = new_key(), new_key("kms-host")
    assert refusal(lambda: light_ring.add(good, host)) == "key-wrong-kind"
    assert refusal(lambda: light_ring.add(good, product="com.example.nowhere")) == "product-unknown"
    assert refusal(lambda: light_ring.add(good, publisher="Nobody")) == "publisher-unknown"
    assert light_ring.keys.list(VIEWER) == []
    assert [one.is_new for one in light_ring.add(good, publisher="Example")] == [True]


def test_a_product_of_several_publishers(light_ring: Keyring, tmp_path: Path, authorities: Databases) -> None:
    second = authority_site.Site(authorities.sqlite(tmp_path / "second.db"))
    second.product()
    file = second.office.export_product(PRODUCT)
    light_ring.site.vamt.publishers.add(ADMINISTRATOR, file, second.pub, "Second")
    key = new_key()
    assert refusal(lambda: light_ring.add(key)) == "usage"
    light_ring.add(key, publisher=second.pub)
    light_ring.add(key, publisher="Example")
    assert {one.pub for one in light_ring.keys.list(VIEWER)} == {second.pub, light_ring.authority.pub}
    assert refusal(lambda: light_ring.keys.show(VIEWER, key.label)) == "usage"  # two keys of one label
    (held, _) = light_ring.keys.list(VIEWER)
    assert light_ring.keys.show(VIEWER, held.thumbprint) == held
    second.close()


def test_removing(light_ring: Keyring) -> None:
    one, other = light_ring.authority.key(), light_ring.authority.key()
    light_ring.add(one, other)
    assert refusal(lambda: light_ring.keys.remove(ADMINISTRATOR, [one.label, "MZZZZ"])) == "key-not-held"
    assert len(light_ring.keys.list(VIEWER)) == 2
    assert light_ring.keys.remove(ADMINISTRATOR, [one.label, one.label]) == 1
    assert [held.label for held in light_ring.keys.list(VIEWER)] == [other.label]


def test_what_is_no_label_is_not_logged(light_ring: Keyring) -> None:
    for name in ("M000", "M00011", "X0001", "MUUUU", "", "A" * 42, "A" * 44):
        assert refusal(lambda name=name: light_ring.keys.remove(ADMINISTRATOR, [name])) == "usage"
        assert refusal(lambda name=name: light_ring.refresh(name)) == "usage"
        assert refusal(lambda name=name: light_ring.keys.show(VIEWER, name)) == "usage"
    assert not [one for one in light_ring.site.log() if "key" in one[1]]


def test_who_may(light_ring: Keyring) -> None:
    key = light_ring.authority.key()
    light_ring.add(key)
    wanted = [Wanted(key, PRODUCT)]
    for who in (VIEWER, AUDITOR, OPERATOR):
        assert refusal(lambda who=who: light_ring.keys.add(who, wanted, SEALER)) == "role-insufficient"
        assert refusal(lambda who=who: light_ring.keys.remove(who, [key.label])) == "role-insufficient"
    for who in (VIEWER, AUDITOR):
        assert refusal(lambda who=who: light_ring.refresh(who=who)) == "role-insufficient"
    assert light_ring.refresh(who=OPERATOR)[0].refusal is None
    assert ("ada", "change-keys", "ok", 1) in light_ring.site.log()
    assert ("otto", "refresh-keys", "ok", 1) in light_ring.site.log()
    assert ("vera", "change-keys", "role-insufficient", None) in light_ring.site.log()


# --- asking ---------------------------------------------------------------------------------------------------------


def test_refresh_remaining_count(ring: Keyring) -> None:
    """M3: bought = activated + remaining, as the publisher signed it, with its date."""
    mak, retail = ring.authority.key(activations=7), ring.authority.key("retail")
    ring.authority.activated(mak)
    ring.authority.activated(mak)
    ring.add(mak, retail)
    told: list[tuple[int, int]] = []
    done = ring.keys.refresh(
        OPERATOR, [], lambda: SEALER, ring.wire, lambda count, total: told.append((count, total))
    )
    assert [one.refusal for one in done] == [None, None]
    assert ring.counts() == {mak.label: (7, 2, 5, NOW), retail.label: (1, 0, 1, NOW)}
    assert told == [(2, 2)]
    assert ring.wire.batches == [2]
    with ring.site.store.reading() as tx:
        statements = list(
            tx.exec_driver_sql("SELECT statement FROM key WHERE label = '" + mak.label + "'").scalars()
        )
    bundle = json.loads(statements[0])
    claims = verified(
        bundle, "statement", ring.authority.keyring.roots.first, ring.authority.pub
    ).document.claims
    assert (claims["bought"], claims["activated"], claims["remaining"]) == (7, 2, 5)
    ring.authority.clock.pass_(DAY)
    ring.authority.activated(mak)
    (one,) = ring.refresh(mak.label)
    assert (one.key.activated, one.key.remaining, one.key.as_of) == (3, 4, NOW + DAY)
    assert ring.counts()[retail.label] == (1, 0, 1, NOW)


def test_each_key_has_its_own_reason(light_ring: Keyring) -> None:
    good, foreign = light_ring.authority.key(activations=3), new_key("mak")
    elsewhere = light_ring.authority.key("mak", 3, OTHER)
    light_ring.add(good, foreign, elsewhere)
    done = {one.key.label: one.refusal.code if one.refusal else "" for one in light_ring.refresh()}
    assert done == {good.label: "", foreign.label: "key-unknown", elsewhere.label: "key-wrong-product"}
    assert light_ring.counts()[foreign.label] == (None,) * 4
    assert ("otto", "refresh-keys", "ok", 1) in light_ring.site.log()


def test_a_blocked_key_is_known_by_the_status_list(light_ring: Keyring) -> None:
    key = light_ring.authority.key(activations=3)
    light_ring.add(key)
    light_ring.authority.clock.pass_(60)
    light_ring.authority.office.block_key(key.label, everything=False)
    assert light_ring.keys.show(VIEWER, key.label).blocked == ""
    (one,) = light_ring.refresh()
    assert one.key.blocked == "new"
    light_ring.join("pc1", PRODUCT)
    assert light_ring.recommended() == [(PRODUCT, 1, [], 1)]


def test_many_keys_are_asked_in_batches(light_ring: Keyring) -> None:
    """101 keys are two calls; the second is cut off, and what the first brought is kept."""
    some = [new_key(number=number) for number in range(100)] + [new_key("retail", 1)]
    light_ring.add(*some)
    light_ring.wire.after = Unreachable(Refusal("authority-unreachable", "Cut off."))
    codes = [one.refusal.code for one in light_ring.refresh() if one.refusal]
    assert codes == ["key-unknown"] * 100 + ["authority-unreachable"]
    assert light_ring.wire.batches == [100]
    light_ring.wire.after = None
    light_ring.wire.batches.clear()
    assert [one.refusal.code for one in light_ring.refresh() if one.refusal] == ["key-unknown"] * 101
    assert light_ring.wire.batches == [100, 1]


class Answering(Wire):
    """An authority's address at which somebody else changes the answers."""

    def __init__(self, wire: Wire, change: Any) -> None:
        super().__init__(wire.site)
        self.change = change

    def post(self, path: str, body: Any) -> Answer:
        said = super().post(path, body)
        return Answer(said.status, {}, json.dumps(self.change(json.loads(said.body))).encode())


def test_what_is_not_signed_for_this_question_is_not_believed(light_ring: Keyring) -> None:
    one, other = light_ring.authority.key(activations=3), light_ring.authority.key(activations=900)
    light_ring.add(one, other)
    old: list[Any] = []

    def keep(said: Any) -> Any:
        old.extend(said["answers"])
        return said

    light_ring.refresh(connect=Answering(light_ring.wire, keep))
    before = light_ring.counts()
    light_ring.authority.clock.pass_(60)
    machine = light_ring.authority.machine()
    confirmation = light_ring.authority.ask_one(machine.request(one, now=light_ring.authority.clock.now()))
    changes: tuple[Callable[[Any], Any], ...] = (
        lambda said: {"answers": said["answers"][::-1]},  # the other key's
        lambda _: {"answers": old},  # the last question's
        lambda _: {"answers": [confirmation, confirmation]},
        lambda said: {
            "answers": [{**each, "token": each["token"][:-4] + "AAAA"} for each in said["answers"]]
        },
        lambda said: {"answers": said["answers"][:1]},
        lambda _: [],
        lambda _: {"answers": [{}, {}]},
    )
    for change in changes:
        done = light_ring.refresh(connect=Answering(light_ring.wire, change))
        assert [each.refusal.code for each in done if each.refusal] == ["answer-nonsense"] * 2
        assert light_ring.counts() == before


def _signed(light_ring: Keyring, **counts: int) -> Callable[[Any], Any]:
    """Other counts in an answer, signed by the authority's own key."""

    def change(said: Any) -> Any:
        (answer,) = said["answers"]
        claims = {**claims_of(answer["token"]), **counts}
        return {
            "answers": [{**answer, "token": light_ring.authority.keyring.issuer.sign("statement", claims)}]
        }

    return change


def test_counts_that_do_not_add_up(light_ring: Keyring) -> None:
    """M3: bought = activated + remaining, always."""
    light_ring.add(light_ring.authority.key(activations=5))
    for remaining, code in ((4, "answer-nonsense"), (5, ""), (6, "answer-nonsense")):
        change = _signed(light_ring, activated=3, bought=8, remaining=remaining)
        (one,) = light_ring.refresh(connect=Answering(light_ring.wire, change))
        assert (one.refusal.code if one.refusal else "") == code
    (held,) = light_ring.keys.list(VIEWER)
    assert (held.bought, held.activated, held.remaining) == (8, 3, 5)


def test_an_authority_that_refuses_a_blocked_key(light_ring: Keyring) -> None:
    light_ring.add(light_ring.authority.key())
    refused = Refusal("key-blocked", "\x1b[31m").document()
    (one,) = light_ring.refresh(connect=Answering(light_ring.wire, lambda _: {"answers": [refused]}))
    assert (one.key.blocked, one.refusal) == ("refused", Refusal("key-blocked", "?[31m"))
    (one,) = light_ring.refresh()
    assert (one.key.blocked, one.refusal) == ("", None)


def test_who_cannot_be_reached(light_ring: Keyring) -> None:
    light_ring.add(light_ring.authority.key())

    def nobody(_url: str, _pins: Sequence[str]) -> Any:
        raise Unreachable(Refusal("authority-untrusted", "Another key."))

    (one,) = light_ring.refresh(connect=nobody)
    assert one.refusal == Refusal("authority-untrusted", "Another key.")
    assert light_ring.keys.refresh(OPERATOR, [], lambda: SEALER, nobody)[0].refusal
    with light_ring.site.store.writing() as tx:
        tx.exec_driver_sql("UPDATE publisher SET url = ''")
    (one,) = light_ring.refresh()
    assert one.refusal
    assert one.refusal.code == "authority-unreachable"


def test_a_damaged_key_holds_up_no_other(light_ring: Keyring) -> None:
    good, bad = light_ring.authority.key(), light_ring.authority.key()
    light_ring.add(good, bad)
    with light_ring.site.store.writing() as tx:
        tx.exec_driver_sql("UPDATE key SET sealed = '1.AAAA' WHERE label = '" + bad.label + "'")
    done = {one.key.label: one.refusal.code if one.refusal else "" for one in light_ring.refresh()}
    assert done == {good.label: "", bad.label: "data-broken"}
    light_ring.keys.remove(ADMINISTRATOR, [good.label])
    assert [one.refusal.code for one in light_ring.refresh() if one.refusal] == ["data-broken"]


def test_no_key_needs_no_seal(light_ring: Keyring) -> None:
    def locked() -> Sealer:
        raise AssertionError

    assert light_ring.keys.refresh(OPERATOR, [], locked, light_ring.wire) == []


# --- choosing -------------------------------------------------------------------------------------------------------


def test_keys_for_a_selection(ring: Keyring) -> None:
    large, small = ring.authority.key(activations=5), ring.authority.key(activations=2)
    ring.add(large, small)
    for number in range(3):
        ring.join(f"pc{number}", PRODUCT)
    assert ring.recommended() == [
        (PRODUCT, 3, [(min(large.label, small.label), 3)], 0)
    ]  # counts not known yet
    ring.refresh()
    assert ring.recommended() == [(PRODUCT, 3, [(large.label, 3)], 0)]
    assert ring.recommended(Selection(("pc0", "pc1"))) == [(PRODUCT, 2, [(small.label, 2)], 0)]
    for number in range(3, 8):
        ring.join(f"pc{number}", PRODUCT)
    assert ring.recommended() == [(PRODUCT, 8, [(large.label, 5), (small.label, 2)], 1)]


@pytest.mark.parametrize("many", [0, 4, 5, 7])
def test_who_has_a_permanent_activation_needs_no_key(
    ring: Keyring, many: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A KMS activation is none; one of another product neither. Of many machines it is asked in another way."""
    monkeypatch.setattr(keyrecords, "_MANY", many)
    ring.join("pc0", PRODUCT, OTHER)
    ring.join("pc1", PRODUCT, state=1, channel="mak")
    ring.join("pc2", PRODUCT, state=1, channel="retail")
    ring.join("pc3", PRODUCT, state=1, channel="kms")
    ring.join("pc4", PRODUCT, state=5, channel="mak")
    ring.join("pc5")
    ring.join("pc6", "com.example.nowhere")
    found = {one.product: (one.selected, one.need) for one in ring.keys.recommend(VIEWER, ALL)}
    assert found == {PRODUCT: (5, 3), OTHER: (1, 1), "com.example.nowhere": (1, 1)}
    assert [one.product for one in ring.keys.recommend(VIEWER, ALL, OTHER)] == [OTHER]
    licensed = Selection(where="state=licensed")
    assert [(one.product, one.need) for one in ring.keys.recommend(VIEWER, licensed)] == [(PRODUCT, 1)]
    assert refusal(lambda: ring.keys.recommend(VIEWER, Selection())) == "selection-empty"


# --- advice ---------------------------------------------------------------------------------------------------------


def test_advice_from_what_is_known(ring: Keyring) -> None:
    key = ring.authority.key(activations=9)
    ring.add(key, ring.authority.key("retail"))
    ring.refresh()
    claims = {"sub": "com.example.srv", "name": "Server", "edition": "server", "pol": {}, "url": ADDRESS}
    ring.authority.office.add_product(claims, [])
    file = ring.authority.office.export_product("com.example.srv")
    ring.site.vamt.publishers.add(ADMINISTRATOR, file, ring.authority.pub, "Example")
    for number in range(3):
        ring.join(f"pc{number}", PRODUCT, state=number and 1, channel="mak")
    ring.join("srv1", "com.example.srv")
    ring.join("srv2", system="Windows Server 2022")
    ring.site.vamt.groups.create(ADMINISTRATOR, "SecureNetwork")
    ring.site.vamt.groups.add(OPERATOR, "SecureNetwork", Selection(("pc0", "srv1")))
    advise = ring.site.vamt.advising.advise
    network, said = advise(VIEWER, Told())
    assert (network.machines, network.servers, network.activated, network.left) == (5, 2, 2, 9)
    assert said.way == "mak-online"
    network, said = advise(VIEWER, Told(isolated=True), group="SecureNetwork")
    assert (network.machines, network.servers, network.activated, said.way) == (2, 1, 0, "mak-proxy")
    network, _ = advise(VIEWER, Told(), product=PRODUCT)
    assert (network.machines, network.servers, network.left) == (4, 1, 9)
    network, _ = advise(VIEWER, Told(), product=OTHER)
    assert (network.machines, network.activated, network.left) == (4, 0, 0)
    for servers, way in ((4, "mak-online"), (5, "kms")):
        assert advise(VIEWER, Told(servers=servers)).advice.way == way
    for machines, way in ((24, "mak-online"), (25, "kms")):
        assert advise(VIEWER, Told(machines=machines)).advice.way == way
        assert advise(VIEWER, Told(machines=machines), product=PRODUCT).advice.way == way
    assert advise(VIEWER, Told(servers=9)).network.machines == 9
    assert advise(VIEWER, Told(machines=1)).network.servers == 1
    assert refusal(lambda: advise(VIEWER, Told(), group="Nowhere")) == "group-unknown"
    assert refusal(lambda: advise(VIEWER, Told(), product="com.example.nowhere")) == "product-unknown"
