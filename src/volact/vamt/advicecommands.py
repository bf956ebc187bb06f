"""``volact vamt advise``: which way of activating suits a network, why, and what it takes (V8)."""

from __future__ import annotations

from typing import Annotated

from cyclopts import Parameter

from volact.commands import WHOLE, Json
from volact.console import Console
from volact.protocol.problems import UsageError
from volact.vamt import desk
from volact.vamt.advice import KMS, MAK_ONLINE, MAK_PROXY
from volact.vamt.advising import Told
from volact.vamt.desk import Group  # noqa: TC001 - cyclopts reads the annotations

_WAYS = {MAK_ONLINE: "MAK, online", MAK_PROXY: "MAK, by the MAK proxy", KMS: "a KMS host"}
_MOST = 10_000_000


def advise(
    *,
    group: Group = "",
    isolated: Annotated[
        bool, Parameter(help="No machine of the network reaches the publisher's authority.")
    ] = False,
    product: Annotated[str, Parameter(help="For this product, by its thresholds.")] = "",
    publisher: Annotated[
        str, Parameter(help="The publisher, by id or name, if several have it.", allow_leading_hyphen=True)
    ] = "",
    machines: Annotated[
        int | None, WHOLE, Parameter(help="So many machines, servers included, instead of those found.")
    ] = None,
    servers: Annotated[
        int | None, WHOLE, Parameter(help="So many servers among them, instead of those found.")
    ] = None,
    json: Json = False,
) -> None:
    """Say which way of activating suits a network, from what is known of it: MAK online, MAK proxy, or KMS."""
    for name, value in (("--machines", machines), ("--servers", servers)):
        if value is not None and not 0 <= value <= _MOST:
            raise UsageError(f"{name} is 0 to {_MOST}.")
    if publisher and not product:
        raise UsageError("--publisher says whose --product is meant.")
    if machines is not None and servers is not None and servers > machines:
        raise UsageError("--servers are among --machines.")
    with desk.desk() as at:
        told = Told(isolated, machines, servers)
        found = at.vamt.advising.advise(at.person, told, group=group, product=product, publisher=publisher)
    network, said = found.network, found.advice
    lines = [f"Advised: {_WAYS[said.way]}", "", "Why:", *_listed(said.why), "What it takes:"]
    lines += [*_listed(said.takes), "Keep in mind:", *_listed(said.mind)]
    Console(json=json).answer(
        {
            "way": said.way,
            "why": list(said.why),
            "takes": list(said.takes),
            "mind": list(said.mind),
            "network": {
                "machines": network.machines,
                "servers": network.servers,
                "isolated": network.isolated,
                "activated": network.activated,
                "left": network.left,
                "thresholds": [
                    {"count": one.counted, "minimum": one.minimum} for one in network.policy.thresholds
                ],
            },
        },
        "\n".join(lines),
    )


def _listed(sentences: tuple[str, ...]) -> list[str]:
    return [f"- {one}" for one in sentences]
