"""Networks, losses and scores: the door to segbalance/model/."""

from segbalance.model.networks import (
    SegmentationModel,
    build_network,
    compile_model,
    load_weights,
    save_weights,
)

__all__ = ["SegmentationModel", "build_network", "compile_model", "load_weights", "save_weights"]
