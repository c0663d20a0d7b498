"""Films reviewed: a Keras embedding (10,000 words x 16) and an LSTM of 32 units; the vocabulary is made here.

TERSENET_DATA=FOLDER python examples/keras_reviews.py [FOLDER]

FOLDER/imdb holds parquet files with columns text and label: imdb_train_12500.parquet, imdb_test_5000.parquet. Needs `pip install keras`.
"""

import os
import re
import sys
from collections import Counter
from collections.abc import Iterable
from pathlib import Path

os.environ.setdefault("KERAS_BACKEND", "torch")  # any backend saves the same file

import keras
import numpy as np
from keras import layers
from pyarrow import parquet

import tersenet as tn
from tersenet.report.text import show

WORDS, LENGTH = 10_000, 80
TRAINED_ON, CALIBRATED_ON, JUDGED_ON = 6000, 256, 1000
PADDING, UNKNOWN = 0, 1


def read(name: str) -> tuple[list[list[str]], np.ndarray]:
    """Words of each review, and whether it is a good one."""
    table = parquet.read_table(Path(os.environ["TERSENET_DATA"]) / "imdb" / name, columns=["text", "label"])
    order = np.random.default_rng(0).permutation(table.num_rows)
    texts = table["text"].to_pylist()
    return [re.findall(r"[a-z']+", texts[index].lower().replace("<br />", " ")) for index in order], table["label"].to_numpy()[order]


def vocabulary(reviews: Iterable[list[str]]) -> dict[str, int]:
    """Word -> its number, for the most frequent."""
    counted = Counter(word for review in reviews for word in review)
    return {word: number for number, (word, _) in enumerate(counted.most_common(WORDS - 2), start=2)}


def numbered(reviews: list[list[str]], words: dict[str, int]) -> np.ndarray:
    """The last words of each review as (n, LENGTH) int32, padded in front."""
    numbers = np.full((len(reviews), LENGTH), PADDING, np.int32)
    for row, review in zip(numbers, reviews, strict=True):
        last = [words.get(word, UNKNOWN) for word in review[-LENGTH:]]
        row[LENGTH - len(last) :] = last
    return numbers


def trained(tokens: np.ndarray, good: np.ndarray) -> keras.Model:
    """The network after three epochs."""
    keras.utils.set_random_seed(0)
    network = keras.Sequential([keras.Input((LENGTH,), dtype="int32"), layers.Embedding(WORDS, 16), layers.LSTM(32), layers.Dense(1, "sigmoid")])
    network.compile(loss="binary_crossentropy", optimizer=keras.optimizers.Adam(1e-2))
    network.fit(tokens, good, batch_size=128, epochs=3, verbose=0)
    return network


def main(folder: str = "runs/keras-reviews") -> None:
    reviews, good = read("imdb_train_12500.parquet")
    words = vocabulary(reviews[:TRAINED_ON])
    path = Path(folder) / "reviews.keras"
    path.parent.mkdir(parents=True, exist_ok=True)
    trained(numbered(reviews[:TRAINED_ON], words), good[:TRAINED_ON]).save(path)

    asked, answers = read("imdb_test_5000.parquet")
    calibration = numbered(reviews[TRAINED_ON : TRAINED_ON + CALIBRATED_ON], words)
    evaluation = numbered(asked[:JUDGED_ON], words), answers[:JUDGED_ON]
    data = tn.Data.from_arrays(calibration=calibration, evaluation=evaluation, task="text-classification", name="IMDb reviews")
    report = tn.compress(path, data, to=["onnxruntime", "litert"], out=Path(folder) / "int8")
    show(report)

    for review in ("a wonderful film with great actors", "the worst film ever made and a waste of time"):
        tokens = numbered([review.split()], words)
        votes = {target: round(float(artifact(tokens).item()), 3) for target, artifact in report.artifacts.items()}
        print(f"{review!r}: {votes}")


if __name__ == "__main__":
    main(*sys.argv[1:2])
