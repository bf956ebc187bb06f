"""The checks of a KMS host on this machine (D5; K9, K15, K16, K19, D1, D2)."""

from __future__ import annotations

import shutil
import statistics
import subprocess
from typing import TYPE_CHECKING, Any

from volact.client.address import Address
from volact.commands import when
from volact.doctor import checks, domains, probing
from volact.doctor.checks import FAILED, HOST, OK, SKIPPED, WARNING, Check
from volact.kmshost import (
    counting,
    dnsrecords,
    firewall,
    foretelling,
    listening,
    publishing,
    reporting,
    whereabouts,
)
from volact.kmshost import store as sql
from volact.kmshost.firewall import Firewall
from volact.protocol.policy import CLOCK_TOLERANCE, CLOCK_WITNESSES, DAY, FORECAST_DAYS

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from volact.doctor.probing import Places, Served
    from volact.kmshost.dnsrecords import DnsRecord
    from volact.kmshost.setup import Opened

_TIMEDATECTL_SECONDS = 5
_WILDCARDS = {"0.0.0.0": "127.0.0.1", "": "127.0.0.1", "::": "::1"}  # noqa: S104 - nothing is bound here
_DURABLE = ("WAL, synchronous=FULL", "DELETE, synchronous=EXTRA")


def look(
    opened: Opened, places: Places, environ: Mapping[str, str]
) -> Iterator[tuple[str, Callable[[], list[Check]]]]:
    """The checks of a host, each with what is being done meanwhile."""
    found = reporting.status(opened)
    yield "storage", lambda: [_storage(opened, found)]
    yield "clock", lambda: [_clock(opened), ntp(HOST, environ)]
    yield "delegation", lambda: [_delegation(found)]
    yield "count", lambda: _counts(opened, found)
    yield "port", lambda: [_port(opened, places)]
    yield "published addresses", lambda: [_address(opened, places)]
    yield "firewall", lambda: [_firewall(opened, environ)]
    for domain in _domains(opened):
        yield f"DNS of {domain}", lambda domain=domain: _dns(opened, places, domain)  # type: ignore[misc]
    if not _domains(opened):
        yield "DNS", lambda: [_no_domain(opened)]


# --- storage, clock, delegation, count --------------------------------------------------------------------------


def _storage(opened: Opened, found: Mapping[str, Any]) -> Check:
    looked_at = "how the store keeps what it has been given"
    mode = str(found["storage"])
    if not mode.startswith("PostgreSQL"):
        durable = mode.endswith(_DURABLE)
        advice = "" if durable else "Report it: such a store can lose what it has promised."
        return Check(HOST, "storage", OK if durable else FAILED, looked_at, f"{mode}.", advice)
    with opened.store.reading() as tx:
        fsync = str(tx.exec_driver_sql("SHOW fsync").scalar_one())
    if fsync != "on":
        found_there = f"{mode}, whose fsync is off: a power cut loses what it has promised."
        return Check(HOST, "storage", FAILED, looked_at, found_there, "Set fsync = on in postgresql.conf.")
    return Check(HOST, "storage", OK, looked_at, f"{mode}, fsync on.")


def _clock(opened: Opened) -> Check:
    """Against the newest date that the publisher signed, and what the machines' clocks said when they called last."""
    looked_at = "this machine's clock, the newest date that the publisher signed, and the machines' clocks"
    now, keyring = opened.clock.now(), opened.keyring()
    advice = "Set the clock, and let time synchronisation keep it (timedatectl set-ntp true)."
    if keyring is not None and keyring.is_behind(now):
        said = f"It says {when(now)}, which is before what the publisher has signed: no lease is given."
        return Check(HOST, "clock", FAILED, looked_at, said, advice)
    away = _machines_away(opened)
    if away is None:
        said = f"{when(now)}; fewer than {CLOCK_WITNESSES} machines have called, to compare it with."
        return Check(HOST, "clock", OK, looked_at, said)
    said = f"{when(now)}; most machines' clocks are {_span(away)} away from it."
    if abs(away) <= CLOCK_TOLERANCE:
        return Check(HOST, "clock", OK, looked_at, said)
    return Check(HOST, "clock", FAILED if abs(away) > DAY else WARNING, looked_at, said, advice)


def _machines_away(opened: Opened) -> int | None:
    """How far the clocks of the machines that called last were from this one then; None if too few have."""
    with opened.store.reading() as tx:
        events = sql.events(tx, limit=10 * CLOCK_WITNESSES, event=reporting.HANDLED)
    last = {
        one.cmid: one.time - one.client_time for one in events if one.cmid and one.client_time is not None
    }
    said = list(last.values())[-CLOCK_WITNESSES:]
    return int(statistics.median_low(said)) if len(said) == CLOCK_WITNESSES else None


def _span(seconds: int) -> str:
    seconds = abs(seconds)
    return f"{seconds // DAY} days" if seconds >= 2 * DAY else f"{seconds} seconds"


def ntp(role: str, environ: Mapping[str, str]) -> Check:
    """Whether the system keeps its clock right, as systemd tells."""
    looked_at = "timedatectl: whether the system clock is synchronised"
    program = shutil.which("timedatectl", path=environ.get("PATH"))
    said = ""
    if program is not None:
        try:
            done = subprocess.run(
                [program, "show", "--property=NTPSynchronized", "--value"],
                capture_output=True,
                text=True,
                errors="replace",
                stdin=subprocess.DEVNULL,
                timeout=_TIMEDATECTL_SECONDS,
                check=False,
            )
            said = done.stdout.strip() if done.returncode == 0 else ""
        except (OSError, subprocess.TimeoutExpired):
            said = ""
    if said == "yes":
        return Check(role, "time sync", OK, looked_at, "The clock is synchronised.")
    if said == "no":
        advice = (
            "Switch it on: timedatectl set-ntp true. Where the hypervisor keeps the clock, that is as good."
        )
        return Check(role, "time sync", WARNING, looked_at, "The clock is not synchronised.", advice)
    return Check(role, "time sync", SKIPPED, looked_at, "timedatectl cannot tell here.")


def _delegation(found: Mapping[str, Any]) -> Check:
    looked_at = "the newest delegation that this host holds"
    if not found["activated"]:
        advice = "This host's administrator: volact kmshost install-key KEY, then volact kmshost activate."
        return Check(HOST, "delegation", FAILED, looked_at, "This host is not activated.", advice)
    said = f"Until {found['until']}, {found['used_percent']} % used; for {_products(found)}."
    by_file = "This host's administrator: volact kmshost extend, or by file (--request-file), which the publisher answers."
    if found["reason"] and found["warning"]:
        return Check(HOST, "delegation", FAILED, looked_at, f"{found['warning']}.", by_file)
    if found["warning"]:
        return Check(HOST, "delegation", WARNING, looked_at, said, by_file)
    if found["reason"]:
        said, advice = checks.meaning(found["reason"])
        return Check(HOST, "delegation", FAILED, looked_at, said, advice)
    return Check(HOST, "delegation", OK, looked_at, said)


def _products(found: Mapping[str, Any]) -> str:
    return (
        ", ".join(one["product"] for one in found["products"] if one["served"]) or "no product that is known"
    )


def _counts(opened: Opened, found: Mapping[str, Any]) -> list[Check]:
    """Each product's count against its threshold, now and in the days to come (K15)."""
    ahead = {one["product"]: one for one in foretelling.forecast(opened, FORECAST_DAYS)["products"]}
    granted = found["requests"]["by_outcome"].get(counting.GRANTED, 0)
    served = [one for one in found["products"] if one["served"]]
    return [_count(one, ahead.get(one["product"]), granted) for one in served]


def _count(one: Mapping[str, Any], ahead: Mapping[str, Any] | None, granted: int) -> Check:
    name = f"count {one['product']}"
    looked_at = f"who counts now, the threshold, and the forecast for {FORECAST_DAYS} days"
    said = f"{one['count']} {one['counted'] or 'machines'}, {one['required']} required."
    if not one["enough"]:
        advice = (
            "More machines have to call: see volact kmshost clients, and volact doctor on one that should."
        )
        if granted:
            return Check(HOST, name, FAILED, looked_at, f"{said} No machine gets a lease.", advice)
        return Check(HOST, name, WARNING, looked_at, f"{said} It was never reached yet.", advice)
    if ahead is not None and ahead["expected_loss"]:
        return Check(
            HOST, name, WARNING, looked_at, f"{said} {ahead['sentence']}", "See volact kmshost forecast."
        )
    return Check(HOST, name, OK, looked_at, f"{said} {ahead['sentence'] if ahead else ''}".rstrip())


# --- port and firewall ------------------------------------------------------------------------------------------


def _port(opened: Opened, places: Places) -> Check:
    """Whether the service listens, and is this host."""
    running, port = listening.read(opened.folder), opened.settings.port
    looked_at = "the service's note, and what answers on its port from this machine"
    if running is None:
        return Check(
            HOST, "port", FAILED, looked_at, f"The service is not running (port {port} is set).", _START
        )
    bare = running.address.removeprefix("[").removesuffix("]")
    address = Address(_WILDCARDS.get(bare, bare), running.port)
    (verdict,) = probing.probe_all([(address, None)], places.known)
    said = f"The service (pid {running.pid}) listens on {running.address} port {running.port}"
    if verdict.verdict == probing.GOOD and verdict.host == opened.signer.kid:
        return Check(HOST, "port", OK, looked_at, f"{said}, and proves to be this host.")
    if verdict.verdict == probing.UNREADY:
        advice = "See what fails here besides."
        return Check(HOST, "port", WARNING, looked_at, f"{said}, and says: {verdict.detail}", advice)
    return Check(HOST, "port", FAILED, looked_at, f"{said}, but at {address}: {verdict.detail}", _START)


_START = (
    "Start it: volact kmshost serve. Why it could not is event 12291: volact kmshost events --event 12291."
)


def _wanted(opened: Opened) -> tuple[DnsRecord, ...]:
    """What this host publishes, or what would be entered by hand."""
    settings, running = opened.settings, listening.read(opened.folder)
    if running is not None:
        settings = settings._replace(listen=running.address)
    port = running.port if running else settings.port
    return dnsrecords.by_hand(settings, whereabouts.here(settings), port)


def _address(opened: Opened, places: Places) -> Check:
    """Whether this host is reached at the addresses that it publishes."""
    looked_at = "what answers at the addresses that this host publishes, called from this machine"
    records = _wanted(opened)
    asked = dict.fromkeys((one.port, ip) for one in records for ip in one.addresses)
    if not asked or listening.read(opened.folder) is None:
        reason = "The service is not running." if asked else "It publishes no address of its own."
        return Check(HOST, "address", SKIPPED, looked_at, reason)
    verdicts = probing.probe_all([(Address(ip, port), (ip,)) for port, ip in asked], places.known)
    mine = [one.target for one in verdicts if one.host == opened.signer.kid]
    others = [one for one in verdicts if one.host != opened.signer.kid]
    if not others:
        said = f"{', '.join(mine)}: this host. (What stands between it and others is not seen from here.)"
        return Check(HOST, "address", OK, looked_at, said)
    unready = all(one.verdict == probing.UNREADY for one in others)
    said = " ".join(f"{one.target}: {one.detail}" for one in others)
    advice = "Set dns_addresses (and listen) to addresses at which this host is reached."
    return Check(HOST, "address", WARNING if unready else FAILED, looked_at, said, advice)


def _firewall(opened: Opened, environ: Mapping[str, str]) -> Check:
    running = listening.read(opened.folder)
    port = running.port if running else opened.settings.port
    seen = Firewall(environ).look(port)
    looked_at = f"the firewall of this machine ({seen.kind or 'firewalld, ufw, nftables'}), TCP port {port}"
    if seen.state in (firewall.ALLOWED, firewall.OPEN):
        return Check(HOST, "firewall", OK, looked_at, f"{seen.kind}: {seen.detail}")
    if not seen.kind or seen.state == firewall.UNKNOWN:
        return Check(HOST, "firewall", SKIPPED, looked_at, seen.detail)
    advice = "volact kmshost firewall shows the rule, and sets it with --apply."
    return Check(HOST, "firewall", WARNING, looked_at, f"{seen.kind}: {seen.detail}", advice)


# --- DNS --------------------------------------------------------------------------------------------------------


def _domains(opened: Opened) -> list[str]:
    """The domains in which this host publishes or has published."""
    if dnsrecords.problem_of(opened.settings):
        return []
    with opened.store.reading() as tx:
        published = [one.domain for one in sql.published(tx, opened.signer.kid)]
    wanted = [one.name for one in dnsrecords.domains_of(opened.settings.dns_domains)]
    return list(dict.fromkeys([*wanted, *published]))


def _no_domain(opened: Opened) -> Check:
    problem = dnsrecords.problem_of(opened.settings)
    looked_at = "the settings dns_domains and dns_publishing"
    if problem:
        return Check(HOST, "dns", FAILED, looked_at, problem, "Mend the setting in kmshost.toml.")
    said = "This host is published in no domain: machines find it only where it is set by hand (slmgr /skms)."
    advice = "Set dns_domains, or enter what `volact kmshost publish --show` prints; then: volact doctor --domain D."
    return Check(HOST, "dns", SKIPPED, looked_at, said, advice)


def _dns(opened: Opened, places: Places, domain: str) -> list[Check]:
    settings = opened.settings
    label = dnsrecords.name_of(settings.dns_label)
    served = probing.ask(places, label, domain, settings.dns_server)
    wanted = next((one for one in _wanted(opened) if one.domain == domain), None)
    return [
        _published(opened, domain, wanted, served),
        domains.records(HOST, served),
        domains.targets(HOST, served, places),
    ]


def _published(opened: Opened, domain: str, wanted: DnsRecord | None, served: Served) -> Check:
    """Whether what this host wants to be found by is what is served: missing, or another name's, or in order."""
    name = f"published {domain}"
    looked_at = (
        f"what this host publishes as {served.owner}, and what {served.server or 'the zone'} serves of it"
    )
    on = opened.settings.dns_publishing
    last = next((one for one in publishing.results(opened.folder) if one.domain == domain), None)
    if wanted is None or not wanted.target:
        what = "is still published there" if wanted is None else "has no name to publish"
        advice = "volact kmshost publish" if wanted is None else "Set dns_name."
        return Check(HOST, name, WARNING, looked_at, f"This host {what}.", advice)
    missing = _missing(wanted, served)
    tried, advice = "", f"Enter: {'; '.join(dnsrecords.lines([wanted]))}"
    if on:
        advice = "Start the service, which publishes; at once: volact kmshost publish."
        if last is not None and not last.done:
            meant, advice = checks.meaning(last.code)
            tried = f" The last try, {when(last.time)}: {meant} {last.detail}".rstrip()
    if missing:
        return Check(HOST, name, FAILED, looked_at, f"missing: {missing}{tried}", advice)
    if tried:
        return Check(HOST, name, WARNING, looked_at, f"{wanted.srv} is served.{tried}", advice)
    how = f"published {when(last.time)}" if on and last else "entered by hand"
    return Check(HOST, name, OK, looked_at, f"{wanted.srv} is served ({how}).")


def _missing(wanted: DnsRecord, served: Served) -> str:
    """What of a record is not served, in words; empty if all is."""
    if served.own is None:
        return served.problem
    if wanted.srv.lower() not in {probing.shown(one) for one in served.own}:
        return f"{wanted.srv} is not served."
    if wanted.addresses and not set(wanted.addresses) & set(served.addresses.get(wanted.target, ())):
        return f"{wanted.target} has none of this host's addresses, {', '.join(wanted.addresses)}."
    return ""
