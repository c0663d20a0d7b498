"""The wheel, as a user gets it: built, installed into an environment of its own, and used from outside the checkout."""

import json
import os
import subprocess
import sys
import sysconfig
import venv
from pathlib import Path
from zipfile import ZipFile

import pytest

pytestmark = [pytest.mark.slow, pytest.mark.end_to_end]

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
    done = subprocess.run(
        [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", folder, checkout], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return next(folder.glob("*.whl"))


@pytest.fixture(scope="module")
def scripts(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the environment's programs lie. It has the wheel, and sees this environment's packages but for the checkout itself."""
    folder = tmp_path_factory.mktemp("environment")
    venv.create(folder, with_pip=False, symlinks=True)
    paths = sysconfig.get_paths(vars={"base": str(folder), "platbase": str(folder), "installed_base": str(folder)}, scheme="venv")
    # A folder that a .pth file names is searched, but the .pth files in it (the editable checkout's) are not read.
    Path(paths["purelib"], "packages.pth").write_text(sysconfig.get_path("purelib") + "\n")
    python = str(Path(paths["scripts"], "python"))
    install = [sys.executable, "-m", "pip", "--python", python, "install", "--quiet", "--no-deps", "--no-index", "--ignore-installed", str(wheel)]
    done = subprocess.run(install, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return Path(paths["scripts"])


def run(*command: object, cwd: Path) -> subprocess.CompletedProcess[str]:
    environment = {key: value for key, value in os.environ.items() if key not in ("PYTHONPATH", "PYTHONHOME")}
    return subprocess.run([str(part) for part in command], cwd=cwd, env=environment, capture_output=True, text=True, check=False, timeout=600)


def test_it_holds_every_source_file_and_nothing_else(wheel: Path, checkout: Path) -> None:
    source = checkout / "src"
    expected = {str(path.relative_to(source)) for path in (source / "tersenet").rglob("*") if path.is_file() and "__pycache__" not in path.parts}
    with ZipFile(wheel) as archive:
        names = archive.namelist()
    assert {name for name in names if ".dist-info/" not in name} == expected
    assert any(name.endswith("licenses/LICENSE") for name in names)


def test_it_is_what_its_environment_imports(scripts: Path, tmp_path: Path) -> None:
    done = run(scripts / "python", "-c", "import tersenet, importlib.metadata as m; print(tersenet.__file__, m.version('tersenet'))", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert Path(done.stdout.split()[0]).is_relative_to(scripts.parent)


def test_it_compresses_from_outside_the_checkout(scripts: Path, tmp_path: Path) -> None:
    (tmp_path / "net.py").write_text(NETWORK)
    done = run(scripts / "tersenet", "compress", "net.py:network", "--data", "digits", "--to", "onnxruntime", "--out", "run", cwd=tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    (artifact,) = json.loads((tmp_path / "run" / "report.json").read_text())["artifacts"]
    assert (tmp_path / "run" / artifact["path"]).stat().st_size == artifact["bytes"]
    assert artifact["quality"]["n"] > 100
    assert (tmp_path / "run" / "report.html").exists()
