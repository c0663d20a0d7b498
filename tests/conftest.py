"""What all tests share: where the data lie, and one thread, so that workers side by side do not fight for the cores."""

import os
from pathlib import Path

import pytest

CHECKOUT = Path(__file__).resolve().parent.parent


@pytest.fixture(scope="session")
def checkout() -> Path:
    """The top of the source tree."""
    return CHECKOUT


@pytest.fixture(scope="session")
def tersenet_data() -> Path:
    """The folder of networks and data sets that larger tests use; a test that needs it is skipped where it is absent."""
    folder = Path(os.environ.get("TERSENET_DATA") or CHECKOUT.parent / "shared" / "data")
    if not folder.is_dir():
        pytest.skip(f"no data at {folder}; point TERSENET_DATA at the folder of networks and data sets")
    return folder
