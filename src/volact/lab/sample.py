"""Sample machines of the stories: a group *SecureNetwork* behind an air gap, one machine of which is activated already.

The estate that a well-known page of documentation shows: one of the isolated machines has a retail key, the others wait
for a volume key, which reaches them through a proxy (P1).
"""

from __future__ import annotations

GROUP = "SecureNetwork"
WITH_RETAIL_KEY = "sec-ws-01"
"""The one that was activated with a retail key before."""

MACHINES: dict[str, dict[str, object]] = {
    WITH_RETAIL_KEY: {
        "name": "sec-ws-01.secure.example",
        "uuid": "4c4c4544-0053-4510-8031-b4c04f5a0001",
        "board": "/9SEC0N1/CNFCW0019500AA/",
        "disk": "S5GXNX0T100001",
        "os": "a54ff53a5f1d36f1510e527fade60001",
        "net": "54:bf:64:7c:30:01",
        "cpu": "GenuineIntel 6 158 10",
    },
    "sec-ws-02": {
        "name": "sec-ws-02.secure.example",
        "uuid": "4c4c4544-0053-4510-8031-b4c04f5a0002",
        "board": "/9SEC0N2/CNFCW0019500AB/",
        "disk": "S5GXNX0T100002",
        "os": "a54ff53a5f1d36f1510e527fade60002",
        "net": "54:bf:64:7c:30:02",
        "cpu": "GenuineIntel 6 158 10",
    },
    "sec-ws-03": {
        "name": "sec-ws-03.secure.example",
        "uuid": "4c4c4544-0053-4510-8031-b4c04f5a0003",
        "board": "/9SEC0N3/CNFCW0019500AC/",
        "disk": "S5GXNX0T100003",
        "os": "a54ff53a5f1d36f1510e527fade60003",
        "net": "54:bf:64:7c:30:03",
        "cpu": "GenuineIntel 6 158 10",
    },
    "sec-vm-04": {
        "name": "sec-vm-04.secure.example",
        "uuid": "564d53ec-9a6e-7f43-8c1b-0a5d3e7c0004",
        "disk": "6000c29a7f3b0004",
        "os": "a54ff53a5f1d36f1510e527fade60004",
        "net": "00:50:56:9a:30:04",
        "cpu": "AuthenticAMD 25 1 1",
        "virtual": True,
        "hypervisor": "vmware",
    },
}
"""Their facts, by name."""
