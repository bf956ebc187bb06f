"""What a story of K8 must be, by the rules alone: nothing here knows how the program decides."""

from typing import Any

from volact.protocol.policy import Policy

HOUR, DAY = 3600, 86400
ORDER = [
    "first-call",
    "first-lease",
    "all-licensed",
    "leaves",
    "leaves",
    "record-gone",
    "first-refusal",
    "record-gone",
    "all-refused",
    "joins",
    "joins",
    "all-granted",
    "end",
]


def counted(tries: list[dict[str, Any]], at: int, lifetime: int) -> int:
    """K2 to K4: machines whose last contact up to `at`, itself included, is younger than a record's lifetime."""
    last: dict[int, int] = {}
    for one in tries:
        if one["at"] <= at:
            last[one["machine"]] = one["at"]
    return sum(1 for contact in last.values() if at < contact + lifetime)


def check_story(document: dict[str, Any], numbers: Policy, minimum: int, days: int) -> None:
    """Hold a played story against the rules, hour by hour and try by try."""
    tries = document["tries"]
    _each_try(tries, numbers, minimum)
    hourly = document["hourly"]
    assert len(hourly) == days * 24
    for hour, count in enumerate(hourly, start=1):
        assert count == counted(tries, hour * HOUR, numbers.record_lifetime), f"hour {hour}"
    for sample in document["samples"]:
        assert sample["count"] == counted(tries, sample["at"], numbers.record_lifetime), sample
    _fall(document, numbers, minimum)
    refused = sum(1 for one in tries if one["result"] != "granted")
    events = document["host_events"]
    assert events.pop("count-insufficient") == refused, "each failure is an event on the host (K8)"
    assert list(events.values()) == [len(tries) - refused]
    told = [line["event"] for line in document["timeline"]]
    assert sorted(told) == sorted(ORDER)
    # The first refusal may come before or after the second record has gone.
    assert [one for one in told if one != "first-refusal"] == [one for one in ORDER if one != "first-refusal"]


def _each_try(tries: list[dict[str, Any]], numbers: Policy, minimum: int) -> None:
    before: dict[int, dict[str, Any]] = {}
    for position, one in enumerate(tries):
        count = counted(tries[: position + 1], one["at"], numbers.record_lifetime)
        assert one["count"] == count, one
        assert one["result"] == ("granted" if count >= minimum else "count-insufficient"), one
        earlier = before.get(one["machine"])
        licensed = one["result"] == "granted" or (earlier is not None and earlier["state"] == 1)
        assert one["state"] == (1 if licensed else 2), f"a refusal never worsens a state: {one}"
        if earlier is not None:
            interval = numbers.renewal if earlier["result"] == "granted" else numbers.retry
            waited = one["at"] - earlier["at"]
            # K6: the interval, 10 per cent either way; whole seconds.
            assert 9 * interval // 10 - 1 <= waited <= 11 * interval // 10 + 1, (earlier, one)
        before[one["machine"]] = one


def _fall(document: dict[str, Any], numbers: Policy, minimum: int) -> None:
    """Two leave, the count falls by two within a record's lifetime, and two that join bring it back."""
    plan, tries = document["plan"], document["tries"]
    gone = [line for line in document["timeline"] if line["event"] == "record-gone"]
    assert [line["count"] for line in gone] == [minimum - 1, minimum - 2]
    assert all(plan["leave"] < line["at"] <= plan["leave"] + numbers.record_lifetime for line in gone)
    samples = {one["at"]: one["count"] for one in document["samples"]}
    for line in gone:
        assert samples[line["at"] - 1] == samples[line["at"]] + 1, "at its last second a record counts (K4)"
    between = [one for one in tries if gone[-1]["at"] < one["at"] < plan["join"]]
    assert {one["machine"] for one in between} == set(range(2, minimum)), "all that stayed have been refused"
    assert {one["result"] for one in between} == {"count-insufficient"}
    assert {one["state"] for one in between} == {1}
    (recovered,) = [line["at"] for line in document["timeline"] if line["event"] == "all-granted"]
    assert {one["result"] for one in tries if one["at"] > recovered} == {"granted"}
    assert recovered - plan["join"] <= 11 * numbers.retry // 10 + 600 + 1
