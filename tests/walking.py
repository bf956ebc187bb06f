"""A how-to page that is followed literally: its commands are given as they stand there, and what they say is compared.

In a box ```` ```console ```` a line ``PLACE$ COMMAND`` is a command given at that place, and the lines below it are what it
said. What no two runs share (ids, times, last groups of keys, files that were signed) is compared by its kind, and lines
that come as they are ready in any order.

Written anew with ``WRITE_TRANSCRIPTS=1`` in the environment; such a run always fails, because what it wrote has to be
read by a person before it counts.
"""

import difflib
import os
import re
import shlex
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

import pytest

from inprocess import Done
from transcribing import WRITE

_PROMPT = re.compile(r"([a-z][a-z0-9-]*)\$ (.*)")
_KINDS = (
    (re.compile(r"(?<![\w-])[\w-]{43}(?![\w-])", re.ASCII), "<id>"),
    (re.compile(r"(?<![\w-])[\w-]{22}(?![\w-])", re.ASCII), "<id>"),
    (re.compile(r"(?<![\w-])[\w-]{12}…", re.ASCII), "<id>"),
    (re.compile(r"\d{4}-\d\d-\d\d(?:T\d\d:\d\d:\d\dZ| \d\d:\d\d(?::\d\d)?)"), "<time>"),
    (re.compile(r"(?:^|(?<=[ -]))[0-9A-HJKMNP-TV-Z]{5}(?![\w-])"), "<group>"),
    (re.compile(r"\d{6}(?: \d{6}){8}"), "<iid>"),
    (re.compile(r" +"), " "),
)


class Step(NamedTuple):
    """A command of a page.

    Attributes:
        line: the line that it stands in, from 0.
        place: where it is given.
        command: what is given.
        said: the lines that stand below it.
    """

    line: int
    place: str
    command: str
    said: list[str]

    @property
    def words(self) -> list[str]:
        """The command's words."""
        return shlex.split(self.command)


def steps(page: Path) -> list[Step]:
    """The commands of a page, in order."""
    found: list[Step] = []
    within = False
    for number, line in enumerate(page.read_text("utf-8").splitlines()):
        if line.startswith("```"):
            within = line == "```console"
        elif within and (prompt := _PROMPT.fullmatch(line)):
            found.append(Step(number, prompt[1], prompt[2], []))
        elif within:
            found[-1].said.append(line)
    return found


def follow(page: Path, give: Callable[[Step], tuple[str, Done]]) -> None:
    """Give all commands of a page; fail at once if one fails, and in the end if one says something else than is told.

    `give` says the command as it was given, and what it came to.
    """
    told, differ = [], []
    for step in steps(page):
        command, done = give(step)
        assert "Traceback" not in done.err, done
        lines = [*done.err.splitlines(), *done.out.splitlines()]
        told.append((step._replace(command=command), lines))
        if _compared(lines) != _compared(step.said):
            differ.append(f"{step.place}$ {step.command}\n" + _difference(step.said, lines))
    if os.environ.get(WRITE):
        _write(page, told)
        pytest.fail(f"{page.name} was written anew: read its diff.", pytrace=False)
    assert not differ, "\n\n".join(differ)


def _compared(lines: Sequence[str]) -> list[str]:
    return sorted(filter(None, map(_by_kind, lines)))


def _by_kind(line: str) -> str:
    for pattern, kind in _KINDS:
        line = pattern.sub(kind, line)
    return line.strip()


def _difference(told: Sequence[str], said: Sequence[str]) -> str:
    return "\n".join(difflib.unified_diff(told, said, "the page", "said now", lineterm=""))


def _write(page: Path, told: Sequence[tuple[Step, list[str]]]) -> None:
    lines = page.read_text("utf-8").splitlines()
    for step, said in reversed(told):
        at = step.line + 1
        lines[step.line] = f"{step.place}$ {step.command}"
        lines[at : at + len(step.said)] = [line.rstrip() for line in said]
    page.write_text("\n".join(lines) + "\n", "utf-8")
