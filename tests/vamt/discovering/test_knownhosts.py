"""Machines from known_hosts, and the keys that are pinned (V1, T29). Keys and hashed lines are made as OpenSSH makes them."""

import base64
import io
import shutil
import subprocess
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from volact.vamt.discovering import knownhosts
from volact.vamt.discovering.names import Found, Skipped
from volact.vamt.inventory import Sighting


def key(kind: str, text: str) -> str:
    """A host key in its form (RFC 4253 6.6): the length of the kind, the kind, the rest."""
    data = len(kind).to_bytes(4, "big") + kind.encode() + text.encode()
    return f"{kind} {base64.b64encode(data).decode()}"


A, B, C = key("ssh-ed25519", "one"), key("ecdsa-sha2-nistp256", "two"), key("ssh-rsa", "three")


def read(text: str | bytes, group: str = "") -> list[Found]:
    data = text.encode() if isinstance(text, str) else text
    return list(knownhosts.discover(io.BytesIO(data), group))


def seen(
    name: str = "",
    domain: str = "",
    addresses: tuple[str, ...] = (),
    keys: tuple[str, ...] = (A,),
    port: int | None = None,
) -> Sighting:
    return Sighting("known-hosts", name, domain, addresses, port, "ssh", host_keys=keys)


@pytest.mark.parametrize(
    ("text", "right"),
    [
        ("", []),
        ("# nothing\n\n   \n", []),
        (f"web1 {A}\n", [seen("web1")]),
        (f"  Web1.Corp.Example {A} root@web1 of 2020\r\n", [seen("web1", "corp.example")]),
        (f"192.0.2.1 {A}", [seen(addresses=("192.0.2.1",))]),
        (f"2001:DB8::1 {A}", [seen(addresses=("2001:db8::1",))]),
        (f"web1,192.0.2.1 {A}", [seen("web1", addresses=("192.0.2.1",))]),
        (f"[web1]:2222 {A}", [seen("web1", port=2222)]),
        (f"[web1]:22 {A}", [seen("web1")]),
        (f"[web1]:65535 {A}", [seen("web1", port=65535)]),
        (f"[2001:db8::1]:2222 {A}", [seen(addresses=("2001:db8::1",), port=2222)]),
        (f"[web1]:2222,[192.0.2.1]:2222 {A}", [seen("web1", addresses=("192.0.2.1",), port=2222)]),
        (f"web1,[192.0.2.1]:2222 {A}", [seen("web1")]),
        (f"web1 {A}\nweb1 {B}\nweb1 {A}\n", [seen("web1", keys=(A, B))]),
        (f"web1 {A}\n[web1]:2222 {B}\n", [seen("web1"), seen("web1", keys=(B,), port=2222)]),
        (f"web1,web1.corp.example {A}", [seen("web1", "corp.example")]),
        (f"web1,web2 {A}", [seen("web1"), seen("web2")]),
        (f"web1,192.0.2.1 {A}\n192.0.2.1 {B}", [seen("web1", addresses=("192.0.2.1",), keys=(A, B))]),
        (f"192.0.2.1 {B}\nweb1,192.0.2.1 {A}", [seen("web1", addresses=("192.0.2.1",), keys=(A, B))]),
        (f"web1,192.0.2.1,192.0.2.1 {A}", [seen("web1", addresses=("192.0.2.1",))]),
    ],
)
def test_what_a_file_means(text: str, right: list[Sighting]) -> None:
    assert read(text) == right


def test_an_address_that_two_machines_had_gives_its_keys_to_neither() -> None:
    """DHCP gives an address to one machine after the other."""
    found = read(f"web1,192.0.2.1 {A}\nweb2,192.0.2.1 {B}\n192.0.2.1 {C}\n")
    assert found == [
        seen("web1", addresses=("192.0.2.1",)),
        seen("web2", addresses=("192.0.2.1",), keys=(B,)),
        seen(addresses=("192.0.2.1",), keys=(C,)),
    ]


@pytest.mark.parametrize(
    ("line", "said"),
    [
        (f"*.corp.example {A}", "is a pattern"),
        (f"web? {A}", "is a pattern"),
        (f"!web1 {A}", "is a pattern"),
        (f"@cert-authority *.corp.example {A}", "a certificate authority's key"),
        (f"@revoked * {B}", "its key is revoked, and pinned nowhere"),
        (f"@other web1 {A}", "'@other' is no marker"),
        (f"@revoked {A}", "no host key"),
        ("web1", "no host key"),
        ("web1 ssh-ed25519", "no host key"),
        ("web1 ssh-ed25519 %%%", "no host key"),
        ("web1 ssh-ed25519 AAAA", "no host key"),
        (f"web1 ssh-rsa {A.split()[1]}", "no host key"),
        (f"web1 {key('ssh-ed25519', '')}", "no host key"),
        (f"web1 x509-x {A.split()[1]}", "no host key"),
        ("web1 1024 35 123456789", "SSH protocol 1"),
        (f"[web1]:0 {A}", "no port from 1 to 65535"),
        (f"[web1]:65536 {A}", "no port from 1 to 65535"),
        (f"[web1] {A}", "is no host"),
        (f"we\x1b[31mb {A}", "is no host"),
        (f"localhost {A}", "is no host"),
        (f"web1,web2,192.0.2.1 {A}", "may be of any of its names"),
        ("w\x00 " + A, "is no host"),
        ("x" * 65_537, "longer than 65,536 bytes"),
        ("x" * 200_000, "longer than 65,536 bytes"),
    ],
)
def test_what_names_no_machine_is_left_out_with_its_line(line: str, said: str) -> None:
    found = read(f"# first\n{line}\nweb9 {C}\n")
    left_out = [one for one in found if isinstance(one, Skipped)]
    assert [one.where for one in left_out] == ["line 2"]
    assert said in left_out[0].reason
    assert left_out[0].reason.isprintable()
    assert seen("web9", keys=(C,)) in found


def test_a_line_that_is_no_text_is_left_out() -> None:
    assert read(b"\xff\n" + f"web1 {A}".encode()) == [Skipped("line 1", "it is not UTF-8"), seen("web1")]


def test_the_keys_that_are_revoked_are_named() -> None:
    text = f"web1 {A}\n@revoked web2 {B} gone\n@revoked * {B}\n@revoked |1|x|y {C}\n@revoked {A}\n@cert-authority * {A}\n"
    assert knownhosts.revoked(io.BytesIO(text.encode())) == sorted((B, C))


def test_a_revoked_key_is_pinned_nowhere() -> None:
    """Wherever the lines stand; the machine's other keys are pinned."""
    found = read(f"web1 {A}\nweb1 {B}\nweb2 {A}\n@revoked * {A}\n")
    assert [one for one in found if isinstance(one, Sighting)] == [seen("web1", keys=(B,))]
    assert [one.where for one in found if isinstance(one, Skipped)] == ["line 1", "line 3", "line 4"]


def test_hashed_lines_are_counted_and_said() -> None:
    hashed = f"|1|F1E1KeoE/eEWhi10WpGv4OdiO6Y=|3988QV0VE8wmZL7suNrYQLITLCg= {A}\n"
    assert read(hashed + f"web1 {A}\n" + hashed) == [
        Skipped("line 1", "2 lines have hashed names (HashKnownHosts), which cannot be listed"),
        seen("web1"),
    ]


def test_what_openssh_makes_is_read(tmp_path: Path) -> None:
    """A real key, and a real hashed file."""
    program = shutil.which("ssh-keygen")
    if program is None:
        pytest.skip("ssh-keygen is not installed (Debian: openssh-client)")
    subprocess.run([program, "-q", "-t", "ed25519", "-N", "", "-f", tmp_path / "key"], check=True)
    real = " ".join((tmp_path / "key.pub").read_text().split()[:2])
    file = tmp_path / "known_hosts"
    file.write_text(f"web1.corp.example,192.0.2.1 {real}\n")
    assert read(file.read_bytes(), "Web") == [
        seen("web1", "corp.example", ("192.0.2.1",), (real,))._replace(group="Web")
    ]
    subprocess.run([program, "-q", "-H", "-f", file], check=True, stderr=subprocess.DEVNULL)
    (left_out,) = read(file.read_bytes())
    assert isinstance(left_out, Skipped)
    assert "2 lines have hashed names" in left_out.reason


hosts = st.from_regex(r"[a-z][a-z0-9-]{0,8}[a-z0-9](\.corp\.example)?", fullmatch=True)


@settings(max_examples=40)
@given(
    st.dictionaries(
        st.tuples(hosts.filter(lambda one: not one.startswith("localhost")), st.sampled_from([22, 2222])),
        st.lists(st.sampled_from([A, B, C]), min_size=1, unique=True),
        max_size=5,
    )
)
def test_each_machine_that_is_written_is_read_with_its_keys(
    machines: dict[tuple[str, int], list[str]],
) -> None:
    lines = [
        f"{name if port == 22 else f'[{name}]:{port}'} {one}"
        for (name, port), keys in machines.items()
        for one in keys
    ]
    found = read("\n".join(lines))
    assert {
        (".".join(filter(None, (one.name, one.domain))), one.port or 22): list(one.host_keys)
        for one in found
        if isinstance(one, Sighting)
    } == machines


@given(
    st.lists(
        st.sampled_from(["web1", "@revoked", "|1|", ",", "[", "]:", "\n", " ", "\xff", "0", *A.split(), B])
    )
)
def test_any_words_are_read(words: list[str]) -> None:
    for one in read("".join(words).encode("latin-1")):
        assert isinstance(one, Sighting) or one.reason.isprintable()
