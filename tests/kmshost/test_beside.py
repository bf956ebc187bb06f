"""Work beside a service: it goes on whatever happens, and says each failure once."""

import threading

import pytest
from structlog.testing import capture_logs

from volact.kmshost import beside
from volact.kmshost.beside import Beside, Failures
from volact.protocol.problems import Refusal, Refused


def test_a_failure_is_said_once_until_it_succeeds_or_is_another() -> None:
    failures = Failures()
    with capture_logs() as said:
        for error in (OSError("a"), OSError("a"), OSError("b"), Refused(Refusal("busy", "wait"))):
            failures.say("work", error)
        failures.say("other", OSError("b"))
        failures.forget("work")
        failures.say("work", Refused(Refusal("busy", "wait")))
    assert [one["event"] for one in said] == ["internal", "internal", "look", "internal", "look"]
    assert (said[2]["code"], said[2]["detail"], said[2]["work"]) == ("busy", "wait", "work")


def test_work_that_fails_is_done_again_even_if_nothing_can_be_said(monkeypatch: pytest.MonkeyPatch) -> None:
    done = threading.Semaphore(0)

    class Full:
        def error(self, *_: object, **__: object) -> None:
            raise OSError("No space left on device")

    def work() -> None:
        done.release()
        raise Refused(Refusal("busy"))

    monkeypatch.setattr(beside, "_log", Full())
    made = Beside("work", 0.001, work)
    made.start()
    try:
        assert all(done.acquire(timeout=20) for _ in range(3))
    finally:
        made.stop()
    while done.acquire(timeout=0.2):
        pass  # what was under way
    assert not done.acquire(timeout=0.2)
