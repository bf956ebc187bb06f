"""What the sections share: the cores, one run of the load generator, and how its answers and a process are looked at."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from load import read_bodies

from volact import quickstart
from volact.protocol import trust

if TYPE_CHECKING:
    from volact.children import Volact

HERE = Path(__file__).parent
SERVER_CORE, LOAD_CORE = 0, 1
CONNECTIONS = 64
_RUN = """
import json, resource, runpy, sys, time
began = time.monotonic()
sys.argv = ["volact", *sys.argv[1:]]
try:
    runpy.run_module("volact", run_name="__main__")
except SystemExit as ended:
    code = ended.code
used = resource.getrusage(resource.RUSAGE_SELF)
said = {"seconds": round(time.monotonic() - began, 2), "cpu": round(used.ru_utime + used.ru_stime, 2),
        "rss_mib": used.ru_maxrss // 1024, "exit": code or 0}
print(json.dumps(said), file=sys.stderr)
"""


def command(
    bodies: Path, port: int, path: str, *words: str, connections: int = CONNECTIONS, core: int = LOAD_CORE
) -> list[str]:
    """The load generator's command line."""
    return [
        sys.executable, str(HERE / "load.py"), str(bodies), "--port", str(port), "--path", path,
        "--connections", str(connections), "--core", str(core), *words,
    ]  # fmt: skip


def drive(bodies: Path, port: int, path: str, *words: str) -> dict[str, Any]:
    """One run of the load generator, as a process of its own."""
    done = subprocess.run(command(bodies, port, path, *words), check=True, capture_output=True, text=True)
    figures = json.loads(done.stdout)
    assert isinstance(figures, dict)
    return figures


def check_answers(file: Path, publisher: quickstart.Publisher, name: str = "confirmation") -> int:
    """How many answers are documents of that `name`; every hundredth is verified to the root."""
    bundle = trust.read_bundle(publisher.product_file.read_bytes())
    roots = trust.open_roots(bundle["root"], publisher.pub, bundle["roots"])
    confirmed = 0
    for number, body in enumerate(read_bodies(file)):
        answer = json.loads(body)
        if "token" in answer:
            confirmed += 1
            if number % 100 == 0:
                trust.verify(answer, name, roots)
    return confirmed


def storage_of(log: Path) -> str:
    """What a service said of its store when it began to serve."""
    for line in log.read_text().splitlines():
        if line.startswith("{") and "store" in (said := json.loads(line)):
            return str(said["store"])
    return "not said"


def memory(pid: int) -> int:
    """Resident memory of a process, MiB."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1]) // 1024
    return 0


def command_of(at: Volact, *words: str) -> dict[str, Any]:
    """One of our commands as a process of its own: its time, its most memory, and the end of what it printed."""
    done = subprocess.run(
        [sys.executable, "-P", "-c", _RUN, *words],
        env=at.environ,
        stdin=subprocess.DEVNULL,
        check=False,
        capture_output=True,
        text=True,
    )
    found: dict[str, Any] = json.loads(done.stderr.splitlines()[-1])
    return {**found, "said": done.stdout[-500:]}


def verdict(good: bool) -> str:
    """How the table says whether a bound holds."""
    return "holds" if good else "MISSED"
