"""The options of every command and script, to parse the command lines that texts show."""

import dataclasses
import shlex

from scripts.benchmarks import chaos, soak, training_step
from scripts.benchmarks import prediction as benchmark_predict
from scripts.benchmarks import resuming as benchmark_resume
from scripts.benchmarks.loader import BenchmarkOptions
from scripts.benchmarks.scale import ScaleOptions
from scripts.docs.figures import FigureOptions
from segbalance.commands import (
    clear_cache,
    compare_balance,
    contact_sheet,
    demo,
    doctor,
    evaluate,
    fix_masks,
    predict,
    train,
    transforms,
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

OPTIONS = {
    "scripts/docs/figures.py": FigureOptions,
    "scripts/demo.py": demo.DemoOptions,
    "segbalance transforms": transforms.TemplateOptions,
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
    "scripts/benchmarks/training_step.py": training_step.StepOptions,
    "scripts/verify_resume.py": verify_resume.VerifyOptions,
    "scripts/benchmarks/resuming.py": benchmark_resume.ResumeOptions,
    "scripts/replay_sample.py": replay_sample.ReplayOptions,
    "scripts/profile_loader.py": profile_loader.ProfileOptions,
}


def split_line(line):
    """(`train.py` or `segbalance transforms`, words behind it) of a line that may begin with `python`."""
    first, *words = shlex.split(line.removeprefix("python "))
    return (f"{first} {words[0]}", words[1:]) if first == "segbalance" else (first, words)


def parsed(line):
    """The options of `train.py --epochs 3`, by the command's own parser; InputError if it refuses them."""
    script, arguments = split_line(line)
    if script == "scripts/compare_runs.py":
        arguments = compare_runs.with_option_name(arguments)
    takes_config = any(field.type is TrainConfig for field in dataclasses.fields(OPTIONS[script]))
    parse = parse_config if takes_config else parse_options
    return parse(OPTIONS[script], arguments, prog=script, description="")
