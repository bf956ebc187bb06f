"""What a command imports before it does anything: it takes longer than most commands themselves."""

import subprocess
import sys

HEAVY = """
asyncssh pypsrp ldap3 dns granian litestar alembic xlsxwriter openpyxl rich http.client cryptography.x509
volact.calls volact.certificate
"""
PROGRAM = "import sys; from volact.vamt import cli, machinecommands; print(*sys.modules)"


def test_what_only_some_commands_need_is_left_to_them() -> None:
    done = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True, check=True)
    there = set(done.stdout.split())
    assert "volact.vamt.vamt" in there
    assert there.isdisjoint(HEAVY.split())
