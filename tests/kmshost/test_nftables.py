"""What rules of nftables mean that this kernel may not know: in the form in which nft prints them (K19)."""

from typing import Any

from volact.kmshost import firewall
from volact.kmshost.nftables import BLOCKED, OPEN, PARTLY, UNKNOWN


def test_k19_a_program_beside_the_rules_decides_nobody_knows_what() -> None:
    """A queue, and an extension of before; this kernel may have neither, so the printed form is written here."""

    def ruleset(*statements: dict[str, Any]) -> dict[str, Any]:
        chain = {
            "family": "inet", "table": "f", "name": "input", "hook": "input", "type": "filter", "policy": "accept"
        }  # fmt: skip
        rule = {"family": "inet", "table": "f", "chain": "input", "handle": 7, "expr": list(statements)}
        return {"nftables": [{"metainfo": {}}, {"chain": chain}, {"rule": rule}]}

    port = {"match": {"op": "==", "left": {"payload": {"protocol": "tcp", "field": "dport"}}, "right": 1688}}
    source = {
        "match": {"op": "==", "left": {"payload": {"protocol": "ip", "field": "saddr"}}, "right": "192.0.2.1"}
    }
    for statements, state in (
        ([port, {"queue": {"num": 0}}], UNKNOWN),
        ([source, {"queue": {"num": 0}}], UNKNOWN),
        ([{"xt": {"type": "match", "name": "u32"}}, {"drop": None}], PARTLY),
        ([port, {"xt": {"type": "target", "name": "TARPIT"}}], UNKNOWN),
        ([port, {"xt": {"type": "target", "name": "LOG"}}], OPEN),
        ([{"xt": None}, {"drop": None}], PARTLY),
        ([{"xt": None}], UNKNOWN),
        ([{"something": {}}, {"drop": None}], PARTLY),
        ([{"match": {"op": "==", "left": "something", "right": 1}}, {"drop": None}], PARTLY),
        (
            [
                {
                    "match": {
                        "op": "==",
                        "left": {"payload": {"protocol": "tcp", "field": "flags"}},
                        "right": {"|": ["fin", "syn"]},
                    }
                },
                {"drop": None},
            ],
            OPEN,
        ),
        (
            [
                {"match": {"op": "==", "left": {"meta": {"key": "l4proto"}}, "right": {"set": [6, 139]}}},
                {"drop": None},
            ],
            BLOCKED,
        ),
        (
            [
                {
                    "match": {
                        "op": "==",
                        "left": {"payload": {"base": "th", "offset": 16, "len": 16}},
                        "right": 1688,
                    }
                },
                {"drop": None},
            ],
            PARTLY,
        ),
        ([{"match": {"op": "<", "left": port["match"]["left"], "right": "ssh"}}, {"drop": None}], PARTLY),
        (
            [{"match": {"op": "==", "left": port["match"]["left"], "right": {"new": 1}}}, {"drop": None}],
            PARTLY,
        ),
    ):
        assert firewall.of_nftables(ruleset(*statements), 1688).state == state, statements


def test_k19_jumps_without_end_are_followed_no_deeper_than_the_kernel_does() -> None:
    chains = [
        {"chain": {"family": "ip", "table": "f", "name": "input", "hook": "input", "type": "filter"}},
        {"chain": {"family": "ip", "table": "f", "name": "z"}},
        *(
            {
                "rule": {
                    "family": "ip",
                    "table": "f",
                    "chain": name,
                    "handle": 1,
                    "expr": [{"jump": {"target": "z"}}],
                }
            }
            for name in ("input", "z")
        ),
    ]
    assert firewall.of_nftables({"nftables": chains}, 1688).state == UNKNOWN
