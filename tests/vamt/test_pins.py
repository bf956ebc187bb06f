"""T29: which host keys are a machine's own: whose word counts, what was revoked, what a person compared by fingerprint."""

import itertools

import pytest

from volact.vamt.estate import Estate
from volact.vamt.inventory import Report, Sighting, fingerprint, is_pinned

OLD, NEW, OTHER = "ssh-ed25519 OLD", "ssh-ed25519 NEW", "ssh-rsa OTHER"
WEB = Sighting("dns", "web1", "a.test", ("192.0.2.1",))
LISTED = Sighting("known-hosts", "web1", "a.test", (), None, "ssh")
AT_ADDRESS = Sighting("known-hosts", "", "", ("192.0.2.1",), None, "ssh")
SHOWN = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIBPwHOmgCGQFAzx/EuLzAuZxABiHC+9W9Dzt3T+eaatP"
PRINT = "SHA256:eNlYAaab0YCBb4thuOqqV4j9t15m8yQ83NplBD5EcoI"
"""What ssh-keygen -lf prints of that key."""


def estate(*sightings: Sighting) -> Estate:
    """Each a minute after the other, from 100 on; the first row is m1."""
    numbers = itertools.count(1)
    made = Estate((), lambda: f"m{next(numbers)}")
    for number, one in enumerate(sightings):
        made.see(one, 100 + 60 * number)
    return made


# --- whose word counts (M3) -----------------------------------------------------------------------------------------


def test_what_known_hosts_says_replaces_what_was_believed() -> None:
    found = estate(WEB)
    found.report("m1", Report("web1", "a.test"), 110, OLD)
    assert [*found["m1"].host_keys] == [OLD]
    found.see(LISTED._replace(host_keys=(NEW, OTHER)), 200)
    assert [*found["m1"].host_keys] == [NEW, OTHER]


@pytest.mark.parametrize(
    ("first", "second"),
    [(LISTED, LISTED), (LISTED, AT_ADDRESS), (AT_ADDRESS, LISTED), (AT_ADDRESS, AT_ADDRESS)],
)
def test_the_newest_word_of_known_hosts_counts(first: Sighting, second: Sighting) -> None:
    found = estate(WEB, first._replace(host_keys=(OLD,)), second._replace(host_keys=(NEW,)))
    assert [row.mid for row in found] == ["m1"]
    assert found["m1"].host_keys == (NEW,)


def test_two_words_of_one_moment_count_both() -> None:
    found = estate(WEB)
    found.see(LISTED._replace(host_keys=(OLD,)), 200)
    found.see(AT_ADDRESS._replace(host_keys=(OTHER,)), 200)
    assert found["m1"].host_keys == (OLD, OTHER)


def test_a_newer_known_hosts_that_says_no_key_takes_none_away() -> None:
    found = estate(WEB._replace(host_keys=(OTHER,)), AT_ADDRESS._replace(host_keys=(OLD,)), LISTED)
    assert found["m1"].host_keys == (OLD,)


def test_what_a_person_said_stands_against_all() -> None:
    found = estate(WEB)
    found.trust("m1", (OTHER,), 150)
    found.see(LISTED._replace(host_keys=(NEW,)), 200)
    assert found["m1"].host_keys == (OTHER,)


def test_what_a_person_adds_later_takes_nothing_away_that_they_said_before() -> None:
    """`machine add web1 --group Office` is no way to lose the key that was compared, nor the port."""
    by_hand = Sighting("hand", "web1", "a.test", ("192.0.2.1",), 2222, "ssh", "linux", ("02:00:00:00:00:01",))
    found = estate(WEB, by_hand)
    found.trust("m1", (OTHER,), 170)
    before = found["m1"].seen["hand"]
    found.see(Sighting("hand", "web1", "a.test"), 200)
    assert found["m1"].seen["hand"] == before._replace(at=200)
    assert found["m1"].host_keys == (OTHER,)
    found.see(Sighting("hand", "web1", "a.test", ("192.0.2.9",), 23), 300)
    after = found["m1"].seen["hand"]
    assert (after.addresses, after.port, after.transport) == (("192.0.2.9",), 23, "ssh")
    assert found["m1"].host_keys == (OTHER,)
    found.see(Sighting("dns", "web1", "a.test"), 300)
    assert found["m1"].seen["dns"].addresses == ()


# --- revoked keys (M3) ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("source", ["known-hosts", "answer", "hand", "csv"])
def test_a_revoked_key_is_taken_off_every_row_whoever_said_it(source: str) -> None:
    found = estate(WEB, WEB._replace(name="web2", addresses=("192.0.2.2",)))
    for mid, name in (("m1", "web1"), ("m2", "web2")):
        if source == "answer":
            found.report(mid, Report(name, "a.test"), 300, OLD)
        elif source == "hand":
            found.trust(mid, (OLD, NEW), 300)
        else:
            found.see(Sighting(source, name, "a.test", host_keys=(OLD, NEW)), 300)
        assert OLD in found[mid].host_keys
    found.changed.clear()
    found.revoke(OLD, 400)
    for mid in ("m1", "m2"):
        assert found[mid].host_keys == (() if source == "answer" else (NEW,))
        assert found[mid].revoked == (OLD,)
    assert found.changed == {"m1", "m2"}


def test_a_revoked_key_changes_no_row_that_never_had_it() -> None:
    found = estate(LISTED._replace(host_keys=(NEW,)))
    found.changed.clear()
    found.revoke(OLD, 400)
    assert found.changed == set()
    assert found["m1"].revoked == ()


def test_a_revoked_key_comes_back_by_no_source_and_no_answer() -> None:
    found = estate(LISTED._replace(host_keys=(OLD,)), WEB)
    found.revoke(OLD, 400)
    found.see(LISTED._replace(host_keys=(OLD,)), 500)
    found.see(Sighting("csv", "web1", "a.test", host_keys=(OLD,)), 500)
    found.report("m1", Report("web1", "a.test"), 600, OLD)
    assert (found["m1"].host_keys, found.believed) == ((), {})
    found.report("m1", Report("web1", "a.test"), 700, NEW)
    assert (found["m1"].host_keys, found.believed) == ((NEW,), {"m1": NEW})


def test_a_key_that_a_person_gave_by_its_fingerprint_is_revoked_too() -> None:
    found = estate(WEB)
    found.trust("m1", (PRINT,), 200)
    found.revoke(SHOWN, 300)
    assert (found["m1"].host_keys, found["m1"].revoked) == ((), (SHOWN,))


@pytest.mark.parametrize("vouched", [SHOWN, PRINT])
def test_a_person_may_vouch_for_a_revoked_key(vouched: str) -> None:
    found = estate(LISTED._replace(host_keys=(SHOWN, OLD)))
    found.revoke(SHOWN, 300)
    found.revoke(OLD, 300)
    found.trust("m1", (vouched,), 400)
    assert (found["m1"].host_keys, found["m1"].revoked) == ((vouched,), (OLD,))


def test_rows_that_become_one_keep_what_was_revoked_of_each() -> None:
    found = estate(LISTED._replace(host_keys=(OLD,)), AT_ADDRESS._replace(host_keys=(NEW,)))
    found.revoke(OLD, 300)
    found.revoke(NEW, 350)
    found.see(WEB, 400)
    assert [row.mid for row in found] == ["m1"]
    assert found["m1"].revoked == (NEW, OLD)


def test_a_row_of_a_reached_machine_keeps_what_was_revoked_of_both() -> None:
    first, second = LISTED._replace(host_keys=(OLD, OTHER)), AT_ADDRESS._replace(host_keys=(NEW, OTHER))
    found = estate(first, second)
    found.revoke(OLD, 300)
    found.revoke(NEW, 350)
    assert found.report("m2", Report("web1", "a.test"), 400, OTHER).mid == "m1"
    assert found["m1"].revoked == (NEW, OLD)


# --- fingerprints (M10) ---------------------------------------------------------------------------------------------


def test_a_fingerprint_is_as_ssh_keygen_prints_it() -> None:
    assert fingerprint(SHOWN) == PRINT


@pytest.mark.parametrize("text", ["", "ssh-ed25519", "ssh-ed25519 ", "ssh-ed25519 A", "ssh-ed25519 AA-_"])
def test_what_is_no_host_key_has_no_fingerprint(text: str) -> None:
    assert fingerprint(text) == ""
    assert not is_pinned("", ("",))


def test_a_fingerprint_that_a_person_compared_is_the_key_once_it_is_shown() -> None:
    found = estate(WEB, LISTED._replace(host_keys=(OLD,)))
    found.trust("m1", (PRINT, OTHER), 200)
    assert found["m1"].host_keys == (PRINT, OTHER)
    placed = found.report("m1", Report("web1", "a.test", identity="I"), 300, SHOWN)
    assert placed == ("m1", False, True, ())
    assert found["m1"].host_keys == (SHOWN, OTHER)
    assert found.believed == {}


@pytest.mark.parametrize("pinned", [PRINT, NEW])
def test_a_row_that_was_pinned_while_its_machine_was_asked_is_not_the_one_that_shows_another_key(
    pinned: str,
) -> None:
    found = estate(WEB)
    found.trust("m1", (pinned,), 200)
    placed = found.report("m1", Report("web1", "a.test", identity="I"), 300, OTHER)
    assert placed == ("m2", True, True, ("m1",))
    assert (found["m1"].host_keys, found["m1"].full_name) == ((pinned,), "web1.a.test")
    assert (found["m2"].host_keys, found["m2"].full_name) == ((OTHER,), "")
    assert found.believed == {"m2": OTHER}


def test_a_machine_is_found_again_by_the_fingerprint_of_its_row() -> None:
    """It is reached by another row; the person compared the fingerprint at its own."""
    found = estate(WEB)
    found.report("m1", Report("web1", "a.test", identity="I"), 110, OLD)
    found.trust("m1", (PRINT,), 200)
    found.see(Sighting("addresses", "", "", ("192.0.2.7",)), 250)
    placed = found.report("m2", Report("web1", "a.test", identity="I"), 300, SHOWN)
    assert (placed.mid, placed.claimed) == ("m1", ())
