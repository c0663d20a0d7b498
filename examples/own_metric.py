"""Judge by a metric of one's own: here the F1 score of "this digit is an 8", the worse class of a detector.

python examples/own_metric.py [FOLDER]
"""

import sys

import numpy as np
from net import digits

import tersenet as tn
from tersenet.data import sources
from tersenet.report.text import show


def f1_of_eight(outputs: np.ndarray, labels: np.ndarray) -> float:
    """Harmonic mean of precision and recall for class 8."""
    found, right = outputs.argmax(1) == 8, labels == 8
    return 2 * float((found & right).sum()) / max(int(found.sum() + right.sum()), 1)


def main(folder: str = "runs/own-metric") -> None:
    cut = sources.load("digits")
    data = tn.Data.from_arrays(
        calibration=cut.calibration.arrays()[0],
        evaluation=(cut.evaluation.arrays()[0], cut.evaluation.labels),
        task=tn.Task.own(f1_of_eight, "F1 of 8", "higher", bounded=True),
        name="digits, eights",
    )
    show(tn.compress(digits(), data, budget=tn.Budget(max_drop=1.0), out=folder))


if __name__ == "__main__":
    main(*sys.argv[1:2])
