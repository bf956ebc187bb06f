"""A laboratory's movable clock: a file that running programs read at every look (PROTOCOL section 9)."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from volact.clock import LAB_CLOCK

if TYPE_CHECKING:
    from pathlib import Path


class HandClock:
    """A clock file that programs are started with; it stands still until it is moved."""

    def __init__(self, file: Path, now: int) -> None:
        """Stand at `now`, seconds UTC."""
        self._file = file
        self._aside = file.with_suffix(".next")
        self.now = now
        self.move(now)

    def move(self, now: int) -> None:
        """Let it be `now` for every program that looks at the file from here on."""
        self._aside.write_text(f"{now}\n", "ascii")
        os.replace(self._aside, self._file)  # noqa: PTH105 - by rename, so that no program reads half a time
        self.now = now

    @property
    def environ(self) -> dict[str, str]:
        """What a program is started with to go by this clock."""
        return {LAB_CLOCK: str(self._file)}
