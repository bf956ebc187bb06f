"""``volact lab story mak`` and ``story proxy``, against what the rules say (M1 to M6, P1 to P5).

The commands run in this process, the authority as a process of its own; with ``slow`` everything does, as a person has it.
"""

import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

import inprocess
from volact.calls import problem_of
from volact.children import Volact
from volact.lab import sample
from volact.lab.handclock import HandClock
from volact.lab.makstory import Mak
from volact.lab.narrating import Line
from volact.lab.proxystory import Proxy
from volact.lab.publisher import Publisher
from volact.lab.site import product_file
from volact.lab.telling import refused
from volact.protocol import policy
from volact.protocol.policy import DAY, HOUR
from volact.protocol.problems import Refused

pytestmark = pytest.mark.sockets

START = 1_800_000_000
SHORT = policy.read({"non_genuine_grace": 12 * DAY}, "client")
MAK = [
    (0, "issued", 3),
    (0, "activates", 2),
    (0, "activates", 1),
    (1, "rebuilt", 1),
    (2, "copied", 1),
    (2, "copy-activates", 0),
    (3, "used-up", 0),
    (4, "topped-up", 2),
    (4, "activates", 1),
    (5, "return-refused", 1),
    (95, "returned", 2),
    (95, "replayed", 2),
    (96, "blocked-for-new", 2),
    (97, "blocked-for-all", 2),
]
"""Day, event, activations that remain. A return waits until 90 days after the machine was set up anew."""
PROXY = [
    (0, "begin", 0),
    (0, "collected", 1),
    (0, "keys-installed", 1),
    (HOUR, "exported", 1),
    (DAY + HOUR, "acquired", 1),
    (2 * DAY + HOUR, "applied", 4),
    (2 * DAY + HOUR, "receipts", 4),
    (3 * DAY + HOUR, "rebuilt", 4),
]
"""When, event, machines of the group that are Licensed."""


def here(self: Volact, *words: str, stdin: str = "", program: str = "volact") -> Any:
    """A command in this process."""
    done = inprocess.run(program, *words, "--json", environ=self.environ, stdin=stdin)
    value = json.loads(done.out) if done.out.strip() else None
    if done.code:
        said = problem_of(value) if isinstance(value, dict) else None
        assert said, (words, done)
        raise Refused(said)
    return value


class Stage:
    """A publisher that serves, and what is told."""

    def __init__(self, folder: Path, numbers: policy.Policy, stack: ExitStack) -> None:
        self.folder, self.numbers = folder, numbers
        self.clock = HandClock(folder / "clock", START)
        self.publisher = Publisher(folder, self.clock)
        self.publisher.start(product_file(numbers, "client"), stack)
        self.said: list[Line] = []


@pytest.fixture
def stage(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Stage]:
    monkeypatch.setattr(Volact, "__call__", here)
    with ExitStack() as stack:
        yield Stage(tmp_path, SHORT, stack)


def texts(document: dict[str, Any]) -> dict[str, str]:
    return {line["event"]: line["text"] for line in document["timeline"]}


def check_mak(document: dict[str, Any], grace_days: int) -> None:
    told = [(line["at"] // DAY, line["event"], line["count"]) for line in document["timeline"]]
    assert told == [*MAK, (97 + grace_days, "grace-over", 2)]
    assert (document["bought"], document["remaining"]) == (5, 2)
    text = texts(document)
    for event, words in {
        "rebuilt": ("same hardware", "not counted", "Licensed"),
        "copied": ("a machine of its own", "Initial grace"),
        "copy-activates": ("Licensed as before", ": Licensed"),
        "used-up": ("no-activations-left", "stays in Initial grace"),
        "return-refused": ("taken-over-recently", "less than 90 days", "stays Licensed"),
        "returned": ("Unlicensed",),
        "replayed": ("activation-returned", "Unlicensed"),
        "blocked-for-new": ("key-blocked", "stays Licensed"),
        "blocked-for-all": ("machine-blocked", "Non-genuine grace", "no contact, is Licensed"),
        "grace-over": (f"{grace_days} days later", "Notification", "Licensed"),
    }.items():
        for word in words:
            assert word in text[event], (event, text[event])


def check_proxy(document: dict[str, Any]) -> None:
    assert [(line["at"], line["event"], line["count"]) for line in document["timeline"]] == PROXY
    text = texts(document)
    first, *others = sample.MACHINES
    assert f"{first} Licensed (retail)" in text["collected"]
    assert all(f"{name} Initial grace (kms)" in text["collected"] for name in others)
    assert "MAK on the 3 others" in text["keys-installed"]
    assert "4 rows" in text["exported"]
    assert "looked for 0 are in it" in text["exported"]
    assert "4 answers" in text["acquired"]
    assert "4 were known the second time" in text["applied"]
    assert "brought to 3 machines" in text["applied"]
    assert "a receipt for 4 rows, the same" in text["receipts"]
    assert "7 of 10 activations remain, as before it: 7" in text["rebuilt"]
    inside, outside = (document["receipts"][side] for side in ("inside", "outside"))
    assert {row["row"] for row in inside} == {row["row"] for row in outside}
    assert [{row["state"] for row in side} for side in (inside, outside)] == [
        {"applied", "handed"},
        {"answered"},
    ]
    assert all(row["time"] and row["who"] for row in (*inside, *outside))


def test_story_mak(stage: Stage) -> None:
    played = Mak(stage.folder, stage.clock, stage.publisher, stage.numbers, stage.said.append)
    played.play()
    check_mak(played.document(), 12)
    assert [line.document() for line in stage.said] == played.document()["timeline"]


def test_story_proxy(stage: Stage) -> None:
    """The group SecureNetwork: one with a retail key, the others in their grace; then all are Licensed."""
    played = Proxy(stage.folder, stage.clock, stage.publisher, stage.numbers, stage.said.append)
    played.play()
    check_proxy(played.document())
    assert (
        stage.said[1].prose().startswith("day  0 00:00     1  the VAMT inside asks the group SecureNetwork")
    )


def test_a_refusal_that_does_not_come_or_is_another_ends_a_story(stage: Stage) -> None:
    for words, code in (
        (("authority", "key", "list"), "key-blocked"),
        (("authority", "key", "show", "AAAAA"), "x"),
    ):
        with pytest.raises(Refused) as caught:
            refused(stage.publisher.volact, code, *words)
        assert caught.value.refusal.code != code


@pytest.mark.slow
@pytest.mark.parametrize("name", ["mak", "proxy"])
def test_stories_as_a_person_has_them(name: str) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "volact", "lab", "story", name, "--json"],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    document = json.loads(done.stdout)
    if name == "mak":
        check_mak(document, 30)
    else:
        check_proxy(document)
    assert done.stderr.splitlines()[-1].endswith(document["timeline"][-1]["text"])


@pytest.mark.parametrize(
    "words",
    [("mak", "--days", "3"), ("proxy", "--seed", "2"), ("makk",), ("mak", "--policy", "none.toml")],
    ids=["days", "seed", "name", "no such file"],
)
def test_wrong_calls(words: tuple[str, ...]) -> None:
    done = inprocess.run("volact", "lab", "story", *words, "--json", environ={})
    assert (done.code, json.loads(done.out)["code"]) == (
        (4, "not-readable") if "--policy" in words else (2, "usage")
    )
