"""Data folders, manifests, configs and run folders are data: nothing in them is run, nothing else is read."""

import ast
import pickle
import subprocess
import sys
import zipfile
import zlib
from pathlib import Path

import h5py
import numpy as np
import pytest
import yaml

from segbalance.commands import contact_sheet, evaluate, predict, prepare, train
from segbalance.commands import export as export_model
from segbalance.commands import preview as preview_balance
from segbalance.commands import profile as profile_loader
from segbalance.commands import replay as replay_sample
from segbalance.commands import report as make_report
from segbalance.data_processing.manifest import read_manifest
from segbalance.errors import InputError, listing, visible
from segbalance.files.data_root import STAY_INSIDE
from segbalance.files.pixel_limit import MAX_PIXELS, pixel_advice
from segbalance.model.weight_files import weights_problem
from segbalance.runtime.command_line import DONE, WRONG_INPUT
from segbalance.train.config import TrainConfig
from segbalance.train.config_file import CONFIG, load_config, save_config
from segbalance.train.folder import BEST
from segbalance.train.trust import trusted_transforms
from tests.support.data import draw_pair, write_data, write_image
from tests.support.places import ROOT


def files_below(folder):
    """Every file below a folder, to tell whether something was written."""
    return sorted(path for path in Path(folder).rglob("*"))


@pytest.fixture
def refused(capsys, tmp_path):
    """Runs a command that must end with status 2 and write nothing; returns its message."""

    def run(main, *words):
        before = files_below(tmp_path)
        assert main(words) == WRONG_INPUT
        assert files_below(tmp_path) == before
        message = capsys.readouterr().err
        assert message.startswith("error: ") and "Traceback" not in message
        return message.removeprefix("error: ").rstrip("\n")

    return run


@pytest.fixture
def run_folder(manifests, tmp_path):
    """Makes the folder of a run that has no more than its config.yaml: function of the config's options."""

    def make(**options):
        root, csv_dir = manifests
        own = {"data_root": str(root), "csv_dir": str(csv_dir), "work_dir": str(tmp_path / "run")}
        own |= {
            "image_size": 32,
            "batch_size": 2,
            "epochs": 1,
            "steps_per_epoch": 2,
            "working_size": 64,
            "transforms": {"a": "valid"},
        }
        own |= {"backbone": "resnet18", "encoder_weights": "none"}
        own["fingerprint"] = read_manifest(csv_dir).training_fingerprint()
        (tmp_path / "run").mkdir(exist_ok=True)
        save_config(TrainConfig.of(**own | options), tmp_path / "run")
        return tmp_path / "run"

    return make


# Paths that lead out of the data root


@pytest.fixture
def secret(manifests, tmp_path):
    """A pair out of the data root, and links to it in it; returns its image."""
    root, _ = manifests
    image, mask = draw_pair(77)
    write_image(tmp_path / "outer/secret.png", image)
    write_image(tmp_path / "outer/secret_mask.png", mask)
    (root / "linked").symlink_to(tmp_path / "outer")
    (root / "link.png").symlink_to(tmp_path / "outer/secret.png")
    return tmp_path / "outer/secret.png"


def with_row(csv_dir, image):
    """Replaces the image of the first row of subset a."""
    path = csv_dir / "traina.csv"
    header, first, *rows = path.read_text().splitlines()
    path.write_text("\n".join([header, ",".join([str(image), *first.split(",")[1:]]), *rows, ""]))


WAYS_OUT = [
    "../outer/secret.png",
    "train/../../outer/secret.png",
    "linked/secret.png",
    "link.png",
    "absolute",
]


@pytest.mark.parametrize("way", WAYS_OUT)
def test_rows_that_lead_out_are_refused_and_may_be_allowed(way, manifests, secret):
    root, csv_dir = manifests
    way = str(secret) if way == "absolute" else way
    with_row(csv_dir, way)
    with pytest.raises(InputError) as caught:
        read_manifest(csv_dir)
    assert str(caught.value) == (
        "paths that lead out of the data root: 1\n"
        f"  {csv_dir}/traina.csv line 2: images is {way!r}, which is {secret}\n{STAY_INSIDE}"
    )
    assert read_manifest(csv_dir, allow_outside=True).train["a"]["images"][0] == way


def test_all_ways_out_are_named_at_once_and_nothing_there_is_read(manifests, secret, stub):
    root, csv_dir = manifests
    rows = [f"{way},linked/secret_mask.png" for way in WAYS_OUT[:4]] + ["train/images/a/none.png,"]
    (csv_dir / "traina.csv").write_text("\n".join(["images,masks", *rows, ""]))
    stub.never("segbalance.data_processing.rows.inspect_pairs")
    with pytest.raises(InputError) as caught:
        read_manifest(csv_dir)
    message = str(caught.value)
    assert message.startswith("paths that lead out of the data root: 8\n")
    for line in range(2, 6):
        assert (
            f"{csv_dir}/traina.csv line {line}: images is {WAYS_OUT[line - 2]!r}, which is {secret}\n"
            in message
        )
        assert (
            f"line {line}: masks is 'linked/secret_mask.png', which is {secret.with_stem('secret_mask')}\n"
            in message
        )
    assert (
        f"rows that are wrong: 1\n  {csv_dir}/traina.csv line 6: images is 'train/images/a/none.png'"
        in message
    )


def test_short_paths_of_the_tutorial_do_not_lead_out(manifests, tmp_path):
    root, csv_dir = manifests
    with_row(csv_dir, "/a/0.png")
    assert read_manifest(csv_dir).train["a"]["images"][0] == "train/images/a/0.png"
    with_row(csv_dir, "C:\\data\\0.png")
    with pytest.raises(InputError, match=r"is not a file; paths are relative to the data root, with /"):
        read_manifest(csv_dir)


def test_short_paths_do_not_lead_out_through_links(manifests, tmp_path):
    root, csv_dir = manifests
    (root / "train/images/c/0.png").rename(tmp_path / "0.png")
    (root / "train/images/c/0.png").symlink_to(tmp_path / "0.png")
    (csv_dir / "trainc.csv").write_text("images\n/c/0.png\n")
    with pytest.raises(InputError, match="trainc.csv line 2: "):
        read_manifest(csv_dir)
    assert len(read_manifest(csv_dir, allow_outside=True).train["c"]) == 1


COMMANDS = {
    "train": lambda run, csv_dir: (train.main, ["--csv_dir", csv_dir]),
    "preview": lambda run, csv_dir: (preview_balance.main, ["--csv_dir", csv_dir]),
    "profile": lambda run, csv_dir: (profile_loader.main, ["--csv_dir", csv_dir]),
    "replay": lambda run, csv_dir: (replay_sample.main, ["--work_dir", run(), "--step", 0, "--item", 0]),
    "sheet": lambda run, csv_dir: (contact_sheet.main, ["--work_dir", run()]),
}


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_refuses_rows_that_lead_out(name, manifests, secret, run_folder, refused, stub):
    _, csv_dir = manifests
    main, words = COMMANDS[name](run_folder, csv_dir)
    with_row(csv_dir, "link.png")
    message = refused(main, *words)
    assert f"traina.csv line 2: images is 'link.png', which is {secret}" in message
    stub("segbalance.data_processing.rows.fill_paths", raise_reached)  # behind the options, before the work
    assert main([*words, "--allow_outside"]) == 1


def raise_reached(tables, root, *_):
    assert root.allow_outside
    raise RuntimeError("reached")


def test_a_run_folder_does_not_decide_what_may_be_read(manifests, secret, run_folder, refused):
    _, csv_dir = manifests
    run = run_folder(allow_outside=True, max_pixels=2**30)
    with_row(csv_dir, "link.png")
    for main, words in ((replay_sample.main, ["--step", 0, "--item", 0]), (contact_sheet.main, [])):
        assert "lead out of the data root: 1" in refused(main, "--work_dir", run, *words)


def test_the_tutorials_loader_refuses_them_too(manifests, secret):
    from segbalance.dataloader.loaders import load_data_path

    root, csv_dir = manifests
    with_row(csv_dir, "link.png")
    with pytest.raises(InputError, match=f"traina.csv line 2: images is 'link.png', which is {secret}"):
        load_data_path(root, csv_dir / "traina.csv")
    assert load_data_path(root, csv_dir / "traina.csv", allow_outside=True)[0][0] == str(root / "link.png")
    assert len(load_data_path(root, csv_dir / "trainb.csv")[0]) == 3
    with pytest.raises(InputError, match="which is "):
        load_data_path(root, csv_dir / "traina.csv", "train")


def test_what_switches_a_check_off_is_passed_by_its_name():
    """Else an argument too many could do it by accident."""
    switches, found, by_place = {"allow_outside", "max_pixels"}, 0, []
    for path in sorted((ROOT / "segbalance").rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.FunctionDef):
                arguments = node.args
                optional = arguments.args[len(arguments.args) - len(arguments.defaults) :]
                by_place += [f"{path}: {node.name}" for name in optional if name.arg in switches]
                found += sum(name.arg in switches for name in arguments.kwonlyargs)
    assert found > 25 and by_place == []


def test_a_data_folder_that_leads_out_is_refused_and_may_be_allowed(tmp_path, refused):
    root = write_data(tmp_path / "data", {"a": 4, "b": 4})
    (root / "train/images/b").rename(tmp_path / "elsewhere")
    (root / "train/images/b").symlink_to(tmp_path / "elsewhere")
    words = ["--data_root", root, "--csv_dir", tmp_path / "csv_file"]
    message = refused(prepare.main, *words)
    assert f"lead out of the data root: 1\n  train/images/b is {tmp_path}/elsewhere\n{STAY_INSIDE}" in message
    assert prepare.main([*words, "--allow_outside"]) == DONE
    with pytest.raises(InputError, match="lead out of the data root: 4"):
        read_manifest(tmp_path / "csv_file")
    assert len(read_manifest(tmp_path / "csv_file", allow_outside=True).train["b"]) == 3


def test_a_data_root_behind_a_link_is_as_any_other(tmp_path):
    root = write_data(tmp_path / "data", {"a": 4})
    (tmp_path / "link").symlink_to(root)
    (root / "train/images/round").symlink_to("..")
    words = ["--data_root", tmp_path / "link", "--csv_dir", tmp_path / "csv_file"]
    assert prepare.main(words) == DONE
    assert read_manifest(tmp_path / "csv_file", tmp_path / "link").data_root == root


# Pixels


@pytest.fixture
def bomb(manifests):
    """Puts an image in the place of one of the training images whose header claims 50,000 x 50,000 pixels."""
    path = manifests[0] / "train/images/a/0.png"
    content = bytearray(path.read_bytes())
    content[16:24] = (50_000).to_bytes(4, "big") * 2
    content[29:33] = zlib.crc32(content[12:29]).to_bytes(4, "big")
    path.write_bytes(content)
    return path


def test_making_manifests_names_what_is_too_large(manifests, bomb, refused):
    root, csv_dir = manifests
    words = ["--data_root", root, "--csv_dir", csv_dir, "--overwrite"]
    assert refused(prepare.main, *words) == (
        f"images with too many pixels: 1\n  train/images/a/0.png  50000x50000\n{pixel_advice(MAX_PIXELS)}"
    )
    message = refused(prepare.main, *words, "--max_pixels", 2999)
    assert message.startswith("images with too many pixels: 32\n") and "3000" not in message
    assert "max_pixels must be from 1 to 1073741824" in refused(prepare.main, *words, "--max_pixels", 0)


def test_new_rows_are_not_decoded_when_they_are_too_large(manifests, bomb):
    _, csv_dir = manifests
    (csv_dir / "traina.csv").write_text("images\ntrain/images/a/0.png\n")
    with pytest.raises(
        InputError, match="^images with too many pixels: 1\n  train/images/a/0.png  50000x50000\n"
    ):
        read_manifest(csv_dir)
    with pytest.raises(InputError, match="^files that cannot be decoded"):
        bomb.write_bytes(b"no image")
        read_manifest(csv_dir, max_pixels=3000)


def test_training_stops_at_a_bomb_with_its_name(manifests, bomb, tmp_path, one_convolution, capsys):
    _, csv_dir = manifests
    words = "--image_size 32 --batch_size 10 --epochs 1 --steps_per_epoch 3 --encoder_weights none".split()
    words += ["--csv_dir", csv_dir, "--work_dir", tmp_path / "run"]
    assert train.main(words) == WRONG_INPUT
    error = capsys.readouterr().err
    assert f"{bomb} has 50000x50000 = 2500000000 pixels by its header; expected at most --max_pixels" in error
    assert "training stopped: " in error and "Traceback" not in error


@pytest.mark.parametrize("value", ["0", str(2**30 + 1)])
def test_every_command_checks_the_limit(value, tmp_path, refused):
    for main in (
        train.main,
        preview_balance.main,
        profile_loader.main,
        replay_sample.main,
        contact_sheet.main,
        evaluate.main,
        make_report.main,
        predict.main,
        export_model.main,
    ):
        place = {
            replay_sample.main: ["--step", 0, "--item", 0],
            predict.main: ["--images", "photo.jpg"],
            export_model.main: ["--format", "onnx"],
        }.get(main, [])
        place += (
            []
            if main in (train.main, preview_balance.main, profile_loader.main)
            else ["--work_dir", tmp_path]
        )
        assert "max_pixels must be from 1 to 1073741824" in refused(main, "--max_pixels", value, *place)


# Config files

TAGS = [
    '!!python/object/apply:os.system ["touch {marker}"]',
    '!!python/object/new:os.system ["touch {marker}"]',
    "!!python/object/apply:subprocess.check_output [[touch, {marker}]]",
    "!!python/name:os.system",
    "!!python/module:os",
    "!!python/object/apply:builtins.exec [\"open('{marker}', 'w')\"]",
    "!own tag",
]


@pytest.mark.parametrize("tag", TAGS)
@pytest.mark.parametrize(
    "place", ["epochs: {}", "{}", "transforms: {{a: {} }}"], ids=["value", "all", "deeper"]
)
def test_code_in_a_config_file_is_refused_and_not_run(tag, place, run_folder, tmp_path, refused):
    marker, run = tmp_path / "marker", run_folder()
    (run / CONFIG).write_text(place.format(tag.format(marker=marker)) + "\n")
    message = f"{run / CONFIG} line 1: uses the tag "
    with pytest.raises(
        InputError, match="which is refused: it would create a Python object. Expected a YAML file of opt"
    ) as caught:
        load_config(run)
    assert str(caught.value).startswith(message)
    assert refused(train.main, "--config", run / CONFIG).startswith(message)
    assert refused(train.main, f"--config={run / CONFIG}").startswith(message)
    assert refused(contact_sheet.main, "--work_dir", run).startswith(message)
    assert not marker.exists()


def test_the_loader_itself_is_a_safe_one(run_folder, tmp_path, stub):
    """Without the look at the file beforehand, too."""
    stub("segbalance.runtime.plain_yaml._problem", lambda events: None)
    run, marker = run_folder(), tmp_path / "marker"
    for tag in TAGS:
        (run / CONFIG).write_text(f"epochs: {tag.format(marker=marker)}\n")
        with pytest.raises(InputError, match="could not determine a constructor for the tag"):
            load_config(run)
    assert not marker.exists()


NO_DATA = {
    "another file": ("config: {other}", "config is for the command line only"),
    "itself": ("config: {self}", "config is for the command line only"),
    "another file, added": ("config+: {other}", "config+ is for the command line only"),
    "printing": ("print_config: ''", "print_config is for the command line only"),
    "help": ("help: true", "help is for the command line only"),
    "an alias": ("a: &x [1]\nepochs: *x", "line 2: uses the alias *x"),
    "a merge": ("a: &x {{epochs: 3}}\n<<: *x", "line 2: uses the alias *x"),
    "depth": ("epochs: " + "[" * 30 + "]" * 30, "line 1: is nested more than 20 deep"),
    "endless depth": ("epochs: " + "[" * 100_000, "nest"),
    "a class": (
        "encoder_weights: {{class_path: os.system, init_args: {{command: touch {marker}}}}}",
        "encoder_weights",
    ),
    "a class in a table": ("transforms: {{class_path: os.system, init_args: {{command: x}}}}", "transforms"),
    "a class of options": ("class_path: config.TrainConfig\ninit_args: {{epochs: 3}}", "init_args"),
    "a file for a table": ("shares: {other}", "shares"),
    "a file for a list": ("device: {other}", "device"),
    "junk": ("epochs: \udcff\udcfe", "is not a text file; expected a YAML file"),
    "a zero byte": ("epochs: 3\0", "is not a text file; expected a YAML file"),
    "size": ("epochs: 3 #" + "x" * 10**6, "is larger than 1000000 bytes"),
    "a number without end": ("epochs: " + "9" * 5000, ""),
    "a list": ("- 1", ""),
    "nothing but text": ("hello", ""),
}


@pytest.mark.parametrize(("content", "message"), NO_DATA.values(), ids=NO_DATA)
def test_a_config_file_holds_options_and_nothing_else(
    content, message, run_folder, tmp_path, refused, capsys
):
    run, other, marker = run_folder(), tmp_path / "other.yaml", tmp_path / "marker"
    other.write_text("epochs: 77\n")
    text = content.format(other=other, self=run / CONFIG, marker=marker)
    (run / CONFIG).write_bytes(text.encode("utf-8", "surrogateescape"))
    with pytest.raises(InputError) as caught:
        load_config(run)
    assert message in str(caught.value) and len(str(caught.value)) < 10_000
    assert message in refused(train.main, "--config", run / CONFIG)
    assert capsys.readouterr().out == "" and not marker.exists()


def test_the_environment_gives_no_options(monkeypatch):
    for name in ("TRAIN_EPOCHS", "TRAIN__EPOCHS", "EPOCHS", "TRAIN_PY_EPOCHS"):
        monkeypatch.setenv(name, "7")
    assert train.parse_config(TrainConfig, [], prog="train.py", description="").optimisation.epochs == 100


@pytest.mark.parametrize("content", ["[" * 100_000, '{"version": ' + "[" * 100_000])
def test_a_manifest_json_without_end_is_refused(content, manifests):
    _, csv_dir = manifests
    (csv_dir / "manifest.json").write_text(content)
    with pytest.raises(InputError, match="manifest.json cannot be read: "):
        read_manifest(csv_dir)


# Transforms that are code


@pytest.fixture
def evil(tmp_path, monkeypatch):
    """A module in the working folder that leaves a marker when it is imported; returns the marker."""
    (tmp_path / "place").mkdir()
    marker = tmp_path / "imported"
    code = f"open({str(marker)!r}, 'w')\nimport transforms\ngo = transforms.valid_transform\n"
    (tmp_path / "place/evil_pipeline.py").write_text(code)
    monkeypatch.chdir(tmp_path / "place")
    monkeypatch.setattr(sys, "path", [folder for folder in sys.path if folder])
    yield marker
    sys.modules.pop("evil_pipeline", None)


CODE = {"a": "evil_pipeline:go", "default": "valid"}
OWN_WORDS = '{"a": "evil_pipeline:go", "default": "valid"}'


def test_a_runs_own_functions_are_not_imported(run_folder, evil, refused, capsys):
    run = run_folder(transforms=CODE)
    words = ["--work_dir", run, "--step", 1, "--item", 1]
    assert refused(replay_sample.main, *words) == (
        f"{run / CONFIG} names transforms that would be imported and run:\n  a: evil_pipeline:go\n"
        "The file may come from elsewhere, so this is done only on your own word. If you trust them, name "
        "the file that they come from, as in --transforms my_transforms.py, or pass\n"
        f"  --transforms '{OWN_WORDS}'"
    )
    load_config(run)
    assert not evil.exists()
    assert replay_sample.main([*words, "--transforms", OWN_WORDS]) == DONE
    assert evil.exists() and "warning" not in capsys.readouterr().out


def test_other_words_than_the_runs_are_taken_with_a_warning(run_folder, evil, capsys):
    run = run_folder(transforms=CODE)
    words = ["--work_dir", run, "--step", 1, "--item", 1, "--transforms", '{"default": "valid"}']
    assert replay_sample.main(words) == DONE and not evil.exists()
    assert "warning: --transforms are not those of the run" in capsys.readouterr().out


def test_names_in_a_run_need_no_word(run_folder, capsys):
    assert replay_sample.main(["--work_dir", run_folder(), "--step", 0, "--item", 0]) == DONE
    assert "warning" not in capsys.readouterr().out


def test_the_config_of_a_run_is_not_ones_own(run_folder, evil, refused, tmp_path):
    run = run_folder(transforms=CODE)
    for main in (train.main, profile_loader.main, preview_balance.main):
        message = refused(main, "--config", run / CONFIG, "--csv_dir", tmp_path / "none")
        assert (
            f"--config {run / CONFIG} names transforms that would be imported and run:\n  a: evil_pi"
            in message
        )
        own_words = ["--transforms", OWN_WORDS, "--work_dir", tmp_path / "new"]
        message = refused(main, "--config", run / CONFIG, "--csv_dir", tmp_path / "none", *own_words)
        assert "train.csv does not exist" in message
    assert not evil.exists()


def test_a_config_without_a_run_is_not_ones_word_either(evil, refused, tmp_path):
    """It may be a run's whose origin was hidden, and several files do not hide one another."""
    foreign, own = tmp_path / "foreign.yaml", tmp_path / "own.yaml"
    own.write_text("epochs: 3\n")
    path = tmp_path / "beside.py"
    path.write_text(f"open({str(tmp_path / 'ran')!r}, 'w')\nSUBSET_TRANSFORMS = {{}}\n")
    for transforms in (CODE, str(path)):
        foreign.write_text(yaml.safe_dump({"transforms": transforms}))
        for files in ([foreign], [foreign, own], [own, foreign]):
            words = [word for file in files for word in ("--config", file)]
            message = refused(train.main, *words, "--csv_dir", tmp_path / "none")
            assert f"--config {foreign} names transforms that would be imported and run" in message
    assert not evil.exists() and not (tmp_path / "ran").exists()


def test_the_advice_can_be_pasted_into_a_shell():
    stored = {"a": "x:y'; touch oops; '", "b\x1b[2J": "m:f"}
    with pytest.raises(InputError) as caught:
        trusted_transforms(stored, None, "config.yaml")
    message = str(caught.value)
    assert "\x1b" not in message
    words = subprocess.run(
        ["sh", "-c", "printf %s " + message.rpartition("--transforms ")[2]], capture_output=True
    )
    assert yaml.safe_load(words.stdout) == stored


# Weights


class Touch:
    """Unpickling makes a file."""

    def __init__(self, path):
        self.path = str(path)

    def __reduce__(self):
        return open, (self.path, "w")


def small_network():
    from segbalance.legacy_keras import tf

    photo = tf.keras.Input((32, 32, 3))
    return tf.keras.Model(photo, tf.keras.layers.Conv2D(1, 3, padding="same", activation="sigmoid")(photo))


def model_with_code(marker):
    """A Keras model whose Lambda layer makes a file where it is rebuilt and called."""
    from segbalance.legacy_keras import tf

    photo = tf.keras.Input((32, 32, 3))
    code = eval(f"lambda x: (open({str(marker)!r}, 'w'), x)[1]")
    model = tf.keras.Model(
        photo, tf.keras.layers.Conv2D(1, 3, padding="same")(tf.keras.layers.Lambda(code)(photo))
    )
    marker.unlink()  # building it ran it once
    return model


def pickled(path, marker):
    path.write_bytes(pickle.dumps(Touch(marker)))


def keras_archive(path, marker):
    model_with_code(marker).save(path.with_name("model.keras"))
    path.with_name("model.keras").rename(path)
    assert zipfile.is_zipfile(path)


def saved_model(path, marker):
    model_with_code(marker).save(path.with_name("saved"), save_format="tf")
    path.with_name("saved").rename(path)
    assert (path / "saved_model.pb").is_file()
    marker.unlink(missing_ok=True)  # saving it ran it again


def full_model(path, marker):
    model_with_code(marker).save(path.with_name("model.h5"), save_format="h5")
    path.with_name("model.h5").rename(path)
    with h5py.File(path) as file:
        assert "Lambda" in file.attrs["model_config"]


def checkpoint(path, marker):
    small_network().save_weights(path.with_name("best"), save_format="tf")
    path.with_name("best.index").rename(path)


def with_layer(change):
    """Writes the small network's weights after `change` of the group of its convolution."""

    def write(path, marker):
        small_network().save_weights(path)
        with h5py.File(path, "r+") as file:
            change(next(group for group in all_groups(file) if "0" in group), path)

    return write


def all_groups(file):
    found = []
    file.visititems(lambda name, item: found.append(item) if isinstance(item, h5py.Group) else None)
    return found


def replace(group, value=None, **options):
    del group["0"]
    if value is not None:
        group["0"] = value
    else:
        group.create_dataset("0", **options)


def external_link(group, path):
    with h5py.File(path.with_name("other.h5"), "w") as other:
        other["secret"] = np.zeros((3, 3, 3, 1), np.float32)
    replace(group, h5py.ExternalLink("other.h5", "secret"))


def external_data(group, path):
    path.with_name("secret.bin").write_bytes(bytes(108))
    replace(group, shape=(3, 3, 3, 1), dtype="f4", external=[("secret.bin", 0, 108)])


def virtual_data(group, path):
    layout = h5py.VirtualLayout((3, 3, 3, 1), "f4")
    layout[...] = h5py.VirtualSource("other.h5", "secret", (3, 3, 3, 1))
    del group["0"]
    group.create_virtual_dataset("0", layout)


def soft_link(group, path):
    replace(group, h5py.SoftLink("/nowhere"))


def text(group, path):
    replace(group, np.array([b"import os"] * 27).reshape(3, 3, 3, 1))


def objects(group, path):
    replace(group, shape=(3, 3, 3, 1), dtype=h5py.string_dtype())


def endless(group, path):
    replace(group, shape=(10**6, 10**6), dtype="f4", chunks=(1000, 1000), compression="gzip")


def other_shape(group, path):
    replace(group, np.zeros((3, 3, 3, 2), np.float32))


def group_in_itself(group, path):
    group["1"].file["round"] = group.file["/"]
    replace(group, np.zeros((3, 3, 3, 2), np.float32))


HOSTILE = {
    "a pickle": (pickled, "it is no HDF5 file"),
    "a .keras archive with code": (keras_archive, "it is no HDF5 file"),
    "a SavedModel with code": (saved_model, "does not exist; expected the weights of a finished run"),
    "a full model with code": (full_model, "does not hold the weights of this network: "),
    "a checkpoint of TensorFlow": (checkpoint, "it is no HDF5 file"),
    "a link to another file": (with_layer(external_link), "is a link to elsewhere"),
    "data of another file": (with_layer(external_data), "is kept in other files"),
    "virtual data": (with_layer(virtual_data), "is kept in other files"),
    "a soft link": (with_layer(soft_link), "is a link to elsewhere"),
    "text": (with_layer(text), "holds something else than numbers"),
    "objects": (with_layer(objects), "holds something else than numbers"),
    "a bomb": (with_layer(endless), "it would unfold to 4000000000"),
    "another shape": (with_layer(other_shape), "does not hold the weights of this network: "),
    "a group in itself": (with_layer(group_in_itself), "does not hold the weights of this network: "),
}


@pytest.mark.parametrize(("write", "message"), HOSTILE.values(), ids=HOSTILE)
def test_a_hostile_weights_file_is_refused_and_not_run(write, message, run_folder, tmp_path, stub, capsys):
    from segbalance.prediction import predictor as prediction

    network = small_network()
    if write is not saved_model:  # which leaves no weights file, so that no network is built for it
        stub(prediction, "build_network", lambda *_, **__: network)
    run, marker = run_folder(), tmp_path / "marker"
    write(run / BEST, marker)
    before = files_below(tmp_path)
    assert contact_sheet.main(["--work_dir", run]) == WRONG_INPUT
    error = capsys.readouterr().err
    assert str(run / BEST) in error and message in error and "Traceback" not in error
    assert files_below(tmp_path) == before and not marker.exists()


def test_plain_weights_are_read(tmp_path):
    network = small_network()
    for name in ("best.weights.h5", "encoder.h5"):
        network.save_weights(tmp_path / name)
        assert weights_problem(tmp_path / name) is None
    (tmp_path / "encoder.h5").rename(tmp_path / "encoder.ckpt")
    assert weights_problem(tmp_path / "encoder.ckpt") == "its name does not end in .h5"


@pytest.mark.parametrize("write", [pickled, with_layer(external_link)])
def test_an_encoder_must_be_plain_weights(write, tmp_path):
    from segbalance.model.networks import build_network

    write(tmp_path / "encoder.weights.h5", tmp_path / "marker")
    with pytest.raises(
        InputError, match=r"encoder.weights.h5 does not fit the backbone resnet18: .*\. Expected a weights fi"
    ):
        build_network("resnet18", 32, encoder_weights=str(tmp_path / "encoder.weights.h5"))
    assert not (tmp_path / "marker").exists()


# Names


def test_what_a_terminal_obeys_is_made_visible():
    assert visible("a\x1b[2Jb\r\n\x07\x9b\u202egnp.\ud800") == r"a\x1b[2Jb\r\n\x07\x9b\u202egnp.\ud800"
    assert visible("Nägel 指 👍 'a;b%' \\x1b") == "Nägel 指 👍 'a;b%' \\x1b"
    assert listing(["a\nerror: b"]) == "  a\\nerror: b"


def test_names_of_files_do_not_reach_the_terminal_raw(tmp_path, refused):
    root = write_data(tmp_path / "data", {"a": 3})
    (root / "train/images/a/\x1b[31mred\n.png").write_bytes(b"")
    (root / "train/masks/a/\x1b[31mred\n.png").write_bytes(b"")
    message = refused(prepare.main, "--data_root", root, "--csv_dir", tmp_path / "csv_file")
    assert r"  train/images/a/\x1b[31mred\n.png  the file is empty" in message and "\x1b" not in message


def test_names_of_subsets_hold_nothing_hidden(tmp_path, refused, manifests):
    root = write_data(tmp_path / "own", {"a\x1b[31m": 3})
    message = refused(prepare.main, "--data_root", root, "--csv_dir", tmp_path / "new")
    assert message == (
        "names of subsets hold control characters:\n  a\\x1b[31m\nRename the folders, or change --subset_by."
    )
    _, csv_dir = manifests
    text = (csv_dir / "valid.csv").read_text().replace(",a,", ",a\x1b[2J,")
    (csv_dir / "valid.csv").write_text(text)
    message = refused(train.main, "--csv_dir", csv_dir)
    assert r"valid.csv line 2: type is 'a\x1b[2J'; expected a name without control characters" in message


def test_going_on_with_a_run_that_hides_its_origin_imports_nothing(run_folder, evil, refused):
    run = run_folder(transforms=CODE)
    config = run / CONFIG
    config.write_text("".join(line for line in config.open() if not line.startswith("fingerprint")))
    message = refused(train.main, "--resume", run)
    assert "names transforms that would be imported and run:\n  a: evil_pipeline:go\n" in message
    assert not evil.exists()
