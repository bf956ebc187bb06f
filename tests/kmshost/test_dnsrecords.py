"""What a host publishes and may change in DNS, and what of the settings and of a key file is refused (D1, D2, T18)."""

from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from volact.config import KmshostSettings
from volact.kmshost import dnsrecords
from volact.kmshost.dnsrecords import Change, DnsRecord, Domain, Invalid, Whereabouts
from volact.protocol.problems import Refusal
from volact.tsig import Key

SECRET = "MTIzNDU2Nzg5MDEyMzQ1Ng=="  # 16 bytes
HERE = Whereabouts("kms1.corp.test", ("192.0.2.1", "2001:db8::1"))
LABEL_63 = "a" * 63
NAME_253 = ".".join([LABEL_63, LABEL_63, LABEL_63, "a" * 61])


def _record(*addresses: str, port: int = 1688) -> DnsRecord:
    return DnsRecord("corp.test", "_volact._tcp", "kms1.corp.test", port, 0, 100, addresses)


# --- settings -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("", ()),
        ("  ", ()),
        ("corp.test", (Domain("corp.test", 0, 100),)),
        (" Corp.Test. 5 ,b.test 65535 0", (Domain("corp.test", 5, 100), Domain("b.test", 65535, 0))),
        ("b\u00fccher.test", (Domain("xn--bcher-kva.test"),)),
        ("_sites.corp.test", (Domain("_sites.corp.test"),)),
        (LABEL_63, (Domain(LABEL_63),)),
        (NAME_253, (Domain(NAME_253),)),
    ],
)
def test_d1_domains_with_priority_and_weight(text: str, found: tuple[Domain, ...]) -> None:
    assert dnsrecords.domains_of(text) == found


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("a.test,", "''"),
        ("a.test 1 2 3", "a.test 1 2 3"),
        ("a.test 65536", "65535"),
        ("a.test 1 65536", "65535"),
        ("a.test -1", "'-1'"),
        ("a.test 1.5", "'1.5'"),
        ("a.test \u0663", "a priority"),
        ("a.test, A.TEST. 1", "twice"),
        (".", "no name"),
        ("a..test", "no name"),
        ("*.test", "no name"),
        ("-a.test", "no name"),
        ("a\\.b.test", "no name"),
        ('a".test', "no name"),
        ("a@.test", "no name"),
        (LABEL_63 + "a", "63"),
        (NAME_253 + "a", "253"),
        (f"{NAME_253}.{'a' * 46}", "253"),
        ("\ud800.test", "no name"),
    ],
)
def test_malformed_domains_are_refused_with_what_is_wrong(text: str, said: str) -> None:
    with pytest.raises(Invalid, match=said.replace(".", r"\.")):
        dnsrecords.domains_of(text)


@given(st.text())
def test_any_text_is_domains_or_invalid(text: str) -> None:
    for read in (dnsrecords.domains_of, dnsrecords.addresses_of, dnsrecords.server_of, dnsrecords.target_of):
        read_it: Callable[[str], object] = read
        try:
            read_it(text)
        except Invalid:
            continue


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("ns.corp.test", ("ns.corp.test", 53)),
        ("ns.corp.test:5353", ("ns.corp.test", 5353)),
        ("192.0.2.53", ("192.0.2.53", 53)),
        ("192.0.2.53:1", ("192.0.2.53", 1)),
        ("2001:DB8::53", ("2001:db8::53", 53)),
        ("[2001:db8::53]", ("2001:db8::53", 53)),
        ("[2001:db8::53]:65535", ("2001:db8::53", 65535)),
    ],
)
def test_a_server_by_name_or_address_with_or_without_port(text: str, found: tuple[str, int]) -> None:
    assert dnsrecords.server_of(text) == found


@pytest.mark.parametrize(
    "text", [":53", "ns:0", "ns:65536", "ns:x", "192.0.2.999", "[::1", "[ns]:53", "a b", "1:2:3"]
)
def test_no_server(text: str) -> None:
    with pytest.raises(Invalid):
        dnsrecords.server_of(text)


@pytest.mark.parametrize(
    ("settings", "name"),
    [
        ({"dns_domains": "a..b"}, "dns_domains"),
        ({"dns_label": ""}, "dns_label"),
        ({"dns_label": "_a b"}, "dns_label"),
        ({"dns_name": "192.0.2.1"}, "dns_name"),
        ({"dns_name": "2001:db8::1"}, "dns_name"),
        ({"dns_name": "a" * 300}, "dns_name"),
        ({"dns_addresses": "192.0.2.1, "}, "dns_addresses"),
        ({"dns_addresses": "0.0.0.0"}, "dns_addresses"),
        ({"dns_addresses": "fe80::1%eth0"}, "dns_addresses"),
        ({"dns_addresses": "::ffff:192.0.2.1"}, "dns_addresses"),
        ({"dns_server": "x:y"}, "dns_server"),
        ({"dns_key_file": "kms1.key"}, "dns_key_file"),  # a service runs in another folder than a command
        ({"dns_key_file": "./kms1.key"}, "dns_key_file"),
        ({"dns_domains": NAME_253}, "dns_domains"),  # with its label it is too long
        ({"dns_domains": ".".join([LABEL_63] * 3) + ".test", "dns_name": "b" * 63}, "dns_domains"),
    ],
)
def test_a_problem_names_the_setting(settings: dict[str, Any], name: str) -> None:
    assert dnsrecords.problem_of(KmshostSettings(**settings)).startswith(f"{name}:") or (
        name == "dns_label"
        and dnsrecords.problem_of(KmshostSettings(**settings)).startswith("dns_label is empty")
    )


def test_settings_without_a_problem() -> None:
    assert dnsrecords.problem_of(KmshostSettings()) == ""
    more: dict[str, Any] = {
        "dns_domains": "a.test 1 2, b.test",
        "dns_label": "_vlmcs._tcp",
        "dns_name": "kms.a.test",
        "dns_key_file": "/etc/volact/kms1.key",
    }
    assert dnsrecords.problem_of(KmshostSettings(**more, dns_addresses="192.0.2.1,2001:db8::1")) == ""


# --- records --------------------------------------------------------------------------------------------------------


def test_d1_a_record_for_each_domain_with_addresses_only_where_the_name_lies() -> None:
    settings = KmshostSettings(dns_domains="corp.test 1 2, other.test")
    assert dnsrecords.wanted(settings, HERE, 1688) == (
        DnsRecord("corp.test", "_volact._tcp", "kms1.corp.test", 1688, 1, 2, HERE.addresses),
        DnsRecord("other.test", "_volact._tcp", "kms1.corp.test", 1688, 0, 100, ()),
    )


@pytest.mark.parametrize(
    ("dns_name", "here", "target"),
    [
        ("", "kms1.corp.test", "kms1.corp.test"),
        ("", "kms1", "kms1.b.test"),
        ("", "", ""),
        ("kms2", "kms1.corp.test", "kms2.b.test"),
        ("KMS2.other.test.", "kms1", "kms2.other.test"),
    ],
)
def test_the_name_is_the_set_one_else_the_machines_completed_by_the_domain(
    dns_name: str, here: str, target: str
) -> None:
    settings = KmshostSettings(dns_domains="b.test", dns_name=dns_name)
    (record,) = dnsrecords.wanted(settings, Whereabouts(here, ()), 1688)
    assert record.target == target


def test_addresses_that_are_set_go_before_the_machines() -> None:
    settings = KmshostSettings(dns_domains="corp.test", dns_addresses="192.0.2.9, 192.0.2.9,2001:DB8::9")
    (record,) = dnsrecords.wanted(settings, HERE, 1688)
    assert record.addresses == ("192.0.2.9", "2001:db8::9")


def test_d2_records_for_entering_by_hand() -> None:
    settings = KmshostSettings(dns_domains="corp.test 1 2, other.test")
    assert dnsrecords.lines(dnsrecords.by_hand(settings, HERE, 1700)) == [
        "_volact._tcp.corp.test. 3600 IN SRV 1 2 1700 kms1.corp.test.",
        "kms1.corp.test. 3600 IN A 192.0.2.1",
        "kms1.corp.test. 3600 IN AAAA 2001:db8::1",
        "_volact._tcp.other.test. 3600 IN SRV 0 100 1700 kms1.corp.test.",
    ]


def test_d2_records_by_hand_without_a_domain_are_relative_to_any_zone() -> None:
    assert dnsrecords.lines(dnsrecords.by_hand(KmshostSettings(), HERE, 1688)) == [
        "_volact._tcp 3600 IN SRV 0 100 1688 kms1.corp.test.",
        "kms1.corp.test. 3600 IN A 192.0.2.1",
        "kms1.corp.test. 3600 IN AAAA 2001:db8::1",
    ]
    short = Whereabouts("kms1", ("192.0.2.1",))
    assert dnsrecords.lines(dnsrecords.by_hand(KmshostSettings(), short, 1688)) == [
        "_volact._tcp 3600 IN SRV 0 100 1688 kms1",
        "kms1 3600 IN A 192.0.2.1",
    ]
    assert dnsrecords.by_hand(KmshostSettings(), Whereabouts("", ("192.0.2.1",)), 1688) == ()


# --- the key --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "name", "algorithm"),
    [
        (f'key "host1" {{\n\talgorithm hmac-sha256;\n\tsecret "{SECRET}";\n}};\n', "host1", "hmac-sha256"),
        (f"key Host1. {{ secret {SECRET}; algorithm HMAC-SHA384; }}", "host1", "hmac-sha384"),
        (
            f'# a\n// b\n/* c\n */ key "a.b" {{ algorithm "hmac-sha512"; # d\nsecret "{SECRET}"; }};',
            "a.b",
            "hmac-sha512",
        ),
    ],
)
def test_a_key_file_as_tsig_keygen_writes_it(text: str, name: str, algorithm: str) -> None:
    assert dnsrecords.read_key(text) == Key(name, algorithm, b"1234567890123456")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "no single"),
        ("key {}", "no single"),
        (f'key "a" {{ algorithm hmac-sha256; secret "{SECRET}"; }}; key "b" {{ }};', "no single"),
        (f'key "a" {{ algorithm hmac-md5; secret "{SECRET}"; }};', "'hmac-md5'"),
        (f'key "a" {{ algorithm hmac-sha1; secret "{SECRET}"; }};', "'hmac-sha1'"),
        (f'key "a" {{ algorithm hmac-sha224; secret "{SECRET}"; }};', "'hmac-sha224'"),
        (f'key "a" {{ algorithm sha256; secret "{SECRET}"; }};', "'sha256'"),
        ('key "a" { algorithm hmac-sha256; secret "hidden!"; };', "not base64"),
        ('key "a" { algorithm hmac-sha256; secret "hidden"; };', "not base64"),
        ('key "a" { algorithm hmac-sha256; secret "MTIzNDU2Nzg5MDEyMzQ1"; };', "15 bytes"),
        ('key "a" { algorithm hmac-sha256; secret ""; };', "something else"),
        ('key "a" { algorithm hmac-sha256; };', "needs"),
        (f'key "a" {{ algorithm hmac-sha256; secret "{SECRET}"; secret "{SECRET}"; }};', "something else"),
        (f'key "a" {{ algorithm hmac-sha256; secret "{SECRET}"; more 1; }};', "something else"),
        (f'key "a..b" {{ algorithm hmac-sha256; secret "{SECRET}"; }};', "no name"),
    ],
)
def test_t18_a_malformed_or_weak_key_is_refused_without_repeating_its_secret(text: str, said: str) -> None:
    refusal = dnsrecords.read_key(text)
    assert isinstance(refusal, Refusal)
    assert refusal.code == "dns-key-malformed"
    assert said in refusal.detail
    assert SECRET not in refusal.detail
    assert "hidden" not in refusal.detail


@given(st.text())
def test_any_text_is_a_key_or_refused(text: str) -> None:
    assert isinstance(dnsrecords.read_key(text), Key | Refusal)


# --- what may be changed --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("mine", "served", "change"),
    [
        # nobody has the name
        (None, (), Change(frozenset(), ("192.0.2.1",), (), ("192.0.2.1",))),
        # somebody took its addresses away
        (("192.0.2.1",), (), Change(frozenset(), ("192.0.2.1",), (), ("192.0.2.1",))),
        # it holds exactly what this host put there
        (("192.0.2.1",), ("192.0.2.1",), Change(None, (), (), ("192.0.2.1",))),
        (
            ("192.0.2.7",),
            ("192.0.2.7",),
            Change(frozenset({"192.0.2.7"}), ("192.0.2.1",), ("192.0.2.7",), ("192.0.2.1",)),
        ),
        (
            ("192.0.2.6", "192.0.2.7"),
            ("192.0.2.7",),
            Change(frozenset({"192.0.2.7"}), ("192.0.2.1",), ("192.0.2.7",), ("192.0.2.1",)),
        ),
        # somebody else put an address there that is this host's
        (None, ("192.0.2.1",), Change(None, (), (), ())),
        (None, ("192.0.2.1", "192.0.2.8"), Change(None, (), (), ())),
        (("192.0.2.1",), ("192.0.2.1", "192.0.2.8"), Change(None, (), (), ("192.0.2.1",))),
    ],
)
def test_d2_addresses_are_changed_only_where_they_are_the_hosts_own(
    mine: tuple[str, ...] | None, served: tuple[str, ...], change: Change
) -> None:
    assert dnsrecords.decide(_record("192.0.2.1"), mine or (), served) == change


@pytest.mark.parametrize("mine", [None, ("192.0.2.1",), ("192.0.2.7",)])
def test_d2_a_name_that_others_hold_is_theirs(mine: tuple[str, ...] | None) -> None:
    found = dnsrecords.decide(_record("192.0.2.1"), mine or (), {"192.0.2.7", "192.0.2.8"})
    assert isinstance(found, Refusal)
    assert found.code == "dns-name-taken"


def test_without_addresses_of_its_own_the_name_is_left_alone() -> None:
    assert dnsrecords.decide(_record(), (), {"192.0.2.8"}) == Change(None, (), (), ())
    assert dnsrecords.decide(_record(), ("192.0.2.1",), ()) == Change(None, (), (), ("192.0.2.1",))


_ADDRESSES = st.sets(st.sampled_from(["192.0.2.1", "192.0.2.2", "192.0.2.3", "2001:db8::1"]))


@given(new=_ADDRESSES, mine=_ADDRESSES, served=_ADDRESSES)
def test_t18_nothing_that_the_host_did_not_put_there_is_ever_deleted_or_owned(
    new: set[str], mine: set[str], served: set[str]
) -> None:
    change = dnsrecords.decide(_record(*sorted(new)), sorted(mine), served)
    if isinstance(change, Refusal):
        assert served - mine
        return
    assert set(change.delete) <= mine
    assert set(change.owned) <= mine | set(change.add)
    assert set(change.add) <= new
    assert change.before is not None or not (change.add or change.delete)
