"""The authority as a process: commands, HTTPS, stopping, what commands change under a running service, secrets."""

import json
import os
import re
import socket
import ssl
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from authority_process import Home, Serving
from volact import calls
from volact.protocol import keys
from volact.protocol.problems import Unreachable
from world import PRODUCT, claims_of, key_signer, remaining

pytestmark = pytest.mark.sockets


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Home:
    home = Home(tmp_path_factory.mktemp("home"))
    home.set_up()
    # After init nothing but a new root or issuer needs the root key.
    (home.folder / "authority" / "keys" / "root.pem").unlink()
    return home


@pytest.fixture(scope="module")
def serving(home: Home) -> Iterator[Serving]:
    with Serving(home) as serving:
        yield serving


def now() -> int:
    return int(time.time())


def test_a_machine_is_activated_over_https_and_the_count_is_told(home: Home, serving: Serving) -> None:
    key, machine = home.key(activations=2), home.machine()
    with serving.caller() as caller:
        request = machine.request(key, now=now())
        answer = caller.post("/v1/requests", request)
        assert answer.status == 200
        assert home.confirmation(answer.bundle())["sub"] == machine.cmid
        assert caller.post("/v1/requests", request).body == answer.body
        statement = caller.post("/v1/requests", remaining(key, home.pub, now=now())).bundle()
        assert claims_of(statement["token"])["remaining"] == 1
        rows = {"requests": [home.machine().request(key, now=now()) for _ in range(2)]}
        answers = json.loads(caller.post("/v1/requests", rows).body)["answers"]
        assert [one.get("code") for one in answers] == [None, "no-activations-left"]


def test_a_running_service_sees_commands_within_a_second(home: Home, serving: Serving) -> None:
    """A new key, a top-up and blocks, without a restart."""
    key, machine = home.key(activations=1), home.machine()
    with serving.caller() as caller:
        first = home.confirmation(caller.post("/v1/requests", machine.request(key, now=now())).bundle())
        late = home.machine()
        assert (
            caller.post("/v1/requests", late.request(key, now=now())).bundle()["code"]
            == "no-activations-left"
        )
        home.run("key", "raise", key.label, "3")
        assert caller.post("/v1/requests", late.request(key, now=now())).status == 200
        before = caller.get("/v1/status")
        home.run("activation", "block", first["act"])
        assert (
            caller.post("/v1/requests", machine.request(key, now=now())).bundle()["code"] == "machine-blocked"
        )
        home.run("key", "block", key.label)
        assert (
            caller.post("/v1/requests", home.machine().request(key, now=now())).bundle()["code"]
            == "key-blocked"
        )
        time.sleep(1.3)
        after = caller.get("/v1/status", {"If-None-Match": before.headers["etag"]})
        assert after.status == 200
        assert f"act {first['act']} all ".encode() in after.body
        assert caller.get("/v1/status", {"If-None-Match": after.headers["etag"]}).status == 304


def test_a_running_service_takes_a_changed_setting_and_outlives_a_wrong_one(
    home: Home, serving: Serving
) -> None:
    """DESIGN 5: settings are read again every second; a typo is an event, and what held goes on holding (M10)."""
    key, file = home.key(activations=10), home.folder / "authority.toml"

    def asked(caller: calls.Caller) -> object:
        return caller.post("/v1/requests", home.machine().request(key, now=now())).bundle().get("code")

    with serving.caller() as caller:
        try:
            file.write_text("key_rate = 1\nkey_burst = 1\n")
            time.sleep(1.5)
            assert [asked(caller), asked(caller)] == [None, "too-many-requests"]
            file.write_text("key_rate = 1\nkey_burts = 100\n")
            time.sleep(1.5)
            assert asked(caller) == "too-many-requests"
            assert "did you mean 'key_burst'" in (home.folder / "serve.log").read_text()
            file.unlink()
            time.sleep(1.5)
            assert asked(caller) is None
        finally:
            file.unlink(missing_ok=True)


def test_only_the_named_tls_key_is_taken(home: Home, serving: Serving) -> None:
    with calls.Caller(serving.url, ["A" * 43]) as caller, pytest.raises(Unreachable) as refused:
        caller.get("/v1/root")
    assert refused.value.refusal.code == "authority-untrusted"


def test_old_tls_and_plain_text_are_refused(serving: Serving) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    context.set_ciphers("DEFAULT:@SECLEVEL=0")
    context.minimum_version = ssl.TLSVersion.MINIMUM_SUPPORTED
    with pytest.warns(DeprecationWarning, match="TLSv1_1"):
        context.maximum_version = ssl.TLSVersion.TLSv1_1
    with socket.create_connection(("127.0.0.1", serving.port), 5) as plain, pytest.raises(OSError):
        context.wrap_socket(plain)
    with socket.create_connection(("127.0.0.1", serving.port), 5) as plain:
        plain.sendall(b"GET /v1/root HTTP/1.1\r\nHost: x\r\n\r\n")
        assert b"token" not in plain.recv(1000)


def test_a_caller_that_hangs_up_costs_nobody_else(home: Home, serving: Serving) -> None:
    key = home.key(activations=5)
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    requests = [home.machine().request(key, now=now()) for _ in range(4)]
    for request in requests:
        body = json.dumps(request).encode()
        with context.wrap_socket(socket.create_connection(("127.0.0.1", serving.port), 5)) as connection:
            head = f"POST /v1/requests HTTP/1.1\r\nHost: x\r\nContent-Length: {len(body)}\r\n\r\n"
            connection.sendall(head.encode() + body)
    with serving.caller() as caller:
        for request in requests:
            assert caller.post("/v1/requests", request).status == 200
    assert home.run("key", "show", key.label)["activated"] == 4


def test_a_taken_port_is_said_and_the_first_goes_on(home: Home, serving: Serving) -> None:
    refused = home.run("serve", "--listen", f"127.0.0.1:{serving.port}", code=4)
    assert refused["code"] == "port-taken"
    assert str(serving.port) in refused["detail"]
    with serving.caller() as caller:
        assert caller.get("/v1/root").status == 200


@pytest.mark.parametrize("signal", ["SIGTERM", "SIGINT"])
def test_it_stops_cleanly_and_says_where_it_listens(home: Home, signal: str) -> None:
    import signal as signals

    process = subprocess.Popen(
        [sys.executable, "-m", "volact", "authority", "serve", "--listen", "127.0.0.1:0"],
        env=home.environ,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        assert process.stderr
        lines = [process.stderr.readline() for _ in range(2)]
        said = next(line for line in lines if not line.startswith("{"))
        assert re.fullmatch(r"listening on https://127\.0\.0\.1:\d+\n", said)
        url = said.split()[-1]
        with calls.Caller(url, home.pins) as caller:
            assert caller.get("/v1/root").status == 200
        process.send_signal(getattr(signals, signal))
        out, err = process.communicate(timeout=20)
        assert (process.returncode, out) == (0, "")
        assert "Traceback" not in err
    finally:
        if process.poll() is None:
            process.kill()
            process.communicate()


def test_a_request_file_is_answered_on_a_medium(home: Home) -> None:
    key, machine = home.key(), home.machine()
    request, response = home.folder / "ask.json", home.folder / "answer.json"
    request.write_text(json.dumps(machine.request(key, now=now())))
    home.run("answer", str(request), "-o", str(response))
    assert home.confirmation(json.loads(response.read_text()))["sub"] == machine.cmid
    first = response.read_bytes()
    home.run("answer", str(request), "-o", str(response))
    assert response.read_bytes() == first

    host_key, host = home.key("kms-host"), home.machine()
    rows = [home.machine().request(key, now=now()), remaining(key, home.pub, now=now()), {"x": 1}]
    rows.append(host.request(host_key, op="host", now=now()))
    request.write_text(json.dumps({"requests": rows}))
    said = home.run("answer", str(request), "-o", str(response))
    assert (said["answered"], said["refused"]) == (3, ["request-malformed"])
    answers = json.loads(response.read_text())["answers"]
    delegation = claims_of(answers[3]["token"])
    assert delegation["exp"] - delegation["iat"] == 400 * 86400

    response.unlink()
    request.write_text(json.dumps(home.machine().request(home.key("retail"), "host", now=now())))
    assert home.run("answer", str(request), "-o", str(response), code=1)["code"] == "key-wrong-kind"
    assert not response.exists()
    request.write_bytes(b"\x00\xff nonsense")
    assert home.run("answer", str(request), "-o", str(response), code=1)["code"] == "request-malformed"
    assert (
        home.run("answer", str(home.folder / "none"), "-o", str(response), code=4)["code"] == "not-readable"
    )


def test_a_key_that_others_can_read_is_not_used(home: Home) -> None:
    keys_folder = home.folder / "authority" / "keys"
    assert {path.stat().st_mode & 0o777 for path in keys_folder.iterdir()} == {0o600}
    assert (home.folder / "authority" / "tls" / "key.pem").stat().st_mode & 0o777 == 0o600
    issuer = keys_folder / "issuer.pem"
    issuer.chmod(0o640)
    try:
        assert home.run("serve", "--listen", "127.0.0.1:0", code=4)["code"] == "key-file-exposed"
        assert home.run("key", "list", code=4)["code"] == "key-file-exposed"
    finally:
        issuer.chmod(0o600)


def test_no_secret_is_anywhere_but_in_the_keys_own_file(tmp_path: Path) -> None:
    """G18: planted keys, private halves and seeds in the database, logs, process lists and error bodies."""
    home = Home(tmp_path / "home")
    home.folder.mkdir()
    home.set_up()
    file = tmp_path / "keys.csv"
    home.run(
        "key", "issue", "--product", PRODUCT, "--customer", "Contoso", "--kind", "mak", "--activations", "5",
        "--copies", "30", "--csv", str(file),
    )  # fmt: skip
    assert file.stat().st_mode & 0o777 == 0o600
    texts = [line.split(",")[0] for line in file.read_text().splitlines()[1:]]
    made = [keys.read(text) for text in texts]
    found = bytearray()
    with Serving(home) as serving, serving.caller() as caller:
        for key in made:
            assert isinstance(key, keys.ProductKey)
            for bundle in (
                home.machine().request(key, now=now()),
                {"proof": key.text()},
                {"token": key.text(), "proof": key.text()},
            ):
                found += caller.post("/v1/requests", bundle).body
        for process in Path("/proc").iterdir():
            if process.name.isdigit():
                try:
                    found += (process / "cmdline").read_bytes()
                except OSError:
                    continue
        found += home.run("key", "list").__repr__().encode()
        # The live files, journal included.
        for path in (home.folder / "authority").glob("authority.db*"):
            found += path.read_bytes()
    found += (home.folder / "serve.log").read_bytes()
    for path in (home.folder / "authority").glob("authority.db*"):
        found += path.read_bytes()
    pem = [
        path.read_text()
        for path in (home.folder / "authority").rglob("*.pem")
        if "certificate" not in path.name
    ]
    secrets: list[bytes] = ["".join(text.splitlines()[1:-1]).encode()[20:60] for text in pem]
    for key in made:
        assert isinstance(key, keys.ProductKey)
        scalar = key.private_key(home.pub).private_numbers().private_value
        secrets += [
            key.text().encode(),
            key.text()[:-6].encode(),
            key.symbols.encode(),
            key.symbols[:16].encode(),
            keys._secret_bytes(key.symbols),
            scalar.to_bytes(32, "big"),
            f"{scalar:x}".encode(),
        ]
    assert len(secrets) > 200
    assert not [secret for secret in secrets if secret in found]
    assert (
        key_signer(made[0], home.pub).kid.encode() in found
    )  # the public name is, so the search does search


def test_a_home_that_cannot_be_written(tmp_path: Path) -> None:
    if os.geteuid() == 0:
        home = Home(Path("/proc/volact-cannot-be-here"))
    else:
        tmp_path.chmod(0o500)
        home = Home(tmp_path / "home")
    assert home.run("init", code=4)["code"] in ("not-writable", "not-readable")


def test_without_an_authority_commands_say_what_to_do(tmp_path: Path) -> None:
    home = Home(tmp_path)
    for words in (("key", "list"), ("serve", "--listen", "127.0.0.1:0"), ("product", "list")):
        assert home.run(*words, code=1)["code"] == "not-set-up"
