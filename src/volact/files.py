"""Files that survive a power cut: written aside, flushed, renamed, and the folder flushed too (DESIGN section 4).

A file is either as it was or as it should be. Nothing here translates errors: an `OSError` names its file.
"""

from __future__ import annotations

import os
import stat
import tempfile
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

PRIVATE = 0o600
PUBLIC = 0o644


def is_exposed(mode: int) -> bool:
    """Whether others than its owner can read or write a file of this `st_mode`; pipes and the like hold nothing."""
    return stat.S_ISREG(mode) and bool(mode & (stat.S_IRWXG | stat.S_IRWXO))


def write_durably(path: Path, data: bytes, mode: int = PUBLIC) -> None:
    """Replace `path` by `data`; when this returns, it is on disk.

    Raises:
        OSError: nothing was changed then, and no temporary file is left.
    """
    descriptor, temporary = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
    try:
        with os.fdopen(descriptor, "wb") as file:
            os.fchmod(file.fileno(), mode)
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except BaseException:
        os.unlink(temporary)
        raise
    flush_folder(path.parent)


def flush_folder(folder: Path) -> None:
    """Make renames and removals in `folder` durable."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def make_folder(folder: Path, mode: int = 0o755) -> None:
    """Make a folder and its missing parents, durably; an existing one is left as it is."""
    if folder.is_dir():
        return
    make_folder(folder.parent)
    folder.mkdir(mode=mode, exist_ok=True)
    flush_folder(folder.parent)


def into_place(aside: Path, place: Path) -> None:
    """Give a folder that was made aside its place, durably and for its owner alone; there is nothing there yet."""
    flush_folder(aside)
    aside.chmod(0o700)
    aside.rename(place)
    flush_folder(place.parent)
