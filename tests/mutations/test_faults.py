"""Is each fault one that can be planted?"""

import ast
import re

import pytest

from tests.mutations.faults import FAULTS, KINDS
from tests.mutations.runner import ROOT


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.name)
def test_a_fault_changes_one_place_and_leaves_code_that_parses(fault):
    text = (ROOT / fault.file).read_text("utf-8")
    planted = fault.planted_into(text)
    assert planted != text
    if fault.file.endswith(".py"):
        assert ast.dump(ast.parse(planted)) != ast.dump(ast.parse(text))  # and not only a comment


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.name)
def test_a_fault_has_a_kind_and_tests_that_exist(fault):
    assert re.fullmatch(r"[a-z0-9]+(-[a-z0-9]+)+", fault.name) and len(fault.name) <= 44
    assert fault.kind in KINDS
    assert 1 <= len(fault.tests) <= 3 and all((ROOT / path).exists() for path in fault.tests)


def test_names_are_unique_and_every_kind_is_planted():
    assert len({fault.name for fault in FAULTS}) == len(FAULTS)
    assert {fault.kind for fault in FAULTS} == set(KINDS)


@pytest.mark.parametrize("old", ["no such text", "import"])
def test_a_text_that_does_not_stand_there_once_is_refused(old):
    fault = FAULTS[0]
    with pytest.raises(ValueError, match=rf"^{fault.name}: its text stands \d+ times in {re.escape(fault.file)}, "):
        type(fault)(fault.name, fault.kind, fault.file, old, "", fault.tests).planted_into("import a\nimport b\n")
