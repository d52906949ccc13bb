"""What to do next: each rule on both sides of its bound, and the section of a page."""

import json
import re

import pytest

from segbalance.reports import class_advice, score_advice, training_advice
from segbalance.reports.advice import MOST_LINES, RULES, next_steps
from segbalance.reports.pages import look_up
from segbalance.reports.report import run_figures
from segbalance.runtime.verbs import named, typed
from segbalance.train.config import TrainConfig
from segbalance.train.config_file import load_config
from tests.reports.test_class_report import labelled
from tests.support.page_parts import PageParts

__all__ = ["labelled"]  # a fixture
NAMES, COLOURS = ["ground", "leaf", "berry"], ["#000000", "#00ff00", "#ff0000"]


def config(**options):
    return TrainConfig.of(**{"work_dir": "runs/x", "steps_per_epoch": 9, **options})


def class_config(**options):
    return config(classes=NAMES, class_colours=COLOURS, **options)


def label_config(**options):
    return class_config(task="classification", decoder_filters=[], **options)


def subset(name, iou, precision=0.9, recall=0.9, **more):
    """The figures of a subset."""
    row = {"subset": name, "images": 20, "iou": iou, "iou_low": iou - 0.02, "iou_high": iou + 0.02}
    return row | {"precision": precision, "recall": recall, "boundary_iou": 0.8, "image_iou": 0.9} | more


def clean_subset(name, share):
    """The figures of a subset without foreground."""
    return {"subset": name, "images": 20, "iou": None, "clean_images": share}


def epoch(number, iou, loss, val_loss):
    return {"epoch": number, "val_iou": iou, "loss": loss, "val_loss": val_loss}


def drawn(name, draws, images, max_repeats=2, **more):
    return {"subset": name, "draws": draws, "images": images, "max_repeats": max_repeats} | more


def flawless():
    """The figures of a run in which nothing stands out."""
    everything = {"images": 100, "iou": 0.95, "iou_low": 0.93, "iou_high": 0.96}
    return {
        "metrics": {"epoch": 20},
        "history": [epoch(n, 0.93 + n / 1000, 1 / n, 1 / n) for n in range(1, 21)],
        "shares": {"subsets": [drawn("a", 1000, 50), drawn("b", 1000, 20)]},
        "evaluation": {
            "threshold": 0.5,
            "all": everything,
            "subsets": [subset("b", 0.94), subset("a", 0.96)],
            "best_threshold": {"threshold": 0.44, "iou": 0.955},
            "worst": [{"iou": 0.8, "true_coverage": 0.2, "found_coverage": 0.2}] * 20,
        },
    }


def evaluation(**more):
    figures = flawless()
    figures["evaluation"] |= more
    return figures


def of_classes(confusion, score="iou", **all_):
    """The figures of several classes, worked out from their confusion matrix."""
    total, classes = sum(map(sum, confusion)), []
    for number, row in enumerate(confusion):
        found, right = sum(line[number] for line in confusion), row[number]
        own = {"true_share": sum(row) / total, "found_share": found / total}
        own |= {"precision": right / found if found else 0, "recall": right / sum(row)}
        classes.append(own | {"iou": right / (sum(row) + found - right)})
    shares = [[count / sum(row) for count in row] for row in confusion]
    everything = {"images": 100, "classes": classes, "confusion": confusion, "confusion_shares": shares}
    mean = sum(own[score] for own in classes) / len(classes)
    name = "iou" if score == "iou" else "balanced_accuracy"
    everything |= {name: mean, f"{name}_low": mean - 0.01, f"{name}_high": mean + 0.01}
    figures = evaluation(all=everything | all_)
    del figures["evaluation"]["best_threshold"]
    return figures


def with_history(rows, best=None):
    figures = flawless()
    figures["history"], figures["metrics"] = rows, {"epoch": len(rows) if best is None else best}
    return figures


def said(rule, figures, own=None):
    """The lines of a rule as text."""
    return [line.words(figures) for line in rule(own or config(), figures)]


def test_where_nothing_stands_out_one_line_says_so_with_the_figure():
    figures = flawless()
    assert [line.words(figures) for line in next_steps(config(), figures)] == [
        "Nothing stands out: the IoU of 100 validation images is 0.950 (0.930 to 0.960). Try it on your own "
        f"photos: {typed('predict')} --work_dir runs/x --images <folder>."
    ]


def test_never_more_than_ten_lines_the_heaviest_first():
    figures = flawless()
    figures["history"] = [epoch(n, 0.5, 1 + n / 10, 0.5 + n / 10) for n in range(1, 21)]
    figures["metrics"]["epoch"] = 1
    figures["shares"]["subsets"] = [drawn("a", 90000, 9, skipped=2), drawn("b", 900, 90), drawn("c", 900, 90)]
    figures["evaluation"] |= {
        "all": {"images": 9, "iou": 0.5, "iou_low": 0.1, "iou_high": 0.9},
        "subsets": [subset("b", 0.2), subset("a", 0.9), clean_subset("d", 0.1), {"subset": "e", "images": 0}],
        "best_threshold": {"threshold": 0.2, "iou": 0.8},
        "false_alarms": {"images": 20, "iou_lost": 0.1},
        "worst": [{"iou": 0.1, "true_coverage": 0.001, "found_coverage": 0}] * 20,
    }
    own = config(encoder_weights="none", warmup_epochs=50)
    every = [line for rule in RULES for line in rule(own, figures)]
    lines = next_steps(own, figures)
    assert len(every) > MOST_LINES == len(lines) == 10
    weights = [line.weight for line in lines]
    assert weights == sorted((line.weight for line in every), reverse=True)[:10]
    assert lines[0].words(figures).startswith("2 draws of subset a hit files")


def test_the_weakest_subset_is_named_from_five_points_on():
    assert said(score_advice.weakest_subset, evaluation(subsets=[subset("b", 0.86), subset("a", 0.9)])) == []
    (line,) = said(score_advice.weakest_subset, evaluation(subsets=[subset("b", 0.84), subset("a", 0.9)]))
    assert line.startswith(
        "Subset b is the weakest: IoU 0.840 (0.820 to 0.860), 6 points below subset a. It misses 10%"
    )
    assert line.endswith('--balance shares --shares \'{"b": 2, "default": 1}\'.')
    three = [subset("b", 0.5), subset("a", 0.9), subset("c", 0.8), clean_subset("d", 0)]
    assert (
        "35 points below the mean of the others"
        in said(score_advice.weakest_subset, evaluation(subsets=three))[0]
    )
    assert said(score_advice.weakest_subset, evaluation(subsets=[subset("b", 0.1)])) == []


@pytest.mark.parametrize(
    "row, words",
    [
        (
            {"precision": 0.95, "recall": 0.5},
            "It misses 50% of the foreground; only 5% of what it finds is false",
        ),
        ({"precision": 0.85, "recall": 0.74}, "; only 15% of what it finds is false. Try --loss tversky or"),
        ({"precision": 0.85, "recall": 0.76}, "It misses 24% of the foreground, and 15% of what it finds"),
        ({"precision": 0.6, "recall": 0.95}, "40% of what it finds is false; it misses only 5%"),
        ({"precision": 0.76, "recall": 0.85}, "It misses 15% of the foreground, and 24% of what it finds"),
        ({"precision": 0.6, "recall": 0.79}, "40% of what it finds is false; it misses 21%. Look"),
        ({"boundary_iou": 0.6}, "The outlines are off: boundary IoU 0.600, but 0.900 over the whole masks"),
        ({"boundary_iou": 0.71}, "It misses 10% of the foreground, and 10% of what it finds is false"),
    ],
)
def test_the_typical_fault_of_the_weakest_subset(row, words):
    figures = evaluation(subsets=[subset("b", 0.5, **row), subset("a", 0.9)], data_root="my data")
    (line,) = said(score_advice.weakest_subset, figures)
    assert words in line
    assert (f"{typed('doctor')} --data_root 'my data'." in line) == ("; it misses" in words)


def test_the_fault_of_a_subset_with_several_classes_is_its_worst_class():
    classes = [{"iou": 0.9}, {"iou": None}, {"iou": 0.123}]
    figures = evaluation(subsets=[subset("b", 0.5, classes=classes), subset("a", 0.9)])
    (line,) = said(score_advice.weakest_subset, figures, class_config())
    assert "Its worst class is berry: IoU 0.123." in line


@pytest.mark.parametrize(
    "options, words",
    [
        ({"balance": "none"}, "--balance uniform"),
        ({}, '--balance shares --shares \'{"b": 2, "default": 1}\''),
        ({"balance": "shares", "shares": {"b": 0.3, "a": 1}}, '--shares \'{"b": 0.6, "a": 1}\''),
        ({"balance": "exact"}, '--balance exact --shares \'{"b": 2, "default": 1}\''),
    ],
)
def test_more_draws_of_a_subset_than_the_run_had(options, words):
    assert score_advice.more_draws(config(**options), "b").text.endswith(words)


def test_larger_photos_fit_the_network():
    assert score_advice.larger_images(config(image_size=384)).text == "--image_size 576"
    assert score_advice.larger_images(config(image_size=64)).text == "--image_size 96"
    own = config(image_size=384, architecture="pspnet", backbone="resnet18")
    assert score_advice.larger_images(own).text == "--image_size 576"


def test_small_objects_among_the_worst_images():
    small = {"iou": 0.1, "true_coverage": 0.005, "found_coverage": 0}
    large = {"iou": 0.1, "true_coverage": 0.3, "found_coverage": 0.1}
    fine = {"iou": 0.7, "true_coverage": 0.005, "found_coverage": 0.005}
    assert said(score_advice.small_objects, evaluation(worst=[small] * 4 + [large] * 5 + [fine] * 9)) == []
    assert said(score_advice.small_objects, evaluation(worst=[small] * 4 + [fine] * 9)) == []
    (line,) = said(score_advice.small_objects, evaluation(worst=[small] * 5 + [large] * 5))
    assert line.startswith("Small objects: in 5 of the 10 worst images the foreground covers less than 1%")
    assert "in 5 of these nothing is found" in line and "--image_size 576" in line


def test_false_alarms_that_cost_something():
    subsets = [subset("a", 0.9), clean_subset("d", 0.75), clean_subset("e", 0.9)]
    alarms = {"images": 40, "iou_lost": 0.0049}
    assert said(score_advice.false_alarms, evaluation(subsets=subsets, false_alarms=alarms)) == []
    figures = evaluation(subsets=subsets, false_alarms=alarms | {"iou_lost": 0.005})
    (line,) = said(score_advice.false_alarms, figures)
    assert line.startswith(
        "False alarms in photos without foreground cost 0.005 of the IoU. In subset d, 25% of the photos"
    )
    assert said(score_advice.false_alarms, flawless()) == []


def test_a_threshold_that_gains_a_point():
    assert (
        said(score_advice.better_threshold, evaluation(best_threshold={"threshold": 0.3, "iou": 0.959})) == []
    )
    (line,) = said(score_advice.better_threshold, evaluation(best_threshold={"threshold": 0.3, "iou": 0.961}))
    assert "1 point higher" in line
    (line,) = said(score_advice.better_threshold, evaluation(best_threshold={"threshold": 0.3, "iou": 0.981}))
    assert line == (
        "At threshold 0.3 the IoU would be 3 points higher than at 0.5. Predict with "
        f"{typed('predict')} --work_dir runs/x --images <folder> --threshold best."
    )


def test_an_interval_that_is_too_wide():
    narrow = {"images": 40, "iou": 0.8, "iou_low": 0.76, "iou_high": 0.855}
    assert said(score_advice.wide_interval, evaluation(all=narrow)) == []
    (line,) = said(score_advice.wide_interval, evaluation(all=narrow | {"iou_low": 0.655}))
    assert line.startswith(
        "40 validation images leave the IoU anywhere between 0.655 and 0.855; about 160 would"
    )
    assert line.endswith(
        f"Add photos to the validation set: --valid_fraction of {named('prepare')}, or valid/."
    )
    (line,) = said(score_advice.wide_interval, evaluation(all=narrow | {"images": 1, "iou_low": None}))
    assert line.startswith("With 1 validation image nobody knows how good the IoU is.")
    assert said(score_advice.wide_interval, evaluation(all=narrow | {"images": 0, "iou": None})) == []


def test_subsets_without_validation_images():
    assert said(score_advice.unscored_subsets, flawless()) == []
    rows = [subset("a", 0.9), {"subset": "b", "images": 0}, {"subset": "c", "images": 0}]
    (line,) = said(score_advice.unscored_subsets, evaluation(subsets=rows))
    assert line.startswith("No validation images, and so no scores: subsets b, c.")


def test_classes_that_are_never_found():
    figures = of_classes([[90, 1, 0], [2, 20, 0], [9, 1, 0]])
    assert said(class_advice.never_found, figures, class_config()) == [
        "1 of 3 classes is never found: berry (8% of the pixels). Try --loss_weights pixel."
    ]
    assert (
        said(class_advice.never_found, of_classes([[90, 1, 0], [2, 20, 0], [9, 1, 1]]), class_config()) == []
    )
    own = label_config(balance="none")
    assert "of the images). Try --balance uniform." in said(class_advice.never_found, figures, own)[0]
    assert said(class_advice.never_found, flawless()) == []


def test_the_weakest_class_and_what_it_is_taken_for():
    close = [[90, 5, 5], [5, 90, 5], [5, 6, 89]]
    assert said(class_advice.weakest_class, of_classes(close), class_config()) == []
    figures = of_classes([[100, 0, 0], [0, 100, 0], [0, 30, 70]])
    (line,) = said(class_advice.weakest_class, figures, class_config())
    assert line.startswith("Class berry is the weakest: IoU 0.700, 18 points below the mean of the others.")
    assert "30% of its pixels are taken for leaf. Check the masks of both" in line
    (line,) = said(
        class_advice.weakest_class,
        of_classes(figures["evaluation"]["all"]["confusion"], "recall"),
        label_config(),
    )
    assert line.startswith(
        "Class berry is the weakest: recall 0.700, 30 points below the mean of the others."
    )
    assert line.endswith('then try --balance shares --shares \'{"berry": 2, "default": 1}\'.')
    spread = of_classes([[1000, 0, 20], [0, 1000, 20], [9, 9, 82]])
    assert (
        "It misses 18% of its pixels, and 33% of what it finds is another class"
        in said(class_advice.weakest_class, spread, class_config())[0]
    )


def test_the_most_frequent_confusion_beside_those_of_the_weakest_class():
    figures = of_classes([[100, 0, 0], [11, 89, 0], [0, 50, 50]])
    (line,) = said(class_advice.confused_pair, figures, class_config())
    assert line.startswith("11% of the pixels of leaf are taken for ground.")
    few = of_classes([[100, 0, 0], [9, 91, 0], [0, 50, 50]])
    assert said(class_advice.confused_pair, few, class_config()) == []
    assert said(class_advice.confused_pair, flawless()) == []


@pytest.mark.parametrize(
    "make, options, words",
    [
        (class_config, {"balance": "none"}, "--balance pixel"),
        (class_config, {}, "--loss_weights pixel"),
        (class_config, {"loss_weights": "pixel", "epochs": 7}, "--epochs 14"),
        (label_config, {"balance": "power"}, "--balance uniform"),
        (label_config, {"epochs": 7}, "--epochs 14"),
    ],
)
def test_more_weight_for_rare_classes(make, options, words):
    assert class_advice.more_weight(make(**options)).text == words


def test_overfitting():
    def history(last_loss, last_val, after=6):
        rows = [epoch(n, 0.8, 1 / n, 2 / n) for n in range(1, 11)]
        steps = range(1, after + 1)
        return with_history(
            rows
            + [
                epoch(10 + n, 0.7, 0.1 + n / after * (last_loss - 0.1), 0.2 + n / after * (last_val - 0.2))
                for n in steps
            ],
            best=10,
        )

    assert said(training_advice.overfitting, history(0.05, 0.219)) == []
    assert "from 0.200 to 0.221" in said(training_advice.overfitting, history(0.05, 0.221))[0]
    assert said(training_advice.overfitting, history(0.11, 0.3)) == [], "the training loss rises too"
    assert said(training_advice.overfitting, history(0.05, 0.3, after=2)) == []
    (line,) = said(training_advice.overfitting, history(0.05, 0.3))
    assert line == (
        "Overfitting: since epoch 10 the validation loss has risen from 0.200 to 0.300, while the training "
        'loss fell from 0.100 to 0.050. Add photos, or try --transforms \'{"default": "strong"}\'.'
    )
    own = config(transforms={"default": "strong"}, weight_decay=0.0001)
    assert said(training_advice.overfitting, history(0.05, 0.3), own)[0].endswith("--weight_decay 0.001.")
    assert said(training_advice.no_progress, history(0.05, 0.3)) == [], "one line is enough"


def test_a_score_that_still_rises():
    rising = [epoch(n, n * 0.02, 1, 1) for n in range(1, 21)]
    assert said(training_advice.still_improving, with_history(rising)) == [
        "Still improving: epoch 20 of 20 is the best, and the IoU rose by 10 points in the last 5 epochs. "
        "Train longer: --epochs 40."
    ]
    assert said(training_advice.still_improving, with_history(rising, best=17)) == []
    flat = [epoch(n, 0.5 + n * 0.0015, 1, 1) for n in range(1, 21)]
    assert said(training_advice.still_improving, with_history(flat)) == []
    a_point = [epoch(n, 0.5 + n * 0.0022, 1, 1) for n in range(1, 21)]
    assert "rose by 1 point in" in said(training_advice.still_improving, with_history(a_point))[0]
    (line,) = said(training_advice.still_improving, with_history(rising[:2]))
    assert "rose by 2 points in the last epoch." in line


def test_a_run_of_one_epoch():
    (line,) = said(training_advice.single_epoch, with_history([epoch(1, 0.5, 1, 1)]))
    assert line.startswith("The run has one epoch of 9 steps") and line.endswith("--epochs 20.")
    assert said(training_advice.single_epoch, with_history([epoch(1, 0.5, 1, 1)] * 2)) == []


def test_a_score_that_no_longer_rises():
    rows = [epoch(n, 0.5, 1 / n, 1 / n) for n in range(1, 21)]
    assert said(training_advice.no_progress, with_history(rows, best=16)) == []
    assert said(training_advice.no_progress, with_history(rows[:8], best=4)) == [], "so few may be noise"
    (line,) = said(training_advice.no_progress, with_history(rows, best=15))
    assert line.startswith("The IoU has not risen for 5 epochs, since epoch 15 of 20.")
    assert line.endswith("--patience 2.")


def test_a_loss_that_hardly_fell():
    def history(first, last):
        return with_history([epoch(n, 0.5, loss, 1) for n, loss in enumerate((first, 0.99, last), 1)])

    assert said(training_advice.hardly_learned, history(1.0, 0.94)) == []
    (line,) = said(training_advice.hardly_learned, history(1.0, 0.96))
    assert line.endswith("went from 1.000 to 0.960 in 3 epochs. Try --learning_rate 0.003.")
    assert said(training_advice.hardly_learned, history(1.0, 1.2))[0].endswith("--learning_rate 0.0001.")
    (line,) = said(training_advice.hardly_learned, history(1.0, None))
    assert line.startswith("The training loss is not a number after 3 epochs.")


def test_a_warm_up_of_the_whole_run():
    rows = [epoch(n, 0.5, 1, 1) for n in range(1, 6)]
    assert said(training_advice.never_decayed, with_history(rows), config(warmup_epochs=4)) == []
    (line,) = said(training_advice.never_decayed, with_history(rows), config(warmup_epochs=5))
    assert line.startswith("The warm-up of 5 epochs took all 5 epochs")


def test_an_encoder_from_random_weights():
    own, low = config(encoder_weights="none"), {"images": 9, "iou": 0.89}
    assert said(training_advice.random_encoder, evaluation(all=low | {"iou": 0.9}), own) == []
    assert said(training_advice.random_encoder, evaluation(all=low)) == []
    (line,) = said(training_advice.random_encoder, evaluation(all=low), own)
    assert line.endswith("the IoU is 0.890. Begin with trained ones: --encoder_weights imagenet.")


def test_a_subset_learned_by_heart():
    def shares(*rows):
        return flawless() | {"shares": {"subsets": list(rows)}}

    others = drawn("a", 900, 30), drawn("b", 1000, 20)
    assert said(training_advice.memorised, shares(*others, drawn("c", 990, 10))) == []
    (line,) = said(training_advice.memorised, shares(*others, drawn("c", 1500, 10)))
    assert "subset c by heart: each of its 10 photos was drawn 150 times; in the median subset 50" in line
    assert line.endswith('--transforms \'{"c": "strong", "default": "train"}\'.')
    assert said(training_advice.memorised, shares(*others, drawn("c", 1490, 10))) == []
    once = drawn("c", 1500, 10, max_repeats=1)
    assert said(training_advice.memorised, shares(*others, once)) == [], "it may have more images"


def test_files_that_could_not_be_read():
    figures = flawless() | {"shares": {"subsets": [drawn("a", 9, 9, skipped=1), drawn("b", 9, 9, skipped=0)]}}
    (line,) = said(training_advice.skipped_files, figures)
    assert line.startswith("1 draw of subset a hit files that cannot be read; skipped.csv in the run folder")
    assert said(training_advice.skipped_files, flawless()) == []


def own_lines(page):
    """The lines of the section, as text."""
    section = page.split('<section id="next"')[1].split("</section>")[0]
    text = [re.sub(r"<[^>]+>", "", line) for line in section.split("<li>")[1:]]
    return [line.split("\n")[0].strip() or line.strip().split("\n")[0] for line in text]


@pytest.mark.parametrize("run", ["finished", "finished_classes", "labelled"])
def test_the_page_of_a_run_begins_with_what_to_do_next(run, request):
    found = request.getfixturevalue(run)
    folder = found[0] if run == "labelled" else found
    page = (folder / "report.html").read_text(encoding="utf-8")
    sections = [own["id"] for own in PageParts(page).of("section")]
    assert sections[:2] == ["next", "summary"]
    lines = own_lines(page)
    assert 1 <= len(lines) <= MOST_LINES and all(line.endswith(".") for line in lines)
    assert any(re.search(r"\d", line) for line in lines)


def test_the_section_says_what_the_rules_say(finished):
    page = (finished / "report.html").read_text(encoding="utf-8")
    figures = run_figures(finished)
    figures["evaluation"] = json.loads((finished / "evaluation_valid.json").read_text())
    lines = [line.words(figures) for line in next_steps(load_config(finished), figures)]
    assert len(own_lines(page)) == len(lines)
    keys = [attributes["data-key"] for attributes, _ in PageParts(page).numbers]
    assert "/evaluation/all/iou" in keys and look_up(figures, "/metrics/epoch") in (1, 2)
    assert any("subset c" in line for line in lines), "it has no validation images"
