"""Encoder freezing: the decoder learns alone at first, then all layers do, at a lower learning rate.

What is frozen depends on the epoch alone, so that a resumed run freezes what the unbroken one does.
"""

from typing import Any

from segbalance.legacy_keras import tf
from segbalance.runtime.screen import say


def freeze_normalisation(network: tf.keras.Model) -> None:
    """Freezes the encoder's batch normalisation, which segmentation-models' encoder_freeze leaves out.

    Frozen, it works as in inference: by its moving averages, which stay as they are.

    Args:
        network: of segmentation-models, built with encoder_freeze.
    """
    for layer in network.layers:
        if isinstance(layer, tf.keras.layers.BatchNormalization):
            # A decoder normalises nothing but the output of its own convolutions, and these are not frozen.
            layer.trainable = layer.inbound_nodes[0].inbound_layers.trainable


class EncoderFreezing(tf.keras.callbacks.Callback):
    """Lets the encoder learn too from an epoch on; before the callbacks that wrap the training function.

    Args:
        network: what `build_network` returns, its encoder frozen.
        freeze_epochs: the first epoch, counted from 0, in which all layers learn.
    """

    def __init__(self, network: tf.keras.Model, freeze_epochs: int) -> None:
        super().__init__()
        self.network = network
        self.freeze_epochs = freeze_epochs
        self.frozen = True

    def on_epoch_begin(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        """Thaws the encoder where it is time to, or was before the run was resumed."""
        if self.frozen and epoch >= self.freeze_epochs:
            self.frozen, self.network.trainable = False, True
            # The traced step still knows which variables learn and how the normalisation works.
            self.model.make_train_function(force=True)
            say(f"epoch {epoch + 1}: the encoder learns too")
