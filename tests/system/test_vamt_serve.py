"""VAMT as a process: HTTPS, tokens, stopping in the middle of work, one service a folder, an ordinary user (V6, V9)."""

import http.client
import json
import os
import signal
import socket
import ssl
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from client.machine import PARTS, Machine
from client.publisher import Publisher
from vamt.collecting.standins import PRIVATE
from vamt_process import Home, Vamt
from volact import clock

pytestmark = pytest.mark.sockets


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Home:
    home = Home(tmp_path_factory.mktemp("home"))
    home.set_up()
    return home


@pytest.fixture(scope="module")
def ada(home: Home) -> str:
    return home.token("ada", "key-administrator")


@pytest.fixture(scope="module")
def serving(home: Home) -> Iterator[Vamt]:
    with Vamt(home) as serving:
        yield serving


def test_what_is_done_by_the_api_the_commands_see_and_the_other_way_round(
    home: Home, serving: Vamt, ada: str
) -> None:
    added = serving.call("POST", "/v1/machines", {"name": "web1.example.com"}, token=ada)
    assert (added.status, added.json["new"]) == (201, True)
    home.run("machine", "add", "web2.example.com", "--group", "Front/end")
    by_command = home.run("machine", "list")
    by_api = serving.call("GET", "/v1/machines", token=ada).json
    assert by_api == by_command
    assert [one["name"] for one in by_api["rows"]] == ["web1", "web2"]
    assert serving.call("DELETE", "/v1/groups/Front%2Fend", token=ada).status == 200
    assert home.run("group", "list") == []
    log = [(one["who"], one["action"], one["result"]) for one in home.run("log")]
    assert ("ada", "change-groups", "ok") in log


def test_a_large_answer_and_a_file_come_whole(serving: Vamt, ada: str) -> None:
    document = serving.call("GET", "/v1/openapi.json")
    assert (document.status, document.json["openapi"][:3]) == (200, "3.1")
    table = serving.call("GET", "/v1/tables/machines?kind=csv", token=ada)
    assert table.status == 200
    assert table.body.startswith(b"id,name,domain")
    assert "attachment" in table.headers["content-disposition"]


def test_a_file_comes_in_over_https(serving: Vamt, ada: str) -> None:
    """2 MiB of XML, which is more than any other body may have."""
    machines = "".join(f"<Computer Name='pc{number}'>{' ' * 1100}</Computer>" for number in range(2000))
    xml = f"<SoftwareLicensingData><Computers>{machines}</Computers></SoftwareLicensingData>".encode()
    assert len(xml) > 2 * 1024 * 1024
    found = serving.call("POST", "/v1/imports?name=old.cil", xml, token=ada)
    assert found.status == 200
    assert found.json == {"kind": "cil-xml", "sightings": 2000, "machines": 2000, "new": 2000, "dropped": 0}
    too_large = serving.call("POST", "/v1/groups", xml, token=ada)
    assert (too_large.status, too_large.json["code"]) == (413, "body-too-large")


def test_tokens_that_were_revoked_or_never_made_are_refused_by_the_running_service(
    home: Home, serving: Vamt
) -> None:
    token = home.token("zoe", "viewer", "--label", "a script", "--days", "1")
    assert serving.call("GET", "/v1/me", token=token).json["role"] == "viewer"
    (made,) = [one for one in home.run("token", "list") if one["user"] == "zoe"]
    home.run("token", "revoke", made["id"])
    refused = serving.call("GET", "/v1/me", token=token)
    assert (refused.status, refused.json["code"]) == (401, "token-refused")
    assert serving.call("GET", "/v1/me").status == 401
    assert token.encode() not in (home.folder / "vamt" / "vamt.db").read_bytes()
    assert token not in (home.folder / "serve.log").read_text()


def test_a_second_service_of_the_same_folder_is_refused(home: Home, serving: Vamt) -> None:
    said = home.run("serve", "--listen", "127.0.0.1:0", code=1)
    assert said["code"] == "in-use"


def test_plain_http_and_old_tls_get_no_answer(serving: Vamt) -> None:
    with socket.create_connection(("127.0.0.1", serving.port), 10) as plain:
        plain.sendall(b"GET /v1/me HTTP/1.1\r\nHost: localhost\r\n\r\n")
        assert b"200" not in plain.recv(1000)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    context.minimum_version = context.maximum_version = ssl.TLSVersion.TLSv1_2
    with (
        socket.create_connection(("127.0.0.1", serving.port), 10) as raw,
        context.wrap_socket(raw, server_hostname="localhost") as secured,
    ):
        assert secured.version() == "TLSv1.2"


@pytest.fixture
def silent() -> Iterator[int]:
    """The port of a server that takes connections and says nothing."""
    with socket.create_server(("127.0.0.1", 0), backlog=64) as server:
        yield server.getsockname()[1]


def test_a_stop_ends_what_is_under_way_and_keeps_it(tmp_path: Path, silent: int) -> None:
    """A machine that hangs is being asked when SIGTERM comes: the service ends at once, and the collection can go on."""
    home = Home(tmp_path / "home")
    home.set_up()
    key = "ssh-ed25519 " + "A" * 68
    home.run("machine", "add", "hangs.example.com", "--address", "127.0.0.1", "--port", str(silent))
    home.run("machine", "trust", "hangs.example.com", "--host-key", key)
    own = tmp_path / "id"
    own.write_text(PRIVATE)
    own.chmod(0o600)
    home.run("login", "set", "--user", "root", "--key-file", str(own))
    token = home.token("ada", "key-administrator")
    with Vamt(home) as serving:
        begun = serving.call(
            "POST", "/v1/collections", {"selection": {"all": True}, "limit": 600}, token=token
        )
        assert begun.status == 202
        at = begun.headers["location"]
        until = time.monotonic() + 30
        while serving.call("GET", at, token=token).json["state"] == "waiting" and time.monotonic() < until:
            time.sleep(0.05)
        assert serving.call("GET", at, token=token).json["state"] == "running"
        assert serving.end() == 0
    (entry,) = [one for one in home.run("log") if one["action"] == "collect"]
    assert (entry["result"], entry["rows"]) == ("stopped", 0)
    with Vamt(home) as serving:
        went_on = serving.call("POST", "/v1/collections", {"resume": True, "limit": 600}, token=token)
        assert went_on.status == 202
        stopped = serving.call("POST", went_on.headers["location"] + "/stop", token=token)
        assert stopped.status == 202
        until = time.monotonic() + 30
        while (
            state := serving.call("GET", went_on.headers["location"], token=token).json["state"]
        ) == "running" and time.monotonic() < until:
            time.sleep(0.05)
        assert state == "stopped"


def test_what_is_due_is_done_beside_the_service(tmp_path: Path) -> None:
    """A schedule that was missed a thousand times is done once, for the person who made it."""
    home = Home(tmp_path / "home")
    home.set_up()
    home.run("machine", "add", "nowhere.invalid")
    home.run("schedule", "add", "nightly", "collect", "--all", "--every", "15m")
    _make_due(home.folder / "vamt" / "vamt.db")
    with Vamt(home) as serving:
        until = time.monotonic() + 60
        while home.run("schedule", "list")[0]["result"] in (None, "running") and time.monotonic() < until:
            time.sleep(0.2)
        assert serving.end() == 0
    (made,) = home.run("schedule", "list")
    assert made["result"] == "ok"
    assert len([one for one in home.run("log") if one["action"] == "collect"]) == 1


def _make_due(database: Path) -> None:
    """Let the schedule's first time be over: nobody waits for 15 minutes."""
    from volact import db

    engine = db.connect(database)
    with db.transaction(engine) as tx:
        tx.exec_driver_sql("UPDATE schedule SET next = 1000000000")
    engine.dispose()


def test_a_wrong_passphrase_is_found_at_the_start(tmp_path: Path) -> None:
    home = Home(tmp_path / "home")
    home.set_up()
    right, wrong = tmp_path / "right", tmp_path / "wrong"
    for file, words in ((right, "the right words"), (wrong, "other words")):
        file.write_text(words)
        file.chmod(0o600)
    home.run("seal", "--passphrase", f"@{right}")
    said = home.run("serve", "--listen", "127.0.0.1:0", "--passphrase", f"@{wrong}", code=1)
    assert said["code"] == "passphrase-wrong"


# --- V9 -------------------------------------------------------------------------------------------------------------

ORDINARY = 65534
_PROGRAM = """
import contextlib, importlib, io, json, os, sys
from volact import cli
def run(*words):
    said = io.StringIO()
    with contextlib.redirect_stdout(said):
        assert cli.main(["vamt", *words, "--json"]) == 0
    print(json.dumps(json.loads(said.getvalue())), flush=True)
for name in ("vamt.serving", "vamt.cli", "client.check", "client.cli"):
    importlib.import_module(f"volact.{name}")
import alembic.command, alembic.script, logging.config, sqlalchemy.dialects.sqlite
"localhost".encode("idna")
warm, system, pub = sys.argv[1:]
os.environ["VOLACT_HOME"] = warm
for words in (["init"], ["token", "add", "ada", "--role", "viewer"], ["machine", "list"]):
    run(*words)
del os.environ["VOLACT_HOME"]
os.setgroups([])
os.setgid(65534)
os.setuid(65534)
print(json.dumps({"uid": os.geteuid()}), flush=True)
os.environ["VOLACT_HOME"] = system
os.environ["VOLACT_MACHINE_FACTS"] = system + "/facts.json"
import volact
licence = volact.check("com.example.cad", root=pub, allow_lab=True)
print(json.dumps({"state": licence.state, "reason": licence.reason}), flush=True)
del os.environ["VOLACT_HOME"]
for words in (["init"], ["token", "add", "ada", "--role", "viewer"]):
    run(*words)
sys.exit(cli.main(["vamt", "serve", "--listen", "127.0.0.1:0", "--json"]))
"""


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become somebody else")
def test_an_ordinary_user_sets_vamt_up_and_serves_it_beside_a_client() -> None:
    """Their own HOME and no rights, on a machine whose client is root's: both work, and neither touches the other's."""
    # Not in pytest's folder, which each pytest that starts closes to everybody else.
    with tempfile.TemporaryDirectory(prefix="volact-v9-") as folder:
        _beside(Path(folder))


def _beside(tmp_path: Path) -> None:
    machine = Machine(tmp_path / "system", Publisher(iat=int(time.time()) - 1000))
    machine.clock.wall, machine.clock.since_boot = int(time.time()), clock.SystemClock().running()
    machine.activated()
    (tmp_path / "system" / "facts.json").write_text(json.dumps(PARTS))
    before = {path: path.stat().st_mtime_ns for path in sorted((tmp_path / "system").rglob("*"))}
    home = tmp_path / "user"
    home.mkdir()
    os.chown(home, ORDINARY, ORDINARY)
    tmp_path.chmod(0o755)
    lines = _as_somebody(home, tmp_path / "warm", tmp_path / "system", machine.publisher.pub)
    who, licence, set_up, made, me = lines
    assert who == {"uid": ORDINARY}
    assert (licence["state"], licence["reason"]) == (1, "activated"), "the client beside"
    assert set_up["folder"] == str(home / ".local" / "share" / "volact" / "vamt")
    assert me == {"name": "ada", "role": "viewer"}
    assert made["user"] == "ada"
    assert {path: path.stat().st_mtime_ns for path in sorted((tmp_path / "system").rglob("*"))} == before
    assert {path.stat().st_uid for path in home.rglob("*")} == {ORDINARY}


def _as_somebody(home: Path, warm: Path, system: Path, pub: str) -> list[dict[str, object]]:
    """What a process says that has loaded all and then gives its rights away: no folder of root's is opened up for it."""
    environ = {"HOME": str(home), "PATH": os.environ.get("PATH", ""), "PYTHONPATH": os.pathsep.join(sys.path)}
    words = [sys.executable, "-c", _PROGRAM, str(warm), str(system), pub]
    said: list[dict[str, object]] = []
    with subprocess.Popen(
        words, env=environ, cwd=home, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout
        assert process.stderr
        for line in process.stdout:
            found = json.loads(line)
            said.append(found)
            if "listening" in found:
                said[-1] = _me(str(found["listening"]), Path(str(said[-3]["folder"])), str(said[-2]["token"]))
                process.send_signal(signal.SIGTERM)
        log = process.stderr.read()
        assert process.wait(60) == 0, log
    return said[3:]  # without what the warming up said


def _me(url: str, folder: Path, token: str) -> dict[str, object]:
    """Who VAMT says that the token's person is, over HTTPS."""
    context = ssl.create_default_context(cafile=str(folder / "tls" / "certificate.pem"))
    port = int(url.rpartition(":")[2])
    connection = http.client.HTTPSConnection("localhost", port, timeout=60, context=context)
    connection.request("GET", "/v1/me", headers={"Authorization": f"Bearer {token}"})
    me = json.loads(connection.getresponse().read())
    connection.close()
    return {name: me[name] for name in ("name", "role")}
