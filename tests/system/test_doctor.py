"""`volact doctor` in a healthy network and in broken ones: a real host, a real client, a real BIND (D5).

What is to be found is known from how each network was made, not from what the program says.
"""

import json
import socket
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import pytest

import authority_process
import inprocess
import nameservers
from client.kms_server import KmsHost, KmsServer
from client.machine import PARTS
from client.publisher import Publisher
from kmshost_process import Home, Host
from nameservers import Key, Named
from polling import until
from programs import LOOPBACK
from world import PRODUCT

pytestmark = pytest.mark.sockets

ZONE = "corp.test"
OWNER, NAME = f"_volact._tcp.{ZONE}", f"kms.{ZONE}"
KEY = Key("kms", [(OWNER, "SRV"), (NAME, "A AAAA")])
POLICY = '[policy]\nthresholds = [{ count = "machines", minimum = 1 }]\n'


class Said(NamedTuple):
    """What the doctor said."""

    code: int
    checks: dict[str, dict[str, Any]]
    err: str

    def results(self) -> dict[str, str]:
        return {name: one["result"] for name, one in self.checks.items()}

    def verdicts(self, name: str) -> dict[str, str]:
        return {one["target"]: one["verdict"] for one in self.checks[name]["targets"]}


def doctor(environ: dict[str, str], *words: str) -> Said:
    done = inprocess.run("volact", "doctor", "--json", *words, environ=environ)
    found = json.loads(done.out)
    for one in found["checks"]:
        assert one["looked_at"], one
        assert one["found"], one
        assert one["next"] or one["result"] != "failed", one
    results = [one["result"] for one in found["checks"]]
    assert {name: results.count(name) for name in ("ok", "warning", "failed", "skipped")} == {
        name: found[name] for name in ("ok", "warning", "failed", "skipped")
    }
    assert done.code == (1 if "failed" in results else 0)
    return Said(done.code, {f"{one['role']}: {one['name']}": one for one in found["checks"]}, done.err)


def text(environ: dict[str, str], *words: str) -> str:
    return inprocess.run("volact", "doctor", *words, environ=environ).out


class Network:
    """A host, a client and the zone that they share; `resolver` says whom both ask."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.publisher = authority_process.Home(folder / "publisher")
        self.publisher.folder.mkdir()
        self.publisher.set_up(POLICY)
        self.port = nameservers.free_port()
        self.home = Home(folder / "host", self.publisher)
        self.home.environ["VOLACT_LAB_RESOLVER"] = str(folder / "resolv.conf")
        self.clock = folder / "clock"
        self.clock.write_text("+0s")
        self.home.environ["VOLACT_LAB_CLOCK"] = str(self.clock)
        self.home.set_up()
        (folder / "facts.json").write_text(json.dumps(PARTS))
        self.client = {
            "VOLACT_HOME": str(folder / "machine"),
            "VOLACT_MACHINE_FACTS": str(folder / "facts.json"),
            "VOLACT_LAB_RESOLVER": str(folder / "resolv.conf"),
        }
        product = str(self.publisher.folder / "cad.volact-product")
        self.run("client", "install", product, f"--root={self.publisher.pub}")

    def run(self, *words: str, code: int = 0) -> None:
        done = inprocess.run("volact", *words, environ=self.client)
        assert done.code == code, done

    def serve_zone(self, *records: str) -> Named:
        """A zone with these records, in which the host may publish; the host and the client ask its server."""
        return Named({ZONE: "\n".join(records)}, [KEY])

    def ask(self, bind: Named) -> None:
        (self.folder / "resolv.conf").write_text(f"nameserver {LOOPBACK}\nport {bind.port}\nsearch {ZONE}\n")
        key = self.folder / "key"
        key.write_text(KEY.text())
        key.chmod(0o600)
        (self.home.folder / "kmshost.toml").write_text(
            f'listen = "127.0.0.1"\nport = {self.port}\ndns_domains = "{ZONE}"\ndns_name = "kms"\n'
            f'dns_addresses = "127.0.0.1"\ndns_server = "{bind.address}"\ndns_key_file = "{key}"\nops_listen = ""\n'
        )


@pytest.fixture(scope="module")
def network(tmp_path_factory: pytest.TempPathFactory) -> Network:
    return Network(tmp_path_factory.mktemp("network"))


def test_d5_a_host_that_does_not_run_whose_clock_is_wrong_or_whose_delegation_is_over(
    network: Network,
) -> None:
    with network.serve_zone() as gone:
        network.ask(gone)
    rule = network.home.run("firewall", "--for", "ufw")
    assert rule["commands"] == [["ufw", "allow", f"{network.port}/tcp", "comment", "volact kmshost"]]
    assert network.home.run("firewall", "--for", "ipfw", code=2)["code"] == "usage"
    assert network.home.run("firewall", "--for", "ufw", "--apply", code=2)["code"] == "usage"
    assert network.home.run("firewall")["port"] == network.port
    down = doctor(network.home.environ)
    assert down.results()["host: port"] == "failed"
    assert "The service is not running" in down.checks["host: port"]["found"]
    assert "volact kmshost serve" in down.checks["host: port"]["next"]
    assert down.results()["host: address"] == "skipped"
    assert down.results()[f"host: dns {ZONE}"] == "failed"
    assert down.results()[f"host: published {ZONE}"] == "failed"
    assert down.results()[f"host: count {PRODUCT}"] == "warning"  # 0 of 1, and never was reached
    assert "0 machines, 1 required" in down.checks[f"host: count {PRODUCT}"]["found"]
    assert (down.results()["host: clock"], down.results()["host: delegation"]) == ("ok", "ok")
    # A delegation by file lasts 400 days: its half is over at day 200, it is over after day 400 (K9).
    with network.serve_zone() as empty:
        network.ask(empty)
        for days, clock, delegation in (
            ("-2d", "failed", "failed"),
            ("+199d", "ok", "ok"),
            ("+201d", "ok", "warning"),
            (
                "+401d",
                "warning",
                "failed",
            ),  # over, and nobody has called in all the time: is the clock right?
            ("+36500d", "failed", "failed"),
        ):
            network.clock.write_text(days)
            try:
                found = doctor(network.home.environ)
            finally:
                network.clock.write_text("+0s")
            results = found.results()
            assert (results["host: clock"], results["host: delegation"]) == (clock, delegation), days
            if delegation == "warning":
                assert "volact kmshost extend" in found.checks["host: delegation"]["next"]
            if days.startswith("+") and delegation == "failed":  # the clock comes first
                assert "Compare the clock" in found.checks["host: clock"]["next"]
                assert found.checks["host: delegation"]["next"].startswith("See whether the clock is right")


def test_d5_a_client_that_finds_no_host_and_one_whose_host_was_set_by_hand(network: Network) -> None:
    with network.serve_zone() as empty:
        network.ask(empty)
        found = doctor(network.client)
        assert found.results()[f"client: kms host {PRODUCT}"] == "failed"
        assert found.results()[f"client: dns {ZONE}"] == "failed"
        # The initial grace of its first start.
        assert found.results()[f"client: state {PRODUCT}"] == "warning"
        assert inprocess.run("slmgr", "/skms", f"127.0.0.1:{network.port}", environ=network.client).code == 0
        try:
            by_hand = doctor(network.client)
        finally:
            assert inprocess.run("slmgr", "/ckms", environ=network.client).code == 0
    assert by_hand.verdicts(f"client: kms host {PRODUCT}") == {f"127.0.0.1:{network.port}": "stale"}
    assert f"client: dns {ZONE}" not in by_hand.checks  # nobody asks DNS then


@pytest.fixture(scope="module")
def healthy(network: Network) -> Iterator[Named]:
    with network.serve_zone() as bind:
        network.ask(bind)
        with Host(network.home, ""):
            network.home.run("publish")
            yield bind


def test_d5_a_healthy_network_is_all_well_on_host_client_and_domain(network: Network, healthy: Named) -> None:
    network.run("client", "activate")
    on_host = doctor(network.home.environ)
    record = f"0 100 {network.port} {NAME}."
    wanted = {
        "host: storage", "host: clock", "host: delegation", f"host: count {PRODUCT}", "host: port", "host: address",
        f"host: published {ZONE}", f"host: dns {ZONE}", f"host: hosts {ZONE}",
    }  # fmt: skip
    assert {name for name, result in on_host.results().items() if result == "ok"} >= wanted
    assert on_host.code == 0
    assert record in on_host.checks[f"host: published {ZONE}"]["found"]
    assert on_host.verdicts(f"host: hosts {ZONE}") == {f"{NAME}:{network.port}": "good"}
    assert "1 machines, 1 required" in on_host.checks[f"host: count {PRODUCT}"]["found"]
    on_client = doctor(network.client)
    assert on_client.code == 0
    assert set(on_client.results().values()) <= {"ok", "skipped"}
    used = on_client.checks[f"client: kms host {PRODUCT}"]
    assert used["found"].startswith(f"{NAME}:{network.port} would be used: it answered last")
    assert on_client.results()[f"client: state {PRODUCT}"] == "ok"
    of_domain = doctor(network.client, "--domain", "CORP.test.")
    assert of_domain.results() == {f"domain: dns {ZONE}": "ok", f"domain: hosts {ZONE}": "ok"}
    bare = doctor({**network.client, "VOLACT_HOME": str(network.folder / "nothing")})
    assert bare.checks == {}
    shown = text(network.home.environ)
    assert shown.rstrip().endswith("all is well.")
    assert "FAIL" not in shown


@contextmanager
def _silent_port() -> Iterator[int]:
    """A port that answers nobody: its queue is full and nothing is taken out of it."""
    with ExitStack() as stack:
        listener = stack.enter_context(closing(socket.socket()))
        listener.bind((LOOPBACK, 0))
        listener.listen(0)
        for _ in range(2):
            waiting = stack.enter_context(closing(socket.socket()))
            waiting.setblocking(False)
            waiting.connect_ex(listener.getsockname())
        yield listener.getsockname()[1]


def test_d5_dns_that_is_stale_foreign_missing_and_out_of_reach(network: Network, healthy: Named) -> None:
    other, dead = Publisher(), nameservers.free_port()
    with ExitStack() as stack:
        silent = stack.enter_context(_silent_port())
        rogue = stack.enter_context(KmsServer(network.folder, KmsHost(other)))
        records = [
            f"_volact._tcp SRV 1 1 {dead} dead",
            "dead A 127.0.0.1",
            f"_volact._tcp SRV 2 1 {rogue.port} rogue",
            "rogue A 127.0.0.1",
            f"_volact._tcp SRV 3 1 {silent} faraway",
            "faraway A 127.0.0.1",
            "_volact._tcp SRV 4 1 1688 nameless",
            f"_volact._tcp SRV 5 1 {healthy.port} mute",  # a name server: it waits for the rest of a question
            "mute A 127.0.0.1",
        ]
        bind = stack.enter_context(Named({ZONE: "\n".join(records)}))  # nobody may publish there
        network.ask(bind)
        try:
            broken = doctor(network.home.environ)
            client = doctor(network.client, "--domain", ZONE)
        finally:
            network.ask(healthy)
    wanted = {
        f"dead.{ZONE}:{dead}": "stale",
        f"nameless.{ZONE}:1688": "stale",
        f"rogue.{ZONE}:{rogue.port}": "foreign",
        f"mute.{ZONE}:{healthy.port}": "unreachable",
        f"faraway.{ZONE}:{silent}": "unreachable",
    }
    assert broken.code == 1
    assert "looking at DNS" in broken.err  # it takes seconds to learn that nobody answers
    assert broken.verdicts(f"host: hosts {ZONE}") == wanted
    missing = broken.checks[f"host: published {ZONE}"]
    assert missing["result"] == "failed"
    assert missing["found"].startswith(f"missing: 0 100 {network.port} {NAME}. is not served.")
    assert client.verdicts(f"domain: hosts {ZONE}") == wanted


def test_d5_a_host_that_serves_other_networks_than_its_own_machine_s_is_not_called_broken(
    network: Network, healthy: Named
) -> None:
    settings = network.home.folder / "kmshost.toml"
    before = settings.read_text()
    settings.write_text(before + 'networks = "10.0.0.0/8"\n')
    port = f"{NAME}:{network.port}"
    try:
        until(lambda: doctor(network.client).verdicts(f"client: kms host {PRODUCT}")[port] == "unready")
        on_client, on_host = doctor(network.client), doctor(network.home.environ)
    finally:
        settings.write_text(before)
    until(lambda: doctor(network.home.environ).results()["host: port"] == "ok")
    assert "out of DNS" not in on_client.checks[f"client: kms host {PRODUCT}"]["next"]
    assert "networks (kmshost.toml)" in on_client.checks[f"client: kms host {PRODUCT}"]["next"]
    assert on_host.code == 0, on_host
    for name in ("host: port", "host: address", f"host: hosts {ZONE}"):
        assert on_host.results()[name] == "skipped", name
    for name in ("host: port", "host: address"):
        assert "cannot be asked from here" in on_host.checks[name]["found"]


def test_d5_settings_that_a_running_host_does_not_take_up_are_told_everywhere(
    network: Network, healthy: Named
) -> None:
    settings = network.home.folder / "kmshost.toml"
    before = settings.read_text()
    assert doctor(network.home.environ).results()["host: settings"] == "ok"
    assert network.home.run("status")["settings_problem"] is None
    try:
        settings.write_text(before + 'networks = "10.0.0.1/8"\nrenewal_minutes = 3\n')
        found = doctor(network.home.environ)
        status, shown = (
            network.home.run("status"),
            inprocess.run("slmgr", "/dlv", environ=network.home.environ),
        )
        settings.write_text(before.replace('dns_addresses = "127.0.0.1"', 'dns_addresses = "0.0.0.0"'))
        of_dns = doctor(network.home.environ)
    finally:
        settings.write_text(before)
    assert found.code == 1
    assert found.results()["host: settings"] == "failed"
    for said in (found.checks["host: settings"]["found"], status["settings_problem"], shown.out):
        assert "10.0.0.1/8" in said
    assert "former settings" in found.checks["host: settings"]["found"]
    assert "Notice: a setting is wrong" in shown.out
    assert of_dns.results()["host: settings"] == "failed"
    assert "0.0.0.0" in of_dns.checks["host: settings"]["found"]
    assert of_dns.results()["host: address"] == "skipped"


def test_d5_a_machine_whose_clock_is_a_year_ahead_is_not_told_that_it_is_activated(
    network: Network, healthy: Named
) -> None:
    """PROTOCOL section 8: the lease is stored, and over by that clock alone."""
    clock = network.folder / "machine-clock"
    clock.write_text("+365d")
    environ = {
        **network.client, "VOLACT_HOME": str(network.folder / "ahead"), "VOLACT_LAB_CLOCK": str(clock)
    }  # fmt: skip
    product = str(network.publisher.folder / "cad.volact-product")

    def run(*words: str) -> inprocess.Done:
        return inprocess.run(*words, environ=environ)

    assert run("volact", "client", "install", product, f"--root={network.publisher.pub}").code == 0
    assert run("slmgr", "/skms", f"127.0.0.1:{network.port}").code == 0
    for words in (("slmgr", "/ato"), ("volact", "client", "activate")):
        refused = run(*words, "--json")
        said = json.loads(refused.out)
        assert (refused.code, said["code"], said["state"], said["state_name"]) == (
            1,
            "clock-ahead",
            5,
            "Notification",
        )
        assert "365 days ahead" in said["detail"] or "364 days ahead" in said["detail"]
    found = doctor(environ)
    assert found.results()["client: clock"] == "failed"
    assert "Set the clock" in found.checks["client: clock"]["next"]
    clock.write_text("+100d")  # within the lease
    licensed = run("slmgr", "/ato")
    assert (licensed.code, "Licensed" in licensed.out) == (0, True)
    assert "days ahead" in licensed.err
    clock.write_text("+0s")
    healed = run("slmgr", "/ato")
    assert (healed.code, healed.err.strip()) == (0, "")
    assert doctor(environ).results()["client: clock"] == "ok"


def test_d5_a_count_that_was_reached_once_and_is_no_more(network: Network, healthy: Named) -> None:
    network.clock.write_text("+31d")  # the one machine's record lives 30 days (K4)
    try:
        found = doctor(network.home.environ)
    finally:
        network.clock.write_text("+0s")
    count = found.checks[f"host: count {PRODUCT}"]
    assert count["result"] == "failed"
    assert "0 machines, 1 required" in count["found"]
    assert "No machine gets a lease" in count["found"]
