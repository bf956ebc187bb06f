"""What a check came to, and how checks are shown.

The JSON is append-only: members are added, never renamed or removed.
"""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any, NamedTuple

from volact.clock import ClockInvalid
from volact.config import SettingInvalid
from volact.protocol.problems import PROBLEMS, UsageError, VolactError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from volact.protocol.problems import Refusal

OK, WARNING, FAILED, SKIPPED = "ok", "warning", "failed", "skipped"
RESULTS = (OK, WARNING, FAILED, SKIPPED)
HOST, CLIENT, DOMAIN = "host", "client", "domain"
_MARKS = {OK: "ok", WARNING: "WARN", FAILED: "FAIL", SKIPPED: "skip"}


class Check(NamedTuple):
    """One check.

    Attributes:
        role: what it is about: `HOST`, `CLIENT` or `DOMAIN`.
        name: its name, with the domain or product where there may be several.
        result: `OK`, `WARNING`, `FAILED` or `SKIPPED`.
        looked_at: what was looked at.
        found: what was found, in a sentence.
        next: what to do; empty if nothing is.
        targets: the hosts that were looked at one by one, JSON-ready.
    """

    role: str
    name: str
    result: str
    looked_at: str
    found: str
    next: str = ""
    targets: tuple[dict[str, Any], ...] = ()


def worst(results: Iterable[str]) -> str:
    """The worst of results: what failed, else what warns, else what is fine, else what was skipped."""
    found = set(results)
    return next((one for one in (FAILED, WARNING, OK) if one in found), SKIPPED)


def guarded(role: str, name: str, looked_at: str, look: Callable[[], list[Check]]) -> list[Check]:
    """The checks, or one that failed for what they stumbled over."""
    try:
        return look()
    except UsageError as error:
        return [Check(role, name, FAILED, looked_at, str(error.refusal), error.next_step)]
    except VolactError as error:
        return [refused(role, name, looked_at, error.refusal)]
    except (SettingInvalid, ClockInvalid) as error:
        return [Check(role, name, FAILED, looked_at, f"{error}", "Mend that setting.")]
    except OSError as error:
        return [Check(role, name, FAILED, looked_at, f"{error.strerror or error}.", "See to that first.")]


def refused(role: str, name: str, looked_at: str, refusal: Refusal) -> Check:
    """That it failed, by what a refusal says."""
    return Check(role, name, FAILED, looked_at, str(refusal), refusal.problem.next_step)


def meaning(code: str) -> tuple[str, str]:
    """What a code means, and what to do; of one that only a newer version knows nothing but itself."""
    found = PROBLEMS.get(code)
    return (f"{code}: {found.sentence}", found.next_step) if found else (code, "Ask the one who answered.")


def is_fine(found: Iterable[Check]) -> bool:
    """Whether no check failed."""
    return all(one.result != FAILED for one in found)


def members(found: Sequence[Check]) -> dict[str, Any]:
    """What ``doctor --json`` holds."""
    many = Counter(one.result for one in found)
    return {
        "checks": [
            {**one._asdict(), "targets": list(one.targets), "next": one.next or None} for one in found
        ],
        **{result: many[result] for result in RESULTS},
    }


def prose(found: Sequence[Check]) -> str:
    """The same for people: a line for each check, details below what is not fine, a summary at the end."""
    width = max((len(one.name) for one in found), default=0)
    lines = [line for one in found for line in _lines(one, width)]
    return "\n".join([*lines, "", summary(found)])


def _lines(one: Check, width: int) -> Iterator[str]:
    yield f"{_MARKS[one.result]:<4}  {one.role:<6}  {one.name:<{width}}  {one.found}".rstrip()
    indent = " " * 8
    if one.result in (WARNING, FAILED):
        yield f"{indent}looked at:  {one.looked_at}"
        for target in one.targets:
            yield f"{indent}{target['verdict']:<11} {target['target']}: {target['detail']}"
        if one.next:
            yield f"{indent}to do:      {one.next}"


def summary(found: Sequence[Check]) -> str:
    """How many checks came to what."""
    if not found:
        return "Nothing was looked at."
    many = Counter(one.result for one in found)
    said = [
        f"{many[result]} {words}"
        for result, words in ((OK, "ok"), (WARNING, "to watch"), (FAILED, "failed"), (SKIPPED, "skipped"))
        if many[result]
    ]
    return f"{', '.join(said)}: {'all is well.' if is_fine(found) else 'see what to do above.'}"
