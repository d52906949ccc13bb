"""What a training run can be told, in groups, and what it fills in itself."""

import dataclasses
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

from segbalance.data_processing.classes import Classes, checked_classes
from segbalance.data_processing.tasks import Task, task_of
from segbalance.errors import InputError
from segbalance.model.architectures import DECODER_FILTERS
from segbalance.train.options import (
    BalanceOptions,
    DataOptions,
    LoadingOptions,
    NetworkOptions,
    OptimisationOptions,
    RunOptions,
)


@dataclass(frozen=True)
class FilledIn:
    """What a run fills in. It is no option; config.yaml holds it under a key of its own.

    Args:
        fingerprint: of the training rows, compared when a sample is drawn again; None before there is a run.
        classes: their names by id; empty for background and foreground alone.
        class_colours: their colours, "#rrggbb".
        decay_start: step at which the decay of the learning rate begins, where a run goes on for another
            number of epochs.
        transforms_source: hash (SHA-256) of the file that functions among the transforms come from.
    """

    fingerprint: str | None = None
    classes: list[str] = field(default_factory=list)
    class_colours: list[str] = field(default_factory=list)
    decay_start: int = 0
    transforms_source: str | None = None

    def __post_init__(self) -> None:
        if self.decay_start < 0:
            raise InputError(f"decay_start must not be negative, got {self.decay_start}")
        if self.classes or self.class_colours:
            checked_classes(self.classes, self.class_colours, "classes")


@dataclass(frozen=True)
class TrainConfig:
    """A training run: its options in groups, each with its own checks, and what the run filled in.

    On the command line and in YAML files the options have no groups; `TrainConfig.of` takes them like that.

    Raises:
        InputError: options that do not go together, each named.
    """

    data: DataOptions = field(default_factory=DataOptions)
    balancing: BalanceOptions = field(default_factory=BalanceOptions)
    network: NetworkOptions = field(default_factory=NetworkOptions)
    optimisation: OptimisationOptions = field(default_factory=OptimisationOptions)
    loading: LoadingOptions = field(default_factory=LoadingOptions)
    run: RunOptions = field(default_factory=RunOptions)
    filled_in: FilledIn = field(default_factory=FilledIn, metadata={"option": False})

    def __post_init__(self) -> None:
        problems = list(self._problems())
        if problems:
            raise InputError("\n".join(problems))

    def _problems(self) -> Iterator[str]:
        working_size, image_size = self.loading.working_size, self.network.image_size
        if working_size and working_size < image_size:
            yield (
                f"working_size must be at least image_size {image_size}, or 0 for photos as they are; "
                f"got {working_size}"
            )
        network = self.network
        if not self.kind.with_masks and (
            network.architecture != "unet" or network.decoder_filters != [*DECODER_FILTERS]
        ):
            yield (
                "architecture and decoder_filters work only for segmentation: a classifier has no decoder; "
                "leave them out"
            )

    @classmethod
    def of(cls, **values: Any) -> "TrainConfig":
        """The config with these values, by names of options and of FilledIn, and defaults for the others."""
        return cls._grouped(values, lambda field, own: field.type(**own))

    def replace(self, **values: Any) -> "TrainConfig":
        """The config with other values, by names of options and of FilledIn.

        Raises:
            InputError: all that is wrong with the new values.
            TypeError: there is no such option.
        """
        return self._grouped(values, lambda field, own: dataclasses.replace(getattr(self, field.name), **own))

    @classmethod
    def _grouped(cls, values: dict[str, Any], make: Callable[[Any, dict[str, Any]], Any]) -> "TrainConfig":
        """The config whose group is what `make` returns for its field and its own of the values."""
        groups, problems = {}, []
        for group in dataclasses.fields(cls):
            own: Any = group.type  # a dataclass; to the types it may be a name as well
            names = [field.name for field in dataclasses.fields(own) if field.name in values]
            try:
                groups[group.name] = make(group, {name: values.pop(name) for name in names})
            except InputError as error:
                problems.append(str(error))
        if values:
            raise TypeError(f"TrainConfig has no {', '.join(values)}")
        if problems:
            raise InputError("\n".join(problems))
        return cls(**groups)

    def options(self) -> dict[str, Any]:
        """{option: value} of all groups, as on the command line."""
        groups = [group for group in dataclasses.fields(self) if group.metadata.get("option", True)]
        return {
            name: value
            for group in groups
            for name, value in dataclasses.asdict(getattr(self, group.name)).items()
        }

    @property
    def steps_per_epoch(self) -> int:
        """Steps an epoch, of a resolved config."""
        steps = self.optimisation.steps_per_epoch
        assert steps is not None, "resolved"
        return steps

    @property
    def transforms(self) -> dict[str, str]:
        """{subset or `default`: name of its pipeline}, of a resolved config."""
        names = self.data.transforms
        assert isinstance(names, dict), "resolved"
        return {str(subset): name for subset, name in names.items()}

    @property
    def class_list(self) -> Classes | None:
        """Classes, or None for background and foreground alone."""
        return Classes.named(self.filled_in.classes, self.filled_in.class_colours)

    @property
    def outputs(self) -> int:
        """Probabilities that the network gives for each pixel: one, or one for each class."""
        return len(self.filled_in.classes) or 1

    @property
    def kind(self) -> Task:
        """What the run is for, with all in which the tasks differ."""
        return task_of(self.data.task, self.filled_in.classes)
