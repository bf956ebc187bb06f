"""Networks of the tests' own: namespaces on one bridge, and no way out of them (RIGS.md).

    with network("inside", "10.77.0", ["vamt", "web1"]) as here:
        here["web1"].words("sshd", ...), here["vamt"].connects((here["web1"].address, 22))

Two networks share nothing: no interface, no route. It takes root, which a container may be without the right to do this:
tests then skip, or fail in CI.
"""

import os
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import pytest

from programs import TIMEOUT, installed

_CONNECT = """
import errno, socket, sys
for target in sys.argv[1:]:
    address, _, port = target.rpartition(":")
    try:
        socket.create_connection((address, int(port)), 5).close()
    except OSError as error:
        print(errno.errorcode.get(error.errno, "timed out"))
    else:
        print("connected")
"""


class Namespace(NamedTuple):
    """One machine of a network.

    Attributes:
        name: the namespace's.
        address: its address in its network.
        mac: its card's.
    """

    name: str
    address: str
    mac: str

    def words(self, *words: str) -> tuple[str, ...]:
        """What runs a program in it; the program has the process id that this is started with."""
        return ("ip", "netns", "exec", self.name, *words)

    def connects(self, *targets: tuple[str, int]) -> list[str]:
        """What becomes of TCP connections from here: ``connected``, or the system's word for the failure."""
        asked = [f"{address}:{port}" for address, port in targets]
        words = self.words(sys.executable, "-I", "-S", "-c", _CONNECT, *asked)
        done = subprocess.run(words, capture_output=True, text=True, check=True, timeout=TIMEOUT)
        return done.stdout.split("\n")[:-1]


@contextmanager
def network(name: str, prefix: str, hosts: Sequence[str]) -> Iterator[dict[str, Namespace]]:
    """Machines that reach each other and nobody else, at `prefix`.2 and on; the bridge is one more, at `prefix`.1."""
    installed("ip", "iproute2")
    own = f"volact-{os.getpid()}-{name}"
    made = {
        host: Namespace(f"{own}-{host}", f"{prefix}.{number}", f"02:6a:{number:02x}:5e:c7:{number:02x}")
        for number, host in enumerate(hosts, start=2)
    }
    bridge = f"{own}-bridge"
    names = [bridge, *[one.name for one in made.values()]]
    lines = [f"-n {bridge} link add net0 type bridge", f"-n {bridge} address add {prefix}.1/24 dev net0"]
    lines += [f"-n {bridge} link set {one} up" for one in ("net0", "lo")]
    for number, one in enumerate(made.values()):
        lines += [
            f"-n {bridge} link add port{number} type veth peer name eth0 address {one.mac} netns {one.name}",
            f"-n {bridge} link set port{number} master net0 up",
            f"-n {one.name} address add {one.address}/24 dev eth0",
            f"-n {one.name} link set eth0 up",
            f"-n {one.name} link set lo up",
        ]
    try:
        for own_name in names:
            _ip("netns", "add", own_name)
        for line in lines:
            _ip(*line.split())
        yield made
    finally:
        for own_name in names:
            if Path("/run/netns", own_name).exists():
                _ip("netns", "delete", own_name)


def _ip(*words: str) -> None:
    done = subprocess.run(["ip", *words], capture_output=True, text=True, check=False, timeout=TIMEOUT)
    if done.returncode:
        reason = f"ip {' '.join(words)}: {done.stderr.strip()}"
        if os.environ.get("CI") == "true" or words[0] != "netns":
            pytest.fail(reason)
        pytest.skip(f"{reason} (it takes root)")
