"""The API's routes of undertakings: what is begun is answered with 202 and an id, by which it is looked at and stopped.

Nothing is done twice here that a command does: each calls the same use case, in a thread of its own (V2, V5, P1).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from litestar import Response, get, post
from litestar.params import FromPath, JSONBody  # noqa: TC002 - Litestar reads the annotations
from litestar.response import Stream  # noqa: TC002 - Litestar reads the annotations

from volact import calls
from volact.commands import when
from volact.protocol.problems import UsageError
from volact.vamt import cil, keyreporting, proxymachines, proxyshow
from volact.vamt.api import bodies
from volact.vamt.api import rows as apirows
from volact.vamt.api.answers import of
from volact.vamt.api.desk import USUAL_PAGE, At, By, Limit, Offset, name_in
from volact.vamt.api.lists import BINARY, FILE, sent
from volact.vamt.api.works import Work  # noqa: TC001 - as above

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from volact.vamt.applying import Applied, Apply
    from volact.vamt.applying import Work as ToBring
    from volact.vamt.collecting.targets import Progress
    from volact.vamt.collection import Collected
    from volact.vamt.proxy import Outcome


def begun(work: Work) -> Response[apirows.Undertaking]:
    """The answer to what was begun."""
    return Response(told(work), status_code=202, headers={"location": f"/v1/undertakings/{work.id}"})


def told(work: Work) -> apirows.Undertaking:
    """An undertaking as it stands."""
    return of(
        apirows.Undertaking,
        {
            "id": work.id,
            "what": work.what,
            "about": work.said,
            "who": work.who,
            "asked": when(work.at),
            "began": None if work.began is None else when(work.began),
            "ended": None if work.ended is None else when(work.ended),
            "state": work.state,
            "done": work.done,
            "failed": work.failed,
            "total": work.total,
            "rows": work.rows(0, 0).total,
            "result": work.result,
            "problem": work.refusal.document() if work.refusal else None,
            "file": work.file.name if work.file else None,
        },
    )


# --- looking and stopping -----------------------------------------------------------------------------------------


@get("/undertakings", sync_to_thread=True)
def list_undertakings(desk: At, person: By) -> list[apirows.Undertaking]:
    """List the undertakings of this service since it was started, the newest first."""
    return [told(one) for one in desk.works.list(person)]


@get("/undertakings/{name:str}", sync_to_thread=True)
def show_undertaking(desk: At, person: By, name: FromPath[str]) -> apirows.Undertaking:
    """Show how far an undertaking is, and what it came to."""
    return told(desk.works.get(person, name_in(name)))


@get("/undertakings/{name:str}/rows", sync_to_thread=True)
def list_rows(
    desk: At, person: By, name: FromPath[str], limit: Limit = USUAL_PAGE, offset: Offset = 0
) -> apirows.UndertakingRows:
    """List what became of rows so far; of a collection those that failed."""
    found = desk.works.get(person, name_in(name)).rows(offset, limit)
    return of(apirows.UndertakingRows, {"total": found.total, "offset": offset, "rows": found.rows})


@get("/undertakings/{name:str}/file", sync_to_thread=True, responses=FILE)
def fetch_file(desk: At, person: By, name: FromPath[str]) -> Stream:
    """Hand out what an undertaking wrote: the computer list of an export."""
    found = desk.works.finished(person, name_in(name))
    return sent(found.path.open("rb"), found.name, found.kind)


@post("/undertakings/{name:str}/stop", sync_to_thread=True, status_code=202)
def stop_undertaking(desk: At, person: By, name: FromPath[str]) -> apirows.Undertaking:
    """Let an undertaking end soon; what came out until then is kept."""
    return told(desk.works.stop(person, name_in(name)))


# --- collecting ---------------------------------------------------------------------------------------------------


@post("/collections", sync_to_thread=True, status_code=202)
def collect(desk: At, person: By, data: JSONBody[bodies.Collect]) -> Response[apirows.Undertaking]:
    """Ask machines for their licences, without an agent: over SSH, WinRM for Windows."""
    if data.resume == (data.selection is not None):
        raise UsageError("Give either a selection or resume: that goes on with what was selected then.")
    said = {"selection": data.selection.chosen().said()} if data.selection else {"resume": True}
    desk.works.permit(person, "collect", said)
    chosen = data.selection.chosen() if data.selection else None
    limits, by_group = desk.reaching(data.limit, data.at_once, accept_new=data.accept_new)
    if chosen:
        desk.vamt.collecting.targets(person, chosen, by_group)

    def run(work: Work) -> dict[str, Any]:
        def tell(progress: Progress) -> None:
            work.done, work.failed, work.total = progress.done, progress.failed, progress.total

        done = work.run(desk.vamt.collecting.collect(person, chosen, by_group, limits, tell))
        work.add(_failed(done))
        work.done, work.failed, work.total = done.done, len(done.failed), done.asked
        return {"asked": done.asked, "answered": done.done, "failed": len(done.failed)}

    return begun(desk.works.start(person, "collect", said, run))


def _failed(done: Collected) -> list[dict[str, Any]]:
    return [
        {
            "machine": one.name,
            "id": one.mid,
            "product": None,
            "operation": "collect",
            "key": None,
            "state": "failed",
            "code": one.refusal.code,
            "detail": one.refusal.detail,
            "next": one.refusal.problem.next_step,
        }
        for one in done.failed
    ]


# --- keys ---------------------------------------------------------------------------------------------------------


@post("/key-refreshes", sync_to_thread=True, status_code=202)
def refresh_keys(desk: At, person: By, data: JSONBody[bodies.RefreshKeys]) -> Response[apirows.Undertaking]:
    """Ask the publisher how many activations of keys, by default of all, are bought, used and left."""
    desk.works.permit(person, "refresh-keys", {"keys": len(data.keys)})
    for one in data.keys:
        desk.vamt.keys.show(person, one)

    def run(work: Work) -> dict[str, Any]:
        done = desk.vamt.keys.refresh(person, data.keys, desk.unlock, calls.Caller, work.tell)
        work.add(
            [
                {
                    "machine": None,
                    "id": None,
                    "product": one.key.product,
                    "operation": "remaining",
                    "key": one.key.label,
                    "state": "failed" if one.refusal else "done",
                    "code": one.refusal.code if one.refusal else None,
                    "detail": str(one.refusal) if one.refusal else None,
                    "next": one.refusal.problem.next_step if one.refusal else None,
                }
                for one in done
            ]
        )
        failed = sum(one.refusal is not None for one in done)
        work.done, work.failed, work.total = len(done) - failed, failed, len(done)
        return {"keys": [keyreporting.refreshed(one) for one in done]}

    return begun(desk.works.start(person, "refresh-keys", {"keys": data.keys or "all"}, run))


# --- computer lists -----------------------------------------------------------------------------------------------


@post("/lists", sync_to_thread=True, status_code=202)
def export_list(desk: At, person: By, data: JSONBody[bodies.ExportList]) -> Response[apirows.Undertaking]:
    """Write a computer list of what the selected machines ask; they are asked for it. It is fetched as a file."""
    chosen = data.selection.chosen()
    said = {"selection": chosen.said(), "proxy_only": data.proxy_only}
    desk.works.permit(person, "export", said)
    at = desk.of(person)
    pub = proxyshow.publisher(at, data.publisher)
    limits, logins = desk.reaching(data.limit)
    desk.vamt.collecting.targets(person, chosen, logins)

    def run(work: Work) -> dict[str, Any]:
        ask = proxymachines.asker(proxyshow.targets(at, logins), logins, limits)
        done = desk.vamt.proxy.export(
            person,
            pub,
            lambda: desk.works.writing(work, "questions.cil", BINARY),
            selection=chosen,
            ask=lambda rows: _counted(work, ask(rows), len(rows)),
            mode=cil.PROXY if data.proxy_only else cil.FULL,
            again=data.again,
        )
        work.add(_rows(done.outcomes))
        work.done, work.failed = done.written.rows, len(done.outcomes) - done.written.rows
        return proxyshow.list_json(done.written)

    return begun(desk.works.start(person, "export", said, run))


@post("/lists/{name:str}/acquire", sync_to_thread=True, status_code=202)
def acquire(desk: At, person: By, name: FromPath[str]) -> Response[apirows.Undertaking]:
    """Ask the publisher's authority for what the rows of a list that came in ask for; only those without an answer."""
    lid = name_in(name)
    desk.works.permit(person, "acquire", {"list": lid})
    desk.vamt.proxy.receipt(person, lid)

    def run(work: Work) -> dict[str, Any]:
        done = desk.vamt.acquiring.acquire(person, lid, calls.Caller, work.tell)
        work.add(_rows(done.outcomes))
        work.done, work.failed = (
            done.answered + done.before,
            sum(one.refusal is not None for one in done.outcomes),
        )
        missing = done.status_list.document() if done.status_list else None
        return {"answered": done.answered, "before": done.before, "status_list": missing}

    return begun(desk.works.start(person, "acquire", {"list": lid}, run))


@post("/lists/{name:str}/apply", sync_to_thread=True, status_code=202)
def apply(
    desk: At, person: By, name: FromPath[str], data: JSONBody[bodies.Apply]
) -> Response[apirows.Undertaking]:
    """MAK Proxy Activate: bring what came back for a list to its machines."""
    lid = name_in(name)
    desk.works.permit(person, "apply", {"list": lid})
    desk.vamt.proxy.receipt(person, lid)
    bring = _bringer(desk, person, data.limit)
    return _bringing(
        desk,
        person,
        {"list": lid},
        lambda work: desk.vamt.applying.apply(person, lid, bring(work), again=data.again),
    )


@post("/selections/reactivate", sync_to_thread=True, status_code=202)
def reactivate(desk: At, person: By, data: JSONBody[bodies.Reactivate]) -> Response[apirows.Undertaking]:
    """Activate machines again from confirmations that are kept here: nothing is counted, nobody is asked (P4)."""
    chosen = data.selection.chosen()
    said = {"kept": chosen.said()}
    desk.works.permit(person, "apply", said)
    desk.vamt.collecting.targets(person, chosen, ())
    bring = _bringer(desk, person, data.limit)
    return _bringing(
        desk, person, said, lambda work: desk.vamt.applying.reactivate(person, chosen, bring(work))
    )


def _bringer(desk: At, person: By, seconds: int | None) -> Callable[[Work], Apply]:
    """What brings things to machines for an undertaking."""
    limits, logins = desk.reaching(seconds)
    bring = proxymachines.applier(proxyshow.targets(desk.of(person), logins), logins, limits)

    def of(work: Work) -> Apply:
        def apply(works: Sequence[ToBring]) -> Iterable[Applied]:
            return _counted(work, bring(works), len(works))

        return apply

    return of


def _bringing(
    desk: At, person: By, said: dict[str, Any], bring: Callable[[Work], list[Outcome]]
) -> Response[apirows.Undertaking]:
    def run(work: Work) -> dict[str, Any]:
        done = bring(work)
        failed = sum(one.refusal is not None for one in done)
        work.add(_rows(done))
        work.done, work.failed, work.total = len(done) - failed, failed, len(done)
        return {"applied": len(done) - failed, "failed": failed}

    return begun(desk.works.start(person, "apply", said, run))


def _counted(work: Work, said: Iterable[Any], total: int) -> Iterator[Any]:
    """What machines say, counted as it comes, until somebody stops it."""
    for count, one in enumerate(said, 1):
        yield one
        work.tell(count, total)


def _rows(found: Sequence[Outcome]) -> list[dict[str, Any]]:
    rows = proxyshow.outcomes_json(found)
    return [{"id": row.pop("row"), **row} for row in rows]


ROUTES: list[Any] = [
    list_undertakings, show_undertaking, list_rows, fetch_file, stop_undertaking, collect, refresh_keys, export_list,
    acquire, apply, reactivate,
]  # fmt: skip
