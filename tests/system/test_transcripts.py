"""Every switch of `slmgr` on a client, on a KMS host and where both are, as a person would see it (rules S and E).

Real services: an authority, and hosts that it activated; the commands are compared with tests/transcripts, which were
read against the rules line by line. `transcribing` says what stands there by a name, and how they are written anew.
"""

import json
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

import inprocess
import transcribing
from authority_process import Home as Publisher
from authority_process import Serving
from client.machine import PARTS
from kmshost_process import Home, Host, wait_until
from nameservers import Key, Named
from programs import LOOPBACK
from transcribing import FOLDER, Transcript
from volact import children, slmgr
from volact.lab.handclock import HandClock
from world import DAY, PRODUCT, Machine

pytestmark = pytest.mark.sockets

BEGIN = 1_798_761_600  # 2027-01-01T00:00:00Z
NUMBERS = ("43200", "43201", "65535", "65536")
"""What the sessions say of their own; no port may be one of them."""
CLIENTS_OWN = ("upk", "dti", "atp", "rearm", "skms", "skms-domain", "ckms", "skhc", "ckhc")
HOSTS_OWN = ("sprt", "sdns", "cdns", "spri", "cpri")
WORDS = {"atp": ["answer.json"], "skms": ["kms1.corp.test"], "skms-domain": ["corp.test"], "sprt": ["1688"]}
ZONE = "corp.test"
KEY = Key("kms1", [(f"_volact._tcp.{ZONE}", "SRV"), (f"kms1.{ZONE}", "A AAAA")])


def free_port() -> int:
    while str(port := children.free_port()) in NUMBERS:
        pass
    return port


class Enterprise:
    """Machines and hosts of one session, which began at midnight, and what is said on them."""

    def __init__(self, folder: Path, publisher: Publisher, clock: HandClock, day: int) -> None:
        clock.move(BEGIN + day * DAY)
        self.folder, self.publisher, self.clock = folder, publisher, clock
        self.port = str(free_port())
        self.script = Transcript(
            clock, {str(folder): "folder", publisher.pub: "publisher", self.port: "port"}
        )

    def key(self, kind: str) -> str:
        """A key in words; the transcript names it, and its last group, which alone may be shown."""
        key = self.publisher.key(kind)
        self.script.names |= {key.text(): kind, key.label: f"{kind}-last-group"}
        return key.text()

    def mistyped(self, key: str) -> str:
        """The key with a wrong character in its third group."""
        groups = key.split("-")
        groups[2] = ("A" if groups[2][0] != "A" else "B") + groups[2][1:]
        text = "-".join(groups)
        self.script.names[text] = "mistyped"
        return text

    def host(self, **settings: str | int) -> Home:
        """A host that is not activated; it tells its numbers to nobody, and its name is not this machine's."""
        home = Home(self.folder / "host", self.publisher)
        home.environ.update(self.clock.environ)
        home.init()
        self.script.names[home.host] = "host"
        found = {
            "listen": LOOPBACK,
            "dns_name": f"kms1.{ZONE}",
            "dns_addresses": "192.0.2.1",
            "ops_listen": "",
            **settings,
        }
        lines = [f"{name} = {json.dumps(value)}\n" for name, value in found.items()]
        (home.folder / "kmshost.toml").write_text("".join(lines))
        return home

    def activated_host(self, **settings: str) -> Home:
        """A host that will listen at the session's port."""
        home = self.host(port=int(self.port), **settings)
        key = self.publisher.key("kms-host")
        self.script.names[key.label] = "kms-host-last-group"
        home.install_key(key)
        home.run("activate")
        return home

    def machine(self, folder: Path, resolver: str = "") -> dict[str, str]:
        """The environment of a machine with this home, without products."""
        folder.mkdir(exist_ok=True)
        (folder / "facts.json").write_text(json.dumps(PARTS))
        (folder / "resolv.conf").write_text(resolver)
        return {
            "VOLACT_HOME": str(folder),
            "VOLACT_MACHINE_FACTS": str(folder / "facts.json"),
            "VOLACT_LAB_RESOLVER": str(folder / "resolv.conf"),
            **self.clock.environ,
        }

    def install(self, environ: dict[str, str]) -> None:
        product = str(self.publisher.folder / "cad.volact-product")
        words = ("client", "install", product, f"--root={self.publisher.pub}")
        assert inprocess.run("volact", *words, environ=environ).code == 0
        status = json.loads(inprocess.run("slmgr", "/dli", "--role=client", "--json", environ=environ).out)
        self.script.names[status["cmid"]] = "cmid"

    def call(self, host: Host, *states: int) -> None:
        """Other machines call, as many in each state, from 0 on."""
        with host.connect() as connection:
            for state, many in enumerate(states):
                for _ in range(many):
                    connection.check_in(Machine(self.publisher.pub), iat=self.clock.now, state=state)


@pytest.fixture(scope="module")
def clock(tmp_path_factory: pytest.TempPathFactory) -> HandClock:
    return HandClock(tmp_path_factory.mktemp("time") / "clock", BEGIN)


@pytest.fixture(scope="module")
def publisher(tmp_path_factory: pytest.TempPathFactory, clock: HandClock) -> Iterator[Publisher]:
    """A publisher whose authority listens."""
    home = Publisher(tmp_path_factory.mktemp("publisher"))
    home.environ.update(clock.environ)
    address = f"{LOOPBACK}:{free_port()}"
    home.set_up("", "--url", f"https://{address}")
    with Serving(home, address):
        yield home


def test_the_switches_of_a_host(tmp_path: Path, publisher: Publisher, clock: HandClock) -> None:
    enterprise = Enterprise(tmp_path, publisher, clock, 1)
    script, home = enterprise.script, enterprise.host()
    host, (host_key, mak) = script.at(home.environ), map(enterprise.key, ("kms-host", "mak"))
    script.note("A KMS host that is set up and has no key yet; no product is installed beside it.")
    host.both("/dli")
    host.say("/dlv")
    host.both("/xpr")
    host.both("/ato")
    host.wrong("/ipk", enterprise.mistyped(host_key), mak)
    host.both("/ipk", host_key)
    host.say("/dli")
    script.note("It activates itself at the publisher's authority.")
    host.both("/ato")
    host.both("/xpr")
    script.note("Once more, with its key.")
    host.say("/ipk", host_key)
    host.say("/dli")
    host.say("/ato", "--json")
    script.note("Its settings.")
    host.wrong("/sprt", "0", "65536", "many")
    with socket.socket() as other:
        other.bind((LOOPBACK, 0))
        other.listen()
        taken = str(other.getsockname()[1])
        script.names[taken] = "port-of-another-program"
        host.both("/sprt", taken)
    host.both("/sprt", enterprise.port)
    host.wrong("/sai", "14", "10081", "often")
    host.both("/sai", "15")
    host.wrong("/sri", "14", "43201", "rarely")
    script.note("A record lives 30 days; half of that are 21600 minutes.")
    host.both("/sri", "21600")
    host.both("/sri", "21601")
    host.both("/cpri")
    host.both("/cpri", "now")
    host.say("/dli")
    host.both("/spri")
    host.both("/cdns")
    host.say("/dlv")
    host.both("/sdns")
    with Host(home, "") as service:
        script.note("The service runs. Of 26 machines 3, 5, 11, 4, 1 and 2 report the states 0 to 5.")
        enterprise.call(service, 3, 5, 11, 4, 1, 2)
        host.both("/dli")
        host.both("/dlv")
    script.note("The switches of a client, and what a host does not take.")
    for name in CLIENTS_OWN:
        host.both(f"/{name}", *WORDS.get(name, []))
    host.both("/dli", PRODUCT)
    host.both("/dli", "--role", "client")
    script.check("kmshost")


def test_the_switches_of_a_kms_client(tmp_path: Path, publisher: Publisher, clock: HandClock) -> None:
    enterprise = Enterprise(tmp_path, publisher, clock, 2)
    script, machine = enterprise.script, enterprise.machine(tmp_path / "machine")
    client = script.at(machine)
    script.note("A machine without products.")
    client.both("/?")
    client.both()
    client.both("/dli")
    script.note("A product is installed; the machine knows no domain to look for a KMS host in.")
    enterprise.install(machine)
    for switch in ("/dli", "/dlv", "/xpr", "/ato"):
        client.both(switch)
    for words in (
        ["/atoo"],
        ["ato"],
        ["/ato", "a", "b"],
        ["/dli", "com.example.none"],
        ["/dli", "--role", "x"],
    ):
        client.both(*words)
    script.note("A KMS host by hand.")
    client.wrong("/skms", ":0", "https://kms1.corp.test", "kms1:65536")
    client.both("/skms", "kms1.corp.test")
    client.both("/skms", "[2001:db8::1]:1700")
    client.both("/skms", ":1701")
    client.say("/dlv")
    client.wrong("/skms-domain", "a b")
    client.both("/skms-domain", "corp.test")
    client.say("/dlv")
    client.both("/ckms")
    client.both("/ckhc")
    client.say("/dlv")
    client.both("/skhc")
    script.note("Intervals of its own.")
    client.wrong("/sai", "14", "10081", "often")
    client.wrong("/sri", "119", "43201", "rarely")
    client.both("/sai", "15")
    client.both("/sri", "43200")
    client.say("/dlv")
    script.note("Nobody listens at the KMS host.")
    client.both("/skms", f"{LOOPBACK}:{enterprise.port}")
    client.both("/ato")
    home = enterprise.activated_host()
    with Host(home, "") as host:
        script.note("It listens, and counts 23 other machines.")
        enterprise.call(host, 0, 0, 23)
        client.both("/ato")
        client.say("/dlv")
        script.note("Another machine calls.")
        enterprise.call(host, 0, 0, 1)
        client.both("/ato")
        for switch in ("/dli", "/dlv", "/xpr"):
            client.both(switch)
        client.both("/sai", "30")
        client.both("/sri", "60")
        client.say("/dlv")
    script.note("The switches of a host.")
    for name in HOSTS_OWN:
        client.both(f"/{name}", *WORDS.get(name, []))
    client.both("/dli", "--role", "kmshost")
    client.both("/sdns", "--role", "client")
    script.check("kms-client")


def test_the_switches_of_a_machine_with_a_key(tmp_path: Path, publisher: Publisher, clock: HandClock) -> None:
    enterprise = Enterprise(tmp_path, publisher, clock, 3)
    script, machine = enterprise.script, enterprise.machine(tmp_path / "machine")
    client, (mak, retail, host_key) = script.at(machine), map(enterprise.key, ("mak", "retail", "kms-host"))
    enterprise.install(machine)
    script.note("A product is installed. Keys that do not belong here, then one that does.")
    client.wrong("/ipk", enterprise.mistyped(mak), host_key)
    client.both("/upk")
    client.both("/dti")
    client.both("/ipk", mak)
    client.both("/dli")
    client.both("/ckms")
    script.note("The question on a file, and its answer.")
    question, answer = tmp_path / "question.json", tmp_path / "answer.json"
    client.both("/dti")
    client.both("/dti", str(question))
    client.both("/dti", str(tmp_path / "no-folder" / "question.json"))
    client.say("/dlv")
    client.wrong("/atp", "no-such-file", str(question))
    publisher.run("answer", str(question), "-o", str(answer))
    client.both("/atp", str(answer))
    for switch in ("/dli", "/dlv", "/xpr"):
        client.both(switch)
    script.note("Without its key, and reset, as often as that may be.")
    client.both("/upk")
    client.say("/dli")
    client.both("/rearm", "com.example.none")
    client.both("/rearm")
    client.say("/dlv")
    client.both("/rearm")
    script.note("A retail key, online.")
    client.both("/ipk", retail)
    client.both("/ato")
    client.say("/dlv")
    client.say("/upk", "--json")
    script.check("client-with-key")


def test_the_switches_where_both_roles_are(tmp_path: Path, publisher: Publisher, clock: HandClock) -> None:
    enterprise = Enterprise(tmp_path, publisher, clock, 4)
    script, home = enterprise.script, enterprise.host()
    environ = home.environ | enterprise.machine(home.folder)
    enterprise.install(environ)
    machine, (mak, host_key) = script.at(environ), map(enterprise.key, ("mak", "kms-host"))
    script.note("A KMS host without a key, and a product beside it. /ipk follows the key's kind.")
    machine.both("/ipk", mak, "--role", "kmshost")
    machine.both("/ipk", host_key, "--role", "client")
    machine.both("/ipk", host_key)
    machine.both("/ipk", mak)
    script.note("Activation is the client's, unless the host is named.")
    machine.say("/ato", "--role", "kmshost")
    machine.both("/ato")
    machine.both("/xpr")
    machine.both("/xpr", "--role=kmshost")
    script.note("Information is the host's; /dlv tells both.")
    machine.say("/dli")
    machine.both("/dli", "--role", "client")
    machine.both("/dlv")
    machine.say("/dlv", "--role", "client")
    machine.say("/dlv", "--role", "kmshost")
    script.note("What both have, the host has first.")
    for switch, minutes in (("/sai", "30"), ("/sri", "2880")):
        machine.both(switch, minutes)
        machine.both(switch, minutes, "--role", "client")
    script.note("What one has alone.")
    for name in HOSTS_OWN:
        machine.both(f"/{name}", *([enterprise.port] if name == "sprt" else []))
        machine.both(f"/{name}", *WORDS.get(name, []), "--role", "client")
    for name in ("skms-domain", "skms", "ckms", "ckhc", "skhc", "dti", "upk", "rearm"):
        machine.both(f"/{name}", *WORDS.get(name, []))
        machine.both(f"/{name}", *WORDS.get(name, []), "--role", "kmshost")
    machine.both("/atp", "answer.json")
    machine.both("/atp", "answer.json", "--role", "kmshost")
    machine.say("/dlv")
    script.check("both")


def test_the_switches_of_dns(tmp_path: Path, publisher: Publisher, clock: HandClock) -> None:
    enterprise = Enterprise(tmp_path, publisher, clock, 5)
    script, key_file = enterprise.script, tmp_path / "key"
    key_file.write_text(KEY.text())
    key_file.chmod(0o600)
    with Named({ZONE: ""}, [KEY]) as bind:
        script.names[str(bind.port)] = "dns-port"
        home = enterprise.activated_host(
            dns_addresses=LOOPBACK, dns_domains=ZONE, dns_server=bind.address, dns_key_file=str(key_file)
        )
        asks = f"nameserver {LOOPBACK}\nport {bind.port}\nsearch {ZONE}\n"
        machine = enterprise.machine(tmp_path / "machine", asks)
        enterprise.install(machine)
        host, client = script.at(home.environ), script.at(machine)
        host.say("/cdns")
        with Host(home, "") as service:
            script.note("The service runs and counts 24 machines; it does not publish itself.")
            enterprise.call(service, 0, 0, 24)
            host.say("/dlv")
            client.both("/ato")
            host.say("/sdns")
            wait_until(lambda: dns_result(home) == "ok")
            host.say("/dlv")
            client.both("/ato")
            client.both("/dlv")
            script.note("It is withdrawn. The client asks the host that answered last, as long as it may.")
            host.say("/cdns")
            wait_until(lambda: dns_result(home) == "withdrawn")
            host.both("/dlv")
            client.say("/ato")
            client.both("/ckhc")
            client.both("/ato")
            client.both("/skhc")
            client.say("/dlv")
    script.check("dns")


def dns_result(home: Home) -> str:
    """What came of the last update of the zone."""
    (domain,) = home.run("status")["dns"]["domains"]
    return str(domain["code"])


def test_every_switch_is_in_a_transcript() -> None:
    """On both roles where it applies, in prose and as JSON."""
    said = {file.stem: file.read_text("utf-8").splitlines() for file in FOLDER.glob("*.txt")}
    clients = [*said["kms-client"], *said["client-with-key"]]
    for name, switch in slmgr.SWITCHES.items():
        for lines, applies in ((clients, switch.run or name == "ipk"), (said["kmshost"], switch.host)):
            codes = {asks: exit_codes(lines, name, json=asks) for asks in (True, False)}
            assert codes[True], name
            assert codes[False], name
            assert not applies or "[exit 0]" in codes[True] & codes[False], name


def exit_codes(lines: list[str], name: str, *, json: bool) -> set[str]:
    """What the calls of a switch came to."""
    return {
        next(line for line in lines[at:] if line.startswith("[exit "))
        for at, line in enumerate(lines)
        if line.startswith("$ ") and line.split()[2:3] == [f"/{name}"] and ("--json" in line.split()) == json
    }


def test_one_name_stands_for_one_value_and_a_change_is_shown(
    tmp_path: Path, clock: HandClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The transcripts would notice: another word, another number, and a value that is not the one named before."""
    monkeypatch.setattr(transcribing, "FOLDER", tmp_path)
    monkeypatch.delenv(transcribing.WRITE, raising=False)

    def script(*lines: str) -> Transcript:
        made = Transcript(clock, {"47112": "port", "M0001": "last-group"})
        made.add(["/dli"], inprocess.Done(1, "\n".join(lines), "no"))
        return made

    one, two = "A" * 43, "b-_" + "C" * 40
    lines = (f"{one} {two}", f"{one}:47112 at 10080 minutes", "...-M0001", "Next try: 2027-01-01T00:00:00Z")
    text = "$ slmgr /dli\n<id-1> <id-2>\n<id-1>:<port> at 10080 minutes\n...-<last-group>\nNext try: <time>\n! no\n[exit 1]\n"
    assert script(*lines).text() == text
    (tmp_path / "this.txt").write_text(text)
    script(*lines).check("this")
    for wrong in ((f"{one} {one}", *lines[1:]), (*lines[:3], "Next try: never"), (*lines, "more"), lines[:2]):
        with pytest.raises(pytest.fail.Exception, match=r"checked in: this\.txt"):
            script(*wrong).check("this")
    with pytest.raises(pytest.fail.Exception, match=r"checked in: other\.txt"):
        script(*lines).check("other")
