"""Answers of a KMS host that were lost on the way (T14)."""

from pathlib import Path
from typing import Any

import pytest

from client.machine import PARTS, Machine, refused
from client.service import made
from volact.calls import Answer
from volact.protocol.problems import DocumentRefused, Refusal, Unreachable


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    return made(tmp_path)


@pytest.mark.parametrize("lost", ["no-answer", "status-503", "refused-503", "nonsense", "neither"])
def test_a_lost_answer_is_asked_for_again_under_the_same_req_with_the_same_content(
    machine: Machine, lost: str
) -> None:
    machine.kms.answers = [
        {
            "no-answer": Unreachable(Refusal("host-unreachable")),
            "status-503": Answer(503, {}, b"busy"),
            "refused-503": Refusal("storage-unavailable"),
            "nonsense": Answer(502, {}, b"<html>"),
            "neither": Answer(500, {}, b"{}"),
        }[lost]
    ]
    refused(
        {"no-answer": "host-unreachable", "refused-503": "storage-unavailable"}.get(lost, "answer-nonsense"),
        machine.client.activate,
    )
    machine.client.activate()
    first, second = machine.kms.checkins
    for name in ("req", "prd", "fp", "prev", "vm"):
        assert first[name] == second[name]
    assert first["nonce"] != second["nonce"]
    assert machine.record().checkin is None


def test_after_a_refusal_that_came_a_new_req_is_taken(machine: Machine) -> None:
    machine.kms.too_few()
    refused("count-insufficient", machine.client.activate)
    machine.client.activate()
    first, second = machine.kms.checkins
    assert first["req"] != second["req"]


def test_an_answer_that_does_not_hold_ends_its_req(machine: Machine) -> None:
    machine.kms.answers = [lambda asked: machine.kms.lease(asked, fp={})]
    with pytest.raises(DocumentRefused):
        machine.client.activate()
    machine.client.activate()
    first, second = machine.kms.checkins
    assert first["req"] != second["req"]


def test_with_other_content_a_new_req_is_taken(machine: Machine) -> None:
    machine.kms.answers = [Unreachable(Refusal("host-unreachable"))]
    refused("host-unreachable", machine.client.activate)
    machine.facts = machine.facts._replace(values={**PARTS, "disk": "another"})
    machine.client.activate()
    first, second = machine.kms.checkins
    assert first["req"] != second["req"]


def test_a_check_in_is_noted_before_it_is_sent(machine: Machine) -> None:
    """A machine that is switched off in between asks under the same `req` afterwards."""
    noted: list[Any] = []

    def look(asked: Any) -> dict[str, Any]:
        noted.append((machine.record().checkin or {}).get("req"))
        return machine.kms.lease(asked)

    machine.kms.answers = [look]
    machine.client.activate()
    assert noted == [machine.kms.checkins[0]["req"]]
