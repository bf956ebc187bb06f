"""How commands speak: one JSON value on standard output, prose on standard error, stable exit codes.

With ``--json`` standard output is exactly one JSON value, a refusal's problem document included. Errors are
translated here and nowhere else: 0 done, 1 refused, 2 usage, 3 could not reach, 4 broken data (DESIGN section 5).

A refusal may repeat what was typed, and that may be a product key, in any spelling and in any place. `Console` is told
the words and hides the key in all that it refuses or remarks with; no command does that for itself (M8).
"""

from __future__ import annotations

import contextlib
import io
import json
import os
import re
import sys
from typing import TYPE_CHECKING, Any, TextIO

from volact.clock import ClockInvalid
from volact.config import SettingInvalid
from volact.files import is_exposed
from volact.protocol.problems import BrokenData, Refusal, UsageError, VolactError, printable

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Sequence

DONE, REFUSED, USAGE, UNREACHABLE, BROKEN = 0, 1, 2, 3, 4

_KEY_LIKE = re.compile(
    r"(?<![\w.-])(?=[\d-]*[A-Za-z])"
    r"(?:(?:[0-9A-Za-z]{4,6}-){3,4}|[0-9A-Za-z]{19,21}-?)([0-9A-Za-z]{4,6})(?![\w-]|\.\w)"
)
"""What may be a product key, mistyped ones included: four or five groups, or 23 characters and more in one (an
activation id has 22); a number is none, for a key says its kind by a letter."""
_GROUP = r"[0-9A-Za-z]{4,6}"
_FEWEST_GROUPS = 3
_RUN = re.compile(
    rf"(?<![0-9A-Za-z])(?:{_GROUP}(?:[^0-9A-Za-z]+{_GROUP}){{{_FEWEST_GROUPS},}}|[0-9A-Za-z]{{21,}})(?![0-9A-Za-z])"
)
"""What of a typed word may be a key: four groups and more, whatever stands between them, or one piece."""
_TOKEN = re.compile(r"[^\s,'\"]+")
_OF_AN_ID = 22
_PUBLISHER = re.compile(r"(?<![\w-])[\w-]{43}(?![\w-])", re.ASCII)
_IPV6 = re.compile(r"[0-9A-Fa-f]{4}(?::[0-9A-Fa-f]{4})+")
_SHOWN_PART = 8
"""Characters of a longer word of which an error shows the beginning, at least."""


class Console:
    """Where a command's answer goes.

    Attributes:
        json: whether standard output is one JSON value.
    """

    def __init__(
        self,
        *,
        json: bool = False,
        words: Sequence[str] = (),
        known: Callable[[], Collection[str]] = frozenset,
        out: TextIO | None = None,
        err: TextIO | None = None,
    ) -> None:
        """Speak JSON or prose on `out` (standard output) and remarks on `err` (standard error).

        `words` are what was typed: a key among them is never repeated. Those that are `known`, names of commands, are
        no part of one.
        """
        self.json = json
        self._words, self._known = words, known
        # One that was closed before we began is None: then there is nobody to speak to.
        self._out = out or sys.stdout or io.StringIO()
        self._err = err or sys.stderr or io.StringIO()

    def answer(self, value: Any, prose: str) -> None:  # noqa: ANN401 - any JSON value
        """Print the command's one answer: `value` as JSON, or `prose`.

        Raises:
            OSError: if it could not be written; it is not tried again then.
        """
        text = json.dumps(value, ensure_ascii=False, indent=2) if self.json else prose.rstrip("\n")
        if text:
            _write(self._out, text + "\n")

    def remark(self, text: str) -> None:
        """Say something about the work on standard error; of a key among what was typed nothing but its last group."""
        self._say(self._shown(text))

    def refuse(self, refusal: Refusal, exit_code: int = REFUSED, next_step: str = "") -> int:
        """Print a refusal and say its exit code; a key among the words that it repeats is not shown (M8)."""
        extra = tuple((name, self._shown(value)) for name, value in refusal.extra)
        shown = refusal._replace(detail=self._shown(refusal.detail), extra=extra)
        next_step = self._shown(next_step or shown.problem.next_step)
        if self.json:
            with contextlib.suppress(OSError):  # what is said beside it is left
                self.answer({**shown.document(), "next": next_step}, "")
        self._say(f"{shown.code}: {without_keys(str(shown))}\n{next_step}")
        return exit_code

    def _say(self, text: str) -> None:
        with contextlib.suppress(OSError):
            _write(self._err, text.rstrip("\n") + "\n")

    def _shown(self, value: Any) -> Any:  # noqa: ANN401 - a text, or what a refusal carries: any JSON value
        """The value as it is shown: each text in it without a key."""
        if isinstance(value, str):
            return without_typed(without_keys(value), self._words, self._known())
        if isinstance(value, dict):
            return {name: self._shown(member) for name, member in value.items()}
        return [self._shown(one) for one in value] if isinstance(value, list) else value


def _write(out: TextIO, text: str) -> None:
    """Write it all, at once; where that fails nothing is left that Python would try to write at its end."""
    try:
        out.write(text)
        out.flush()
    except OSError:
        with contextlib.suppress(OSError):  # a text in memory has no file
            nowhere = os.open(os.devnull, os.O_WRONLY)
            os.dup2(nowhere, out.fileno())
            os.close(nowhere)
        raise


def without_keys(text: str) -> str:
    """The text with the last group only of whatever looks like a product key."""
    return _KEY_LIKE.sub(r"...-\1", text)


def without_typed(text: str, words: Sequence[str], known: Collection[str] = ()) -> str:
    """The text of an error without what of the typed `words` looks like a key, or like the groups of one (M8).

    Nothing else of it is touched, whatever it looks like. `known` words are no groups: names of commands.
    """
    runs = sorted({run for word in words for run in _key_runs(word)}, key=len, reverse=True)
    for run in runs:
        for form in (run, " ".join(run.split())):
            text = _without(text, form)
    groups = {part for run in runs for part in re.findall(_GROUP, run)}
    tokens = {token for word in words for token in _tokens(word)} - {*known}
    if len(tokens) >= _FEWEST_GROUPS:
        groups |= tokens
    if groups:
        # A blank of another kind is written as \t or \n where a list of words is shown.
        begin = r"(?:(?<![0-9A-Za-z])|(?<=\\[tnrfv]))"
        text = re.sub(
            rf"{begin}(?:{'|'.join(sorted(groups))})(?![0-9A-Za-z])", "…", text, flags=re.IGNORECASE
        )
    return text


def _key_runs(word: str) -> list[str]:
    """What of a word may be a key: no publisher id, number, activation id, IPv6 address or file's path is one."""
    found = []
    for match in _RUN.finditer(_PUBLISHER.sub(" ", word)):
        run = match[0]
        before = match.string[: match.start()]
        inside = "/" in before.rpartition(" ")[2] or before.endswith(".")
        is_path = "/" in run and (inside or not any(one.isdigit() for one in run))
        is_id = len(run) == _OF_AN_ID and run.isalnum() and run not in (run.upper(), run.lower())
        is_number = not any(one.isalpha() for one in run)
        if not (is_path or is_id or is_number or _IPV6.fullmatch(run)):
            found.append(run)
    return found


def _tokens(word: str) -> list[str]:
    """The parts of a word that may each be a group; an option is none, its value may be one."""
    if word.startswith("--"):
        word = word.partition("=")[2]
    tokens = [token.strip("/@-.;:()[]{}") for token in _TOKEN.findall(word)]
    return [token for token in tokens if re.fullmatch(_GROUP, token)]


def _without(text: str, word: str) -> str:
    """The text without a word, or without the beginning of it that an error shows of a long one."""
    whole = text.lower()
    for length in range(len(word), _SHOWN_PART - 1, -1):
        if word[:length].lower() in whole:
            return re.sub(re.escape(word[:length]), "…", text, flags=re.IGNORECASE)
    return text


def run(console: Console, command: Callable[[], int | None]) -> int:
    """Run `command` and translate what it raises into a sentence and an exit code, without a traceback."""
    try:
        return command() or DONE
    except UsageError as error:
        return console.refuse(error.refusal, error.exit_code, error.next_step)
    except VolactError as error:
        return console.refuse(error.refusal, error.exit_code)
    except (SettingInvalid, ClockInvalid) as error:
        return console.refuse(Refusal("setting-invalid", f"{error}".rstrip(".") + "."), USAGE)
    except BrokenPipeError:
        return DONE
    except OSError as error:
        return console.refuse(_file_refusal(error), BROKEN)
    except KeyboardInterrupt:
        console.remark("stopped")
        return 130


def _file_refusal(error: OSError) -> Refusal:
    where = f"{error.filename}: " if error.filename else ""
    code = "not-readable" if isinstance(error, FileNotFoundError | IsADirectoryError) else "not-writable"
    return Refusal(code, f"{where}{error.strerror or error}.")


def secret_argument(text: str, *, whole: bool = False) -> str:
    """A KEY argument: the key itself, ``-`` for standard input, or ``@FILE``: a line of it, or the whole (M8).

    What is typed for ``-`` on a terminal is not shown there.
    """
    name = text[1:] if text.startswith("@") else "Standard input"
    try:
        if text == "-" and sys.stdin.isatty():
            return typed_secret()
        if text == "-":
            return _line_or_whole(sys.stdin, whole=whole)
        if text.startswith("@"):
            with open(name, encoding="utf-8-sig") as file:
                return _line_or_whole(file, whole=whole)
    except UnicodeDecodeError:
        raise BrokenData(f"{name} is not text.", "not-readable") from None
    except OSError as error:
        raise BrokenData(f"{name}: {error.strerror}.", "not-readable") from None
    return text


def _line_or_whole(file: TextIO, *, whole: bool) -> str:
    return (file.read(_LARGEST_SECRET) if whole else file.readline()).strip()


_LARGEST_SECRET = 65536


def typed_secret(prompt: str = "Secret") -> str:
    """A line that is typed on the terminal and not shown there; empty if it is closed instead."""
    import getpass

    try:
        return getpass.getpass(f"{prompt} (not shown): ").strip()
    except EOFError:
        return ""


def credential_argument(text: str, option: str, *, whole: bool = False) -> str:
    """A password or key for `option`, read as `secret_argument` reads it, or empty if that is (T28).

    Raises:
        UsageError: if it is the secret itself: others see arguments.
        BrokenData: `key-file-exposed` if others can read the file, or write it; `not-readable`.
    """
    if text == "-" and sys.stdin.isatty():
        return typed_secret(f"{option}")
    if text.startswith("@"):
        refuse_exposed(text[1:])
    elif text and text != "-":
        raise UsageError(
            f"{option} takes no secret itself.", f"Give {option} @FILE, or - for standard input."
        )
    return secret_argument(text, whole=whole)


def refuse_exposed(path: str) -> None:
    """See to it that others can neither read nor write a file with a secret; what is no regular file is not looked at.

    Raises:
        BrokenData: `key-file-exposed`, `not-readable`.
    """
    try:
        mode = os.stat(path).st_mode
    except OSError as error:
        raise BrokenData(f"{path}: {error.strerror}.", "not-readable") from None
    if is_exposed(mode):
        raise BrokenData(f"{path} holds a secret, and others can read it.", "key-file-exposed")


def root_argument(text: str) -> tuple[str, dict[str, Any] | None]:
    """A ROOT argument: the publisher id that it is, or that the root document in the file of that name has.

    The second is that root document 1 as it travels, verified, or None if an id was given.

    Raises:
        UsageError: if it is neither.
        DocumentRefused: if the file holds no root document.
    """
    from volact.protocol import ids, trust

    if ids.is_thumbprint(text):
        return text, None
    try:
        with open(text, "rb") as file:
            members = trust.read_bundle(file.read(trust.MAX_BUNDLE + 1))
    except FileNotFoundError:
        raise UsageError(
            f"{text[:80]!r} is no publisher id and no file.", "Give what `authority init` prints."
        ) from None
    except OSError as error:
        raise BrokenData(f"{text[:80]}: {error.strerror}.", "not-readable") from None
    roots = trust.open_roots(members, str(trust.open_self_keyed(members, "root").document["pub"]))
    return roots.pub, roots.first


def since_argument(text: str, now: int) -> int:
    """A ``--since``: ``2h``, ``30m`` or ``7d`` before `now`, or an RFC 3339 time, which names its zone; seconds UTC.

    Raises:
        UsageError: if it is neither.
    """
    from datetime import datetime

    from volact.protocol import policy

    ago = policy.duration(text)
    if ago is not None:
        return now - ago
    try:
        found = datetime.fromisoformat(text)
        if found.tzinfo is None:
            raise UsageError(f"{text[:40]!r} says no time zone.", "Append Z for UTC.")
        return int(found.timestamp())
    except (ValueError, OverflowError):
        raise UsageError(
            f"{text[:40]!r} is neither a span nor a time.",
            "Give 2h, 30m, 7d, or a time: 2026-01-31T12:00:00Z.",
        ) from None


def table(rows: Sequence[Sequence[str]], head: Sequence[str]) -> str:
    """Columns of text under their heads, two blanks apart; what would steer a terminal is ``?`` (T26)."""
    lines = [list(head), *[list(map(printable, row)) for row in rows]]
    widths = [max(len(line[column]) for line in lines) for column in range(len(head))]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip()
        for line in lines
    )


_HALF_BLOCKS = " ▄▀█"
"""A character for two modules, one above the other: neither dark, the lower, the upper, both."""


def half_blocks(modules: Sequence[Sequence[bool]]) -> list[str]:
    """A picture of dark and light modules as lines of text, dark in the text's colour, two rows of modules a line."""
    rows = [*modules, [False] * len(modules[0])] if len(modules) % 2 else modules
    pairs = zip(rows[::2], rows[1::2], strict=True)
    return ["".join(_HALF_BLOCKS[2 * up + low] for up, low in zip(*pair, strict=True)) for pair in pairs]
