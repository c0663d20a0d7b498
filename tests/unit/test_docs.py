"""Generated pages are those that the tables give now."""

import subprocess
import sys

from source import CHECKOUT


def test_the_generated_pages_are_up_to_date() -> None:
    done = subprocess.run([sys.executable, CHECKOUT / "scripts" / "docs", "--check"], capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{done.stdout}{done.stderr}\nmake docs writes them anew"
