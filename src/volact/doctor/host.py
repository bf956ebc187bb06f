"""The checks of a KMS host on this machine (D5; K9, K15, K16, K19, D1, D2)."""

from __future__ import annotations

import shutil
import statistics
import subprocess
from typing import TYPE_CHECKING, Any

from volact.client.address import Address
from volact.client.reporting import span
from volact.commands import when
from volact.doctor import checks, domains, probing
from volact.doctor.checks import FAILED, HOST, OK, SKIPPED, WARNING, Check
from volact.kmshost import (
    counting,
    dnsrecords,
    foretelling,
    listening,
    nftables,
    publishing,
    reporting,
    surveys,
    whereabouts,
)
from volact.kmshost import store as sql
from volact.kmshost.firewall import Firewall
from volact.protocol.policy import CLOCK_TOLERANCE, CLOCK_WITNESSES, DAY, FORECAST_DAYS, of_edition

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from volact.doctor.probing import Places, Served
    from volact.kmshost.dnsrecords import DnsRecord
    from volact.kmshost.setup import Opened
    from volact.protocol.documents import Document

_TIMEDATECTL_SECONDS = 5
_WILDCARDS = {"0.0.0.0": "127.0.0.1", "": "127.0.0.1", "::": "::1"}  # noqa: S104 - nothing is bound here
_DURABLE = ("WAL, synchronous=FULL", "DELETE, synchronous=EXTRA")


def look(
    opened: Opened, places: Places, environ: Mapping[str, str]
) -> Iterator[tuple[str, Callable[[], list[Check]]]]:
    """The checks of a host, each with what is being done meanwhile."""
    found = reporting.status(opened)
    yield "settings", lambda: [_settings(found)]
    yield "storage", lambda: [_storage(opened, found)]
    yield "clock", lambda: [_clock(opened), ntp(HOST, environ)]
    yield "delegation", lambda: [_delegation(found)]
    yield "count", lambda: _counts(opened, found)
    yield "records", lambda: [_records(opened), _sources(opened)]
    yield "port", lambda: [_port(opened, places)]
    yield "published addresses", lambda: [_address(opened, places)]
    yield "firewall", lambda: [_firewall(opened, environ)]
    for domain in _domains(opened):
        yield f"DNS of {domain}", lambda domain=domain: _dns(opened, places, domain)  # type: ignore[misc]
    if not _domains(opened):
        yield "DNS", lambda: [_no_domain(opened)]


# --- settings, storage, clock, delegation, count --------------------------------------------------------------------------


def _settings(found: Mapping[str, Any]) -> Check:
    """Whether a service would start with the settings as they are now (a running one has those that it took up last)."""
    looked_at = "kmshost.toml, the setting table and the environment variables"
    if found["settings_problem"]:
        said = reporting.broken_settings(found)
        return Check(HOST, "settings", FAILED, looked_at, f"{said[0].upper()}{said[1:]}.", _MEND)
    return Check(HOST, "settings", OK, looked_at, "All of them can be used.")


_MEND = "Mend that setting: `volact kmshost status` says where it comes from."


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
    looked_at = "this machine's clock, the dates that the publisher signed, when machines called, and what their clocks said"
    now, keyring = opened.clock.now(), opened.keyring()
    advice = "Set the clock, and let time synchronisation keep it (timedatectl set-ntp true)."
    if keyring is not None and keyring.is_behind(now):
        said = f"It says {when(now)}, which is before what the publisher has signed: no lease is given."
        return Check(HOST, "clock", FAILED, looked_at, said, advice)
    doubt = _doubt(opened, keyring.newest if keyring else None, now)
    if doubt is not None:
        return Check(HOST, "clock", doubt[0], looked_at, f"It says {when(now)}; {doubt[1]}", _FIRST_THE_CLOCK)
    told = _told(opened)
    if len(told) < CLOCK_WITNESSES:
        said = f"{when(now)}; fewer than {CLOCK_WITNESSES} machines have called, to compare it with."
        if len(told) >= _FEW and min(map(abs, told)) > DAY:
            said = f"{when(now)}; the clocks of all {len(told)} machines that have called are more than a day away from it."
            return Check(HOST, "clock", WARNING, looked_at, said, advice)
        return Check(HOST, "clock", OK, looked_at, said)
    away = int(statistics.median_low(told))
    said = f"{when(now)}; most machines' clocks are {span(abs(away))} away from it."
    if abs(away) <= CLOCK_TOLERANCE:
        return Check(HOST, "clock", OK, looked_at, said)
    return Check(HOST, "clock", FAILED if abs(away) > DAY else WARNING, looked_at, said, advice)


_FEW = 3
"""So many machines whose clocks are all far away from the host's are worth a word."""
_FIRST_THE_CLOCK = (
    "Compare the clock with another one first, and set it if it is wrong. If it is right, this host was off or nobody"
    " called: see the delegation and the count."
)


def _doubt(opened: Opened, newest: Document | None, now: int) -> tuple[str, str] | None:
    """Why the clock may be far ahead, by what this host itself has seen, and how bad that is; None if nothing says so.

    A host that runs hears of its machines, whose records live for `lifetime`, as long as its delegation lasts; who
    comes to its end without having heard of any has skipped that time, or was off.
    """
    with opened.store.reading() as tx:
        events = sql.events(tx, limit=1, event=reporting.HANDLED)
    last = events[-1].time if events else None
    lifetime = min(
        (one.record_lifetime for one in opened.policies()), default=of_edition("client").record_lifetime
    )
    if newest is not None and now > newest["exp"]:
        over, whole = now - newest["exp"], newest["exp"] - newest.iat
        if over > whole:
            return FAILED, f"the delegation of {when(newest.iat)} was over {span(over)} ago by that clock."
        heard = newest.iat if last is None else last
        if newest["exp"] - heard > lifetime:
            return (
                WARNING,
                f"no machine has called since {when(heard)}, and the delegation is over by that clock.",
            )
    elif last is not None and now - last > lifetime:
        return WARNING, f"the last machine called {span(now - last)} ago by that clock."
    return None


def _told(opened: Opened) -> list[int]:
    """How far the clocks of the machines that called last were from this one then; of each what it said last."""
    with opened.store.reading() as tx:
        events = sql.events(tx, limit=10 * CLOCK_WITNESSES, event=reporting.HANDLED)
    last = {
        one.cmid: one.time - one.client_time for one in events if one.cmid and one.client_time is not None
    }
    return list(last.values())[-CLOCK_WITNESSES:]


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
    if found["reason"] == "host-clock-wrong" and found["warning"]:
        said = f"It was over at {found['until']}, by this machine's clock: no machine gets a lease."
        advice = f"See whether the clock is right, which comes first. If it is: {by_file}"
        return Check(HOST, "delegation", FAILED, looked_at, said, advice)
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


_NEARLY_FULL = 90


def _records(opened: Opened) -> Check:
    """How near the host is to its cap, at which machines that it does not know are refused (K17)."""
    looked_at = "how many records the host keeps, and the setting record_cap"
    cap = opened.settings_now().record_cap
    with opened.store.reading() as tx:
        kept = sql.records(tx)
    said = f"{kept} records, " + (f"{cap} at most." if cap else "any number.")
    if not cap or kept * 100 < cap * _NEARLY_FULL:
        return Check(HOST, "records", OK, looked_at, said)
    advice = "See volact kmshost clients: if the machines are yours, raise record_cap; if not, set networks."
    if kept < cap:
        return Check(HOST, "records", WARNING, looked_at, said, advice)
    return Check(HOST, "records", FAILED, looked_at, f"{said} New machines are refused (host-full).", advice)


def _sources(opened: Opened) -> Check:
    """Whether machines call from where anybody may: without `networks` a host serves everyone (K17)."""
    looked_at = "from where the machines that count called last, and the setting networks"
    with opened.store.reading() as tx:
        found = surveys.by_source(tx, opened.clock.now())
    said = f"{found['private']} from private addresses, {found['global']} from global ones"
    networks = opened.settings_now().networks
    if networks:
        return Check(HOST, "sources", OK, looked_at, f"{said}; only {networks} are served.")
    if found["global"]:
        advice = "If these are not your machines, set networks to those that are (kmshost.toml)."
        return Check(HOST, "sources", WARNING, looked_at, f"{said}; everyone is served.", advice)
    return Check(HOST, "sources", OK, looked_at, f"{said}; everyone is served.")


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
    if verdict.elsewhere and opened.settings_now().networks:
        return Check(HOST, "port", SKIPPED, looked_at, f"{said}, and serves {_from_here(opened)}")
    if verdict.verdict == probing.UNREADY:
        advice = "See what fails here besides."
        return Check(HOST, "port", WARNING, looked_at, f"{said}, and says: {verdict.detail}", advice)
    advice = _BUSY if verdict.verdict == probing.UNREACHABLE else _START
    return Check(HOST, "port", FAILED, looked_at, f"{said}, but at {address}: {verdict.detail}", advice)


def _from_here(opened: Opened) -> str:
    """What to say where the service does not serve the machine that it runs on."""
    networks = opened.settings_now().networks
    return f"only {networks}: this machine is in none of them, so it cannot be asked from here."


_BUSY = "See what keeps it from answering: its log, the load of this machine, and volact kmshost events."
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
    if dnsrecords.problem_of(opened.settings):
        return Check(HOST, "address", SKIPPED, looked_at, "A setting of DNS is wrong: see the settings.")
    records = _wanted(opened)
    asked = dict.fromkeys((one.port, ip) for one in records for ip in one.addresses)
    if not asked or listening.read(opened.folder) is None:
        reason = "The service is not running." if asked else "It publishes no address of its own."
        return Check(HOST, "address", SKIPPED, looked_at, reason)
    verdicts = probing.probe_all([(Address(ip, port), (ip,)) for port, ip in asked], places.known)
    mine = [one.target for one in verdicts if one.host == opened.signer.kid]
    others = [one for one in verdicts if one.host != opened.signer.kid]
    if others and all(one.elsewhere for one in others) and opened.settings_now().networks:
        return Check(HOST, "address", SKIPPED, looked_at, f"It serves {_from_here(opened)}")
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
    if seen.state in (nftables.ALLOWED, nftables.OPEN):
        return Check(HOST, "firewall", OK, looked_at, f"{seen.kind}: {seen.detail}")
    if not seen.kind or seen.state == nftables.UNKNOWN:
        return Check(HOST, "firewall", SKIPPED, looked_at, seen.detail)
    advice = "volact kmshost firewall shows the rule, and sets it with --apply."
    if not seen.commands:
        advice = "Take the machines that are to call out of these rules, if any of them is meant."
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
    if on and last is not None and last.detail:
        told = f"{wanted.srv} is served. {last.detail}"
        return Check(HOST, name, WARNING, looked_at, told, "Mend that, then: volact kmshost publish.")
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
