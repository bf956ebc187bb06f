"""The API's routes of actions on machines, of what waits for those that are off, and of schedules (V5).

An action has an id of its own, by which it is known after a restart too; doing it is an undertaking.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

from litestar import Response, delete, get, post
from litestar.params import FromPath, JSONBody  # noqa: TC002 - Litestar reads the annotations

from volact.commands import when
from volact.protocol.problems import UsageError
from volact.vamt import actionrecords, actionreporting, actions, acts
from volact.vamt.api import bodies
from volact.vamt.api import rows as apirows
from volact.vamt.api.answers import Count, of
from volact.vamt.api.desk import USUAL_PAGE, At, By, Limit, name_in
from volact.vamt.api.work import begun

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from volact.vamt.actionrecords import Row
    from volact.vamt.api.works import Work
    from volact.vamt.collecting.targets import Progress
    from volact.vamt.performing import Means


# --- actions ------------------------------------------------------------------------------------------------------


@post("/actions/plan", sync_to_thread=True, status_code=200)
def plan_action(desk: At, person: By, data: JSONBody[bodies.Act]) -> apirows.Action:
    """Say what an action would do, row by row, and why not; nothing is done, and no machine hears of it."""
    found = desk.vamt.acts.plan(person, data.wanted(), data.selection.chosen(), key=data.key)
    return of(apirows.Action, actionreporting.acted(found))


@post("/actions", sync_to_thread=True, status_code=202)
def begin_action(desk: At, person: By, data: JSONBody[bodies.Begin]) -> Response[apirows.Undertaking]:
    """Do something to a selection of machines; what failed does not stop the others."""
    action, chosen = data.wanted(), data.selection.chosen()
    acts.check(action)
    desk.works.permit(person, action.least, {**action.said(), "selection": chosen.said()})
    means = desk.means(data.limit, data.at_once)
    aid = desk.vamt.acts.begin(person, action, chosen, key=data.key, queue=data.queue)
    return _doing(desk, person, (aid, action.name), means, resume=False)


@get("/actions", sync_to_thread=True)
def list_actions(desk: At, person: By, limit: Limit = USUAL_PAGE) -> list[apirows.BegunAction]:
    """List the newest actions, and how many rows of each are done, failed or wait."""
    return [
        apirows.BegunAction(
            id=task.aid,
            action=task.what,
            by=task.who,
            begun=when(task.at),
            state=task.state,
            rows=dict(counts),
        )
        for task, counts in desk.vamt.acts.list(person, limit)
    ]


@get("/actions/{action:str}", sync_to_thread=True)
def show_action(desk: At, person: By, action: FromPath[str]) -> apirows.Action:
    """Show an action row by row: what came of it, why not, and what to do next."""
    return of(apirows.Action, actionreporting.acted(desk.vamt.acts.show(person, name_in(action))))


@post("/actions/{action:str}/resume", sync_to_thread=True, status_code=202)
def resume_action(
    desk: At, person: By, action: FromPath[str], data: JSONBody[bodies.GoOn]
) -> Response[apirows.Undertaking]:
    """Go on with an action: with rows that were not tried, were under way, failed or wait. What is done stays done."""
    found = desk.vamt.acts.show(person, name_in(action))
    means = desk.means(data.limit, data.at_once)
    return _doing(desk, person, (found.task.aid, found.action.name), means, resume=True)


def _doing(
    desk: At, person: By, of: tuple[str, str], means: Means, *, resume: bool
) -> Response[apirows.Undertaking]:
    """Do the action with an id and a name, as an undertaking."""
    aid, name = of

    def run(work: Work) -> dict[str, Any]:
        acted = work.run(desk.vamt.acts.run(person, aid, means, partial(_tell, work), resume=resume))
        _take(work, acted.rows, acted.labels, name)
        return {"action_id": aid, "counts": actionreporting.counts(acted.rows)}

    said = {"action": name, "action_id": aid}
    return begun(desk.works.start(person, actions.LEAST[name], said, run))


def _tell(work: Work, progress: Progress) -> None:
    work.done, work.failed, work.total = progress.done, progress.failed, progress.total


def _take(work: Work, rows: Sequence[Row], labels: Mapping[str, str], what: str) -> None:
    """Say what came of the rows of an action."""
    told = [actionreporting.row(one, labels) for one in rows]
    members = ("machine", "id", "product", "key", "code", "detail", "next")
    work.add(
        [
            {**{name: one[name] for name in members}, "operation": what, "state": one["outcome"]}
            for one in told
        ]
    )
    states = [one.state for one in rows]
    work.done, work.failed = states.count(actionrecords.DONE), states.count(actionrecords.FAILED)
    work.total = len(states)


# --- the queue ----------------------------------------------------------------------------------------------------


@get("/queue", sync_to_thread=True)
def list_queue(desk: At, person: By) -> list[apirows.WaitingRow]:
    """List what waits for machines that are off, and when it is tried again."""
    found = desk.vamt.queue.list(person)
    labels = {one.thumbprint: one.label for one in desk.vamt.keys.list(person)}
    return of(list[apirows.WaitingRow], [actionreporting.waiting(one, labels) for one in found])


@post("/queue/run", sync_to_thread=True, status_code=202)
def run_queue(desk: At, person: By, data: JSONBody[bodies.RunQueue]) -> Response[apirows.Undertaking]:
    """Try what is due once more; each machine is looked at first, so that nothing is done twice."""
    desk.works.permit(person, "schedule", {"queue": "run"})
    means = desk.means(data.limit, data.at_once)
    now = desk.vamt.office.clock.now()
    if data.every:
        now = max([now, *(one.row.due or 0 for one in desk.vamt.queue.list(person))])
    labels = {one.thumbprint: one.label for one in desk.vamt.keys.list(person)}

    def run(work: Work) -> dict[str, Any]:
        rows = work.run(desk.vamt.queue.run_due(now, means, partial(_tell, work)))
        _take(work, rows, labels, "queue")
        return {"counts": actionreporting.counts(rows)}

    return begun(desk.works.start(person, "schedule", {"queue": "run", "every": data.every}, run))


@post("/queue/cancel", sync_to_thread=True, status_code=200)
def cancel_queue(desk: At, person: By, data: JSONBody[bodies.Cancel]) -> Count:
    """Let actions wait no longer; what is done stays done."""
    if data.every == bool(data.names):
        raise UsageError("Name actions or machines, or say every.")
    return Count(count=desk.vamt.queue.cancel(person, data.names, every=data.every))


# --- schedules ----------------------------------------------------------------------------------------------------


@get("/schedules", sync_to_thread=True)
def list_schedules(desk: At, person: By) -> list[apirows.Schedule]:
    """List schedules: when each is due, and what it came to last."""
    return [_schedule(one) for one in desk.vamt.schedules.list(person)]


@post("/schedules", sync_to_thread=True)
def add_schedule(desk: At, person: By, data: JSONBody[bodies.AddSchedule]) -> apirows.Schedule:
    """Do something again and again: ask machines, or act on them. The selection is looked up anew each time."""
    return _schedule(desk.vamt.schedules.add(person, data.wanted()))


@delete("/schedules/{name:str}", sync_to_thread=True, status_code=200)
def remove_schedule(desk: At, person: By, name: FromPath[str]) -> Count:
    """Remove a schedule; what it did stays done."""
    desk.vamt.schedules.remove(person, name_in(name))
    return Count(count=1)


def _schedule(one: actionrecords.Schedule) -> apirows.Schedule:
    return of(apirows.Schedule, actionreporting.schedule(one))


ROUTES: list[Any] = [
    plan_action, begin_action, list_actions, show_action, resume_action, list_queue, run_queue, cancel_queue,
    list_schedules, add_schedule, remove_schedule,
]  # fmt: skip
