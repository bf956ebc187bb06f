"""A VOLACT_HOME of a test's own with a VAMT in it, and its commands, in this process."""

import json
import os
from pathlib import Path
from typing import Any

import inprocess


class Place:
    """The home, and what commands are given.

    Attributes:
        folder: where `home` stands, and files of the test's.
        environ: what commands see.
    """

    def __init__(self, folder: Path) -> None:
        """Keep it in `folder`; `init` makes the VAMT, if none was copied there."""
        self.folder = folder
        self.environ = {name: value for name, value in os.environ.items() if not name.startswith("VOLACT_")}
        self.environ.pop("SSH_AUTH_SOCK", None)
        self.environ["VOLACT_HOME"] = str(folder / "home")

    def run(self, *words: str, code: int = 0, stdin: str = "") -> Any:
        """The one JSON value of ``volact vamt WORDS --json``."""
        return json.loads(self.said(*words, "--json", code=code, stdin=stdin))

    def said(self, *words: str, code: int = 0, stdin: str = "") -> str:
        """What ``volact vamt WORDS`` prints."""
        done = inprocess.run("volact", "vamt", *words, environ=self.environ, stdin=stdin)
        assert done.code == code, (words, done)
        assert "Traceback" not in done.err
        self.heard(done)
        return done.out

    def heard(self, done: inprocess.Done) -> None:
        """What a test wants to look at of every command."""

    def file(self, name: str, text: str, mode: int = 0o600) -> str:
        """`@FILE` with a text."""
        path = self.folder / name
        path.touch(0o600)
        path.write_text(text + "\n")
        path.chmod(mode)
        return f"@{path}"
