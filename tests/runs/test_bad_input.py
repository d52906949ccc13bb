"""Bad input ends with status 2, a message and nothing written; unusual input works."""

import os

import pytest

from tests.support.bad_input_cases import BAD, COMMANDS, FINE, UNKNOWN_OPTION
from tests.support.bad_input_kit import Case, bad_answer, copy_kit, fine_answer, make_kit


@pytest.fixture(scope="session")
def kit(tmp_path_factory):
    """The project folder that every case gets a copy of."""
    return make_kit(tmp_path_factory.mktemp("kit") / "kit")


@pytest.fixture
def folder(kit, tmp_path):
    """A copy of the project folder."""
    return copy_kit(kit, tmp_path / "kit")


@pytest.mark.parametrize("case", BAD, ids=lambda case: f"{case.given}: {case.line.split()[0]}")
def test_bad_input_is_answered_and_nothing_is_written(case, folder):
    assert bad_answer(case, folder)[1] == []


@pytest.mark.parametrize("case", FINE, ids=lambda case: case.given)
def test_unusual_input_works(case, folder):
    assert fine_answer(case, folder)[1] == []


@pytest.mark.skipif(os.geteuid() == 0, reason="needs another user: root may write everywhere")
def test_a_read_only_run_is_refused(folder):
    (folder / "run").chmod(0o500)
    case = Case(
        "", "replay_sample.py --work_dir run --step 0 --item 0", "not a folder that can be written to"
    )
    assert bad_answer(case, folder)[1] == []


def test_every_command_has_cases_of_its_own():
    commands = {case.line.split()[0] for case in BAD if case.given != UNKNOWN_OPTION}
    assert set(COMMANDS) - commands == set()
    assert len(BAD) >= 60 and len({(case.given, case.line) for case in BAD}) == len(BAD)


def test_the_tables_notice_what_they_are_for(folder):
    assert bad_answer(FINE[0], folder)[1][0] == "status 0, expected 2"
    (problem,) = bad_answer(Case("", BAD[0].line, "no such words", BAD[0].change), folder)[1]
    assert problem.startswith("no 'no such words' in")
