"""What every test of the client gets: a disk that nobody waits for."""

import os

import pytest


@pytest.fixture(autouse=True)
def _no_power_cut(monkeypatch: pytest.MonkeyPatch) -> None:
    """Programs are killed and disks are full here, but no power is cut: a flush would be half of the tests' time."""
    monkeypatch.setattr(os, "fsync", lambda _descriptor: None)
