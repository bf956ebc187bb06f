"""The firewall's rule for the host's port (K19): the words of every command, and real nftables in a namespace.

ufw and firewalld are stand-ins on the path that record what they are told and answer as their manuals say; Windows'
commands are text that was never run anywhere.
"""

import functools
import json
import os
import shlex
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from volact.kmshost import firewall
from volact.kmshost.firewall import Firewall, Seen
from volact.kmshost.nftables import ALLOWED, BLOCKED, OPEN, PARTLY, UNKNOWN
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
    assert "--apply" not in firewall.prose(seen), "which is refused together with --for"


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
    assert json.loads(applied)["state"] == PARTLY  # for the one whom the administrator shuts out
    own = f'tcp dport 1688 accept comment "{REMARK}"'
    rules = rules_of(after)
    assert rules.count(own) == 2
    assert (
        rules[rules.index(own) - 1] == "ip saddr 192.0.2.66 drop"
    )  # whom the administrator shuts out stays out
    assert rules[rules.index(own) + 1].endswith("reject")
    assert [rule for rule in rules if rule != own] == rules_of(before)
    assert same == after
    assert json.loads(again)["state"] == PARTLY
    deletes = ["nft", "delete", "rule", "inet", "filter", "input", "handle", taken.strip()]
    assert deletes in json.loads(applied)["back"]
    assert back == before


OPEN_CHAIN = "table inet f {\n %s\n chain input { type filter hook input priority 0; policy %s;\n %s\n }\n}\n"


def accepting(*rules: str, beside: str = "") -> str:
    """An input chain whose policy is to accept, with these rules, and another chain beside it."""
    return OPEN_CHAIN % (beside, "accept", "\n ".join(rules))


def dropping(*rules: str, beside: str = "") -> str:
    """The same whose policy is to drop."""
    return OPEN_CHAIN % (beside, "drop", "\n ".join(rules))


@functools.cache
def printed() -> dict[str, str]:
    """All rulesets below as nft itself prints them, in one namespace."""
    rulesets = [*(rules for rules, _ in (*RULESETS, *QUOTED)), OURS, OTHERS]
    steps = [
        f"nft flush ruleset; printf %s {shlex.quote(one)} | nft -f -; nft -j list ruleset" for one in rulesets
    ]
    return dict(zip(rulesets, in_namespace("", *steps), strict=True))


def seen_in(rules: str) -> Seen:
    """What the program makes of these rules."""
    return firewall.of_nftables(json.loads(printed()[rules]), 1688)


BACK = "chain z { return;\n }"
SHUT = "chain z { drop;\n }"
LETS = "chain z { tcp dport 1688 accept;\n }"
PORT = "tcp dport 1688"


RULESETS = [
    ("", OPEN),
    (DROPS % "", BLOCKED),
    (DROPS % "tcp dport 1689-1700 accept", BLOCKED),
    (DROPS % "udp dport 1688 accept", BLOCKED),
    (DROPS % "reject\n tcp dport 1688 accept", BLOCKED),
    (dropping(f"{PORT} accept"), ALLOWED),
    (dropping("tcp dport { 80, 1688 } ct state new accept"), ALLOWED),
    (dropping("tcp dport 1688-1689 counter accept"), ALLOWED),
    (dropping("tcp dport 1689-1700 accept"), BLOCKED),
    (dropping("tcp dport 1600-1687 accept"), BLOCKED),
    (dropping("tcp dport 1600-1688 accept"), ALLOWED),
    (dropping("tcp dport != 1688 accept"), BLOCKED),
    (dropping("ip saddr 192.0.2.0/24 tcp dport 1688 accept"), PARTLY),
    (dropping("tcp dport 1688 limit rate 3/second accept"), PARTLY),
    (dropping("tcp dport > 1687 accept"), ALLOWED),
    (dropping("tcp dport > 1688 accept"), BLOCKED),
    (dropping("tcp dport >= 1688 accept"), ALLOWED),
    (dropping("tcp dport < 1689 accept"), ALLOWED),
    (dropping("tcp dport < 1688 accept"), BLOCKED),
    (dropping("tcp dport <= 1688 accept"), ALLOWED),
    (dropping("tcp sport > 1023 accept"), PARTLY),
    (dropping("iif lo accept"), BLOCKED),
    (dropping('iifname != "lo" accept'), ALLOWED),
    (dropping('iifname { "lo", "eth0" } accept'), PARTLY),
    (dropping("ct state established,related accept", f"{PORT} accept"), ALLOWED),
    (dropping("ct state vmap { established : accept, invalid : drop }", f"{PORT} accept"), ALLOWED),
    (dropping("ct state vmap { new : accept }"), ALLOWED),
    (dropping("tcp dport vmap { 22 : accept, 1688 : jump z }", beside=LETS), ALLOWED),
    (dropping("jump z", beside=LETS), ALLOWED),
    (dropping("goto z", f"{PORT} accept", beside=BACK), BLOCKED),
    (dropping("jump z", f"{PORT} accept", beside=BACK), ALLOWED),
    (dropping("ip saddr 192.0.2.1 return", f"{PORT} accept"), PARTLY),
    (dropping("return", f"{PORT} accept"), BLOCKED),
    (dropping("tcp dport { 1, 1688 } accept", "meta l4proto tcp drop"), ALLOWED),
    (dropping("meta nfproto ipv4 accept"), PARTLY),
    (dropping("tcp flags & (fin|syn|rst|ack) != syn ct state new drop", f"{PORT} accept"), ALLOWED),
    (dropping("tcp flags & (fin|syn) == fin drop", f"{PORT} accept"), ALLOWED),
    (dropping("tcp flags syn drop", f"{PORT} accept"), BLOCKED),
    (dropping("fib daddr type != { local, broadcast } drop", f"{PORT} accept"), ALLOWED),
    (dropping("log", f"{PORT} counter accept"), ALLOWED),
    # A rule that refuses, and may mean the port, is never passed over.
    (accepting(), OPEN),
    (accepting("udp dport 1688 drop", "icmp type echo-request drop", "tcp dport 22 drop"), OPEN),
    (accepting(f"{PORT} drop"), BLOCKED),
    (dropping(f"{PORT} drop", f"{PORT} accept"), BLOCKED),
    (accepting("tcp dport != 22 drop"), BLOCKED),
    (accepting("tcp dport != 1688 drop"), OPEN),
    (accepting("ct state established accept", "ct state new drop"), BLOCKED),
    (accepting("ct state { established, related } drop"), OPEN),
    (accepting("meta l4proto tcp reject"), BLOCKED),
    (accepting("meta l4proto { udp, 132 } reject"), OPEN),
    (accepting("ip protocol tcp drop"), PARTLY),
    (accepting("ip protocol udp drop"), OPEN),
    (accepting("ip6 nexthdr != udp drop"), PARTLY),
    (accepting("ip saddr 0.0.0.0/0 drop"), PARTLY),
    (accepting("ip saddr @s drop", beside="set s { type ipv4_addr;\n }"), PARTLY),
    (accepting("meta l4proto { tcp, 139 } reject"), BLOCKED),
    (accepting("tcp flags & (syn|ack) == 0x0 drop"), OPEN),
    (accepting("tcp dport @s drop", beside="set s { type inet_service;\n }"), PARTLY),
    (accepting(f"{PORT} limit rate over 9/second drop"), PARTLY),
    (accepting(f"{PORT} ct count over 20 reject with tcp reset"), PARTLY),
    (accepting('iifname "eth0" jump z', beside=SHUT), PARTLY),
    (accepting('iifname "eth0" goto z', beside=SHUT), PARTLY),
    (accepting("jump z", beside=SHUT), BLOCKED),
    (accepting("jump z", beside=BACK), OPEN),
    (accepting("ip saddr 192.0.2.66 drop", f"{PORT} accept"), PARTLY),
    (accepting("ip daddr . tcp dport { 192.0.2.1 . 1688 } drop"), PARTLY),
    (accepting("ip saddr 192.0.2.1 return", f"{PORT} drop"), PARTLY),
    (accepting("tcp dport vmap @m", beside="map m { type inet_service : verdict;\n }"), UNKNOWN),
]


@pytest.mark.parametrize(("rules", "state"), RULESETS)
def test_k19_what_a_ruleset_does_with_the_port(rules: str, state: str) -> None:
    seen = seen_in(rules)
    assert seen.state == state, seen
    if state == BLOCKED and "return" not in rules and "goto" not in rules:
        assert seen.commands
    if state in (ALLOWED, OPEN, UNKNOWN):
        assert not seen.commands


QUOTED = [
    (accepting("tcp dport { 80, 1600-1700 } drop"), "`tcp dport { 80, 1600-1700 } drop`"),
    (accepting("tcp dport != 22 drop"), "`tcp dport != 22 drop`"),
    (accepting("ip saddr 10.0.0.0/8 drop"), "`ip saddr 10.0.0.0/8 drop`"),
    (accepting("ip saddr 10.0.0.1-10.0.0.9 reject"), "`ip saddr 10.0.0.1-10.0.0.9 reject`"),
    (accepting('iifname "eth0" jump z', beside=SHUT), "`iifname eth0 jump z`"),
    (accepting("ct state new,untracked drop"), "`ct state new,untracked drop`"),
    (accepting("meta l4proto tcp counter reject"), "`meta l4proto tcp reject`"),
    (accepting("fib saddr . iif oif missing drop"), "false drop`"),
    (dropping(), "policy drop"),
    (dropping("ip saddr 10.0.0.0/8 tcp dport 1688 accept"), "refuses the rest by policy drop"),
]


@pytest.mark.parametrize(("rules", "quoted"), QUOTED)
def test_k19_the_rule_that_refuses_is_quoted(rules: str, quoted: str) -> None:
    assert quoted in seen_in(rules).detail


OURS = dropping(f'{PORT} accept comment "volact kmshost"')
OTHERS = dropping(f'{PORT} accept comment "web"', 'tcp dport 22 accept comment "volact kmshost"')


@pytest.mark.parametrize(("rules", "back"), [(OURS, 1), (OTHERS, 0), (dropping(f"{PORT} accept"), 0)])
def test_k19_a_rule_of_ours_can_be_taken_back_and_no_other(rules: str, back: int) -> None:
    found = seen_in(rules).back
    assert len(found) == back
    for words in found:
        assert words[:3] == ("nft", "delete", "rule")
        assert words[-2] == "handle"
        assert words[-1].isdigit()


def test_k19_a_rule_of_ours_goes_before_what_refuses_the_port_and_is_not_added_where_only_some_are_refused() -> (
    None
):
    applied, after = in_namespace(
        accepting("tcp dport 22 drop", "meta l4proto tcp reject"), "apply", "nft list ruleset"
    )
    assert json.loads(applied)["state"] == ALLOWED
    rules = rules_of(after)
    own = f'tcp dport 1688 accept comment "{REMARK}"'
    assert rules[rules.index(own) - 1 : rules.index(own) + 2 : 2] == [
        "tcp dport 22 drop",
        "meta l4proto tcp reject",
    ]
    before, applied, after = in_namespace(
        accepting("ip saddr 192.0.2.66 drop"), "nft list ruleset", "apply", "nft list ruleset"
    )
    assert json.loads(applied)["state"] == PARTLY
    assert after == before


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
