"""Sessions of commands as a person would see them, compared with the transcripts that are checked in.

A transcript is text: ``$ slmgr /dlv``, then standard output, then each line of standard error behind ``! ``, then
``[exit 0]``. What no two runs share (ids, keys, ports, paths, process ids, signed documents, the moment of the next
try, which is drawn by lot) stands there by a name in angle brackets, one name for one value. All else is verbatim: a
laboratory's clock stands still and is moved by a minute before each command, so that times and dates are to the second.

Written anew with ``WRITE_TRANSCRIPTS=1`` in the environment; such a run always fails, because what it wrote has to be
read against the rules by a person (`git diff`) before it counts.
"""

import difflib
import json
import os
import re
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path

import pytest

import inprocess
from inprocess import Done
from volact.lab.handclock import HandClock

FOLDER = Path(__file__).parent / "transcripts"
WRITE = "WRITE_TRANSCRIPTS"
MINUTE = 60
_SIGNED = re.compile(r"[\w-]{20,}\.[\w-]{20,}\.[\w-]{20,}", re.ASCII)
_QR_CODE = re.compile(r"(?<=V1:)\d+/\d+:[\w-]{8}:[\w-]+", re.ASCII)
_THUMBPRINT = re.compile(r"(?<![\w-])[\w-]{43}(?![\w-])", re.ASCII)
_INSTALLATION_ID = re.compile(r"\b\d{6}(?: \d{6}){8}\b")
_LOTS = re.compile(r'(?<=Next try: )[\dTZ:-]{20}|(?<="next_try": ")[\dTZ:-]{20}')
_PID = re.compile(r'(?<="pid": )\d+')
_LIBRARY = re.compile(r"(?<=SQLite )\d[\d.]*")


class Transcript:
    """What was said in one session; `names` are the values that are known to differ, and what stands for them."""

    def __init__(self, clock: HandClock, names: Mapping[str, str]) -> None:
        self.clock = clock
        self.names = dict(names)
        self._found: dict[str, str] = {}
        self._lines: list[str] = []

    def note(self, text: str) -> None:
        """Say what happens beside the commands."""
        self._lines += [f"# {text}", ""]

    def at(self, environ: Mapping[str, str]) -> "Prompt":
        """Where commands are given, on the machine of this environment."""
        return Prompt(self, environ)

    def add(self, words: Sequence[str], done: Done) -> None:
        """Write down a command and what it said."""
        told = [*done.out.splitlines(), *(f"! {line}".rstrip() for line in done.err.splitlines())]
        shown = " ".join(word if word and " " not in word else f"'{word}'" for word in words)
        self._lines += [f"$ slmgr {shown}".rstrip(), *told, f"[exit {done.code}]", ""]

    def text(self) -> str:
        """The session so far, with names for what varies."""
        text = "\n".join(self._lines)
        for value in sorted(self.names, key=len, reverse=True):
            text = re.sub(rf"(?<!\w){re.escape(value)}(?!\w)", f"<{self.names[value]}>", text)
        text = _LOTS.sub("<time>", text)
        text = _PID.sub("<pid>", text)
        text = _LIBRARY.sub("<version>", text)
        for pattern, kind in (
            (_QR_CODE, "qr"),
            (_SIGNED, "signed"),
            (_THUMBPRINT, "id"),
            (_INSTALLATION_ID, "iid"),
        ):
            text = pattern.sub(partial(self._numbered, kind), text)
        return text

    def _numbered(self, kind: str, match: re.Match[str]) -> str:
        value = match[0]
        if value not in self._found:
            number = 1 + sum(one.startswith(f"<{kind}-") for one in self._found.values())
            self._found[value] = f"<{kind}-{number}>"
        return self._found[value]

    def check(self, name: str) -> None:
        """Compare it with the transcript of that name; a difference is shown as a diff."""
        file, text = FOLDER / f"{name}.txt", self.text()
        if os.environ.get(WRITE):
            file.write_text(text, "utf-8")
            pytest.fail(f"{file.name} was written anew: read its diff against the rules.", pytrace=False)
        expected = file.read_text("utf-8") if file.exists() else ""
        if text != expected:
            diff = difflib.unified_diff(
                expected.splitlines(), text.splitlines(), f"checked in: {file.name}", "said now", lineterm=""
            )
            pytest.fail("\n".join(diff), pytrace=False)


class Prompt:
    """A machine's command line; what is said there goes into a transcript."""

    def __init__(self, script: Transcript, environ: Mapping[str, str]) -> None:
        self._script, self._environ = script, environ

    def say(self, *words: str) -> Done:
        """Run ``slmgr`` a minute after the last command."""
        clock = self._script.clock
        clock.move(clock.now + MINUTE)
        done = inprocess.run("slmgr", *words, environ=self._environ)
        assert "Traceback" not in done.err
        self._script.add(words, done)
        return done

    def both(self, *words: str) -> None:
        """Run it in prose, and then with ``--json``: one value, whatever comes of it."""
        self.say(*words)
        json.loads(self.say(*words, "--json").out)

    def wrong(self, switch: str, *words: str) -> None:
        """Run a switch without its word, and with each of these."""
        self.both(switch)
        for word in words:
            self.both(switch, word)
