"""Runs the authority as a service: one process, its HTTPS face, and the tick beside it."""

from __future__ import annotations

import asyncio
import secrets
from typing import TYPE_CHECKING

import structlog

from volact import db, http
from volact.authority.api import Face
from volact.authority.authority import Authority
from volact.authority.speed import Speed
from volact.config import SettingInvalid

if TYPE_CHECKING:
    import socket
    from collections.abc import Callable, Mapping

    from volact.authority.api import Pages
    from volact.authority.setup import Opened

_log = structlog.get_logger()


def authority_of(opened: Opened, speed: Speed, report: Callable[[str, Mapping[str, str]], None]) -> Authority:
    """The role over an opened authority."""
    return Authority(opened.clock, opened.store, opened.keyring, secrets.token_bytes, speed, report)


def serve(opened: Opened, listen: str, say: Callable[[str, int], None], pages: Pages | None = None) -> None:
    """Serve, with `pages` for people, until SIGTERM or SIGINT.

    `say` is called with host and real port when requests are taken.

    Raises:
        BrokenData: `port-taken`, or a certificate that cannot be used.
    """
    http.log_to_stderr(opened.settings.log_level)
    host, port = http.listen_on(listen or opened.settings.listen)
    listener = http.bind(host, port)
    try:
        asyncio.run(_serve(opened, listener.getsockname()[1], host, listener, say, pages))
    finally:
        listener.close()


async def _serve(
    opened: Opened,
    port: int,
    host: str,
    listener: socket.socket,
    say: Callable[[str, int], None],
    pages: Pages | None,
) -> None:
    speed = Speed(opened.settings)
    said = ""

    def reload_settings() -> None:
        nonlocal said
        try:
            speed.use(opened.settings_now())
            said = ""
        except SettingInvalid as error:
            if str(error) != said:  # once, not every second; the settings that held go on holding
                said = str(error)
                _log.error("settings", problem=said)

    def report(name: str, fields: Mapping[str, str]) -> None:
        _log.info(name, **fields)

    face = Face(authority_of(opened, speed, report), reload_settings, pages)
    await face.start()

    async def ready() -> None:
        _log.info("serving", store=db.describe(opened.store.engine), publisher=opened.keyring.publisher.pub)
        say(host, port)

    try:
        await http.serve(face.app(), listener, *opened.certificate(), ready)
    finally:
        await face.stop()
    _log.info("stopped")
