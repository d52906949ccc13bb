"""Prints the tables of bad and of unusual input: what was given, and what the command answered.

    python tests/list_bad_input.py

Ends with status 1 if an answer is not the expected one.
"""

import sys
import tempfile
from pathlib import Path

sys.path[:0] = [str(Path(__file__).resolve().parents[2])]

from tests.support.bad_input_cases import BAD, FINE
from tests.support.bad_input_kit import bad_answer, copy_kit, fine_answer, make_kit


def main():
    """Runs every case in a copy of a small project folder; returns the exit status."""
    wrong = 0
    with tempfile.TemporaryDirectory(prefix="bad-input-") as folder:
        kit = make_kit(Path(folder, "kit"))
        for title, cases, run in (("Bad input", BAD, bad_answer), ("Unusual input", FINE, fine_answer)):
            print(f"{title}: {len(cases)} cases")
            for number, case in enumerate(cases):
                place = copy_kit(kit, Path(folder, title, str(number)))
                outcome, problems = run(case, place)
                print(line(case, outcome, problems, place), flush=True)
                wrong += bool(problems)
    print(f"{wrong} answers are wrong" if wrong else "every answer is as expected")
    return 1 if wrong else 0


def line(case, outcome, problems, place):
    """One line of the list."""
    message = " ".join(outcome.errors.removeprefix("error: ").replace(f"{place}/", "").split("\n")[:2])
    mark = "" if not problems else f"   WRONG: {'; '.join(problems)}"
    name = case.line.split()[0]
    return f"  {case.given} ({name}) -> {outcome.status}  {message.strip()}{mark}"


if __name__ == "__main__":
    sys.exit(main())
