"""`slmgr MACHINE ...` through a real sshd: a real client there, a real KMS host, a real authority (rules S, V2, V6, M8)."""

from __future__ import annotations

import asyncio
import json
import os
import sys
import threading
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

import inprocess
import kmshost_process
from authority_process import Home, reachable
from client.machine import PARTS
from programs import LOOPBACK
from sshd import Sshd
from volact import slmgr
from volact.protocol import trust
from volact.protocol.problems import Refused
from volact.vamt import remote, setup
from volact.vamt.collecting.targets import Jump, Limits, Login, Target
from volact.vamt.people import LEAST, Person
from volact.vamt.remote import ACTIONS, Order
from world import PRODUCT, new_key

if TYPE_CHECKING:
    from collections.abc import Iterator

    from inprocess import Done

pytestmark = pytest.mark.sockets
COMMAND = f"{sys.executable} -m volact"
ENVIRON = {name: value for name, value in os.environ.items() if not name.startswith("VOLACT_")}


class Site:
    """A VAMT, and the machines that it may ask."""

    def __init__(self, folder: Path, authority: Home, stack: ExitStack) -> None:
        self.folder, self.authority, self.stack = folder, authority, stack
        self.environ = {**ENVIRON, "VOLACT_HOME": str(folder / "vamt")}
        self.vamt("init")
        product = folder / "product"
        product.write_text(json.dumps(authority.product))
        self.vamt("publisher", "add", str(product), "--root", authority.pub)
        self.machines: dict[str, Sshd] = {}

    def vamt(self, *words: str) -> Any:
        done = inprocess.run("volact", "vamt", *words, "--json", environ=self.environ)
        assert done.code == 0, (words, done)
        return json.loads(done.out)

    def slmgr(self, *words: str, stdin: str = "") -> Done:
        done = inprocess.run("slmgr", *words, environ=self.environ, stdin=stdin)
        assert "Traceback" not in done.err
        return done

    def json(self, *words: str, code: int = 0, stdin: str = "") -> Any:
        done = self.slmgr(*words, "--json", stdin=stdin)
        assert done.code == code, (words, done)
        return json.loads(done.out)

    def machine(self, name: str, **environ: str) -> Sshd:
        """A machine with this environment, its host key pinned; it is asked by the account of its own group."""
        machine = self.stack.enter_context(Sshd(self.folder / f"sshd-{name}", within=None, **environ))
        self.machines[name] = machine
        self.vamt("machine", "add", name, "--address", LOOPBACK, "--port", str(machine.port), "--group", name)
        self.vamt("machine", "trust", name, "--host-key", f"@{machine.folder / 'host_key.pub'}")
        self.login(name)
        return machine

    def login(self, name: str, command: str = COMMAND) -> None:
        machine = self.machines[name]
        words = ("--user", machine.login.user, "--key-file", str(machine.folder / "user_key"))
        self.vamt("login", "set", "--group", name, *words, "--command", command)

    def client(self, name: str) -> None:
        """A machine with the product installed."""
        facts = self.folder / "facts.json"
        facts.write_text(json.dumps(PARTS))
        environ = {"VOLACT_HOME": str(self.folder / name), "VOLACT_MACHINE_FACTS": str(facts)}
        self.client_environ = {**ENVIRON, **environ}
        self.machine(name, **environ)
        words = ("client", "install", str(self.folder / "product"), f"--root={self.authority.pub}")
        assert inprocess.run("volact", *words, environ=self.client_environ).code == 0

    def last(self) -> dict[str, Any]:
        """The newest entry of VAMT's log."""
        return self.vamt("log", "--limit", "1")[0]  # type: ignore[no-any-return]


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    folder = tmp_path_factory.mktemp("remote")
    with ExitStack() as stack:
        authority = stack.enter_context(reachable(folder / "authority"))
        site = Site(folder, authority, stack)
        site.client("web1")
        yield site


def test_a_machine_elsewhere_is_activated_with_a_mak_and_its_key_is_nowhere(site: Site) -> None:
    """/ipk, /ato, /dli, /dlv, /xpr, /upk there say what they say here; M8: no argument and no log holds the key."""
    key = site.authority.key("mak").text()
    seen: list[bytes] = []
    stop = threading.Event()

    def watch() -> None:
        while not stop.is_set():
            for file in Path("/proc").glob("[0-9]*/cmdline"):
                try:
                    seen.append(file.read_bytes())
                except OSError:
                    continue

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        said = site.slmgr("web1", "/ipk", "-", stdin=f"{key}\n")
    finally:
        stop.set()
        watcher.join()
    last = key[-5:]
    assert (said.code, said.out) == (0, f"Installed product key ...-{last} successfully.\n")
    assert any(b"volact.slmgr" in one and b"/ipk" in one for one in seen), "it looked while that ran"
    assert not [one for one in seen if key.encode() in one]
    entry = site.last()
    assert (entry["action"], entry["result"], entry["rows"]) == ("install-key", "ok", 1)
    assert key not in json.dumps(site.vamt("log")) + site.machines["web1"].log()

    assert site.slmgr("web1", "/ato").out == "Product activated successfully: Licensed.\n"
    for words in (("/dli", PRODUCT), ("/dlv", "--json"), ("-xpr",)):
        there = site.slmgr("web1", *words)
        assert (there.code, there.out) == (
            0,
            inprocess.run("slmgr", *words, environ=site.client_environ).out,
        ), words
        assert (site.last()["action"], site.last()["result"]) == ("look", "ok")
    assert site.json("web1", "/upk")["product"] == PRODUCT
    assert site.json("web1", "/xpr")["state_name"] == "Unlicensed"
    assert site.last()["what"]["slmgr"] == "/xpr"


def test_by_file_the_request_comes_here_and_its_answer_goes_there(site: Site, tmp_path: Path) -> None:
    """P6 for another machine: /dti FILE, /atp FILE; files are here."""
    site.json("web1", "/ipk", f"@{_file(tmp_path / 'key', site.authority.key('mak').text())}")
    request, answer = tmp_path / "request.json", tmp_path / "answer.json"
    shown = site.json("web1", "/dti", PRODUCT)
    said = site.slmgr("web1", "/dti", str(request))
    assert said.out.startswith(f"Installation ID: {shown['iid']}\n"), "the same request as before"
    assert str(request) in said.out
    assert trust.read_bundle(request.read_bytes()) == shown["request"]
    drawn = site.slmgr("web1", "/dti", "--qr")
    assert (drawn.code, "This terminal cannot show" in drawn.err) == (2, True), "codes are drawn here"
    again = tmp_path / "again.json"
    assert site.json("web1", "/dti", str(again), PRODUCT)["iid"] == shown["iid"]
    assert again.read_bytes() == request.read_bytes()
    site.authority.run("answer", str(request), "-o", str(answer))
    assert site.json("web1", "/atp", str(answer))["state_name"] == "Licensed"
    assert site.last()["what"]["words"] == ["-", "--json"]
    assert site.json("web1", "/atp", str(request), code=1)["code"] == "document-refused"
    assert site.last()["result"] == "document-refused", "what it said there is the result here"
    assert site.json("web1", "/atp", str(tmp_path / "none"), code=4)["code"] == "not-readable"
    assert site.json("web1", "/dti", "a", "b", "c", code=2)["code"] == "usage"


def test_what_is_wrong_here_is_said_before_anybody_is_asked(site: Site) -> None:
    sessions = site.machines["web1"].log().count("Accepted")
    typed = new_key().text()
    mistyped = typed[:-1] + ("A" if typed[-1] != "A" else "B")
    for words, code, said in (
        (("web1", "/atoo"), 2, "usage"),
        (("web1", "/skms"), 2, "usage"),
        (("web1", "/dli", "--role", "nobody"), 2, "usage"),
        (("web1",), 2, "usage"),
        (("web1", "root", "nobody", "/dli"), 2, "usage"),
        (("web1", "/ipk", mistyped), 1, "key-mistyped"),
        (("web9", "/dli"), 1, "machine-unknown"),
    ):
        assert site.json(*words, code=code)["code"] == said, words
    done = site.slmgr("web1", "/ipk", mistyped)
    assert mistyped not in done.out + done.err
    assert site.machines["web1"].log().count("Accepted") == sessions
    assert "slmgr MACHINE /SWITCH" in site.slmgr("dli").err


def test_a_machine_without_vamt_says_what_to_do(tmp_path: Path) -> None:
    done = inprocess.run(
        "slmgr", "web1", "/dli", "--json", environ={**ENVIRON, "VOLACT_HOME": str(tmp_path / "none")}
    )
    assert (done.code, json.loads(done.out)["code"]) == (1, "not-set-up")
    assert "volact vamt init" in done.err
    assert not (tmp_path / "none").exists()


def test_volact_slmgr_is_the_same_program(site: Site) -> None:
    done = inprocess.run("volact", "slmgr", "web1", "/xpr", environ=site.environ)
    assert (done.code, done.out) == (0, inprocess.run("slmgr", "/xpr", environ=site.client_environ).out)


# A KMS host elsewhere


def test_a_kms_host_and_its_client_are_set_up_from_here(site: Site) -> None:
    """/ipk and /ato there with a KMS host key, /dli of it; then a client's /skms and /ato, refused and in vain."""
    home = kmshost_process.Home(site.folder / "kms", site.authority)
    home.init()
    site.machine("kms", VOLACT_HOME=str(home.folder))
    key = site.authority.key("kms-host").text()
    assert site.json("kms", "/ipk", "-", stdin=f"{key}\n")["channel"] == "kms-host"
    assert "KMS host activated successfully until" in site.slmgr("kms", "/ato").out
    assert site.json("web1", "/sai", "14", code=2)["code"] == "usage"
    assert site.last()["what"] == {
        "machine": "web1", "id": site.vamt("machine", "show", "web1")["id"], "slmgr": "/sai",
        "words": ["14", "--json"],
    }  # fmt: skip
    inprocess.run("slmgr", "/upk", environ=site.client_environ)
    with kmshost_process.Host(home) as host:
        assert site.json("web1", "/skms", f"{LOOPBACK}:{host.port}")["port"] == host.port
        said = site.slmgr("web1", "/ato")
        assert (said.code, said.out) == (1, "")
        assert said.err.startswith("count-insufficient: ")
        assert "Current count: 1 (required 25 machines)" in site.slmgr("kms", "/dli").out
    assert site.json("web1", "/ato", code=3)["code"] == "host-unreachable"
    assert site.last()["result"] == "host-unreachable"


# Machines that cannot be asked


def test_a_machine_that_is_off_or_is_another_now(site: Site) -> None:
    """Exit 3: it cannot be reached; 1: it is there and is told nothing."""
    machine = site.machine("gone")
    site.login("gone", "/nowhere/volact")
    assert site.json("gone", "/dli", code=1)["code"] == "client-missing"
    assert site.last()["result"] == "client-missing"
    site.login("gone", "/opt/wrapper")
    assert "cannot be found" in site.json("gone", "/dli", code=1)["detail"], "slmgr stands beside volact"
    # What stands there answers nonsense: in prose it is shown, harmless; with --json it is refused.
    fake = site.folder / "bin" / "slmgr"
    fake.parent.mkdir()
    site.login("gone", str(fake.parent / "volact"))
    for script, code, wanted in (
        ("printf 'hello\\033[2J\\302\\233 there\\n'", 3, "answer-nonsense"),
        ("echo 'sudo: no' >&2; exit 1", 1, "client-failed"),
        ('echo \'{"code": "data-broken"}\'; exit 4', 4, "data-broken"),
        ('printf \'{"iid": "\\\\u001b[2J\\\\u009b"}\'', 0, None),
    ):
        fake.write_text(f"#!/bin/sh\n{script}\n")
        fake.chmod(0o755)
        said = site.json("gone", "/xpr", code=code)
        assert said.get("code") == wanted, (script, said)
    assert said == {"iid": "?[2J?"}
    fake.write_text(
        "#!/bin/sh\nprintf 'hello\\033[2J\\302\\233 there\\nmore\\n'; printf 'no\\033c\\n' >&2; exit 1\n"
    )
    done = site.slmgr("gone", "/dli")
    assert (done.code, done.out, done.err) == (1, "hello?[2J? there\nmore\n", "no?c\n")
    for end, exit_here, line in (
        ("exit 4", 4, "no"),
        ("exit 5", 1, "client-failed: "),
        ("kill -9 $$", 1, "client-failed: "),
    ):
        fake.write_text(f"#!/bin/sh\necho no >&2; {end}\n")
        done = site.slmgr("gone", "/dli")
        assert (done.code, done.err.startswith(line)) == (exit_here, True)
    fake.write_text("#!/bin/sh\ncat\n")
    key = new_key().text()
    done = site.slmgr("gone", "/ipk", "-", stdin=key + "\n")
    assert (done.code, done.out) == (0, f"...-{key[-5:]}\n"), "a whole key is shown by nobody"
    fake.write_text('#!/bin/sh\necho \'{"publisher":"p","product":"x","iid":"1","request":[]}\'\n')
    assert site.json("gone", "/dti", code=3)["code"] == "answer-nonsense"
    assert site.last()["result"] == "ok", "the log has what the machine did"

    machine.let_in("")
    assert site.json("gone", "/dli", code=1)["code"] == "credential-refused"
    site.vamt("login", "remove", "--group", "gone")
    assert site.json("gone", "/dli", code=1)["code"] == "login-missing"
    site.login("gone")
    other = site.machines["web1"].folder / "host_key.pub"
    site.vamt("machine", "trust", "gone", "--host-key", f"@{other}")
    assert site.json("gone", "/dli", code=1)["code"] == "host-key-changed"
    assert site.last()["result"] == "host-key-changed"
    machine.close()
    assert site.json("gone", "/dli", code=3)["code"] == "unreachable-port"
    site.vamt("machine", "add", "new", "--address", LOOPBACK, "--port", str(site.machines["web1"].port))
    site.vamt("login", "set", "--user", "x", "--key-file", str(site.machines["web1"].folder / "user_key"))
    assert site.json("new", "/dli", code=1)["code"] == "host-key-unknown"


def test_this_machine_and_one_over_winrm(site: Site) -> None:
    """V2: a row may be this machine; over WinRM machines are read, and nothing is run."""
    site.vamt("machine", "add", "here", "--transport", "local")
    assert site.json("here", "/xpr", code=1)["code"] == "product-not-installed"
    site.vamt("machine", "add", "pane", "--address", LOOPBACK, "--transport", "winrm")
    said = site.json("pane", "/dli", code=1)
    assert (said["code"], "WinRM" in said["detail"]) == ("usage", True)


# Who may, and as whom


@pytest.mark.parametrize("role", ["viewer", "operator", "key-administrator", "auditor"])
def test_who_may_what(site: Site, role: str) -> None:
    """A viewer and an auditor see; nobody is asked where the role does not do. The table is the one of `people`."""
    person = Person("somebody", role)
    with setup.opened(site.environ) as opened:
        vamt = opened.vamt()

        async def tried(switch: str, user: str = "") -> str:
            try:
                await vamt.remote.run(person, "web1", Order(switch), {}, Limits(), user=user)
            except Refused as error:
                return error.refusal.code
            return "ran"

        found = {switch: asyncio.run(tried(switch)) for switch in slmgr.SWITCHES}
    may = {"dli", "dlv", "xpr"}
    if role == "operator":
        may |= {one for one in ACTIONS if LEAST[ACTIONS[one]] == "operator"}
    if role == "key-administrator":
        may |= {*slmgr.SWITCHES}
    assert found == {
        switch: "login-missing" if switch in may else "role-insufficient" for switch in slmgr.SWITCHES
    }


def test_every_switch_is_an_action() -> None:
    assert {*ACTIONS} == {*slmgr.SWITCHES}
    assert {*ACTIONS.values()} <= {*LEAST}


def test_as_another_account(site: Site) -> None:
    """USER takes the account's place; its password is not said to another's, and it takes who may enter logins."""
    user = site.machines["web1"].login.user
    assert site.slmgr("web1", user, "/xpr").code == 0
    assert site.last()["what"]["as"] == user
    assert site.json("web1", "nobody-at-all", "/xpr", code=1)["code"] == "credential-refused"
    assert site.last()["what"]["as"] == "nobody-at-all"
    logins = {
        "web1": Login(
            "x",
            password="secret",
            key=site.machines["web1"].login.key,
            command=(sys.executable, "-m", "volact"),
        )
    }
    with setup.opened(site.environ) as opened:

        async def tried(role: str, name: str) -> int:
            vamt = opened.vamt()
            ran = await vamt.remote.run(Person("p", role), "web1", Order("xpr"), logins, Limits(), user=name)
            return ran.exit

        assert asyncio.run(tried("key-administrator", user)) == 0
        for role in ("viewer", "operator"):
            with pytest.raises(Refused) as refused:
                asyncio.run(tried(role, user))
            assert refused.value.refusal.code == "role-insufficient"


def test_a_password_is_another_account_s() -> None:
    """A login by USER keeps key, agent and jump host, whose account stays the login's."""
    login = Login("ada", password="secret", key="k", agent="a", jump=Jump("gate"))
    target = Target("m", ("web1",), login="Web")
    person = Person("p", "key-administrator")
    assert remote._as(person, "", target, {"Web": login}) == {"Web": login}
    (found,) = remote._as(person, "root", target, {"Web": login}).values()
    assert found == login._replace(user="root", password="", jump=Jump("gate", login=login))
    other = Login("guard")
    through = login._replace(jump=Jump("gate", login=other))
    assert remote._as(person, "root", target, {"Web": through})["Web"].jump == Jump("gate", login=other)
    assert remote._as(person, "root", target, {"Web": Login("ada")})["Web"] == Login("root")
    assert remote._as(person, "root", target, {}) == {}


def _file(path: Path, text: str) -> Path:
    path.write_text(text)
    return path
