"""A host's numbers for Prometheus (rule E, K13 to K15); docs/operations.md says what each means.

- What a process did is counted by that process; what hosts of one count share comes from their store, or from the last
  survey of the ledger, and each of them tells it alike.
- No label holds what somebody sent: codes, states, products, domains of the settings, and nothing of a machine.
"""

from __future__ import annotations

import math
import time
from collections import Counter as Tally
from typing import TYPE_CHECKING, NamedTuple, TypeVar

from prometheus_client import CollectorRegistry, Counter, Histogram, ProcessCollector, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.registry import Collector

from volact import __version__
from volact.kmshost import reporting
from volact.kmshost.counting import GRANTED, SERVERS
from volact.protocol.policy import DAY
from volact.protocol.problems import Refusal, VolactError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from prometheus_client.metrics_core import Metric

    from volact.kmshost.foresight import Foresight
    from volact.kmshost.keyring import Keyring
    from volact.kmshost.store import Event
    from volact.kmshost.surveys import Facts

S = TypeVar("S")
OTHER = "other"
_P = "volact_kmshost_"
_SIZES = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512)
_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5)


class View(NamedTuple):
    """A host at a moment, as it is told.

    Attributes:
        now: seconds UTC.
        host: the host's id.
        keyring: what it signs with; None as long as it has met no root document.
        doubted: whether the machines' clocks say that this one is wrong.
        facts: what the store says; None if it does not answer.
        problem: why it does not, or cannot be written.
        settings: what is wrong with the settings, so that those before hold; empty if nothing is.
    """

    now: int
    host: str
    keyring: Keyring | None
    doubted: bool
    facts: Facts | None
    problem: str = ""
    settings: str = ""

    @property
    def store_up(self) -> bool:
        """Whether the store can be written."""
        return self.facts is not None and not self.problem


class Metrics:
    """The numbers of one serving process."""

    def __init__(self, foresight: Foresight, timer: Callable[[], float] = time.perf_counter) -> None:
        """Count from zero; the count and its future are what `foresight` surveyed last."""
        self._timer = timer
        self._registry = CollectorRegistry()
        ProcessCollector(registry=self._registry)
        self._answers = Counter(
            f"{_P}answers", "Check-ins that this process answered.", ["outcome"], registry=self._registry
        )
        self._events = Counter(
            f"{_P}events", "Events of this process.", ["event", "result"], registry=self._registry
        )
        self._sizes = Histogram(
            f"{_P}batch_size", "Check-ins of a batch.", buckets=_SIZES, registry=self._registry
        )
        self._seconds = Histogram(
            f"{_P}batch_seconds",
            "Seconds that a batch took: verified, decided, on disk, signed.",
            buckets=_SECONDS,
            registry=self._registry,
        )
        self._told = _Told(foresight)
        self._registry.register(self._told)

    def measured(
        self, answer: Callable[[Sequence[S]], Sequence[bytes | Refusal]]
    ) -> Callable[[Sequence[S]], Sequence[bytes | Refusal]]:
        """What answers a batch, with its size, time and outcomes counted."""

        def measured(sent: Sequence[S]) -> Sequence[bytes | Refusal]:
            began = self._timer()
            try:
                answers = answer(sent)
            except VolactError as error:
                self.answered({error.refusal.code: len(sent)})
                raise
            self._seconds.observe(self._timer() - began)
            self._sizes.observe(len(sent))
            self.answered(Tally(one.code if isinstance(one, Refusal) else GRANTED for one in answers))
            return answers

        return measured

    def answered(self, outcomes: dict[str, int]) -> None:
        """Count answers by their outcome: ``ok`` or the code of a refusal."""
        for outcome, many in outcomes.items():
            self._answers.labels(_known(outcome)).inc(many)

    def happened(self, events: Iterable[Event]) -> None:
        """Count events by number and result."""
        for (number, result), many in Tally((one.event, one.result) for one in events).items():
            self._events.labels(str(number), _known(result)).inc(many)

    def text(self, view: View) -> bytes:
        """Everything in Prometheus' text format, as of a moment."""
        self._told.view = view
        return generate_latest(self._registry)


def _known(code: str) -> str:
    """A code as a label may hold it: one of our lists."""
    return code if code in reporting.RESULTS else OTHER


class _Told(Collector):
    """What is not counted here but told: of the host, its store, its ledger."""

    def __init__(self, foresight: Foresight) -> None:
        self._foresight = foresight
        self.view: View | None = None

    def collect(self) -> Iterator[Metric]:
        """The families, as of the view; none before there is one."""
        if self.view is None:
            return
        yield from _host(self.view)
        if self.view.facts is not None:
            yield from _store(self.view.facts)
        yield from self._ledger(self.view)

    def _ledger(self, view: View) -> Iterator[Metric]:
        """The count and its future, as surveyed last."""
        yield _gauge(
            "survey_seconds", "Seconds that the last survey of the ledger took.", self._foresight.cost
        )
        future, products = self._foresight.latest, view.keyring.products if view.keyring else {}
        if future is None:
            return
        yield _gauge("survey_timestamp_seconds", "When the ledger was surveyed last.", future.now)
        count = _gauges("count", "Machines or servers that count towards the product.", "product", "counted")
        overdue = _gauges("overdue", "How many of these have not called in time.", "product", "counted")
        required = _gauges("required", "How many the threshold requires.", "product", "counted")
        enough = _gauges("enough", "Whether a threshold of the product is reached (1) or not (0).", "product")
        loss = _gauges(
            "loss_seconds",
            "Seconds until the day on which the product's last threshold is lost; +Inf: no loss in sight.",
            "product",
            "line",
        )
        for prd, found in future.products.items():
            group = products[prd].group if prd in products else ""
            for counted in ("machines", SERVERS):
                line = future.counts.get((group, counted))
                if line is not None:
                    count.add_metric([prd, counted], line.now)
                    overdue.add_metric([prd, counted], line.overdue)
            for one in found.prospects:
                required.add_metric([prd, one.counted], one.minimum)
            enough.add_metric([prd], found.enough)
            for line_name, day in (("certain", found.certain), ("expected", found.expected)):
                loss.add_metric([prd, line_name], math.inf if day is None else max(0, day * DAY - view.now))
        yield from (count, overdue, required, enough, loss)


def _gauge(name: str, text: str, value: float) -> GaugeMetricFamily:
    return GaugeMetricFamily(_P + name, text, value=value)


def _gauges(name: str, text: str, *labels: str) -> GaugeMetricFamily:
    return GaugeMetricFamily(_P + name, text, labels=labels)


def _host(view: View) -> Iterator[Metric]:
    info = _gauges("info", "The host's id and version; always 1.", "host", "version")
    info.add_metric([view.host, __version__], 1)
    yield info
    newest = view.keyring.newest if view.keyring else None
    yield _gauge("activated", "Whether the host holds a delegation (1) or not (0).", newest is not None)
    yield _gauge(
        "clock_doubted", "Whether the machines' clocks say that this one is wrong (1).", view.doubted
    )
    yield _gauge("store_up", "Whether the store can be written (1) or not (0).", view.store_up)
    if newest is not None:
        yield _gauge("delegation_end_timestamp_seconds", "When the delegation ends.", newest["exp"])
        yield _gauge("delegation_start_timestamp_seconds", "When it began.", newest.iat)


def _store(facts: Facts) -> Iterator[Metric]:
    requests = CounterMetricFamily(
        f"{_P}requests",
        "Check-ins decided by all hosts of this count, by outcome and by the state that the machine reported.",
        labels=("outcome", "state"),
    )
    for (outcome, state), many in sorted(facts.tally.items()):
        requests.add_metric([_known(outcome), reporting.state_name(state)], many)
    yield requests
    yield _gauge("copies", "Machines that called with another one's identity (K14).", facts.copies)
    published = _gauges(
        "dns_published_timestamp_seconds", "When a domain's records were published last.", "domain"
    )
    for domain, at in sorted(facts.published.items()):
        published.add_metric([domain], at)
    yield published
    if facts.list_fetched is not None:
        yield _gauge(
            "status_list_timestamp_seconds", "When the status list was taken last.", facts.list_fetched
        )
