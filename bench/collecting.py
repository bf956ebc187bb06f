"""Section h: 500 machines asked by ``volact vamt collect``, beside Ansible's ad-hoc run of the same command (issue 5).

And 1,000 of which 16 are bad (RELIABILITY F45). The machines are stand-ins in one process (`machines.py`), started anew for
each program. Ansible gets what makes it fastest here: the `raw` module, which needs nothing on a machine, and no shared
connections, for there is one command. volact's time has its start and the writing of its store in it.
"""

from __future__ import annotations

import contextlib
import os
import resource
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import driving
import machines

from volact.children import Volact

if TYPE_CHECKING:
    from collections.abc import Iterator

MACHINES, MANY, BAD = 500, 1_000, 16
PORT = 2222
TIMES = 2
FORKS = (50,)
SHARE, MIB = 1 / 3, 300
LIMIT = 30
"""Seconds for one machine, the default of `vamt collect`."""
_COMMAND = "volact client status --json"


def _ansible() -> Path:
    """Ansible, beside the other server to compare with."""
    return Path(os.environ.get("SEALIUM_PYTHON", "-")).parent / "ansible"


@contextlib.contextmanager
def standing(folder: Path, count: int, *more: str) -> Iterator[None]:
    """So many machines."""
    words = [sys.executable, str(driving.HERE / "machines.py"), str(folder), str(count), str(PORT), *more]
    with subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdin
        assert process.stdout
        try:
            assert process.stdout.readline() == "ready\n"
            yield
        finally:
            process.stdin.close()
            process.wait()


def collected(folder: Path, count: int, *more: str) -> dict[str, Any]:
    """A VAMT of its own that finds the machines in known_hosts and asks them all."""
    folder.mkdir()
    with standing(folder, count, *more):
        at = Volact(folder / "home")
        at.home.mkdir()
        at("vamt", "init", "--name", "bench")
        at("vamt", "discover", "known-hosts", str(folder / "known_hosts"))
        at("vamt", "login", "set", "--user", "vamt", "--key-file", str(folder / "id"))
        found = driving.command_of(at, "vamt", "collect", "--all", "--json")
        listed = at("vamt", "machine", "list", "--where", "outcome=ok", "--limit", "1")
    return {**found, "ok": listed["total"]}


def by_ansible(folder: Path, count: int, forks: int) -> dict[str, Any]:
    """Ansible asks them."""
    folder.mkdir()
    with standing(folder, count):
        hosts = [f"m{one} ansible_host={machines.address(one)}" for one in range(count)]
        (folder / "hosts").write_text("\n".join(hosts) + "\n")
        (folder / "ansible.cfg").write_text(
            f"[defaults]\nremote_port = {PORT}\nremote_user = vamt\nprivate_key_file = {folder / 'id'}\n"
            f"[ssh_connection]\nssh_args = -F none -o ControlMaster=no -o UserKnownHostsFile={folder / 'known_hosts'}\n"
        )
        environ = {**os.environ, "ANSIBLE_CONFIG": str(folder / "ansible.cfg"), "ANSIBLE_HOME": str(folder)}
        words = [str(_ansible()), "all", "-i", str(folder / "hosts"), "-m", "raw", "-a", _COMMAND, "-o", "-f", str(forks)]  # fmt: skip
        before, began = resource.getrusage(resource.RUSAGE_CHILDREN), time.monotonic()
        done = subprocess.run(
            words, env=environ, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False
        )
        seconds, after = time.monotonic() - began, resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    (folder / "out").write_text(done.stdout + done.stderr)
    return {
        "seconds": round(seconds, 2),
        "cpu": round(cpu, 2),
        "forks": forks,
        "ok": done.stdout.count("| CHANGED |"),
    }


def measure(folder: Path, count: int = MACHINES, many: int = MANY) -> dict[str, Any]:
    """Both programs in turn, `TIMES` times; then the many with the bad ones, as often."""
    figures: dict[str, Any] = {"machines": count, "many": many, "volact": [], "ansible": [], "bad": []}
    for number in range(TIMES):
        figures["volact"].append(collected(folder / f"volact-{number}", count))
        if _ansible().exists():
            for forks in FORKS:
                figures["ansible"].append(by_ansible(folder / f"ansible-{number}-{forks}", count, forks))
    for number in range(TIMES):
        figures["bad"].append(collected(folder / f"bad-{number}", many, "--bad"))
    return figures


def rows(found: dict[str, Any]) -> list[tuple[str, str, str, str]]:
    """The rows of section h: the medians, and Ansible's best."""
    ours = sorted(found["volact"], key=lambda one: one["seconds"])[TIMES // 2]
    made = []
    said = f"{ours['seconds']} s (CPU {ours['cpu']} s), {ours['rss_mib']} MiB"
    if found["ansible"]:
        theirs = min(found["ansible"], key=lambda one: one["seconds"])
        share = ours["seconds"] / theirs["seconds"]
        holds = driving.verdict(share <= SHARE)
        small = driving.verdict(ours["rss_mib"] < MIB)
        made.append((
            f"{found['machines']} machines asked by volact", said,
            f"{theirs['seconds']} s (CPU {theirs['cpu']} s; Ansible, {theirs['forks']} forks)",
            f"{share:.2f} of its time; bound {SHARE:.2f} {holds}; {MIB} MiB {small}; {ours['ok']} and {theirs['ok']} answered",
        ))  # fmt: skip
    else:
        made.append((f"{found['machines']} machines asked by volact", said, "", f"{ours['ok']} answered"))
    worst = max(found["bad"], key=lambda one: one["seconds"])
    good, all_told = found["many"] - BAD, min(one["ok"] for one in found["bad"])
    held = worst["seconds"] <= LIMIT * 1.2 and all_told == good
    made.append((
        f"  {found['many']:,} machines, {BAD} of them bad", f"{', '.join(str(one['seconds']) for one in found['bad'])} s, {worst['rss_mib']} MiB",
        f"{LIMIT * 1.2:.0f} s", f"{all_told} of {good} good ones answered; {driving.verdict(held)}",
    ))  # fmt: skip
    return made
