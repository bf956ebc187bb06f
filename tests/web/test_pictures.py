"""Photographs that strangers send: what is read in them, and that none takes more than its share (T20)."""

import asyncio
import io
import math
import resource
import signal
import struct
import subprocess
import sys
import zlib
from pathlib import Path
from typing import Any

import pytest
from PIL import Image, ImageDraw

from volact.protocol import qr
from volact.protocol.problems import Refusal
from volact.web import pictures
from web.visitor import drawn, photograph
from world import HandClock

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
    found = asyncio.run(pictures.Reader(HandClock()).texts("a", [GOOD, *HOSTILE.values(), GOOD]))
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
    reader = pictures.Reader(HandClock())

    async def both() -> tuple[Any, Any]:
        with monkeypatch.context() as patched:
            patched.setattr(pictures, "SECONDS", 1)
            hostile = await reader.texts("a", [of_corners(3000)])
        return hostile, await reader.texts("b", [])

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
        asyncio.run(pictures.Reader(HandClock()).texts("a", [GOOD]))
    assert seen.keys() <= {"PATH", "PYTHONPATH", "SYSTEMROOT"}


# --- what reading costs ---------------------------------------------------------------------------------------------


def test_nothing_of_the_folder_that_the_service_stands_in_is_loaded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("PIL", "zxingcpp", "segno"):
        (tmp_path / f"{name}.py").write_text("raise SystemExit(7)")
    monkeypatch.chdir(tmp_path)
    assert asyncio.run(pictures.Reader(HandClock()).texts("a", [GOOD])) == [TEXTS[:1]]


def in_a_child(script: str, given: bytes = b"") -> "subprocess.CompletedProcess[bytes]":
    words = [sys.executable, "-P", "-c", f"from volact.web import pictures\n{script}"]
    return subprocess.run(words, input=given, capture_output=True, check=False, timeout=60)


def test_a_picture_has_three_seconds_of_the_processor() -> None:
    assert pictures.PICTURE_SECONDS == 3
    dear = of_corners(3000)
    ended = in_a_child("pictures.PICTURE_SECONDS = 0.3\npictures.main()", len(dear).to_bytes(4, "big") + dear)
    assert ended.returncode == -signal.SIGPROF


def test_the_child_writes_opens_and_starts_nothing(tmp_path: Path) -> None:
    """Root may start processes whatever the limit says, so it is another here."""
    (tmp_path / "file").touch(mode=0o666)
    script = f"""
import errno, os
file = os.open({str(tmp_path / "file")!r}, os.O_WRONLY)
pictures._confine()
try: os.write(file, b"x")
except OSError as error: print(errno.errorcode[error.errno])
try: [os.dup(0) for _ in range(32)]
except OSError as error: print(errno.errorcode[error.errno])
if os.getuid() == 0: os.setuid(65534)
try: os.fork()
except OSError as error: print(errno.errorcode[error.errno])
"""
    assert in_a_child(script).stdout.split() == [b"EFBIG", b"EMFILE", b"EAGAIN"]


@pytest.mark.parametrize(("width", "read"), [(3999, 3999), (4000, 4000), (4001, 4000)])
def test_a_png_is_shrunk_before_it_is_looked_through(
    monkeypatch: pytest.MonkeyPatch, width: int, read: int
) -> None:
    import zxingcpp

    looked: list[Any] = []
    look = zxingcpp.read_barcodes

    def noted(image: Any, **how: Any) -> Any:
        looked.append(image.size)
        return look(image, **how)

    monkeypatch.setattr(zxingcpp, "read_barcodes", noted)
    assert pictures.codes(saved(desk(width, 1000))) == TEXTS[:1]
    assert [size[0] for size in looked] == [read]


def code_of(found: Any) -> str:
    return found.code if isinstance(found, Refusal) else ""


def test_of_one_source_one_form_is_read_and_of_all_eight() -> None:

    async def codes(*sources: int) -> list[str]:
        reader = pictures.Reader(HandClock())
        found = await asyncio.gather(*(reader.texts(str(one), []) for one in sources))
        return [code_of(one) for one in found]

    assert asyncio.run(codes(1, 1, 2)) == ["", "busy", ""]
    assert asyncio.run(codes(*range(9))) == [""] * 8 + ["busy"]


def test_a_source_uses_twelve_seconds_then_six_a_minute() -> None:
    clock = HandClock()
    reader = pictures.Reader(clock)
    reader._used.charge("a", 10, clock.now())

    async def read() -> list[Any]:
        return [await reader.texts("a", []) for _ in range(3)]

    *before, refused = asyncio.run(read())
    assert before == [[]] * 2
    assert (code_of(refused), dict(refused.extra)) == ("too-many-requests", {"retry_after": 10})
    clock.time += 9
    assert dict(asyncio.run(reader.texts("a", [])).extra) == {"retry_after": 1}  # type: ignore[union-attr]
    clock.time += 1
    assert asyncio.run(reader.texts("a", [])) == []


def test_what_a_picture_takes_of_the_processor_is_paid() -> None:
    reader = pictures.Reader(HandClock())

    def used() -> float:
        usage = resource.getrusage(resource.RUSAGE_CHILDREN)
        return usage.ru_utime + usage.ru_stime

    before = used()
    assert asyncio.run(reader.texts("a", [of_corners(1200)] * 2)) == [[], []]
    seconds = math.ceil(used() - before)
    assert seconds >= 2
    bucket, _ = reader._used.look("a", reader._clock.now())
    assert bucket
    assert bucket.level == (12 - seconds - 1) * 60


def test_who_must_be_given_up_pays_all_that_a_source_has(monkeypatch: pytest.MonkeyPatch) -> None:
    """And is in debt the second time: of ten seconds reading it gets less than a tenth of the time."""
    monkeypatch.setattr(pictures, "SECONDS", 0.3)
    clock = HandClock()
    reader = pictures.Reader(clock)
    dear = of_corners(3000)
    for wait in (10, 120):
        assert code_of(asyncio.run(reader.texts("a", [dear]))) == "picture-unreadable"
        refused = asyncio.run(reader.texts("a", [dear]))
        assert isinstance(refused, Refusal)
        assert dict(refused.extra) == {"retry_after": wait}
        clock.time += wait
