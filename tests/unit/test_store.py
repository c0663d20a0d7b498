"""A run's folder is complete or absent, and steps are kept whole, whatever goes wrong."""

import errno
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tersenet import store
from tersenet.errors import DataError, OutputError
from tersenet.store import LOCK, MARK, UNFINISHED, Store, claim, signature, usual_folder, write_file

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)
KEY = signature(step="quantize", seed=0)


def everything_in(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*"))


def full(*_: object, **__: object) -> None:
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


# --- signatures


def test_a_signature_is_known_in_advance() -> None:
    # sha256 of {"a":1,"b":[1.5,"x"]}, by another program
    assert signature(b=(1.5, "x"), a=1) == "253252306831c7a53e616d2fac19ec1f21555d2c739d3366d5fa6399d3cce7be"


@given(JSON, JSON)
def test_signatures_are_equal_exactly_when_the_inputs_are(first: object, second: object) -> None:
    same = json.dumps(first, sort_keys=True) == json.dumps(second, sort_keys=True)
    assert (signature(value=first) == signature(value=second)) == same


def test_a_signature_takes_no_number_that_json_has_not() -> None:
    with pytest.raises(ValueError, match="JSON compliant"):
        signature(scale=float("nan"))


# --- single files


def test_a_file_is_written_whole_and_replaced_whole(tmp_path: Path) -> None:
    path = tmp_path / "report.json"
    write_file(path, "{}")
    write_file(path, b"{1}")
    assert path.read_bytes() == b"{1}"
    assert everything_in(tmp_path) == ["report.json"]
    assert path.stat().st_mode & 0o444, "others may read it, as the user's umask says"


@pytest.mark.parametrize("call", ["fsync", "replace"])
def test_a_full_disk_leaves_the_file_that_was_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: str) -> None:
    path = tmp_path / "report.json"
    write_file(path, "old")
    monkeypatch.setattr(store.os, call, full)
    with pytest.raises(OutputError, match=r"disk is full.*report\.json"):
        write_file(path, "new")
    assert path.read_text() == "old"
    assert everything_in(tmp_path) == ["report.json"]


# --- kept work


def test_work_is_kept_under_its_key(tmp_path: Path) -> None:
    kept = Store(tmp_path / "steps")
    assert kept.get(KEY) is None
    path = kept.put(KEY, lambda folder: (folder / "plan.json").write_text("{}") and None)
    assert path == kept.get(KEY) == Store(tmp_path / "steps").get(KEY)
    assert everything_in(tmp_path / "steps") == [KEY, f"{KEY}/plan.json"]


def test_work_that_was_kept_first_stays(tmp_path: Path) -> None:
    kept = Store(tmp_path)
    kept.put(KEY, lambda folder: (folder / "a").write_text("first") and None)
    kept.put(KEY, lambda folder: (folder / "a").write_text("second") and None)
    assert (tmp_path / KEY / "a").read_text() == "first"
    assert everything_in(tmp_path) == [KEY, f"{KEY}/a"]


@pytest.mark.parametrize("error", [DataError("no labels"), KeyboardInterrupt(), OSError(errno.ENOSPC, "full")])
def test_a_writer_that_stops_leaves_nothing(tmp_path: Path, error: BaseException) -> None:
    def writer(folder: Path) -> None:
        (folder / "half").write_text("...")
        raise error

    with pytest.raises(OutputError if isinstance(error, OSError) else type(error)):
        Store(tmp_path).put(KEY, writer)
    assert everything_in(tmp_path) == []
    assert Store(tmp_path).get(KEY) is None


def test_a_killed_writer_leaves_the_key_free(tmp_path: Path) -> None:
    code = (
        "import os, sys, pathlib; from tersenet.store import Store\n"
        "def writer(folder):\n    (folder / 'half').write_text('...')\n    os.kill(os.getpid(), 9)\n"
        "Store(pathlib.Path(sys.argv[1])).put(sys.argv[2], writer)"
    )
    done = subprocess.run([sys.executable, "-c", code, str(tmp_path), KEY], check=False)
    assert done.returncode == -9
    assert Store(tmp_path).get(KEY) is None
    Store(tmp_path).put(KEY, lambda folder: (folder / "whole").write_text("!") and None)
    assert (tmp_path / KEY / "whole").read_text() == "!"


# --- a run's folder


def finish(folder: Path, key: str = KEY, **files: str) -> None:
    with claim(folder, key) as run:
        for name, text in (files or {"report": "{}"}).items():
            (run.work / name).write_text(text)


@pytest.mark.parametrize("exists", [False, True])
def test_a_finished_run_lies_in_place_and_is_answered_from(tmp_path: Path, exists: bool) -> None:
    folder = tmp_path / "runs" / "a"
    if exists:
        folder.mkdir(parents=True)
    with claim(folder, KEY) as run:
        assert not run.finished
        (run.work / "artifacts").mkdir()
        (run.work / "artifacts" / "model.onnx").write_bytes(b"onnx")
        assert not (folder / "artifacts").exists()
        assert run.settled(run.work / "artifacts" / "model.onnx") == folder / "artifacts" / "model.onnx"
        run.steps.put(KEY, lambda _: None)
    assert everything_in(folder) == ["artifacts", "artifacts/model.onnx", MARK, "steps", f"steps/{KEY}"]
    with claim(folder, KEY) as again:
        assert again.finished
        assert (again.work / "artifacts" / "model.onnx").read_bytes() == b"onnx"
    assert everything_in(folder) == ["artifacts", "artifacts/model.onnx", MARK, "steps", f"steps/{KEY}"]


def test_another_run_is_refused_and_left_alone(tmp_path: Path) -> None:
    finish(tmp_path / "a", report="first")
    with pytest.raises(OutputError, match=r"holds another run.*--out"), claim(tmp_path / "a", signature(other=1)):
        pytest.fail("the folder was given away")
    assert (tmp_path / "a" / "report").read_text() == "first"


def test_a_strangers_folder_is_refused_and_left_alone(tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").write_text("years")
    with pytest.raises(OutputError, match=r"no run of tersenet \(thesis.tex\)"), claim(tmp_path, KEY):
        pytest.fail("the folder was given away")
    assert everything_in(tmp_path) == ["thesis.tex"]


def test_a_failed_run_leaves_no_folder_and_no_parent(tmp_path: Path) -> None:
    with pytest.raises(DataError), claim(tmp_path / "runs" / "a", KEY) as run:
        (run.work / "log.txt").write_text("...")
        raise DataError("one class only")
    assert everything_in(tmp_path) == []


def test_a_failed_run_leaves_the_users_empty_folder(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    with pytest.raises(DataError), claim(tmp_path / "a", KEY):
        raise DataError("one class only")
    assert everything_in(tmp_path) == ["a"]


def test_an_interrupted_run_is_resumed_from_its_steps_by_the_same_run_alone(tmp_path: Path) -> None:
    folder = tmp_path / "a"
    with pytest.raises(KeyboardInterrupt), claim(folder, KEY) as run:
        run.steps.put("1" * 64, lambda place: (place / "model").write_text("quantized") and None)
        raise KeyboardInterrupt
    assert not (folder / MARK).exists()
    with pytest.raises(OutputError, match="another run"), claim(folder, signature(other=1)):
        pytest.fail("the folder was given away")
    with claim(folder, KEY) as run:
        assert not run.finished
        kept = run.steps.get("1" * 64)
        assert kept is not None
        assert (kept / "model").read_text() == "quantized"
    assert not (folder / UNFINISHED).exists()
    assert (folder / "steps" / ("1" * 64) / "model").read_text() == "quantized"


def test_a_move_that_was_cut_short_is_not_taken_for_a_finished_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "a"
    replace = os.replace

    def killed_at_the_mark(source: Path, target: Path) -> None:
        if Path(target) == folder / MARK:
            raise KeyboardInterrupt
        replace(source, target)

    def work() -> None:
        with claim(folder, KEY) as run:
            assert not run.finished
            (run.work / "artifacts").mkdir()
            (run.work / "artifacts" / "model.onnx").write_bytes(b"onnx")

    with monkeypatch.context() as patch:
        patch.setattr(store.os, "replace", killed_at_the_mark)
        with pytest.raises(KeyboardInterrupt):
            work()
    work()
    assert everything_in(folder) == ["artifacts", "artifacts/model.onnx", MARK]


HOLDER = (
    "import pathlib, sys, time; from tersenet.store import claim\n"
    "with claim(pathlib.Path(sys.argv[1]), sys.argv[2]) as run:\n"
    "    (run.work / 'steps').mkdir(); print('held', flush=True); sys.stdin.readline()\n"
)


def holding(folder: Path) -> subprocess.Popen[str]:
    """Another process that has claimed a folder, and lets go at a line."""
    process = subprocess.Popen([sys.executable, "-c", HOLDER, str(folder), KEY], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None and process.stdout.readline() == "held\n"
    return process


@pytest.mark.parametrize("key", [KEY, signature(other=1)])
def test_of_two_processes_the_second_is_refused(tmp_path: Path, key: str) -> None:
    folder = tmp_path / "a"
    with holding(folder) as first:
        message = f"written to by process {first.pid};.*--out" if key == KEY else "holds another run.*--out"
        with pytest.raises(OutputError, match=message), claim(folder, key):
            pytest.fail("the folder was given away")
        first.communicate("\n")
    assert first.returncode == 0
    assert everything_in(folder) == [MARK, "steps"]


def test_two_runs_of_one_process_do_not_share_a_folder(tmp_path: Path) -> None:
    with claim(tmp_path, KEY), pytest.raises(OutputError, match=f"process {os.getpid()}"), claim(tmp_path, KEY):
        pytest.fail("the folder was given away")
    with claim(tmp_path, KEY) as run:
        assert run.finished


def test_a_killed_process_leaves_a_lock_that_holds_nobody_up(tmp_path: Path) -> None:
    with holding(tmp_path / "a") as first:
        first.kill()
    assert (tmp_path / "a" / LOCK).read_text() == f"{first.pid}\n"
    with claim(tmp_path / "a", KEY) as run:
        assert not run.finished and (run.work / "steps").is_dir()
    assert everything_in(tmp_path / "a") == [MARK, "steps"]


def test_a_lock_whose_file_was_removed_in_between_is_taken_anew(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    flock, lost = store.fcntl.flock, []

    def late(file: int, operation: int) -> None:
        flock(file, operation)
        if not lost:
            lost.append(file)
            (tmp_path / LOCK).unlink()

    monkeypatch.setattr(store.fcntl, "flock", late)
    with claim(tmp_path, KEY):
        assert lost and (tmp_path / LOCK).is_file()


@pytest.mark.parametrize("where", ["file", "file/under", "/proc/tersenet-run", "/dev/null/run"])
def test_a_place_that_cannot_be_written_is_named(tmp_path: Path, where: str) -> None:
    (tmp_path / "file").write_text("mine")
    folder = tmp_path / where
    with pytest.raises(OutputError, match=r"--out") as caught, claim(folder, KEY):
        pytest.fail("the folder was given away")
    assert str(folder) in str(caught.value)
    assert everything_in(tmp_path) == ["file"]


def test_a_folder_that_may_not_be_written_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(path: Path, *_: object, **__: object) -> None:
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(path))

    monkeypatch.setattr(Path, "mkdir", refused)
    with pytest.raises(OutputError, match="may not be written"), claim(tmp_path / "a", KEY):
        pytest.fail("the folder was given away")


def test_an_error_about_something_else_passes_as_it_is(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError), claim(tmp_path / "a", KEY):
        (tmp_path / "missing.npz").read_bytes()
    assert everything_in(tmp_path) == []


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full, which writes nothing: Linux")
def test_a_disk_that_fills_up_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(OutputError, match="disk is full"), claim(tmp_path / "runs" / "a", KEY) as run:
        (run.work / "half").write_bytes(b"...")
        Path("/dev/full").write_bytes(b"no room")
    assert everything_in(tmp_path) == []


@pytest.mark.skipif(not shutil.which("unshare") or os.geteuid() != 0, reason="mounting a small file system needs root")
def test_a_small_file_system_fills_up_in_earnest(tmp_path: Path) -> None:
    code = (
        "import pathlib, sys; from tersenet.store import claim; from tersenet.errors import OutputError\n"
        "top = pathlib.Path(sys.argv[1])\n"
        "try:\n    with claim(top / 'run', 'a' * 64) as run:\n        (run.work / 'model').write_bytes(bytes(1 << 20))\n"
        "except OutputError as error:\n    print(error)\n"
        "print([path.name for path in top.iterdir()])"
    )
    command = 'mount -t tmpfs -o size=64k none "$1" || exit 77; exec "$2" -c "$3" "$1"'
    done = subprocess.run(
        ["unshare", "--mount", "sh", "-c", command, "sh", str(tmp_path), sys.executable, code], capture_output=True, text=True, check=False
    )
    if done.returncode in (1, 77) and not done.stdout:
        pytest.skip(f"no file system could be mounted here: {done.stderr.strip()}")
    assert "disk is full" in done.stdout, done.stderr
    assert done.stdout.endswith("[]\n")


def test_a_name_that_is_too_long_for_a_folder_is_cut_and_meets_no_other() -> None:
    names = ["x" * 200, "x" * 201, "x" * 300, "x" * 301, "\u540d" * 300, "\udc80" * 300]
    folders = [usual_folder(name, KEY) for name in names]
    assert folders[0].name == f"{'x' * 200}-{KEY[:8]}" and len(set(folders)) == len(names)
    assert all(len(os.fsencode(folder.name)) <= 210 for folder in folders)
