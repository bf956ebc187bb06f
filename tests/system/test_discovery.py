"""A client finds its KMS host by a real BIND: real hosts, real rogues, dead ones, and DNS that fails (D3, D4, T16, T17, F21).

The client's commands run as a person gives them; whom they ask is said by the file of a laboratory's name servers.
"""

import json
import socket
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

import authority_process
import inprocess
import nameservers
from client.kms_server import KmsHost, KmsServer
from client.machine import PARTS
from client.publisher import Publisher
from inprocess import Done
from kmshost_process import Home, Host
from nameservers import Named, Scripted
from volact.client import resolving

pytestmark = pytest.mark.sockets

POLICY = '[policy]\nthresholds = [{ count = "machines", minimum = 1 }]\n'


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> authority_process.Home:
    home = authority_process.Home(tmp_path_factory.mktemp("authority"))
    home.set_up(POLICY)
    return home


@pytest.fixture(scope="module")
def host(authority: authority_process.Home, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Host]:
    with serving(authority, tmp_path_factory.mktemp("host")) as running:
        yield running


def serving(authority: authority_process.Home, folder: Path, listen: str = "127.0.0.1:0") -> Host:
    home = Home(folder, authority, ops_listen="")
    home.set_up()
    return Host(home, listen)


class Machine:
    """A client with a home and name servers of its own."""

    def __init__(self, folder: Path, authority: authority_process.Home) -> None:
        folder.mkdir(exist_ok=True)
        self.folder = folder
        (folder / "facts.json").write_text(json.dumps({**PARTS, "disk": f"DISK-{folder.name}"}))
        self.environ = {
            "VOLACT_HOME": str(folder / "home"),
            "VOLACT_MACHINE_FACTS": str(folder / "facts.json"),
            "VOLACT_LAB_RESOLVER": str(folder / "resolv.conf"),
        }
        self.resolver("")
        product = str(authority.folder / "cad.volact-product")
        assert self.volact("client", "install", product, f"--root={authority.pub}").code == 0

    def resolver(self, address: str) -> None:
        """Ask the name server at HOST:PORT from now on, about corp.test."""
        ip, _, port = address.partition(":")
        (self.folder / "resolv.conf").write_text(
            f"nameserver {ip}\nport {port}\nsearch corp.test\n" if ip else ""
        )

    def volact(self, *words: str) -> Done:
        return inprocess.run("volact", *words, environ=self.environ)

    def slmgr(self, *words: str) -> Any:
        return json.loads(inprocess.run("slmgr", *words, "--json", environ=self.environ).out)

    @property
    def answers(self) -> list[tuple[str, str]]:
        """Host and result of each answer, as its own log says."""
        log = json.loads(self.volact("client", "events", "--json").out)
        return [(one["host"], one["result"]) for one in log if one["event"] == 12289]


@pytest.fixture
def machine(tmp_path: Path, authority: authority_process.Home) -> Machine:
    return Machine(tmp_path / "machine", authority)


def zone(*records: tuple[int, int, int, str, str]) -> dict[str, str]:
    """Priority, weight, port, name and address of each host."""
    lines = []
    for priority, weight, port, name, ip in records:
        kind = "AAAA" if ":" in ip else "A"
        lines += [f"_volact._tcp SRV {priority} {weight} {port} {name}", f"{name} {kind} {ip}"]
    return {"corp.test": "\n".join(lines)}


def dead_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def test_a_machine_is_activated_by_dns_alone_past_five_rogues_and_a_dead_host(
    machine: Machine, host: Host, tmp_path: Path
) -> None:
    """T16: the rogues see `GET /v1/host` and nothing else."""
    with ExitStack() as stack:
        rogues = []
        for number in range(5):
            folder = tmp_path / f"rogue{number}"
            folder.mkdir()
            rogues.append(stack.enter_context(KmsServer(folder, KmsHost(Publisher()))))
        records = [(0, number, one.port, f"rogue{number}", "127.0.0.1") for number, one in enumerate(rogues)]
        dead = (1, 100, dead_port(), "dead", "127.0.0.1")
        true = (2, 0, host.port, "kms", "127.0.0.1")
        machine.resolver(stack.enter_context(Named(zone(*records, dead, true))).address)
        assert machine.slmgr("/ato")["state"] == 1
        assert [one.host.gets for one in rogues] == [1] * 5
        assert [one.requests for one in rogues] == [[]] * 5
    assert [result for _, result in machine.answers] == ["host-untrusted"] * 5 + ["host-unreachable", "ok"]
    found = machine.slmgr("/dlv")["kms"]
    assert (found["host"], found["set_by"], found["ip"]) == (f"kms.corp.test:{host.port}", "dns", "127.0.0.1")


def test_a_service_activates_a_product_without_a_key_or_a_host_by_itself(
    machine: Machine, host: Host
) -> None:
    """K22, by a process of its own: `client run`."""
    with Named(zone((0, 0, host.port, "kms", "127.0.0.1"))) as server:
        machine.resolver(server.address)
        done = inprocess.process("volact", "client", "run", "--once", "--json", environ=machine.environ)
        assert (done.code, json.loads(done.out)["products"][0]["state"]) == (0, 1), done


def test_of_64_published_hosts_8_are_tried(machine: Machine) -> None:
    """T17."""
    with Named(zone(*((0, 0, dead_port(), f"h{number}", "127.0.0.1") for number in range(64)))) as server:
        machine.resolver(server.address)
        assert machine.slmgr("/ato")["code"] == "host-unreachable"
    assert [result for _, result in machine.answers] == ["host-unreachable"] * 8


def test_records_that_name_no_host_are_passed_over(machine: Machine, host: Host) -> None:
    long = ".".join(["a" * 60] * 4)  # 243 characters, 253 with the zone: longer ones no server loads
    text = f"_volact._tcp SRV 0 0 0 kms\n_volact._tcp SRV 0 0 1 .\n_volact._tcp SRV 0 0 1688 {long}\n"
    with Named({"corp.test": text + zone((1, 0, host.port, "kms", "127.0.0.1"))["corp.test"]}) as server:
        machine.resolver(server.address)
        assert machine.slmgr("/ato")["state"] == 1
    assert machine.answers == [
        (f"{long}.corp.test:1688", "host-unreachable"),
        (f"kms.corp.test:{host.port}", "ok"),
    ]


def test_a_host_that_has_an_ipv6_address_only_is_found(
    machine: Machine, authority: authority_process.Home, tmp_path: Path
) -> None:
    if not resolving.has_route("::1"):
        pytest.skip("this machine has no IPv6")
    with serving(authority, tmp_path / "six", "[::1]:0") as host:
        records = (0, 0, dead_port(), "gone", "::1"), (1, 0, host.port, "kms", "::1")
        with Named(zone(*records)) as server:
            machine.resolver(server.address)
            assert machine.slmgr("/ato")["state"] == 1
    assert machine.slmgr("/dlv")["kms"]["ip"] == "::1"


_BROKEN = [how for how in nameservers.FAULTS if how != "REFUSED"]  # to a client that is what SERVFAIL is


@pytest.mark.parametrize("how", _BROKEN)
def test_a_host_that_answered_once_is_asked_again_whatever_dns_does(
    machine: Machine, host: Host, how: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """F21; each name is asked for twice at most."""
    monkeypatch.setattr(resolving, "PATIENCE", 0.5)
    with Named(zone((0, 0, host.port, "kms", "127.0.0.1"))) as server:
        machine.resolver(server.address)
        machine.slmgr("/ato")
    with Scripted(nameservers.silent()) as broken:
        broken.answer = nameservers.FAULTS[how](broken)
        machine.resolver(broken.address)
        assert machine.slmgr("/ato")["state"] == 1
        asked = broken.questions()
    assert asked
    assert all(asked.count(one) <= 2 for one in asked)
    assert ("_volact._tcp.corp.test.", "SRV") not in asked
    assert [result for _, result in machine.answers] == ["ok", "ok"]


@pytest.mark.parametrize("how", _BROKEN)
def test_without_dns_and_cache_no_host_is_found_and_the_next_try_is_planned(
    machine: Machine, how: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(resolving, "PATIENCE", 0.5)
    with Scripted(nameservers.silent()) as broken:
        broken.answer = nameservers.FAULTS[how](broken)
        machine.resolver(broken.address)
        assert machine.slmgr("/ato")["code"] == "host-not-found"
        assert broken.questions() in (
            [("_volact._tcp.corp.test.", "SRV")],
            [("_volact._tcp.corp.test.", "SRV")] * 2,
        )
    assert machine.answers == [("", "host-not-found")]
    assert machine.slmgr("/dlv")["next_try"]


def test_the_switches_of_discovery_answer_in_the_words_of_slmgr(machine: Machine, host: Host) -> None:
    """Rule S: /skms-domain, /ckhc, /skhc, /ckms on a client."""
    with Named({**zone(), "other.test": zone((0, 0, host.port, "kms", "127.0.0.1"))["corp.test"]}) as server:
        machine.resolver(server.address)
        assert machine.slmgr("/ato")["code"] == "host-not-found"
        assert machine.slmgr("/skms-domain", "Other.Test")["domain"] == "other.test"
        assert machine.slmgr("/ckhc")["caching"] is False
        assert machine.slmgr("/ato")["state"] == 1
        said = inprocess.run("slmgr", "/dlv", environ=machine.environ).out
        for line in (
            f"KMS machine name from DNS: kms.other.test:{host.port}",
            "KMS machine IP address: 127.0.0.1",
            "Registered KMS SRV record lookup domain: other.test",
            "KMS host caching is disabled",
        ):
            assert f"{line}\n" in said
        assert machine.slmgr("/skhc")["caching"] is True
        cleared = machine.slmgr("/ckms")
        assert (cleared["host"], cleared["port"], cleared["domain"]) == (None, None, None)
        assert machine.slmgr("/ato")["code"] == "host-not-found"
    for words in (
        ("/skms-domain", "10.0.0.1"),
        ("/skms-domain", "a" * 64 + ".test"),
        ("/skms-domain", "für.test"),
    ):
        assert machine.slmgr(*words)["code"] == "usage"


def test_a_label_is_a_setting_of_the_machine_and_a_wrong_one_says_where(machine: Machine, host: Host) -> None:
    text = zone((0, 0, host.port, "kms", "127.0.0.1"))["corp.test"].replace("_volact", "_vlmcs")
    with Named({"corp.test": text}) as server:
        machine.resolver(server.address)
        assert machine.slmgr("/ato")["code"] == "host-not-found"
        file = machine.folder / "home" / "client" / "client.toml"
        file.write_text('dns_label = "_vlmcs._tcp"\n')
        assert machine.slmgr("/ato")["state"] == 1
    for wrong, said in (
        (
            'dns_lable = "_vlmcs._tcp"\n',
            "line 1: there is no setting 'dns_lable' (did you mean 'dns_label'?)",
        ),
        ('dns_label = "_vlm cs"\n', "dns_label: '_vlm cs' is no label"),
    ):
        file.write_text(wrong)
        refused = machine.slmgr("/ato")
        assert refused["code"] == "setting-invalid"
        assert said in refused["detail"]
