"""Files that are read where they lie."""

from __future__ import annotations

from pathlib import Path

from tersenet.frontends.mapping import mapped, release


def test_what_was_released_is_read_again(tmp_path: Path) -> None:
    content = bytes(range(256)) * 64
    path = tmp_path / "weights"
    path.write_bytes(content)
    data = mapped(path)
    assert data == content
    release(data)
    assert data == content


def test_what_is_written_stays_in_memory_and_out_of_the_file(tmp_path: Path) -> None:
    path = tmp_path / "weights"
    path.write_bytes(bytes(16))
    data = mapped(path)
    data[0] = 7
    assert data[0] == 7 and path.read_bytes() == bytes(16)


def test_an_empty_file_and_bytes_of_memory(tmp_path: Path) -> None:
    (tmp_path / "empty").touch()
    empty = mapped(tmp_path / "empty")
    release(empty)
    assert empty == b""
    held = memoryview(b"abc")
    release(held)
    assert held == b"abc"
