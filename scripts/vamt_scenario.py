"""The part of `gen_cli_docs` that runs VAMT's commands: one VAMT beside a client, one outside, a list between them."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from volact import children, quickstart

LIKE = {
    "volact vamt discover ldap": "volact vamt discover csv",
    "volact vamt discover dns": "volact vamt discover csv",
}
"""Commands that need another server, and the one whose answer has the same shape; tests hold that."""

Run = Callable[..., Any]


def machines(run: Run, home: children.Volact, folder: Path, root: str) -> None:
    """Find machines, group them, ask the one that this is."""
    passphrase = folder / "passphrase"
    passphrase.write_text("correct horse battery\n", "utf-8")
    passphrase.chmod(0o600)
    run(home, "vamt init", "--name", "inside")
    run(home, "vamt seal", "--passphrase", f"@{passphrase}")
    run(home, "vamt publisher add", str(folder / "cad.volact-product"), "--root", root)
    run(home, "vamt publisher list")
    (folder / "machines.csv").write_text("name,address,group\nweb1,192.0.2.1,Web\n", "utf-8")
    (folder / "known_hosts").write_text(f"web1 {_HOST_KEY}\n", "utf-8")
    run(home, "vamt discover csv", str(folder / "machines.csv"))
    run(home, "vamt discover known-hosts", str(folder / "known_hosts"))
    closed = str(children.free_port())
    run(home, "vamt discover addresses", "127.0.0.1", "--ssh-port", closed, "--winrm-port", closed)
    run(home, "vamt machine add", "here", "--transport", "local", "--group", "Here")
    run(home, "vamt machine note", "here", "--text", "this one")
    run(home, "vamt machine trust", "web1", "--host-key", _HOST_KEY)
    seal = ("--passphrase", f"@{passphrase}")
    run(home, "vamt login set", "--user", "volact-vamt", "--password", f"@{passphrase}", *seal)
    run(home, "vamt login show")
    run(home, "vamt collect", "here", *seal)
    run(home, "vamt machine list")
    run(home, "vamt machine show", "here")
    run(home, "vamt login remove")
    run(home, "vamt group create", "Isolated")
    run(home, "vamt group add", "Isolated", "web1")
    run(home, "vamt group list")
    run(home, "vamt group remove", "Isolated", "web1")
    run(home, "vamt group delete", "Isolated")
    run(home, "vamt view save", "Unlicensed", "--where", "state=unlicensed")
    run(home, "vamt view list")
    run(home, "vamt view fields")
    run(home, "vamt view delete", "Unlicensed")
    run(home, "vamt user add", "alice", "--role", "operator")
    run(home, "vamt user list")
    run(home, "vamt user token", "alice")
    run(home, "vamt user remove", "alice")
    run(home, "vamt machine remove", "web1")
    run(home, "vamt prepare", "--platform", "linux")


def keys(run: Run, home: children.Volact, folder: Path, key: str) -> None:
    """Keep a key, ask what is left of it, and be advised."""
    seal = ("--passphrase", f"@{folder / 'passphrase'}")
    label = key.rsplit("-", 1)[1]
    file = folder / "key"
    file.write_text(key + "\n", "utf-8")
    run(home, "vamt key add", f"@{file}", "--product", quickstart.PRODUCT, *seal)
    run(home, "vamt key list")
    run(home, "vamt key show", label)
    run(home, "vamt key refresh", *seal)
    run(home, "vamt key recommend", "--all", "--product", quickstart.PRODUCT)
    actions(run, home, seal)
    run(home, "vamt key remove", label)
    run(home, "vamt advise", "--product", quickstart.PRODUCT)


def actions(run: Run, home: children.Volact, seal: tuple[str, ...]) -> None:
    """Act on the one machine that this is, and on one that is off."""
    run(home, "vamt refresh-status", "here")
    run(home, "vamt set-host", "here", "--host", "kms.example.com")
    run(home, "vamt set-host", "here", "--clear")
    run(home, "vamt deactivate", "here", "--dry-run")
    run(home, "vamt install-key", "here", "--dry-run", *seal)
    run(home, "vamt activate", "here", "--online")
    run(home, "vamt remove-key", "here", "--dry-run")
    run(home, "vamt machine add", "off", "--address", "127.0.0.1", "--port", str(children.free_port()))
    run(home, "vamt login set", "--user", "volact-vamt", "--password", seal[1], *seal)
    queued = ("--queue", *seal)
    run(home, "vamt refresh-status", "off", *queued)
    newest = run(home, "vamt action list")[0]["id"]
    run(home, "vamt action show", newest)
    run(home, "vamt action resume", newest, *seal)
    run(home, "vamt queue list")
    run(home, "vamt queue run", *seal)
    run(home, "vamt queue cancel", "--all")
    run(home, "vamt machine remove", "off")
    run(home, "vamt schedule add", "nightly", "collect", "here", "--every", "1d", "--at", "02:00")
    run(home, "vamt schedule list")
    run(home, "vamt schedule run", *seal)
    run(home, "vamt schedule remove", "nightly")
    run(home, "vamt token add", "bob", "--role", "operator")
    run(home, "vamt token revoke", run(home, "vamt token list")[0]["id"])


def proxy(run: Run, home: children.Volact, folder: Path, root: str, request: Path) -> None:
    """Carry a request out and its confirmation back as computer lists."""
    outside, there, back = children.Volact(folder / "outside"), folder / "out.cil", folder / "back.cil"
    run(outside, "vamt init", "--name", "outside")
    run(outside, "vamt publisher add", str(folder / "cad.volact-product"), "--root", root)
    run(home, "vamt export", str(there), "--request", str(request))
    run(outside, "vamt import", str(there))
    run(outside, "vamt trust")
    run(outside, "vamt acquire")
    run(outside, "vamt export", str(back), "--answers", "newest", where=" --answers")
    run(home, "vamt import", str(back))
    run(home, "vamt import", f"{back}.status", where=" FILE.status")
    run(home, "client status-list", f"{back}.status")
    run(home, "vamt apply", "--into", str(folder / "confirmations"))
    run(home, "vamt lists")
    run(home, "vamt receipt")
    run(home, "vamt export", str(folder / "machines.json"), "--all", where=" NAME.json")
    run(home, "vamt log")


_HOST_KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIDVDo3SsrwLTSFlG1fL6nzTw4Hk9b1xpWFXvUYfCIKsM"
