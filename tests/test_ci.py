""".ci/run: Chromium where it may be installed, and the tests in any case."""

import shutil
import subprocess

import pytest

from tests.support.places import ROOT


@pytest.fixture
def run(tmp_path):
    """Function (user's number, status of apt-get) that runs .ci/run; returns its outcome and calls."""
    programs, log = tmp_path / "bin", tmp_path / "log"
    (tmp_path / "clone/.ci").mkdir(parents=True)
    shutil.copy(ROOT / ".ci/run", tmp_path / "clone/.ci")
    programs.mkdir()
    for name in ("bash", "dirname", "timeout"):
        (programs / name).symlink_to(shutil.which(name))

    def program(name, text):
        (programs / name).write_text(f"#!{shutil.which('bash')}\n{text}\n")
        (programs / name).chmod(0o755)

    def run(user, apt_status=0, there=()):
        program("id", f"echo {user}")
        program("apt-get", f'echo "apt-get $*" >> {log}\nexit {apt_status}')
        program("make", f'echo "make $*" >> {log}')
        for name in there:
            program(name, "")
        done = subprocess.run(
            [tmp_path / "clone/.ci/run"], env={"PATH": str(programs)}, capture_output=True, text=True,
            stdin=subprocess.DEVNULL, timeout=60,
        )  # fmt: skip
        return done, log.read_text().splitlines()

    return run


def test_root_installs_what_the_browser_tests_need(run):
    done, calls = run(0)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert len(calls) == 3 and calls[0].endswith(" update") and calls[2] == "make test"
    assert calls[1].endswith(" install -y --no-install-recommends chromium chromium-driver")


def test_where_that_fails_the_other_tests_run(run):
    done, calls = run(0, apt_status=100)
    assert (done.returncode, calls[-1]) == (0, "make test")
    assert done.stdout == "Chromium could not be installed: the tests that need it are skipped\n"


@pytest.mark.parametrize(("user", "there"), [(1000, ()), (0, ("chromium", "chromedriver"))])
def test_nothing_is_installed_where_it_may_not_be_or_is_there(user, there, run):
    done, calls = run(user, there=there)
    assert (done.returncode, done.stdout, calls) == (0, "", ["make test"])
