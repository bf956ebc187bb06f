"""One of slmgr's switches on one machine, reached as collection reaches it: `slmgr MACHINE /SWITCH` (V2, V6, S).

- The machine is a row of VAMT: nobody but who shows its pinned host key is told anything (T29), and the login is that of
  one of its groups.
- Who may do what is one table here; what is done is in the log before it is sent. A viewer sees, and changes nothing.
- A key or a confirmation goes on standard input: neither an argument nor the log holds one (M8).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from volact.protocol.problems import PROBLEMS, Refusal, Refused, Unreachable
from volact.vamt import people
from volact.vamt.collecting.answers import first_line
from volact.vamt.collecting.targets import SLMGR
from volact.vamt.selecting import Selection

if TYPE_CHECKING:
    from collections.abc import Mapping

    from volact.vamt.acting import Office
    from volact.vamt.collecting.targets import Limits, Login, Ran, Target
    from volact.vamt.collection import Collecting
    from volact.vamt.people import Person

ACTIONS: Mapping[str, str] = {
    **dict.fromkeys(("dli", "dlv", "xpr"), people.LOOK),
    **dict.fromkeys(("skms", "skms-domain", "ckms", "skhc", "ckhc", "sai", "sri"), "set-host"),
    **dict.fromkeys(("sprt", "sdns", "cdns", "spri", "cpri"), "change-settings"),
    "ipk": "install-key",
    "upk": "remove-key",
    "ato": "activate",
    "dti": "export",
    "atp": "apply",
    "rearm": "deactivate",
}
"""Each switch and the action of `people.LEAST` that it is, which says the least role."""
_NOT_FOUND = (126, 127)
_LARGEST = 4
"""What slmgr ends with at most."""
_SHUT_OUT = ("host-key-unknown", "host-key-changed", "credential-refused", "client-missing")
"""The machine is there, and is not asked, or has nothing that could answer: a refusal, not a bad connection."""


class Order(NamedTuple):
    """What a machine's slmgr is told.

    Attributes:
        switch: its name, without a slash; one of `ACTIONS`.
        words: what follows it; ``-`` where a secret would stand, and nothing that is one.
        stdin: what it reads for that.
    """

    switch: str
    words: tuple[str, ...] = ()
    stdin: bytes = b""


class Remote:
    """The use case of one machine's slmgr."""

    def __init__(self, office: Office, collecting: Collecting) -> None:
        """Work in `office`; `collecting` says how machines are reached."""
        self._office, self._collecting = office, collecting

    async def run(
        self,
        person: Person,
        machine: str,
        order: Order,
        logins: Mapping[str, Login],
        limits: Limits,
        *,
        user: str = "",
    ) -> Ran:
        """What slmgr on a machine said, whatever its exit code from 0 to 4.

        `user` takes the place of its login's account: who may enter logins may do that.

        Raises:
            Refused: `machine-unknown`, `role-insufficient`, `login-missing`, `login-unusable`, `credential-refused`,
                `host-key-unknown`, `host-key-changed`, `client-missing`, `client-failed`.
            Unreachable: nobody answered, not in time, or with what is none.
        """
        (target,) = self._collecting.targets(person, Selection((machine,)), logins)
        what = {"machine": _name(target), "id": target.mid, "slmgr": f"/{order.switch}", "words": order.words}
        ran: Ran | None = None
        try:
            with self._office.acting(
                person, ACTIONS[order.switch], {**what, "as": user} if user else what
            ) as deed:
                deed.rows = 1
                ran = await _run(target, order, _as(person, user, target, logins), limits)
                _check(ran)
        except Unreachable as error:
            if error.refusal.code in _SHUT_OUT:
                raise Refused(error.refusal) from None
            raise
        except Refused:
            # The log has that it was refused there; the machine's own words say more.
            if ran is None or not _is_slmgrs(ran):
                raise
        assert ran is not None  # noqa: S101 - else one of these was raised
        return ran


async def _run(target: Target, order: Order, logins: Mapping[str, Login], limits: Limits) -> Ran:
    from volact.vamt.collecting.collector import Asking  # noqa: PLC0415 - asyncssh: half a second for this alone

    # One machine alone may take all of its time for its answer: /ato asks a KMS host, and those before it in DNS.
    limits = limits._replace(answer=limits.whole)
    async with Asking(logins, limits, lambda: 0) as asking:
        return await asking.run(target, (f"/{order.switch}", *order.words), order.stdin, SLMGR)


def _name(target: Target) -> str:
    return target.hosts[0] if target.hosts else target.mid


def _as(person: Person, user: str, target: Target, logins: Mapping[str, Login]) -> Mapping[str, Login]:
    """The logins, that of the machine by another account: its key and agent serve, its password is another's.

    Raises:
        Refused: `role-insufficient`.
    """
    login = logins.get(target.login)
    if not user or login is None:
        return logins
    if not people.may(person.role, "change-credentials"):
        detail = f"{person.name} is {person.role}; another account than the login's takes {people.KEY_ADMINISTRATOR}."
        raise Refused(Refusal("role-insufficient", detail))
    jump = login.jump and login.jump._replace(login=login.jump.login or login)
    return {target.login: login._replace(user=user, password="", jump=jump)}


def _is_slmgrs(ran: Ran) -> bool:
    """Whether it may have been slmgr that ended so, and not a shell, a signal or what stands before it."""
    return 0 <= ran.exit <= _LARGEST


def _check(ran: Ran) -> None:
    """See to it that a machine's slmgr did it.

    Raises:
        Refused: with its own code if it said one that is known here; `client-missing`, `client-failed`.
    """
    said = first_line(ran.err) or first_line(ran.out)
    if ran.exit in _NOT_FOUND:
        raise Refused(Refusal("client-missing", said))
    if not _is_slmgrs(ran):
        raise Refused(Refusal("client-failed", f"Exit code {ran.exit}: {said or 'nothing was said'}"))
    if ran.exit:
        begins = (line.partition(":")[0] for line in ran.err.decode("utf-8", "replace").splitlines())
        code = next((one for one in begins if one in PROBLEMS), "client-failed")
        raise Refused(Refusal(code, f"Said by the machine; exit code {ran.exit}."))


def harmless(text: str) -> str:
    """What a machine printed, without what would steer a terminal; its lines stay lines (T26)."""
    return "".join(one if one.isprintable() or one in "\n\t" else "?" for one in text)
