"""What Windows reports of itself, mapped from the documented properties (V2)."""

from typing import Any

import pytest

from volact.facts import Facts, described
from volact.protocol.problems import Refusal
from volact.vamt.collecting import windows
from volact.vamt.inventory import Product, Report

NOW = 1_800_000_000
UUID = "4c4c4544-0043-4e10-8057-b7c04f573233"
ROW = {
    "ID": "2de67392-b7a7-462a-b1ca-108dd189f588",
    "Name": "Windows(R), Professional edition",
    "LicenseStatus": "1",
    "LicenseStatusReason": "1074066433",
    "GracePeriodRemaining": "43200",
    "PartialProductKey": "T83GX",
    "ProductKeyChannel": "Volume:GVLK",
    "KeyManagementServiceMachine": "",
    "KeyManagementServicePort": "0",
    "DiscoveredKeyManagementServiceMachineName": "kms.corp.example",
    "DiscoveredKeyManagementServiceMachinePort": "1688",
}
SERVICE = {"Version": "10.0.19041.1", "ClientMachineID": "a0e1c0de-0000-4000-8000-000000000001"}
COMPUTER = {
    "Name": "DESK7",
    "Domain": "corp.example",
    "PartOfDomain": "TRUE",
    "Manufacturer": "VMware, Inc.",
    "Model": "VMware7,1",
}


def found(*rows: dict[str, str], **more: dict[str, str]) -> dict[str, list[dict[str, str]]]:
    classes = {
        "SoftwareLicensingService": SERVICE,
        "Win32_ComputerSystem": COMPUTER,
        "Win32_OperatingSystem": {"Caption": "Microsoft Windows 11 Pro", "Version": "10.0.22631"},
        "Win32_ComputerSystemProduct": {"UUID": UUID.upper()},
        **more,
    }
    return {"SoftwareLicensingProduct": list(rows), **{name: [row] for name, row in classes.items()}}


def report(*rows: dict[str, str], **more: dict[str, str]) -> Report:
    value = windows.report(found(*rows, **more), NOW)
    assert isinstance(value, Report), value
    return value


def test_a_machine_in_a_domain() -> None:
    assert report(ROW) == Report(
        name="desk7",
        domain="corp.example",
        platform="windows",
        system="Microsoft Windows 11 Pro 10.0.22631",
        identity=described(Facts({"uuid": UUID}))["identity"],  # what a client there would say
        virtual=True,
        hypervisor="vmware",
        products=(
            Product(
                "microsoft",
                "Windows(R), Professional edition",
                1,
                cmid=SERVICE["ClientMachineID"],
                channel="Volume:GVLK",
                partial_key="T83GX",
                expires=NOW + 43_200 * 60,
                host="kms.corp.example:1688",
                reason="0x4004F401",
            ),
        ),
    )


@pytest.mark.parametrize("state", range(7))
def test_states_are_windows_own(state: int) -> None:
    assert report(ROW | {"LicenseStatus": str(state)}).products[0].state == state


@pytest.mark.parametrize("state", ["7", "-1", "", "one", "1.0", "²"])
def test_a_state_that_windows_does_not_have_refuses_the_answer(state: str) -> None:
    value = windows.report(found(ROW, ROW | {"ID": "x", "Name": "y", "LicenseStatus": state}), NOW)
    assert isinstance(value, Refusal)
    assert value.code == "answer-nonsense"


@pytest.mark.parametrize(
    ("change", "wanted"),
    [
        ({"GracePeriodRemaining": "0"}, {"expires": None}),
        ({"GracePeriodRemaining": ""}, {"expires": None}),
        ({"GracePeriodRemaining": "1"}, {"expires": NOW + 60}),
        ({"GracePeriodRemaining": "10000000"}, {"expires": NOW + 600_000_000}),
        ({"GracePeriodRemaining": "10000001"}, {"expires": None}),
        ({"LicenseStatusReason": "-1073418160"}, {"reason": "0xC004F050"}),
        ({"LicenseStatusReason": ""}, {"reason": ""}),
        ({"KeyManagementServiceMachine": "set.example"}, {"host": "set.example"}),
        (
            {"KeyManagementServiceMachine": "set.example", "KeyManagementServicePort": "1689"},
            {"host": "set.example:1689"},
        ),
        (
            {"KeyManagementServiceMachine": "set.example", "KeyManagementServicePort": "65536"},
            {"host": "set.example"},
        ),
        ({"DiscoveredKeyManagementServiceMachineName": ""}, {"host": ""}),
        ({"Name": ""}, {"product": ROW["ID"]}),
        ({"Name": "\x1b[2J" + "x" * 999}, {"product": "?[2J" + "x" * 116}),
    ],
)
def test_properties(change: dict[str, str], wanted: dict[str, Any]) -> None:
    product = report(ROW | change).products[0]
    assert {name: getattr(product, name) for name in wanted} == wanted


def test_products_of_one_name_are_told_apart_by_their_id() -> None:
    other = ROW | {"ID": "other-id"}
    names = [one.product for one in report(ROW, other).products]
    assert names == [ROW["Name"], f"{ROW['Name']} (other-id)"]
    assert isinstance(windows.report(found(ROW, other, other), NOW), Refusal)
    assert isinstance(windows.report(found({"LicenseStatus": "1"}), NOW), Refusal)


def test_no_more_products_than_may_be() -> None:
    rows = [ROW | {"Name": f"p{n}"} for n in range(1001)]
    assert len(report(*rows[:1000]).products) == 1000
    assert isinstance(windows.report(found(*rows), NOW), Refusal)


@pytest.mark.parametrize(
    ("computer", "wanted"),
    [
        ({"PartOfDomain": "false", "Domain": "WORKGROUP"}, ("desk7", "", True, "vmware")),
        ({"Name": "\x1b[2J"}, ("", "corp.example", True, "vmware")),
        ({"Domain": "corp.example -oProxyCommand=x"}, ("desk7", "", True, "vmware")),
        ({"Domain": "Corp.Example."}, ("desk7", "corp.example", True, "vmware")),
        ({"Domain": "CORP"}, ("desk7", "corp", True, "vmware")),
        (
            {"Manufacturer": "Microsoft Corporation", "Model": "Virtual Machine"},
            ("desk7", "corp.example", True, "hyper-v"),
        ),
        ({"Manufacturer": "Dell Inc.", "Model": "OptiPlex"}, ("desk7", "corp.example", False, "")),
    ],
)
def test_the_computer(computer: dict[str, str], wanted: tuple[str, str, bool, str]) -> None:
    value = report(ROW, Win32_ComputerSystem=COMPUTER | computer)
    assert (value.name, value.domain, value.virtual, value.hypervisor) == wanted


@pytest.mark.parametrize(
    "uuid",
    ["", "00000000-0000-0000-0000-000000000000", "ffffffff-ffff-ffff-ffff-ffffffffffff", "x", UUID[:-1]],
)
def test_a_placeholder_is_no_identity(uuid: str) -> None:
    assert not report(ROW, Win32_ComputerSystemProduct={"UUID": uuid}).identity


def test_classes_that_may_not_be_read_are_left_out() -> None:
    value = windows.report({"SoftwareLicensingProduct": [ROW], "SoftwareLicensingService": []}, NOW)
    assert isinstance(value, Report)
    assert value[:6] == ("", "", "windows", "", "", False)
    assert value.products[0].cmid == ""
