"""A process is told from all others, and whether it runs is only said where it is known."""

import dataclasses
import json
import os
import subprocess
import sys

import pytest

from segbalance.files import holders
from segbalance.files.holders import Holder

linux = pytest.mark.skipif(not os.path.exists("/proc/self/stat"), reason="the kernel tells when it started")


def test_a_holder_comes_back_from_the_content_of_its_file():
    holder = Holder.here("training")
    assert Holder.read(holder.content()) == holder
    assert str(holder) == f"training by process {os.getpid()} on {holder.host}, since {holder.since}"
    assert Holder.here("training").token != holder.token


@pytest.mark.parametrize(
    "content",
    [b"", b"{", b"[]", b"7", b"\xff", b"[" * 4000, b'{"pid": 1}'],
)
def test_what_names_no_holder_is_none(content):
    assert Holder.read(content) is None


@pytest.mark.parametrize("change", [{"pid": 0}, {"pid": -1}, {"pid": "1"}, {"pid": 2**40}, {"host": 1}])
def test_a_holder_that_cannot_be_is_none(change):
    content = json.loads(Holder.here("training").content()) | change
    assert Holder.read(json.dumps(content).encode()) is None


@linux
def test_this_process_runs():
    assert Holder.here("training").runs() is True


@linux
def test_a_process_that_has_ended_does_not_run_even_if_nobody_took_note():
    process = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    holder = dataclasses.replace(
        Holder.here("training"), pid=process.pid, started=holders._started(process.pid)
    )
    assert holder.runs() is True
    process.kill()
    os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)  # a zombie from now on
    assert holder.runs() is False
    process.communicate()
    assert holder.runs() is False


@linux
def test_a_number_that_is_used_again_is_another_process():
    assert dataclasses.replace(Holder.here("training"), started="1").runs() is False


@pytest.mark.parametrize("change", [{"host": "elsewhere"}, {"machine": "another boot"}])
def test_of_another_host_or_boot_nothing_is_known(change):
    holder = dataclasses.replace(Holder.here("training"), pid=2**22 + 1, **change)
    assert holder.runs() is None


def test_where_the_system_hides_processes_nothing_is_known(stub):
    holder = dataclasses.replace(Holder.here("training"), started="1")
    stub(holders, "_started", lambda pid: "")
    assert holder.runs() is None


def test_no_process_is_signalled_on_windows(monkeypatch, stub):
    holder = Holder.here("training")
    monkeypatch.setattr(holders.os, "name", "nt")
    stub.never(holders.os, "kill")
    assert holder.runs() is None
