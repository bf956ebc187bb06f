"""V6: roles viewer, operator, key administrator, auditor. The whole matrix, written down independently of the code."""

import pytest

from volact.vamt.people import LEAST, ROLES, may

# One column a role: viewer, operator, key administrator, auditor.
MATRIX = """
look                x x x x
look-at-log         - - x x
export-table        x x x x
save-view           x x x -
discover            - x x -
collect             - x x -
change-machines     - x x -
change-groups       - x x -
install-key         - - x -
remove-key          - - x -
activate            - x x -
deactivate          - - x -
set-host            - x x -
refresh-keys        - x x -
export              - x x -
import              - x x -
acquire             - x x -
apply               - x x -
schedule            - x x -
trust-host-keys     - - x -
give-login          - - x -
change-keys         - - x -
change-credentials  - - x -
change-publishers   - - x -
trust-writer        - - x -
change-settings     - - x -
change-people       - - x -
"""
ROWS = [line.split() for line in MATRIX.split("\n") if line]
CASES = [
    (role, action, mark == "x")
    for action, *marks in ROWS
    for role, mark in zip(("viewer", "operator", "key-administrator", "auditor"), marks, strict=True)
]


@pytest.mark.parametrize(("role", "action", "expected"), CASES)
def test_who_may_do_what(role: str, action: str, expected: bool) -> None:
    assert may(role, action) is expected


def test_the_matrix_is_whole() -> None:
    assert {action for action, *_ in ROWS} == set(LEAST)
    assert {role for role, _, _ in CASES} == set(ROLES)


@pytest.mark.parametrize(
    ("role", "action"),
    [("root", "look"), ("", "look"), ("key-administrator", "format-disk"), ("auditor", "")],
)
def test_what_is_not_known_nobody_may(role: str, action: str) -> None:
    assert not may(role, action)
