"""P6 on the machine: `/dti` shows the request as QR codes, `/atp` takes the texts of an answer's."""

import io
import os
import shutil
from pathlib import Path

import pytest
import zxingcpp
from PIL import Image

from client.commands import Terminal
from client.publisher import request_of
from volact.protocol import jws, qr, trust

ANSI_BEGIN, ANSI_END = "\x1b[30;107m", "\x1b[0m"


@pytest.fixture
def terminal(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Terminal:
    made = Terminal(tmp_path, monkeypatch, capsys).installed()
    assert made.slmgr("/ipk", made.publisher.key().text()).code == 0
    return made


def on_a_terminal(monkeypatch: pytest.MonkeyPatch, columns: int) -> None:
    """Standard output is a terminal of this width; `Terminal` reads what goes there all the same."""
    monkeypatch.setattr("sys.stdout.isatty", lambda: True)
    monkeypatch.setattr(shutil, "get_terminal_size", lambda: os.terminal_size((columns, 24)))


def pictures(out: str) -> list[list[str]]:
    """The lines of each QR code."""
    found: list[list[str]] = []
    for line in out.splitlines():
        if line.startswith("QR code "):
            found.append([])
        elif found and line:
            found[-1].append(line)
    return found


def seen(lines: list[str]) -> str:
    """What a camera reads: each character is two modules of four by four pixels."""
    image = Image.new("L", (len(lines[0]), 2 * len(lines)), 255)
    for y, line in enumerate(lines):
        for x, character in enumerate(line):
            upper, lower = {" ": (255, 255), "▀": (0, 255), "▄": (255, 0), "█": (0, 0)}[character]
            image.putpixel((x, 2 * y), upper)
            image.putpixel((x, 2 * y + 1), lower)
    (code,) = zxingcpp.read_barcodes(
        image.resize((image.width * 4, image.height * 4), Image.Resampling.NEAREST)
    )
    return str(code.text)


def test_the_qr_codes_say_what_the_file_says(terminal: Terminal) -> None:
    """PROTOCOL 5: version 13 L, 77 columns x 39 lines; any reader joins them to the request's JSON."""
    request = terminal.folder / "request"
    said = terminal.slmgr("/dti", str(request), "--qr")
    drawn = pictures(said.out)
    assert {(len(line), len(lines)) for lines in drawn[:-1] for line in lines} == {(77, 39)}
    texts = [seen(lines) for lines in drawn]
    assert qr.join("".join(texts)) == request.read_bytes()
    assert terminal.slmgr("/dti", "--json").json["qr"] == texts
    assert "\x1b" not in said.out


@pytest.mark.parametrize(("columns", "shown"), [(79, False), (80, True), (81, True)])
def test_a_terminal_of_80_columns_shows_them_by_itself(
    terminal: Terminal, monkeypatch: pytest.MonkeyPatch, columns: int, shown: bool
) -> None:
    """Black on white, whatever the terminal's colours are."""
    on_a_terminal(monkeypatch, columns)
    said = terminal.slmgr("/dti")
    drawn = pictures(said.out)
    assert bool(drawn) is shown
    assert said.out.startswith("Installation ID: ")
    if shown:
        bare = [line.removeprefix(ANSI_BEGIN).removesuffix(ANSI_END) for line in drawn[0]]
        assert [f"{ANSI_BEGIN}{line}{ANSI_END}" for line in bare] == drawn[0]
        assert seen(bare).startswith("V1:1/")
    else:
        assert "`slmgr /dti --qr` shows it as QR codes, 80 columns wide." in said.out
        assert pictures(terminal.slmgr("/dti", "--qr").out), "who asks for them gets them"
    assert not pictures(terminal.slmgr("/dti", str(terminal.folder / "request")).out), "nor with a file"
    assert "█" not in terminal.slmgr("/dti", "--json").out


def test_without_segno_the_rest_is_there(terminal: Terminal, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "segno", None)
    request = terminal.folder / "request"
    said = terminal.slmgr("/dti", str(request), "--qr")
    assert (said.code, request.exists()) == (2, False), "nothing half done"
    assert "pip install segno" in said.err
    on_a_terminal(monkeypatch, 80)
    said = terminal.slmgr("/dti")
    assert (said.code, pictures(said.out)) == (0, [])
    assert terminal.slmgr("/dti", "--json").json["qr"]


def test_a_terminal_without_block_characters_says_so(
    terminal: Terminal, monkeypatch: pytest.MonkeyPatch
) -> None:
    plain = io.TextIOWrapper(io.BytesIO(), encoding="ascii")
    monkeypatch.setattr("sys.stdout", plain)
    said = terminal.slmgr("/dti", "--qr")
    assert said.code == 2
    assert "UTF-8" in said.err


def test_words_of_dti(terminal: Terminal) -> None:
    terminal.installed("com.example.cam")
    product, file = "com.example.cad", str(terminal.folder / "request")
    for words in (["--qr", product], [file, product], ["--qr", file, product], [file, "--qr", product]):
        said = terminal.slmgr("/dti", *words, "--json")
        assert said.json["product"] == product, words
    assert terminal.slmgr("/dti", "--qr", "--json").json["code"] == "product-ambiguous"
    assert terminal.slmgr("/dti", file, "com.example.none", "--json").json["code"] == "product-not-installed"
    assert terminal.slmgr("/dti", file, file, product).code == 2
    for unknown in ("--qrs", "--png"):
        assert terminal.slmgr("/dti", unknown, product).code == 2
        assert not Path(unknown).exists()


# --- /atp ---------------------------------------------------------------------------------------------------------


def texts_of_answer(terminal: Terminal) -> list[str]:
    request = terminal.folder / "request"
    terminal.slmgr("/dti", str(request))
    asked = request_of(trust.read_bundle(request.read_bytes()))
    return qr.split(jws.write_json(terminal.publisher.confirmation(asked)))


@pytest.mark.parametrize("how", ["pasted", "input", "file", "windows-file"])
def test_an_answers_texts_are_applied_in_any_order(
    terminal: Terminal, how: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = "\n".join(reversed(texts_of_answer(terminal)))
    monkeypatch.setattr("sys.stdin", io.StringIO(text))
    words = {
        "pasted": text,
        "input": "-",
        "file": terminal.file("codes", text.encode()),
        "windows-file": terminal.file("codes", b"\xef\xbb\xbf" + text.replace("\n", "\r\n").encode()),
    }
    said = terminal.slmgr("/atp", words[how], "--json")
    assert (said.code, said.json["state"]) == (0, 1)


def test_what_is_wrong_with_the_texts_is_said(terminal: Terminal) -> None:
    texts = texts_of_answer(terminal)
    request = qr.split((terminal.folder / "request").read_bytes())
    for given, code, detail in (
        (texts[:1] + texts[2:], "qr-incomplete", f"Missing of {len(texts)}: 2."),
        (texts[1:] + request[:1], "qr-mixed", "2 bundles"),
        ([*texts, "x:y"], "qr-damaged", ""),
        (request, "document-refused", ""),
    ):
        said = terminal.slmgr("/atp", "\n".join(given), "--json")
        assert (said.code, said.json["code"]) == (1, code)
        assert detail in said.json["detail"]
    assert terminal.slmgr("/dli", "--json").json["state"] != 1
