"""A copy of a training's variables in the host's memory, for a thread to write while the training goes on."""

from pathlib import Path

import h5py
import numpy as np

from segbalance.legacy_keras import tf
from segbalance.model.networks import SegmentationModel, save_weights, training_variables, write_variables
from segbalance.model.weight_files import whole_weights

Layout = dict[str, int | None]  # {place in a weights file: number of the variable, None for a group}


class HostCopy:
    """Copies of all variables that the next training step depends on, as they were at `update`.

    Files are what `write_variables` and `save_weights` write, so that either reads those of the other.

    Args:
        model: compiled.
        folder: where a weights file can be made for a moment.

    Attributes:
        network: of the model.
        originals: the `training_variables` of the model.
    """

    def __init__(self, model: SegmentationModel, folder: str | Path) -> None:
        self.network, self.originals = model.network, training_variables(model)
        self._iterations = model.optimizer.iterations
        self._layout = weights_layout(model.network, folder)
        nodes = tf.train.TrackableView(self.originals).descendants()
        self._copies = {id(node): _copy(node) for node in nodes}
        self._variables = [node for node in nodes if isinstance(node, tf.Variable)]
        self._link(nodes)
        self._weights = [self._copies[id(variable)] for variable in model.network.variables]
        self._step: int | None = None

    def _link(self, nodes: list[object]) -> None:
        """Gives the copies the names by which the originals know one another, which checkpoints keep."""
        for node in nodes:
            for name, child in tf.train.TrackableView.children(node).items():
                setattr(self._copies[id(node)], name, self._copies[id(child)])

    def is_of_this_step(self) -> bool:
        """Whether the variables are still as they were copied."""
        return self._step == int(self._iterations.numpy())

    def update(self) -> None:
        """Copies the variables, while no thread writes the copies.

        On a CPU they share their memory until the next step changes the originals, which TensorFlow does in
        memory of their own then.
        """
        for variable in self._variables:
            self._copies[id(variable)].assign(variable.read_value(), read_value=False)
        self._step = int(self._iterations.numpy())

    def write_variables(self, prefix: str) -> None:
        """Writes files whose paths begin with `prefix`. Raises OSError where there is no room."""
        write_variables(self._copies[id(self.originals)], prefix)

    def write_weights(self, path: str | Path) -> None:
        """Writes the network's weights (.weights.h5) as `save_weights` does, with its errors."""
        with whole_weights(path) as temporary, h5py.File(temporary, "w") as file:
            for place, number in self._layout.items():
                if number is None:
                    file.require_group(place)
                else:
                    file[place] = np.asarray(self._weights[number].read_value())


def _copy(node: object) -> tf.Variable | tf.train.Checkpoint:
    """A variable with the same value on the CPU; for what only holds variables, a holder of nothing."""
    if not isinstance(node, tf.Variable):
        return tf.train.Checkpoint()
    with tf.device("CPU:0"):
        return tf.Variable(node.read_value(), trainable=False)


def weights_layout(network: tf.keras.Model, folder: str | Path) -> Layout:
    """Where Keras keeps each of `network.variables` in a weights file.

    For each file Keras walks through all attributes of all layers, which for EfficientNet-B4 takes a second
    of Python. Here it does so once: each variable holds its number for that moment.

    Raises:
        InputError: as `save_weights` does.
    """
    path = Path(folder, ".layout.weights.h5")
    before = [variable.numpy() for variable in network.variables]
    try:
        for number, variable in enumerate(network.variables):
            variable.assign(tf.cast(tf.fill(variable.shape, number), variable.dtype))
        save_weights(network, path)
        return _numbers(path)
    finally:
        path.unlink(missing_ok=True)
        for variable, value in zip(network.variables, before, strict=True):
            variable.assign(value)


def _numbers(path: Path) -> Layout:
    found: Layout = {}

    def look(place: str, item: h5py.Group | h5py.Dataset) -> None:
        found[place] = int(np.ravel(item[()])[0]) if isinstance(item, h5py.Dataset) else None

    with h5py.File(path) as file:
        file.visititems(look)
    return found
