"""TensorFlow with the Keras that segmentation-models was written for: import `tf` and `sm` from here.

Under Keras 3 some of the library's backbones and MultiWorkerMirroredStrategy with `model.fit` fail.
"""

import contextlib
import importlib
import io
import os
import sys

from segbalance.runtime.memory import keep_freed_memory
from segbalance.runtime.start_up_lines import without_start_up_lines

keep_freed_memory()  # before TensorFlow's threads start

os.environ["TF_USE_LEGACY_KERAS"] = "1"
os.environ["SM_FRAMEWORK"] = "tf.keras"
# Missing GPU drivers are reported as errors and bury the progress; failures raise exceptions all the same.
# Who sets a lower level sees everything, at once.
quiet = os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3") == "3"
os.environ.setdefault("NO_ALBUMENTATIONS_UPDATE", "1")

with without_start_up_lines() if quiet else contextlib.nullcontext():
    import tensorflow as tf

if not tf.keras.Model.__module__.startswith("tf_keras"):
    raise ImportError(
        f"tf.keras is {tf.keras.Model.__module__}, expected tf_keras (Keras 2): TensorFlow was used before "
        "TF_USE_LEGACY_KERAS=1 was set. Import segbalance.legacy_keras first, or set that variable."
    )
# Where somebody imported TensorFlow before the variable was set, `import tensorflow.keras`, as in a library
# below, would find Keras 3, and from then on tf.keras would be that.
sys.modules["tensorflow.keras"] = importlib.import_module("tf_keras.api._v2.keras")

with contextlib.redirect_stdout(io.StringIO()):  # it announces its framework
    import segmentation_models as sm

__all__ = ["sm", "tf"]
