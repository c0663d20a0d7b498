"""A run's record: everything that was measured and decided, as frozen plain data. Text, JSON and HTML only draw it."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tersenet.budget import Budget, Miss
from tersenet.errors import InputError, OutputError, unknown
from tersenet.plain import fields_to_plain, from_plain
from tersenet.step import Change
from tersenet.store import write_file
from tersenet.target import Artifact

FILE_NAME = "report.json"
NOTABLE = 0.75  # of a file: what packs to less is said beside its size; dense weights of 8 bits pack to more


@dataclass(frozen=True)
class Latency:
    """Milliseconds of one run.

    Args:
        median, p10, p90: of the timed runs.
        threads: that the runtime was given.
        runs: how many were timed.
        cpu: the machine's processor.
        ci95: 95 % interval of the median.
    """

    median: float
    p10: float
    p90: float
    threads: int = 1
    runs: int = 0
    cpu: str = ""
    ci95: tuple[float, float] | None = None


@dataclass(frozen=True)
class FloatTwin:
    """The same runtime's file of the uncompressed network; `memory_is` and `packed_bytes` as in `ArtifactRecord`."""

    bytes: int
    quality: float | None = None
    latency_ms: Latency | None = None
    peak_memory_bytes: int | None = None
    memory_is: str | None = None
    packed_bytes: int | None = None


@dataclass(frozen=True)
class Quality:
    """The task's metric, measured by running the file on the evaluation part.

    Args:
        metric: its name.
        value: of this file.
        drop_points: from the float file to this one, worse counted positive, in `unit`; None where float's is zero and percent of it mean nothing.
        drop_points_ci95: its 95 % interval, paired: the same samples through both; None where there is one sample alone.
        n: samples.
        unit: ``points`` (100 times the metric) or ``percent`` (of float's, for unbounded metrics).
        judge: ``labels``, or ``float outputs`` where the data have no labels.
        direction: whether more or less is better: ``higher`` or ``lower``.
    """

    metric: str
    value: float
    drop_points: float | None
    drop_points_ci95: tuple[float, float] | None
    n: int
    unit: str = "points"
    judge: str = "labels"
    direction: str = "higher"


@dataclass(frozen=True)
class FloatOperator:
    """An operator that stays in float, or that the fast kernels declined, and why."""

    op: str
    name: str
    why: str


@dataclass(frozen=True)
class WeightRange:
    """A layer's weights beside the grid that was chosen for them.

    Args:
        histogram: counts in equal bins over `histogram_range`.
        histogram_range: the smallest and largest weight.
        range: the smallest and largest number of the grid, over all channels.
        dtype: the integers that the weights are stored in.
        scales: how many scales there are.
    """

    histogram: tuple[int, ...]
    histogram_range: tuple[float, float]
    range: tuple[float, float]
    dtype: str = "int8"
    scales: int = 1


@dataclass(frozen=True)
class Layer:
    """One quantized value of the network and what quantization cost it.

    Args:
        name: in the source.
        sqnr_db: signal to quantization noise of its result, simulation against float, on calibration samples.
        range: the chosen range of its result.
        used: share (0 to 1) of the range in which all but a thousandth of its values lie: little where outliers set the range.
        histogram: counts of its result in equal bins over `histogram_range`.
        histogram_range: limits of the histogram; None: as `range`.
        op: the kind of operator.
        clipped: share (0 to 1) of values beyond the range.
        weights: its weights, where it has some.
        agreement_db: SQNR of the file's own tensor against the simulation's, where the runtime lets one look.
    """

    name: str
    sqnr_db: float | None
    range: tuple[float, float]
    used: float
    histogram: tuple[int, ...] = ()
    histogram_range: tuple[float, float] | None = None
    op: str = ""
    clipped: float = 0.0
    weights: WeightRange | None = None
    agreement_db: float | None = None


@dataclass(frozen=True)
class Agreement:
    """The file's outputs against those of the simulated graph that it came from.

    Args:
        top1: share of samples whose best class is the same, ties left out; None where outputs are no classes, or all tie.
        ties: samples whose two best classes lie within one output step.
        max_abs: largest difference of two outputs.
        sqnr_db: the simulation's power over that of the difference.
        n: samples.
    """

    top1: float | None
    ties: int
    max_abs: float | None
    sqnr_db: float | None
    n: int = 0


@dataclass(frozen=True)
class ArtifactRecord:
    """One file that ships, as measured in its own runtime.

    Args:
        target: the runtime, as `--to` names it.
        path: relative to the run's folder.
        seconds: what took how long: export, measure.
        operators: name -> how many, as the runtime runs them.
        delegated: share (0 to 1) that the fast kernels took; None where the runtime has only one kind.
        declined: what they did not take.
        latency_ms, speedup: None where this machine's time means nothing.
        memory_is: ``arena``, ``planner`` or ``process growth``.
        bytes_moved: weights and activations read and written in one run, where time means nothing.
        notes: the exporter's sentences.
        packed_bytes: of the file compressed for delivery (zlib, level 9); None in records of versions that did not measure it.
        stateful: it keeps the state of recurrent layers from one run to the next, until whoever runs it resets it.
    """

    target: str
    path: str
    bytes: int
    sha256: str
    twin: FloatTwin = field(metadata={"key": "float"})
    met: bool = True
    missed: tuple[Miss, ...] = ()
    seconds: Mapping[str, float] = field(default_factory=dict)
    operators: Mapping[str, int] = field(default_factory=dict)
    delegated: float | None = None
    declined: tuple[FloatOperator, ...] = ()
    quality: Quality | None = None
    latency_ms: Latency | None = None
    speedup: float | None = None
    speedup_ci95: tuple[float, float] | None = None
    peak_memory_bytes: int | None = None
    memory_is: str | None = None
    bytes_moved: int | None = None
    float_ops: tuple[FloatOperator, ...] = ()
    layers: tuple[Layer, ...] = ()
    agreement: Agreement | None = None
    notes: tuple[str, ...] = ()
    packed_bytes: int | None = None
    stateful: bool = False

    @property
    def packs(self) -> bool:
        """Whether the file gets notably smaller in delivery: its weights are sparse, shared or coarse."""
        return self.packed_bytes is not None and self.packed_bytes <= NOTABLE * self.bytes


@dataclass(frozen=True)
class ModelRecord:
    """The network that came in."""

    name: str
    format: str
    parameters: int
    macs: int
    float_bytes: int


@dataclass(frozen=True)
class DataRecord:
    """The data that judged it."""

    name: str
    task: str
    n_train: int
    n_calibration: int
    n_selection: int
    n_evaluation: int
    fingerprint: str


@dataclass(frozen=True)
class TrailEntry:
    """What one step of the recipe did."""

    step: str
    seconds: float
    changed: tuple[Change, ...] = ()
    skipped: tuple[Change, ...] = ()


@dataclass(frozen=True)
class Report:
    """One run, whole.

    Args:
        tersenet: the version that made it.
        environment: see `tersenet.measure.environment`.
        met: every artifact meets every limit of the budget.
        recipe: the steps, as in recipe.json.
        tried: what a planner measured, and why it was left.
        records: the artifacts' records; ``artifacts`` in JSON.
        warnings: sentences, worst first.
        next: sentences: what to do next.
        sure: whether the worse ends of intervals had to meet the budget.
        folder: where the run lies; not part of the JSON.
        open_artifact: loads one file for `artifacts`; not part of the JSON.
    """

    tersenet: str
    seconds: float
    peak_rss_bytes: int
    seed: int
    environment: Mapping[str, Any]
    model: ModelRecord
    data: DataRecord
    records: tuple[ArtifactRecord, ...] = field(metadata={"key": "artifacts"})
    budget: Budget = Budget()
    met: bool = True
    recipe: tuple[Mapping[str, Any], ...] = ()
    trail: tuple[TrailEntry, ...] = ()
    tried: tuple[Mapping[str, Any], ...] = ()
    warnings: tuple[str, ...] = ()
    next: tuple[str, ...] = ()
    sure: bool = False
    folder: Path | None = field(default=None, compare=False, repr=False, metadata={"key": None})
    open_artifact: Callable[[ArtifactRecord], Artifact] | None = field(default=None, compare=False, repr=False, metadata={"key": None})

    @property
    def artifacts(self) -> Mapping[str, Artifact]:
        """Target -> the file that ships, a callable; loaded when first asked for."""
        loaded = self.__dict__.get("_artifacts")
        if loaded is None:
            loaded = _Artifacts(self.records, self.open_artifact)
            object.__setattr__(self, "_artifacts", loaded)
        return loaded

    def to_json(self) -> dict[str, Any]:
        """The contents of report.json."""
        return fields_to_plain(self)

    @classmethod
    def from_json(cls, record: Any) -> Report:
        """The inverse of `to_json`.

        Raises:
            OutputError: a key is missing or of another type than it must be.
        """
        try:
            return from_plain(cls, record, "report")
        except InputError as error:
            raise OutputError(f"this is not the record of a run: {error}") from error

    def write(self, folder: Path) -> Path:
        """Write report.json into a folder, whole or not at all.

        Raises:
            OutputError: the folder cannot be written to.
        """
        text = json.dumps(self.to_json(), indent=1, ensure_ascii=False, allow_nan=False)
        path = Path(folder) / FILE_NAME
        write_file(path, text + "\n")
        return path

    @classmethod
    def read(cls, folder: Path) -> Report:
        """The record of a run's folder.

        Raises:
            OutputError: there is none, or it cannot be read.
        """
        if not isinstance(folder, str | Path):
            raise OutputError(f"a run's folder must be a path, got {type(folder).__name__}.")
        path = Path(folder) / FILE_NAME
        try:
            record = json.loads(path.read_text(encoding="utf-8"))
        except OSError as error:
            raise OutputError(f"{folder} must be the folder of a run; its {FILE_NAME} cannot be read: {error.strerror}.") from error
        except (ValueError, RecursionError) as error:
            raise OutputError(f"{path} is not JSON: {error}.") from error
        try:
            report = cls.from_json(record)
        except OutputError as error:
            raise OutputError(f"{path}: {error}") from error
        object.__setattr__(report, "folder", Path(folder))
        return report

    def _repr_html_(self) -> str:
        """A notebook shows the whole page, in a frame of its own."""
        from tersenet.report.html import frame  # the drawing reads records; only a notebook asks the other way

        return frame(self)


class _NoArtifact(InputError, KeyError):
    """A mapping answers so for what it does not hold."""


class _Artifacts(Mapping[str, Artifact]):
    """Files by target, each loaded when first asked for."""

    def __init__(self, records: tuple[ArtifactRecord, ...], open_artifact: Callable[[ArtifactRecord], Artifact] | None) -> None:
        self._records = {record.target: record for record in records}
        self._open = open_artifact
        self._loaded: dict[str, Artifact] = {}

    def __getitem__(self, target: str) -> Artifact:
        if not isinstance(target, str) or target not in self._records:
            raise _NoArtifact(unknown("artifact", target, self._records))
        if target not in self._loaded:
            record = self._records[target]
            if self._open is None:
                raise OutputError(f"this report is a record alone and cannot load {record.path}; use the one that compress returned.")
            self._loaded[target] = self._open(record)
        return self._loaded[target]

    def __iter__(self) -> Iterator[str]:
        return iter(self._records)

    def __len__(self) -> int:
        return len(self._records)
