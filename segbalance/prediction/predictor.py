"""A run's network, rebuilt from its config and weights, and the masks that it gives."""

from pathlib import Path

import cv2
import numpy as np

from segbalance.dataloader.working_size import shrink_photo, working_shape
from segbalance.legacy_keras import tf
from segbalance.model.metrics import THRESHOLD
from segbalance.model.networks import build_network, load_weights
from segbalance.prediction.row_bands import most_probable
from segbalance.prediction.tiling import without_single_class
from segbalance.train.config_file import load_config
from segbalance.train.folder import BEST


def load_network(work_dir: str | Path) -> tf.keras.Model:
    """The network of a run with its best weights, in float32.

    Only numbers are read from the weights file; the network is built from the checked config.

    Raises:
        InputError: the folder holds no run, or the weights do not fit its config.
    """
    config = load_config(work_dir)
    network = build_network(
        config.network.backbone,
        config.network.image_size,
        architecture=config.network.architecture,
        decoder_filters=tuple(config.network.decoder_filters),
        outputs=config.outputs,
        task=config.data.task,
    )
    load_weights(network, Path(work_dir, BEST))
    return network


def predict_mask(network: tf.keras.Model, image: np.ndarray, working_size: int = 0) -> np.ndarray:
    """Photo uint8 (H, W, 3) RGB -> the network's answer at the photo's own size.

    It is bool (H, W), or uint8 (H, W) class ids of a network that tells several classes apart.

    Args:
        working_size: of the run, so that the network sees what it saw in training.
    """
    size = network.input_shape[1:3]
    shrunk = shrink_photo(image, working_shape(image.shape[1::-1], working_size))
    small = cv2.resize(shrunk, size[::-1], interpolation=cv2.INTER_LINEAR)
    probability = without_single_class(network(small[None], training=False).numpy()[0])
    if probability.ndim == 3:
        return most_probable(probability, image.shape[1::-1])
    return cv2.resize(probability, image.shape[1::-1], interpolation=cv2.INTER_LINEAR) > THRESHOLD


class RunPredictor:
    """The network of a run as a Predictor (many_photos.py), traced once for all batch sizes.

    Args:
        work_dir: folder of the run.

    Raises:
        InputError: as `load_network`.
    """

    def __init__(self, work_dir: str | Path) -> None:
        config = load_config(work_dir)
        tf.keras.mixed_precision.set_global_policy("float32")  # that of a training may still be in force
        network = load_network(work_dir)
        self.input_size = config.network.image_size
        self.working_size = config.loading.working_size or 0
        signature = [tf.TensorSpec((None, self.input_size, self.input_size, 3), tf.uint8)]
        self._predict = tf.function(
            lambda photos: network(photos, training=False), input_signature=signature, autograph=False
        )

    def __call__(self, photos: np.ndarray) -> np.ndarray:
        """uint8 (B, S, S, 3) RGB -> float32 (B, S, S, C) in [0, 1]: C classes, or 1 for the foreground."""
        return self._predict(tf.constant(photos)).numpy()
