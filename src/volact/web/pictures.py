"""Reads the QR codes in photographs that strangers send, in a process of its own (P6, T20).

- A picture is decoded by native code, and some pictures are made to take minutes or gigabytes. So a child process
  reads them: its time, its memory and its size of picture are limited, it is told nothing of this process, and
  when it dies nothing but that reading is lost.
- One child at a time, and few who wait: this is the dearest thing that the page does.
- Of what a code says only the texts of `protocol.qr` are kept.
"""

from __future__ import annotations

import asyncio
import io
import json
import os
import resource
import sys
from typing import TYPE_CHECKING, BinaryIO

from volact.protocol import qr
from volact.protocol.problems import Refusal

if TYPE_CHECKING:
    from collections.abc import Sequence

MOST_PIXELS = 32_000_000
SECONDS = 10
"""Seconds in which the pictures of one form are read."""
MEMORY = 640 * 1024 * 1024
MOST_WAITING = 8
"""Forms whose pictures are being read, or wait for that."""
_ENOUGH = 4000
"""Pixels of a side to which a photograph may be shrunk as it is decoded."""
_MOST_TEXT = 500
_LENGTH_BYTES = 4
_SIGNATURES = (b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff")
_PASSED_ON = ("PATH", "PYTHONPATH", "SYSTEMROOT")


def is_picture(content: bytes) -> bool:
    """Whether it is a PNG or JPEG by its first bytes."""
    return content.startswith(_SIGNATURES)


class Reader:
    """Reads pictures, those of one form at a time."""

    def __init__(self) -> None:
        self._one = asyncio.Lock()
        self._waiting = 0

    async def texts(self, pictures: Sequence[bytes]) -> list[list[str]] | Refusal:
        """The texts of the QR codes in each picture."""
        if self._waiting >= MOST_WAITING:
            return Refusal("busy", "Other pictures are being read.", (("retry_after", SECONDS),))
        self._waiting += 1
        try:
            async with self._one:
                return await _by_a_child(pictures)
        finally:
            self._waiting -= 1


async def _by_a_child(pictures: Sequence[bytes]) -> list[list[str]] | Refusal:
    given = b"".join(len(one).to_bytes(_LENGTH_BYTES, "big") + one for one in pictures)
    child = await asyncio.create_subprocess_exec(
        sys.executable,
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
            "picture-unreadable", f"It could not be read within {SECONDS} seconds and its share of memory."
        )
    found: list[list[str]] = json.loads(said)
    return found


# --- in the child -----------------------------------------------------------------------------------------------


def main() -> None:
    """Read pictures from standard input, each after its length; print the texts found in each as JSON."""
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    resource.setrlimit(resource.RLIMIT_CPU, (SECONDS, SECONDS))
    os.nice(10)  # those who activate come first
    found = [codes(picture) for picture in _pictures(sys.stdin.buffer)]
    sys.stdout.write(json.dumps(found))


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
    except MemoryError:
        raise
    except Exception:  # noqa: BLE001 - whatever a decoder raises over a stranger's bytes: it is no picture
        return []
    read = zxingcpp.read_barcodes(grey, formats=zxingcpp.BarcodeFormats(zxingcpp.BarcodeFormat.QRCode))
    return [code.text for code in read if qr.is_split(code.text) and len(code.text) <= _MOST_TEXT]


if __name__ == "__main__":
    main()
