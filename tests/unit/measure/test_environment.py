import json
import subprocess
import sys

import numpy as np
import pytest

from tersenet.measure import cpu as cpu_module
from tersenet.measure.bootstrap import interval, mean_interval
from tersenet.measure.environment import environment, peak_rss_bytes, versions

X86 = "processor\t: 0\nmodel name\t: Some  CPU @ 3 GHz\nflags\t\t: fpu sse4_1 avx avx2 avx512f avx512_vnni\n\nprocessor\t: 1\nmodel name\t: other\n"
ARM = "processor\t: 0\nFeatures\t: fp asimd asimddp i8mm\n"


@pytest.fixture(autouse=True)
def _fresh() -> None:
    cpu_module.cpu.cache_clear()
    cpu_module.instruction_sets.cache_clear()


@pytest.mark.parametrize(("text", "expected"), [(X86, ("sse4.1", "avx", "avx2", "avx512", "avx512-vnni")), (ARM, ("neon", "dotprod", "i8mm"))])
def test_instruction_sets_by_their_usual_names(tmp_path, monkeypatch, text: str, expected: tuple[str, ...]) -> None:  # type: ignore[no-untyped-def]
    (tmp_path / "cpuinfo").write_text(text)
    monkeypatch.setattr(cpu_module, "CPUINFO", tmp_path / "cpuinfo")
    assert cpu_module.instruction_sets() == expected
    cpu_module.instruction_sets.cache_clear()


def test_a_system_that_does_not_tell(tmp_path, monkeypatch) -> None:  # type: ignore[no-untyped-def]
    monkeypatch.setattr(cpu_module, "CPUINFO", tmp_path / "absent")
    assert cpu_module.instruction_sets() == ()
    assert "core" in cpu_module.cpu()
    cpu_module.instruction_sets.cache_clear()
    cpu_module.cpu.cache_clear()


def test_the_environment_is_plain_json() -> None:
    found = environment(threads=2)
    assert json.loads(json.dumps(found)) == found
    assert found["threads"] == 2
    assert found["versions"]["numpy"] == np.__version__
    assert versions(("no-such-distribution-of-ours",)) == {}


def test_peak_memory_covers_what_is_held() -> None:
    held = np.ones(30_000_000, np.uint8)
    assert peak_rss_bytes() > held.nbytes


def test_measuring_imports_no_torch() -> None:
    names = ("quality", "latency", "memory", "agreement", "environment")
    code = f"import sys, {', '.join('tersenet.measure.' + name for name in names)}; sys.exit(' '.join(n for n in sys.modules if n == 'torch'))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.stderr.strip() == ""


def test_intervals_are_seeded_and_cover_their_mean() -> None:
    values = np.random.default_rng(0).normal(3.0, 1.0, 400)
    first = interval(lambda drawn: float(values[drawn].mean()), len(values))
    assert first == interval(lambda drawn: float(values[drawn].mean()), len(values))
    assert first is not None
    assert first == pytest.approx(mean_interval(values), abs=0.02)
    assert interval(lambda drawn: 0.0, 1) is None
    assert mean_interval(values[:1]) is None
