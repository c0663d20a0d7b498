"""What `tersenet demo` reaches: the network that it trains on real digits, compressed for every runtime, each file measured in its own."""

import tempfile
from pathlib import Path

from setting.results import Results

from tersenet.demo import demo
from tersenet.record import ArtifactRecord


def row(record: ArtifactRecord) -> dict[str, object]:
    """One line of the table: the int8 file beside the float file of the same runtime."""
    quality = record.quality
    assert quality is not None, "digits have labels"
    low, high = quality.drop_points_ci95 or (None, None)
    return {
        "runtime": record.target,
        "float, bytes": record.twin.bytes,
        "int8, bytes": record.bytes,
        "smaller": round(record.twin.bytes / record.bytes, 2),
        "float, %": round(100 * (record.twin.quality or 0.0), 2),
        "int8, %": round(100 * quality.value, 2),
        "drop, points": round(quality.drop_points or 0.0, 2),
        "95 % interval": None if low is None or high is None else [round(low, 2), round(high, 2)],
        "faster": None if record.speedup is None else round(record.speedup, 2),
        "memory, bytes": record.peak_memory_bytes,
        "of": record.memory_is,
    }


def main() -> None:
    results = Results("demo", ["runtime"])
    with tempfile.TemporaryDirectory() as folder:
        report = demo(Path(folder) / "run", lambda done, total, what: None)
        for record in report.records:
            results.put(**row(record))


if __name__ == "__main__":
    main()
