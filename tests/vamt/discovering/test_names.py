"""One spelling of names, addresses and hardware addresses, so that a machine found twice is one row (V1)."""

import ipaddress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from volact.vamt.discovering import names


@pytest.mark.parametrize(
    ("text", "name", "domain"),
    [
        ("web1", "web1", ""),
        (" Web1.Corp.Example. ", "web1", "corp.example"),
        ("a", "a", ""),
        ("PC_01", "pc_01", ""),
        ("3com.example", "3com", "example"),
        (f"{'a' * 63}.example", "a" * 63, "example"),
        ("xn--mller-kva.example", "xn--mller-kva", "example"),
        (".".join(["a" * 63] * 3 + ["a" * 61]), "a" * 63, ".".join(["a" * 63] * 2 + ["a" * 61])),  # 253
    ],
)
def test_a_host_s_name_has_two_parts_in_small_letters(text: str, name: str, domain: str) -> None:
    assert names.host(text) == (name, domain)


@pytest.mark.parametrize(
    "text",
    [
        "",
        ".",
        "a..b",
        ".a",
        "192.0.2.1",
        "2001:db8::1",
        "12345",
        "host.1",
        "_tcp.corp.example",
        "web1.-x",
        "web1-",
        "*.corp.example",
        f"{'a' * 64}.example",
        ".".join(["a" * 63] * 3 + ["a" * 62]),  # 254
        "müller",
        "we b",
        "web\0",
        "web\x1b[31m",
        "localhost",
        "LOCALHOST.localdomain",
        "ip6-loopback",
        "a" * 500_000,
    ],
)
def test_what_names_no_host_of_a_network_is_none(text: str) -> None:
    assert names.host(text) is None


@pytest.mark.parametrize(
    ("text", "right"),
    [
        (" 192.0.2.1 ", "192.0.2.1"),
        ("2001:DB8:0:0::1", "2001:db8::1"),
        ("::ffff:192.0.2.1", "192.0.2.1"),
        ("127.0.0.1", "127.0.0.1"),
        ("010.0.0.1", None),
        ("192.0.2.256", None),
        ("0.0.0.0", None),
        ("::", None),
        ("224.0.0.1", None),
        ("ff02::1", None),
        ("255.255.255.255", None),
        ("fe80::1%eth0", None),
        ("3221225985", None),
        ("", None),
    ],
)
def test_an_address_is_in_its_shortest_form(text: str, right: str | None) -> None:
    assert names.address(text) == right


@pytest.mark.parametrize("text", ["127.0.0.1", "127.9.9.9", "::1", "::ffff:127.0.0.1"])
def test_an_address_that_every_machine_has_is_none_in_a_network(text: str) -> None:
    assert names.address(text) is not None
    assert names.address(text, here=False) is None


@pytest.mark.parametrize(
    ("text", "right"),
    [
        ("00:11:22:AA:bb:cc", "001122aabbcc"),
        ("00-11-22-aa-bb-cc", "001122aabbcc"),
        ("0011.22aa.bbcc", "001122aabbcc"),
        (" 001122AABBCC ", "001122aabbcc"),
        ("0:1:2:a:b:c", "000102" + "0a0b0c"),
        ("00:00:00:00:00:00", None),
        ("ff:ff:ff:ff:ff:ff", None),
        ("00:11:22:aa:bb", None),
        ("00:11:22:aa:bb:cg", None),
        ("000:1:2:a:b:c", None),
        ("::::::", None),
        ("", None),
    ],
)
def test_a_hardware_address_is_twelve_digits(text: str, right: str | None) -> None:
    assert names.mac(text) == right


@pytest.mark.parametrize(
    ("text", "right"),
    [
        ("Windows Server 2022 Standard", "windows"),
        ("Debian GNU/Linux 12", "linux"),
        ("Ubuntu", "linux"),
        ("Mac OS X", "macos"),
        ("Darwin", "macos"),
        ("OpenBSD", ""),
        ("", ""),
    ],
)
def test_a_platform_is_known_by_its_words(text: str, right: str) -> None:
    assert names.platform(text) == right


@given(st.text(max_size=300))
def test_what_is_shown_cannot_steer_a_terminal(text: str) -> None:
    """RELIABILITY T26."""
    shown = names.shown(text)
    assert shown.isprintable()
    assert len(shown) <= 2 * 60 + 3


def test_a_long_text_is_shown_in_part() -> None:
    assert names.shown("a" * 60) == f"'{'a' * 60}'"
    assert names.shown("a" * 61) == f"'{'a' * 60}'…"


@given(st.ip_addresses())
def test_the_shortest_form_is_the_shortest_form(
    found: ipaddress.IPv4Address | ipaddress.IPv6Address,
) -> None:
    one = names.address(str(found))
    if one is not None:
        assert names.address(one) == one
        assert names.address(f" {str(found).upper()} ") == one


@given(st.text(max_size=80))
def test_a_name_read_again_is_the_same(text: str) -> None:
    found = names.host(text)
    if found is not None:
        assert names.host(f"{found.name}.{found.domain}".rstrip(".")) == found
