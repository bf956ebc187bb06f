"""F6: a full disk in the middle of the work is a clean 503; nothing is lost, and it goes on when there is space."""

import json
import resource
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from authority_process import Home, Serving

pytestmark = pytest.mark.sockets

Disk = tuple[Callable[[Serving], None], Callable[[Serving], None]]


@contextmanager
def small_disk(folder: Path) -> Iterator[Disk]:
    """A file system of 3 MiB, filled by another file."""
    done = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=3m", "tmpfs", str(folder)], capture_output=True, check=False
    )
    if done.returncode:
        pytest.skip("mounting a small tmpfs needs root")
    filler = folder / "filler"

    def fill(_serving: Serving) -> None:
        with filler.open("wb", buffering=0) as file:
            try:
                while True:
                    file.write(b"x" * 4096)
            except OSError:
                pass

    def free(_serving: Serving) -> None:
        filler.unlink()

    try:
        yield fill, free
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=True)


@contextmanager
def limited_files(folder: Path) -> Iterator[Disk]:
    """A limit on the size of the process's files, as a quota is one; needs no root."""

    def fill(serving: Serving) -> None:
        largest = max(path.stat().st_size for path in (folder / "authority").iterdir())
        _, hard = resource.prlimit(serving.process.pid, resource.RLIMIT_FSIZE)
        resource.prlimit(serving.process.pid, resource.RLIMIT_FSIZE, (largest + 20_000, hard))

    def free(serving: Serving) -> None:
        _, hard = resource.prlimit(serving.process.pid, resource.RLIMIT_FSIZE)
        resource.prlimit(serving.process.pid, resource.RLIMIT_FSIZE, (hard, hard))

    yield fill, free


@pytest.mark.parametrize("disk", [small_disk, limited_files])
def test_a_full_disk_is_503_and_the_same_requests_are_granted_when_there_is_space(
    tmp_path: Path, disk: Callable[[Path], Iterator[Disk]]
) -> None:
    folder = tmp_path / "home"
    folder.mkdir()
    with disk(folder) as (fill, free):  # type: ignore[attr-defined]  # a context manager, by its decorator
        home = Home(folder, key_rate=0, source_rate=0)
        home.set_up()
        key = home.key(activations=100_000)
        with Serving(home) as serving, serving.caller() as caller:
            before = [home.machine().request(key, now=int(time.time())) for _ in range(20)]
            kept = [caller.post("/v1/requests", one).body for one in before]
            fill(serving)
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
            free(serving)
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
