"""The README's commands exist and parse, and the files it names are there."""

import dataclasses
import re
import shlex
from pathlib import Path

import pytest

from scripts.benchmarks import chaos, soak
from scripts.benchmarks import prediction as benchmark_predict
from scripts.benchmarks import resuming as benchmark_resume
from scripts.benchmarks.loader import BenchmarkOptions
from scripts.benchmarks.scale import ScaleOptions
from segbalance.commands import (
    clear_cache,
    compare_balance,
    contact_sheet,
    doctor,
    evaluate,
    fix_masks,
    predict,
    train,
    verify_resume,
)
from segbalance.commands import compare as compare_runs
from segbalance.commands import export as export_model
from segbalance.commands import preview as preview_balance
from segbalance.commands import profile as profile_loader
from segbalance.commands import replay as replay_sample
from segbalance.commands import report as make_report
from segbalance.commands import sample_data as make_sample_data
from segbalance.data_processing.make_csv_file import ManifestOptions
from segbalance.runtime.command_line import parse_options
from segbalance.train.config import TrainConfig
from segbalance.train.config_file import parse_config
from segbalance.transforms.pipelines import TRANSFORMS
from tests.support.places import ROOT

README = (ROOT / "README.md").read_text(encoding="utf-8")
OPTIONS = {
    "data_processing.py": ManifestOptions,
    "scripts/make_sample_data.py": make_sample_data.Options,
    "train.py": train.TrainOptions,
    "scripts/preview_balance.py": preview_balance.PreviewOptions,
    "scripts/clear_cache.py": clear_cache.ClearOptions,
    "scripts/contact_sheet.py": contact_sheet.SheetOptions,
    "scripts/benchmarks/loader.py": BenchmarkOptions,
    "scripts/benchmarks/scale.py": ScaleOptions,
    "scripts/doctor.py": doctor.DoctorOptions,
    "scripts/evaluate.py": evaluate.EvaluateOptions,
    "scripts/make_report.py": make_report.ReportOptions,
    "scripts/compare_balance.py": compare_balance.CompareBalanceOptions,
    "scripts/compare_runs.py": compare_runs.CompareOptions,
    "scripts/predict.py": predict.PredictOptions,
    "scripts/export_model.py": export_model.ExportOptions,
    "scripts/benchmarks/prediction.py": benchmark_predict.PredictBenchmarkOptions,
    "scripts/fix_masks.py": fix_masks.FixOptions,
    "scripts/benchmarks/soak.py": soak.SoakOptions,
    "scripts/benchmarks/chaos.py": chaos.ChaosOptions,
    "scripts/verify_resume.py": verify_resume.VerifyOptions,
    "scripts/benchmarks/resuming.py": benchmark_resume.ResumeOptions,
    "scripts/replay_sample.py": replay_sample.ReplayOptions,
    "scripts/profile_loader.py": profile_loader.ProfileOptions,
}
COMMANDS = sorted(set(re.findall(r"python ((?:[a-z_]+/)?[a-z_]+\.py[^\n`]*)", README)) - {"train.py --help"})
FILES = sorted(set(re.findall(r"\b(?:[a-z_]+/)*[a-z_-]+\.(?:py|png|txt)\b", README)))
MADE = {"photo.png", "photo_mask.png", "contact_sheet.png", "curves.png", "my_transforms.py"}


def test_the_readme_shows_commands():
    assert len(COMMANDS) >= 6 and len(FILES) >= 15


@pytest.mark.parametrize("line", COMMANDS)
def test_commands_parse(line):
    script, *arguments = shlex.split(line)
    if script == "scripts/compare_runs.py":
        arguments = compare_runs.with_option_name(arguments)
    takes_config = any(field.type is TrainConfig for field in dataclasses.fields(OPTIONS[script]))
    parse = parse_config if takes_config else parse_options
    parsed = parse(OPTIONS[script], arguments, prog=script, description="")
    assert isinstance(parsed, OPTIONS[script])


@pytest.mark.parametrize("name", FILES)
def test_files_exist(name):
    assert Path(name).name in MADE or any((ROOT / folder / name).exists() for folder in ("", "scripts"))


@pytest.mark.parametrize("option", sorted(set(re.findall(r"(--[a-z_]+)", README))))
def test_options_exist(option):
    known = {name for options in OPTIONS.values() for name in options.__dataclass_fields__}
    known |= {*TrainConfig().options(), "config", "help"}
    assert option.removeprefix("--") in known


def steps(transform):
    """A pipeline as the README writes it."""
    names = []
    for step in transform.transforms:
        inner = (
            f"({', '.join(type(one).__name__ for one in step.transforms)})"
            if hasattr(step, "transforms")
            else ""
        )
        names.append(f"{type(step).__name__}{inner}")
    return ", ".join(names)


def test_the_table_of_pipelines_is_true():
    rows = dict(re.findall(r"^\| `(\w+)` \| (\w*(?:Resize|Flip).*?) \|", README, re.M))
    assert rows == {name: steps(function(64)) for name, function in TRANSFORMS.items()}


BLOCKS = [block for block in re.findall(r"^```python\n(.*?)^```", README, re.M | re.S) if "import" in block]


@pytest.mark.parametrize("block", BLOCKS)
def test_python_in_the_readme_runs(block):
    exec(compile(block, "README.md", "exec"), {})


def test_there_is_python_in_the_readme():
    assert any("TrainConfig.of(" in block for block in BLOCKS)
