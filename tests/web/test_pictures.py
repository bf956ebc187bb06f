"""Photographs that strangers send: what is read in them, and that none takes more than its share (T20)."""

import asyncio
import io
import struct
import zlib
from typing import Any

import pytest
from PIL import Image, ImageDraw

from volact.protocol import qr
from volact.protocol.problems import Refusal
from volact.web import pictures
from web.visitor import drawn, photograph

TEXTS = qr.split(bytes(range(250)) * 3)


def saved(image: Image.Image, kind: str = "PNG", **more: Any) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **more)
    return buffer.getvalue()


def desk(width: int, height: int) -> Image.Image:
    """A desk of one bit a pixel, with a code on it."""
    image = Image.new("1", (width, height), 1)
    image.paste(drawn(TEXTS[0]).convert("1"), (100, 100))
    return image


@pytest.mark.parametrize("turn", [0, 10, 90, 180, 275])
def test_codes_are_read_however_the_camera_was_held(turn: float) -> None:
    assert sorted(pictures.codes(photograph(*map(drawn, TEXTS), turn=turn, size=(1600, 1600)))) == TEXTS


def test_a_dark_terminals_codes_are_read_as_well() -> None:
    """Light on dark, as on a terminal of text."""
    inverted = Image.eval(drawn(TEXTS[0]), lambda value: 255 - value)
    assert pictures.codes(saved(inverted)) == TEXTS[:1]


def test_codes_that_are_none_of_ours_are_left_out() -> None:
    long = "V1:" + "A" * 500
    assert pictures.codes(saved(drawn("https://example.com/"))) == []
    assert pictures.codes(saved(drawn(long[:500], scale=2))) == [long[:500]]
    assert pictures.codes(saved(drawn(long[:501], scale=2))) == []


@pytest.mark.parametrize(("height", "found"), [(3999, 1), (4000, 1), (4001, 0)])
def test_a_picture_has_at_most_32_million_pixels(height: int, found: int) -> None:
    assert len(pictures.codes(saved(desk(8000, height)))) == found


def test_a_large_photograph_is_shrunk_as_it_is_decoded() -> None:
    image = Image.new("L", (6000, 5000), 255)
    image.paste(drawn(TEXTS[0], scale=12), (1000, 1000))
    assert pictures.codes(saved(image, "JPEG")) == TEXTS[:1]


def chunk(kind: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))


def png(width: int, height: int, *chunks: bytes, data: bytes = b"") -> bytes:
    head = struct.pack(">IIBBBBB", width, height, 8, 6, 0, 0, 0)
    body = chunk(b"IDAT", zlib.compress(data or bytes(1000)))
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + b"".join(chunks) + body + chunk(b"IEND", b"")


GOOD = saved(drawn(TEXTS[0]))
HOSTILE = {
    "a bomb of the largest size": png(2**31 - 1, 2**31 - 1),
    "a bomb of a gigapixel": png(40_000, 40_000, data=bytes(10_000_000)),
    "no width": png(0, 100),
    "a text of a gigabyte": png(100, 100, chunk(b"zTXt", b"a\0\0" + zlib.compress(bytes(100_000_000)))),
    "a profile of a gigabyte": png(100, 100, chunk(b"iCCP", b"a\0\0" + zlib.compress(bytes(100_000_000)))),
    "cut off": GOOD[: len(GOOD) // 2],
    "a head alone": GOOD[:16],
    "a JPEG's first bytes": b"\xff\xd8\xff" + bytes(100),
    "noise": b"\x89PNG\r\n\x1a\n" + bytes(range(256)) * 40,
    "a GIF": saved(drawn(TEXTS[0]), "GIF"),
    "a TIFF": saved(drawn(TEXTS[0]), "TIFF"),
    "nothing": b"",
}


@pytest.mark.parametrize("name", HOSTILE)
def test_what_is_no_good_picture_has_no_codes(name: str) -> None:
    assert pictures.codes(HOSTILE[name]) == []


def test_a_bad_picture_takes_nothing_from_the_others() -> None:
    """Through the child, in order."""
    found = asyncio.run(pictures.Reader().texts([GOOD, *HOSTILE.values(), GOOD]))
    assert found == [TEXTS[:1], *[[]] * len(HOSTILE), TEXTS[:1]]


def of_corners(side: int) -> bytes:
    """Nothing but corners of QR codes: whoever looks for codes tries all triples of them."""
    corner = Image.new("L", (9, 9), 255)
    pen = ImageDraw.Draw(corner)
    for inset, shade in ((0, 0), (1, 255), (2, 0)):
        pen.rectangle([inset, inset, 6 - inset, 6 - inset], fill=shade)
    line = Image.new("L", (side, 9), 255)
    image = Image.new("L", (side, side), 255)
    for at in range(0, side, 9):
        line.paste(corner, (at, 0))
    for at in range(0, side, 9):
        image.paste(line, (0, at))
    return saved(image)


def test_a_picture_that_takes_too_long_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    """Decoded at once, looked through for minutes."""
    reader = pictures.Reader()

    async def both() -> tuple[Any, Any]:
        with monkeypatch.context() as patched:
            patched.setattr(pictures, "SECONDS", 1)
            hostile = await reader.texts([of_corners(3000)])
        return hostile, await reader.texts([])

    given_up, after = asyncio.run(both())
    assert isinstance(given_up, Refusal)
    assert given_up.code == "picture-unreadable"
    assert after == [], "and the next one is read"


def test_the_child_knows_nothing_of_the_service(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its environment may hold the database's password."""
    seen: dict[str, str] = {}

    async def start(*_program: str, env: dict[str, str], **_pipes: Any) -> Any:
        seen.update(env)
        raise RuntimeError

    monkeypatch.setenv("VOLACT_AUTHORITY_DATABASE", "postgresql://me:secret@db/x")
    monkeypatch.setattr(asyncio, "create_subprocess_exec", start)
    with pytest.raises(RuntimeError):
        asyncio.run(pictures.Reader().texts([GOOD]))
    assert seen.keys() <= {"PATH", "PYTHONPATH", "SYSTEMROOT"}
