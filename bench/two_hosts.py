"""Section f: two host processes over one PostgreSQL that share a count, beside one process in the same run (K12).

Hosts, database and generators share this machine's cores as they like: pinned to one, two hosts could not be faster than
one. A generator drives each host; with one host there is one, with as many connections in all.
"""

from __future__ import annotations

import json
import os
import subprocess
from typing import TYPE_CHECKING, Any

import driving
import hosting
from load import write_bodies

from volact import quickstart

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from hosting import Seed

RECORDS = 20_000
_SETTINGS = {"VOLACT_KMSHOST_OPS_LISTEN": "", "VOLACT_KMSHOST_LOG_LEVEL": "info"}


def measure(folder: Path, url: str, count: int) -> dict[str, Any]:
    """Renewals a second through one host, then through two at once, `count` each time."""
    publisher = quickstart.Publisher(folder)
    publisher.set_up()
    os.environ.update(_SETTINGS, VOLACT_KMSHOST_DATABASE=url)
    try:
        hosts = [_host(folder / name, publisher) for name in ("one", "two")]
        real = hosting.seeds(publisher.pub, min(RECORDS, count))
        hosting.fill(url, publisher.pub, RECORDS, real)
        figures: dict[str, Any] = {"records": RECORDS, "cores": os.cpu_count()}
        for name, serving in (("one", hosts[:1]), ("two", hosts)):
            figures[name] = _driven(folder / name, serving, publisher, real, count)
        figures["storage"] = driving.storage_of(folder / "one" / "kms-host.log")
    finally:
        for name in (*_SETTINGS, "VOLACT_KMSHOST_DATABASE"):
            os.environ.pop(name, None)
    figures["ratio"] = round(figures["two"]["per_second"] / figures["one"]["per_second"], 2)
    return figures


def _host(folder: Path, publisher: quickstart.Publisher) -> quickstart.Host:
    folder.mkdir()
    made = quickstart.Host(folder, publisher)
    authority = publisher.serve()
    try:
        made.set_up()
    finally:
        authority.stop()
    return made


def _driven(
    folder: Path,
    hosts: Sequence[quickstart.Host],
    publisher: quickstart.Publisher,
    real: Sequence[Seed],
    count: int,
) -> dict[str, Any]:
    """All hosts at once, each with its share of the machines; the figures of all together."""
    services = [one.serve() for one in hosts]
    try:
        commands = []
        for number, one in enumerate(hosts):
            bodies, answers = folder / f"{number}.bodies", folder / f"{number}.answers"
            mine = real[number :: len(hosts)]
            write_bodies(bodies, hosting.bodies(hosting.introduction(one.port), mine, count // len(hosts)))
            words = ("--tls", "--answers", str(answers))
            share = driving.CONNECTIONS // len(hosts)
            commands.append(
                driving.command(bodies, one.port, "/v1/leases", *words, connections=share, core=-1)
            )
        running = [subprocess.Popen(words, stdout=subprocess.PIPE, text=True) for words in commands]
        found = [json.loads(process.communicate()[0]) for process in running]
        rss = [driving.memory(service.process.pid) for service in services]
    finally:
        for service in services:
            service.stop()
    granted = sum(
        driving.check_answers(folder / f"{number}.answers", publisher, "lease")
        for number in range(len(hosts))
    )
    requests = sum(one["requests"] for one in found)
    return {
        "requests": requests,
        "leases": granted,
        "per_second": round(requests / max(one["seconds"] for one in found), 1),
        "p50_ms": max(one["p50_ms"] for one in found),
        "p99_ms": max(one["p99_ms"] for one in found),
        "generators": [one["generator_cpu"] for one in found],
        "rss_mib": rss,
    }


def rows(found: dict[str, Any]) -> list[tuple[str, str, str, str]]:
    """The rows of section f."""
    one, two = found["one"], found["two"]
    whole = one["leases"] == one["requests"] and two["leases"] == two["requests"]
    return [
        (
            f"renewals/s, one host, {found['storage']}",
            f"{one['per_second']:.0f}",
            "",
            f"p99 {one['p99_ms']:.1f} ms; {one['leases']} of {one['requests']} are leases",
        ),
        (
            f"renewals/s, two hosts of one count, {found['cores']} cores for all",
            f"{two['per_second']:.0f}",
            f"{one['per_second']:.0f} (one host)",
            f"{found['ratio']:.2f} times; p99 {two['p99_ms']:.1f} ms; none refused or lost: {driving.verdict(whole)}",
        ),
    ]
