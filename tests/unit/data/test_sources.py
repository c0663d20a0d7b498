"""Every source, as it should be and as it should not."""

import csv
import gzip
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from tersenet.data import digits
from tersenet.data.idx import read_idx
from tersenet.data.preparation import Preparation
from tersenet.data.sources import load
from tersenet.errors import DataError, MissingDependencyError
from tersenet.tensors import TensorSpec

RANDOM = np.random.default_rng(0)
IMAGES = RANDOM.integers(0, 256, (40, 28, 28), dtype=np.uint8)
LABELS = (np.arange(40) % 4).astype(np.uint8)
JUDGES = RANDOM.integers(0, 256, (12, 28, 28), dtype=np.uint8)
SPEC = [TensorSpec("x", (None, 1, 28, 28), "float32")]


def idx_bytes(array: np.ndarray, kind: int = 8) -> bytes:
    return bytes([0, 0, kind, array.ndim]) + b"".join(size.to_bytes(4, "big") for size in array.shape) + array.tobytes()


def idx_folder(folder: Path, *, packed: bool = True, **changed: bytes) -> Path:
    folder.mkdir(exist_ok=True)
    files = {
        "train-images-idx3-ubyte": idx_bytes(IMAGES),
        "train-labels-idx1-ubyte": idx_bytes(LABELS),
        "t10k-images-idx3-ubyte": idx_bytes(JUDGES),
        "t10k-labels-idx1-ubyte": idx_bytes(LABELS[:12]),
    } | {name.replace("_", "-"): content for name, content in changed.items()}
    for name, content in files.items():
        (folder / (name + ".gz" * packed)).write_bytes(gzip.compress(content) if packed else content)
    return folder


def test_digits() -> None:
    data = load("digits")
    assert {name: len(part) for name, part in data.parts()} == {"train": 746, "calibration": 512, "selection": 180, "evaluation": 359}
    (x,), y = next(data.evaluation.batches(1000))
    assert x.shape == (359, 1, 8, 8) and x.dtype == np.float32 and (x.min(), x.max()) == (0.0, 1.0)
    assert y.dtype == np.int64 and set(y) == set(range(10)) and data.class_names == tuple("0123456789")
    assert load("digits").fingerprint == data.fingerprint != load("digits", seed=1).fingerprint


def test_digits_without_their_package(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "sklearn", None)
    with pytest.raises(MissingDependencyError, match=r"pip install 'tersenet\[data\]'"):
        load("digits")


def test_the_file_of_digits_is_what_scikit_learn_gives(monkeypatch: pytest.MonkeyPatch) -> None:
    read = digits._bundled()
    monkeypatch.setattr(Path, "is_file", lambda path: False)
    given = digits._bundled()
    assert all(np.array_equal(one, other) for one, other in zip(read, given, strict=True)) and read[0].shape == (1797, 64)


def test_digits_do_not_fit_a_colour_network() -> None:
    with pytest.raises(DataError, match="shape"):
        load("digits", [TensorSpec("x", (None, 3, 32, 32), "float32")])


@pytest.mark.parametrize("packed", [True, False])
def test_idx_folder(tmp_path: Path, packed: bool) -> None:
    data = load(str(idx_folder(tmp_path / "set", packed=packed)), SPEC)
    assert {name: len(part) for name, part in data.parts()} == {"train": 18, "calibration": 18, "selection": 4, "evaluation": 12}
    assert data.evaluation.inputs[0].dtype == np.uint8 and data.name == "set" and data.task.name == "image-classification"
    (x,), y = next(data.evaluation.batches(12))
    assert np.array_equal(x, JUDGES[:, None] / np.float32(255)) and np.array_equal(y, LABELS[:12])


def test_idx_folder_with_a_preparation(tmp_path: Path) -> None:
    data = load(idx_folder(tmp_path / "set"), SPEC, preparation=Preparation(scale=1.0, mean=(10.0,), std=(2.0,)))
    assert np.allclose(data.evaluation.arrays()[0], (JUDGES[:, None].astype(np.float32) - 10) / 2)


@pytest.mark.parametrize(("kind", "dtype"), [(8, ">u1"), (9, ">i1"), (11, ">i2"), (12, ">i4"), (13, ">f4"), (14, ">f8")])
def test_idx_of_every_type(tmp_path: Path, kind: int, dtype: str) -> None:
    array = np.arange(-3, 9).reshape(3, 4).astype(dtype)
    (tmp_path / "a.idx").write_bytes(idx_bytes(array, kind))
    assert np.array_equal(read_idx(tmp_path / "a.idx"), array) and read_idx(tmp_path / "a.idx").dtype.isnative


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (idx_bytes(IMAGES)[:-1], "truncated"),
        (idx_bytes(IMAGES) + b"x", "holds more"),
        (idx_bytes(IMAGES)[:7], "truncated"),
        (b"", "not an IDX file"),
        (b"\x89PNG1234", "not an IDX file"),
        (b"\0\0\x08\x03" + b"\xff" * 12, "truncated"),
        (idx_bytes(IMAGES[:0]), "empty"),
        (idx_bytes(IMAGES[:39]), "equal lengths, got 39 and 40"),
    ],
)
@pytest.mark.parametrize("packed", [True, False])
def test_damaged_idx(tmp_path: Path, content: bytes, message: str, packed: bool) -> None:
    folder = idx_folder(tmp_path / "torn", packed=packed, train_images_idx3_ubyte=content)
    with pytest.raises(DataError, match=message) as raised:
        load(folder)
    assert "torn" in str(raised.value)


def test_truncated_and_broken_gzip(tmp_path: Path) -> None:
    folder = idx_folder(tmp_path / "torn")
    path = folder / "train-images-idx3-ubyte.gz"
    whole = path.read_bytes()
    for content in (whole[: len(whole) // 2], b"not gzip at all", whole[:200] + b"\xff" * 50 + whole[250:]):
        path.write_bytes(content)
        with pytest.raises(DataError, match=r"train-images-idx3-ubyte\.gz"):
            load(folder)


def test_idx_without_labels_or_images(tmp_path: Path) -> None:
    folder = idx_folder(tmp_path / "set")
    (folder / "train-labels-idx1-ubyte.gz").unlink()
    with pytest.raises(DataError, match="without its labels"):
        load(folder)
    for path in folder.glob("*images*"):
        path.unlink()
    with pytest.raises(DataError, match="images are missing"):
        load(folder)


def test_mnist_as_published(tersenet_data: Path) -> None:
    start = time.perf_counter()
    data = load(tersenet_data / "mnist", SPEC)
    assert time.perf_counter() - start < 4  # 1 s on a quiet machine
    assert {name: len(part) for name, part in data.parts()} == {"train": 53488, "calibration": 512, "selection": 6000, "evaluation": 10000}
    assert all(part.inputs[0].dtype == np.uint8 for _, part in data.parts())
    assert data.evaluation.labels is not None and data.evaluation.labels[:5].tolist() == [7, 2, 1, 0, 4]


def test_npz_with_one_set(tmp_path: Path) -> None:
    x = RANDOM.random((400, 3), dtype=np.float32)
    np.savez(tmp_path / "two.npz", x=x, y=np.arange(400) % 3)
    data = load(str(tmp_path / "two.npz"), [TensorSpec("x", (None, 3), "float32")])
    assert {name: len(part) for name, part in data.parts()} == {"train": 140, "calibration": 140, "selection": 40, "evaluation": 80}
    assert data.name == "two" and data.task.name == "classification"


def test_npz_as_keras_writes_it(tmp_path: Path) -> None:
    images = RANDOM.integers(0, 256, (60, 8, 8, 3), dtype=np.uint8)
    np.savez(
        tmp_path / "k.npz", x_train=images[:40], y_train=np.arange(40)[:, None] % 4, x_test=images[40:], y_test=np.arange(20)[:, None] % 4, more=1
    )
    data = load(tmp_path / "k.npz", [TensorSpec("x", (None, 3, 8, 8), "float32")])
    (x,), y = next(data.evaluation.batches(20))
    assert np.array_equal(x, images[40:].transpose(0, 3, 1, 2) / np.float32(255)) and np.array_equal(y, np.arange(20) % 4)
    assert len(data.selection) == 4 and any("left unread: more" in note for note in data.notes)


def test_npz_without_labels(tmp_path: Path) -> None:
    np.savez(tmp_path / "x.npz", x=RANDOM.random((100, 3)))
    data = load(tmp_path / "x.npz")
    assert data.task.kind == "agreement" and len(data.evaluation) == 20 and "no labels" in data.notes[-1]


def test_npz_of_fractions_is_a_regression(tmp_path: Path) -> None:
    np.savez(tmp_path / "r.npz", x=RANDOM.random((100, 3)), y=RANDOM.random(100))
    assert load(tmp_path / "r.npz").task.name == "regression"


def test_npz_says_its_task_where_whole_targets_would_be_classes(tmp_path: Path) -> None:
    x, prices = RANDOM.random((100, 3)), np.arange(100, dtype=np.float32) + 241
    specs = [TensorSpec("x", (None, 3), "float32")]
    np.savez(tmp_path / "r.npz", x=x, y=prices)
    with pytest.raises(DataError, match="the network's one output tells 2 classes apart.*task='regression'.*npz"):
        load(tmp_path / "r.npz").bind(specs, [TensorSpec("price", (None, 1), "float32")])
    np.savez(tmp_path / "r.npz", x=x, y=prices, task="regression")
    data = load(tmp_path / "r.npz").bind(specs, [TensorSpec("price", (None, 1), "float32")])
    assert data.task.name == "regression" and data.evaluation.labels.dtype == np.float32
    assert not any("unread" in note for note in data.notes)
    np.savez(tmp_path / "own.npz", x=x, y=np.arange(100) % 2, task=np.arange(100))
    assert load(tmp_path / "own.npz").notes[-1] == "arrays of own.npz that were left unread: task"


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"x": np.zeros((9, 3)), "y": np.arange(9), "task": "regresion"}, "did you mean 'regression'"),
        ({"x": np.zeros((9, 3)), "y": np.arange(9), "task": ["regression", "classification"]}, "task must be one name, got 2 texts"),
        ({"x": np.full((64, 3), np.nan), "y": np.arange(64) % 4}, "nan"),
        ({"x": np.full((64, 3), np.inf), "y": np.arange(64) % 4}, "infinite"),
        ({"x": np.zeros((0, 3)), "y": np.zeros(0, int)}, "empty"),
        ({"x": np.zeros((9, 3)), "y": np.arange(8)}, "equal lengths"),
        ({"x": np.array([{"a": 1}, None]), "y": np.arange(2)}, "unpickling"),
        ({"images": np.zeros((9, 3))}, "must have arrays x and y"),
        ({}, "it has none"),
        ({"x": np.zeros((9, 3)), "y": np.zeros(9, int)}, "one class only"),
    ],
)
def test_bad_npz(tmp_path: Path, arrays: dict, message: str) -> None:
    np.savez(tmp_path / "bad.npz", **arrays)
    with pytest.raises(DataError) as raised:
        load(tmp_path / "bad.npz")
    assert message in str(raised.value).lower() and "bad.npz" in str(raised.value)


def test_damaged_npz_never_raises_anything_else(tmp_path: Path) -> None:
    path = tmp_path / "torn.npz"
    np.savez_compressed(path, x=RANDOM.random((50, 3)), y=np.arange(50) % 3)
    whole = path.read_bytes()
    with pytest.raises(DataError, match=r"not an \.npz archive"):
        path.write_bytes(b"PK\x03\x04zzz")
        load(path)
    random = np.random.default_rng(1)
    failed = 0
    for _ in range(200):
        torn = bytearray(whole[: random.integers(1, len(whole))] if random.random() < 0.2 else whole)
        for place in random.integers(0, len(torn), 4):
            torn[place] = random.integers(256)
        path.write_bytes(torn)
        try:
            load(path)
        except DataError as error:
            failed += "torn.npz" in str(error)
    assert failed > 150


def test_objects_are_unpickled_only_when_trusted(tmp_path: Path) -> None:
    x = np.empty(20, object)
    x[:] = ["good", "bad"] * 10
    np.savez(tmp_path / "o.npz", x=x, y=np.arange(20) % 2)
    with pytest.raises(DataError, match="--trust"):
        load(tmp_path / "o.npz")
    assert load(tmp_path / "o.npz", trust=True).train.inputs[0][0] in ("good", "bad")


def write_csv(path: Path, header: tuple[str, ...] = ("text", "label"), rows: int = 40) -> Path:
    with path.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([header, *[(f'it was "{"good" if row % 2 else "bad"}",\n{row} 天', row % 2) for row in range(rows)]])
    return path


def test_csv_and_parquet(tmp_path: Path) -> None:
    pyarrow = pytest.importorskip("pyarrow")
    import pyarrow.parquet as parquet

    table = load(write_csv(tmp_path / "a.csv"))
    assert table.task.name == "text-classification" and len(table.evaluation) == 8
    assert "天" in table.train.inputs[0][0] and '"' in table.train.inputs[0][0]
    rows = [f"sentence {row}" for row in range(40)]
    parquet.write_table(pyarrow.table({"sentence": rows, "topic": ["b", "a"] * 20}), tmp_path / "a.parquet")
    named = load(f"{tmp_path / 'a.parquet'}:sentence,topic")
    assert named.class_names == ("a", "b") and sum(len(part) for _, part in named.parts()) == 40
    with pytest.raises(DataError, match="unknown column 'text'"):
        load(tmp_path / "a.parquet")
    with pytest.raises(DataError, match="texts"):
        load(tmp_path / "a.csv", [TensorSpec("ids", (None, 128), "int64")])


def test_bad_tables(tmp_path: Path) -> None:
    (tmp_path / "torn.parquet").write_bytes(b"PAR1" + b"\x07" * 40)
    (tmp_path / "bytes.csv").write_bytes(b"text,label\n\xff\xfe,1\n")
    (tmp_path / "empty.csv").write_text("")
    (tmp_path / "header.csv").write_text("text,label\n")
    (tmp_path / "holes.csv").write_text("text,label\na,1\nb,\nc,0\n")
    (tmp_path / "short.csv").write_text("text,label\na,1\nb\nc,0\n")
    write_csv(tmp_path / "names.csv", ("txt", "label"))
    for name, message in {
        "torn.parquet": "cannot be read as parquet",
        "bytes.csv": "cannot be read",
        "empty.csv": "is empty",
        "header.csv": "is empty",
        "holes.csv": "column 'label' has 1 empty cells",
        "short.csv": "column 'label' has 1 empty cells",
        "names.csv": "did you mean 'txt'",
    }.items():
        with pytest.raises(DataError, match=message) as raised:
            load(tmp_path / name)
        assert name in str(raised.value)


def image_folders(folder: Path, names: tuple[str, ...] = ("cat", "dog"), size: tuple[int, int] = (6, 5), blue: int = 7) -> Path:
    images = pytest.importorskip("PIL.Image")
    for number, name in enumerate(names):
        (folder / name).mkdir(parents=True)
        for index in range(10):
            pixels = np.full((size[1], size[0], 3), (100 * number, index, blue), np.uint8)
            images.fromarray(pixels).save(folder / name / f"{index}.png")
    return folder


def test_image_folders(tmp_path: Path) -> None:
    folder = image_folders(tmp_path / "pets")
    data = load(folder)
    assert data.class_names == ("cat", "dog") and data.train.inputs[0].shape[1:] == (5, 6, 3)
    fitted = load(folder, [TensorSpec("x", (None, 3, 8, 10), "float32")])
    (x,), y = next(fitted.evaluation.batches(4))
    assert x.shape == (4, 3, 8, 10) and fitted.train.inputs[0].dtype == np.uint8 and fitted.preparation[0].size == (8, 10)
    assert np.allclose(x[:, 0, 0, 0], 100 / 255 * y, atol=1e-6)
    grey = load(folder, [TensorSpec("x", (None, 8, 10, 1), "float32")])
    assert grey.evaluation.arrays()[0].shape == (4, 8, 10, 1)


def test_image_folders_with_a_test_part(tmp_path: Path) -> None:
    image_folders(tmp_path / "pets" / "train")
    image_folders(tmp_path / "pets" / "test", blue=8)
    data = load(tmp_path / "pets")
    assert len(data.evaluation) == 20 and len(data.train) + len(data.calibration) + len(data.selection) == 20


def test_a_published_train_part_is_left_without_what_its_test_part_holds(tmp_path: Path) -> None:
    x, y = RANDOM.random((100, 3)).astype(np.float32), np.arange(100) % 2
    np.savez(tmp_path / "leak.npz", x_train=x[:80], y_train=y[:80], x_test=x[60:], y_test=y[60:])
    data = load(tmp_path / "leak.npz")
    assert sum(len(part) for name, part in data.parts() if name != "evaluation") == 60
    assert "20 of 80 train samples left out, for the evaluation part has them too" in data.notes
    np.savez(tmp_path / "all.npz", x_train=np.concatenate([x, x]), y_train=np.concatenate([y, y]), x_test=x, y_test=y)
    with pytest.raises(DataError, match="200 of 200 train samples are in the test part too"):
        load(tmp_path / "all.npz")
    np.savez(tmp_path / "own.npz", x_calibration=x[:80], x_test=x[60:], y_test=y[60:])
    with pytest.raises(DataError, match="20 of 80 calibration samples overlap the evaluation part"):
        load(tmp_path / "own.npz")


def test_bad_image_folders(tmp_path: Path) -> None:
    folder = image_folders(tmp_path / "pets")
    (folder / "cat" / "0.png").write_bytes(b"\x89PNG\r\n\x1a\n broken")
    with pytest.raises(DataError, match=r"0\.png cannot be read as an image"):
        load(folder)
    (folder / "cat" / "0.png").unlink()
    image_folders(folder, ("eel",), (9, 9))
    with pytest.raises(DataError, match="one size"):
        load(folder)
    (tmp_path / "void").mkdir()
    with pytest.raises(DataError, match="empty folder"):
        load(tmp_path / "void")
    (tmp_path / "void" / "notes.txt").write_text("nothing here")
    with pytest.raises(DataError, match="neither IDX files nor"):
        load(tmp_path / "void")


OWN = """
import numpy as np
import tersenet
from beside_me import NUMBER
print("chatter")
def good():
    return tersenet.Data.from_arrays(evaluation=(np.arange(12.0)[:, None] * NUMBER, np.arange(12) % 3))
ready = good()
def wrong(): return 3
def fails(): return 1 / 0
def leaves(): raise SystemExit("no")
def bad(): return tersenet.Data.from_arrays(evaluation=(np.array([[1.0], [np.nan]]), np.arange(2)))
"""


def test_a_function_of_the_users_own(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "own.py").write_text(OWN)
    (tmp_path / "beside_me.py").write_text("NUMBER = 2")
    before = list(sys.path)
    for name in ("good", "ready"):
        data = load(f"{tmp_path / 'own.py'}:{name}", [TensorSpec("x", (None, 1), "float32")])
        assert len(data.evaluation) == 12 and data.name == f"own:{name}"
    assert capsys.readouterr().out == "" and sys.path == before
    for name, message in {
        "wrong": "must return a tersenet.Data, got int",
        "fails": "ZeroDivisionError: division by zero",
        "leaves": "SystemExit: no",
        "absent": "has no function 'absent'",
        "not-a-name": "must name a function",
        "bad": "NaN",
    }.items():
        with pytest.raises(DataError, match=message) as raised:
            load(f"{tmp_path / 'own.py'}:{name}")
        assert "own.py" in str(raised.value)
    (tmp_path / "broken.py").write_text("def (")
    with pytest.raises(DataError, match="SyntaxError"):
        load(f"{tmp_path / 'broken.py'}:load")
    with pytest.raises(DataError, match="does not exist"):
        load(f"{tmp_path / 'gone.py'}:load")


def test_sources_that_are_none(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="nowhere does not exist"):
        load("nowhere")
    (tmp_path / "data.xyz").write_text("?")
    with pytest.raises(DataError, match="of no known kind"):
        load(tmp_path / "data.xyz")
    with pytest.raises(DataError, match=r"must be a tersenet\.Data or name a source .*, got tuple"):
        load((1, 2))  # type: ignore[arg-type]
    with pytest.raises(DataError, match="not fetched from the hub"):
        load("hf:somebody/something")


def test_data_pass_through_and_are_bound(tmp_path: Path) -> None:
    data = load("digits")
    assert load(data) is data
    assert load(data, [TensorSpec("x", (None, 64), "float32")]).evaluation.arrays()[0].shape == (359, 64)
