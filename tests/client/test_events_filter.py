"""`volact client events`: its log can be narrowed (rule E)."""

import json
from pathlib import Path
from typing import Any

import pytest

from volact.client import cli, events
from volact.client.events import Event
from world import NOW, PRODUCT

LOG = [
    Event(NOW + n, number, result, "P", product, cmid, "kms:1688", None, None, NOW + n, False, 2, 5, 0, 0)
    for n, (number, result, product, cmid) in enumerate(
        [
            (12288, "", PRODUCT, "one"),
            (12289, "count-insufficient", PRODUCT, "one"),
            (12288, "", "com.example.other", "one"),
            (12289, "ok", "com.example.other", "two"),
        ]
    )
]


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "client").mkdir()
    for event in LOG:
        events.append(str(tmp_path), event)
    monkeypatch.setenv("VOLACT_HOME", str(tmp_path))
    return tmp_path


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ([], [0, 1, 2, 3]),
        (["--event", "12289"], [1, 3]),
        (["--result", "ok"], [3]),
        (["--cmid", "two"], [3]),
        (["--product", PRODUCT], [0, 1]),
        (["--limit", "3"], [1, 2, 3]),
        (["--limit", "0"], [0, 1, 2, 3]),
        (["--limit", "1", "--event", "12288"], [2]),
        (["--event", "12290"], []),
    ],
)
def test_only_what_is_wanted_is_shown(
    home: Path, capsys: pytest.CaptureFixture[str], options: list[str], expected: list[int]
) -> None:
    assert cli.main(["events", *options, "--json"]) == 0
    found: list[dict[str, Any]] = json.loads(capsys.readouterr().out)
    wanted = [LOG[n] for n in expected]
    assert [(one["event"], one["result"], one["cmid"]) for one in found] == [
        (one.event, one.result, one.cmid) for one in wanted
    ]


@pytest.mark.parametrize("option", ["--event", "--limit"])
def test_what_is_no_number_is_said(home: Path, capsys: pytest.CaptureFixture[str], option: str) -> None:
    assert cli.main(["events", option, "1.5", "--json"]) == 2
    assert "no whole number" in json.loads(capsys.readouterr().out)["detail"]
