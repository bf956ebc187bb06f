"""``make bench``: how fast authority and KMS host answer and a product checks, beside this machine's limits.

Sections: a (activations, SQLite), b (check), c (activations, PostgreSQL), d (a KMS host's renewals at 1 k, 100 k and
1 M records, its start and its memory), e (a storm on a KMS host, F36), f (two hosts over one PostgreSQL, beside one), g
(discovery past three dead hosts), h (500 machines collected, beside Ansible), i (a list of 100,000 rows), j (filters over
300,000 products); ``--only a,b`` chooses. Results go to bench/out/ as JSON, and one table is printed. In a to e the server
runs on core 0, the load generator on core 1; the limits are probed on core 0.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import check_cold
import collecting
import dead_targets
import filters
import hosting
import limits
import lists
import prepare
import two_hosts
from driving import HERE, LOAD_CORE, SERVER_CORE, check_answers, drive, memory, storage_of, verdict
from load import write_bodies

from volact import children, quickstart

KEY_SIZE = 1_000_000
OWN_MODULE = {"g": dead_targets, "h": collecting, "i": lists, "j": filters}
NO_LIMITS = {"VOLACT_AUTHORITY_KEY_RATE": "0", "VOLACT_AUTHORITY_SOURCE_RATE": "0"}


@contextlib.contextmanager
def authority(folder: Path, database: str):  # noqa: ANN201 - a generator of a publisher and its process
    """A publisher with a MAK of a million, its authority serving on the server's core."""
    quickstart.ACTIVATIONS = KEY_SIZE
    os.environ.update(NO_LIMITS)
    if database:
        os.environ["VOLACT_AUTHORITY_DATABASE"] = database
    try:
        publisher = quickstart.Publisher(folder)
        publisher.set_up()
        with limits.on_core(SERVER_CORE):
            service = publisher.serve()
        try:
            yield publisher, service
        finally:
            service.stop()
    finally:
        os.environ.pop("VOLACT_AUTHORITY_DATABASE", None)


def activations(folder: Path, count: int, database: str = "") -> dict[str, Any]:
    """Sections a and c: activations a second of one authority process, all on one key."""
    probed = limits.arithmetic(SERVER_CORE)
    limit = 1 / (2 / probed["verify"] + 1 / probed["sign"])
    with authority(folder, database) as (publisher, service):
        figures: dict[str, Any] = {
            "limit": {**probed, "activations": round(limit), "fsyncs": limits.fsyncs(folder)},
            "storage": storage_of(service.log),
        }
        port = int(publisher.url.rsplit(":", 1)[1])
        total = count + count // 8
        bodies = prepare.bundles(publisher, publisher.key(), quickstart.PRODUCT, total)
        kept, new = folder / "kept.bodies", folder / "new.bodies"
        write_bodies(kept, bodies[:count])
        write_bodies(new, bodies[count:])
        words = ("--tls", "--answers", str(folder / "answers"))
        figures["kept"] = drive(kept, port, "/v1/requests", *words)
        figures["kept"]["confirmed"] = check_answers(folder / "answers", publisher)
        figures["new"] = drive(new, port, "/v1/requests", *words, "--new")
        figures["new"]["confirmed"] = check_answers(folder / "answers", publisher)
        figures["rss_mib"] = memory(service.process.pid)
        tls = publisher.volact.home / "authority"
        certificate, key = tls / "tls" / "certificate.pem", tls / "tls" / "key.pem"
        with limits.bare_server(certificate, key, SERVER_CORE) as bare:
            figures["limit"]["handshakes"] = drive(new, bare, "/", "--tls", "--new", "--seconds", "4")[
                "per_second"
            ]
    figures["kept"]["of_limit"] = round(figures["kept"]["per_second"] / limit, 3)
    figures["new"]["of_limit"] = round(figures["new"]["per_second"] / figures["limit"]["handshakes"], 3)
    return figures


def renewals(folder: Path, count: int, records: int) -> dict[str, Any]:
    """Section d: renewals a second of one host process with `records` in its ledger, and what its start takes."""
    probed = limits.arithmetic(SERVER_CORE)
    limit = 1 / (1 / probed["verify"] + 1 / probed["sign"])
    publisher = quickstart.Publisher(folder)
    publisher.set_up()
    figures: dict[str, Any] = {
        "limit": {**probed, "renewals": round(limit), "fsyncs": limits.fsyncs(folder)},
        "records": records,
    }
    with hosting.host(folder, publisher, SERVER_CORE) as (made, database):
        real = hosting.seeds(publisher.pub, min(records, count))
        hosting.fill(database, publisher.pub, records, real)
        figures["bytes_a_record"] = round(database.stat().st_size / records)
        service, figures["start_seconds"] = hosting.started(made, SERVER_CORE)
        try:
            figures["rss_at_start_mib"] = memory(service.process.pid)
            total = count + count // 8
            bodies = hosting.bodies(hosting.introduction(made.port), real, total)
            kept, new = folder / "kept.bodies", folder / "new.bodies"
            write_bodies(kept, bodies[:count])
            write_bodies(new, bodies[count:])
            words = ("--tls", "--answers", str(folder / "answers"))
            figures["kept"] = drive(kept, made.port, "/v1/leases", *words)
            figures["kept"]["confirmed"] = check_answers(folder / "answers", publisher, "lease")
            figures["new"] = drive(new, made.port, "/v1/leases", *words, "--new")
            figures["new"]["confirmed"] = check_answers(folder / "answers", publisher, "lease")
            figures["rss_mib"] = memory(service.process.pid)
            tls = made.volact.home / "kmshost" / "tls"
            with limits.bare_server(tls / "certificate.pem", tls / "key.pem", SERVER_CORE) as bare:
                bound = drive(new, bare, "/", "--tls", "--new", "--seconds", "4")
                figures["limit"]["handshakes"] = bound["per_second"]
        finally:
            service.stop()
        figures["storage"] = storage_of(folder / "kms-host.log")
    figures["kept"]["of_limit"] = round(figures["kept"]["per_second"] / limit, 3)
    figures["new"]["of_limit"] = round(figures["new"]["per_second"] / figures["limit"]["handshakes"], 3)
    return figures


def storm(folder: Path, records: int, seconds: int = 30) -> dict[str, Any]:
    """Section e: renewals at an even pace while 2,000 garbage requests/s and 1,000 idle connections press (F36)."""
    publisher = quickstart.Publisher(folder)
    publisher.set_up()
    with hosting.host(folder, publisher, SERVER_CORE) as (made, database):
        real = hosting.seeds(publisher.pub, 2_000)
        hosting.fill(database, publisher.pub, records, real)
        service, _ = hosting.started(made, SERVER_CORE)
        try:
            bodies = folder / "renewals.bodies"
            write_bodies(bodies, hosting.bodies(hosting.introduction(made.port), real, 100 * seconds))
            words = ("--port", str(made.port), "--core", str(LOAD_CORE), "--seconds", str(seconds))
            done = subprocess.run(
                [sys.executable, str(HERE / "storm.py"), str(bodies), *words],
                check=True,
                capture_output=True,
                text=True,
            )
            figures: dict[str, Any] = json.loads(done.stdout)
            figures["rss_mib"] = memory(service.process.pid)
        finally:
            service.stop()
    return figures


def storm_rows(found: dict[str, Any]) -> list[tuple[str, str, str, str]]:
    """The rows of section e."""
    share = found["renewed"] / found["renewals"]
    pressed = f"{found['garbage_per_second']} garbage/s, 1,000 idle ({found['idle_reopened']} opened again); generator at {found['generator_core']} of its core"
    return [
        (
            "storm: renewals that succeeded",
            f"{share:.4f} of {found['renewals']}",
            "0.99",
            verdict(share >= 0.99),
        ),
        ("  p99, ms", f"{found['p99_ms']}", "500", f"{verdict(found['p99_ms'] <= 500)}; {pressed}"),
        ("  RSS, MiB", f"{found['rss_mib']}", "256", verdict(found["rss_mib"] < 256)),
    ]


def peer(folder: Path, count: int) -> dict[str, Any]:
    """sealium, driven the same way: as many connections, one code a machine; plain HTTP, as it comes."""
    python = os.environ["SEALIUM_PYTHON"]
    port = children.free_port()
    words = [python, str(HERE / "sealium_peer.py"), str(folder), str(count), str(port)]
    subprocess.run(words, check=True, env={**os.environ, "MACHINE_ID_PEPPER": "bench"})
    with limits.on_core(SERVER_CORE), (folder / "sealium.log").open("wb") as log:
        process = subprocess.Popen(
            [python, "-m", "sealium.server.run", "--config", str(folder / "sealium.toml")],
            stdout=log,
            stderr=log,
            env={**os.environ, "MACHINE_ID_PEPPER": "bench"},
        )
    service = children.Service(process, folder / "sealium.log")
    try:
        service.wait_until_listening(("127.0.0.1", port))
        octets = ("--content-type", "application/octet-stream")
        figures = drive(folder / "sealium.bodies", port, "/v1/activation", *octets, "--seconds", "20")
    finally:
        service.stop()
    import sqlite3

    with contextlib.closing(sqlite3.connect(folder / "sealium.db")) as database:
        (figures["confirmed"],) = database.execute(
            "SELECT count(*) FROM activation_codes WHERE status = 1"
        ).fetchone()
    return figures


def checks(folder: Path) -> dict[str, Any]:
    """Section b: check() on an activated machine."""
    publisher = quickstart.Publisher(folder)
    publisher.set_up()
    service = publisher.serve()
    name = next(iter(quickstart.MACHINES))
    machine = quickstart.machine(folder, name, quickstart.MACHINES[name])
    try:
        quickstart.activate(machine, name, publisher)
    finally:
        service.stop()
    return check_cold.measure(quickstart.PRODUCT, publisher.pub, machine.environ)


def host_rows(sizes: list[dict[str, Any]]) -> list[tuple[str, str, str, str]]:
    """The rows of section d."""
    rows = []
    for found in sizes:
        kept, new, limit, many = found["kept"], found["new"], found["limit"], found["records"]
        rows.append((
            f"renewals/s, kept alive, {many:,} records",
            f"{kept['per_second']:.0f}",
            f"{limit['renewals']} (1 verify + 1 sign)",
            f"{kept['of_limit']:.2f} of the limit; bound 0.50 {verdict(kept['of_limit'] >= 0.5)}",
        ))  # fmt: skip
        rows.append(("  p99, ms", f"{kept['p99_ms']:.1f}", "50", verdict(kept["p99_ms"] < 50)))
        rows.append((
            "renewals/s, new TLS connection each",
            f"{new['per_second']:.0f}",
            f"{limit['handshakes']:.0f} (handshakes of a bare server)",
            f"{new['of_limit']:.2f}; bound 0.60 {verdict(new['of_limit'] >= 0.6)}; generator at {new['generator_cpu']:.2f} of its core",
        ))  # fmt: skip
        most = 150 + 200 * many / 2**20
        memory_holds = verdict(max(found["rss_mib"], found["rss_at_start_mib"]) < most)
        rows.append(("  start, s", f"{found['start_seconds']:.2f}", "2", verdict(found["start_seconds"] < 2)))
        rows.append(
            (
                "  RSS at start and after, MiB",
                f"{found['rss_at_start_mib']}, {found['rss_mib']}",
                f"{most:.0f}",
                memory_holds,
            )
        )
        rows.append(
            (
                f"  {found['storage']}",
                f"{found['bytes_a_record']} bytes a record",
                f"{limit['fsyncs']:.0f} fsyncs/s",
                f"leases {kept['confirmed']} + {new['confirmed']}",
            )
        )
    ratio = sizes[0]["kept"]["per_second"] / sizes[-1]["kept"]["per_second"]
    rows.append(
        (
            f"cost of a renewal, {sizes[-1]['records']:,} against {sizes[0]['records']:,}",
            f"{ratio:.2f}",
            "1.5",
            verdict(ratio <= 1.5),
        )
    )
    return rows


def table(results: dict[str, Any]) -> str:
    """The figures beside their limits and bounds, for people."""
    rows: list[tuple[str, str, str, str]] = []
    for section, title in (("a", "SQLite"), ("c", "PostgreSQL")):
        if section not in results:
            continue
        found = results[section]
        kept, new, limit = found["kept"], found["new"], found["limit"]
        rows.append((
            f"activations/s, kept alive, {title}",
            f"{kept['per_second']:.0f}",
            f"{limit['activations']} (2 verify + 1 sign)",
            f"{kept['of_limit']:.2f} of the limit; bound 0.50 {verdict(kept['of_limit'] >= 0.5) if section == 'a' else ''}",
        ))  # fmt: skip
        rows.append(("  p99, ms", f"{kept['p99_ms']:.1f}", "50", verdict(kept["p99_ms"] < 50)))
        rows.append((
            "activations/s, new TLS connection each",
            f"{new['per_second']:.0f}",
            f"{limit['handshakes']:.0f} (handshakes of a bare server)",
            f"{new['of_limit']:.2f} of the limit; generator at {new['generator_cpu']:.2f} of its core",
        ))  # fmt: skip
        rows.append(("  storage", found["storage"], f"{limit['fsyncs']:.0f} fsyncs/s", ""))
        rows.append(
            ("  confirmed", f"{kept['confirmed']} + {new['confirmed']}", "", f"RSS {found['rss_mib']} MiB")
        )
    if "sealium" in results:
        rate = results["sealium"]["per_second"]
        times = results["a"]["kept"]["per_second"] / rate
        rows.append(
            (
                "sealium, activations/s",
                f"{rate:.0f}",
                "",
                f"{times:.1f} times; bound 20 {verdict(times >= 20)}",
            )
        )
    if "d" in results:
        rows += host_rows(results["d"])
    for section, rows_of in (
        ("e", storm_rows),
        ("f", two_hosts.rows),
        *((name, module.rows) for name, module in OWN_MODULE.items()),
    ):
        if section in results:
            rows += rows_of(results[section])
    if "b" in results:
        b = results["b"]
        rows.append(("check(), cold process, ms", f"{b['cold_ms']}", f"{b['floor_ms']}",
                     f"{b['ratio']} of the floor; bound 1.2 {verdict(b['ratio'] <= 1.2)}"))  # fmt: skip
        rows.append(("check(), warm, ms", f"{b['warm_p50_ms']} (p99 {b['warm_p99_ms']})", "0.5",
                     verdict(b["warm_p50_ms"] < 0.5)))  # fmt: skip
    return quickstart.console.table(rows, ("what", "measured", "limit", "verdict"))


def main() -> None:
    """Run the chosen sections, store the figures, print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", default="a,b,c,d,e,f,g,h,i,j")
    parser.add_argument("--count", type=int, default=40_000, help="activations in sections a and c")
    parser.add_argument("--records", default="1000,100000,1000000", help="sizes of the ledger in section d")
    parser.add_argument("--peer-count", type=int, default=3_000)
    options = parser.parse_args()
    chosen, results = options.only.split(","), {}
    out = HERE / "out"
    out.mkdir(exist_ok=True)
    results["when"] = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
    with tempfile.TemporaryDirectory(prefix="volact-bench-") as name:
        folder = Path(name)
        for section in chosen:
            (folder / section).mkdir()
            print(f"section {section} ...", file=sys.stderr, flush=True)
            if section == "a":
                results["a"] = activations(folder / "a", options.count)
                if "SEALIUM_PYTHON" in os.environ:
                    print("sealium ...", file=sys.stderr, flush=True)
                    (folder / "sealium").mkdir()
                    results["sealium"] = peer(folder / "sealium", options.peer_count)
            elif section == "b":
                results["b"] = checks(folder / "b")
            elif section == "d":
                results["d"] = []
                for records in map(int, options.records.split(",")):
                    print(f"  {records:,} records ...", file=sys.stderr, flush=True)
                    place = folder / "d" / str(records)
                    place.mkdir()
                    results["d"].append(renewals(place, options.count, records))
            elif section == "e":
                results["e"] = storm(folder / "e", 100_000)
            elif section in OWN_MODULE:
                results[section] = OWN_MODULE[section].measure(folder / section)
            elif section in ("c", "f"):
                sys.path.insert(0, str(HERE.parent / "tests"))
                from postgres import running

                with running(durable=True) as server:
                    url = server.url(server.new_database())
                    results[section] = (
                        activations(folder / "c", options.count, url)
                        if section == "c"
                        else two_hosts.measure(folder / "f", url, options.count)
                    )
    (out / f"bench-{results['when'].replace(':', '')}.json").write_text(json.dumps(results, indent=2))
    print(table(results))


if __name__ == "__main__":
    main()
