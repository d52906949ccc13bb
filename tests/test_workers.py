"""Worker processes: light, in order, and gone when they should be."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from workers import worker_pool

REPOSITORY = Path(__file__).resolve().parent.parent


def fail(number):
    """Runs in a worker."""
    raise ValueError(f"number {number}")


def test_results_come_in_order_and_errors_come_back():
    with worker_pool(2) as pool:
        assert list(pool.map(abs, range(-40, 0), chunksize=3)) == list(range(40, 0, -1))
        with pytest.raises(ValueError, match="^number 7$"):
            list(pool.map(fail, [7]))


def run_script(folder, text, **options):
    """Starts a script that stands outside the repository, without the usual guard around its work."""
    path = folder / "workers_script.py"
    path.write_text(f"import sys\nsys.path[:0] = {[str(REPOSITORY), str(REPOSITORY / 'tests')]}\n{text}")
    return subprocess.Popen(
        [sys.executable, path], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, **options
    )


def test_workers_import_neither_the_script_nor_what_it_imports(tmp_path):
    text = (
        "import pandas, inspection, pairs\n"
        "from workers import worker_pool\n"
        "names = ('tensorflow', 'albumentations', 'pandas', 'scipy', 'jsonargparse')\n"
        "with worker_pool(2) as pool:\n"
        "    pool.submit(inspection.usual_workers, 1).result()\n"
        "    code = f'[name for name in {names} if name in __import__(\"sys\").modules]'\n"
        "    print(*[pool.submit(eval, code).result() for _ in range(4)])\n"
    )
    output, errors = run_script(tmp_path, text).communicate(timeout=60)
    assert (output, errors) == ("[] [] [] []\n", "")


ENDLESS = (
    "import time\n"
    "from command import command\n"
    "from workers import worker_pool\n"
    "@command\n"
    "def main(argv):\n"
    "    with worker_pool(2) as pool:\n"
    "        workers = {pool.submit(__import__('os').getpid).result() for _ in range(50)}\n"
    "        slow = pool.map(time.sleep, [600] * 8)\n"
    "        time.sleep(0.5)\n"  # so that they are at work
    "        print(*workers, flush=True)\n"
    "        list(slow)\n"
    "sys.exit(main())\n"
)


def alive(pid):
    """True while the process runs; one that nobody waited for yet has ended all the same."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def wait_until_gone(pids, seconds=20):
    deadline = time.monotonic() + seconds
    while any(map(alive, pids)) and time.monotonic() < deadline:
        time.sleep(0.05)
    return not any(map(alive, pids))


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="looks for processes in /proc")
@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGKILL])
def test_workers_end_with_the_command(how, tmp_path):
    process = run_script(tmp_path, ENDLESS, start_new_session=True)
    workers = [int(word) for word in process.stdout.readline().split()]
    assert workers and all(map(alive, workers))
    if how == signal.SIGINT:  # as the terminal does: to the command and its workers
        os.killpg(process.pid, how)
    else:
        process.kill()
    _, errors = process.communicate(timeout=30)
    assert wait_until_gone(workers)
    if how == signal.SIGINT:
        assert (process.returncode, errors) == (130, "\ninterrupted\n")
