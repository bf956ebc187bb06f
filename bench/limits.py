"""What this machine can do at best: the limits that the figures are measured against, probed in the same run."""

from __future__ import annotations

import asyncio
import contextlib
import multiprocessing
import os
import ssl
import statistics
import tempfile
import time
from typing import TYPE_CHECKING

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

MESSAGE = b"x" * 700
PAGE = b"x" * 4096


def per_second(call: Callable[[], object], seconds: float = 1.0) -> float:
    """How often `call` runs in a second: the best of five slices, so that a neighbour's noise does not count."""
    rates = []
    for _ in range(5):
        count, began = 0, time.perf_counter()
        while time.perf_counter() - began < seconds / 5:
            for _ in range(20):
                call()
            count += 20
        rates.append(count / (time.perf_counter() - began))
    return max(rates)


def arithmetic(core: int) -> dict[str, float]:
    """ES256 on one core: verifications and signatures a second with keys that are loaded already."""
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {core})
    try:
        key = ec.generate_private_key(ec.SECP256R1())
        public, algorithm = key.public_key(), ec.ECDSA(hashes.SHA256())
        signature = key.sign(MESSAGE, algorithm)
        verify = per_second(lambda: public.verify(signature, MESSAGE, algorithm))
        sign = per_second(lambda: key.sign(MESSAGE, algorithm))
    finally:
        os.sched_setaffinity(0, before)
    return {"verify": round(verify), "sign": round(sign)}


def fsyncs(folder: Path) -> float:
    """Durable 4 KiB appends a second in `folder`."""
    with tempfile.NamedTemporaryFile(dir=folder) as file:

        def once() -> None:
            file.write(PAGE)
            file.flush()
            os.fsync(file.fileno())

        return round(per_second(once))


def median_ms(call: Callable[[], object], times: int) -> float:
    """Median of `times` calls, in milliseconds."""
    taken = []
    for _ in range(times):
        began = time.perf_counter()
        call()
        taken.append(time.perf_counter() - began)
    return 1000 * statistics.median(taken)


@contextlib.contextmanager
def on_core(core: int):  # noqa: ANN201 - a generator of nothing
    """Run the block on one core; children that it starts inherit it."""
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {core})
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


class _Bare(asyncio.Protocol):
    """Answers each request with the same few bytes."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep the transport."""
        self._transport = transport

    def data_received(self, _data: bytes) -> None:
        """Answer and close."""
        assert isinstance(self._transport, asyncio.Transport)
        self._transport.write(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\n{}")
        self._transport.close()


def _serve_bare(certificate: str, key: str, port_out: object, core: int) -> None:
    os.sched_setaffinity(0, {core})

    async def serve() -> None:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(certificate, key)
        server = await asyncio.get_running_loop().create_server(_Bare, "127.0.0.1", 0, ssl=context)
        port_out.send(server.sockets[0].getsockname()[1])  # type: ignore[attr-defined]
        await server.serve_forever()

    asyncio.run(serve())


@contextlib.contextmanager
def bare_server(certificate: Path, key: Path, core: int):  # noqa: ANN201 - a generator of a port
    """A TLS server that does nothing but the handshake and two bytes: the limit for new connections."""
    ours, theirs = multiprocessing.Pipe()
    process = multiprocessing.Process(target=_serve_bare, args=(str(certificate), str(key), theirs, core))
    process.start()
    try:
        yield ours.recv()
    finally:
        process.terminate()
        process.join()
