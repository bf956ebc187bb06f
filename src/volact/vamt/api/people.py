"""The API's routes of people, their tokens, and the audit log (V6)."""

from __future__ import annotations

from typing import Annotated, Any

from litestar import delete, get, post, put
from litestar.params import FromPath, JSONBody, QueryParameter

from volact.commands import when
from volact.console import since_argument
from volact.vamt import people, reporting
from volact.vamt.access import digest_of, token_id
from volact.vamt.api import answers, bodies
from volact.vamt.api.desk import USUAL_PAGE, At, By, Limit, name_in
from volact.vamt.persons import Token  # noqa: TC001 - as above

_Since = Annotated[
    str, QueryParameter(description="2h, 30m, 7d, or a time such as 2027-01-31T12:00:00Z.", max_length=40)
]
_Name = Annotated[str, QueryParameter(max_length=300)]


@get("/me", sync_to_thread=True)
def show_me(desk: At, person: By) -> answers.Me:
    """Show who calls, and what they may do."""
    desk.vamt.office.look(person)
    may = sorted(action for action in people.LEAST if people.may(person.role, action))
    return answers.of(answers.Me, {"name": person.name, "role": person.role, "may": may})


@get("/people", sync_to_thread=True)
def list_people(desk: At, person: By) -> list[answers.Person]:
    """List people and their roles."""
    return answers.of(
        list[answers.Person],
        [
            {"user": one.name, "role": one.role, "tokens": one.tokens, "since": when(one.made)}
            for one in desk.vamt.access.people(person)
        ],
    )


@put("/people/{name:str}", sync_to_thread=True)
def put_person(desk: At, person: By, name: FromPath[str], data: JSONBody[bodies.PutPerson]) -> answers.Count:
    """Add a person, or give one another role; 1 if they are new, else 0."""
    return answers.Count(count=int(desk.vamt.access.put(person, name_in(name), data.role)))


@delete("/people/{name:str}", sync_to_thread=True, status_code=200)
def remove_person(desk: At, person: By, name: FromPath[str]) -> answers.Count:
    """Remove a person and their tokens; the log keeps what they did."""
    desk.vamt.access.remove(person, name_in(name))
    return answers.Count(count=1)


@post("/people/{name:str}/tokens", sync_to_thread=True)
def make_token(
    desk: At, person: By, name: FromPath[str], data: JSONBody[bodies.MakeToken]
) -> answers.NewToken:
    """Make a token with which a person calls the API; it is told once, so that no Idempotency-Key is taken."""
    who = name_in(name)
    made = desk.vamt.access.make_token(person, who, data.label, days=data.days)
    found = token_id(digest_of(made))
    expires = next(one.expires for one in desk.vamt.access.tokens(person) if token_id(one.digest) == found)
    return answers.NewToken(
        id=found, user=who, token=made, expires=None if expires is None else when(expires)
    )


@get("/tokens", sync_to_thread=True)
def list_tokens(desk: At, person: By) -> list[answers.Token]:
    """List all tokens, without what makes them some."""
    return [_token(one) for one in desk.vamt.access.tokens(person)]


@delete("/tokens/{token:str}", sync_to_thread=True, status_code=200)
def revoke_token(desk: At, person: By, token: FromPath[str]) -> answers.Token:
    """Let a token be good no more; what it was."""
    return _token(desk.vamt.access.revoke(person, name_in(token)))


def _token(one: Token) -> answers.Token:
    return answers.of(answers.Token, reporting.token(one))


@get("/log", sync_to_thread=True)
def show_log(
    desk: At,
    person: By,
    since: _Since = "",
    who: _Name = "",
    action: _Name = "",
    limit: Limit = USUAL_PAGE,
) -> list[answers.LogEntry]:
    """Show who did what, to which rows, with which result, the newest first."""
    moment = since_argument(since, desk.vamt.office.clock.now()) if since else 0
    found = desk.vamt.access.log(person, limit=limit, since=moment, who=who, action=action)
    return answers.of(list[answers.LogEntry], [reporting.entry(one) for one in found])


ROUTES: list[Any] = [
    show_me, list_people, put_person, remove_person, make_token, list_tokens, revoke_token, show_log,
]  # fmt: skip
