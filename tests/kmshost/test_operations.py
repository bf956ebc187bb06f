"""Health, metrics and their loopback listener (rule E, DESIGN section 2); the whole service is in tests/system."""

import asyncio
import json
import re
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families

from kmshost.site import LASTS, PRODUCT, SERVER, Numbers, Site, activated
from volact import __version__
from volact.kmshost import operations, settings, surveys
from volact.kmshost import store as sql
from volact.kmshost.foresight import Foresight
from volact.kmshost.metrics import Metrics, View
from volact.kmshost.operations import Operations, Watched
from volact.kmshost.terms import Intervals
from volact.protocol.problems import BrokenData, Refusal, Refused, UsageError
from world import DAY, NOW

ROOT = Path(__file__).parents[2]


@pytest.fixture
def one(make_site: Callable[..., Site], kind: str) -> Site:
    return make_site()


def facts(site: Site) -> surveys.Facts:
    with site.store.writing() as tx:
        return surveys.facts(tx, site.signer.kid)


def view(site: Site, **more: Any) -> View:
    members = {
        "now": site.clock.now(),
        "host": site.signer.kid,
        "keyring": site.keyring(),
        "doubted": False,
        "facts": facts(site),
        **more,
    }
    return View(**members)


def samples(text: bytes) -> dict[str, dict[tuple[tuple[str, str], ...], float]]:
    """What Prometheus' own parser reads: name, labels, value."""
    found: dict[str, dict[tuple[tuple[str, str], ...], float]] = {}
    for family in text_string_to_metric_families(text.decode()):
        for sample in family.samples:
            found.setdefault(sample.name, {})[tuple(sorted(sample.labels.items()))] = sample.value
    return found


def labels(**found: str) -> tuple[tuple[str, str], ...]:
    return tuple(sorted(found.items()))


# --- health -----------------------------------------------------------------------------------------------------


def test_an_activated_host_is_well(one: Site) -> None:
    found = operations.health(view(one))
    assert found["status"] == "ok"
    assert found["host"] == one.signer.kid
    checks = found["checks"]
    assert all(check["ok"] for check in checks.values())
    assert checks["activated"]["products"] == [PRODUCT]
    assert checks["delegation"]["used_percent"] == 0
    assert checks["status_list"] == {"ok": True, "age": None, "warning": None}


@pytest.mark.parametrize(
    ("more", "failing"),
    [
        ({"facts": None, "problem": "storage-unavailable"}, ["store"]),
        ({"keyring": None}, ["activated", "delegation"]),
        ({"doubted": True}, []),
        ({"settings": "port: must be a whole number"}, []),
        ({"now": NOW - 3601}, ["clock"]),
        ({"now": NOW - 3600}, []),
        ({"now": NOW + LASTS - 9}, []),
        ({"now": NOW + LASTS}, ["delegation"]),
    ],
)
def test_what_keeps_a_host_from_answering_is_named(
    one: Site, more: dict[str, Any], failing: list[str]
) -> None:
    found = operations.health(view(one, **more))
    assert [name for name, check in found["checks"].items() if not check["ok"]] == failing
    assert found["status"] == ("failing" if failing else "ok")


@pytest.mark.parametrize(
    ("age", "warned"), [(7 * DAY - 1, False), (7 * DAY, False), (7 * DAY + 1, True), (-5, False)]
)
def test_an_old_status_list_is_warned_of(one: Site, age: int, warned: bool) -> None:
    """F42."""
    found = facts(one)._replace(list_fetched=NOW - age)
    check = operations.health(view(one, facts=found))["checks"]["status_list"]
    assert (check["ok"], check["warning"] is not None, check["age"]) == (True, warned, max(0, age))


# --- metrics ----------------------------------------------------------------------------------------------------


def test_the_count_its_future_and_the_requests_are_told(site: Site, numbers: Numbers) -> None:
    activated(site, numbers)
    foresight = Foresight(site.store)
    found = Metrics(foresight)
    assert b"volact_kmshost_count" not in found.text(view(site))
    foresight.look(site.keyring(), Intervals(), site.clock.now(), 0)
    told = samples(found.text(view(site)))
    machines = labels(product=PRODUCT, counted="machines")
    assert told["volact_kmshost_count"][machines] == numbers.machines
    assert told["volact_kmshost_required"][machines] == numbers.machines
    assert told["volact_kmshost_required"][labels(product=SERVER, counted="servers")] == numbers.servers
    assert told["volact_kmshost_overdue"][machines] == 0
    assert told["volact_kmshost_enough"][labels(product=PRODUCT)] == 1
    assert told["volact_kmshost_loss_seconds"][labels(product=PRODUCT, line="expected")] == float("inf")
    day = (site.clock.now() + numbers.lifetime) // DAY
    certain = told["volact_kmshost_loss_seconds"][labels(product=PRODUCT, line="certain")]
    assert certain == day * DAY - site.clock.now()
    requests = told["volact_kmshost_requests_total"]
    assert requests[labels(outcome="ok", state="Initial grace")] == numbers.machines + 1
    assert requests[labels(outcome="count-insufficient", state="Initial grace")] == numbers.machines - 1
    assert told["volact_kmshost_info"][labels(host=site.signer.kid, version=__version__)] == 1
    assert told["volact_kmshost_activated"][()] == told["volact_kmshost_store_up"][()] == 1


def test_a_store_that_is_gone_and_a_host_that_is_not_activated_are_told(one: Site) -> None:
    told = samples(Metrics(Foresight(one.store)).text(view(one, facts=None, keyring=None, doubted=True)))
    assert told["volact_kmshost_store_up"][()] == told["volact_kmshost_activated"][()] == 0
    assert told["volact_kmshost_clock_doubted"][()] == 1
    assert "volact_kmshost_delegation_end_timestamp_seconds" not in told
    assert "volact_kmshost_requests_total" not in told


def test_copies_published_records_and_the_list_are_told(one: Site) -> None:
    known = facts(one)._replace(copies=3, published={"corp.example": NOW}, list_fetched=NOW - 5)
    told = samples(Metrics(Foresight(one.store)).text(view(one, facts=known)))
    assert told["volact_kmshost_copies"][()] == 3
    assert told["volact_kmshost_dns_published_timestamp_seconds"][labels(domain="corp.example")] == NOW
    assert told["volact_kmshost_status_list_timestamp_seconds"][()] == NOW - 5


def test_batches_are_measured_and_their_answers_counted(one: Site) -> None:
    ticks = iter([1.0, 1.5, 2.0, 2.0])
    found = Metrics(Foresight(one.store), timer=lambda: next(ticks))
    answers: list[bytes | Refusal] = [b"lease", Refusal("nonce-refused"), Refusal("made-up")]
    answer = found.measured(lambda sent: answers[: len(sent)])
    assert answer([1, 2, 3]) == answers
    answer([1])
    told = samples(found.text(view(one)))
    assert told["volact_kmshost_answers_total"] == {
        labels(outcome="ok"): 2,
        labels(outcome="nonce-refused"): 1,
        labels(outcome="other"): 1,
    }
    assert told["volact_kmshost_batch_size_sum"][()] == 4
    assert told["volact_kmshost_batch_seconds_sum"][()] == 0.5
    assert told["volact_kmshost_batch_seconds_count"][()] == 2


def test_a_batch_that_the_store_failed_counts_as_its_refusal(one: Site) -> None:
    def fails(_sent: Any) -> list[bytes]:
        raise BrokenData("The disk is full.", "storage-unavailable")

    found = Metrics(Foresight(one.store))
    with pytest.raises(BrokenData):
        found.measured(fails)([1, 2])
    told = samples(found.text(view(one)))
    assert told["volact_kmshost_answers_total"] == {labels(outcome="storage-unavailable"): 2}


def test_events_are_counted_by_number_and_result(one: Site) -> None:
    found = Metrics(Foresight(one.store))
    made_up = "a result that\nsomebody sent"
    found.happened(
        [sql.Event(NOW, 12290, "ok"), sql.Event(NOW, 12290, "ok"), sql.Event(NOW, 12295, "count-will-fall")]
    )
    found.happened([sql.Event(NOW, 12290, made_up)])
    assert samples(found.text(view(one)))["volact_kmshost_events_total"] == {
        labels(event="12290", result="ok"): 2,
        labels(event="12295", result="count-will-fall"): 1,
        labels(event="12290", result="other"): 1,
    }


# --- the listener's rules ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("setting", "expected"),
    [
        ("127.0.0.1:1690", ("127.0.0.1", 1690)),
        ("localhost:0", ("127.0.0.1", 0)),
        ("127.8.9.1:80", ("127.8.9.1", 80)),
        ("[::1]:1690", ("::1", 1690)),
    ],
)
def test_it_listens_on_loopback(setting: str, expected: tuple[str, int]) -> None:
    assert settings.ops_place(setting) == expected


@pytest.mark.parametrize(
    "setting",
    [
        "0.0.0.0:1690",
        "[::]:1690",
        "192.0.2.1:1690",
        "kms.example:1690",
        "1690",
        "127.0.0.1",
        "127.0.0.1:70000",
        ":1",
    ],
)
def test_it_listens_nowhere_else(setting: str) -> None:
    with pytest.raises(UsageError):
        settings.ops_place(setting)


class Asked:
    """The ASGI application, asked without a network."""

    def __init__(self, site: Site, *, timer: Callable[[], float] = time.monotonic) -> None:
        self.site = site
        self.books: Any = site.store
        self.looks = 0
        watched = Watched(self, site.signer.kid, lambda: site.clock, site.keyring, lambda: False)  # type: ignore[arg-type]  # counts looks
        self.operations = Operations(watched, Metrics(Foresight(site.store)), timer)

    def writing(self) -> Any:
        self.looks += 1
        return self.books.writing()

    def get(
        self, path: str, *, host: str | None = "127.0.0.1:1690", method: str = "GET", times: int = 1
    ) -> Any:
        headers = [(b"host", host.encode())] if host is not None else []

        async def ask() -> list[dict[str, Any]]:
            sent: list[dict[str, Any]] = []

            async def send(message: Any) -> None:
                sent.append(message)

            app = self.operations.app()
            scope = {"path": path, "method": method, "headers": headers}
            await asyncio.gather(*[app(scope, _receive, send) for _ in range(times)])
            return sent

        messages = asyncio.run(ask())
        return messages[0]["status"], dict(messages[0]["headers"]), messages[1]["body"]

    def close(self) -> None:
        asyncio.run(self.operations.close())


async def _receive() -> dict[str, Any]:
    return {"type": "http.request", "body": b""}


@pytest.fixture
def asked(one: Site) -> Any:
    made = Asked(one)
    yield made
    made.close()


@pytest.mark.parametrize("host", ["127.0.0.1:1690", "localhost", "localhost:1", "[::1]:1690", "127.0.0.1"])
def test_who_is_here_is_answered(asked: Asked, host: str) -> None:
    status, headers, body = asked.get("/health", host=host)
    assert (status, headers[b"content-type"], json.loads(body)["status"]) == (200, b"application/json", "ok")
    assert asked.get("/metrics", host=host)[0] == 200


@pytest.mark.parametrize(
    "host", ["evil.example", "127.0.0.1.evil.example:1690", "", None, "[::1", "192.0.2.1"]
)
def test_a_page_that_was_led_here_by_another_name_reads_nothing(asked: Asked, host: str | None) -> None:
    """DNS rebinding."""
    if host == "[::1":
        assert asked.get("/metrics", host=host)[0] == 200  # an address of here all the same
        return
    for path in ("/health", "/metrics"):
        status, _, body = asked.get(path, host=host)
        assert (status, json.loads(body)["code"]) == (404, "not-found")


@pytest.mark.parametrize(
    ("method", "path", "code"),
    [
        ("GET", "/", "not-found"),
        ("GET", "/v1/host", "not-found"),
        ("POST", "/health", "method-not-allowed"),
        ("DELETE", "/metrics", "method-not-allowed"),
    ],
)
def test_nothing_else_is_there(asked: Asked, method: str, path: str, code: str) -> None:
    assert json.loads(asked.get(path, method=method)[2])["code"] == code


def test_metrics_are_in_prometheus_text_format(asked: Asked) -> None:
    status, headers, body = asked.get("/metrics")
    assert (status, headers[b"content-type"]) == (200, b"text/plain; version=0.0.4; charset=utf-8")
    assert "volact_kmshost_info" in samples(body)
    assert "process_resident_memory_bytes" in samples(body)


def test_a_store_that_cannot_be_written_is_503_and_metrics_go_on(asked: Asked) -> None:
    class Broken:
        def writing(self) -> Any:
            raise Refused(Refusal("busy"))

    asked.books = Broken()
    status, _, body = asked.get("/health")
    check = json.loads(body)["checks"]["store"]
    assert (status, check["ok"], check["problem"].startswith("busy: ")) == (503, False, True)
    assert samples(asked.get("/metrics")[2])["volact_kmshost_store_up"][()] == 0


def test_the_store_is_asked_once_in_two_seconds_however_many_ask(one: Site) -> None:
    clock = [100.0]
    asked = Asked(one, timer=lambda: clock[0])
    asked.get("/health", times=50)
    assert asked.looks == 1
    for passed, looks in ((1.9, 1), (0.2, 2)):
        clock[0] += passed
        # Another loop than before, whose future has been answered.
        asked.get("/metrics", times=5)
        assert asked.looks == looks
    asked.close()


# --- the dashboard ----------------------------------------------------------------------------------------------


def test_every_metric_of_the_dashboard_and_the_page_is_one_that_is_told(site: Site, numbers: Numbers) -> None:
    """docs/grafana and docs/operations.md against a scrape with everything in it."""
    activated(site, numbers)
    foresight = Foresight(site.store)
    found = Metrics(foresight)
    foresight.look(site.keyring(), Intervals(), site.clock.now(), 0)
    found.happened([sql.Event(NOW, 12290, "ok")])
    found.measured(lambda sent: [b""] * len(sent))([1])
    known = facts(site)._replace(published={"corp.example": NOW}, list_fetched=NOW)
    told = set(samples(found.text(view(site, facts=known))))
    board = (ROOT / "docs" / "grafana" / "volact-kmshost.json").read_text("utf-8")
    queried = {
        name
        for expr in expressions(json.loads(board))
        for name in re.findall(r"[a-z_]+_[a-z_]+(?=[{\[ )]|$)", expr)
    }
    queried = {name for name in queried if name.startswith(("volact_", "process_"))}
    assert len(queried) > 15
    assert queried <= told
    page = (ROOT / "docs" / "operations.md").read_text("utf-8")
    documented = {name.removesuffix("_total") for name in re.findall(r"`(volact_kmshost_[a-z_]+)`", page)}
    text = found.text(view(site, facts=known)).decode()
    families = {family.name.removesuffix("_created") for family in text_string_to_metric_families(text)}
    assert documented == {name for name in families if name.startswith("volact_")}


def expressions(board: Any) -> list[str]:
    """Every query of a dashboard."""
    if isinstance(board, dict):
        own = [board["expr"]] if isinstance(board.get("expr"), str) else []
        return own + [one for member in board.values() for one in expressions(member)]
    return [one for member in board for one in expressions(member)] if isinstance(board, list) else []


def test_the_dashboard_takes_its_source_from_a_variable() -> None:
    board = json.loads((ROOT / "docs" / "grafana" / "volact-kmshost.json").read_text("utf-8"))
    assert {one["name"]: one["type"] for one in board["templating"]["list"]}["datasource"] == "datasource"
    panels = board["panels"]
    assert len({panel["id"] for panel in panels}) == len(panels) > 8
    for panel in panels:
        if panel["type"] != "row":
            assert panel["datasource"] == {"type": "prometheus", "uid": "${datasource}"}
            assert panel["title"]
