"""The classic switches on a machine with a KMS host, beside a running service (rule S; K6, K16)."""

import json
import os
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest

import inprocess
from authority_process import Home as Publisher
from kmshost_process import Connection, Home, Host
from polling import until
from volact.children import free_port
from volact.protocol.problems import Unreachable
from world import PRODUCT, Machine, facts

pytestmark = pytest.mark.sockets

POLICY = """
[policy]
thresholds = [{count = "machines", minimum = 2}]
"""


class Said(NamedTuple):
    """What a switch came to."""

    code: int
    json: Any
    err: str


def slmgr(home: Home, *words: str, stdin: str = "") -> Said:
    done = inprocess.run("slmgr", *words, "--json", environ=home.environ, stdin=stdin)
    assert "Traceback" not in done.err
    return Said(done.code, json.loads(done.out), done.err)


def text_of(home: Home, *words: str) -> str:
    done = inprocess.run("slmgr", *words, environ=home.environ)
    assert done.code == 0
    return done.out


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Home:
    folder = tmp_path_factory.mktemp("slmgr")
    publisher = Publisher(folder / "publisher")
    publisher.folder.mkdir()
    publisher.set_up(POLICY)
    home = Home(folder / "host", publisher)
    home.init()
    # /ipk follows the key's kind; by file, so no authority listens.
    key = publisher.key("kms-host")
    assert slmgr(home, "/ipk", "-", stdin=key.text() + "\n").json["channel"] == "kms-host"
    home.activate_by_file()
    return home


@pytest.fixture
def serving(home: Home) -> Iterator[Host]:
    port = free_port()
    assert slmgr(home, "/sprt", str(port)).code == 0
    with Host(home, "") as host:
        assert host.port == port
        yield host


def lease(home: Home, port: int) -> dict[str, Any]:
    """Two machines call; the second one's lease."""
    with Connection(home, port) as connection:
        connection.check_in(Machine(home.pub))
        return connection.lease(connection.check_in(Machine(home.pub)))


def answers(home: Home, port: int) -> bool:
    try:
        with Connection(home, port) as connection:
            return "token" in connection.introduction()
    except Unreachable:
        return False


def test_settings_take_effect_in_a_running_service(home: Home, serving: Host) -> None:
    """K6: intervals are told with the next lease; K16: the old port answers until the new one listens."""
    assert lease(home, serving.port)["ren"] == 7 * 86400
    assert slmgr(home, "/sai", "30").json["value"] == 30
    said = slmgr(home, "/sri", "2880")
    assert (said.code, said.json["value"], said.json["warning"]) == (0, 2880, "")
    until(lambda: lease(home, serving.port)["rty"] == 30 * 60)
    until(lambda: lease(home, serving.port)["ren"] == 2880 * 60)

    new = free_port()
    assert slmgr(home, "/sprt", str(new)).json["value"] == new
    until(lambda: answers(home, new))
    until(lambda: not answers(home, serving.port))
    assert slmgr(home, "/dli").json["settings"]["port"] == {"value": new, "from": "setting table"}

    taken = free_port()
    with socket.socket() as other:
        other.bind(("127.0.0.1", taken))
        other.listen()
        said = slmgr(home, "/sprt", str(taken))
        assert (said.code, said.json["code"]) == (4, "port-taken")
        assert slmgr(home, "/dli").json["settings"]["port"]["value"] == new, "the settings keep the old value"
        assert answers(home, new)
    assert slmgr(home, "/sprt", str(new)).code == 0, "the service's own port is not taken by another"


def test_back_to_a_port_that_is_just_being_left(home: Home, serving: Host) -> None:
    """K16: it is the service's own, not taken; it is taken up again without an event, and the other let go."""
    new, old = free_port(), serving.port
    for wanted, left in ((new, old), (old, new), (new, old)):
        assert slmgr(home, "/sprt", str(wanted)).json["value"] == wanted
        until(lambda wanted=wanted: slmgr(home, "/dli").json["listening"]["port"] == wanted)  # type: ignore[misc]
        assert answers(home, wanted)
        assert answers(home, left), "for some seconds"
    assert not [one for one in home.run("events") if one["event"] == 12291]
    note = home.folder / "kmshost" / "serving.json"
    until(lambda: json.loads(note.read_text())["leaving"] == [])
    with socket.socket() as other:
        other.bind(("127.0.0.1", serving.port))
        other.listen()
        assert slmgr(home, "/sprt", str(serving.port)).json["code"] == "port-taken", "it is another's by now"


def test_the_port_that_is_told_is_the_one_that_is_listened_on(home: Home) -> None:
    """K16: --listen, a move, a clean stop, a kill."""
    set_ = free_port()
    assert slmgr(home, "/sprt", str(set_)).code == 0
    assert slmgr(home, "/dli").json["listening"] is None
    for switch in ("/dli", "/dlv"):
        assert f"Listening on Port: not running (set: {set_})\n" in text_of(home, switch)
    with Host(home, "127.0.0.1:0") as host:
        assert host.port != set_
        here = {"address": "127.0.0.1", "port": host.port, "pid": host.process.pid}
        assert slmgr(home, "/dli").json["listening"] == here
        assert home.run("status")["listening"] == here
        for switch in ("/dli", "/dlv"):
            assert f"Listening on Port: {host.port}\n" in text_of(home, switch)
        moved = free_port()
        assert slmgr(home, "/sprt", str(moved)).code == 0
        until(lambda: slmgr(home, "/dli").json["listening"] == {**here, "port": moved})
    note = home.folder / "kmshost" / "serving.json"
    assert not note.exists(), "a clean stop removes it"
    host = Host(home, "127.0.0.1:0")
    host.__enter__()
    assert note.exists()
    assert note.stat().st_mode & 0o777 == 0o600
    host.kill()
    assert note.exists()
    assert home.run("status")["listening"] is None, "its process is gone"
    # Somebody else has its process id now.
    members = json.loads(note.read_text())
    note.write_text(json.dumps({**members, "pid": os.getpid()}))
    assert home.run("status")["listening"] is None
    for damaged in ("", "{", "[]", '{"address": 1, "port": "x", "pid": 1}'):
        note.write_text(damaged)
        assert home.run("status")["listening"] is None
    note.unlink()


def test_a_port_that_is_taken_is_refused_also_where_nothing_runs(home: Home) -> None:
    before = slmgr(home, "/dli").json["settings"]["port"]
    with socket.socket() as other:
        other.bind(("0.0.0.0", 0))
        other.listen()
        said = slmgr(home, "/sprt", str(other.getsockname()[1]))
    assert (said.code, said.json["code"]) == (4, "port-taken")
    assert slmgr(home, "/dli").json["settings"]["port"] == before


def test_ipk_on_a_host_alone(home: Home) -> None:
    """Also of a key that belongs elsewhere: it says where, and names no product of a client."""
    mak, key = home.authority.key("mak"), home.authority.key("kms-host")
    said = slmgr(home, "/ipk", "-", stdin=mak.text() + "\n")
    assert (said.code, said.json["code"]) == (1, "key-wrong-kind")
    assert "volact client install-key" in said.json["detail"]
    said = slmgr(home, "/ipk", "-", stdin=key.text()[:-1] + "\n")
    assert (said.code, said.json["code"]) == (1, "key-mistyped")
    said = slmgr(home, "/ipk", "-", "com.nope", "--role", "kmshost", stdin=key.text() + "\n")
    assert (said.code, said.json["code"]) == (1, "product-unknown")
    assert PRODUCT in said.json["detail"]
    for words in (("--role", "kmshost"), (PRODUCT, "--role=kmshost"), (PRODUCT,)):
        said = slmgr(home, "/ipk", "-", *words, stdin=key.text() + "\n")
        assert (said.code, said.json["product"], said.json["replaced"]) == (0, PRODUCT, None)
    said = slmgr(home, "/ipk", "-", "--role", "client", stdin=mak.text() + "\n")
    assert (said.code, said.json["code"]) == (1, "product-not-installed")
    other = home.authority.key("kms-host")
    said = slmgr(home, "/ipk", "-", stdin=other.text() + "\n")
    assert said.json["replaced"] == key.label


@pytest.mark.parametrize(
    ("switch", "value", "code"),
    [
        ("/sri", "14", 2),
        ("/sri", "43200", 0),
        ("/sri", "43201", 2),
        ("/sai", "14", 2),
        ("/sai", "15", 0),
        ("/sai", "16", 0),
        ("/sai", "43201", 2),
        ("/sprt", "0", 2),
        ("/sprt", "65535", 0),
        ("/sprt", "65536", 2),
        ("/sprt", "many", 2),
        ("/sri", "-5", 2),
    ],
)
def test_settings_have_bounds(home: Home, switch: str, value: str, code: int) -> None:
    said = slmgr(home, switch, value)
    assert said.code == code, said
    if code:
        assert said.json["code"] == "usage"


def test_a_renewal_interval_above_half_the_record_lifetime_is_taken_with_a_warning(home: Home) -> None:
    """K6, K4: 15 days are half of 30."""
    assert slmgr(home, "/sri", str(15 * 1440)).json["warning"] == ""
    said = slmgr(home, "/sri", str(15 * 1440 + 1))
    assert said.code == 0
    assert "30 days" in said.json["warning"]
    assert "warning:" in said.err


def test_information_is_about_the_host_and_dlv_prints_both(home: Home, tmp_path: Path) -> None:
    text = text_of(home, "/dli")
    for label in (
        "Key Management Service is activated until",
        "Current count: ",
        "Listening on Port: ",
        "Total requests received: ",
        "Failed requests received: ",
        "Requests with License Status Unlicensed: ",
        "Requests with License Status Licensed: ",
        "Requests with License Status Initial grace: ",
        "Requests with License Status Non-genuine grace: ",
        "Requests with License Status Notification: ",
    ):
        assert label in text
    assert text_of(home, "/xpr").startswith("KMS host: activated until ")
    assert slmgr(home, "/dlv").json["client"] == []
    assert slmgr(home, "/dli", "--role", "client").json["code"] == "product-not-installed"

    file = tmp_path / "facts.json"
    file.write_text(json.dumps(facts(77)))
    home.environ["VOLACT_MACHINE_FACTS"] = str(file)
    words = ("client", "install", str(home.product_file), f"--root={home.pub}")
    assert inprocess.run("volact", *words, environ=home.environ).code == 0
    said = slmgr(home, "/dlv")
    assert [one["product"] for one in said.json["client"]] == [PRODUCT]
    assert said.json["host"] == home.host
    text = text_of(home, "/dlv")
    assert f"KMS host id: {home.host}" in text
    assert "License Status: " in text
    assert slmgr(home, "/dli").json["host"] == home.host
    assert slmgr(home, "/dli", "--role=client").json["product"] == PRODUCT
    assert slmgr(home, "/xpr").json["product"] == PRODUCT, "a client's own switch"
    assert slmgr(home, "/dli", PRODUCT).code == 2, "a host takes no product"
