"""The firewall's rule for the host's port (K19): the words of every command, and real nftables in a namespace.

ufw and firewalld are stand-ins on the path that record what they are told and answer as their manuals say; Windows'
commands are text that was never run anywhere.
"""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from volact.kmshost import firewall
from volact.kmshost.firewall import ALLOWED, BLOCKED, OPEN, PARTLY, UNKNOWN, Firewall, Seen
from volact.protocol.problems import Refusal

REMARK = "volact kmshost"


@pytest.mark.parametrize(
    ("which", "commands", "back"),
    [
        ("ufw", ["ufw allow 1688/tcp comment 'volact kmshost'"], ["ufw delete allow 1688/tcp"]),
        (
            "firewalld",
            ["firewall-cmd --add-port=1688/tcp", "firewall-cmd --permanent --add-port=1688/tcp"],
            ["firewall-cmd --remove-port=1688/tcp", "firewall-cmd --permanent --remove-port=1688/tcp"],
        ),
        (
            "nftables",
            ["""nft add rule inet filter input tcp dport 1688 accept comment '"volact kmshost"'"""],
            [],
        ),
        (
            "windows",
            [
                "New-NetFirewallRule -DisplayName 'volact kmshost 1688' -Direction Inbound -Protocol TCP -LocalPort 1688 -Action Allow"
            ],
            ["Remove-NetFirewallRule -DisplayName 'volact kmshost 1688'"],
        ),
    ],
)
def test_k19_what_each_firewall_is_told(which: str, commands: list[str], back: list[str]) -> None:
    seen = firewall.of_kind(which, 1688)
    assert [firewall.shown(one) for one in seen.commands] == commands
    assert [firewall.shown(one) for one in seen.back] == back
    for line in [*commands, *back]:
        assert line in firewall.prose(seen)


# --- nftables for real -------------------------------------------------------------------------------------------

_LOOK = """
import json, sys
from volact.kmshost.firewall import Firewall, members
from volact.protocol.problems import Refusal
found = Firewall().look(1688) if sys.argv[1] == "look" else Firewall().apply(1688)
print(json.dumps(str(found) if isinstance(found, Refusal) else members(found if sys.argv[1] == "look" else found[1])))
"""
DROPS = """
table inet filter {
 chain input { type filter hook input priority 0; policy drop;
  ct state established,related accept
  iif lo accept
  ip saddr 192.0.2.66 drop
 %s
 }
 chain forward { type filter hook forward priority 0; policy drop;
 }
}
"""


def in_namespace(rules: str, *steps: str) -> list[str]:
    """What each step printed, one after the other in one network namespace of its own that begins with these rules."""
    script = ["set -e", "printf '%s' \"$RULES\" | nft -f -"]
    for step in steps:
        line = f'"$PYTHON" -c "$LOOK" {step}' if step in ("look", "apply") else step
        script += [line, "echo ------"]
    path = f"{os.environ['PATH']}:/usr/sbin:/sbin"
    for program in ("nft", "unshare"):
        if shutil.which(program, path=path) is None:
            reason = f"{program} is not installed"
            pytest.fail(reason) if os.environ.get("CI") == "true" else pytest.skip(reason)
    environ = {**os.environ, "PATH": path, "RULES": rules, "LOOK": _LOOK, "PYTHON": sys.executable}
    done = subprocess.run(
        ["unshare", "-rn", "sh", "-c", "\n".join(script)],
        env=environ,
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.split("------\n")[:-1]


def rules_of(text: str) -> list[str]:
    return [line.strip() for line in text.splitlines() if line.strip() and not line.strip().startswith("}")]


def test_k19_nftables_gets_one_rule_where_it_has_effect_and_nothing_else_changes() -> None:
    before, seen, applied, after, again, same, taken, back = in_namespace(
        DROPS % "counter reject"
        + "table ip6 six {\n chain in6 { type filter hook input priority 5; policy drop;\n }\n}\n",
        "nft list ruleset",
        "look",
        "apply",
        "nft list ruleset",
        "apply",
        "nft list ruleset",
        "handle=$(nft -a list chain inet filter input | sed -n 's/.*volact.*handle //p');"
        " nft delete rule inet filter input handle $handle; nft flush chain ip6 six in6; echo $handle",
        "nft list ruleset",
    )
    assert json.loads(seen)["state"] == BLOCKED
    assert len(json.loads(seen)["commands"]) == 2  # a chain of IPv4 and IPv6, and one of IPv6 alone
    assert json.loads(applied)["state"] == ALLOWED
    own = f'tcp dport 1688 accept comment "{REMARK}"'
    rules = rules_of(after)
    assert rules.count(own) == 2
    assert (
        rules[rules.index(own) - 1] == "ip saddr 192.0.2.66 drop"
    )  # whom the administrator shuts out stays out
    assert rules[rules.index(own) + 1].endswith("reject")
    assert [rule for rule in rules if rule != own] == rules_of(before)
    assert same == after
    assert json.loads(again)["state"] == ALLOWED
    deletes = ["nft", "delete", "rule", "inet", "filter", "input", "handle", taken.strip()]
    assert deletes in json.loads(applied)["back"]
    assert back == before


@pytest.mark.parametrize(
    ("rules", "state"),
    [
        ("", OPEN),
        (DROPS % "", BLOCKED),
        (DROPS % "tcp dport 1688 accept", ALLOWED),
        (DROPS % "tcp dport { 80, 1688 } ct state new accept", ALLOWED),
        (DROPS % "tcp dport 1688-1689 counter accept", ALLOWED),
        (DROPS % "tcp dport 1689-1700 accept", BLOCKED),
        (DROPS % "udp dport 1688 accept", BLOCKED),
        (DROPS % "tcp dport != 1688 accept", BLOCKED),
        (DROPS % "tcp dport 1688 drop", BLOCKED),
        (DROPS % "reject\n tcp dport 1688 accept", BLOCKED),
        (DROPS % "ip saddr 192.0.2.0/24 tcp dport 1688 accept", PARTLY),
        (
            (DROPS % "").replace(
                "hook input priority 0; policy drop", "hook input priority 0; policy accept"
            ),
            OPEN,
        ),
    ],
)
def test_k19_what_a_ruleset_does_with_the_port(rules: str, state: str) -> None:
    (seen,) = in_namespace(rules, "look")
    assert json.loads(seen)["state"] == state, seen


# --- stand-ins ---------------------------------------------------------------------------------------------------

UFW = """#!/bin/sh
echo "ufw $*" >> "$FOLDER/told"
case "$1" in
  status) cat "$FOLDER/ufw" ;;
  allow) [ -e "$FOLDER/not-root" ] && { echo "ERROR: You need to be root to run this script" >&2; exit 1; }
    printf '%s                   ALLOW       Anywhere\\n' "$2" >> "$FOLDER/ufw" ;;
esac
"""
FIREWALLD = """#!/bin/sh
echo "firewall-cmd $*" >> "$FOLDER/told"
kept=now; [ "$1" = --permanent ] && { kept=permanent; shift; }
case "$1" in
  --state) [ -e "$FOLDER/off" ] && exit 252; echo running ;;
  --get-default-zone) echo public ;;
  --query-port=*) [ -e "$FOLDER/$kept" ] && echo yes || { echo no; exit 1; } ;;
  --add-port=*) [ -e "$FOLDER/stubborn" ] || touch "$FOLDER/$kept"; echo success ;;
esac
"""
ACTIVE = "Status: active\n\nTo                         Action      From\n--                         ------      ----\n"


class Stand:
    """Stand-ins in a folder, and what they were told."""

    def __init__(self, folder: Path, **programs: str) -> None:
        self.folder = folder
        (folder / "bin").mkdir()
        for name, text in programs.items():
            file = folder / "bin" / name.replace("_", "-")
            file.write_text(text)
            file.chmod(0o755)
        self.firewall = Firewall({"PATH": f"{folder / 'bin'}:/usr/bin:/bin", "FOLDER": str(folder)})

    def told(self) -> list[str]:
        lines = (self.folder / "told").read_text().splitlines()
        return [line for line in lines if "add-port" in line or " allow " in line]

    def applied(self) -> Seen:
        done = self.firewall.apply(1688)
        assert not isinstance(done, Refusal), done
        return done[1]


def test_k19_ufw_is_told_once(tmp_path: Path) -> None:
    stand = Stand(tmp_path, ufw=UFW)
    (tmp_path / "ufw").write_text(ACTIVE + "22/tcp                     ALLOW       Anywhere\n")
    assert stand.firewall.look(1688).state == BLOCKED
    assert stand.firewall.look(22).state == ALLOWED
    assert stand.applied().state == ALLOWED
    assert stand.applied().back == (("ufw", "delete", "allow", "1688/tcp"),)
    assert stand.told() == [f"ufw allow 1688/tcp comment {REMARK}"]


@pytest.mark.parametrize(
    ("rules", "state"),
    [
        ("1688                       ALLOW       Anywhere\n", ALLOWED),
        ("1688/tcp                   ALLOW IN    Anywhere\n", ALLOWED),
        ("1688/tcp                   ALLOW       192.0.2.0/24\n", PARTLY),
        ("1688/udp                   ALLOW       Anywhere\n", BLOCKED),
        ("1688/tcp                   DENY        Anywhere\n", BLOCKED),
        ("16880/tcp                  ALLOW       Anywhere\n", BLOCKED),
    ],
)
def test_k19_what_ufw_lists(tmp_path: Path, rules: str, state: str) -> None:
    stand = Stand(tmp_path, ufw=UFW)
    (tmp_path / "ufw").write_text(ACTIVE + rules)
    assert stand.firewall.look(1688).state == state


def test_k19_who_is_not_root_is_told_so(tmp_path: Path) -> None:
    stand = Stand(tmp_path, ufw=UFW)
    (tmp_path / "ufw").write_text(ACTIVE)
    (tmp_path / "not-root").touch()
    done = stand.firewall.apply(1688)
    assert isinstance(done, Refusal)
    assert done.code == "firewall-not-changed"
    assert "need to be root" in done.detail


def test_k19_firewalld_is_told_for_now_and_for_later_and_goes_before_ufw(tmp_path: Path) -> None:
    stand = Stand(tmp_path, ufw=UFW, firewall_cmd=FIREWALLD)
    assert stand.firewall.look(1688).state == BLOCKED
    assert stand.applied().kind == "firewalld"
    assert stand.applied().state == ALLOWED
    assert stand.told() == [
        "firewall-cmd --add-port=1688/tcp",
        "firewall-cmd --permanent --add-port=1688/tcp",
    ]
    (tmp_path / "permanent").unlink()
    assert stand.firewall.look(1688).state == BLOCKED  # gone at firewalld's next start
    (tmp_path / "off").touch()
    (tmp_path / "ufw").write_text(ACTIVE)
    assert stand.firewall.look(1688).kind == "ufw"


def test_k19_a_firewall_that_does_not_do_as_told_is_noticed(tmp_path: Path) -> None:
    stand = Stand(tmp_path, firewall_cmd=FIREWALLD)
    (tmp_path / "stubborn").touch()
    done: Any = stand.firewall.apply(1688)
    assert isinstance(done, Refusal)
    assert done.code == "firewall-not-changed"


def test_k19_a_machine_without_a_firewall_that_is_known(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(firewall, "_ROOTS", str(tmp_path))
    bare = Firewall({"PATH": str(tmp_path)})
    seen = bare.look(1688)
    assert (seen.kind, seen.state, seen.commands) == ("", UNKNOWN, ())
    assert "let TCP port 1688 in" in firewall.prose(seen)
    done = bare.apply(1688)
    assert isinstance(done, Refusal)
    assert done.code == "program-missing"
