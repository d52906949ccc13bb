"""A command watched from outside: its time, its memory, and its progress bar in a terminal of its own."""

import os
import pty
import re
import select
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PROGRESS = re.compile(rb"(\d+)/\d+ \[")
# Runs a program as it is, and says when its loader has read the first batch.
TOLD = f"""
import runpy, sys
sys.argv = sys.argv[1:]
sys.path[0] = {str(ROOT)!r}
from segbalance.dataloader import reading
read = reading.BatchReader.read
def told(self, *batch):
    pixels = read(self, *batch)
    print("<first batch>", flush=True)
    reading.BatchReader.read = read
    return pixels
reading.BatchReader.read = told
runpy.run_path(sys.argv[0], run_name="__main__")
"""


def run_measured(words):
    """Runs a command to its end.

    Returns:
        dict of its `seconds`, processor time `cpu_s` (with its workers) and highest memory: `peak_mb` of the
        command's own process, `all_mb` with its workers.
    """
    started, own, together = time.perf_counter(), 0, 0
    process = subprocess.Popen([sys.executable, *map(str, words)], stdout=subprocess.DEVNULL)
    while True:
        ended, status, usage = os.wait4(process.pid, os.WNOHANG)
        if ended:
            break
        # Not ru_maxrss, which begins with what the parent held when it started the process.
        own, together = max(own, memory(process.pid, "VmHWM")), max(together, family_memory(process.pid))
        time.sleep(0.05)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise RuntimeError(f"{words[0]} ended with status {process.returncode}")
    return {
        "seconds": time.perf_counter() - started,
        "cpu_s": usage.ru_utime + usage.ru_stime,
        "peak_mb": own,
        "all_mb": max(own, together),
    }


def memory(pid, field):
    """MB of a line in /proc/<pid>/status (VmHWM: the highest so far, VmRSS: now); 0 once it has ended."""
    try:
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    except OSError:
        return 0
    return next((int(line.split()[1]) / 1024 for line in lines if line.startswith(field)), 0)


def processor_time(pid):
    """Seconds of processor time that a running process has taken, without its children."""
    user, system = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[11:13]
    return (int(user) + int(system)) / os.sysconf("SC_CLK_TCK")


def family_memory(pid):
    """Resident MB of a process and its descendants now; pages that they share count in each."""
    try:
        children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    except OSError:
        children = []
    return memory(pid, "VmRSS") + sum(map(family_memory, children))


def watch_training(words, steps=()):
    """Runs train.py in a terminal of its own until its progress bar has passed the last of `steps`.

    Args:
        steps: none, or two: the highest memory shortly before the second is compared with that shortly before
            the first, over half as many steps as the first.

    Returns:
        dict of `seconds` from the start to the first batch that the loader hands over; `first_step_s` to the
        end of the first step, and the processor time and the highest memory until then (see
        `run_measured`); `early_mb` and `late_mb` of the process before `steps`, and `late_over_early`.
    """
    started, figures, together, printed = time.perf_counter(), {}, 0, b""
    highest, last = {}, max(steps, default=1)  # {step: resident MB}
    first = None
    terminal, its_side = pty.openpty()
    process = subprocess.Popen([sys.executable, "-c", TOLD, *map(str, words)], stdout=its_side)
    os.close(its_side)
    try:
        while max(highest, default=0) < last:
            if select.select([terminal], [], [], 0.05)[0]:
                printed = printed[-1000:] + read_terminal(terminal)
            together = max(together, family_memory(process.pid))
            step = max(map(int, PROGRESS.findall(printed)), default=0)
            if b"<first batch>" in printed and first is None:
                first = time.perf_counter() - started
            if step and not figures:
                own = memory(process.pid, "VmHWM")
                figures |= {
                    "seconds": first,
                    "first_step_s": time.perf_counter() - started,
                    "cpu_s": processor_time(process.pid),
                    "peak_mb": own,
                    "all_mb": max(own, together),
                }
            if step:
                highest[step] = max(highest.get(step, 0), memory(process.pid, "VmRSS"))
            if process.poll() is not None and step < last:
                raise RuntimeError(f"{words[0]} ended with status {process.returncode}: {printed.decode()}")
    finally:
        process.kill()
        process.wait()
        os.close(terminal)
    if steps:
        early, late = (
            max(used for step, used in highest.items() if mark - steps[0] / 2 < step <= mark)
            for mark in (steps[0], max(highest))
        )
        figures |= {"early_mb": early, "late_mb": late, "late_over_early": late / early}
    return figures


def read_terminal(terminal):
    """What was printed to a terminal; nothing once the other side is closed."""
    try:
        return os.read(terminal, 65536)
    except OSError:
        return b""
