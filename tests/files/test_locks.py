"""One process at a time, the dead make room, and whoever has lost a folder leaves it alone."""

import contextlib
import os
import re
import signal
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from segbalance.errors import InputError
from segbalance.files import locks
from segbalance.files.holders import Holder
from segbalance.files.locks import check_held, locked
from segbalance.files.writing import whole_folder, write_atomically, write_together
from tests.support.holding import beating, foreign_lock, held_elsewhere
from tests.support.places import ROOT

linux = pytest.mark.skipif(not os.path.exists("/proc/self/stat"), reason="processes are found in /proc")


@pytest.fixture
def quick(monkeypatch):
    """A heartbeat, and a silence that is told, within parts of a second."""
    monkeypatch.setattr(locks, "BEAT", 0.05)
    monkeypatch.setattr(locks, "SILENCE", 1.5)
    monkeypatch.setattr(locks, "POLL", 0.02)


def take(folder, option="--work_dir", **options):
    with locked(folder, "training", option, **options):
        return (folder / ".lock").read_bytes()


def test_a_folder_is_made_for_its_lock_and_goes_again_if_nothing_came_into_it(tmp_path):
    holder = Holder.read(take(tmp_path / "runs/first"))
    assert (holder.pid, holder.what) == (os.getpid(), "training")
    assert os.listdir(tmp_path) == []
    with pytest.raises(RuntimeError), locked(tmp_path / "runs/first", "training", "--work_dir"):
        raise RuntimeError
    assert os.listdir(tmp_path) == []
    with locked(tmp_path / "runs/first", "training", "--work_dir"):
        write_atomically(tmp_path / "runs/first/a.txt", "a")
    assert os.listdir(tmp_path / "runs/first") == ["a.txt"]


@linux
def test_a_folder_that_another_process_holds_is_refused_at_once(tmp_path):
    with held_elsewhere(tmp_path / "run") as process:
        there = Holder.read((tmp_path / "run/.lock").read_bytes())
        began = time.monotonic()
        with pytest.raises(InputError) as caught:
            take(tmp_path / "run")
        assert time.monotonic() - began < 5
        assert str(caught.value) == (
            f"--work_dir {tmp_path / 'run'} is in use: training by process {process.pid} on {there.host}, "
            f"since {there.since}. Wait for it, or end it, or choose another --work_dir."
        )
        with pytest.raises(InputError, match=r"Wait for it, or end it\.$"):
            take(tmp_path / "run", "--resume")
    assert re.fullmatch(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d[+-]\d\d:\d\d", there.since)


@linux
def test_a_process_that_was_killed_makes_room_at_once(tmp_path):
    with held_elsewhere(tmp_path / "run") as process:
        process.kill()
        os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)  # its parent takes no note of its end
        began = time.monotonic()
        assert Holder.read(take(tmp_path / "run")).pid == os.getpid()
        assert time.monotonic() - began < 5
    assert os.listdir(tmp_path / "run") == []


@linux
def test_a_number_that_is_used_again_does_not_hold(tmp_path):
    foreign_lock(tmp_path, host=Holder.here("").host, started="1")
    assert Holder.read(take(tmp_path)).started != "1"


# What a clock shows matters to nobody: one of 1970, and one of the year 2286.
@pytest.mark.parametrize("first", [None, 0, 10**19 - 10**18], ids=["now", "long ago", "to come"])
def test_a_lock_of_another_host_holds_while_it_beats(first, quick, tmp_path):
    foreign_lock(tmp_path)
    with beating(tmp_path / ".lock", first), pytest.raises(InputError, match="on elsewhere, since .* or end"):
        take(tmp_path)


@pytest.mark.parametrize("touched", [None, 0, 10**19 - 10**18], ids=["now", "long ago", "to come"])
def test_a_lock_of_another_host_is_dead_after_a_silence(touched, quick, tmp_path, capsys):
    holder = foreign_lock(tmp_path)
    if touched is not None:
        os.utime(tmp_path / ".lock", ns=(touched, touched))
    began = time.monotonic()
    assert Holder.read(take(tmp_path)).host == Holder.here("").host
    assert time.monotonic() - began >= 1.5
    assert capsys.readouterr().out == (
        f"{tmp_path} is in use: {holder}; waiting for its heartbeat. Without one in 2 s the folder is free.\n"
    )
    assert os.listdir(tmp_path) == []


def test_while_nobody_could_look_no_silence_counts(stub):
    now = [0.0]
    stub(locks.time, "monotonic", lambda: now[0])
    watch, seen = locks._Watch(), locks._Seen(b"", 1)
    for moment in (0.0, 1.0, 10_000.0, 10_001.0):  # a file server that was away, or a machine asleep
        now[0] = moment
        assert watch.alive(seen) is None
    assert watch.silent == 1.0 + locks.MOST_BETWEEN + 1.0
    assert watch.alive(locks._Seen(b"", 2)) is True


def test_a_holder_touches_its_lock(quick, tmp_path):
    with locked(tmp_path, "training", "--work_dir"):
        before = (tmp_path / ".lock").stat().st_mtime_ns
        deadline = time.monotonic() + 30
        while (tmp_path / ".lock").stat().st_mtime_ns == before and time.monotonic() < deadline:
            time.sleep(0.01)
        assert (tmp_path / ".lock").stat().st_mtime_ns != before


def test_the_stated_silence_is_many_heartbeats():
    assert 10 * locks.BEAT <= locks.SILENCE == 120


@pytest.mark.parametrize("content", [b"", b'{"host": "half'])
def test_a_lock_that_was_never_finished_is_dead_after_a_silence(content, quick, tmp_path):
    (tmp_path / ".lock").write_bytes(content)
    assert Holder.read(take(tmp_path)).pid == os.getpid()


@pytest.mark.parametrize("make", [os.mkfifo, os.mkdir, lambda path: os.symlink("nowhere", path)])
def test_what_is_no_file_is_refused(make, tmp_path):
    make(tmp_path / ".lock")
    with pytest.raises(InputError, match=r"--work_dir .* cannot be locked, with \.lock in it: "):
        take(tmp_path)


def test_a_place_that_cannot_be_locked_is_refused(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(InputError, match="--csv_dir .*/file cannot be locked, .*: File exists"):
        take(tmp_path / "file", "--csv_dir")


def below(folder):
    return {
        path.relative_to(folder).as_posix(): path.is_file() and path.read_text() for path in folder.rglob("*")
    }


def write_folder(folder):
    with whole_folder(folder / "below") as new:
        (new / "a.txt").write_text("mine")


@pytest.mark.parametrize(
    "write",
    [
        lambda folder: write_atomically(folder / "history.csv", "mine"),
        lambda folder: write_atomically(folder / "below/a.txt", "mine"),
        lambda folder: write_together({folder / "new.txt": "mine", folder / "history.csv": "mine"}),
        write_folder,
    ],
)
def test_whoever_has_lost_a_folder_stops_before_the_next_rename(write, tmp_path):
    folder = tmp_path / "run"
    with locked(folder, "training", "--work_dir"):
        write_atomically(folder / "history.csv", "mine")
        other = foreign_lock(folder)
        write_atomically(tmp_path / "elsewhere.txt", "mine")  # of other folders nothing is asked
        for name in ("history.csv", "below/a.txt"):
            (folder / name).parent.mkdir(exist_ok=True)
            (folder / name).write_text("the other's")
        before = below(folder)
        with pytest.raises(InputError) as caught:
            write(folder)
        assert below(folder) == before
    assert str(caught.value).startswith(f"{folder} is in use: {other}. The training of this process, since ")
    assert below(folder) == before, "the other's lock is not released"


def test_a_lock_that_is_gone_is_lost(tmp_path):
    with locked(tmp_path, "training", "--work_dir"):
        (tmp_path / ".lock").unlink()
        with pytest.raises(InputError, match=f"{tmp_path} has lost its lock .lock. The training of this"):
            write_atomically(tmp_path / "a.txt", "mine")
    assert os.listdir(tmp_path) == []


def test_a_folder_that_was_never_held_is_written_to_whoever_holds_it(tmp_path):
    foreign_lock(tmp_path)
    check_held([tmp_path / "report.html"])
    write_atomically(tmp_path / "report.html", "mine")
    with locked(tmp_path / "other", "training", "--work_dir"):
        write_atomically(tmp_path / "report.html", "mine")


def test_a_folder_is_known_by_all_its_names(tmp_path):
    (tmp_path / "run").mkdir()
    (tmp_path / "link").symlink_to("run")
    with locked(tmp_path / "link", "training", "--work_dir"):
        with locked(tmp_path / "run", "training", "--work_dir"):
            pass
        foreign_lock(tmp_path / "run")
        for name in ("run", "link"):
            with pytest.raises(InputError, match="is in use"):
                write_atomically(tmp_path / name / "a.txt", "mine")


def test_a_thread_may_enter_again_and_another_may_not(tmp_path):
    with locked(tmp_path, "training", "--work_dir"), ThreadPoolExecutor(1) as pool:
        content = take(tmp_path)
        assert (tmp_path / ".lock").read_bytes() == content, "the inner end is not the end"
        with pytest.raises(InputError, match=f"in use: training by process {os.getpid()} on"):
            pool.submit(take, tmp_path).result()
    assert os.listdir(tmp_path) == []


@linux
def test_patience_waits_for_a_holder_and_not_for_ever(tmp_path):
    with held_elsewhere(tmp_path) as process:
        began = time.monotonic()
        with pytest.raises(InputError, match="in use"):
            take(tmp_path, patience=0.5)
        assert time.monotonic() - began >= 0.5
        threading.Timer(0.3, process.terminate).start()
        assert Holder.read(take(tmp_path, patience=60)).pid == os.getpid()


@linux
def test_parts_of_a_folder_are_held_apart(tmp_path):
    with held_elsewhere(tmp_path, part="0-of-2"):
        with locked(tmp_path, "prediction", "--output", part="1-of-2"):
            assert sorted(os.listdir(tmp_path)) == [".lock-0-of-2", ".lock-1-of-2"]
            (tmp_path / ".lock-1-of-2").unlink()
            with pytest.raises(InputError, match="has lost its lock .lock-1-of-2"):
                write_atomically(tmp_path / "masks/a.png", "mine")
        with pytest.raises(InputError, match="--output .* is in use: training by process"):
            take(tmp_path, "--output", part="0-of-2")


@linux
@pytest.mark.usefixtures("ctrl_c")
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_releases_the_folder(number, tmp_path):
    with held_elsewhere(tmp_path / "run") as process:
        process.send_signal(number)
        status = process.wait(60)
    assert status == (143 if number == signal.SIGTERM else -signal.SIGINT)
    assert os.listdir(tmp_path) == []


def test_sigterm_is_left_to_whoever_sees_to_it(tmp_path):
    before = signal.signal(signal.SIGTERM, signal.SIG_IGN)
    try:
        with locked(tmp_path, "training", "--work_dir"):
            assert signal.getsignal(signal.SIGTERM) == signal.SIG_IGN
    finally:
        signal.signal(signal.SIGTERM, before)
    with locked(tmp_path, "training", "--work_dir"):
        assert callable(signal.getsignal(signal.SIGTERM))
    assert signal.getsignal(signal.SIGTERM) == before


def dead_locks(tmp_path, count):
    """Folders with the lock of a process of this host that has ended."""
    folders = [tmp_path / str(number) for number in range(count)]
    for folder in folders:
        foreign_lock(folder, host=Holder.here("").host, started="1")
    return folders


@linux
def test_one_of_several_threads_takes_a_dead_lock_over(tmp_path, monkeypatch):
    monkeypatch.setattr(locks, "POLL", 0.001)
    takers = 4
    barrier = threading.Barrier(takers)

    def compete(folder):
        with contextlib.ExitStack() as stack:
            barrier.wait()
            try:
                stack.enter_context(locked(folder, "training", "--work_dir"))
                won = True
            except InputError:
                won = False
            barrier.wait()
            return won

    with ThreadPoolExecutor(takers) as pool:
        for folder in dead_locks(tmp_path, 50):
            assert sum(pool.map(compete, [folder] * takers)) == 1
            assert os.listdir(folder) == []


COMPETES = """
import contextlib, sys
sys.path[:0] = [sys.argv[1]]
from segbalance.errors import InputError
from segbalance.files.locks import check_held, locked

input()  # until all are there
with contextlib.ExitStack() as stack:
    won = []
    for folder in sys.argv[2:]:
        with contextlib.suppress(InputError):
            stack.enter_context(locked(folder, "training", "--work_dir"))
            won.append(folder)
    print("all tried", flush=True)
    input()  # held until all have tried
    check_held([f"{folder}/a.txt" for folder in won])
    print(*won, sep="\\n", flush=True)
"""


@linux
def test_one_of_several_processes_takes_a_dead_lock_over(tmp_path):
    folders = [str(folder) for folder in dead_locks(tmp_path, 30)]
    words = [sys.executable, "-c", COMPETES, str(ROOT), *folders]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    takers = [subprocess.Popen(words, **pipes) for _ in range(3)]
    for taker in takers:
        taker.stdin.write("\n")
        taker.stdin.flush()
    assert {taker.stdout.readline() for taker in takers} == {"all tried\n"}
    for taker in takers:
        taker.stdin.write("\n")
        taker.stdin.flush()
    won = [folder for taker in takers for folder in taker.communicate(timeout=60)[0].split()]
    assert sorted(won) == sorted(folders)
    assert all(os.listdir(folder) == [] for folder in folders)
