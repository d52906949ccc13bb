"""segbalance/runtime/screen.py."""

import io
import os
import sys

import pytest

from segbalance.errors import InputError
from segbalance.runtime.command_line import WRONG_INPUT, command
from segbalance.runtime.screen import Verbosity, is_terminal, say, set_verbosity


class Terminal(io.StringIO):
    def isatty(self):
        return True


@command
def main(argv):
    print("warning: not much data")
    print("a word of warning: none")
    raise InputError("no such folder")


@pytest.fixture
def no_choice(monkeypatch):
    monkeypatch.delenv("NO_COLOR", raising=False)
    monkeypatch.setenv("TERM", "xterm")


def test_a_terminal_has_colours(no_choice, monkeypatch):
    out, err = Terminal(), Terminal()
    monkeypatch.setattr("sys.stdout", out)
    monkeypatch.setattr("sys.stderr", err)
    assert main([]) == WRONG_INPUT
    assert (sys.stdout, sys.stderr) == (out, err)
    assert out.getvalue() == "\x1b[1;33mwarning:\x1b[0m not much data\na word of warning: none\n"
    assert err.getvalue() == "\x1b[1;31merror:\x1b[0m no such folder\n"


@pytest.mark.parametrize("name, value", [("NO_COLOR", "1"), ("TERM", "dumb")])
def test_who_wants_no_colours_gets_none(no_choice, monkeypatch, name, value):
    monkeypatch.setenv(name, value)
    monkeypatch.setattr("sys.stderr", Terminal())
    main([])
    assert sys.stderr.getvalue() == "error: no such folder\n"


def test_a_log_file_has_no_colours(no_choice, capsys):
    main([])
    assert "\x1b" not in "".join(capsys.readouterr())


def test_quiet_leaves_out_what_is_said_until_the_command_ends(capsys):
    @command
    def quiet(argv):
        set_verbosity(Verbosity.QUIET)
        say("meanwhile")

    say("before")
    quiet([])
    say("after")
    assert capsys.readouterr().out == "before\nafter\n"


def test_verbose_shows_tensorflows_lines_unless_the_environment_says_otherwise(monkeypatch):
    monkeypatch.setenv("TF_CPP_MIN_LOG_LEVEL", "2")
    set_verbosity(Verbosity.VERBOSE)
    assert os.environ["TF_CPP_MIN_LOG_LEVEL"] == "2"
    monkeypatch.delenv("TF_CPP_MIN_LOG_LEVEL")
    set_verbosity(Verbosity.VERBOSE)
    assert os.environ["TF_CPP_MIN_LOG_LEVEL"] == "0"
    set_verbosity(Verbosity.USUAL)


def test_a_stream_that_is_gone_is_no_terminal():
    assert not is_terminal(None)
