"""A real `kmshost serve` with a real name server: published, switched, withdrawn, whatever the server does (D1, D2, F23)."""

import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import inprocess
import nameservers
from authority_process import Home as Publisher
from kmshost_process import Home, Host
from nameservers import Key, Named, Scripted
from polling import until
from volact.protocol import policy

pytestmark = pytest.mark.sockets

ZONE = "corp.test"
SRV, NAME = f"_volact._tcp.{ZONE}", f"kms1.{ZONE}"
KEY = Key("kms1", [(SRV, "SRV"), (NAME, "A AAAA")])
VETERAN = f"5 5 1688 veteran.{ZONE}."


@pytest.fixture
def bind() -> Iterator[Named]:
    with Named({ZONE: f"_volact._tcp SRV 5 5 1688 veteran.{ZONE}."}, [KEY]) as running:
        yield running


@pytest.fixture(scope="module")
def publisher(tmp_path_factory: pytest.TempPathFactory) -> Publisher:
    publisher = Publisher(tmp_path_factory.mktemp("publisher"))
    publisher.set_up()
    return publisher


@pytest.fixture
def home(tmp_path: Path, publisher: Publisher, bind: Named) -> Home:
    """A host that is activated and set to publish."""
    key_file = tmp_path / "key"
    key_file.write_text(KEY.text())
    key_file.chmod(0o600)
    home = Home(tmp_path / "host", publisher)
    home.set_up()
    (home.folder / "kmshost.toml").write_text(
        f'dns_domains = "{ZONE}"\ndns_name = "kms1"\ndns_addresses = "192.0.2.1"\n'
        f'dns_server = "{bind.address}"\ndns_key_file = "{key_file}"\nops_listen = ""\n'
    )
    return home


def slmgr(home: Home, *words: str) -> Any:
    done = inprocess.run("slmgr", *words, "--json", environ=home.environ)
    assert done.code == 0, done
    return json.loads(done.out)


def text_of(home: Home, *words: str) -> str:
    done = inprocess.run("slmgr", *words, environ=home.environ)
    assert done.code == 0
    return done.out


def events(home: Home) -> list[tuple[int, str, str]]:
    return [
        (one["event"], one["result"], one["host"])
        for one in home.run("events")
        if one["event"] in (12293, 12294)
    ]


def test_published_at_the_start_switched_while_running_and_withdrawn_at_the_stop(
    home: Home, bind: Named
) -> None:
    with Host(home) as host:
        own = f"0 100 {host.port} {NAME}."
        until(lambda: bind.query(SRV, "SRV") == [own, VETERAN])
        assert bind.query(NAME, "A") == ["192.0.2.1"]
        until(lambda: slmgr(home, "/dli")["dns"]["domains"][0]["code"] == "ok")
        said = text_of(home, "/dlv")
        assert "DNS publishing enabled\n" in said
        assert f"    {ZONE}: ok at " in said

        assert slmgr(home, "/cdns")["value"] is False
        until(lambda: bind.query(SRV, "SRV") == [VETERAN])
        assert bind.query(NAME, "A") == []
        said = text_of(home, "/dlv")
        assert "DNS publishing disabled\n" in said
        assert f"    {SRV}. 3600 IN SRV {own}\n    {NAME}. 3600 IN A 192.0.2.1\n" in said
        assert inprocess.run("volact", "kmshost", "publish", environ=home.environ).code == 2

        assert slmgr(home, "/sdns")["value"] is True
        until(lambda: bind.query(SRV, "SRV") == [own, VETERAN])
        assert [one["code"] for one in home.run("publish")] == ["ok"]
        assert home.run("publish", "--show")["records"] == [
            f"{SRV}. 3600 IN SRV {own}",
            f"{NAME}. 3600 IN A 192.0.2.1",
        ]
        assert host.end() == 0
    assert bind.query(SRV, "SRV") == [VETERAN]
    assert bind.query(NAME, "A") == []
    assert events(home) == [
        (12294, "ok", ZONE),
        (12294, "withdrawn", ZONE),
        (12294, "ok", ZONE),
        (12294, "ok", ZONE),
        (12294, "withdrawn", ZONE),
    ]


def test_a_killed_host_replaces_its_own_record_and_a_command_takes_it_back(home: Home, bind: Named) -> None:
    """F24: the port is another one at each start here."""
    with Host(home) as host:
        until(lambda: len(bind.query(SRV, "SRV")) == 2)
        host.kill()
    assert bind.query(SRV, "SRV") == [f"0 100 {host.port} {NAME}.", VETERAN]
    with Host(home) as second:
        until(lambda: bind.query(SRV, "SRV") == [f"0 100 {second.port} {NAME}.", VETERAN])
        second.kill()
    assert "publish --withdraw" in slmgr(home, "/cdns")["warning"]
    assert [(one["domain"], one["code"], one["done"]) for one in home.run("publish", "--withdraw")] == [
        (ZONE, "withdrawn", True)
    ]
    assert bind.query(SRV, "SRV") == [VETERAN]
    assert home.run("publish", "--withdraw") == []


def test_f23_a_host_serves_while_dns_is_down_and_stops_in_5_seconds_also_then(home: Home) -> None:
    with Scripted(nameservers.silent()) as silent:
        home.environ["VOLACT_KMSHOST_DNS_SERVER"] = silent.address
        with Host(home) as host:
            until(lambda: bool(silent.asked))
            with host.connect() as connection:
                assert "token" in connection.introduction()
            until(lambda: events(home) == [(12293, "dns-server-unreachable", ZONE)])
            assert f"    {ZONE}: dns-server-unreachable at " in text_of(home, "/dli")
            assert home.run("publish", code=1)[0]["code"] == "dns-server-unreachable"
            began = time.monotonic()
            assert host.end() == 0
            assert (
                time.monotonic() - began < policy.WITHDRAW_WITHIN + 5
            )  # and not the minutes of many time-outs


@pytest.mark.parametrize(
    ("line", "said"),
    [
        (
            'dns_domain = "corp.test"',
            "line 7: there is no setting 'dns_domain' (did you mean 'dns_domains'?)",
        ),
        ("dns_publishing = 1", "line 7: dns_publishing must be true or false"),
    ],
)
def test_a_typo_in_the_settings_is_named_with_line_and_nearest_name(home: Home, line: str, said: str) -> None:
    file = home.folder / "kmshost.toml"
    file.write_text(file.read_text() + line + "\n")
    done = inprocess.run("volact", "kmshost", "serve", "--listen", "127.0.0.1:0", environ=home.environ)
    assert done.code == 2
    assert said in done.err


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        ("dns_domains", "corp.test 70000", "dns_domains: '70000'"),
        ("dns_name", "a" * 300, "dns_name: "),
        ("dns_label", "", "dns_label is empty"),
        ("dns_server", "ns:x", "dns_server: "),
        ("dns_addresses", "nowhere", "dns_addresses: 'nowhere' is no address."),
    ],
)
def test_a_malformed_setting_is_a_clear_error_at_the_start(
    home: Home, name: str, value: str, said: str
) -> None:
    home.environ[f"VOLACT_KMSHOST_{name.upper()}"] = value
    for words in (("serve", "--listen", "127.0.0.1:0"), ("publish",), ("publish", "--show")):
        done = inprocess.run("volact", "kmshost", *words, environ=home.environ)
        assert done.code == 2
        assert said in done.err
        assert "Traceback" not in done.err


def test_a_malformed_key_is_a_clear_error_at_the_start(home: Home) -> None:
    key = home.folder.parent / "key"
    key.write_text(KEY.text(secret="no-base64!"))
    done = inprocess.run("volact", "kmshost", "serve", "--listen", "127.0.0.1:0", environ=home.environ)
    assert done.code == 2
    assert (
        "dns_key_file: The TSIG key file cannot be used; nothing was sent. Its secret is not base64."
        in done.err
    )


def test_a_malformed_setting_while_it_runs_leaves_what_was(home: Home, bind: Named) -> None:
    file = home.folder / "kmshost.toml"
    good = file.read_text()
    with Host(home) as host:
        until(lambda: len(bind.query(SRV, "SRV")) == 2)
        file.write_text(good.replace(f'"{ZONE}"', f'"{ZONE} 1 2 3"'))
        log = home.folder / "serve.log"
        until(lambda: "is no DOMAIN [PRIORITY [WEIGHT]]" in log.read_text())
        assert f"0 100 {host.port} {NAME}." in bind.query(SRV, "SRV")
        file.write_text(good.replace(f'"{ZONE}"', f'"{ZONE} 1 2"'))
        until(lambda: f"1 2 {host.port} {NAME}." in bind.query(SRV, "SRV"))


def test_without_domain_key_or_activation(home: Home, publisher: Publisher, tmp_path: Path) -> None:
    home.environ["VOLACT_KMSHOST_DNS_KEY_FILE"] = ""
    assert home.run("publish", code=1)[0]["code"] == "dns-key-missing"
    home.environ["VOLACT_KMSHOST_DNS_DOMAINS"] = ""
    assert home.run("publish", code=2)["code"] == "usage"
    said = text_of(home, "/dlv")
    assert "DNS publishing enabled\n" in said
    assert "    _volact._tcp 3600 IN SRV 0 100 1688 kms1\n    kms1 3600 IN A 192.0.2.1\n" in said
    bare = Home(tmp_path / "bare", publisher)
    bare.init()
    bare.environ["VOLACT_KMSHOST_DNS_DOMAINS"] = ZONE
    assert bare.run("publish", code=1)["code"] == "host-not-activated"
