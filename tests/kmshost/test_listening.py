"""The note of where a host's service listens: what is no note of a running process is none (K16)."""

import json
import os
from pathlib import Path
from typing import Any

import pytest

from volact.kmshost import listening
from volact.kmshost.listening import Listening


def written(folder: Path, **changes: Any) -> None:
    listening.note(folder, "127.0.0.1", 1688, (1690, 1689))
    file = folder / "serving.json"
    file.write_text(json.dumps({**json.loads(file.read_bytes()), **changes}))


def test_what_was_noted_is_read_and_forgotten(tmp_path: Path) -> None:
    listening.note(tmp_path, "::", 65535)
    assert listening.read(tmp_path) == Listening("::", 65535, os.getpid())
    listening.note(tmp_path, "127.0.0.1", 1, [65535])
    assert listening.read(tmp_path) == Listening("127.0.0.1", 1, os.getpid(), frozenset({65535}))
    listening.forget(tmp_path)
    assert listening.read(tmp_path) is None


@pytest.mark.parametrize(
    "changes",
    [
        {"port": 0},
        {"port": 65536},
        {"port": 10**400},
        {"port": 1688.0},
        {"port": True},
        {"port": "1688"},
        {"leaving": [65536]},
        {"leaving": [-1]},
        {"leaving": None},
        {"leaving": {}, "port": None},
        {"pid": 0},
        {"pid": -1},
        {"pid": 10**400},
        {"started": None},
        {"started": 1},
        {"address": 1},
    ],
)
def test_a_note_with_a_member_that_is_none_is_no_note(tmp_path: Path, changes: dict[str, Any]) -> None:
    written(tmp_path)
    assert listening.read(tmp_path)
    written(tmp_path, **changes)
    assert listening.read(tmp_path) is None
    listening.forget(tmp_path)


@pytest.mark.parametrize(
    "content", [b"", b"[]", b"null", b"\xff", b"[" * 100_000, b'{"port": 1e400}', b'{"port": ' + b"9" * 5000]
)
def test_a_file_that_is_no_note(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "serving.json").write_bytes(content)
    assert listening.read(tmp_path) is None


def test_infinity_is_no_number_of_a_note(tmp_path: Path) -> None:
    for name in ("port", "pid", "started"):
        written(tmp_path, **{name: float("inf")})
        assert listening.read(tmp_path) is None


def test_k15_a_move_to_another_port_is_no_new_beginning(tmp_path: Path) -> None:
    """Who is overdue is told by how long the host has been there to be called, not by its port."""
    assert listening.since(tmp_path) == 0
    listening.note(tmp_path, "127.0.0.1", 1688)
    began = 1_700_000_000
    os.utime(tmp_path / "serving.json", (began, began))
    assert listening.since(tmp_path) == began
    for port in (1689, 1690):
        listening.note(tmp_path, "127.0.0.1", port)
        assert listening.since(tmp_path) == began
    written(tmp_path, since=-1)
    assert listening.since(tmp_path) > began  # a damaged member: the file's own time
    listening.forget(tmp_path)
    assert listening.since(tmp_path) == 0
    written(tmp_path, started=1, since=began)  # another process's note
    listening.note(tmp_path, "127.0.0.1", 1688)
    assert listening.since(tmp_path) > began
