"""``volact vamt advise``: which way of activating suits a network, why, and what it takes (V8)."""

from __future__ import annotations

from typing import Annotated

from cyclopts import Parameter

from volact.commands import WHOLE, Json
from volact.console import Console
from volact.vamt import adviceanswers, desk
from volact.vamt.advice import KMS, MAK_ONLINE, MAK_PROXY
from volact.vamt.desk import Group  # noqa: TC001 - cyclopts reads the annotations

_WAYS = {MAK_ONLINE: "MAK, online", MAK_PROXY: "MAK, by the MAK proxy", KMS: "a KMS host"}


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
    told = adviceanswers.told(product, publisher, machines, servers, isolated=isolated)
    with desk.desk() as at:
        found = at.vamt.advising.advise(at.person, told, group=group, product=product, publisher=publisher)
    said = found.advice
    lines = [f"Advised: {_WAYS[said.way]}", "", "Why:", *_listed(said.why), "What it takes:"]
    lines += [*_listed(said.takes), "Keep in mind:", *_listed(said.mind)]
    Console(json=json).answer(adviceanswers.json_of(found), "\n".join(lines))


def _listed(sentences: tuple[str, ...]) -> list[str]:
    return [f"- {one}" for one in sentences]
