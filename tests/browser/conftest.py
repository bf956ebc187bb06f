"""A real browser, Debian's Chromium, and a real authority that it visits (RIGS)."""

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, sync_playwright

from authority_process import Home, Serving

_QUIET = """--disable-gpu --disable-quic --no-first-run --disable-background-networking
 --disable-component-update --disable-sync""".split()


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    program = shutil.which("chromium")
    if program is None:
        reason = "there is no chromium: apt install chromium"
        if os.environ.get("CI") == "true":
            pytest.fail(reason)
        pytest.skip(reason)
    with sync_playwright() as playwright:
        started = playwright.chromium.launch(executable_path=program, args=_QUIET)
        yield started
        started.close()


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Home:
    made = Home(tmp_path_factory.mktemp("publisher"))
    made.set_up()
    return made


@pytest.fixture(scope="module")
def serving(home: Home) -> Iterator[Serving]:
    with Serving(home) as running:
        yield running


@pytest.fixture
def shots(tmp_path: Path) -> Path:
    """A folder for photographs."""
    folder = tmp_path / "photographs"
    folder.mkdir()
    return folder
