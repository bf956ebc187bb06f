"""Section g: how long a machine takes to its lease when DNS names three dead hosts before the one that lives (D3).

Each dead host is dead in another way: its port is closed, its packets are dropped, or it takes the connection and never
says a word. They have the better priority, so that every try begins with them. Beside it, the same with the live host
alone. A command is a process of its own, as a person or a service starts it.
"""

from __future__ import annotations

import contextlib
import socket
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import driving
import hosting

from volact import quickstart

if TYPE_CHECKING:
    from collections.abc import Iterator

    from volact.children import Volact

TIMES = 5
EACH = 3.0
"""Seconds within which a dead host is passed over (D3)."""
_ZONE = "bench.test"


def measure(folder: Path) -> dict[str, Any]:
    """Seconds to a lease with one live target, and with three dead ones before it."""
    sys.path.insert(0, str(Path(__file__).parent.parent / "tests"))
    from nameservers import Named

    publisher = quickstart.Publisher(folder)
    publisher.set_up()
    with hosting.host(folder, publisher, driving.SERVER_CORE) as (made, database):
        hosting.fill(database, publisher.pub, 100, hosting.seeds(publisher.pub, 2))
        service = made.serve()
        try:
            figures: dict[str, Any] = {}
            live = [(made.port, 9)]
            with _dead() as dead:
                for name, targets in (("live", live), ("dead", [(port, 0) for port in dead] + live)):
                    with Named({_ZONE: _records(targets)}) as server:
                        figures[name] = _times(folder / name, publisher, server.port)
        finally:
            service.stop()
    figures["each"] = round((figures["dead"]["median"] - figures["live"]["median"]) / 3, 3)
    return figures


def _records(targets: list[tuple[int, int]]) -> str:
    lines = [f"_volact._tcp SRV {priority} 100 {port} kms{port}" for port, priority in targets]
    return "\n".join([*lines, *(f"kms{port} A 127.0.0.1" for port, _ in targets)])


@contextlib.contextmanager
def _dead() -> Iterator[list[int]]:
    """Ports of this machine: one closed, one whose queue is full so that packets are dropped, one that is silent."""
    with contextlib.ExitStack() as stack:
        closed, full, silent = (stack.enter_context(socket.socket()) for _ in range(3))
        for one in (closed, full, silent):
            one.bind(("127.0.0.1", 0))
        full.listen(0)
        silent.listen(64)
        for _ in range(4):  # the queue of `full`: what does not fit is dropped
            caller = stack.enter_context(socket.socket())
            caller.setblocking(False)
            with contextlib.suppress(BlockingIOError):
                caller.connect(full.getsockname())
        yield [int(one.getsockname()[1]) for one in (closed, full, silent)]


def _times(folder: Path, publisher: quickstart.Publisher, port: int) -> dict[str, float]:
    """Each time another machine, which has never met a host."""
    taken = []
    for number in range(TIMES):
        machine = _machine(folder, publisher, port, number)
        began = time.monotonic()
        found = machine("/ato", program="slmgr")
        taken.append(time.monotonic() - began)
        assert found["state"] == 1, found
    return {"median": round(sorted(taken)[TIMES // 2], 3), "worst": round(max(taken), 3)}


def _machine(folder: Path, publisher: quickstart.Publisher, port: int, number: int) -> Volact:
    machine = quickstart.machine(folder, f"m{number}", quickstart.kms_facts(number + 1))
    resolver = machine.home / "resolv.conf"
    resolver.write_text(f"nameserver 127.0.0.1\nport {port}\nsearch {_ZONE}\n")
    machine.environ["VOLACT_LAB_RESOLVER"] = str(resolver)
    machine("client", "install", str(publisher.product_file), f"--root={publisher.pub}")
    return machine


def rows(found: dict[str, Any]) -> list[tuple[str, str, str, str]]:
    """The rows of section g."""
    live, dead = found["live"], found["dead"]
    bound = live["median"] + 3 * EACH
    return [
        ("slmgr /ato by DNS, one live host, s", f"{live['median']} (worst {live['worst']})", "", ""),
        (
            "  three dead hosts before it, s",
            f"{dead['median']} (worst {dead['worst']})",
            f"{bound:.1f}",
            f"{found['each']} s for each dead one; bound {EACH:.0f} {driving.verdict(dead['worst'] <= bound)}",
        ),
    ]
