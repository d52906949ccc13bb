"""What scores a task's images: functions of (predict, batches, tables, classes, threshold).

`predict`, `batches` and `tables` are as `scores.evaluate` takes them; a task makes no use of what it has not.
"""

from collections.abc import Callable

from segbalance.data_processing.tasks import CLASSES, CLASSIFICATION, FOREGROUND, Task
from segbalance.evaluation.class_scores import ClassEvaluation, evaluate_classes, evaluate_labels
from segbalance.evaluation.scores import Evaluation, evaluate

EVALUATORS: dict[Task, Callable[..., Evaluation | ClassEvaluation]] = {
    FOREGROUND: lambda predict, batches, tables, classes, threshold: evaluate(
        predict, batches, tables, threshold
    ),
    CLASSES: lambda predict, batches, tables, classes, threshold: evaluate_classes(
        predict, batches, tables, classes
    ),
    CLASSIFICATION: lambda predict, batches, tables, classes, threshold: evaluate_labels(
        predict, batches, tables, classes
    ),
}
