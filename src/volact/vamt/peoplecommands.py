"""``volact vamt user``, ``volact vamt token`` and ``volact vamt log`` (V6)."""

from __future__ import annotations

import shlex
from typing import Annotated

from cyclopts import Parameter

from volact import commands
from volact.commands import WHOLE, Json
from volact.console import Console, since_argument
from volact.vamt import access, desk, people, reporting

app = commands.group("user", "People who use VAMT's API and pages, and their roles.")
tokens = commands.group("token", "Tokens with which people call VAMT's API.")
_Name = Annotated[str, Parameter(name="NAME", allow_leading_hyphen=True)]
Days = Annotated[int, WHOLE, Parameter(help=f"For how many days it is good; by default {access.TOKEN_DAYS}.")]


@app.command
def add(
    name: _Name,
    /,
    *,
    role: Annotated[str, Parameter(help=f"One of {', '.join(people.ROLES)}.")],
    json: Json = False,
) -> None:
    """Add a person, or give one another role."""
    with desk.desk() as at:
        is_new = at.vamt.access.put(at.person, name, role)
    Console(json=json).answer(
        {"user": name, "role": role, "new": is_new},
        f"{name} is {role}" + (f"\nNext: volact vamt user token {shlex.quote(name)}" if is_new else ""),
    )


@app.command(name="list")
def list_(*, json: Json = False) -> None:
    """List people and their roles."""
    with desk.desk() as at:
        found = at.vamt.access.people(at.person)
    commands.show(
        Console(json=json),
        [
            {"user": one.name, "role": one.role, "tokens": one.tokens, "since": commands.when(one.made)}
            for one in found
        ],
        [(one.name, one.role, one.tokens, commands.when(one.made)) for one in found],
        ("user", "role", "tokens", "since"),
        "Nobody else uses this VAMT. Let somebody: volact vamt user add NAME --role viewer",
    )


@app.command
def remove(name: _Name, /, *, json: Json = False) -> None:
    """Remove a person and their tokens; the log keeps what they did."""
    with desk.desk() as at:
        at.vamt.access.remove(at.person, name)
    Console(json=json).answer({"removed": name}, f"{name} is removed, and so are their tokens")


@app.command
def token(
    name: _Name,
    /,
    *,
    label: Annotated[str, Parameter(help="What the token is for.")] = "",
    days: Days = access.TOKEN_DAYS,
    revoke: Annotated[bool, Parameter(help="Make none: let none of their tokens be good any more.")] = False,
    json: Json = False,
) -> None:
    """Make a token with which a person calls the API; it is shown once."""
    console = Console(json=json)
    with desk.desk() as at:
        if revoke:
            count = at.vamt.access.revoke_tokens(at.person, name)
            console.answer({"user": name, "revoked": count}, f"{name}: {count} tokens are good no more")
            return
        made = at.vamt.access.make_token(at.person, name, label, days=days)
    console.answer({"user": name, "token": made}, made)
    console.remark("Keep it where nobody else reads it: it is not shown again.")


# --- tokens -------------------------------------------------------------------------------------------------------


@tokens.command(name="add")
def token_add(
    name: _Name,
    /,
    *,
    role: Annotated[
        str,
        Parameter(help=f"Add the person with this role, if there is none yet: {', '.join(people.ROLES)}."),
    ] = "",
    days: Days = access.TOKEN_DAYS,
    label: Annotated[str, Parameter(help="What the token is for.")] = "",
    json: Json = False,
) -> None:
    """Make a token with which a person calls the API; it is shown once."""
    console = Console(json=json)
    with desk.desk() as at:
        made = at.vamt.access.admit(at.person, name, role, label, days=days)
        told = next(
            reporting.token(one)
            for one in at.vamt.access.tokens(at.person)
            if one.digest == access.digest_of(made)
        )
    console.answer({**told, "token": made}, made)
    console.remark(
        f"Keep it where nobody else reads it: it is not shown again. Good until {told['expires']}."
    )


@tokens.command(name="list")
def token_list(*, json: Json = False) -> None:
    """List the tokens, without what makes them some; by when they are good no more."""
    with desk.desk() as at:
        told = [reporting.token(one) for one in at.vamt.access.tokens(at.person)]
    commands.show(
        Console(json=json),
        told,
        [
            (one["id"], one["user"], one["label"] or "", one["made"], one["used"] or "never", one["expires"])
            for one in told
        ],
        ("token", "user", "label", "made", "used", "good until"),
        "There are no tokens. Make one: volact vamt token add NAME --role viewer",
    )


@tokens.command(name="revoke")
def token_revoke(
    token: Annotated[
        str, Parameter(name="TOKEN", help="Its id, as `token list` shows it.", allow_leading_hyphen=True)
    ],
    /,
    *,
    json: Json = False,
) -> None:
    """Let one token be good no more."""
    with desk.desk() as at:
        told = reporting.token(at.vamt.access.revoke(at.person, token))
    Console(json=json).answer(told, f"{told['id']} of {told['user']} is good no more")


def log(
    *,
    since: Annotated[
        str | None,
        Parameter(help="2h, 30m, 7d, or a time such as 2027-01-31T12:00:00Z.", allow_leading_hyphen=True),
    ] = None,
    who: Annotated[str, Parameter(help="Only what this person did.", allow_leading_hyphen=True)] = "",
    action: Annotated[str, Parameter(help="Only this action, as the log names it.")] = "",
    limit: Annotated[int, WHOLE, Parameter(help="Only the newest so many; by default 100.")] = 100,
    json: Json = False,
) -> None:
    """Show who did what, to which rows, with which result, the newest first."""
    desk.check_page(limit)
    with desk.desk() as at:
        moment = since_argument(since, at.opened.clock.now()) if since else 0
        found = at.vamt.access.log(at.person, limit=limit, since=moment, who=who, action=action)
    told = [reporting.entry(one) for one in found]
    commands.show(
        Console(json=json),
        told,
        [
            (one["time"], one["who"], one["role"], one["action"], row.what, one["rows"] or "", one["result"])
            for one, row in zip(told, found, strict=True)
        ],
        ("time", "who", "role", "action", "what", "rows", "result"),
        "Nothing was done yet." if since is None and not who and not action else "Nothing of that was done.",
    )
