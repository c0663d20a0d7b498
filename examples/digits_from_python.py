"""Compress a trained torch network from Python for two runtimes, and call the files.

python examples/digits_from_python.py [FOLDER]
"""

import sys

from net import digits

import tersenet as tn
from tersenet.data import sources
from tersenet.report.text import show


def main(folder: str = "runs/digits-from-python") -> None:
    network = digits()
    report = tn.compress(network, "digits", to=["onnxruntime", "litert"], out=folder)
    show(report)

    # A file takes what the network takes, whatever layout and numbers it has inside.
    evaluation = sources.load("digits").evaluation
    images = evaluation.arrays()[0][:8]
    print("labels      ", evaluation.labels[:8])
    for target, artifact in report.artifacts.items():
        print(f"{target:12}", artifact(images).argmax(1))


if __name__ == "__main__":
    main(*sys.argv[1:2])
