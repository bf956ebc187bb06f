"""A host under connections that want nothing: they are ended, and nobody is kept out by them (K17, T20, F36)."""

import contextlib
import socket
import ssl
from pathlib import Path

import pytest

from authority_process import Home as Publisher
from kmshost_process import Home, Host
from world import Machine

pytestmark = pytest.mark.sockets

MANY = 1_200
"""More than the thousand of F36, and than what the host's backlog holds."""


def test_a_thousand_idle_connections_keep_nobody_out_and_are_ended(tmp_path: Path) -> None:
    publisher = Publisher(tmp_path / "publisher")
    publisher.folder.mkdir()
    publisher.set_up()
    home = Home(tmp_path / "host", publisher)
    home.set_up()
    anybody = ssl.create_default_context()
    anybody.check_hostname, anybody.verify_mode = False, ssl.CERT_NONE
    with Host(home) as host, contextlib.ExitStack() as stack:

        def connection() -> socket.socket:
            return stack.enter_context(socket.create_connection(("127.0.0.1", host.port), timeout=30))

        idle = [connection() for _ in range(MANY)]
        silent, half = (stack.enter_context(anybody.wrap_socket(connection())) for _ in range(2))
        half.sendall(b"GET /v1/host HTTP/1.1\r\nHost: ")
        with host.connect() as met:
            assert met.check_in(Machine(publisher.pub))["code"] == "count-insufficient"
        # Without a handshake, without a request, with half of one: each ends, and not because the test waits no longer.
        for one in (idle[0], idle[-1], silent, half):
            with contextlib.suppress(ConnectionResetError):
                while one.recv(4096):
                    pass
