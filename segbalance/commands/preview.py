"""What each way of balancing does to your data: a table and a picture, without training.

Takes the command line of train.py. Every strategy is shown beside the one that the command line chooses, and
so is what the tutorial's recipe of finite loaders would do.
"""

import dataclasses
import io
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from segbalance.balancing.plan import (
    BELONGS_TO,
    SHORT_FOR,
    STRATEGIES,
    BalancePlan,
    balance_plan,
    finite_recipe,
    format_plan,
)
from segbalance.errors import InputError
from segbalance.files.writing import check_output, json_text, write_together
from segbalance.runtime.command_line import command
from segbalance.runtime.verbs import usage
from segbalance.train.config import TrainConfig
from segbalance.train.config_file import parse_config
from segbalance.train.inputs import read_data
from segbalance.train.options import BalanceOptions


@dataclass(frozen=True)
class PreviewOptions:
    """The preview.

    Args:
        output: PNG file to write.
        json: JSON file for the tables as well.
    """

    config: TrainConfig
    output: str = "balance.png"
    json: str | None = None


def preview_plans(
    sizes: Mapping[str, int], options: BalanceOptions, batch_size: int
) -> dict[str, BalancePlan]:
    """{strategy: BalancePlan} of every strategy that the BalanceOptions allow, the chosen one first.

    A strategy gets those of the options that belong to it; `shares` needs --shares, and `exact` a batch
    that is large enough.
    """
    chosen = balance_plan(sizes, options, batch_size)
    plans = {_title(chosen): chosen}
    unset: dict[str, Any] = {field.name: field.default for field in dataclasses.fields(options)}
    for strategy in STRATEGIES:
        foreign = [name for name, owners in BELONGS_TO.items() if strategy not in owners]
        changes: dict[str, Any] = {name: [] if name == "oversample_only" else unset[name] for name in foreign}
        try:
            other = dataclasses.replace(options, balance=strategy, loss_weights="none", **changes)
            plan = balance_plan(sizes, other, batch_size)
        except InputError:
            continue  # shares without --shares, exact with a small batch
        plans.setdefault(_title(plan), plan)
    return plans


def _title(plan: BalancePlan) -> str:
    plain = plan.weighting == "none" or plan.balance in SHORT_FOR
    weights = "" if plain else f" + {plan.weighting} weights"
    return plan.balance + weights


def recipe_text(recipe: Sequence[Mapping[str, Any]], epochs: float) -> str:
    """The stretches of `finite_recipe` in words, a line each."""
    lines = []
    for row in recipe[1:]:
        rest = {name: share for name, share in row["shares"].items() if share}
        alone = ", ".join(rest) + (
            " gets every draw" if len(rest) == 1 else f" get {min(rest.values()):.0%} each"
        )
        lines.append(
            f"  epoch {row['epoch']:.1f} of {epochs}: subset {', '.join(row['dry'])} has run dry, share 0% "
            f"from here on; {alone}"
        )
    return "\n".join(lines) or "  no subset runs dry"


def draw_preview(
    plans: Mapping[str, BalancePlan],
    recipe: Sequence[Mapping[str, Any]],
    draws_per_epoch: int,
    epochs: int,
) -> bytes:
    """PNG bytes: shares, repeats and weights of every plan, and the recipe's shares over the run."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt
    from matplotlib.ticker import LogLocator, NullFormatter

    tables = {title: plan.table(draws_per_epoch) for title, plan in plans.items()}
    subsets = next(iter(tables.values()))["subset"]
    colours = plt.get_cmap("viridis")(np.linspace(0.05, 0.9, len(subsets)))
    figure, axes = plt.subplots(2, 2, figsize=(13, 8.5), layout="constrained")
    places = np.arange(len(tables))
    panels = {
        "share": (axes[0, 0], "share of the draws"),
        "repeats_per_image": (axes[0, 1], "repeats of an image in an epoch"),
        "effective_weight": (axes[1, 0], "effective weight of an image (plain shuffle: 1)"),
    }
    for column, (axis, title) in panels.items():
        for number, subset in enumerate(subsets):
            heights = [table[column][number] for table in tables.values()]
            offset = (number - (len(subsets) - 1) / 2) * 0.8 / len(subsets)
            axis.bar(places + offset, heights, 0.8 / len(subsets), color=colours[number], label=subset)
        axis.set_xticks(places, [title.replace(" + ", "\n+ ") for title in tables])
        axis.set_title(title)
        axis.grid(axis="y", alpha=0.3)
    axes[0, 0].yaxis.set_major_formatter("{x:.0%}")
    axes[0, 0].legend(title="subset", fontsize="small")
    for axis in (axes[0, 1], axes[1, 0]):
        axis.set_yscale("log")
        axis.axhline(1, color="black", lw=1)
        axis.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axis.yaxis.set_major_formatter("{x:g}")
        axis.yaxis.set_minor_formatter(NullFormatter())
    axis = axes[1, 1]
    edges = [*(row["epoch"] for row in recipe), epochs]
    below = np.zeros(len(recipe))
    for number, subset in enumerate(subsets):
        shares = np.array([row["shares"][subset] for row in recipe])
        axis.stairs(below + shares, edges, baseline=below, fill=True, color=colours[number], ec="white")
        below = below + shares
    axis.set(
        xlim=(0, epochs), ylim=(0, 1), xlabel="epoch", title="shares under the tutorial's finite loaders"
    )
    axis.yaxis.set_major_formatter("{x:.0%}")
    picture = io.BytesIO()
    figure.savefig(picture, format="png", dpi=100)
    plt.close(figure)
    return picture.getvalue()


@command
def main(argv: list[str]) -> None:
    """Prints and draws the preview."""
    options = parse_config(PreviewOptions, argv, prog=usage("preview"), description=__doc__)
    for option in ("output", "json"):
        if getattr(options, option):
            check_output(f"--{option}", getattr(options, option))
    config = options.config
    manifest = read_data(config)
    sizes = {name: len(table) for name, table in manifest.train.items()}
    optimisation = config.optimisation
    epochs, batch_size = optimisation.epochs, optimisation.batch_size
    draws = batch_size * (optimisation.steps_per_epoch or -(-sum(sizes.values()) // batch_size))
    plans = preview_plans(sizes, config.balancing, batch_size)
    recipe = finite_recipe(sizes, epochs)
    rows: list[dict[Hashable, Any]] = []
    for title, plan in plans.items():
        table = plan.table(draws)
        rows += [{"strategy": title} | row for row in table.to_dict("records")]
        print(f"{title}\n{format_plan(table)}")
        print("".join(f"{note}\n" for note in plan.notes(draws)))
    print("the tutorial's recipe, sample_from_datasets over loaders that end (repeat(epochs)), on this data:")
    print(recipe_text(recipe, epochs))
    files: dict[str, str | bytes] = {options.output: draw_preview(plans, recipe, draws, epochs)}
    if options.json:
        files[options.json] = json_text({"strategies": rows, "finite_recipe": recipe})
    write_together(files)
    print(f"\npicture: {options.output}")
