"""Which addresses have a port open that VAMT can use (V1): real listeners on loopback, each on an address of its own."""

import asyncio
import contextlib
import gc
import socket
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterable, Iterator
from typing import TypeVar

import pytest

from polling import SECONDS
from volact.protocol.problems import BrokenData
from volact.vamt.discovering import asking
from volact.vamt.discovering.asking import Limits, Ports, Progress
from volact.vamt.discovering.atonce import each, kept
from volact.vamt.inventory import Sighting

SOON = Limits(4, 5.0)
T = TypeVar("T")
R = TypeVar("R")


@contextlib.contextmanager
def listening(*addresses: str, port: int = 0) -> Iterator[int]:
    """Listen on one port of all the addresses, and say which."""
    with contextlib.ExitStack() as stack:
        for address in addresses:
            family = socket.AF_INET6 if ":" in address else socket.AF_INET
            one = stack.enter_context(socket.socket(family, socket.SOCK_STREAM))
            one.bind((address, port))
            one.listen()
            port = one.getsockname()[1]
        yield port


@contextlib.contextmanager
def nobody() -> Iterator[int]:
    """A port that is taken, and on which nobody listens."""
    with socket.socket() as one:
        one.bind(("127.9.0.99", 0))
        yield one.getsockname()[1]


def asked(
    addresses: list[str],
    ports: Ports,
    tell: Callable[[Progress], None] = lambda _: None,
    limits: Limits = SOON,
) -> list[Sighting]:
    async def all_of_them() -> list[Sighting]:
        return [one async for one in asking.discover(addresses, tell, ports, limits, "Web")]

    return asyncio.run(all_of_them())


@pytest.mark.sockets
def test_those_that_answer_are_found_and_nobody_else_is_called() -> None:
    up = [f"127.9.0.{number}" for number in range(1, 21)]
    with listening(*up, "127.9.1.1") as ssh, nobody() as winrm:
        heard: list[Progress] = []
        found = asked([*up, "127.9.0.98"], Ports(ssh, (winrm,)), heard.append)
    assert sorted(found) == sorted(
        Sighting("addresses", addresses=(one,), port=ssh, transport="ssh", group="Web") for one in up
    )
    assert heard[0] == Progress(21)
    assert [one.asked for one in heard] == list(range(22))
    assert heard[-1] == Progress(21, open=20, closed=1)


@pytest.mark.sockets
def test_winrm_comes_first_and_its_port_with_tls() -> None:
    """Only WinRM reads Windows' licence states (V2)."""
    with (
        listening("127.9.0.1", "127.9.0.2", "127.9.0.3") as ssh,
        listening("127.9.0.1", "127.9.0.2") as plain,
        listening("127.9.0.1") as tls,
    ):
        found = sorted(asked(["127.9.0.1", "127.9.0.2", "127.9.0.3"], Ports(ssh, (tls, plain))))
    assert [(one.addresses[0], one.port, one.transport, one.platform) for one in found] == [
        ("127.9.0.1", tls, "winrm", "windows"),
        ("127.9.0.2", plain, "winrm", "windows"),
        ("127.9.0.3", ssh, "ssh", ""),
    ]


@pytest.mark.sockets
def test_the_usual_port_need_not_be_said(monkeypatch: pytest.MonkeyPatch) -> None:
    with listening("127.9.0.1") as ssh, nobody() as winrm:
        monkeypatch.setattr(asking, "SSH", ssh)
        assert asked(["127.9.0.1"], Ports(ssh, (winrm,)))[0].port is None
    assert Ports() == (22, (5986, 5985))


@pytest.mark.sockets
def test_ipv6() -> None:
    with listening("::1") as ssh, nobody() as winrm:
        assert [one.addresses for one in asked(["::1"], Ports(ssh, (winrm,)))] == [("::1",)]


@pytest.mark.sockets
def test_who_does_not_answer_in_time_is_silent() -> None:
    """A listener whose queue is full answers no connect on Linux."""
    with contextlib.ExitStack() as stack:
        full = stack.enter_context(socket.socket())
        full.bind(("127.9.0.1", 0))
        full.listen(0)
        port = full.getsockname()[1]
        for _ in range(4):
            caller = stack.enter_context(socket.socket())
            caller.setblocking(False)
            caller.connect_ex(("127.9.0.1", port))
        heard: list[Progress] = []
        assert asked(["127.9.0.1"], Ports(port, ()), heard.append, Limits(1, 0.2)) == []
        assert heard[-1] == Progress(1, silent=1)


@pytest.mark.sockets
def test_an_address_to_which_no_way_leads_is_counted_as_such() -> None:
    """2001:db8::/32 is nobody's; where a default route leads on it would only be silent."""
    heard: list[Progress] = []
    asked(["2001:db8::fffe"], Ports(22, ()), heard.append, Limits(1, 0.2))
    assert heard[-1].no_route + heard[-1].silent == 1


@pytest.mark.sockets
def test_no_more_than_so_many_at_once() -> None:
    now = most = 0

    async def ask(item: int) -> int:
        nonlocal now, most
        now += 1
        most = max(most, now)
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        now -= 1
        return item * 2

    async def all_of_them() -> list[tuple[int, int]]:
        return [one async for one in each(range(100), ask, 7)]

    assert sorted(asyncio.run(all_of_them())) == [(number, 2 * number) for number in range(100)]
    assert (most, now) == (7, 0)


def test_who_stops_listening_stops_the_asking() -> None:
    async def stopped() -> tuple[int, int]:
        begun, ended = 0, 0

        async def ask(item: int) -> int:
            nonlocal begun, ended
            begun += 1
            try:
                if item:
                    await asyncio.Event().wait()
            finally:
                ended += 1
            return item

        answers = each(range(100), ask, 5)
        assert await anext(answers) == (0, 0)
        await answers.aclose()
        return begun, ended

    begun, ended = asyncio.run(stopped())
    assert begun == ended
    assert begun <= 6


def test_an_error_ends_it_and_comes_out() -> None:
    async def ask(item: int) -> int:
        if item == 3:
            raise BrokenData("three")
        await asyncio.sleep(0)
        return item

    async def all_of_them() -> list[tuple[int, int]]:
        return [one async for one in each(range(100), ask, 2)]

    with pytest.raises(BrokenData, match="three"):
        asyncio.run(all_of_them())


@pytest.mark.sockets
def test_few_files_mean_few_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """64 files are the process's own, and an address takes one a port; without any left, one at a time still."""
    seen: list[int] = []

    def spy(
        items: Iterable[T], ask: Callable[[T], Awaitable[R]], at_once: int
    ) -> AsyncGenerator[tuple[T, R], None]:
        seen.append(at_once)
        return each(items, ask, at_once)

    monkeypatch.setattr(asking, "each", spy)
    with listening("127.9.0.1") as ssh, nobody() as winrm:
        for files in (10, 66, 68, 10_000):
            monkeypatch.setattr(asking, "_most_files", lambda files=files: files)
            assert len(asked(["127.9.0.1"], Ports(ssh, (winrm,)), limits=Limits(200, 5.0))) == 1
    assert seen == [1, 1, 2, 200]
    monkeypatch.undo()
    assert asking._most_files() > 0


@pytest.mark.sockets
def test_no_file_left_is_an_error_and_not_silence() -> None:
    import resource

    before = resource.getrlimit(resource.RLIMIT_NOFILE)

    async def without_files() -> None:
        found = asking.discover(["127.9.0.1"], lambda _: None, Ports(1, ()), SOON)
        resource.setrlimit(resource.RLIMIT_NOFILE, (3, before[1]))
        try:
            await anext(found)
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, before)

    with pytest.raises(BrokenData, match="more files open"):
        asyncio.run(without_files())


def test_an_asking_that_is_broken_off_leaves_no_complaint_behind() -> None:
    """Ctrl-C: whoever waits is cancelled, and nothing is logged by the event loop afterwards."""
    complaints: list[object] = []

    async def hang(_item: int) -> None:
        await asyncio.Event().wait()

    async def broken_off() -> None:
        asyncio.get_running_loop().set_exception_handler(lambda _loop, said: complaints.append(said))
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(0.01):
                async for _ in each(range(100), hang, 3):
                    pass
        gc.collect()

    asyncio.run(broken_off())
    gc.collect()
    assert complaints == []


# --- keeping what is heard ----------------------------------------------------------------------------------------


async def _heard(
    raised: BaseException | None = None, hangs: asyncio.Event | None = None
) -> AsyncGenerator[int, None]:
    yield 1
    yield 2
    if hangs:
        hangs.set()
        await asyncio.Event().wait()
    if raised:
        raise raised


def _all_of(coming: Iterable[int | None], into: list[int]) -> int:
    for one in coming:
        if one is not None:
            into.append(one)
    return len(into)


def test_all_that_is_heard_is_kept() -> None:
    found: list[int] = []
    assert asyncio.run(kept(_heard(), lambda coming: _all_of(coming, found))) == 2
    assert found == [1, 2]


def test_what_ends_the_hearing_comes_after_what_was_heard() -> None:
    found: list[int] = []

    with pytest.raises(BrokenData, match="three"):
        asyncio.run(kept(_heard(BrokenData("three")), lambda coming: _all_of(coming, found)))
    assert found == [1, 2]


def test_a_keeper_that_fails_ends_the_hearing() -> None:
    """A disk that is full is said at once, and not when the last address has been waited for."""

    def keep(coming: Iterable[int | None]) -> None:
        for one in coming:
            if one is not None:
                raise BrokenData("full")

    with pytest.raises(BrokenData, match="full"):
        asyncio.run(asyncio.wait_for(kept(_heard(hangs=asyncio.Event()), keep), SECONDS))


def test_who_is_cancelled_has_kept_what_was_heard() -> None:
    found: list[int] = []

    async def stopped() -> None:
        hangs = asyncio.Event()
        keeping = asyncio.ensure_future(kept(_heard(hangs=hangs), keep))
        await hangs.wait()
        keeping.cancel()
        await keeping

    def keep(coming: Iterable[int | None]) -> None:
        try:
            _all_of(coming, found)
        finally:
            found.append(0)

    with pytest.raises(asyncio.CancelledError):
        asyncio.run(stopped())
    assert found == [1, 2, 0]
