"""Every way to say "no", once: stable codes, one sentence, what to do next (RULES E, RFC 9457).

The list is public API and append-only: a code is never renamed, reused or removed. Pure code returns a
`Refusal`; broken input and failed I/O raise a `VolactError`. Each edge translates both exactly once:
HTTP into a problem document, the command line into a sentence and an exit code.
"""

from __future__ import annotations

from typing import Any

from volact.protocol import codes, vamtcodes
from volact.protocol.codes import Problem
from volact.protocol.values import NamedTuple

TYPE_PREFIX = "urn:volact:problem:"
"""`type` of a problem document is this and the code; nothing is fetched from it."""


PROBLEMS: dict[str, Problem] = {**codes.CODES, **vamtcodes.CODES}
"""Every code, once."""


class Refusal(NamedTuple):
    """A "no", as a value.

    Attributes:
        code: a key of `PROBLEMS`.
        detail: one sentence about this very case; never a secret, a path or SQL.
        extra: further members of the problem document, e.g. ``count``, ``required``, ``retry_after`` (s).
        unlisted: what a newer peer said of a code that is not in the list here.
    """

    code: str
    detail: str = ""
    extra: tuple[tuple[str, Any], ...] = ()
    unlisted: Problem | None = None

    @property
    def problem(self) -> Problem:
        """The list's entry for this code."""
        return self.unlisted or PROBLEMS[self.code]

    @classmethod
    def received(cls, code: str, detail: str, title: str, extra: tuple[tuple[str, Any], ...] = ()) -> Refusal:
        """A refusal that a peer sent; a code that only a newer version knows is kept, with the peer's sentence.

        The texts are for a terminal or a log, so characters that would steer it are taken out (T36).
        """
        unlisted = Problem(400, printable(title[:200]), "Ask the one who answered.")
        return cls(
            printable(code[:64]), printable(detail[:1000]), extra, None if code in PROBLEMS else unlisted
        )

    def document(self) -> dict[str, Any]:
        """The problem document of RFC 9457, as JSON-ready members."""
        entry = self.problem
        members = {
            "type": TYPE_PREFIX + self.code,
            "title": entry.sentence,
            "status": entry.status,
            "detail": self.detail or entry.sentence,
            "code": self.code,
            "next": entry.next_step,
        }
        return {**members, **{name: value for name, value in self.extra if name not in members}}

    def __str__(self) -> str:
        """The sentence a person reads."""
        entry = self.problem
        return f"{entry.sentence} {self.detail}".strip()


def printable(text: str) -> str:
    """A text that somebody sent, as it may be shown or kept: characters that would steer a terminal or log are ``?``."""
    return "".join(character if character.isprintable() else "?" for character in text)


class VolactError(Exception):
    """Base of all errors that volact raises on purpose.

    The tree::

        VolactError              exit code
        ├── DocumentRefused      1   a signed document is broken, forged or not for here
        ├── Refused              1   a refusal, where a value cannot be returned
        ├── Unreachable          3   nobody answered, or somebody who is not the one asked
        ├── UsageError           2   the call itself is wrong
        └── BrokenData           4   a file or store of ours is damaged, newer, or cannot be read or written

    Attributes:
        refusal: the code, the detail and, through the code, what the person can do next.
    """

    exit_code = 1

    def __init__(self, refusal: Refusal) -> None:
        """Carry `refusal`."""
        super().__init__(str(refusal))
        self.refusal = refusal


class Refused(VolactError):
    """A refusal raised where no value can be returned (constructors, deep calls)."""


class DocumentRefused(VolactError):
    """A signed document is broken, forged, out of its time, or not for here: always `document-refused`."""

    def __init__(self, detail: str) -> None:
        """Say in `detail` which check failed."""
        super().__init__(Refusal("document-refused", detail))


class Unreachable(VolactError):
    """Nobody answered, or somebody who is not the one asked."""

    exit_code = 3


class UsageError(VolactError):
    """The call itself is wrong."""

    exit_code = 2

    def __init__(self, detail: str, next_step: str = "See --help.") -> None:
        """Say in `detail` what is wrong with the call and in `next_step` what to do."""
        super().__init__(Refusal("usage", detail))
        self.next_step = next_step


class BrokenData(VolactError):
    """A file or store of ours is damaged, of a newer version, or cannot be read or written."""

    exit_code = 4

    def __init__(self, detail: str, code: str = "data-broken") -> None:
        """Say in `detail` which file and what is wrong with it."""
        super().__init__(Refusal(code, detail))
