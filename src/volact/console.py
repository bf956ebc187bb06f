"""How commands speak: one JSON value on standard output, prose on standard error, stable exit codes.

With ``--json`` standard output is exactly one JSON value, a refusal's problem document included. Errors are
translated here and nowhere else: 0 done, 1 refused, 2 usage, 3 could not reach, 4 broken data (DESIGN section 5).
"""

from __future__ import annotations

import json
import re
import sys
from typing import TYPE_CHECKING, Any, TextIO

from volact.clock import ClockInvalid
from volact.config import SettingInvalid
from volact.protocol.problems import BrokenData, Refusal, UsageError, VolactError

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Sequence

DONE, REFUSED, USAGE, UNREACHABLE, BROKEN = 0, 1, 2, 3, 4

_KEY_LIKE = re.compile(
    r"(?<![\w.-])(?!\d+(?![\w-]))"
    r"(?:(?:[0-9A-Za-z]{4,6}-){3,4}|[0-9A-Za-z]{19,21}-?)([0-9A-Za-z]{4,6})(?![\w-]|\.\w)"
)
"""What may be a product key, mistyped ones included: four or five groups, or 23 characters and more in one (an
activation id has 22); a number is none, for a key says its kind by a letter."""
_TOKEN = re.compile(r"[^\s,'\"]+")
_GROUP = re.compile(r"[0-9A-Za-z]{4,6}")
_FEWEST_GROUPS = 3
_LONGEST_WORD = 20
"""Characters, hyphens not counted: no word of ours is longer, and a key has 25."""
_PUBLISHER = re.compile(r"[\w-]{43}", re.ASCII)


class Console:
    """Where a command's answer goes.

    Attributes:
        json: whether standard output is one JSON value.
    """

    def __init__(self, *, json: bool = False, out: TextIO | None = None, err: TextIO | None = None) -> None:
        """Speak JSON or prose on `out` (standard output) and remarks on `err` (standard error)."""
        self.json = json
        self._out = out or sys.stdout
        self._err = err or sys.stderr

    def answer(self, value: Any, prose: str) -> None:  # noqa: ANN401 - any JSON value
        """Print the command's one answer: `value` as JSON, or `prose`."""
        if self.json:
            self._out.write(json.dumps(value, ensure_ascii=False, indent=2) + "\n")
        elif prose:
            self._out.write(prose.rstrip("\n") + "\n")
        self._out.flush()

    def remark(self, text: str) -> None:
        """Say something about the work on standard error."""
        self._err.write(text.rstrip("\n") + "\n")
        self._err.flush()

    def refuse(self, refusal: Refusal, exit_code: int = REFUSED, next_step: str = "") -> int:
        """Print a refusal and say its exit code; a key among the words that it repeats is not shown (M8)."""
        shown = refusal._replace(detail=without_keys(refusal.detail))
        next_step = next_step or shown.problem.next_step
        if self.json:
            self.answer({**shown.document(), "next": next_step}, "")
        self.remark(f"{shown.code}: {shown}\n{next_step}")
        return exit_code


def without_keys(text: str) -> str:
    """The text with the last group only of whatever looks like a product key."""
    return _KEY_LIKE.sub(r"...-\1", text)


def without_typed(text: str, words: Sequence[str], known: Collection[str] = ()) -> str:
    """The text of a wrong call without those of its `words` that look like a key, or like the groups of one (M8).

    Nothing else of it is touched, whatever it looks like. `known` words are no groups: names of commands.
    """
    values = [word.partition("=")[2] if word.startswith("-") and "=" in word else word for word in words]
    for word in sorted({*words, *values}, key=len, reverse=True):
        if _may_be_key(word):
            text = text.replace(word, "…").replace(" ".join(word.split()), "…")
    tokens = {token for value in values for token in _TOKEN.findall(value)}
    groups = sorted(token for token in tokens if _GROUP.fullmatch(token) and token not in known)
    if len(groups) >= _FEWEST_GROUPS:
        # A blank of another kind is written as \t or \n where a list of words is shown.
        begin = r"(?:(?<![0-9A-Za-z])|(?<=\\[tnrfv]))"
        text = re.sub(rf"{begin}(?:{'|'.join(groups)})(?![0-9A-Za-z])", "…", text)
    return text


def _may_be_key(word: str) -> bool:
    """Whether a word is long enough for a key, and is neither a number, nor a publisher id, nor a file's path."""
    if len(word.replace("-", "")) <= _LONGEST_WORD or word.isdigit() or _PUBLISHER.fullmatch(word):
        return False
    parts = re.split(r"[^0-9A-Za-z]+", word)
    return "/" not in word or all(len(part) <= 6 for part in parts)  # noqa: PLR2004 - a group, and one typed too much


def run(console: Console, command: Callable[[], int | None]) -> int:
    """Run `command` and translate what it raises into a sentence and an exit code, without a traceback."""
    try:
        return command() or DONE
    except UsageError as error:
        return console.refuse(error.refusal, error.exit_code, error.next_step)
    except VolactError as error:
        return console.refuse(error.refusal, error.exit_code)
    except (SettingInvalid, ClockInvalid) as error:
        return console.refuse(Refusal("usage", str(error)), USAGE)
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


def secret_argument(text: str) -> str:
    """A KEY argument: the key itself, ``-`` for standard input, or ``@FILE`` (M8)."""
    name = text[1:] if text.startswith("@") else "Standard input"
    try:
        if text == "-":
            return sys.stdin.readline().strip()
        if text.startswith("@"):
            with open(name, encoding="utf-8-sig") as file:
                return file.readline().strip()
    except UnicodeDecodeError:
        raise BrokenData(f"{name} is not text.", "not-readable") from None
    except OSError as error:
        raise BrokenData(f"{name}: {error.strerror}.", "not-readable") from None
    return text


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


def table(rows: Sequence[Sequence[str]], head: Sequence[str]) -> str:
    """Columns of text under their heads, two blanks apart."""
    lines = [list(head), *[list(row) for row in rows]]
    widths = [max(len(line[column]) for line in lines) for column in range(len(head))]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip()
        for line in lines
    )
