"""A KMS host's address as a person writes it (rule S)."""

from pathlib import Path

import pytest

from volact import config, http
from volact.client.address import Address, read, read_domain
from volact.protocol.problems import UsageError
from world import new_key


@pytest.mark.parametrize(
    ("text", "name", "port", "shown"),
    [
        ("kms", "kms", 1688, "kms:1688"),
        ("kms.example.com", "kms.example.com", 1688, "kms.example.com:1688"),
        ("kms.example.com.", "kms.example.com.", 1688, "kms.example.com.:1688"),
        ("KMS_1.example.com:1", "KMS_1.example.com", 1, "KMS_1.example.com:1"),
        ("kms:65535", "kms", 65535, "kms:65535"),
        ("kms:00001", "kms", 1, "kms:1"),
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
        ("kms:99999", "no port"),
        ("kms:000001", "no port from 1 to 65535, at most 5 digits"),
        ("kms:000001688", "no port"),
        ("kms:000001688888", "no port"),
        ("[::1]:000001688", "no port"),
        (":000001688", "no port"),
        ("kms:" + "1" * 5000, "no port"),
        ("kms:1688\n", "no port"),
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


@pytest.mark.parametrize("kind", ["mak", "kms-host"])
def test_a_product_key_is_no_host_and_is_not_repeated(kind: str) -> None:
    """M8: it would stand in files and logs, and be asked of name servers."""
    key = new_key(kind).text()
    for text in (key, key.lower(), key.replace("-", "")):
        with pytest.raises(UsageError) as caught:
            read(text)
        assert "product key" in str(caught.value)
        assert key[:5] not in str(caught.value)


DIGITS = "1" * 5000


@pytest.mark.parametrize("port", ["16888", "0" * 16 + "1688", DIGITS])
@pytest.mark.parametrize("by", ["environment", "file"])
def test_a_host_s_port_of_too_many_digits_is_no_number(tmp_path: Path, by: str, port: str) -> None:
    if by == "file":
        (tmp_path / "kmshost.toml").write_text(f"port = {port}\n")
    environ = {"VOLACT_KMSHOST_PORT": port} if by == "environment" else {}
    if port == "16888":
        assert config.load("kmshost", tmp_path, environ).port == 16888
        return
    with pytest.raises(config.SettingInvalid) as caught:
        config.load("kmshost", tmp_path, environ)
    assert len(str(caught.value)) < 200


@pytest.mark.parametrize("port", ["000001688", "65536", DIGITS])
def test_a_service_does_not_listen_on_a_port_of_too_many_digits(port: str) -> None:
    assert http.listen_on("127.0.0.1:01688") == ("127.0.0.1", 1688)
    with pytest.raises(UsageError):
        http.listen_on(f"127.0.0.1:{port}")


@pytest.mark.parametrize(
    ("text", "domain"),
    [
        ("corp.test", "corp.test"),
        ("Corp.Test.", "corp.test"),
        ("lan", "lan"),
        ("xn--fr-tka.test", "xn--fr-tka.test"),
        (".".join(["a" * 63] * 3 + ["a" * 61]), ".".join(["a" * 63] * 3 + ["a" * 61])),
    ],
)
def test_a_domain_is_read_as_people_write_it(text: str, domain: str) -> None:
    assert read_domain(text) == domain


@pytest.mark.parametrize(
    "text",
    [
        "",
        ".",
        "..",
        "corp..test",
        "corp.test..",
        "10.0.0.1",
        "corp.test.7",
        "[::1]",
        "für.test",
        "corp.test:1688",
        "https://corp.test/",
        "a" * 64 + ".test",
        ".".join(["a" * 63] * 3 + ["a" * 62]),
    ],
)
def test_what_is_no_domain_is_said(text: str) -> None:
    with pytest.raises(UsageError) as caught:
        read_domain(text)
    assert "no DNS domain" in str(caught.value)


def test_a_product_key_is_no_domain_either() -> None:
    key = new_key("mak").text()
    with pytest.raises(UsageError) as caught:
        read_domain(key)
    assert key[:5] not in str(caught.value)
