"""Commands run in this process, as a person at a machine would: words in, exit code and output out."""

import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from client.machine import PARTS
from client.publisher import Publisher
from volact import slmgr
from volact.client import cli


class Said(NamedTuple):
    """What a command came to."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        return json.loads(self.out)


class Terminal:
    """A machine of a laboratory with a home, facts and files to name on a command line."""

    def __init__(
        self,
        folder: Path,
        monkeypatch: pytest.MonkeyPatch,
        capsys: pytest.CaptureFixture[str],
        *,
        lab: bool = True,
    ) -> None:
        self.folder, self._capsys = folder, capsys
        self.publisher = Publisher(lab=lab, iat=int(time.time()) - 100)
        self.facts(PARTS)
        monkeypatch.setenv("VOLACT_HOME", str(folder / "home"))
        monkeypatch.setenv("VOLACT_MACHINE_FACTS", str(folder / "facts.json"))
        self.resolver("")
        monkeypatch.setenv("VOLACT_LAB_RESOLVER", str(folder / "resolv.conf"))

    def facts(self, parts: dict[str, Any]) -> None:
        (self.folder / "facts.json").write_text(json.dumps(parts))

    def resolver(self, text: str) -> None:
        """Set up the machine's name servers; at first it has none."""
        (self.folder / "resolv.conf").write_text(text)

    def file(self, name: str, data: bytes) -> str:
        path = self.folder / name
        path.write_bytes(data)
        return str(path)

    def client(self, *words: str) -> Said:
        return self._run(cli.main, words)

    def slmgr(self, *words: str) -> Said:
        return self._run(slmgr.main, words)

    def _run(self, main: Callable[[list[str]], int], words: tuple[str, ...]) -> Said:
        self._capsys.readouterr()
        code = main(list(words))
        said = Said(code, *self._capsys.readouterr())
        assert "Traceback" not in said.err
        if "--json" in words and code != 2:
            json.loads(said.out)
        return said

    def installed(
        self, *products: str, url: str = "https://127.0.0.1:9", tls: tuple[str, ...] = ()
    ) -> "Terminal":
        for product in products or ("com.example.cad",):
            file = self.file(
                f"{product}.volact-product", self.publisher.product_file(product, url=url, tls=tls)
            )
            assert self.client("install", file, "--root", self.publisher.pub).code == 0
        return self
