"""The three tasks are described in one place, and no other module asks which of them it is in."""

import ast
import re
from pathlib import Path

import pytest

import segbalance
from segbalance.data_processing.tasks import (
    CLASSES,
    CLASSIFICATION,
    FOREGROUND,
    SCORE_NAMES,
    TASKS,
    task_of,
    task_of_history,
)

ROOT = Path(segbalance.__file__).parent
DESCRIPTION = "data_processing/tasks.py"
NAMES = {"FOREGROUND", "CLASSES", "CLASSIFICATION"}
CLASS_WORDS = {"classes", "class_list", "class_colours"}
# Looks like the question, but is another one.
OTHERS = {
    # The option --classes, the path of a table.
    "commands/fix_masks.py": {"options.classes"},
    "doctor/checkup.py": {"options.classes"},
    "data_processing/make_csv_file.py": {"options.classes", "options.classes is None"},
    # The option --classes of the sample data, a number.
    "commands/sample_data.py": {"self.classes != 2", "self.classes == 2", "self.classes > 2"},
    # Whether what was read is right: names with their colours, known tasks, those of the manifests.
    "data_processing/classes.py": {"classes", "colours"},
    "data_processing/label_rows.py": {"read.classes is None"},
    "data_processing/description.py": {"description.get('task', TASKS[0]) not in TASKS"},
    "exporting/exported_model.py": {"self.task not in TASKS"},
    "train/config.py": {"self.classes", "self.class_colours"},
    "train/inputs.py": {"config.data.task not in (None, manifest.task)"},
}


def conditions(tree):
    """The expressions of a module that decide which way to go: conditions, their parts, and comparisons."""
    stated = {id(part) for node in ast.walk(tree) if isinstance(node, ast.Assert) for part in ast.walk(node)}
    for node in ast.walk(tree):
        if id(node) in stated:  # an assert says what holds, it does not choose
            continue
        if isinstance(node, ast.If | ast.IfExp | ast.While):
            yield node.test
        elif isinstance(node, ast.comprehension):
            yield from node.ifs
        elif isinstance(node, ast.BoolOp):
            yield from node.values
        elif isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.Not):
            yield node.operand
        elif isinstance(node, ast.Compare):
            yield node
        elif isinstance(node, ast.Call) and ast.unparse(node.func) in ("bool", "isinstance"):
            yield from node.args
        elif isinstance(node, ast.Match):
            yield node.subject


def name_of(node):
    """The last name of a variable or attribute, `classes` of `config.filled_in.classes`; else None."""
    return getattr(node, "attr", getattr(node, "id", None))


def asks(node, tasks):
    """Whether an expression of `conditions` asks for the task; `tasks` are its names of the three."""
    if not isinstance(node, ast.Compare):
        return name_of(node) in CLASS_WORDS | {"task", "is_classification"}
    sides = [node.left, *node.comparators]
    names = {name_of(side) for side in sides}
    inside = {name_of(part) for side in sides for part in ast.walk(side)}
    texts = {side.value for side in sides if isinstance(side, ast.Constant)}
    return (
        bool(inside & (tasks | {"task", "TASKS"}))
        or bool(names & CLASS_WORDS)
        or ("kind" in names and "labels" in texts)
        or all(isinstance(side, ast.Attribute) and side.attr == "kind" for side in sides)
        or bool(texts & {*TASKS, "classes"})
    )


def imported(tree):
    """The names under which a module knows the tasks."""
    return {
        alias.asname or alias.name
        for node in ast.walk(tree)
        if isinstance(node, ast.ImportFrom) and (node.module or "").endswith("data_processing.tasks")
        for alias in node.names
        if alias.name in NAMES
    }


def questions(name, text):
    """The questions of a module, as source text, without those of OTHERS."""
    tree = ast.parse(text)
    found = {ast.unparse(node) for node in conditions(tree) if asks(node, imported(tree))}
    return sorted(found - OTHERS.get(name, set()))


def test_no_module_asks_which_task_it_is():
    found = {}
    for path in sorted(ROOT.rglob("*.py")):
        name = path.relative_to(ROOT).as_posix()
        if name != DESCRIPTION and (own := questions(name, path.read_text(encoding="utf-8"))):
            found[name] = own
    assert not found, "ask the Task for what differs, or look it up in a table by task"


@pytest.mark.parametrize(
    "line",
    [
        "if config.filled_in.classes: pass",
        "score = 'recall' if manifest.task == 'classification' else 'iou'",
        "if kind is CLASSIFICATION: pass",
        "if config.kind in (CLASSES, FOREGROUND): pass",
        "while not model.class_list: pass",
        "rows = [row for row in rows if classes is None]",
        "names = classes and classes.names",
        "if 'classes' in report: pass",
        "labelled = encoding.kind == 'labels'",
        "if config.is_classification or other: pass",
        "if run.kind != other.kind: pass",
        "match options.task:\n    case _: pass",
        "if task == TASKS[1]: pass",
    ],
)
def test_the_check_knows_a_question(line):
    text = f"from segbalance.data_processing.tasks import CLASSES, CLASSIFICATION, FOREGROUND\n{line}"
    assert questions("x.py", text)
    assert not questions(
        "x.py", "rows = TABLE[config.kind]\nif config.kind.with_masks: pass\nn = len(classes)"
    )


def test_no_template_asks_which_task_it_is():
    pages = list(ROOT.rglob("templates/*.html"))
    assert len(pages) > 3
    asked = re.compile(
        r"is_classification|config\.(classes|task|kind)|\bif[^%]*\b(task\.name|classes)\b(?!\")"
    )
    assert not [path.name for path in pages if asked.search(path.read_text(encoding="utf-8"))]


def test_each_other_question_is_still_asked():
    for name, lines in OTHERS.items():
        tree = ast.parse((ROOT / name).read_text(encoding="utf-8"))
        there = {ast.unparse(node) for node in conditions(tree)}
        assert lines <= there, f"{name}: take out of OTHERS {lines - there}"


def test_the_task_follows_from_its_stored_name_and_the_classes():
    assert task_of("segmentation", []) is task_of(None, None) is FOREGROUND
    assert task_of("segmentation", ["a", "b"]) is CLASSES and task_of(None, True) is CLASSES
    assert task_of("classification", ["a", "b"]) is task_of("classification", []) is CLASSIFICATION
    assert {FOREGROUND.name, CLASSES.name, CLASSIFICATION.name} == set(TASKS)


def test_the_task_of_a_history_follows_from_its_columns():
    assert task_of_history(["epoch", "val_iou", "val_iou_class_iou_x"]) is FOREGROUND
    assert task_of_history(["epoch", "val_iou", "val_class_iou_ring"]) is CLASSES
    assert task_of_history(["epoch", "val_balanced_accuracy", "val_recall_cat"]) is CLASSIFICATION


@pytest.mark.parametrize(
    "task", [FOREGROUND, CLASSES, CLASSIFICATION], ids=["foreground", "classes", "labels"]
)
def test_every_score_of_a_task_has_a_name(task):
    assert task.main == task.pooled[0] and task.truth in task.columns
    for scores in (task.pooled, task.parts, task.told, task.tiles, task.compared, task.class_columns):
        assert set(scores) <= set(SCORE_NAMES)
    assert task.class_score in task.class_columns and task.main in {*task.compared}
    assert (ROOT / "reports/templates" / task.template).is_file()
