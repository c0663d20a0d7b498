"""Seconds of `tersenet demo`, as a user types it."""

from __future__ import annotations

import subprocess
import sys
import tempfile
import time
from pathlib import Path

from setting.results import Results

LIMIT_SECONDS = 90.0


def main() -> None:
    results = Results("demo_time", ("figure",))
    with tempfile.TemporaryDirectory() as folder:
        command = [str(Path(sys.executable).parent / "tersenet"), "demo", "--out", f"{folder}/demo"]
        start = time.perf_counter()
        subprocess.run(command, check=True, capture_output=True)
        results.put(figure="tersenet demo", value=round(time.perf_counter() - start, 1), limit=LIMIT_SECONDS)


if __name__ == "__main__":
    main()
