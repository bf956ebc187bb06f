"""Disks that can be filled and freed under a running service (F6)."""

import resource
import subprocess
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import NamedTuple

import pytest


class Disk(NamedTuple):
    """How to fill a disk, and to free it again; both take the process id of the service that writes there."""

    fill: Callable[[int], None]
    free: Callable[[int], None]


Small = Callable[[Path, str], AbstractContextManager[Disk]]
"""From the folder that is on the disk, and the folder in it that the service writes to."""


@contextmanager
def small_disk(folder: Path, _role: str) -> Iterator[Disk]:
    """A file system of 3 MiB, filled by another file."""
    done = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=3m", "tmpfs", str(folder)], capture_output=True, check=False
    )
    if done.returncode:
        pytest.skip("mounting a small tmpfs needs root")
    filler = folder / "filler"

    def fill(_pid: int) -> None:
        with filler.open("wb", buffering=0) as file:
            try:
                while True:
                    file.write(b"x" * 4096)
            except OSError:
                pass

    def free(_pid: int) -> None:
        filler.unlink()

    try:
        yield Disk(fill, free)
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=True)


@contextmanager
def limited_files(folder: Path, role: str) -> Iterator[Disk]:
    """A limit on the size of the process's files, as a quota is one; needs no root."""

    def fill(pid: int) -> None:
        largest = max(path.stat().st_size for path in (folder / role).iterdir())
        _, hard = resource.prlimit(pid, resource.RLIMIT_FSIZE)
        resource.prlimit(pid, resource.RLIMIT_FSIZE, (largest + 20_000, hard))

    def free(pid: int) -> None:
        _, hard = resource.prlimit(pid, resource.RLIMIT_FSIZE)
        resource.prlimit(pid, resource.RLIMIT_FSIZE, (hard, hard))

    yield Disk(fill, free)


BOTH = pytest.mark.parametrize("disk", [small_disk, limited_files])
