"""The laboratory with real processes: a fleet against a real KMS host, and rule K8 played for 60 days."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from lab.model import check_story
from volact.lab import story
from volact.lab.handclock import HandClock
from volact.lab.site import Site
from volact.protocol import policy
from volact.protocol.policy import DAY, HOUR, MINUTE

pytestmark = pytest.mark.sockets

RULES = policy.of_edition("client")
# Differs from RULES.md in every number that a KMS host or its clients go by.
OTHER = {
    "thresholds": [{"count": "machines", "minimum": 6}],
    "validity": 30 * DAY,
    "renewal": 36 * HOUR,
    "retry": 150 * MINUTE,
    "record_lifetime": 4 * DAY,
    "initial_grace": 9 * DAY,
    "tolerance_grace": 11 * DAY,
    "non_genuine_grace": 12 * DAY,
    "warn_from": 20 * DAY,
    "rearms": 1,
    "rebuilds_per_year": 2,
    "moves_per_year": 3,
    "returns_per_year": 5,
}


def lab(*words: str, code: int = 0) -> subprocess.CompletedProcess[str]:
    done = subprocess.run(
        [sys.executable, "-m", "volact", "lab", *words],
        env=dict(os.environ),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )
    assert done.returncode == code, (done.stdout[-2000:], done.stderr[-2000:])
    assert "Traceback" not in done.stderr
    return done


@pytest.mark.slow
def test_story_kms_reads_like_k8() -> None:
    """60 days with the numbers of RULES.md: hour by hour what an independent model says (K8, F38)."""
    done = lab("story", "kms", "--json")
    document = json.loads(done.stdout)
    check_story(document, RULES, 25, 60)
    assert document["timeline"][-1]["text"].startswith("25 counted (required 25), 25 are Licensed")
    assert done.stderr.splitlines()[-1].startswith("day 60 00:00    25")


class Place(NamedTuple):
    """Authority and host under a policy with other numbers, and the folder that all is in."""

    site: Site
    clock: HandClock
    folder: Path


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    folder = tmp_path_factory.mktemp("lab")
    clock = HandClock(folder / "clock", 1_800_000_000)
    with Site(folder, clock, policy.read(OTHER, "client")) as site:
        yield Place(site, clock, folder)


def test_story_kms_with_every_number_another(place: Place) -> None:
    numbers = policy.read(OTHER, "client")
    usual = RULES._asdict()
    assert all(usual[name] != value for name, value in numbers._asdict().items() if type(value) is int)
    place.clock.move(place.clock.now + numbers.record_lifetime)  # what called before is forgotten
    played = story.Kms(place.site, place.clock, story.plan(numbers, "client", 14), lambda _line: None, 3)
    played.play()
    check_story(played.document(), numbers, 6, 14)


def test_fleet_against_a_real_host(place: Place, tmp_path: Path) -> None:
    """The first 5 are refused, the rest of 40 are granted; a later run renews the same machines (K1 to K3)."""
    site, clock = place.site, place.clock
    clock.move(clock.now + 4 * DAY)
    product, state = str(place.folder / "com.example.cad.volact-product"), str(tmp_path / "fleet")
    words = (
        "fleet",
        "--host",
        str(site.address),
        "--product",
        product,
        "--root",
        site.pub,
        "--machines",
        "40",
    )

    def run(*more: str) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(lab(*words, "--state", state, "--json", *more).stdout)
        assert (found["failed"], found["invalid"], found["reasons"]) == (0, 0, [])
        return found

    first = run("--connections", "1")
    assert (first["granted"], first["refused"]) == (35, {"count-insufficient": 5})
    assert first["required"] == 6
    assert site.count() == 40
    clock.move(clock.now + 3 * DAY)
    second = run("--rounds", "3", "--connections", "8", "--verify")
    assert (second["granted"], second["verified"]) == (120, 120)
    third = run("--new-connections", "--connections", "4")
    assert third["granted"] == 40
    assert site.count() == 40
    clock.move(clock.now + 4 * DAY - 1)
    assert site.count() == 40, "at its last second a record counts"
    clock.move(clock.now + 1)
    assert site.count() == 0, "then it is gone (K4)"
    wrong = lab(*words[:5], "--root", "A" * 43, "--json", code=1)
    assert json.loads(wrong.stdout)["code"] == "root-mismatch"
