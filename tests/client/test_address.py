"""A KMS host's address as a person writes it (rule S)."""

import pytest

from volact.client.address import Address, read
from volact.protocol.problems import UsageError


@pytest.mark.parametrize(
    ("text", "name", "port", "shown"),
    [
        ("kms", "kms", 1688, "kms:1688"),
        ("kms.example.com", "kms.example.com", 1688, "kms.example.com:1688"),
        ("kms.example.com.", "kms.example.com.", 1688, "kms.example.com.:1688"),
        ("KMS_1.example.com:1", "KMS_1.example.com", 1, "KMS_1.example.com:1"),
        ("kms:65535", "kms", 65535, "kms:65535"),
        ("192.0.2.7:1700", "192.0.2.7", 1700, "192.0.2.7:1700"),
        ("[2001:db8::7]", "2001:db8::7", 1688, "[2001:db8::7]:1688"),
        ("[2001:db8::7]:1700", "2001:db8::7", 1700, "[2001:db8::7]:1700"),
        ("[fe80::1%eth0]:1688", "fe80::1%eth0", 1688, "[fe80::1%eth0]:1688"),
        (":1700", "", 1700, ":1700"),
        ("a" * 63 + ".x", "a" * 63 + ".x", 1688, "a" * 63 + ".x:1688"),
    ],
)
def test_an_address_is_read(text: str, name: str, port: int, shown: str) -> None:
    found = read(text)
    assert found == Address(name, port)
    assert str(found) == shown


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "No host"),
        (":", "no port"),
        ("kms:", "no port"),
        ("kms:0", "no port"),
        ("kms:65536", "no port"),
        ("kms:99999999999999999999", "no port"),
        ("kms:16a", "no port"),
        ("kms:-1", "no port"),
        ("kms:١", "no port"),
        ("[::1]1688", "no port"),
        ("[::1", "no IPv6"),
        ("[kms]:1688", "no IPv6"),
        ("::1", "without brackets"),
        ("2001:db8::7:1688", "without brackets"),
        ("https://kms:1688", "URL"),
        ("kms/x", "URL"),
        ("-kms", "no host name"),
        ("kms-", "no host name"),
        ("k ms", "no host name"),
        ("kms..example", "no host name"),
        ("bücher.example", "no host name"),
        ("a" * 64, "no host name"),
        (".".join(["a" * 63] * 4), "no host name"),
        ("192.0.2", "no host name"),
        ("192.0.2.256", "no host name"),
    ],
)
def test_what_is_no_address_is_said(text: str, says: str) -> None:
    with pytest.raises(UsageError) as caught:
        read(text)
    assert says in str(caught.value)
    assert "Give" in caught.value.next_step
