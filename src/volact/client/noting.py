"""What a contact leaves behind besides its answer: events, and when the next try is due (rule E, K6, K8)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from volact.client import events, planning

if TYPE_CHECKING:
    from collections.abc import Mapping

    from volact.calls import Answer
    from volact.client.installation import Installation
    from volact.protocol.problems import Refusal


def event(
    here: Installation,
    product: str,
    number: int,
    result: str,
    host: str,
    *,
    required: int | None = None,
    current: int | None = None,
) -> None:
    """Log an event of a product, and tell it; `host` is host:port of the server that was asked."""
    found, intervals = here.standing(product), here.intervals(product)
    now, wall = here.moment()
    noted = events.Event(
        time=now,
        event=number,
        result=events.known(result) if result else "",
        publisher=here.pub,
        product=product,
        cmid=here.signer.kid,
        host=host,
        required=required,
        current=current,
        client_time=wall,
        virtual=here.facts.virtual,
        state=found.state,
        minutes=minutes(here, product),
        renewal=intervals.renewal,
        retry=intervals.retry,
    )
    events.append(here.store.home, noted)
    here.around.tell(noted)


def minutes(here: Installation, product: str) -> int:
    """Minutes to the end of the present state; 0 if it has none."""
    end = here.standing(product).end
    return max(0, end - here.now) // 60 if end is not None else 0


def failed(here: Installation, product: str, refusal: Refusal, *, asked: int | None = None) -> None:
    """Plan the next try after a refusal, not sooner than its server, or several (`asked`, seconds), want it."""
    if asked is None:
        asked = count(refusal.extra, "retry_after")
    record = here.record(product)
    # The place in the spread stays while tries fail: see `planning` on why.
    place = record.place if record.failed else None
    place = planning.drawn(here.around.chance()) if place is None else place
    delay = planning.retry_after(here.intervals(product), asked or 0, place / planning.PLACES)
    here.remember(product, record._replace(next_try=here.now + delay, failed=refusal.code, place=place))


def count(members: Mapping[str, Any] | tuple[tuple[str, Any], ...], name: str) -> int | None:
    """A number that a refusal may carry; None if it does not, or it is none."""
    value = dict(members).get(name)
    return value if type(value) is int and value >= 0 else None


def with_wait(refusal: Refusal, answer: Answer) -> Refusal:
    """The refusal, with the header's Retry-After where the body has none."""
    seconds = answer.headers.get("retry-after", "")
    if any(name == "retry_after" for name, _ in refusal.extra) or not (
        seconds.isascii() and seconds.isdigit()
    ):
        return refusal
    return refusal._replace(extra=(*refusal.extra, ("retry_after", int(seconds[:9]))))
