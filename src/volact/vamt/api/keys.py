"""The API's routes of publishers, product keys and advice (V4, V8, M3, M8). Of a key its label is told, and nothing more."""

from __future__ import annotations

from typing import Annotated, Any

from litestar import delete, get, post
from litestar.params import FromQuery, JSONBody, PathParameter, QueryParameter

from volact.vamt import adviceanswers, byhand, keyfiles, keyreporting
from volact.vamt.api import answers, bodies
from volact.vamt.api.desk import At, By, name_in

_Label = Annotated[str, PathParameter(description="A key's last group, or its thumbprint.")]
_MOST_MACHINES = 10_000_000
_Machines = Annotated[int | None, QueryParameter(ge=0, le=_MOST_MACHINES)]
_Name = Annotated[str, QueryParameter(max_length=300)]


@get("/publishers", sync_to_thread=True)
def list_publishers(desk: At, person: By) -> list[answers.Publisher]:
    """List the publishers and their products."""
    return [
        answers.Publisher(
            publisher=one.pub,
            name=one.name,
            lab=one.lab,
            url=one.url or None,
            products=[
                answers.Product(product=each.prd, name=each.name, edition=each.edition, version=each.ver)
                for each in products
            ],
        )
        for one, products in desk.vamt.publishers.list(person)
    ]


@post("/publishers", sync_to_thread=True, status_code=200)
def add_product(desk: At, person: By, data: JSONBody[bodies.AddProduct]) -> answers.Taught:
    """Let VAMT know a publisher's product by its signed file, or a newer version of it."""
    found = desk.vamt.publishers.add(person, data.file.encode(), data.root, data.name)
    return answers.Taught(
        publisher=found.pub, product=found.product, version=found.version, added=found.added
    )


@get("/keys", sync_to_thread=True)
def list_keys(desk: At, person: By) -> list[answers.Key]:
    """List the keys, by their last groups, and what the publisher said is left of them."""
    found = desk.vamt.keys.list(person)
    return answers.of(list[answers.Key], [keyreporting.key(one) for one in found])


@post("/keys", sync_to_thread=True)
def add_keys(desk: At, person: By, data: JSONBody[bodies.AddKeys]) -> list[answers.KeptKey]:
    """Keep product keys, sealed: all of them or none."""
    byhand.note(data.note, "The note")
    desk.works.permit(person, "change-keys", {"add": "keys"})  # before anything is said about them
    wanted = keyfiles.wanted(data.keys, data.product)
    added = desk.vamt.keys.add(person, wanted, desk.unlock(), publisher=data.publisher, notes=data.note)
    return [
        answers.KeptKey(
            label=one.label, key=one.thumbprint, kind=one.kind, product=one.product, new=one.is_new
        )
        for one in added
    ]


@get("/keys/{label:str}", sync_to_thread=True)
def show_key(desk: At, person: By, label: _Label) -> answers.Key:
    """Show what is known of a key."""
    return answers.of(answers.Key, keyreporting.key(desk.vamt.keys.show(person, name_in(label))))


@delete("/keys/{label:str}", sync_to_thread=True, status_code=200)
def remove_key(desk: At, person: By, label: _Label) -> answers.Count:
    """Forget a key; what was activated with it stays activated."""
    return answers.Count(count=desk.vamt.keys.remove(person, [name_in(label)]))


@post("/selections/recommend", sync_to_thread=True, status_code=200)
def recommend_keys(desk: At, person: By, data: JSONBody[bodies.Recommend]) -> list[answers.Plan]:
    """Say which keys a selection of machines takes, for how many each. Nothing is done."""
    found = desk.vamt.keys.recommend(person, data.selection.chosen(), data.product)
    return answers.of(list[answers.Plan], [keyreporting.plan(one) for one in found])


@get("/advice", sync_to_thread=True)
def advise(
    desk: At,
    person: By,
    group: _Name = "",
    product: _Name = "",
    publisher: _Name = "",
    machines: _Machines = None,
    servers: _Machines = None,
    isolated: FromQuery[bool] = False,
) -> answers.Advice:
    """Say which way of activating suits a network, from what is known of it: MAK online, MAK proxy, or KMS."""
    told = adviceanswers.told(product, publisher, machines, servers, isolated=isolated)
    found = desk.vamt.advising.advise(person, told, group=group, product=product, publisher=publisher)
    return answers.of(answers.Advice, adviceanswers.json_of(found))


ROUTES: list[Any] = [
    list_publishers, add_product, list_keys, add_keys, show_key, remove_key, recommend_keys, advise,
]  # fmt: skip
