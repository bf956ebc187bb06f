"""A host under connections that want nothing: they are ended, and nobody is kept out by them (K17, T20, F36)."""

import base64
import contextlib
import json
import secrets
import socket
import ssl
import time
from pathlib import Path

import pytest
import sqlalchemy as sa

from authority_process import Home as Publisher
from kmshost_process import Home, Host, wait_until
from volact import db
from volact.kmshost import schema
from world import Machine

pytestmark = pytest.mark.sockets

MANY = 1_200
"""More than the thousand of F36, and than what the host's backlog holds."""


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Home:
    """An activated host; each test serves it."""
    folder = tmp_path_factory.mktemp("pressed")
    publisher = Publisher(folder / "publisher")
    publisher.folder.mkdir()
    publisher.set_up()
    made = Home(folder / "host", publisher)
    made.set_up()
    return made


def test_a_thousand_idle_connections_keep_nobody_out_and_are_ended(home: Home) -> None:
    anybody = ssl.create_default_context()
    anybody.check_hostname, anybody.verify_mode = False, ssl.CERT_NONE
    with Host(home) as host, contextlib.ExitStack() as stack:

        def connection() -> socket.socket:
            return stack.enter_context(socket.create_connection(("127.0.0.1", host.port), timeout=30))

        idle = [connection() for _ in range(MANY)]
        silent, half = (stack.enter_context(anybody.wrap_socket(connection())) for _ in range(2))
        half.sendall(b"GET /v1/host HTTP/1.1\r\nHost: ")
        with host.connect() as met:
            assert met.check_in(Machine(home.pub))["code"] == "count-insufficient"
        # Without a handshake, without a request, with half of one: each ends, and not because the test waits no longer.
        for one in (idle[0], idle[-1], silent, half):
            with contextlib.suppress(ConnectionResetError):
                while one.recv(4096):
                    pass


def test_callers_who_ask_for_a_long_list_and_do_not_read_it_cost_no_memory(home: Home) -> None:
    """F36: a list of 19 MB would be 580 MB for thirty of them; the bound is 256 MiB in all."""
    names = sorted(base64.urlsafe_b64encode(secrets.token_bytes(32)).rstrip(b"=") for _ in range(320_000))
    body = b"".join(b"machine %s all 1\n" % name for name in names)
    engine = db.connect(home.folder / "kmshost" / "kmshost.db")
    with db.transaction(engine) as tx:
        row = {"id": 1, "issued": 5, "ver": 5, "head": "{}", "body": body, "fetched": int(time.time())}
        tx.execute(sa.insert(schema.status_list).values(row))
    engine.dispose()
    anybody = ssl.create_default_context()
    anybody.check_hostname, anybody.verify_mode = False, ssl.CERT_NONE
    with Host(home) as host, contextlib.ExitStack() as stack:

        def asking() -> ssl.SSLSocket:
            plain = stack.enter_context(socket.create_connection(("127.0.0.1", host.port), timeout=30))
            one = stack.enter_context(anybody.wrap_socket(plain))
            one.sendall(b"GET /v1/status HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
            return one

        deaf = [asking() for _ in range(30)]
        reader = asking()
        got = b"".join(iter(lambda: reader.recv(1 << 20), b""))
        assert got.endswith(b"\r\n\r\n{}\n" + body)
        assert resident(host.process.pid) < 256
        with host.connect() as met:
            assert met.check_in(Machine(home.pub))["code"] == "count-insufficient"
        assert deaf


def test_who_is_served_and_how_fast_is_what_is_set_also_while_it_runs(home: Home) -> None:
    """K17: `networks`, `source_rate`, `source_burst`, `record_cap`, as machines meet them."""
    file = home.folder / "kmshost.toml"

    def answers() -> str:
        """The code that a new machine gets."""
        with host.connect() as met:
            return str(met.check_in(Machine(home.pub)).get("code"))

    def comes(code: str, **settings: object) -> None:
        """Within a second or two of being written, settings hold."""
        lines = [f"{name} = {json.dumps(value)}\n" for name, value in settings.items()]
        file.with_suffix(".new").write_text("".join(lines))
        file.with_suffix(".new").rename(file)
        wait_until(lambda: answers() == code)

    with Host(home) as host:
        comes("machine-not-entitled", networks="192.0.2.0/24, 2001:db8::/32")
        comes("count-insufficient", networks="192.0.2.0/24, 127.0.0.0/8")
        comes("too-many-requests", source_rate=1, source_burst=1)
        comes("count-insufficient", source_rate=600, source_burst=5000)
        comes("host-full", record_cap=1)
        for code in ("host-full", "too-many-requests"):
            wait_until(lambda code=code: len(home.run("events", "--result", code)) == 1)  # type: ignore[misc]
        comes("count-insufficient", record_cap=0)
    file.unlink()


def resident(pid: int) -> int:
    """The memory of a process, MiB."""
    (line,) = [one for one in Path(f"/proc/{pid}/status").read_text().splitlines() if "VmRSS" in one]
    return int(line.split()[1]) // 1024
