"""`kill -9` of the real authority under load: what a machine was told is kept, and nothing is issued over (F2, F4)."""

import json
import random
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from authority_process import Forked, Home
from polling import until
from volact.protocol.problems import Unreachable

pytestmark = [
    pytest.mark.sockets,
    # A socket that was cut in the middle of its handshake may be collected instead of closed.
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]

SMALL = 60
"""Activations of the key that runs out under the load."""


class Load:
    """Machines that ask from several connections until the server is gone."""

    def __init__(self, home: Home, serving: Forked, requests: list[dict[str, Any]]) -> None:
        self.home = home
        self.serving = serving
        self._requests = iter(requests)
        self._lock = threading.Lock()
        self.confirmed: list[tuple[dict[str, Any], bytes]] = []
        self.unanswered: list[dict[str, Any]] = []
        self.codes: set[str] = set()
        self.threads = [threading.Thread(target=self._run) for _ in range(8)]
        for thread in self.threads:
            thread.start()

    def _run(self) -> None:
        with self.serving.caller() as caller:
            while True:
                with self._lock:
                    request = next(self._requests, None)
                if request is None:
                    return
                try:
                    answer = caller.post("/v1/requests", request)
                except Unreachable:
                    with self._lock:
                        self.unanswered.append(request)
                    return
                with self._lock:
                    if answer.status == 200:
                        self.confirmed.append((request, answer.body))
                    else:
                        self.codes.add(json.loads(answer.body)["code"])

    def come_to(self, many: int) -> None:
        """Wait until so many have been confirmed, or nobody asks any more."""
        until(lambda: len(self.confirmed) >= many or not any(one.is_alive() for one in self.threads))

    def join(self) -> None:
        for thread in self.threads:
            thread.join()


def kill_and_compare(folder: Path, times: int) -> None:
    home = Home(folder, key_rate=0, source_rate=0)
    home.set_up()
    chance = random.Random(times)
    confirmed: dict[str, dict[str, set[str]]] = {}
    small = home.key(activations=SMALL)
    big = home.key(activations=1_000_000)
    machines = 0
    with Forked(home) as serving:
        serving.start()
        for _ in range(times):
            requests = []
            for _ in range(80):
                key = small if chance.random() < 0.05 else big
                requests.append(home.machine().request(key, now=int(time.time())))
            load = Load(home, serving, requests)
            load.come_to(chance.randint(0, 30))
            serving.kill()
            load.join()
            assert load.codes <= {"no-activations-left"}
            serving.start()
            machines += len(load.confirmed)
            with serving.caller() as caller:
                for request, body in load.confirmed[-20:]:
                    assert caller.post("/v1/requests", request).body == body
                for request in load.unanswered:
                    answer = caller.post("/v1/requests", request)
                    if answer.status == 200:
                        assert caller.post("/v1/requests", request).body == answer.body
                        load.confirmed.append((request, answer.body))
            for _, body in load.confirmed:
                claims = home.confirmation(json.loads(body))
                confirmed.setdefault(claims["key"], {}).setdefault(claims["act"], set()).add(claims["sub"])
    assert machines > times
    # The machines' own confirmations against the authority's rows.
    for row in home.run("key", "list"):
        acts = {one["activation"]: one["id"] for one in home.run("activation", "list", "--key", row["label"])}
        told = confirmed.get(row["key"], {})
        assert row["activated"] == len(acts) <= row["bought"]
        assert told.keys() <= acts.keys()
        assert all(cmids == {acts[act]} for act, cmids in told.items())


def test_8_kills_lose_no_acknowledged_activation_and_over_issue_none(tmp_path: Path) -> None:
    kill_and_compare(tmp_path, 8)


@pytest.mark.slow
def test_1000_kills(tmp_path: Path) -> None:
    kill_and_compare(tmp_path, 1000)
