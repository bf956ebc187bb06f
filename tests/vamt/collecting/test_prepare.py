"""``volact vamt prepare``: what machines need, as text and as scripts (V10)."""

import json
import shutil
import subprocess
from typing import Any

import pytest

from volact.vamt import cli
from volact.vamt.collecting import preparing

PLATFORMS = ("linux", "windows", "macos")


def run(capsys: pytest.CaptureFixture[str], *words: str) -> tuple[int, str, str]:
    done = cli.main(["prepare", *words])
    said = capsys.readouterr()
    return done, said.out, said.err


def value(capsys: pytest.CaptureFixture[str], *words: str) -> Any:
    done, out, _ = run(capsys, *words, "--json")
    assert done == 0
    return json.loads(out)


def test_every_platform_has_port_service_account_and_firewall_exception(
    capsys: pytest.CaptureFixture[str],
) -> None:
    rows = value(capsys)
    assert [(one["platform"], one["transport"], one["port"]) for one in rows] == [
        ("linux", "ssh", 22),
        ("windows", "winrm", 5986),
        ("macos", "ssh", 22),
    ]
    for row in rows:
        assert all(row[name] for name in ("service", "account", "firewall", "trust"))
        assert str(row["port"]) in row["firewall"]
    assert {one["platform"]: one["tested"] for one in rows} == {
        "linux": True,
        "windows": False,
        "macos": False,
    }


@pytest.mark.parametrize("platform", PLATFORMS)
def test_one_platform_as_text(capsys: pytest.CaptureFixture[str], platform: str) -> None:
    done, out, err = run(capsys, "--platform", platform)
    assert (done, err) == (0, "")
    for word in ("Port:", "Service:", "Account:", "Firewall:", "Trust:", "Tested:", "Script:"):
        assert word in out
    assert [one["platform"] for one in value(capsys, "--platform", platform)] == [platform]
    assert ("untested" in out or "no: written" in out) is (platform != "linux")


@pytest.mark.parametrize("platform", PLATFORMS)
def test_the_script_is_the_file_as_it_is(capsys: pytest.CaptureFixture[str], platform: str) -> None:
    done, out, _ = run(capsys, "--platform", platform, "--script")
    assert done == 0
    assert out == preparing.script(platform)
    assert value(capsys, "--platform", platform, "--script") == {"platform": platform, "script": out}


@pytest.mark.parametrize("platform", ["linux", "macos"])
@pytest.mark.parametrize("shell", ["sh", "bash"])
def test_a_shell_can_read_the_script(platform: str, shell: str) -> None:
    if shutil.which(shell) is None:
        pytest.skip(f"there is no {shell}")
    done = subprocess.run(
        [shell, "-n"], input=preparing.script(platform), capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize("platform", ["windows", "macos"])
def test_what_nobody_tried_says_so(platform: str) -> None:
    text = " ".join(preparing.script(platform).split())
    assert "volact was never tried on a real Windows" in text or "volact is untested on macOS" in text


@pytest.mark.parametrize(
    ("words", "wanted"),
    [
        (["--script"], "--script needs a platform."),
        (["--platform", "beos"], "beos"),
        (["--platform"], "--platform"),
        (["--scrip"], "--scrip"),
        (["more"], "more"),
    ],
)
def test_wrong_calls(capsys: pytest.CaptureFixture[str], words: list[str], wanted: str) -> None:
    done, out, err = run(capsys, *words)
    assert done == 2
    assert not out
    assert wanted in err
    assert "Traceback" not in err
