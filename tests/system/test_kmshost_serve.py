"""The KMS host as a process: activated at a real authority, called over TLS, changed while it runs."""

import contextlib
import json
import socket
import sqlite3
import ssl
import threading
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest

import authority_process
import postgres
from authority_process import PRODUCT_FILE, Serving
from kmshost_process import Connection, Home, Host, checkin
from polling import until
from volact.children import free_port
from volact.kmshost.api import MAX_BODY
from volact.protocol.problems import Unreachable
from world import DAY, PRODUCT, Machine, claims_of, new_id

pytestmark = pytest.mark.sockets

POLICY = '[policy]\nthresholds = [{ count = "machines", minimum = 3 }]\n'
WAIT = 30
LOOKS = 1.2
"""Seconds in which a running service has looked twice at what commands have changed."""


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> authority_process.Home:
    home = authority_process.Home(tmp_path_factory.mktemp("authority"))
    home.set_up(POLICY)
    return home


@pytest.fixture(scope="module")
def publisher(authority: authority_process.Home) -> Iterator[Serving]:
    with Serving(authority) as serving:
        yield serving


@pytest.fixture
def home(authority: authority_process.Home, tmp_path: Path) -> Home:
    return Home(tmp_path / "host", authority)


def test_from_init_to_the_first_lease(home: Home, publisher: Serving) -> None:
    """K1, K2, K9: not activated, activated while it serves, below the threshold, then enough."""
    home.init()
    machines = [Machine(home.pub) for _ in range(3)]
    with Host(home) as host, host.connect() as connection:
        assert connection.introduction()["code"] == "host-not-activated"
        assert home.run("status")["activated"] is False
        assert home.run("activate", "--authority", publisher.url, code=1)["code"] == "no-key-installed"
        home.install_key(home.authority.key("kms-host"))
        done = home.run("activate", "--authority", publisher.url)
        assert done["products"] == [PRODUCT]
        until(lambda: "token" in connection.introduction())
        for count, machine in enumerate(machines[:2], start=1):
            refused = connection.check_in(machine)
            assert (refused["code"], refused["count"], refused["required"]) == (
                "count-insufficient",
                count,
                3,
            )
            assert (refused["renewal"], refused["retry"]) == (7 * DAY, 7200)
        lease = connection.lease(connection.check_in(machines[2]))
        assert lease["sub"] == machines[2].cmid
        assert lease["exp"] - lease["iat"] == 180 * DAY
        assert connection.lease(connection.check_in(machines[0]))["sub"] == machines[0].cmid
    status = home.run("status")
    (product,) = status["products"]
    assert (product["count"], product["required"], product["served"]) == (3, 3, True)
    assert status["requests"]["by_outcome"] == {"count-insufficient": 2, "ok": 2}
    assert status["requests"]["by_state"]["Initial grace"] == 4
    listed = home.run("clients")
    assert [row["refused"] for row in listed] == [None, "count-insufficient", None]
    assert [row["cmid"] for row in listed] == [one.cmid for one in machines]
    assert home.run("clients", "--limit", "1", "--after", str(listed[1]["row"])) == listed[2:]
    events = home.run("events", "--since", "1h")
    # Before it was activated it refused to say who it is: noted beside the requests.
    refused_itself = [one for one in events if one["result"] == "host-not-activated"]
    answered = [one["result"] for one in events if one not in refused_itself]
    assert answered == ["count-insufficient", "count-insufficient", "ok", "ok"]
    assert len(refused_itself) <= 1
    assert {one["event"] for one in events} == {12290}
    log = (home.folder / "serve.log").read_text()
    assert log.count('"event_id":12290') == len(events)


def test_a_delegation_is_extended_while_the_host_serves_and_brings_a_new_product_version(
    home: Home, publisher: Serving, authority: authority_process.Home
) -> None:
    """K18, K21: the running service takes up what `extend` brought."""
    home.set_up(publisher.url)
    before = home.run("status")
    with Host(home) as host, host.connect() as connection:
        old = connection.introduction()["chain"][-1]
        file = authority.folder / "product.toml"
        file.write_text(PRODUCT_FILE + POLICY + 'validity = "90d"\n')
        authority.run("product", "add", str(file))
        time.sleep(1.1)  # a delegation of another second
        home.run("extend", "--authority", publisher.url)
        assert home.run("status")["products"][0]["version"] == before["products"][0]["version"] + 1
        new = until(lambda: (found := connection.introduction()["chain"][-1]) != old and found)
        assert claims_of(new)["exp"] > claims_of(old)["exp"]
        for machine in [Machine(home.pub) for _ in range(2)]:
            connection.check_in(machine)
        lease = connection.lease(connection.check_in(Machine(home.pub)))
        assert lease["exp"] - lease["iat"] == 90 * DAY


def test_the_interval_settings_are_taken_up_by_a_running_host(home: Home) -> None:
    """K6: within a second or so; a wrong value changes nothing and is said once."""
    home.set_up()
    with Host(home) as host, host.connect() as connection:
        file = home.folder / "kmshost.toml"
        file.write_text("renewal_minutes = 60\nretry_minutes = 20\n")
        machine = Machine(home.pub)
        until(lambda: connection.check_in(machine).get("retry") == 1200)
        file.write_text("retry_minutes = 14\n")
        until(lambda: "retry_minutes is 0, or 15" in (home.folder / "serve.log").read_text())
        refused = connection.check_in(machine)
        assert (refused["renewal"], refused["retry"]) == (3600, 1200)


def test_a_new_port_is_listened_on_before_the_old_one_is_let_go(home: Home) -> None:
    """K16: under load no request fails; who calls by the port that is announced is always answered."""
    home.set_up()
    with Host(home) as host:
        ports, failed, answered = [host.port], [], [0]
        stop = threading.Event()

        def load() -> None:
            while not stop.is_set():
                port = ports[-1]
                try:
                    with Connection(home, port) as connection:
                        assert "token" in connection.introduction()
                    answered[0] += 1
                except Unreachable as error:
                    if port == ports[-1] or not error.refusal.detail:
                        failed.append((port, ports[-1], error.refusal))

        threads = [threading.Thread(target=load) for _ in range(4)]
        for thread in threads:
            thread.start()
        try:
            for _ in range(3):
                wanted = free_port()
                move(home, wanted)
                until(partial(answers, home, wanted))
                ports.append(wanted)
                enough = answered[0] + 20
                while answered[0] < enough:
                    time.sleep(0.05)
        finally:
            stop.set()
            for thread in threads:
                thread.join()
        assert not failed
        until(lambda: not answers(home, ports[0]))


def move(home: Home, port: int) -> None:
    (home.folder / "kmshost.toml").write_text(f"port = {port}\n")


def answers(home: Home, port: int) -> bool:
    try:
        with Connection(home, port) as connection:
            return "token" in connection.introduction()
    except Unreachable:
        return False


def test_a_taken_port_is_said_and_the_old_one_goes_on(home: Home) -> None:
    """K16, rule E: event 12291 in log and store, once each time that the port is wanted."""
    home.set_up()
    with socket.socket() as taken, Host(home) as host, host.connect() as connection:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        for many in (1, 2):
            move(home, port)
            until(lambda many=many: len(home.run("events")) == many)  # type: ignore[misc]
            time.sleep(LOOKS)
            assert len(home.run("events")) == many
            if many == 1:
                (home.folder / "kmshost.toml").unlink()
                time.sleep(LOOKS)
        assert "token" in connection.introduction()
        where = f"127.0.0.1:{port}"
        assert {(one["event"], one["result"], one["host"]) for one in home.run("events")} == {
            (12291, "port-taken", where)
        }
        lines = [one for one in (home.folder / "serve.log").read_text().splitlines() if "12291" in one]
        assert len(lines) == 2
        said = json.loads(lines[0])
        assert (said["event"], said["host"], said["result"]) == ("host could not move", where, "port-taken")
        assert where.replace(":", " port ") in said["detail"]
        taken.close()
        until(lambda: '"moved"' in (home.folder / "serve.log").read_text())


def test_a_broken_document_in_the_store_is_said_once_and_holds_up_no_setting(home: Home) -> None:
    home.set_up()
    log, database = home.folder / "serve.log", home.folder / "kmshost" / "kmshost.db"

    def said() -> int:
        return log.read_text().count("A stored document does not hold")

    with Host(home) as host, host.connect() as connection:
        for many in (1, 2):
            with contextlib.closing(sqlite3.connect(database)) as store, store:
                (bundle,) = store.execute("SELECT bundle FROM product").fetchone()
                broken = json.loads(bundle)
                broken["token"] = broken["token"][:-4] + "AAAA"
                store.execute("UPDATE product SET bundle = ?, ver = ver + 1", (json.dumps(broken),))
            until(lambda many=many: said() == many)  # type: ignore[misc]
            (home.folder / "kmshost.toml").write_text(f"retry_minutes = {20 + many}\n")
            machine = Machine(home.pub)
            until(lambda many=many, one=machine: connection.check_in(one).get("retry") == (20 + many) * 60)  # type: ignore[misc]
            time.sleep(LOOKS)
            assert said() == many
            with contextlib.closing(sqlite3.connect(database)) as store, store:
                store.execute("UPDATE product SET bundle = ?, ver = ver + 1", (bundle,))
            time.sleep(LOOKS)


def test_a_host_that_cannot_start_says_why(home: Home) -> None:
    home.set_up()
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        where = f"127.0.0.1:{taken.getsockname()[1]}"
        refused = home.run("serve", "--listen", where, code=4)
    assert refused["code"] == "port-taken"
    (event,) = home.run("events")
    assert (event["event"], event["result"], event["host"]) == (12291, "port-taken", where)
    assert home.run("status")["listening"] is None
    (home.folder / "kmshost" / "kmshost.db").unlink()
    assert home.run("serve", "--listen", "127.0.0.1:0", code=4)["code"] == "not-readable"


@pytest.fixture(scope="module")
def running(
    authority: authority_process.Home, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[Home, Host]]:
    home = Home(tmp_path_factory.mktemp("running") / "host", authority)
    home.set_up()
    with Host(home) as host:
        yield home, host


def raw(port: int, request: bytes, *slowly: bytes) -> bytes:
    """Send bytes over TLS, the rest a piece a second; what comes back."""
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    with (
        socket.create_connection(("127.0.0.1", port), timeout=WAIT) as plain,
        context.wrap_socket(plain) as sock,
    ):
        with contextlib.suppress(OSError):  # a host may refuse and hang up before all of it was sent
            sock.sendall(request)
        got = b""
        try:
            for piece in slowly:
                time.sleep(1)
                sock.sendall(piece)
            while part := sock.recv(65536):
                got += part
                if b"\r\n\r\n" in got and b"}" in got:
                    break
        except OSError:
            pass
        return got


def post(body: bytes, length: int | None = None) -> bytes:
    head = f"POST /v1/leases HTTP/1.1\r\nHost: h\r\nContent-Length: {len(body) if length is None else length}\r\n\r\n"
    return head.encode() + body


@pytest.mark.parametrize(
    ("body", "status", "code"),
    [
        (b"", 400, "request-malformed"),
        (b"{}", 400, "request-malformed"),
        (b"[" * 100_000, 413, "body-too-large"),
        (b'{"token":"' + b"[" * 8000, 400, "request-malformed"),
        (b'{"token":' + b"[" * 16000, 400, "request-malformed"),
        (b"x" * 1024 * 1024, 413, "body-too-large"),
        (b'{"token":"x","jwk":{},"proof":"y"}', 400, "request-malformed"),
        (b'{"token":"x","jwk":{}}', 400, "document-refused"),
        (b"\xff\xfe", 400, "request-malformed"),
    ],
)
def test_bodies_that_are_no_check_in(running: tuple[Home, Host], body: bytes, status: int, code: str) -> None:
    answer = raw(running[1].port, post(body))
    if not answer and len(body) > MAX_BODY:
        return  # the connection was reset under a body that was refused, and its answer went with it
    assert answer.startswith(f"HTTP/1.1 {status}".encode())
    assert json.loads(answer.partition(b"\r\n\r\n")[2])["code"] == code


def test_a_body_that_comes_a_byte_a_second_is_given_up(running: tuple[Home, Host]) -> None:
    answer = raw(running[1].port, post(b"{", 100), *[b" "] * 4)
    assert json.loads(answer.partition(b"\r\n\r\n")[2])["code"] == "request-malformed"


@pytest.mark.parametrize(
    ("method", "path", "code"),
    [
        ("GET", "/", "not-found"),
        ("GET", "/v1/status", "not-found"),
        ("GET", "/v1/leases", "method-not-allowed"),
        ("POST", "/v1/host", "method-not-allowed"),
        ("DELETE", "/v1/host", "method-not-allowed"),
        ("POST", "/v1/requests", "not-found"),
    ],
)
def test_nothing_else_is_reachable(running: tuple[Home, Host], method: str, path: str, code: str) -> None:
    answer = raw(
        running[1].port, f"{method} {path} HTTP/1.1\r\nHost: h\r\nContent-Length: 0\r\n\r\n".encode()
    )
    assert b"application/problem+json" in answer
    assert json.loads(answer.partition(b"\r\n\r\n")[2])["code"] == code


def test_check_ins_that_are_not_for_here_are_refused_and_counted_nowhere(running: tuple[Home, Host]) -> None:
    home, host = running
    with host.connect() as connection:
        met = connection.introduction()
        machine = Machine(home.pub)

        def code(**claims: Any) -> str:
            return str(connection.caller.post("/v1/leases", checkin(machine, met, **claims)).bundle()["code"])

        assert code(nonce="x" * 43) == "nonce-refused"
        assert code(aud=Machine(home.pub).cmid) == "document-refused"
        assert code(product="com.example.other") == "product-not-served"
        assert code(pub="A" * 43) == "document-refused"
        before = home.run("clients")
        assert machine.cmid not in {row["cmid"] for row in before}
        req = new_id()
        for _ in range(3):  # enough, whatever ran before
            connection.check_in(Machine(home.pub))
        assert connection.lease(connection.check_in(machine, req=req))["req"] == req
        assert connection.check_in(machine, req=req, vm=True)["code"] == "request-id-reused"


def test_two_hosts_on_one_database_count_together(
    authority: authority_process.Home, tmp_path: Path, server: postgres.Postgres
) -> None:
    """K12: machines that call one host count for the other, which takes a nonce of either."""
    url = server.url(server.new_database())
    homes = [Home(tmp_path / name, authority, database=url) for name in ("one", "two")]
    for home in homes:
        home.set_up()
    with Host(homes[0]) as one, Host(homes[1]) as two, one.connect() as first, two.connect() as second:
        for connection in (first, second):
            assert connection.check_in(Machine(authority.pub))["code"] == "count-insufficient"
        lease = first.lease(first.check_in(Machine(authority.pub)))
        assert second.lease(second.check_in(Machine(authority.pub)))["iss"] != lease["iss"]
    assert [home.run("status")["products"][0]["count"] for home in homes] == [4, 4]
    assert homes[0].run("status")["settings"]["database"]["value"] == "set"


def test_a_laboratorys_clock_moves_a_running_host(home: Home) -> None:
    """K9: the end of the delegation is announced, and after it nothing is signed (PROTOCOL sections 8 and 9)."""
    clock = home.folder / "clock"
    clock.write_text("+0d")
    home.environ["VOLACT_LAB_CLOCK"] = str(clock)
    home.set_up()  # by file: 400 days
    with Host(home) as host, host.connect() as connection:
        assert "token" in connection.introduction()
        for offset, says in ((201, "in good time"), (301, "soon"), (361, "extend it now"), (401, "is over")):
            moved = home.folder / "moved"
            moved.write_text(f"+{offset}d")
            moved.rename(clock)
            until(lambda says=says: says in (home.folder / "serve.log").read_text())  # type: ignore[misc]
        assert connection.introduction()["code"] == "host-clock-wrong"
        assert home.run("status")["reason"] == "host-clock-wrong"
