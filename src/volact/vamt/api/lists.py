"""The API's routes of computer lists, of what comes in as a file, and of tables to go out (P1 to P5, V7)."""

from __future__ import annotations

import asyncio
import tempfile
from contextlib import ExitStack, contextmanager, nullcontext
from typing import IO, TYPE_CHECKING, Annotated, Any, BinaryIO, Literal, cast

from litestar import Request, get, post, put
from litestar.openapi.datastructures import ResponseSpec
from litestar.params import FromPath, FromQuery, JSONBody, QueryParameter
from litestar.response import Stream

from volact.commands import when
from volact.protocol import ids
from volact.protocol.problems import Refusal, Refused, UsageError
from volact.vamt import cil, exportrows, exports, importing, proxyshow
from volact.vamt.api import bodies, uploads
from volact.vamt.api import rows as apirows
from volact.vamt.api.answers import of
from volact.vamt.api.desk import USUAL_PAGE, At, By, Limit, name_in
from volact.vamt.api.openapi import TABLES
from volact.vamt.selecting import Selection

if TYPE_CHECKING:
    from collections.abc import Iterator

_PIECE = 1 << 16
_KINDS = dict(zip(exports.KINDS, TABLES, strict=True))
BINARY = "application/octet-stream"
_Name = Annotated[str, QueryParameter(max_length=300)]
FILE = {200: ResponseSpec(bytes, media_type=BINARY, description="The file.", generate_examples=False)}


@get("/lists", sync_to_thread=True)
def list_lists(desk: At, person: By, limit: Limit = USUAL_PAGE) -> list[apirows.ComputerList]:
    """List the computer lists that went out and came in, newest first."""
    return of(
        list[apirows.ComputerList],
        [
            {**proxyshow.list_json(one), "states": states}
            for one, states in desk.vamt.proxy.lists(person, limit)
        ],
    )


@get("/lists/{name:str}", sync_to_thread=True)
def show_receipt(desk: At, person: By, name: FromPath[str]) -> apirows.Receipt:
    """Show what became of each row of a list: which machine, which key, when, and through whom."""
    found, rows = desk.vamt.proxy.receipt(person, name_in(name))
    return of(apirows.Receipt, {**proxyshow.list_json(found), "outcomes": proxyshow.receipt_json(rows)})


@post("/lists/{name:str}/answers", sync_to_thread=True, status_code=200, responses=FILE)
def export_answers(desk: At, person: By, name: FromPath[str]) -> Stream:
    """Write what was acquired for a list that came in, to go back: the file itself."""
    with _file() as file:
        made = desk.vamt.proxy.export_answers(person, name_in(name), lambda: nullcontext(file))
        return sent(file, f"{made.lid}.cil", BINARY)


@get("/publishers/{publisher:str}/status-list", sync_to_thread=True, responses=FILE)
def export_status_list(desk: At, person: By, publisher: FromPath[str]) -> Stream:
    """Hand out the publisher's newest status list that is known here, as it travels on a medium."""
    pub = name_in(publisher)
    found = desk.vamt.acquiring.status_file(person, pub)
    if found is None:
        raise Refused(Refusal("not-found", "No status list of this publisher is known here."))
    with _file() as file:
        file.write(found)
        return sent(file, "publisher.status", BINARY)


@get("/writers", sync_to_thread=True)
def list_writers(desk: At, person: By) -> list[apirows.ListWriter]:
    """List the VAMTs whose lists were met, and those that were pinned."""
    return of(
        list[apirows.ListWriter], [proxyshow.writer_json(one) for one in desk.vamt.proxy.writers(person)]
    )


@put("/writers/{fingerprint:str}", sync_to_thread=True)
def trust_writer(
    desk: At, person: By, fingerprint: FromPath[str], data: JSONBody[bodies.TrustWriter]
) -> apirows.ListWriter:
    """Pin another VAMT, so that names in its computer lists count, or pin it no more."""
    if not ids.is_thumbprint(fingerprint):
        raise UsageError("A fingerprint has 43 characters.")
    if not data.name.isprintable():
        raise UsageError("A name has printable characters alone.")
    made = desk.vamt.proxy.trust(person, fingerprint, data.name, trusted=data.trusted)
    return of(apirows.ListWriter, proxyshow.writer_json(made))


# --- files that come in, tables that go out -----------------------------------------------------------------------


@post("/imports", status_code=200, request_max_body_size=cil.MAX_FILE)
async def import_file(
    request: Request[Any, Any, Any],
    desk: At,
    person: By,
    name: Annotated[str, QueryParameter(description="What people call the file.", max_length=200)] = "",
) -> apirows.Import:
    """Take in a file, which is the body as it is: a computer list, a status list, or an old VAMT's list in XML.

    Twice is once. Of a damaged list only what the publisher signed counts. Names in a list count if its writer is pinned.
    """
    desk.works.permit(person, "import", {"name": name})
    async with uploads.received(request.stream(), cil.MAX_FILE) as file:
        done = await asyncio.to_thread(importing.take_in, desk.vamt, person, file, name)
    return of(apirows.Import, done.told())


@get("/tables/{table:str}", sync_to_thread=True, responses=FILE)
def export_table(
    desk: At,
    person: By,
    table: FromPath[Literal["machines", "log"]],
    kind: FromQuery[Literal["csv", "xlsx", "json"]] = "csv",
    where: Annotated[str, QueryParameter(max_length=4000)] = "",
    group: _Name = "",
    view: _Name = "",
) -> Stream:
    """Hand out machines and products, or the audit log, as a table. No cell of it is a formula."""
    if table == exportrows.LOG and (where or group or view):
        raise UsageError("The log has no machines to select.")
    chosen = None if table == exportrows.LOG else Selection((), group, where, view)
    name = f"{table}-{when(desk.vamt.office.clock.now())[:10]}.{kind}"
    with _file() as file:
        exportrows.write(desk.vamt, person, kind, file, chosen)
        return sent(file, name, _KINDS[kind])


@contextmanager
def _file() -> Iterator[BinaryIO]:
    """A file that is there until it was sent; at once gone if it is not to be."""
    with ExitStack() as closing:
        yield cast("BinaryIO", closing.enter_context(tempfile.TemporaryFile()))
        closing.pop_all()


def sent(file: IO[bytes], name: str, kind: str) -> Stream:
    """A file as an answer, piece by piece; `name` is plain ASCII without quotes."""
    file.seek(0)

    def pieces() -> Iterator[bytes]:
        with file:
            yield from iter(lambda: file.read(_PIECE), b"")

    headers = {"content-disposition": f'attachment; filename="{name}"'}
    return Stream(pieces(), media_type=kind, headers=headers)


ROUTES: list[Any] = [
    list_lists, show_receipt, export_answers, export_status_list, list_writers, trust_writer, import_file,
    export_table,
]  # fmt: skip
