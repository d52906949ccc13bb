"""The tasks, and the names of their scores."""

TASKS = ("segmentation", "classification")
CLASSIFICATION = TASKS[1]
THRESHOLD = 0.5  # probability above which a pixel counts as found
POOLED = ("iou", "f1", "precision", "recall")
POOLED_CLASSIFICATION = ("balanced_accuracy", "accuracy", "f1", "precision", "recall")
