"""An old VAMT's list: names, domains and MACs are taken; bombs are not (V7, T30, issue 5)."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from volact.protocol.problems import Refused
from volact.vamt import cilxml
from volact.vamt.inventory import Sighting

if TYPE_CHECKING:
    from collections.abc import Sequence

# Written from the names in RIGS.md "Formats".
LIST = """<?xml version="1.0" encoding="utf-8"?>
<v:SoftwareLicensingData xmlns:v="urn:example:old" Version="3">
 <v:Computers>
  <v:Computer Name="PC1" OSVersion="6.1" OSEdition="Ultimate" NetworkType="Domain" NetworkName="Corp.Example.com" Id="1">
   <v:MacAddresses><v:MacAddress>00-1B-21-AA-BB-CC</v:MacAddress><v:MacAddress>001b21aabbcd</v:MacAddress></v:MacAddresses>
   <v:Products><v:Product><v:Sku Id="x" Name="Some product" ApplicationId="y"/></v:Product></v:Products>
  </v:Computer>
  <v:Computer Name="PC2" NetworkType="Workgroup" NetworkName="WORKGROUP"/>
 </v:Computers>
</v:SoftwareLicensingData>
"""
ELEMENTS = """<SoftwareLicensingData><Computers><Computer><Name>pc3.lab.example</Name><NetworkName>else</NetworkName>
<MacAddresses>00:1b:21:aa:bb:ce; 00:00:00:00:00:00, no</MacAddresses><Products><Product><Name>not its name</Name></Product>
</Products></Computer></Computers></SoftwareLicensingData>"""


def read(text: str | bytes, size: int = 1 << 20) -> Sequence[Sighting]:
    data = text.encode() if isinstance(text, str) else text
    return list(cilxml.read(data[at : at + size] for at in range(0, len(data), size)))


def refused(text: str | bytes) -> str:
    with pytest.raises(Refused) as caught:
        read(text)
    assert caught.value.refusal.code == "list-malformed"
    return caught.value.refusal.detail


@pytest.mark.parametrize("size", [1, 7, 1 << 20])
def test_machines(size: int) -> None:
    assert read(LIST, size) == [
        Sighting(
            "cil-xml", "pc1", "corp.example.com", platform="windows", macs=("001b21aabbcc", "001b21aabbcd")
        ),
        Sighting("cil-xml", "pc2", platform="windows"),
    ]


def test_properties_as_elements() -> None:
    assert read(ELEMENTS) == [
        Sighting("cil-xml", "pc3", "lab.example", platform="windows", macs=("001b21aabbce",))
    ]


def test_a_secure_export_names_nobody() -> None:
    assert "secure export" in refused(
        "<SoftwareLicensingData><Computers><Computer Id='1'/></Computers></SoftwareLicensingData>"
    )


def test_a_list_without_machines() -> None:
    assert read("<SoftwareLicensingData/>") == []


BOMBS = [
    '<!DOCTYPE x [<!ENTITY a "b">]><SoftwareLicensingData>&a;</SoftwareLicensingData>',
    "<!DOCTYPE SoftwareLicensingData><SoftwareLicensingData/>",
    '<!DOCTYPE x SYSTEM "http://192.0.2.1/x.dtd"><SoftwareLicensingData/>',
    '<!DOCTYPE x [<!ENTITY a SYSTEM "file:///etc/hostname">]><SoftwareLicensingData>&a;</SoftwareLicensingData>',
    '<!DOCTYPE l [<!ENTITY l "l">'
    + "".join(f'<!ENTITY l{n} "{f"&l{n - 1};" * 10}">' for n in range(1, 10))
    + "]><SoftwareLicensingData>&l9;</SoftwareLicensingData>",
]


@pytest.mark.parametrize("text", BOMBS, ids=["entity", "doctype", "dtd", "file", "laughs"])
def test_bombs(text: str) -> None:
    assert "document type or an entity" in refused(text)


@pytest.mark.parametrize("encoding", ["nix", "utf-7", "shift_jis", "idna", "base64"])
def test_an_encoding_that_is_not_read_is_said(encoding: str) -> None:
    said = refused(f'<?xml version="1.0" encoding="{encoding}"?>\n<SoftwareLicensingData/>')
    assert said.startswith("Line 1, column ")
    assert "UTF-8" in said


def test_what_is_malformed_says_where() -> None:
    assert refused("<SoftwareLicensingData>\n <a></b></SoftwareLicensingData>").startswith(
        "Line 2, column 7: mismatched tag"
    )
    assert "no element found" in refused(b"")
    assert "not well-formed" in refused(b"<SoftwareLicensingData>\xff\xff</SoftwareLicensingData>")
    assert "begins with 'html'" in refused("<html/>")
    assert "undefined entity" in refused("<SoftwareLicensingData>&x;</SoftwareLicensingData>")


def test_limits(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each at its value and one beyond."""

    def nested(depth: int) -> str:
        return (
            "<SoftwareLicensingData>"
            + "<a>" * (depth - 1)
            + "</a>" * (depth - 1)
            + "</SoftwareLicensingData>"
        )

    assert read(nested(cilxml.MOST_DEPTH)) == []
    assert "deep" in refused(nested(cilxml.MOST_DEPTH + 1))
    monkeypatch.setattr(cilxml, "MOST_ELEMENTS", 3)
    flat = "<SoftwareLicensingData>{}</SoftwareLicensingData>"
    assert read(flat.format("<a/>" * 2)) == []
    assert "more than 3 elements" in refused(flat.format("<a/>" * 3))
    monkeypatch.setattr(cilxml, "MOST_ELEMENTS", 1000)
    monkeypatch.setattr(cilxml, "MOST_MACHINES", 2)
    assert len(read(flat.format('<Computer Name="a"/>' * 2))) == 2
    assert "more than 2 machines" in refused(flat.format('<Computer Name="a"/>' * 3))
    monkeypatch.setattr(cilxml, "MOST_BYTES", len(flat.format("")))
    assert read(flat.format("")) == []
    assert "larger than" in refused(flat.format(" "))


def test_a_long_text_is_cut() -> None:
    name = "<SoftwareLicensingData><Computer><Name>{}</Name></Computer></SoftwareLicensingData>"
    assert "secure export" in refused(name.format("x" * 1_000_000))


@settings(max_examples=100, deadline=None)
@given(st.integers(0, len(LIST)), st.integers(0, 60), st.binary(max_size=20))
def test_any_mutation(at: int, length: int, new: bytes) -> None:
    data = LIST.encode()
    try:
        found = read(data[:at] + new + data[at + length :], 50)
    except Refused:
        return
    assert all(one.source == "cil-xml" and one.name for one in found)
