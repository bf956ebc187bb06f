"""Address ranges and lists (V1): what they mean, where they are wrong, and how many are too many."""

import ipaddress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from volact.protocol.problems import Refusal, Refused
from volact.vamt.discovering import ranges


def refusal(text: str) -> Refusal:
    with pytest.raises(Refused) as caught:
        ranges.addresses(text)
    return caught.value.refusal


@pytest.mark.parametrize(
    ("text", "right"),
    [
        ("", []),
        ("192.0.2.7", ["192.0.2.7"]),
        ("192.0.2.0/30", ["192.0.2.1", "192.0.2.2"]),
        ("192.0.2.0/31", ["192.0.2.0", "192.0.2.1"]),
        ("192.0.2.9/32", ["192.0.2.9"]),
        ("192.0.2.0/255.255.255.252", ["192.0.2.1", "192.0.2.2"]),
        ("2001:db8::/126", ["2001:db8::1", "2001:db8::2", "2001:db8::3"]),
        ("2001:db8::/127", ["2001:db8::", "2001:db8::1"]),
        ("::ffff:192.0.2.0/126", ["192.0.2.1", "192.0.2.2"]),
        ("::ffff:192.0.2.9", ["192.0.2.9"]),
        ("192.0.2.254-192.0.3.1", ["192.0.2.254", "192.0.2.255", "192.0.3.0", "192.0.3.1"]),
        ("192.0.2.7 - 9", ["192.0.2.7", "192.0.2.8", "192.0.2.9"]),
        ("192.0.2.7-7", ["192.0.2.7"]),
        ("192.0.2.254-255", ["192.0.2.254", "192.0.2.255"]),
        ("2001:DB8::ffff-2001:db8::1:0", ["2001:db8::ffff", "2001:db8::1:0"]),
        ("192.0.2.2, 192.0.2.1;192.0.2.2\t192.0.2.3", ["192.0.2.2", "192.0.2.1", "192.0.2.3"]),
        ("# all\r\n192.0.2.1 # one\r\n\r\n192.0.2.2,\r\n", ["192.0.2.1", "192.0.2.2"]),
        ("127.0.0.1", ["127.0.0.1"]),
    ],
)
def test_what_a_range_means(text: str, right: list[str]) -> None:
    """Networks without their own address and the broadcast one; of two addresses both (RFC 3021, RFC 6164)."""
    assert ranges.addresses(text) == right


@pytest.mark.parametrize(
    ("text", "line", "column", "said"),
    [
        ("web1", 1, 1, "'web1' is no address"),
        ("192.0.2.1\n192.0.2.1, web-1", 2, 12, "'web' is no address"),
        ("  192.0.2.1/33", 1, 3, "is no network; give ADDRESS"),
        ("192.0.2.1/24", 1, 1, "but 192.0.2.0/24 is"),
        ("192.0.2.9-192.0.2.8", 1, 1, "does not lead from a first to a last"),
        ("192.0.2.9-8", 1, 1, "does not lead from a first to a last"),
        ("192.0.2.1-2001:db8::1", 1, 1, "does not lead from a first to a last"),
        ("192.0.2.1-256", 1, 11, "'256' is no address"),
        ("192.0.2.1 - x", 1, 13, "'x' is no address"),
        ("192.0.2.1-", 1, 11, "'' is no address"),
        ("-192.0.2.1", 1, 1, "'' is no address"),
        ("2001:db8::1-5", 1, 13, "'5' is no address"),
        ("fe80::1%eth0", 1, 1, "has a zone"),
        ("224.0.0.1", 1, 1, "no address of one machine"),
        ("224.0.0.0/30", 1, 1, "no address of one machine"),
        ("192.0.2.1\n\n  0.0.0.0", 3, 3, "no address of one machine"),
        ("192.0.2.1\x1b[2J", 1, 1, "'192.0.2.1?[2J'"),
    ],
)
def test_what_is_wrong_is_said_with_line_and_column(text: str, line: int, column: int, said: str) -> None:
    found = refusal(text)
    assert found.code == "list-malformed"
    assert found.extra == (("line", line), ("column", column))
    assert found.detail.startswith(f"Line {line}, column {column}: ")
    assert said in found.detail


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("10.0.0.0-10.0.255.254", 65_535),
        ("10.0.0.0-10.0.255.255", 65_536),
        ("10.0.0.0/16", 65_534),
        ("2001:db8::/112", 65_535),
        ("10.0.0.0/17 10.1.0.0/17", 65_532),
    ],
)
def test_as_many_as_a_16_are_taken(text: str, size: int) -> None:
    assert sum(int(one.last) - int(one.first) + 1 for one in ranges.read(text)) == size


@pytest.mark.parametrize(
    "text",
    [
        "10.0.0.0-10.1.0.0",
        "10.0.0.0/15",
        "10.0.0.0/16 192.0.2.1",
        "2001:db8::/111",
        "2001:db8::/64",
        "0.0.0.0/0",
        "2000::/3",
        "::1-fe00::",
    ],
)
def test_one_more_is_refused_by_its_limit(text: str) -> None:
    found = refusal(text)
    assert found.code == "range-too-large"
    assert found.extra == (("limit", 65_536),)
    assert "65,536" in found.detail


@given(st.text(alphabet="0123456789abf.:/-,; \n%#x", max_size=60))
def test_any_text_is_read_or_refused(text: str) -> None:
    try:
        found = ranges.addresses(text)
    except Refused as error:
        code = error.refusal.code
    else:
        code = ""
        assert [str(ipaddress.ip_address(one)) for one in found] == found
        assert ranges.addresses("\n".join(found)) == found
    assert code in ("", "list-malformed", "range-too-large")


@given(st.ip_addresses(network="192.0.0.0/8"), st.integers(24, 32))
def test_a_network_is_what_python_says(address: ipaddress.IPv4Address, bits: int) -> None:
    network = ipaddress.ip_network((address, bits), strict=False)
    assert ranges.addresses(str(network)) == [str(one) for one in network.hosts()]
