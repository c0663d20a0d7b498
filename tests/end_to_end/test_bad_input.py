"""Bad input through the real command line: exit code 2, one message that says what to do, nothing half-written, nothing executed."""

from __future__ import annotations

import importlib.util
import json
import os
import pickle
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import command_line

pytestmark = pytest.mark.end_to_end


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An own folder with networks.py, small.npz and flat.npz, which is the working directory."""
    command_line.write_sources(tmp_path)
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def refused(capsys: pytest.CaptureFixture[str]) -> Any:
    """Call the command line and hold it to what bad input must come to; answers with the message."""

    def check(*arguments: Any, says: tuple[str, ...]) -> str:
        before = sorted(Path().rglob("*"))
        outcome = command_line.call(capsys, *arguments)
        assert outcome.code == 2, outcome
        assert outcome.out == ""
        assert "Traceback" not in outcome.err
        text = command_line.message(outcome.err)
        flat = " ".join(text.split())
        for words in says:
            assert words in flat, text
        assert len(text) < 1200, text
        after = [path for path in sorted(Path().rglob("*")) if "__pycache__" not in path.parts]
        assert after == [path for path in before if "__pycache__" not in path.parts], "something was left behind"
        return text

    return check


@pytest.fixture
def refused_run(refused: Any) -> Any:
    """`compress` of some network on some data, refused."""

    def check(model: str, data: str, *options: Any, says: tuple[str, ...]) -> str:
        return refused("compress", model, "--data", data, "--out", "out", *options, says=says)

    return check


# --- the network


@pytest.mark.parametrize(
    ("model", "says"),
    [
        ("missing.pt2", ("missing.pt2", "does not exist")),
        ("netwroks.py:small", ("netwroks.py", "does not exist")),
        ("networks.py:smal", ("unknown name 'smal'", "did you mean 'small'")),
        ("networks.py:failing", ("networks.py", "the user's own trouble", "line")),
        ("networks.py:nothing", ("networks.py:nothing", "NoneType")),
        ("networks.py:bare", ("example",)),
        ("networks.py:branching", ("networks.py", "x.sum() > 0", "depend")),
        ("networks.py:nan", ("conv.weight", "NaN")),
        ("networks.py:infinite", ("conv.weight", "inf")),
        ("no.such.package:name", ("no.such.package",)),
        ("networks.py:", ("networks.py:",)),
        ("small.npz", ("small.npz", "a network is")),
        (".", ("is a folder",)),
        ("resnet8.h5", ("resnet8.h5",)),
        ("hf:someone/something", ("hf:someone/something",)),
        ("", ()),
    ],
)
def test_network(refused_run: Any, model: str, says: tuple[str, ...]) -> None:
    refused_run(model, "small.npz", says=says)


def test_syntax_error_in_the_users_file(refused_run: Any, here: Path) -> None:
    (here / "broken.py").write_text("def net(:\n")
    refused_run("broken.py:net", "small.npz", says=("broken.py", "line 1", "SyntaxError"))


class Bomb:
    def __reduce__(self) -> Any:
        return os.mkdir, ("executed",)


@pytest.mark.parametrize("name", ["net.pt", "net.pth", "net.pkl", "net.bin", "net.pt2", "net.ckpt"])
def test_pickle(refused_run: Any, here: Path, name: str) -> None:
    (here / name).write_bytes(pickle.dumps(Bomb()))
    refused_run(name, "small.npz", says=(name,))
    assert not (here / "executed").exists()


def test_pickle_in_an_archive(refused_run: Any, here: Path) -> None:
    with zipfile.ZipFile(here / "net.pt2", "w") as archive:
        archive.writestr("archive/data.pkl", pickle.dumps(Bomb()))
        archive.writestr("archive/version", "3\n")
    refused_run("net.pt2", "small.npz", says=("net.pt2",))
    assert not (here / "executed").exists()


def test_torch_save_of_a_module(refused_run: Any, here: Path) -> None:
    import torch

    torch.save(torch.nn.Linear(2, 2), here / "net.pt")
    refused_run("net.pt", "small.npz", says=("net.pt", "--trust"))


def test_truncated_pt2(refused_run: Any, here: Path) -> None:
    import torch

    torch.export.save(torch.export.export(torch.nn.Linear(6, 3).eval(), (torch.zeros(2, 6),)), here / "whole.pt2")
    whole = (here / "whole.pt2").read_bytes()
    for size in (0, 10, len(whole) // 2, len(whole) - 30):
        (here / "cut.pt2").write_bytes(whole[:size])
        refused_run("cut.pt2", "flat.npz", says=("cut.pt2",))


@pytest.mark.parametrize("name", ["net.pt2", "net.onnx", "net.tflite", "net.h5", "net.keras", "net"])
def test_unreadable_network(refused_run: Any, here: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    locked(monkeypatch, here / name)
    refused_run(name, "small.npz", says=(f"{name} cannot be read: permission denied",))


@pytest.mark.parametrize("name", ["set.npz", "set.csv", "set"])
def test_unreadable_data(refused_run: Any, here: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    locked(monkeypatch, here / name)
    refused_run("networks.py:small", name, says=(f"{name} cannot be read: permission denied",))


def locked(monkeypatch: pytest.MonkeyPatch, path: Path) -> None:
    """A file or folder that nobody may read, not even root, who runs the tests on some machines."""
    path.write_bytes(b"PK") if path.suffix else path.mkdir()
    path.chmod(0)
    real = os.access
    monkeypatch.setattr(os, "access", lambda file, mode: Path(file).name != path.name and real(file, mode))


LONG = "x" * 300


@pytest.mark.parametrize("model", [f"{LONG}.pt2", f"{LONG}.py:net", f"{LONG}:net"])
def test_a_name_of_a_network_that_is_too_long(refused_run: Any, model: str) -> None:
    refused_run(model, "small.npz", says=("cannot be read: File name too long",))


@pytest.mark.parametrize("data", [f"{LONG}.npz", f"{LONG}.py:data"])
def test_a_name_of_data_that_is_too_long(refused_run: Any, data: str) -> None:
    refused_run("networks.py:small", data, says=("cannot be read: File name too long",))


def test_names_of_other_files_that_are_too_long(refused: Any, refused_run: Any) -> None:
    refused_run("networks.py:small", "small.npz", "--weights", f"{LONG}.safetensors", says=("cannot be read: File name too long",))
    refused("measure", f"{LONG}.onnx", "--data", "small.npz", says=("cannot be read: File name too long",))


def test_a_length_is_for_transformers(refused_run: Any) -> None:
    refused_run("networks.py:small", "small.npz", "--length", "4", says=("a length is chosen for a Transformers checkpoint only",))


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("compres",), "No such command 'compres'"),
        (("compress", "networks.py:small"), "Missing option '--data'"),
        (("compress", "networks.py:small", "--data", "small.npz", "--bogus"), "No such option"),
        (("compress", "networks.py:small", "--data", "small.npz", "--io", "int4"), "'int4' is not one of"),
    ],
)
def test_usage(refused: Any, arguments: tuple[str, ...], says: str) -> None:
    text = refused(*arguments, says=(says, "--help lists what there is."))
    assert text.count("\n") == 0


def test_weights_file(refused_run: Any, here: Path) -> None:
    refused_run("networks.py:small", "small.npz", "--weights", "absent.safetensors", says=("absent.safetensors",))
    (here / "bad.safetensors").write_bytes(b"\xff" * 100)
    refused_run("networks.py:small", "small.npz", "--weights", "bad.safetensors", says=("bad.safetensors",))
    (here / "bomb.pt").write_bytes(pickle.dumps(Bomb()))
    refused_run("networks.py:small", "small.npz", "--weights", "bomb.pt", says=("bomb.pt",))
    assert not (here / "executed").exists()


def test_outputs_that_are_no_classes(refused_run: Any, here: Path) -> None:
    refused_run("networks.py:two", "flat.npz", says=("2 outputs", "Task.own"))
    refused_run("networks.py:image_out", "small.npz", says=("shape",))


# --- the data


def test_named_data(refused_run: Any, here: Path) -> None:
    (here / "empty").mkdir()
    (here / "text.txt").write_text("x")
    (here / "data.py").write_text("def fails():\n    raise ValueError('own trouble')\n\ndef none():\n    return 3\n")
    for data, says in [
        ("digit", ("digit does not exist", "'digits'")),
        ("absent.npz", ("absent.npz does not exist",)),
        ("empty", ("empty folder",)),
        ("text.txt", ("text.txt", "no known kind")),
        ("hf:someone/something", ("hf:someone/something",)),
        ("data.py:fails", ("data.py:fails", "own trouble")),
        ("data.py:none", ("data.py:none", "tersenet.Data")),
        ("data.py:absent", ("absent",)),
        ("absent.py:load", ("absent.py does not exist",)),
        ("", ()),
    ]:
        refused_run("networks.py:small", data, says=says)


GOOD = command_line.images(60)


@pytest.mark.parametrize(
    ("arrays", "says"),
    [
        ({**GOOD, "x": np.where(GOOD["x"] > 2, np.nan, GOOD["x"])}, ("NaN",)),
        ({**GOOD, "x": np.where(GOOD["x"] > 2, -np.inf, GOOD["x"])}, ("infinite",)),
        ({"x": GOOD["x"][:0], "y": GOOD["y"][:0]}, ("empty",)),
        ({"x": GOOD["x"][:3], "y": GOOD["y"][:3]}, ("too few", "at least")),
        ({**GOOD, "x": GOOD["x"][:, :, :5]}, ("(1, 5, 6)", "(1, 6, 6)")),
        ({**GOOD, "x": GOOD["x"][:, 0, 0, 0]}, ("shape", "(1, 6, 6)")),
        ({**GOOD, "x": np.float32(3)}, ("single",)),
        ({**GOOD, "x": GOOD["x"].astype(complex)}, ("complex",)),
        ({**GOOD, "x": np.array(["a"] * 60)}, ("text",)),
        ({**GOOD, "x": np.array([{}] * 60)}, ("objects", "--trust")),
        ({**GOOD, "y": GOOD["y"] + 1}, ("out of range", "3 classes")),
        ({**GOOD, "y": GOOD["y"] - 1}, ("-1",)),
        ({**GOOD, "y": GOOD["y"] * 0}, ("one class",)),
        ({**GOOD, "y": GOOD["y"][:50]}, ("equal lengths", "60", "50")),
        ({**GOOD, "y": np.stack([GOOD["y"]] * 2, 1)}, ("shape",)),
        ({**GOOD, "y": np.full(60, np.nan)}, ("labels", "NaN")),
        ({"a": GOOD["x"]}, ("x and y", "a")),
        ({}, ("none",)),
    ],
)
def test_arrays(refused_run: Any, here: Path, arrays: dict[str, Any], says: tuple[str, ...]) -> None:
    np.savez(here / "bad.npz", **arrays)
    refused_run("networks.py:small", "bad.npz", says=("bad", *says))


def test_damaged_archive(refused_run: Any, here: Path) -> None:
    whole = (here / "small.npz").read_bytes()
    for content in (b"", b"not an archive", whole[:-100], whole[:2000] + b"\0" * 50 + whole[2050:]):
        (here / "bad.npz").write_bytes(content)
        refused_run("networks.py:small", "bad.npz", says=("bad.npz",))


def test_tokens_beyond_the_embedding(refused_run: Any, here: Path) -> None:
    (here / "data.py").write_text(
        "import numpy as np, tersenet\n"
        "def load():\n"
        "    r = np.random.default_rng(0)\n"
        "    x = (r.integers(0, 21, (60, 5)), r.standard_normal((60, 4)).astype('float32'))\n"
        "    return tersenet.Data.from_arrays(train=(x, r.integers(0, 3, 60)))\n"
    )
    refused_run("networks.py:tokens", "data.py:load", says=("calibration samples", "tokens"))


def test_overlap(refused_run: Any, here: Path) -> None:
    (here / "data.py").write_text(
        "import numpy as np, tersenet\n"
        "def load():\n"
        "    with np.load('small.npz') as file:\n"
        "        x, y = file['x'], file['y']\n"
        "    return tersenet.Data.from_arrays(calibration=x[:50], evaluation=(x[40:], y[40:]))\n"
    )
    refused_run("networks.py:small", "data.py:load", says=("10 of 50 calibration samples overlap the evaluation part",))


def test_missing_parts(refused_run: Any, here: Path) -> None:
    (here / "data.py").write_text(
        "import numpy as np, tersenet\n"
        "with np.load('small.npz') as file:\n"
        "    x, y = file['x'], file['y']\n"
        "def uncalibrated():\n"
        "    return tersenet.Data.from_arrays(evaluation=(x, y))\n"
        "def unjudged():\n"
        "    return tersenet.Data.from_arrays(calibration=x)\n"
    )
    refused_run("networks.py:small", "data.py:uncalibrated", says=("calibration part",))
    refused_run("networks.py:small", "data.py:unjudged", says=("evaluation part",))


# --- names, options, recipes, budgets


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (("--to", "onnxruntim"), ("unknown target 'onnxruntim'", "did you mean 'onnxruntime'")),
        (("--to", ""), ("unknown target",)),
        (("--recipe", "int9"), ("unknown recipe 'int9'", "did you mean 'int8'")),
        (("--recipe", "absent.yaml"), ("absent.yaml", "cannot be read")),
        (("--max-bytes", "sixty"), ("max-bytes", "60kB", "sixty")),
        (("--max-bytes", "0"), ("max-bytes", "at least one byte")),
        (("--max-bytes", "-5kB"), ("max-bytes",)),
        (("--max-bytes", "60lb"), ("max-bytes",)),
        (("--max-latency", "2"), ("max-latency", "2ms")),
        (("--max-latency", "-2ms"), ("max-latency",)),
        (("--max-memory", "64 potatoes"), ("max-memory",)),
        (("--max-drop", "-1"), ("max-drop",)),
        (("--max-drop", "nan"), ("max-drop",)),
        (("--max-drop", "little"), ("max-drop", "little")),
        (("--threads", "0"), ("threads",)),
        (("--threads", "-1"), ("threads",)),
        (("--threads", "many"), ("threads",)),
        (("--threads", "1000000"), ("threads",)),
        (("--seed", "-1"), ("seed",)),
        (("--seed", "1.5"), ("seed",)),
        (("--seed", str(2**64)), ("seed",)),
        (("--batch", "0"), ("batch",)),
        (("--batch", str(2**40)), ("batch",)),
        (("--io", "int4"), ("int4",)),
        (("--layout", "nwhc"), ("nwhc",)),
        (("--qoperator", "--to", "litert"), ("qoperator", "onnxruntime")),
        (("--cpu", "toaster"), ("toaster", "x86-avx2")),
        (("--cpu", "toaster", "--to", "litert"), ("toaster", "x86-avx2")),
        (("--outt", "x"), ("--outt", "--out")),
    ],
)
def test_options(refused_run: Any, options: tuple[str, ...], says: tuple[str, ...]) -> None:
    refused_run("networks.py:small", "small.npz", *options, says=says)


@pytest.mark.parametrize(
    ("name", "text", "says"),
    [
        ("r.json", "[", ("r.json", "not JSON")),
        ("r.json", "", ("r.json",)),
        ("r.json", "3", ("list of steps", "int")),
        ("r.json", '"quantize"', ("list of steps",)),
        ("r.json", "[" * 100000, ("r.json",)),
        ("r.json", "[" + "9" * 5000 + "]", ()),
        ("r.json", "[3]", ("'step'",)),
        ("r.json", '[{"step": "quantise"}]', ("unknown step 'quantise'", "did you mean 'quantize'")),
        ("r.json", '[{"step": 3}]', ("'step'",)),
        ("r.json", '[{"step": "quantize", "weigths": "int8"}]', ("unknown option", "did you mean 'weights'")),
        ("r.json", '[{"step": "quantize", "weights": "int9"}]', ("int9", "int8")),
        ("r.json", '[{"step": "quantize", "weights": 8}]', ("weights",)),
        ("r.json", '[{"step": "quantize", "weights": null}]', ("weights",)),
        ("r.json", '[{"step": "quantize", "symmetric": "yes"}]', ("symmetric",)),
        ("r.json", '[{"step": "quantize", "ranges": "minmaxx"}]', ("minmaxx", "minmax")),
        ("r.json", '[{"step": "quantize", "ranges": "percentile", "range_numbers": [["percent", 300]]}]', ("300",)),
        ("r.json", '[{"step": "quantize", "range_numbers": [["percent", 99]]}]', ("minmax", "percent")),
        ("r.json", '[{"step": "quantize", "range_numbers": 3}]', ("range_numbers",)),
        ("r.json", '[{"step": "quantize", "range_numbers": [3]}]', ("range_numbers",)),
        ("r.json", '[{"step": "quantize", "batch_size": 0}]', ("batch_size",)),
        ("r.json", '[{"step": "quantize", "batch_size": 1.5}]', ("batch_size",)),
        ("r.json", '[{"step": "quantize", "batch_size": "8"}]', ("batch_size",)),
        ("r.json", '[{"step": "quantize", "group_size": 32}]', ("group_size", "per-group")),
        ("r.json", '[{"step": "quantize", "group_size": -1, "granularity": "per-group"}]', ("group_size",)),
        ("r.json", '[{"step": "quantize", "group_size": "x", "granularity": "per-group"}]', ("group_size",)),
        ("r.json", '[{"step": "quantize", "keep_float": 3}]', ("keep_float",)),
        ("r.json", '[{"step": "quantize", "keep_float": [3]}]', ("keep_float",)),
        ("r.json", '[{"step": "quantize", "keep_float": ["cnv"]}]', ("cnv", "conv")),
        ("r.json", '[{"step": "quantize", "keep_float": ["layer*"]}]', ("layer*", "conv", "head")),
        ("r.json", '[{"step": "quantize", "overrides": [{"layers": "heat", "weights": "int4"}]}]', ("heat", "head")),
        ("r.json", '[{"step": "quantize", "overrides": [{"layer": "head"}]}]', ("layers",)),
        ("r.json", '[{"step": "quantize", "overrides": [{"layers": "head", "weight": "int4"}]}]', ("weight", "weights")),
        ("r.json", '[{"step": "quantize", "overrides": [{"layers": 3}]}]', ("layers",)),
        ("r.json", '[{"step": "quantize", "overrides": [3]}]', ("overrid",)),
        ("r.json", '[{"step": "quantize", "overrides": "head"}]', ("overrid",)),
        ("r.json", '[{"step": "quantize", "overrides": {"layers": "head"}}]', ("overrid",)),
        ("r.yaml", "- step: [quantize", ("r.yaml", "not YAML")),
        ("r.yaml", "", ("list of steps",)),
        ("r.yaml", "- step: !!python/object/apply:os.mkdir [executed]", ("r.yaml",)),
        ("r.yaml", "a: &a [*a]", ()),
        ("r.yaml", "- step: quantize\n  keep_float: 2020-01-01", ("keep_float",)),
        ("r.yml", "step: quantize", ("list of steps",)),
        ("r.txt", "[]", ("recipe", ".json")),
    ],
)
def test_recipes(refused_run: Any, here: Path, name: str, text: str, says: tuple[str, ...]) -> None:
    (here / name).write_text(text)
    refused_run("networks.py:small", "small.npz", "--recipe", name, says=says)
    assert not (here / "executed").exists()


def test_recipe_that_is_no_text(refused_run: Any, here: Path) -> None:
    (here / "r.json").write_bytes(b"\xff\xfe\x00")
    refused_run("networks.py:small", "small.npz", "--recipe", "r.json", says=("r.json",))
    (here / "r.yaml").write_bytes(b"- step: \x00")
    refused_run("networks.py:small", "small.npz", "--recipe", "r.yaml", says=("r.yaml",))
    (here / "folder.json").mkdir()
    refused_run("networks.py:small", "small.npz", "--recipe", "folder.json", says=("folder.json",))


@pytest.mark.parametrize(
    ("target", "module", "extra"),
    [
        ("onnxruntime", "onnxruntime", "onnxruntime"),
        ("onnxruntime", "onnx", "onnxruntime"),
        ("litert", "ai_edge_litert", "litert"),
        ("litert-micro", "tflite_micro", "litert-micro"),
        ("executorch", "executorch", "executorch"),
    ],
)
def test_runtime_that_is_not_installed(refused_run: Any, monkeypatch: pytest.MonkeyPatch, target: str, module: str, extra: str) -> None:
    without(monkeypatch, module)
    refused_run("networks.py:small", "small.npz", "--to", target, says=(module, f"pip install 'tersenet[{extra}]'"))


def without(monkeypatch: pytest.MonkeyPatch, *absent: str) -> None:
    """Make modules look as if they were not installed."""
    real = importlib.util.find_spec

    class Absent:
        @staticmethod
        def find_spec(name: str, path: Any = None, target: Any = None) -> None:
            if name.partition(".")[0] in absent:
                raise ModuleNotFoundError(f"No module named {name!r}", name=name)

    def find_spec(name: str, package: str | None = None) -> Any:
        return None if name.partition(".")[0] in absent else real(name, package)

    for name in [name for name in sys.modules if name.partition(".")[0] in absent]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setattr(sys, "meta_path", [Absent, *sys.meta_path])
    monkeypatch.setattr("importlib.util.find_spec", find_spec)
    monkeypatch.setattr("tersenet.targets.table.find_spec", find_spec)
    monkeypatch.setattr("tersenet.data.digits.find_spec", find_spec)


def test_torch_that_is_not_installed(here: Path) -> None:
    """In a process of its own: this one has torch loaded."""
    block = (
        "import sys\n"
        "class Absent:\n"
        "    def find_spec(name, path=None, target=None):\n"
        "        if name.partition('.')[0] == 'torch': raise ModuleNotFoundError(name, name=name)\n"
        "sys.meta_path.insert(0, Absent)\n"
        "from tersenet.cli import main\n"
        "sys.exit(main(sys.argv[1:]))\n"
    )
    compress = ["compress", "networks.py:small", "--data", "small.npz", "--out", "out"]
    for arguments in (compress, ["inspect", "networks.py:small"], ["demo", "--out", "out"]):
        done = subprocess.run([sys.executable, "-c", block, *arguments], capture_output=True, text=True, check=False)
        assert done.returncode == 2, done.stderr
        assert "Traceback" not in done.stderr
        assert "pip install 'tersenet[" in command_line.message(done.stderr)
        assert not (here / "out").exists()


def test_data_whose_package_is_not_installed(refused_run: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    without(monkeypatch, "sklearn")
    refused_run("networks.py:small", "digits", says=("scikit-learn", "pip install 'tersenet[data]'"))


# --- the output folder


def test_output_folder_with_strangers(refused_run: Any, here: Path) -> None:
    (here / "out").mkdir()
    (here / "out" / "thesis.doc").write_text("precious")
    refused_run("networks.py:small", "small.npz", says=("out", "thesis.doc", "--out"))
    assert (here / "out" / "thesis.doc").read_text() == "precious"


def test_output_folder_that_is_a_file(refused: Any, here: Path) -> None:
    compress = ("compress", "networks.py:small", "--data", "small.npz", "--out")
    refused(*compress, "small.npz", says=("small.npz", "is a file", "--out"))
    refused(*compress, "small.npz/below", says=("small.npz/below", "--out"))
    refused(*compress, "", says=("--out",))
    refused(*compress, "n" * 300, says=("--out",))


@pytest.mark.skipif(not Path("/proc/self").is_dir(), reason="a folder that nobody may write to")
def test_output_folder_that_is_not_writable(refused: Any) -> None:
    refused("compress", "networks.py:small", "--data", "small.npz", "--out", "/proc/out", says=("/proc/out", "--out"))


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_output_folder_without_permission(refused: Any, here: Path) -> None:
    (here / "locked").mkdir(mode=0o500)
    refused("compress", "networks.py:small", "--data", "small.npz", "--out", "locked/out", says=("locked/out", "--out"))


@pytest.mark.parametrize("write", range(4))
def test_disk_that_is_full(refused_run: Any, monkeypatch: pytest.MonkeyPatch, write: int) -> None:
    """The disk fills up at the first, second ... file."""
    from tersenet import store

    real, seen = os.fdopen, []

    def fdopen(handle: int, mode: str) -> Any:
        seen.append(handle)
        if len(seen) > write:
            os.close(handle)
            raise OSError(28, "No space left on device")
        return real(handle, mode)

    monkeypatch.setattr(store.os, "fdopen", fdopen)
    refused_run("networks.py:small", "small.npz", says=("disk is full", "out", "--out"))


def test_disk_that_is_really_full(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Every target's own writer on a disk of a few kilobytes."""
    disk = here / "disk"
    disk.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=16k", "tmpfs", disk], capture_output=True, check=False).returncode:
        pytest.skip("mounting a small disk needs more rights")
    try:
        for target in installed():
            outcome = command_line.call(capsys, "compress", "networks.py:small", "--data", "small.npz", "--to", target, "--out", disk / "out")
            assert outcome.code == 2, outcome
            assert "disk is full" in command_line.message(outcome.err)
            assert list(disk.iterdir()) == []
    finally:
        subprocess.run(["umount", disk], check=True)


def installed() -> list[str]:
    from tersenet.targets import table

    return [row["target"] for row in table.describe() if row["installed"]]


# --- the other commands


def test_misuse_of_commands(refused: Any, here: Path) -> None:
    refused("inspect", says=("MODEL", "--data"))
    refused("inspect", "networks.py:small", "--data", "small.npz", says=("MODEL", "--data"))
    refused("inspect", "networks.py:small", "--to", "litertt", says=("unknown target 'litertt'", "'litert'"))
    refused("inspect", "networks.py:nan", says=("NaN",))
    refused("inspect", "--data", "absent", says=("absent does not exist",))
    refused("inspect", "--data", "small.npz", "--length", 8, says=("--length is of a MODEL",))
    refused("inspect", "--data", "small.npz", "--to", "litert", says=("--to is of a MODEL",))
    refused("compress", says=("MODEL",))
    refused("compress", "networks.py:small", says=("--data",))
    refused("compres", says=("compres", "compress"))
    refused("report", "absent", says=("absent",))
    refused("report", ".", says=("report.json",))
    refused("report", "small.npz", says=("small.npz",))
    refused("measure", says=("FILE",))
    refused("measure", "x.onnx", says=("--data",))


@pytest.mark.parametrize("text", ["", "{", "[]", "{}", "null", '{"tersenet": 3}', "[" * 100000, "\ud800"])
def test_report_of_a_damaged_record(refused: Any, here: Path, text: str) -> None:
    (here / "report.json").write_bytes(text.encode(errors="surrogatepass"))
    refused("report", ".", says=("report.json",))


@pytest.mark.parametrize("extension", ["onnx", "tflite", "pte"])
def test_measure_of_what_is_no_model(refused: Any, here: Path, extension: str) -> None:
    name = f"model.{extension}"
    refused("measure", name, "--data", "small.npz", says=(name,))
    for content in (b"", b"\0" * 4, b"\0" * 4000, b"\xff" * 4000, bytes(range(256)) * 40, b"TFL3TFL3ET12" * 30, json.dumps({"a": 1}).encode()):
        (here / name).write_bytes(content)
        refused("measure", name, "--data", "small.npz", says=(name,))
    (here / name).unlink()
    (here / name).mkdir()
    refused("measure", name, "--data", "small.npz", says=(name,))


def test_measure_of_an_unknown_ending(refused: Any, here: Path) -> None:
    refused("measure", "small.npz", "--data", "small.npz", says=("small.npz", ".onnx", ".tflite"))
    refused("measure", "", "--data", "small.npz", says=(".onnx",))
