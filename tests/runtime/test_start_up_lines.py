"""TensorFlow's start-up lines are kept off the screen, and nothing else is."""

import os
import subprocess
import sys

import pytest

from segbalance.runtime.start_up_lines import without_start_up_lines
from tests.support.places import ROOT

NOISE = (
    "WARNING: All log messages before absl::InitializeLog() is called are written to STDERR\n"
    "I0000 00:00:1795853563.474409   25295 cudart_stub.cc:31] Could not find cuda drivers on your machine.\n"
)
NEWS = (
    "W0000 00:00:1795853563.474409   25295 gpu_device.cc:31] Cannot dlopen some GPU libraries.\n"
    "E0000 00:00:1795853563.474409   25295 cuda_fft.cc:467] Unable to register cuFFT factory.\n"
    "Intel MKL ERROR: ...\n"
    "no newline at the end"
)


def write(text):
    os.write(2, text.encode())


def test_start_up_lines_are_dropped_and_all_others_passed_on(capfd):
    with without_start_up_lines():
        write(NOISE + NEWS)
    assert capfd.readouterr().err == NEWS
    write(NOISE)
    assert capfd.readouterr().err == NOISE, "afterwards everything is shown again"


def test_what_was_said_before_an_exception_is_passed_on(capfd):
    with pytest.raises(ImportError), without_start_up_lines():
        print("why it failed", file=sys.stderr)
        write(NOISE)
        raise ImportError
    assert capfd.readouterr().err == "why it failed\n"


def test_without_a_standard_error_nothing_is_held_back(stub):
    def closed(descriptor):
        raise OSError

    stub(os, "dup", closed)
    with without_start_up_lines():
        entered = True
    assert entered


@pytest.mark.parametrize(
    "words",
    [("train.py", "--help"), ("-c", "from segbalance.legacy_keras import tf")],
    ids=["help", "import"],
)
def test_a_command_begins_with_its_own_words(words):
    done = subprocess.run([sys.executable, *words], cwd=ROOT, capture_output=True, text=True, timeout=180)
    assert (done.returncode, done.stderr) == (0, "")
