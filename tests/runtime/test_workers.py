"""Worker processes: light, in order, and gone when they should be."""

import functools
import gc
import mmap
import multiprocessing
import operator
import os
import signal
import subprocess
import sys
import threading
import time
import types
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from segbalance.errors import InputError
from segbalance.runtime.workers import MOST_DEATHS, SharedMemory, WorkerCrew, _hidden_script, worker_pool
from tests.support.places import ROOT


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
    path.write_text(f"import sys\nsys.path[:0] = {[str(ROOT)]}\n{text}")
    return subprocess.Popen(
        [sys.executable, path], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, **options
    )


def test_workers_import_neither_the_script_nor_what_it_imports(tmp_path):
    text = (
        "import pandas\n"
        "from segbalance.data_processing import inspection, pairs\n"
        "from segbalance.runtime.workers import worker_pool\n"
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
    "from segbalance.runtime.command_line import command\n"
    "from segbalance.runtime.workers import worker_pool\n"
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
@pytest.mark.usefixtures("ctrl_c")
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


def started(crew):
    deadline = time.monotonic() + 60
    while not crew.ready():
        assert time.monotonic() < deadline, "the processes never started"
        time.sleep(0.01)
    return crew


def work(shared, task, *arguments):
    """Runs in a process of a crew, which keeps the SharedMemory."""
    return task(shared, *arguments)


def echo(shared, value):
    return value, os.getpid()


def slow_echo(shared, offset, value):
    time.sleep(0.5)
    write(shared, offset, 1, 8)
    return value, os.getpid()


def die_once(shared, offset, number):
    """Ends the process the first time that it is called with a number."""
    if content(shared, offset, 8)[0] == number:
        return "alive"
    write(shared, offset, number, 8)
    os._exit(1)


def fail_with(shared, error):
    raise error


def content(shared, offset, size):
    return bytes(shared.part(offset, size))


def write(shared, offset, value, size):
    shared.part(offset, size)[:] = bytes([value]) * size


def count_up(shared, offset, times):
    """Counts in a way that loses numbers wherever two do so at once."""
    number = np.frombuffer(shared.part(offset, 8), np.int64)
    for _ in range(times):
        with shared.locked():
            before = int(number[0])
            time.sleep(0)  # lets another thread or process in
            number[0] = before + 1


def die_with_the_lock(shared):
    with shared.locked():
        os.kill(os.getpid(), signal.SIGKILL)


@pytest.fixture(scope="module")
def shared():
    return SharedMemory(100)


@pytest.fixture(scope="module")
def crew(shared):
    """Two processes that share memory with this one."""
    return started(WorkerCrew(2, work, shared))


def test_a_crew_answers_many_threads_at_once(crew):
    def ask(number):
        answers = [crew.call(echo, (number, question)) for question in range(100)]
        assert [value for value, _ in answers] == [(number, question) for question in range(100)]
        return {pid for _, pid in answers}

    with ThreadPoolExecutor(8) as threads:
        pids = set().union(*threads.map(ask, range(8)))
    assert len(pids) == 2 and os.getpid() not in pids


@pytest.mark.parametrize(
    "error", [ValueError("number 7"), FileNotFoundError(2, "gone"), KeyError("c")], ids=repr
)
def test_an_error_in_a_crew_comes_back_and_the_process_stays(crew, error):
    before = {crew.call(echo, 0)[1] for _ in range(10)}
    for _ in range(4):
        with pytest.raises(type(error)) as caught:
            crew.call(fail_with, error)
        assert caught.value.args == error.args
    assert {crew.call(echo, 0)[1] for _ in range(10)} == before


def test_what_cannot_be_sent_leaves_the_crew_usable(crew):
    for _ in range(4):
        with pytest.raises(Exception, match="pickle"):
            crew.call(echo, threading.Lock())
    assert crew.call(echo, 5)[0] == 5


def new_crew(count, *work):
    """(WorkerCrew, its processes)."""
    others = set(multiprocessing.active_children())
    small = WorkerCrew(count, *work)
    return small, list(set(multiprocessing.active_children()) - others)


MOMENTS = ("while it starts", "while it waits", "while it works")
LOST = "^a worker process ended before its time"


@pytest.mark.parametrize("moment", MOMENTS)
def test_a_process_that_is_killed_is_replaced_and_its_call_made_again(moment, shared, capfd):
    small, (process,) = new_crew(1, work, shared)
    if moment != "while it starts":
        started(small)
    if moment == "while it works":
        threading.Timer(0.2, process.kill).start()
    else:
        process.kill()
        process.join()
    offset = shared.extend(8)
    value, pid = started(small).call(slow_echo, offset, "the same")
    assert value == "the same" and pid != process.pid
    assert content(shared, offset, 1) == b"\x01", "the new process has the memory too"
    lines = capfd.readouterr().out.splitlines()
    assert [line for line in lines if line] == [
        f"warning: worker process {process.pid} was killed, perhaps because memory ran out; a new one takes "
        "its place and does its work again"
    ]


def test_processes_killed_at_once_are_all_replaced(shared, capfd):
    small, processes = new_crew(3, work, shared)
    started(small)
    with ThreadPoolExecutor(3) as threads:
        answers = [threads.submit(small.call, slow_echo, shared.extend(8), number) for number in range(3)]
        time.sleep(0.2)
        for process in processes:
            process.kill()
        assert [answer.result(60)[0] for answer in answers] == [0, 1, 2]
    assert capfd.readouterr().out.count("warning: worker process") == 3


@pytest.mark.parametrize("moment", MOMENTS)
def test_five_deaths_in_a_row_end_it(moment, capfd):
    small, (process,) = new_crew(1, operator.call, os._exit)
    if moment != "while it starts":
        started(small)
    if moment != "while it works":
        process.kill()
        process.join()
    for _ in range(3):  # all who ask are told
        with pytest.raises(InputError, match=LOST):
            started(small)
            small.call(7)
    out = capfd.readouterr().out
    assert out.count("warning: ") == MOST_DEATHS - 1
    assert out.count("ended with status 7; a new one") == MOST_DEATHS - (
        1 if moment == "while it works" else 2
    )


def test_an_answer_in_between_ends_the_row(shared):
    small, _ = new_crew(1, work, shared)
    started(small)
    marks = shared.extend(8)
    for number in range(MOST_DEATHS + 1):
        assert small.call(die_once, marks, number + 1) == "alive"


def test_a_process_that_dies_at_every_start_ends_it(capfd):
    small, _ = new_crew(1, operator.call, Mortal())
    with pytest.raises(InputError, match=LOST):
        started(small)
    assert capfd.readouterr().out.count("ended with status 9; a new one") == MOST_DEATHS - 1


def test_an_error_at_the_start_is_told_to_all_who_ask(capfd):
    small, _ = new_crew(2, operator.call, Stubborn())
    for _ in range(3):
        with pytest.raises(ValueError, match="^not here$"):
            started(small)
    assert capfd.readouterr().out == ""


@pytest.mark.skipif(os.name == "nt", reason="sends a signal")
def test_what_ends_a_whole_job_leaves_its_workers_at_work(shared):
    small, (process,) = new_crew(1, work, shared)
    started(small)
    process.terminate()  # as clusters do to all processes of a job, of which the first has yet to save
    assert small.call(echo, 1) == (1, process.pid)


def test_threads_that_start_processes_at_once_leave_the_script_in_its_place():
    script, seen = sys.modules["__main__"], []

    def hide(_):
        for _ in range(200):
            with _hidden_script:
                seen.append(sys.modules["__main__"])
                time.sleep(0)

    with ThreadPoolExecutor(4) as threads:
        list(threads.map(hide, range(4)))
    assert sys.modules["__main__"] is script and script not in seen


def test_a_crew_ends_with_its_last_user():
    others = set(multiprocessing.active_children())
    small = started(WorkerCrew(2, operator.call, abs))
    pids = [process.pid for process in set(multiprocessing.active_children()) - others]
    assert len(pids) == 2 and all(map(alive, pids)) and small.call(-3) == 3
    method = small.call
    del small
    gc.collect()
    assert method(-4) == 4, "a method keeps it"
    del method
    gc.collect()
    assert wait_until_gone(pids)


CREW = (
    "import multiprocessing, operator, os, signal, threading, time\n"
    "from segbalance.runtime.command_line import command\n"
    "from segbalance.runtime.workers import WorkerCrew\n"
    "@command\n"
    "def main(argv):\n"
    "    crew = WorkerCrew(2, operator.call, eval)\n"
    "    while not crew.ready():\n"
    "        time.sleep(0.01)\n"
    "    answers = []\n"
    '    slow = \'__import__("time").sleep(1.5) or __import__("os").getpid()\'\n'
    "    callers = [threading.Thread(target=lambda: answers.append(crew.call(slow))) for _ in range(2)]\n"
    "    [caller.start() for caller in callers]\n"
    "    time.sleep(0.3)\n"  # so that they are at work
    "    pids = [child.pid for child in multiprocessing.active_children()]\n"
    "    try:\n"
    "        print(*pids, flush=True)\n"
    "        time.sleep(600)\n"
    "    except KeyboardInterrupt:\n"
    "        [caller.join() for caller in callers]\n"
    "        assert sorted(answers) == sorted(pids)\n"
    "        print('finished,', crew.call('6 * 7'), flush=True)\n"
    "        raise\n"
    "sys.exit(main())\n"
)


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="looks for processes in /proc")
@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGKILL])
@pytest.mark.usefixtures("ctrl_c")
def test_a_crew_finishes_its_work_at_ctrl_c_and_ends_with_its_parent(how, tmp_path):
    process = run_script(tmp_path, CREW, start_new_session=True)
    pids = [int(word) for word in process.stdout.readline().split()]
    assert len(pids) == 2 and all(map(alive, pids))
    if how == signal.SIGINT:  # as the terminal does: to the command and its processes
        os.killpg(process.pid, how)
    else:
        process.kill()
    output, errors = process.communicate(timeout=30)
    assert wait_until_gone(pids)
    if how == signal.SIGINT:
        assert (process.returncode, output, errors) == (130, "finished, 42\n", "\ninterrupted\n")


LEAVES = (
    "import operator, threading, time\n"
    "from segbalance.runtime.workers import WorkerCrew\n"
    "crew = WorkerCrew(1, operator.call, time.sleep)\n"
    "while not crew.ready():\n"
    "    time.sleep(0.01)\n"
    "threading.Thread(target=crew.call, args=(600,), daemon=True).start()\n"
    "time.sleep(0.3)\n"
)


def test_a_program_that_leaves_does_not_wait_for_its_workers(tmp_path):
    process = run_script(tmp_path, LEAVES)
    output, _ = process.communicate(timeout=30)
    assert (process.returncode, output) == (0, ""), "and replaces none"


def test_shared_memory_is_the_same_here_and_there(crew, shared):
    offsets = [shared.extend(size) for size in (5000, 1, 5000)]  # after the processes were given it
    assert all(offset % mmap.ALLOCATIONGRANULARITY == 0 for offset in offsets)
    assert crew.call(content, offsets[0], 5000) == bytes(5000), "it begins as zeros"
    for value, (offset, size) in enumerate(zip(offsets, (5000, 1, 5000), strict=True), start=1):
        crew.call(write, offset, value, size)
        assert bytes(shared.part(offset, size)) == bytes([value]) * size
    write(shared, offsets[2], 9, 5000)
    assert [crew.call(content, offsets[2], 5000) for _ in range(4)] == [b"\t" * 5000] * 4
    assert content(shared, offsets[0], 5000) == b"\x01" * 5000, "parts do not overlap"


def test_one_thread_of_one_process_is_let_in_at_a_time(crew, shared):
    offset = shared.extend(8)
    with ThreadPoolExecutor(4) as threads:
        asked = [threads.submit(crew.call, count_up, offset, 500) for _ in range(2)]
        asked += [threads.submit(count_up, shared, offset, 500) for _ in range(2)]
        for answer in asked:
            answer.result(60)
    assert np.frombuffer(content(shared, offset, 8), np.int64)[0] == 4 * 500


def test_a_killed_process_lets_go_of_the_lock():
    own = SharedMemory(8)
    small = started(WorkerCrew(1, work, own))
    with pytest.raises(InputError, match="^a worker process ended before its time"):
        small.call(die_with_the_lock)
    counting = threading.Thread(target=count_up, args=(own, 0, 1), daemon=True)
    counting.start()
    counting.join(20)
    assert not counting.is_alive() and content(own, 0, 8)[0] == 1


@pytest.mark.skipif(not Path("/dev/shm").exists(), reason="looks for files in /dev/shm")
def test_shared_memory_takes_no_named_file_and_goes_with_its_holder():
    def files():
        large = [path.name for path in Path("/dev/shm").iterdir() if path.stat().st_size >= 10**8]
        return large, len(os.listdir("/proc/self/fd"))

    gc.collect()
    before = files()
    own = SharedMemory(10**8)
    write(own, 0, 1, 10**6)
    part = own.part(0, 10**6)
    assert files()[0] == before[0]
    del own
    gc.collect()
    assert part[10**6 - 1] == 1, "a part stays as long as somebody holds it"
    del part
    gc.collect()
    assert files() == before


def test_memory_is_taken_only_where_it_is_written_to():
    own = SharedMemory(10**12)
    assert own.extend(1) >= 10**12
    write(own, 0, 7, 5000)
    assert os.fstat(own._descriptor).st_blocks * 512 < 10**6


class Mortal:
    """What ends the process that unpacks it."""

    def __reduce__(self):
        return os._exit, (9,)


class Stubborn:
    """What cannot be unpacked in another process."""

    def __reduce__(self):
        return refuse, ()


def refuse():
    """Runs where a Stubborn is unpacked."""
    raise ValueError("not here")


def test_a_state_that_cannot_be_unpacked_is_told():
    with pytest.raises(ValueError, match="^not here$"):
        started(WorkerCrew(1, operator.call, Stubborn()))


def make_module(name):
    """Makes a module that no file stands for; runs in a process of a crew as it starts."""
    module = types.ModuleType(name)
    module.__dict__["answer"] = types.FunctionType((lambda *_: 42).__code__, vars(module), "answer")
    module.answer.__module__, module.answer.__qualname__ = name, "answer"
    sys.modules[name] = module
    return module


def test_a_process_prepares_before_it_unpacks(monkeypatch):
    monkeypatch.setitem(sys.modules, "made_up", None)  # so that it goes after the test
    state = make_module("made_up").answer
    crew = started(WorkerCrew(1, operator.call, state, functools.partial(make_module, "made_up")))
    assert crew.call() == 42
    with pytest.raises(ModuleNotFoundError, match="made_up"):
        started(WorkerCrew(1, operator.call, state))


def test_a_preparation_that_fails_is_told():
    with pytest.raises(ValueError, match="^not here$"):
        started(WorkerCrew(1, operator.call, abs, refuse))


class Slow:
    """What leaves a file, half a second after one began to unpack it."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return touch_later, (self.path,)


def touch_later(path):
    """Runs where a Slow is unpacked."""
    time.sleep(0.5)
    path.touch()


def test_a_state_that_is_large_and_slow_does_not_keep_its_sender(tmp_path):
    crew = WorkerCrew(1, operator.call, [Slow(tmp_path / "unpacked"), bytes(3 * 2**20)])
    assert not (tmp_path / "unpacked").exists()
    started(crew)
    assert (tmp_path / "unpacked").exists()
