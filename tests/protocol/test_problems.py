"""The list of refusals: RULES E, RFC 9457."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from volact.protocol import codes, problems, vamtcodes
from volact.protocol.problems import PROBLEMS, DocumentRefused, Refusal, VolactError


@pytest.mark.parametrize("code", PROBLEMS)
def test_every_refusal_has_a_code_a_sentence_and_a_next_step(code: str) -> None:
    """RULES E: one stable code, one sentence, and what to do next."""
    problem = PROBLEMS[code]
    assert re.fullmatch(r"[a-z]+(-[a-z]+)*", code)
    assert 400 <= problem.status <= 599
    for text in (problem.sentence, problem.next_step):
        assert text.endswith((".", "?"))
        assert text == text.strip()
        assert text[0].isupper()
    assert problem.sentence.count(". ") == 0, "one sentence"
    assert "!" not in problem.sentence + problem.next_step


def test_no_code_stands_twice() -> None:
    assert len(PROBLEMS) == len(codes.CODES) + len(vamtcodes.CODES)


def test_no_text_stands_twice() -> None:
    sentences = [problem.sentence for problem in PROBLEMS.values()]
    assert len(set(sentences)) == len(sentences)


# The list is public API and append-only: a line may be added here, none changed or removed.
FIRST_CODES = """
document-refused request-malformed body-too-large not-found method-not-allowed request-id-reused too-many-requests
storage-unavailable busy internal key-mistyped key-wrong-kind key-wrong-product key-unknown key-blocked
no-activations-left machine-not-entitled machine-blocked reactivated-too-often moved-too-often identity-cloned
machine-is-container activation-returned other-machine product-not-installed root-mismatch lab-publisher
authority-unreachable usage data-broken store-newer port-taken
"""


def test_the_list_is_append_only() -> None:
    """RULES E: the list is public API: append-only. M7's four codes among them."""
    assert set(FIRST_CODES.split()) <= set(PROBLEMS)


def test_a_problem_document_is_that_of_rfc_9457() -> None:
    """RFC 9457 section 3.1: type, title, status, detail; ours add code and next, and what the case adds."""
    made = Refusal(
        "no-activations-left", "100 of 100 are used.", (("required", 25), ("retry_after", 60))
    ).document()
    assert made == {
        "type": "urn:volact:problem:no-activations-left",
        "title": PROBLEMS["no-activations-left"].sentence,
        "status": 403,
        "detail": "100 of 100 are used.",
        "code": "no-activations-left",
        "next": PROBLEMS["no-activations-left"].next_step,
        "required": 25,
        "retry_after": 60,
    }


def test_without_a_detail_the_sentence_stands_there() -> None:
    made = Refusal("busy").document()
    assert made["detail"] == made["title"] == str(Refusal("busy"))


def test_further_members_never_replace_the_standard_ones() -> None:
    """A peer's own members cannot change what kind of problem this is."""
    made = Refusal("busy", "", (("status", 200), ("code", "done"), ("count", 1))).document()
    assert (made["status"], made["code"], made["count"]) == (503, "busy", 1)


def test_a_code_of_a_newer_version_is_kept_with_its_sentence() -> None:
    """The list is append-only, so an older reader meets codes that it does not know."""
    newer = Refusal.received("pool-exhausted", "No more.", "The pool is empty.")
    assert (newer.code, newer.problem.sentence, newer.problem.status) == (
        "pool-exhausted",
        "The pool is empty.",
        400,
    )
    known = Refusal.received("busy", "Later.", "Anything")
    assert known.problem == PROBLEMS["busy"]
    assert str(known) == f"{PROBLEMS['busy'].sentence} Later."


@given(st.text(max_size=2000), st.text(max_size=2000), st.text(max_size=2000))
def test_what_a_peer_says_cannot_steer_a_terminal_or_a_log(code: str, detail: str, title: str) -> None:
    """RELIABILITY T36: no raw input; newline and ANSI corpus."""
    received = Refusal.received(code, detail, title)
    text = received.code + received.detail + str(received)
    assert text.isprintable()
    assert len(received.code) <= 64
    assert len(received.detail) <= 1000
    assert len(received.problem.sentence) <= 200


@pytest.mark.parametrize(
    ("error", "exit_code", "code"),
    [
        (DocumentRefused("x"), 1, "document-refused"),
        (problems.Refused(Refusal("busy")), 1, "busy"),
        (problems.UsageError("x"), 2, "usage"),
        (problems.Unreachable(Refusal("authority-unreachable")), 3, "authority-unreachable"),
        (problems.BrokenData("x"), 4, "data-broken"),
        (problems.BrokenData("x", "store-newer"), 4, "store-newer"),
    ],
)
def test_each_error_knows_its_exit_code_and_its_refusal(
    error: VolactError, exit_code: int, code: str
) -> None:
    """DESIGN 5: 0 done, 1 refused, 2 usage, 3 could not reach, 4 broken data."""
    assert error.exit_code == exit_code
    assert error.refusal.code == code
    assert error.refusal.problem.next_step
    assert str(error) == str(error.refusal)


def test_a_usage_error_can_say_what_to_do() -> None:
    assert problems.UsageError("x").next_step == "See --help."
    assert problems.UsageError("x", "Name a file.").next_step == "Name a file."
