"""Group commit: in order, in batches, each caller answered, and no more waiting than is worth it (DESIGN section 4, T20)."""

import asyncio
import threading
from collections.abc import Sequence

import pytest

from volact import grouping
from volact.grouping import GroupCommit
from volact.protocol.problems import Refusal


def answered(batches: list[int], held: threading.Event) -> GroupCommit[int]:
    def answer(asks: Sequence[tuple[int, str]]) -> list[bytes | Refusal]:
        held.wait(20)
        batches.append(len(asks))
        return [str(number).encode() for number, _ in asks]

    return GroupCommit(answer)


@pytest.mark.parametrize(("extra", "refused"), [(-1, 0), (0, 0), (1, 1), (7, 7)])
def test_who_comes_when_too_many_wait_is_told_to_come_again(
    monkeypatch: pytest.MonkeyPatch, extra: int, refused: int
) -> None:
    monkeypatch.setattr(grouping, "MOST_WAITING", 10)
    batches: list[int] = []
    held = threading.Event()

    async def run() -> list[bytes | Refusal]:
        group = answered(batches, held)
        first = group.submit(0, "a")
        while group._waiting:  # noqa: ASYNC110 - until the batch of the first one is at work
            await asyncio.sleep(0)
        waiting = [group.submit(number, "a") for number in range(1, 11 + extra)]
        held.set()
        found = [await one for one in (first, *waiting)]
        assert await group.submit(99, "a") == b"99"  # it has gone on
        await group.close()
        return found

    found = asyncio.run(run())
    served = [one for one in found if isinstance(one, bytes)]
    assert served == [str(number).encode() for number in range(len(served))]
    turned_away = [one for one in found if isinstance(one, Refusal)]
    assert len(turned_away) == refused
    assert {(one.code, dict(one.extra)["retry_after"]) for one in turned_away} <= {("busy", 5)}
    assert batches[:2] == [1, len(served) - 1]
