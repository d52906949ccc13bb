"""A network of segmentation-models: uint8 photos in, float32 probabilities out."""

from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from segbalance.data_processing.tasks import TASKS
from segbalance.errors import InputError
from segbalance.legacy_keras import sm, tf
from segbalance.model.false_alarms import alarm_logs, one_kind_of_scores
from segbalance.model.freezing import freeze_normalisation
from segbalance.model.heads import head_of
from segbalance.model.loss_terms import DEFAULT_LOSS
from segbalance.model.losses import pixel_weights
from segbalance.model.optimizer import adamw
from segbalance.model.weight_files import weights_problem, whole_weights

if TYPE_CHECKING:
    from segbalance.dataloader.batches import Batch

LossWeights = Literal["pixel"] | Sequence[float] | None

# From scratch on few images, Keras' 0.99 leaves validation behind for hundreds of steps.
SCRATCH_MOMENTUM = 0.9
# The randomness of dropout is then kept in variables, which checkpoints hold; else nobody could save it.
tf.keras.backend.experimental.enable_tf_random_generator()


class InputScaling(tf.keras.layers.Layer):
    """The backbone's own input normalisation: reorders the channels, then x * scale + offset, in float32.

    Args:
        order: which input channel comes first, second and third, 0 red to 2 blue.
        scale, offset: three floats each.
    """

    def __init__(
        self, order: Sequence[int], scale: Sequence[float], offset: Sequence[float], **options: Any
    ) -> None:
        super().__init__(**{"dtype": "float32", "autocast": False} | options)
        self.order, self.scale, self.offset = list(order), list(scale), list(offset)

    def call(self, photo: tf.Tensor) -> tf.Tensor:
        """uint8 or float (B, H, W, 3), RGB, 0..255 -> float32 (B, H, W, 3)."""
        channels = tf.gather(tf.cast(photo, tf.float32), self.order, axis=-1)
        return channels * tf.constant(self.scale, tf.float32) + tf.constant(self.offset, tf.float32)

    def get_config(self) -> dict[str, Any]:
        """What rebuilds the layer."""
        own = {name: list(getattr(self, name)) for name in ("order", "scale", "offset")}
        return super().get_config() | own


def input_scaling(backbone: str) -> InputScaling:
    """The InputScaling of a backbone, read off its preprocessing function, which is affine for all."""
    preprocess = sm.get_preprocessing(backbone)

    def channels_of(colour: Sequence[float] | np.ndarray) -> np.ndarray:
        return np.asarray(preprocess(np.array(colour, np.float32).reshape(1, 1, 1, 3)), np.float64).ravel()

    offset = channels_of([0, 0, 0])
    slopes = np.stack([(channels_of(255.0 * axis) - offset) / 255.0 for axis in np.eye(3)])
    order = np.abs(slopes).argmax(axis=0)
    return InputScaling(
        order.tolist(), slopes[order, range(3)].tolist(), offset.tolist(), name="input_scaling"
    )


class PhotoNetwork(tf.keras.Model):
    """A functional model of photos that refuses floats, which Keras would cut down to whole numbers."""

    def call(self, inputs: tf.Tensor, training: bool | None = None, mask: tf.Tensor | None = None) -> Any:
        """uint8 (B, S, S, 3), 0..255 -> what the layers make of it.

        Raises:
            InputError: the photos are of a floating type.
        """
        dtype = tf.convert_to_tensor(inputs).dtype
        if dtype.is_floating:
            raise InputError(
                f"the network takes photos as whole numbers from 0 to 255 (uint8), got {dtype.name}: it does "
                "the scaling itself, and photos of 0 to 1 would all be black. Leave the scaling out, as in "
                "tf_dataset(..., dtype='uint8')."
            )
        return super().call(inputs, training=training, mask=mask)


def build_network(
    backbone: str,
    image_size: int,
    *,
    architecture: str = "unet",
    encoder_weights: str | None = None,
    decoder_filters: Sequence[int] | None = None,
    freeze_encoder: bool = False,
    outputs: int = 1,
    task: str | None = TASKS[0],
) -> tf.keras.Model:
    """A segmentation-models network with a sigmoid, or a softmax of several classes.

    Under mixed precision the logits are cast to float32 before either.

    Args:
        backbone: a name of segmentation-models, such as efficientnetb4.
        image_size: pixels, one that `architectures.size_problem` has nothing against.
        architecture: a key of ARCHITECTURES.
        encoder_weights: `imagenet`, a path to a weights file, or None for random weights.
        decoder_filters: five numbers, from the deepest stage up, for a U-Net; None for the usual ones.
        freeze_encoder: whether its layers are not trainable; `network.trainable = True` changes that.
        outputs: number of classes, or 1 for the probability of the foreground.
        task: one of TASKS; a network for `classification` has no decoder, and so neither architecture nor
            decoder_filters.

    Returns:
        uint8 (B, S, S, 3) -> float32 (B, S, S, outputs) in [0, 1], (B, 1, 1, outputs) for classification. It
        refuses floats with an InputError.

    Raises:
        InputError: the encoder's weights cannot be had.
    """
    build = head_of(task, outputs > 1).builder(architecture, decoder_filters)
    options = {"encoder_freeze": freeze_encoder, "classes": outputs}
    inner = _with_encoder_weights(build, backbone, image_size, encoder_weights, **options)
    if freeze_encoder:
        freeze_normalisation(inner)
    if encoder_weights is None:
        for layer in inner.layers:
            if isinstance(layer, tf.keras.layers.BatchNormalization):
                layer.momentum = SCRATCH_MOMENTUM
    photo = tf.keras.Input((image_size, image_size, 3), dtype=tf.uint8, name="photo")
    logits = inner(input_scaling(backbone)(photo))
    activation = "sigmoid" if outputs == 1 else "softmax"
    probability = tf.keras.layers.Activation(activation, dtype="float32", name="probability")
    return PhotoNetwork(photo, probability(tf.keras.layers.Activation("linear", dtype="float32")(logits)))


def _with_encoder_weights(
    build: Callable[..., tf.keras.Model],
    backbone: str,
    image_size: int,
    encoder_weights: str | None,
    **options: Any,
) -> tf.keras.Model:
    problem = None if encoder_weights in (None, "imagenet") else weights_problem(encoder_weights)
    if problem:
        raise InputError(_does_not_fit(backbone, encoder_weights, problem))
    try:
        return build(
            backbone,
            input_shape=(image_size, image_size, 3),
            activation="linear",
            encoder_weights=encoder_weights,
            **options,
        )
    except Exception as error:  # Keras raises a bare Exception for a failed download
        if encoder_weights is None:
            raise
        if encoder_weights == "imagenet":
            raise InputError(_download_failed(backbone, str(error))) from error
        raise InputError(_does_not_fit(backbone, encoder_weights, error)) from None


def _does_not_fit(backbone: str, path: str | None, reason: object) -> str:
    return (
        f"encoder_weights {path} does not fit the backbone {backbone}: {reason}. "
        "Expected a weights file (.h5) of this encoder without its top."
    )


def _download_failed(backbone: str, message: str) -> str:
    url = next((word.rstrip(":,.") for word in message.split() if word.startswith("http")), None)
    name = url.rpartition("/")[2] if url else "its file"
    cache = Path("~/.keras/models").expanduser()
    return (
        f"the ImageNet weights of {backbone} could not be downloaded or read: {message}. Ways out:\n"
        "  --encoder_weights none          start from random weights\n"
        "  --encoder_weights <file.h5>     a weights file that you have\n"
        f"  or download {name} elsewhere and put it into {cache}"
    )


class SegmentationModel(tf.keras.Model):
    """A network with the training and validation steps of this project around it.

    Batches are (images, masks, subsets); validation counts pixels for each subset. Weights of the loss are
    for training alone: validation scores and losses of different runs stay comparable.

    Args:
        network: what `build_network` returns.
        subsets: names of the subsets in the validation data.
        loss_weights: None; `pixel`; or the weight of each training subset, floats.
        classes: names of the classes; empty for background and foreground alone.
        task: one of TASKS; with images that have a class as a whole, the subsets are the classes.
    """

    def __init__(
        self,
        network: tf.keras.Model,
        subsets: Iterable[str],
        loss_weights: LossWeights = None,
        classes: Sequence[str] = (),
        task: str | None = TASKS[0],
    ) -> None:
        super().__init__()
        self.network = network
        self.subsets = list(subsets)
        self.classes = list(classes)
        self.head = head_of(task, self.classes)
        self.loss_weights = loss_weights
        self.counts = self.head.counts(len(self.subsets), len(self.classes))
        self.alarms = self.head.alarms(len(self.subsets)) if self.head.alarms else None
        self.mean_loss = tf.keras.metrics.Mean("loss")
        self.first_epoch, self.first_step = 0, 0
        # Every device reports the scores of all; Keras would add them up.
        self.distribute_reduction_method = "first"

    def call(self, photo: tf.Tensor, training: bool = False) -> tf.Tensor:
        """uint8 (B, S, S, 3) -> float32 (B, S, S, C) in [0, 1]."""
        return self.network(photo, training=training)

    @property
    def metrics(self) -> list[tf.keras.metrics.Metric]:
        """What Keras resets at the start of each epoch."""
        return [self.mean_loss, self.counts, *([] if self.alarms is None else [self.alarms])]

    def _maybe_load_initial_counters_from_ckpt(
        self, steps_per_epoch: int, initial_epoch: int
    ) -> tuple[int, int]:
        # Where `fit` begins; Keras has no public way to begin within an epoch.
        return self.first_epoch, self.first_step

    def train_step(self, batch: "Batch") -> dict[str, tf.Tensor]:
        """One step of the optimiser; returns the epoch's mean loss so far."""
        photo, mask, subset = batch
        with tf.GradientTape() as tape:
            probability = self.network(photo, training=True)
            loss = self.loss(mask, probability, self._sample_weight(mask, subset))
            scaled = _for_replica(loss)
            if isinstance(self.optimizer, tf.keras.mixed_precision.LossScaleOptimizer):
                scaled = self.optimizer.get_scaled_loss(scaled)
        weights = self.network.trainable_variables
        gradients = tape.gradient(scaled, weights)
        if isinstance(self.optimizer, tf.keras.mixed_precision.LossScaleOptimizer):
            gradients = self.optimizer.get_unscaled_gradients(gradients)
        self.optimizer.apply_gradients(zip(gradients, weights, strict=True))
        self.mean_loss.update_state(loss)
        return {"loss": self.mean_loss.result()}

    def _sample_weight(self, mask: tf.Tensor, subset: tf.Tensor) -> tf.Tensor | None:
        """What the loss takes: None, a weight for each pixel, or one for each image."""
        if self.loss_weights is None:
            return None
        if self.loss_weights == "pixel":
            return pixel_weights(mask, len(self.classes) or 2)
        return tf.gather(tf.constant(self.loss_weights, tf.float32), subset)

    def test_step(self, batch: "Batch") -> dict[str, tf.Tensor]:
        """Adds one batch; returns the scores so far, over all pixels and for each subset."""
        photo, mask, subset = batch
        probability = self.network(photo, training=False)
        self.mean_loss.update_state(self.loss(mask, probability), sample_weight=tf.shape(photo)[0])
        self.counts.update_state(mask, probability, subset)
        scores = self.head.logs(self.counts.result(), self.subsets, self.classes)
        if self.alarms is not None:
            self.alarms.update_state(mask, probability, subset)
            scores |= alarm_logs(self.alarms.result(), self.subsets)
        return {"loss": self.mean_loss.result()} | scores

    def _validate_and_get_metrics_result(self, logs: dict[str, Any]) -> dict[str, Any]:
        # Which subsets have no foreground is known when a validation ends: Keras has no public way to change
        # the logs then, for all callbacks alike.
        return one_kind_of_scores(super()._validate_and_get_metrics_result(logs), self.subsets)


def _for_replica(loss: tf.Tensor) -> tf.Tensor:
    """The share of one replica in the loss of all: their gradients are summed."""
    return loss / tf.distribute.get_strategy().num_replicas_in_sync


def compile_model(model: SegmentationModel, *, loss: str = DEFAULT_LOSS, **options: Any) -> None:
    """Gives `model` its loss, as `loss_terms` reads it, and its optimiser.

    Args:
        options: as `optimizer.adamw` takes them.
    """
    model.compile(optimizer=adamw(**options), loss=model.head.loss(loss), weighted_metrics=[])


def training_variables(model: SegmentationModel) -> tf.train.Checkpoint:
    """All variables that the next training step depends on.

    Args:
        model: compiled.

    Returns:
        Weights, the optimizer's state and that of each dropout.
    """
    optimizer = model.optimizer
    # Those of a frozen encoder too: a checkpoint numbers the optimizer's variables by their place here.
    optimizer.build([variable for variable in model.network.variables if variable.trainable])
    random = {
        layer.name: layer._random_generator._generator
        for layer in model.network.submodules
        if getattr(getattr(layer, "_random_generator", None), "_generator", None) is not None
    }
    return tf.train.Checkpoint(network=model.network, optimizer=optimizer, random=random)


def write_variables(variables: tf.train.Checkpoint, prefix: str) -> None:
    """Writes files whose paths begin with `prefix`. Raises OSError where there is no room."""
    try:
        variables.write(prefix)
    except tf.errors.OpError as error:
        # "{{node of the graph}} path of a part; No space left on device [Op:SaveV2]"
        raise OSError(error.message.split("; ")[-1].split(" [Op:")[0]) from None


def read_variables(variables: tf.train.Checkpoint, prefix: str) -> None:
    """Reads what `write_variables` wrote. Raises InputError where it is of another model."""
    try:
        variables.read(prefix).assert_existing_objects_matched().expect_partial()
    except (tf.errors.OpError, AssertionError, ValueError) as error:
        reason = str(error).split("\n")[0]
        raise InputError(f"{prefix} does not hold the state of this model: {reason}") from None


def save_weights(network: tf.keras.Model, path: str | Path) -> None:
    """Writes the weights (.weights.h5) under a temporary name and renames.

    Raises:
        InputError: there is no room, the place cannot be written to, or its folder's lock was lost; the old
            file is as it was.
    """
    with whole_weights(path) as temporary:
        network.save_weights(temporary)


def load_weights(network: tf.keras.Model, path: str | Path) -> None:
    """Reads weights into a network built from the run's config.

    Raises:
        InputError: the file is missing, damaged or of another network.
    """
    if not Path(path).is_file():
        raise InputError(f"{path} does not exist; expected the weights of a finished run")
    problem = weights_problem(path)
    if problem:
        raise InputError(f"{path} does not hold the weights of this network: {problem}")
    try:
        network.load_weights(path)
    except (OSError, ValueError, KeyError, RuntimeError) as error:
        raise InputError(f"{path} does not hold the weights of this network: {error}") from None
