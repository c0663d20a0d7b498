"""The wheel, as a user gets it: built, installed into environments of its own, and used from outside the checkout."""

import json
import os
import subprocess
import sys
import sysconfig
import venv
from importlib.metadata import distribution
from pathlib import Path
from zipfile import ZipFile

import numpy as np
import pytest
from packaging.requirements import Requirement

pytestmark = [pytest.mark.slow, pytest.mark.end_to_end]

# What a small device has: tersenet's own base packages, what those need, and one runtime.
BARE = {"onnxruntime": ["onnxruntime"], "litert": ["ai-edge-litert"]}
NETWORK = """
import torch

def network():
    torch.manual_seed(0)
    module = torch.nn.Sequential(torch.nn.Conv2d(1, 4, 3), torch.nn.ReLU(), torch.nn.Flatten(), torch.nn.Linear(144, 10)).eval()
    module.example_inputs = (torch.rand(2, 1, 8, 8),)
    return module
"""


@pytest.fixture(scope="module")
def wheel(checkout: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("dist")
    build = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", folder, checkout]
    done = subprocess.run(build, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return next(folder.glob("*.whl"))


def environment(folder: Path, wheel: Path, packages: Path) -> Path:
    """Make an environment that has the wheel and sees a folder of packages; return where its programs lie."""
    venv.create(folder, with_pip=False, symlinks=True)
    paths = sysconfig.get_paths(vars=dict.fromkeys(("base", "platbase", "installed_base"), str(folder)), scheme="venv")
    # A folder that a .pth file names is searched, but the .pth files in it (the editable checkout's) are not read.
    Path(paths["purelib"], "packages.pth").write_text(f"{packages}\n")
    programs = Path(paths["scripts"])
    install = [
        sys.executable,
        "-m",
        "pip",
        "--python",
        programs / "python",
        "install",
        "--quiet",
        "--no-deps",
        "--no-index",
        "--ignore-installed",
        wheel,
    ]
    done = subprocess.run(install, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return programs


def needed_by(*names: str) -> set[str]:
    """The names, and all that they need in turn."""
    found: set[str] = set()
    waiting = list(names)
    while waiting:
        name = waiting.pop()
        if name not in found:
            found.add(name)
            needs = [Requirement(text) for text in distribution(name).requires or []]
            waiting += [need.name for need in needs if need.marker is None or need.marker.evaluate({"extra": ""})]
    return found - {"tersenet"}


def linked(folder: Path, names: set[str]) -> Path:
    """A folder that has these packages, as links, and no other."""
    folder.mkdir()
    for name in names:
        found = distribution(name)
        for top in {file.parts[0] for file in found.files or [] if file.parts[0] not in ("..", "__pycache__")}:
            if not (folder / top).exists():
                (folder / top).symlink_to(Path(str(found.locate_file(top))))
    return folder


@pytest.fixture(scope="module")
def programs(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return environment(tmp_path_factory.mktemp("whole"), wheel, Path(sysconfig.get_path("purelib")))


def run(*command: object, cwd: Path) -> subprocess.CompletedProcess[str]:
    variables = {key: value for key, value in os.environ.items() if key not in ("PYTHONPATH", "PYTHONHOME")}
    return subprocess.run([str(part) for part in command], cwd=cwd, env=variables, capture_output=True, text=True, check=False, timeout=600)


@pytest.fixture(scope="module")
def compressed(programs: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run's folder, made by the wheel from outside the checkout."""
    folder = tmp_path_factory.mktemp("outside")
    (folder / "net.py").write_text(NETWORK)
    asked = [part for target in BARE for part in ("--to", target)]
    done = run(programs / "tersenet", "compress", "net.py:network", "--data", "digits", *asked, "--out", "run", cwd=folder)
    assert done.returncode == 0, done.stdout + done.stderr
    return folder / "run"


def test_it_holds_every_source_file_and_nothing_else(wheel: Path, checkout: Path) -> None:
    source = checkout / "src"
    expected = {str(path.relative_to(source)) for path in (source / "tersenet").rglob("*") if path.is_file() and "__pycache__" not in path.parts}
    with ZipFile(wheel) as archive:
        names = archive.namelist()
    assert {name for name in names if ".dist-info/" not in name} == expected
    assert any(name.endswith("licenses/LICENSE") for name in names)


def test_it_is_what_its_environment_imports(programs: Path, tmp_path: Path) -> None:
    done = run(programs / "python", "-c", "import tersenet, importlib.metadata as m; print(tersenet.__file__, m.version('tersenet'))", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    place, version = done.stdout.split()
    assert Path(place).is_relative_to(programs.parent)
    assert version == distribution("tersenet").version


def test_it_compresses(compressed: Path) -> None:
    for artifact in json.loads((compressed / "report.json").read_text())["artifacts"]:
        assert (compressed / artifact["path"]).stat().st_size == artifact["bytes"]
        assert artifact["quality"]["n"] > 100
    assert (compressed / "report.html").exists()


@pytest.mark.parametrize("target", BARE)
def test_a_file_is_measured_where_there_is_only_its_runtime(target: str, wheel: Path, compressed: Path, tmp_path: Path) -> None:
    """No torch, no exporter's packages: what a small device can hold."""
    names = needed_by("numpy", "click", "rich", "jinja2", "markupsafe", "pyyaml", *BARE[target])
    assert names.isdisjoint({"torch", "onnx", "scikit-learn"})
    bare = environment(tmp_path / "bare", wheel, linked(tmp_path / "packages", names))
    random = np.random.default_rng(0)
    np.savez(tmp_path / "data.npz", x=random.random((300, 1, 8, 8), dtype=np.float32), y=np.arange(300) % 10)
    (path,) = (compressed / "artifacts" / target).glob("model.*")
    done = run(bare / "tersenet", "measure", path, "--data", "data.npz", "--json", cwd=tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    assert str(path.stat().st_size) in done.stdout
