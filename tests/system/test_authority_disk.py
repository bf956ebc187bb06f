"""F6: a full disk in the middle of the work is a clean 503; nothing is lost, and it goes on when there is space."""

import json
import time
from pathlib import Path

import pytest

import disks
from authority_process import Home, Serving

pytestmark = pytest.mark.sockets


@disks.BOTH
def test_a_full_disk_is_503_and_the_same_requests_are_granted_when_there_is_space(
    tmp_path: Path, disk: disks.Small
) -> None:
    folder = tmp_path / "home"
    folder.mkdir()
    with disk(folder, "authority") as (fill, free):
        home = Home(folder, key_rate=0, source_rate=0)
        home.set_up()
        key = home.key(activations=100_000)
        with Serving(home) as serving, serving.caller() as caller:
            before = [home.machine().request(key, now=int(time.time())) for _ in range(20)]
            kept = [caller.post("/v1/requests", one).body for one in before]
            fill(serving.process.pid)
            refused = []
            for _ in range(400):
                request = home.machine().request(key, now=int(time.time()))
                answer = caller.post("/v1/requests", request)
                if answer.status != 200:
                    assert answer.status == 503
                    assert json.loads(answer.body)["code"] == "storage-unavailable"
                    refused.append(request)
                    if len(refused) == 5:
                        break
                else:
                    before.append(request)
                    kept.append(answer.body)
            assert refused, "the disk did not fill"
            free(serving.process.pid)
            started = time.monotonic()
            while (answer := caller.post("/v1/requests", refused[0])).status != 200:
                assert time.monotonic() - started < 5
                time.sleep(0.1)
            for request in refused[1:]:
                assert caller.post("/v1/requests", request).status == 200
            for request, body in zip(before, kept, strict=True):
                assert caller.post("/v1/requests", request).body == body
        (row,) = home.run("key", "list")
        assert row["activated"] == len(before) + len(refused)
        assert len(home.run("activation", "list")) == row["activated"]
        assert (folder / "authority" / "authority.db").stat().st_size > 0
