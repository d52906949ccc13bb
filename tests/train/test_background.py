"""Writes go on in a thread, in order, and what goes wrong there is told."""

import os
import sys
import threading

import pytest

from segbalance.errors import InputError
from segbalance.train.background import BackgroundWriter
from segbalance.train.checkpointer import copy_step

WAIT = 20  # seconds, far more than anything here takes


def failing():
    raise InputError("the disk is full")


def test_writes_are_made_in_order_by_one_other_thread():
    made, threads = [], set()
    with BackgroundWriter() as writer:
        for number in range(50):
            writer.submit(lambda number=number: (made.append(number), threads.add(threading.get_ident())))
    assert made == list(range(50)), "leaving waits for all"
    assert len(threads) == 1 and threading.get_ident() not in threads


def test_nobody_waits_for_a_write_until_told_to():
    begun, free = threading.Event(), threading.Event()
    with BackgroundWriter() as writer:
        writer.submit(lambda: (begun.set(), free.wait(WAIT)))
        assert begun.wait(WAIT)
        writer.check()
        free.set()
        writer.wait()


@pytest.mark.parametrize("then", ["check", "submit", "wait"])
def test_an_error_is_raised_in_time_and_ends_the_writing(then):
    made, failed = [], threading.Event()
    with BackgroundWriter() as writer:
        writer.submit(lambda: made.append(1))
        writer.submit(lambda: (failed.set(), failing()))
        writer.submit(lambda: made.append(2))
        assert failed.wait(WAIT)
        with pytest.raises(InputError, match="the disk is full"):
            while True:  # the error may be underway still
                getattr(writer, then)(*[lambda: made.append(3)] * (then == "submit"))
        writer.submit(lambda: made.append(4))
    assert made == [1]


def test_an_error_of_the_last_write_is_raised_on_leaving():
    with pytest.raises(InputError, match="the disk is full"), BackgroundWriter() as writer:
        writer.submit(failing)


def test_what_ends_the_training_comes_before_what_ended_the_writing(capsys):
    with pytest.raises(KeyboardInterrupt), BackgroundWriter() as writer:
        writer.submit(failing)
        raise KeyboardInterrupt
    assert "the disk is full" in capsys.readouterr().out


class Copy:
    """Stands for a HostCopy: counts its updates."""

    def __init__(self, of_this_step):
        self.of_this_step, self.updates = of_this_step, 0

    def is_of_this_step(self):
        return self.of_this_step

    def update(self):
        self.updates += 1


@pytest.mark.parametrize("of_this_step", [True, False])
def test_a_copy_is_not_overwritten_while_it_is_written(of_this_step):
    written, copy = threading.Event(), Copy(of_this_step)
    with BackgroundWriter() as writer:
        writer.submit(lambda: threading.Event().wait(0.2))
        writer.submit(written.set)
        copy_step(copy, writer)
        assert copy.updates == (not of_this_step)
        assert written.is_set() or of_this_step


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere threads have no priority of their own")
def test_the_thread_gives_way_to_the_training():
    priorities = []
    with BackgroundWriter() as writer:
        writer.submit(lambda: priorities.append(os.getpriority(os.PRIO_PROCESS, threading.get_native_id())))
    own = os.getpriority(os.PRIO_PROCESS, threading.get_native_id())
    assert priorities == [max(10, own)]
