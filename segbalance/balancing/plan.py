"""How images are drawn and how they count in the loss: the strategies and what they amount to."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import pandas as pd

from segbalance.errors import InputError

STRATEGIES = ("uniform", "none", "power", "shares", "oversample", "exact", "loss", "pixel")
SHORT_FOR = {"loss": "subset", "pixel": "pixel"}  # strategies that are `none` with these loss weights
LOSS_WEIGHTS = ("none", "subset", "pixel")
AUGMENT = ("all", "copies")
DEFAULT_ALPHA = 0.5
SAME_WAY = 1.05  # times; below that, sampler and loss weights are not said to pull the same way
ABOUT_ONCE = 1.05  # draws of an image in an epoch; up to that, about a quarter at most are further draws
# Which option belongs to which strategies.
BELONGS_TO = {
    "balance_alpha": ("power",),
    "shares": ("shares", "exact"),
    "oversample_only": ("oversample",),
    "oversample_below": ("oversample",),
    "copies": ("oversample",),
    "oversample_limit": ("oversample",),
}


class BalanceChoice(Protocol):
    """The options of balancing, whoever has them."""

    @property
    def balance(self) -> str: ...
    @property
    def balance_alpha(self) -> float | None: ...
    @property
    def shares(self) -> Mapping[Any, float] | None: ...
    @property
    def oversample_only(self) -> Sequence[str | int]: ...
    @property
    def oversample_below(self) -> int | None: ...
    @property
    def copies(self) -> Mapping[Any, float] | None: ...
    @property
    def oversample_limit(self) -> int | None: ...
    @property
    def loss_weights(self) -> str: ...
    @property
    def augment(self) -> str: ...


def option_problems(options: BalanceChoice) -> Iterator[str]:
    """Yields what is wrong with the options of balancing, whatever the data."""
    for name, strategies in BELONGS_TO.items():
        value = getattr(options, name)
        if value not in (None, []) and options.balance not in strategies:
            wanted = " or ".join(strategies)
            yield f"{name} works only with balance {wanted}, got balance {options.balance}"
    if options.balance == "shares" and options.shares is None:
        yield """balance shares needs the shares, as in --shares '{"0": 0.4, "default": 1}'"""
    short_for = SHORT_FOR.get(options.balance)
    if short_for and options.loss_weights not in ("none", short_for):
        yield (
            f"balance {options.balance} is short for balance none with loss_weights {short_for}, got "
            f"loss_weights {options.loss_weights}"
        )
    if options.balance_alpha is not None and not 0 <= options.balance_alpha <= 1:
        yield f"balance_alpha must be from 0 (uniform) to 1 (none), got {options.balance_alpha}"
    for subset, share in (options.shares or {}).items():
        if not 0 <= share < float("inf"):
            yield f"shares: the share of {subset} must be a number from 0 up, got {share}"
    if options.shares is not None and not any(options.shares.values()):
        yield f"shares must have a sum greater than 0, got {options.shares}"
    for subset, factor in (options.copies or {}).items():
        if not 1 <= factor < float("inf"):
            yield (
                f"copies: the factor of {subset} must be at least 1 (every image comes once) and finite, got "
                f"{factor}"
            )
    for name in ("oversample_below", "oversample_limit"):
        value = getattr(options, name)
        if value is not None and value < 1:
            yield f"{name} must be at least 1, got {value}"


@dataclass(frozen=True)
class BalancePlan:
    """What the options of balancing amount to for subsets of given sizes.

    Args:
        subsets: names.
        sizes: int (subsets,), images of each.
        shares: float (subsets,), sum 1: each subset's share of the draws.
        balance: one of STRATEGIES.
        pass_lengths: int (subsets,), draws of each subset in one pass of `oversample`; else None.
        weighting: one of LOSS_WEIGHTS.
        loss_weights: float (subsets,), mean 1 over the images as drawn; ones unless `weighting` is `subset`.
        augment: one of AUGMENT.
    """

    subsets: list[str]
    sizes: np.ndarray
    shares: np.ndarray
    balance: str
    pass_lengths: np.ndarray | None
    weighting: str
    loss_weights: np.ndarray
    augment: str

    def table(self, draws_per_epoch: float) -> pd.DataFrame:
        """The combined effect, a DataFrame with one row for each subset.

        `effective_weight` is what one image adds to an epoch's loss, counted in what it would add under a
        plain shuffle without weights.
        """
        repeats = draws_per_epoch * self.shares / self.sizes
        plain = draws_per_epoch / self.sizes.sum()
        return pd.DataFrame(
            {
                "subset": self.subsets,
                "images": self.sizes,
                "share": self.shares,
                "draws_per_epoch": draws_per_epoch * self.shares,
                "repeats_per_image": repeats,
                "loss_weight": self.loss_weights,
                "effective_weight": repeats / plain * self.loss_weights,
            }
        )

    def notes(self, draws_per_epoch: float) -> Iterator[str]:
        """Lines that the user should read before training."""
        drawn = np.flatnonzero(self.shares)
        if len(drawn) == 1:
            yield f"only subset {self.subsets[drawn[0]]} is drawn: balancing has nothing to do"
        left_out = [name for name, share in zip(self.subsets, self.shares, strict=True) if share == 0]
        if left_out:
            yield f"a share of 0 leaves out subset {', '.join(left_out)}"
        if self.pass_lengths is not None:
            total = int(self.pass_lengths.sum())
            yield f"one pass of oversample is {total} draws, {total / draws_per_epoch:.2f} epochs"
        if self.weighting == "pixel":
            yield "classes count in the loss inversely to how much of a batch they cover"
        if self.augment == "copies":
            often = draws_per_epoch * self.shares / self.sizes
            seldom = [self.subsets[place] for place in drawn if often[place] <= ABOUT_ONCE]
            if seldom:
                yield (
                    f"augment copies: images of subset {', '.join(seldom)} are seldom drawn twice in an "
                    "epoch, so seldom augmented"
                )
        yield from self._same_way()

    def _same_way(self) -> Iterator[str]:
        """A warning where sampler and loss weights favour the same subset over the same other one."""
        drawn = np.flatnonzero(self.shares)
        often = self.shares[drawn] / self.sizes[drawn]
        often, weight = (values[:, None] / values for values in (often, self.loss_weights[drawn]))
        together = np.where((often > SAME_WAY) & (weight > SAME_WAY), often * weight, 0)
        first, second = np.unravel_index(together.argmax(), together.shape)
        if together[first, second]:
            small, large = (self.subsets[drawn[place]] for place in (first, second))
            yield (
                f"warning: balance {self.balance} draws an image of subset {small} "
                f"{often[first, second]:.1f} times as often as one of subset {large}, and loss_weights "
                f"{self.weighting} counts it {weight[first, second]:.1f} times as much: "
                f"{together[first, second]:.1f} times together. One cure is enough: leave --loss_weights "
                "out, or take --balance loss."
            )


def format_plan(table: pd.DataFrame) -> str:
    """A BalancePlan's table as text."""
    in_words = {
        "share": "{:.1%}".format,
        "draws_per_epoch": "{:.0f}".format,
        "repeats_per_image": "{:.2f}".format,
        "loss_weight": "{:.3g}".format,
        "effective_weight": "{:.3g}".format,
    }
    shown = table.rename(columns=lambda name: name.replace("_", " "))
    formatters = {name.replace("_", " "): words for name, words in in_words.items()}
    return shown.to_string(index=False, formatters=formatters)


def balance_plan(
    sizes: Mapping[str, int], options: BalanceChoice, batch_size: int | None = None
) -> BalancePlan:
    """The BalancePlan of checked options.

    Args:
        sizes: {subset: images}.
        options: as those of TrainConfig.
        batch_size: of the run, which `exact` batches must suit.

    Raises:
        InputError: everything about the options that does not fit the subsets.
    """
    subsets, counts = list(sizes), np.array(list(sizes.values()), np.int64)
    problems = [*option_problems(options), *_subset_problems(sizes, options)]
    if problems:
        raise InputError("\n".join(problems))
    pass_lengths = _pass_lengths(sizes, options) if options.balance == "oversample" else None
    weights = counts**0.0 if pass_lengths is None else pass_lengths
    if options.balance == "none" or options.balance in SHORT_FOR:
        weights = counts
    elif options.balance == "power":
        weights = counts ** (DEFAULT_ALPHA if options.balance_alpha is None else options.balance_alpha)
    elif options.shares is not None:
        weights = np.array([options.shares.get(name, options.shares.get("default")) for name in subsets])
    shares = weights / weights.sum()
    if options.balance == "exact" and batch_size is not None and batch_size < np.count_nonzero(shares):
        raise InputError(
            f"balance exact needs at least one image of each of the {np.count_nonzero(shares)} subsets, got "
            f"batch_size {batch_size}. Take a larger --batch_size, or --balance uniform."
        )
    weighting = SHORT_FOR.get(options.balance, options.loss_weights)
    loss_weights = subset_weights(counts, shares) if weighting == "subset" else np.ones(len(subsets))
    return BalancePlan(
        subsets, counts, shares, options.balance, pass_lengths, weighting, loss_weights, options.augment
    )


def finite_recipe(sizes: Mapping[str, int], epochs: float) -> list[dict[str, Any]]:
    """What becomes of a uniform mix of loaders that end, each `repeat(epochs)`: the tutorial's recipe.

    `sample_from_datasets` hands the share of a loader that has ended to the others, all of them alike.

    Args:
        sizes: {subset: images}.
        epochs: epochs of the run, each as long as all images together.

    Returns:
        list of dict, one for each stretch of the run, in expectation over the draws: `epoch` where it
        begins, in [0, epochs); `dry`, the subsets that ended there; `shares`, {subset: share from there on}.
    """
    left = {name: float(size * epochs) for name, size in sizes.items()}
    total, drawn = sum(sizes.values()), 0.0
    dry: list[str] = []
    rows: list[dict[str, Any]] = []
    while left:
        share = 1 / len(left)
        shares = {name: share if name in left else 0.0 for name in sizes}
        rows.append({"epoch": drawn / total, "dry": dry, "shares": shares})
        least = min(left.values())
        drawn += least * len(left)
        dry = [name for name, images in left.items() if images == least]
        left = {name: images - least for name, images in left.items() if images > least}
    return rows


def _subset_problems(sizes: Mapping[str, int], options: BalanceChoice) -> Iterator[str]:
    """Yields what is wrong with the options of balancing for these subsets."""
    if not sizes:
        yield "there is no subset; expected at least one with images"
    for name in [name for name, size in sizes.items() if size < 1]:
        yield f"subset {name} has no images; expected at least one, or delete its train{name}.csv"
    named = {"shares": options.shares, "copies": options.copies, "oversample_only": options.oversample_only}
    for option, names in named.items():
        default = () if option == "oversample_only" else ("default",)
        unknown = [name for name in names or () if name not in sizes and name not in default]
        if unknown:
            known = ", ".join([*sizes, *default])
            yield f"{option} names unknown subsets {', '.join(map(str, unknown))}; known: {known}"
    if options.shares and "default" not in options.shares:
        silent = [name for name in sizes if name not in options.shares]
        if silent:
            yield (
                f"shares says nothing about subset {', '.join(silent)}; name every subset (0 leaves one "
                "out), or add a default"
            )


def _pass_lengths(sizes: Mapping[str, int], options: BalanceChoice) -> np.ndarray:
    """Draws of each subset in one pass of `oversample`, int64 (subsets,)."""
    copies, largest = options.copies or {}, max(sizes.values())
    chosen = options.oversample_only or options.oversample_below is not None
    lengths = []
    for name, size in sizes.items():
        minority = name in options.oversample_only or size < (options.oversample_below or 0)
        # A subset named by an option of its own is no matter of the default.
        factor = copies.get(name, None if minority else copies.get("default"))
        if factor is None:
            # Copies alone name what is repeated; the other subsets stay as they are.
            filled = minority if chosen else not copies
            length = largest if filled else size
        else:
            length = round(factor * size)
        limit = options.oversample_limit
        lengths.append(length if limit is None else min(length, limit * size))
    return np.array(lengths)


def subset_weights(sizes: np.ndarray, shares: np.ndarray) -> np.ndarray:
    """How much an image of each subset counts in the loss: inversely to its subset's frequency.

    scikit-learn's compute_class_weight("balanced"), images / (subsets * images of the subset), scaled to
    mean 1 over the images as drawn.

    Args:
        sizes: int (subsets,).
        shares: float (subsets,), sum 1; subsets of share 0 do not take part and get weight 0.
    """
    from sklearn.utils.class_weight import compute_class_weight  # takes a second to import

    drawn = np.flatnonzero(shares)
    weights = np.zeros(len(sizes))
    weights[drawn] = compute_class_weight("balanced", classes=drawn, y=np.repeat(drawn, sizes[drawn]))
    return weights / (shares @ weights)


def class_weights(counts: Mapping[Any, int]) -> dict[Any, float]:
    """How much an element of each class counts in the loss, for the `class_weight` of Keras' `fit`.

    scikit-learn's "balanced", elements / (classes * elements of the class); mean 1 over the elements.

    Args:
        counts: {class: elements}, each at least 1.

    Returns:
        {class: weight}.

    Raises:
        InputError: there is no class, or one of no elements.
    """
    if not counts or min(counts.values()) < 1:
        raise InputError(f"class weights need classes of at least one element each, got {counts}")
    sizes = np.array(list(counts.values()))
    return dict(zip(counts, subset_weights(sizes, sizes / sizes.sum()).tolist(), strict=True))
