"""YAML files of options: a person's own, and the config.yaml of a run."""

import dataclasses

import pytest
import yaml

from segbalance.errors import InputError
from segbalance.train.config import FilledIn, TrainConfig
from segbalance.train.config_file import CONFIG, load_config, parse_config, save_config

RUN = {"data_root": "d", "working_size": 64, "steps_per_epoch": 2, "transforms": {"default": "train"}}
RUN |= {"image_size": 32, "task": "segmentation", "loss": "dice+focal"}
FOUND = {"fingerprint": "f", "classes": ["sky", "1e3"], "class_colours": ["#000000", "#ff0000"]}


def parse(*words):
    return parse_config(TrainConfig, [str(word) for word in words], prog="train.py", description="")


def test_the_command_line_wins_wherever_it_stands(tmp_path):
    path = tmp_path / "run.yaml"
    path.write_text("epochs: 9\nbatch_size: 5\nlearning_rate: 1e-2\nwork_dir: 2026-01-31\n")
    config = parse("--epochs", 3, "--config", path)
    assert (config.optimisation.epochs, config.optimisation.batch_size) == (3, 5)
    assert config.optimisation.learning_rate == 0.01 and config.run.work_dir == "2026-01-31"
    assert parse(f"--config={path}").optimisation.epochs == 9


@pytest.mark.parametrize(
    "content, message",
    [
        (None, "cannot be read: No such file or directory; expected a YAML file of options"),
        ("epochs: [", "run.yaml is not valid YAML: "),
        ("- epochs\n- 3\n", r"expected lines like `name: value`, got \['epochs', 3\]"),
        ("nope: 1\n", "--config .*run.yaml: Option 'nope' is not accepted"),
        ("imagesize: 64\n", "run.yaml: Option 'imagesize' is not accepted; did you mean image_size?"),
        ("network: {image_size: 64}\n", "'network.image_size' is not accepted; did you mean image_size?"),
        ("device: 0\n", r"run.yaml: device: expected a list, got 0; write \[0\]"),
        ("epochs: 3\nepochs: 4\n", "run.yaml names epochs more than once; leave one of each"),
        ("epochs: 3\nseed: [\n", "run.yaml is not valid YAML: line 3: "),
    ],
)
def test_a_wrong_config_file_is_wrong_input(content, message, tmp_path):
    path = tmp_path / "run.yaml"
    if content is not None:
        path.write_text(content)
    with pytest.raises(InputError, match=message):
        parse("--config", path)


def test_what_a_run_filled_in_stands_under_a_key_of_its_own(tmp_path):
    config = TrainConfig.of(**RUN, **FOUND, decay_start=4)
    save_config(config, tmp_path)
    stored = yaml.safe_load((tmp_path / CONFIG).read_text())
    assert stored["filled_in"] == dataclasses.asdict(config.filled_in)
    assert stored.keys() == {*config.options(), "filled_in"}
    assert load_config(tmp_path) == config
    assert parse("--config", tmp_path / CONFIG, "--epochs", 7) == config.replace(epochs=7)


def test_earlier_versions_kept_it_among_the_options(tmp_path):
    (tmp_path / CONFIG).write_text(yaml.safe_dump(RUN | FOUND | {"decay_start": 4}))
    config = load_config(tmp_path)
    assert config.filled_in == FilledIn("f", ["sky", "1e3"], ["#000000", "#ff0000"], 4)


def test_a_run_from_before_there_was_a_choice(tmp_path):
    early = {name: value for name, value in RUN.items() if name not in ("task", "loss")}
    (tmp_path / CONFIG).write_text(yaml.safe_dump(early | {"fingerprint": "f"}))
    config = load_config(tmp_path)
    assert (config.data.task, config.optimisation.loss) == ("segmentation", "dice+focal")


@pytest.mark.parametrize("name", ["fingerprint", "classes", "class_colours", "decay_start", "filled_in"])
def test_what_a_run_fills_in_is_no_option(name):
    with pytest.raises(InputError, match=f"unrecognized arguments: --{name}"):
        parse(f"--{name}", 3)


@pytest.mark.parametrize(
    "filled_in, message",
    [
        ("yes", "filled_in is 'yes', expected what a run filled in, by name"),
        ({"nope": 1}, "Option 'nope' is not accepted"),
        ({"decay_start": "late"}, "decay_start: Expected int. Got value: late"),
        ({"classes": ["sky", "sky"], "class_colours": ["#000000"] * 2}, "classes that share a name"),
    ],
)
def test_what_is_wrong_in_it_is_named_with_the_file(filled_in, message, tmp_path):
    (tmp_path / CONFIG).write_text(yaml.safe_dump(RUN | {"filled_in": filled_in}))
    with pytest.raises(InputError, match=message) as caught:
        load_config(tmp_path)
    assert str(caught.value).startswith(str(tmp_path / CONFIG))
