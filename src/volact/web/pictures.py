"""Reads the QR codes in photographs that strangers send, in a process of its own (P6, T20).

- A picture is decoded by native code, and some pictures are made to take minutes or gigabytes. So a child process
  reads them: its time, its memory and its size of picture are limited, it is told nothing of this process, and
  when it dies nothing but that reading is lost.
- One child at a time, few who wait, and of one source one form alone: this is the dearest thing that the page does.
- A source pays in seconds of the processor: who sent what had to be given up waits for minutes.
- Of what a code says only the texts of `protocol.qr` are kept.
"""

from __future__ import annotations

import io
import json
import math
import os
import resource
import signal
import sys
from typing import TYPE_CHECKING, BinaryIO

from volact.protocol import qr
from volact.protocol.problems import Refusal
from volact.sources import Buckets, too_many

if TYPE_CHECKING:
    from collections.abc import Sequence

    from volact.clock import Clock

MOST_PIXELS = 32_000_000
SECONDS = 10
"""Seconds in which the pictures of one form are read."""
PICTURE_SECONDS = 3
"""Seconds of the processor in which one picture is read."""
MEMORY = 640 * 1024 * 1024
MOST_WAITING = 8
"""Forms whose pictures are being read, or wait for that."""
_RATE, _BURST = 6, 12
"""Seconds of the processor that a source may use a minute in the long run, and at once."""
_ENOUGH = 4000
"""Pixels of a side to which a picture is shrunk."""
_MOST_FILES = 32
_MOST_TEXT = 500
_LENGTH_BYTES = 4
_SIGNATURES = (b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff")
_PASSED_ON = ("PATH", "PYTHONPATH", "SYSTEMROOT")


def is_picture(content: bytes) -> bool:
    """Whether it is a PNG or JPEG by its first bytes."""
    return content.startswith(_SIGNATURES)


class Reader:
    """Reads pictures, those of one form at a time."""

    def __init__(self, clock: Clock) -> None:
        """Limit sources by the time of `clock`."""
        import asyncio  # noqa: PLC0415 - half of the child's start, which does without

        self._clock = clock
        self._one = asyncio.Lock()
        self._waiting: set[str] = set()
        self._used: Buckets[str] = Buckets(_RATE, _BURST)

    async def texts(self, source: str, pictures: Sequence[bytes]) -> list[list[str]] | Refusal:
        """The texts of the QR codes in each picture.

        Refused with `busy` if the source has pictures here already, or many others have; `too-many-requests` if it
        has used its time; `picture-unreadable` if they take too much.
        """
        if source in self._waiting or len(self._waiting) >= MOST_WAITING:
            return Refusal("busy", "Other pictures are being read.", (("retry_after", SECONDS),))
        _, wait = self._used.look(source, self._clock.now())
        if wait:
            return too_many(wait)
        self._waiting.add(source)
        try:
            async with self._one:
                return await self._charged(source, pictures)
        finally:
            self._waiting.remove(source)

    async def _charged(self, source: str, pictures: Sequence[bytes]) -> list[list[str]] | Refusal:
        before, used = _of_children(), _BURST
        try:
            found = await _by_a_child(pictures)
            if not isinstance(found, Refusal):
                used = max(1, math.ceil(_of_children() - before))
            return found
        finally:
            self._used.charge(source, used, self._clock.now())


def _of_children() -> float:
    """Seconds of the processor that ended children have used."""
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


async def _by_a_child(pictures: Sequence[bytes]) -> list[list[str]] | Refusal:
    import asyncio  # noqa: PLC0415 - as above

    given = b"".join(len(one).to_bytes(_LENGTH_BYTES, "big") + one for one in pictures)
    child = await asyncio.create_subprocess_exec(
        sys.executable,
        "-P",  # else whatever lies in the folder that the service was started in could be loaded
        "-m",
        __name__,
        env={name: os.environ[name] for name in _PASSED_ON if name in os.environ},
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.DEVNULL,
    )
    try:
        async with asyncio.timeout(SECONDS):
            said, _ = await child.communicate(given)
    except TimeoutError:
        said = b""
    finally:
        if child.returncode is None:
            child.kill()
            await child.wait()
    if child.returncode:
        return Refusal(
            "picture-unreadable",
            f"It could not be read in {PICTURE_SECONDS} seconds and its share of memory.",
        )
    found: list[list[str]] = json.loads(said)
    return found


# --- in the child -----------------------------------------------------------------------------------------------


def main() -> None:
    """Read pictures from standard input, each after its length; print the texts found in each as JSON."""
    _confine()
    found = []
    for picture in _pictures(sys.stdin.buffer):
        signal.setitimer(signal.ITIMER_PROF, PICTURE_SECONDS)  # its signal ends the process
        found.append(codes(picture))
    sys.stdout.write(json.dumps(found))


def _confine() -> None:
    """Give up what reading does not need: it writes no file, opens few, and starts no process."""
    for what, most in (
        (resource.RLIMIT_AS, MEMORY),
        (resource.RLIMIT_CPU, SECONDS),
        (resource.RLIMIT_FSIZE, 0),
        (resource.RLIMIT_CORE, 0),
        (resource.RLIMIT_NOFILE, _MOST_FILES),
        (resource.RLIMIT_NPROC, 0),
    ):
        resource.setrlimit(what, (most, most))
    os.nice(10)  # those who activate come first


def _pictures(given: BinaryIO) -> list[bytes]:
    pictures = []
    while length := given.read(_LENGTH_BYTES):
        pictures.append(given.read(int.from_bytes(length, "big")))
    return pictures


def codes(picture: bytes) -> list[str]:
    """The texts of the QR codes of ours in a picture; none if it cannot be read or is too large."""
    # Where nothing is read, in the service itself, these are not loaded.
    import zxingcpp  # noqa: PLC0415
    from PIL import Image  # noqa: PLC0415

    try:
        with Image.open(io.BytesIO(picture), formats=("PNG", "JPEG")) as image:
            if image.width * image.height > MOST_PIXELS:
                return []
            image.draft("L", (_ENOUGH, _ENOUGH))
            grey = image.convert("L")
            grey.thumbnail((_ENOUGH, _ENOUGH))
    except MemoryError:
        raise
    except Exception:  # noqa: BLE001 - whatever a decoder raises over a stranger's bytes: it is no picture
        return []
    read = zxingcpp.read_barcodes(grey, formats=zxingcpp.BarcodeFormats(zxingcpp.BarcodeFormat.QRCode))
    return [code.text for code in read if qr.is_split(code.text) and len(code.text) <= _MOST_TEXT]


if __name__ == "__main__":
    main()
