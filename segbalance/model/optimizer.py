"""AdamW with warm-up and cosine decay, for an encoder that learns later than the decoder too."""

from collections.abc import Sequence
from typing import Any

from segbalance.legacy_keras import tf

NOT_DECAYED = ["gamma", "beta", "bias"]
UNFROZEN = 0.1  # of the learning rate, once the encoder learns too


def adamw(
    *,
    learning_rate: float,
    steps: int,
    warmup_steps: int,
    weight_decay: float = 1e-4,
    decay_start: int = 0,
    freeze_steps: int = 0,
    unfreeze_learning_rate: float | None = None,
) -> tf.keras.optimizers.Optimizer:
    """AdamW (Loshchilov and Hutter 2019) with warm-up and cosine decay.

    It stands in for the tutorial's RectifiedAdam, which came from TensorFlow Addons and has ended; the
    warm-up does what the rectification did.

    Args:
        learning_rate: the highest, reached after `warmup_steps` and decayed to 0 at `steps`.
        decay_start: step at which the decay begins, with `warmup_steps` from there on.
        freeze_steps: for so many steps the encoder is frozen.
        unfreeze_learning_rate: takes the place of `learning_rate` from there on; a tenth of it by default.
    """
    schedule = tf.keras.optimizers.schedules.CosineDecay(
        initial_learning_rate=0.0 if warmup_steps else learning_rate,
        decay_steps=max(steps - decay_start - warmup_steps, 1),
        warmup_target=learning_rate if warmup_steps else None,
        warmup_steps=warmup_steps,
    )
    if decay_start:
        schedule = Delayed(schedule, decay_start)
    optimizer_class = FusedAdamW
    if freeze_steps:
        rate = UNFROZEN * learning_rate if unfreeze_learning_rate is None else unfreeze_learning_rate
        schedule = Lowered(schedule, freeze_steps, rate / learning_rate)
        optimizer_class = LateAdamW
    # Keras would have XLA compile the kernel, once for each variable.
    optimizer = optimizer_class(schedule, weight_decay=weight_decay, jit_compile=False)
    optimizer.exclude_from_weight_decay(var_names=NOT_DECAYED)
    return optimizer


class Delayed(tf.keras.optimizers.schedules.LearningRateSchedule):
    """A schedule that begins at step `start`; before, its first value."""

    def __init__(self, schedule: tf.keras.optimizers.schedules.LearningRateSchedule, start: int) -> None:
        super().__init__()
        self.schedule, self.start = schedule, start

    def __call__(self, step: tf.Tensor) -> tf.Tensor:
        """Learning rate at a step of the run."""
        return self.schedule(tf.maximum(tf.cast(step, tf.int64) - self.start, 0))

    def get_config(self) -> dict[str, Any]:
        """What rebuilds the schedule."""
        return {"schedule": self.schedule, "start": self.start}


class Lowered(tf.keras.optimizers.schedules.LearningRateSchedule):
    """A schedule, times `factor` from step `start` on."""

    def __init__(
        self, schedule: tf.keras.optimizers.schedules.LearningRateSchedule, start: int, factor: float
    ) -> None:
        super().__init__()
        self.schedule, self.start, self.factor = schedule, start, factor

    def __call__(self, step: tf.Tensor) -> tf.Tensor:
        """Learning rate at a step of the run."""
        rate = self.schedule(step)
        return tf.where(tf.cast(step, tf.int64) < self.start, rate, rate * self.factor)

    def get_config(self) -> dict[str, Any]:
        """What rebuilds the schedule."""
        return {"schedule": self.schedule, "start": self.start, "factor": self.factor}


class FusedAdamW(tf.keras.optimizers.AdamW):
    """Keras' AdamW by TensorFlow's fused kernel of Adam: one operation, where Keras takes twelve.

    State and checkpoints are Keras' own, results differ in the last bits. For dense gradients, without
    amsgrad.
    """

    def _apply_weight_decay(self, variables: Sequence[tf.Variable]) -> None:
        """Leaves the decay to `update_step`, which has the variable at hand."""

    def _internal_apply_gradients(self, grads_and_vars: Sequence[tuple[tf.Tensor, tf.Variable]]) -> tf.Tensor:
        # Read once for all variables: on a GPU each of these scalars is a kernel of its own.
        self._rate = tf.identity(self.learning_rate)
        self._steps = tf.cast(self.iterations + 1, tf.float32)
        return super()._internal_apply_gradients(grads_and_vars)

    def _steps_of(self, index: int) -> tf.Tensor:
        """How many steps the variable with this index has learned, this one included, as float32."""
        return self._steps

    def update_step(self, gradient: tf.Tensor, variable: tf.Variable) -> None:
        """Moves one variable."""
        if self._use_weight_decay(variable):
            # A product with 1 - rate * decay is faster, but float32 knows too few numbers just below 1.
            variable.assign_sub(variable * (self._rate * self.weight_decay), read_value=False)
        index = self._index_dict[self._var_key(variable)]
        steps = self._steps_of(index)
        tf.raw_ops.ResourceApplyAdam(
            var=variable.handle,
            m=self._momentums[index].handle,
            v=self._velocities[index].handle,
            beta1_power=tf.pow(self.beta_1, steps),
            beta2_power=tf.pow(self.beta_2, steps),
            lr=self._rate,
            beta1=self.beta_1,
            beta2=self.beta_2,
            epsilon=self.epsilon,
            grad=gradient,
        )


class LateAdamW(FusedAdamW):
    """AdamW for variables that begin to learn at different steps: it counts the steps of each.

    Adam divides its moments, which begin at 0, by 1 - beta ** steps (Kingma and Ba 2015, section 3). Keras
    counts the steps of the run there, by which the first steps of a thawed encoder would be up to 6.6 times
    too long.
    """

    def build(self, var_list: Sequence[tf.Variable]) -> None:
        """Makes the moments and counts of all variables that will ever learn."""
        built = getattr(self, "_built", False)
        super().build(var_list)
        if not built:
            self._counts = [
                self.add_variable_from_reference(variable, "count", shape=()) for variable in var_list
            ]

    def _steps_of(self, index: int) -> tf.Tensor:
        return self._counts[index].assign_add(1.0)
