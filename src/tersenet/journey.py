"""The whole way of a network: load, compress, export, prove, report."""

from __future__ import annotations

import json
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import tersenet
from tersenet.budget import Budget, judge
from tersenet.capabilities import Capabilities
from tersenet.data import sources
from tersenet.data.identity import called
from tersenet.data.parts import Data
from tersenet.data.processing import Processing
from tersenet.errors import BudgetError, DataError, DivergedError, ModelError, RecipeError
from tersenet.expectation import Expectation, expectations, in_float
from tersenet.frontends.pt2_write import save
from tersenet.frontends.table import load
from tersenet.graph.cost import cost
from tersenet.manifest import Manifest, entry
from tersenet.measure.environment import check_conditions, environment, peak_rss_bytes
from tersenet.measure.quality import evaluate
from tersenet.model import Model
from tersenet.on_target import stopwatch
from tersenet.plan import QuantizationPlan
from tersenet.progress import Progress, silent
from tersenet.proof import Conditions, Pair, prove
from tersenet.recipe import Recipe, find_recipe
from tersenet.record import ArtifactRecord, DataRecord, ModelRecord, Report, TrailEntry
from tersenet.report import html
from tersenet.report.advice import advised
from tersenet.step import Change, Context, Step, StepResult, check_options
from tersenet.steps.table import step_from_json
from tersenet.store import Run, check_out, claim, run_folder, signature, write_file
from tersenet.target import Artifact, ExportOptions, Target
from tersenet.targets import table


@dataclass(frozen=True)
class Settings:
    """How a run is made, beside its model, data, recipe and budget.

    Args:
        options: what is asked of the files.
        weights: a file of weights for a network that comes from code.
        trust: read files that would run code that came with them.
        length: of texts in tokens, or of sounds in samples, where the network leaves it open; 0 for the usual.
        seed: of everything random.
        threads: that runtimes are given.
        layers: look into the files, layer by layer, where the runtime lets one.
        sure: the worse ends of intervals must meet the budget too.
        progress: called with (done, total, what).
    """

    options: ExportOptions = field(default_factory=ExportOptions)
    weights: str | Path | None = None
    trust: bool = False
    length: int = 0
    seed: int = 0
    threads: int = 1
    layers: bool = False
    sure: bool = False
    progress: Progress = silent

    def __post_init__(self) -> None:
        check_options(self, "settings")
        check_conditions(self.threads, self.seed)


def compress(
    model: Any,
    data: Any,
    *,
    to: str | Sequence[str] = "onnxruntime",
    recipe: Recipe | str | None = None,
    budget: Budget | None = None,
    out: str | Path | None = None,
    settings: Settings | None = None,
) -> Report:
    """Compress a network for some runtimes and prove the files.

    Args:
        model: a `Model`, or anything that `tersenet.load` takes.
        data: a `Data`, or the name of a source (``"digits"``, a folder, a file).
        to: runtimes, by name (`tersenet targets` lists them).
        recipe: steps, their name or their file; None: ``int8``.
        budget: limits that the files are judged by.
        out: the folder of the run; None: one under ``runs/``, named after the network and the run's signature. The same run is resumed,
            or answered from what is there.
        settings: options of the files, seed, threads.

    Returns:
        The report; ``report.artifacts[target]`` is the file, a callable.

    Raises:
        TersenetError: bad input, a missing dependency, or an operator that a runtime cannot run.
    """
    _check_given(recipe, budget, out, settings)
    settings = settings or Settings()
    targets = table.found(to)
    recipe = recipe if isinstance(recipe, Recipe) else find_recipe(recipe or "int8")
    budget = budget or Budget()
    _check_format_options(settings.options, targets)
    exporters = {target.name: table.exporter(target) for target in targets}
    network = load(model, weights=settings.weights, trust=settings.trust, length=settings.length)
    others = {name: load(name, trust=settings.trust) for step in recipe.steps for name in step.networks()}
    bound = _bound(data, network, settings.seed)
    _check_trainable(recipe, bound)
    key = signature(
        model=network.fingerprint,
        networks={name: other.fingerprint for name, other in others.items()},
        data=bound.fingerprint,
        recipe=recipe.to_json(),
        targets=[target.name for target in targets],
        budget=budget.to_json(),
        options=vars(settings.options),
        seed=settings.seed,
        threads=settings.threads,
        sure=settings.sure,
        layers=settings.layers,
        versions=environment()["versions"],
    )
    folder = run_folder(out, network.name, key)
    with last_good_beside(folder), claim(folder, key) as run, called(*bound.task.functions):
        if not run.finished:
            _Journey(network, others, bound, targets, exporters, recipe, budget, settings, run).go()
    return opened_report(folder)


def _check_given(recipe: Any, budget: Any, out: Any, settings: Any) -> None:
    """Refuse arguments of another type than `compress` takes."""
    if not isinstance(recipe, Recipe | str | Path | None):
        raise RecipeError(f"a recipe must be a tersenet.Recipe, a name or a file, got {type(recipe).__name__}.")
    if not isinstance(budget, Budget | None):
        raise BudgetError(f"a budget must be a tersenet.Budget, as Budget(max_bytes='60kB'), got {type(budget).__name__}.")
    check_out(out)
    if not isinstance(settings, Settings | None):
        raise RecipeError(f"settings must be a tersenet.Settings, got {type(settings).__name__}.")


@contextmanager
def last_good_beside(folder: Path) -> Iterator[None]:
    """Where training inside diverges, the network as it last was well goes into a file beside the folder, and the message says so."""
    try:
        yield
    except DivergedError as error:
        if error.model is None:
            raise
        folder.parent.mkdir(parents=True, exist_ok=True)  # a run that failed takes the folders that it made with it
        path = save(error.model, folder.with_name(f"{folder.name}-last-good.pt2"))
        more = DivergedError(f"{error} It is in {path}.")
        more.model = error.model
        raise more from error


def _check_format_options(options: ExportOptions, targets: list[Target]) -> None:
    known = {name for target in targets for name in target.format_options}
    for name in options.format:
        if name not in known:
            asked = ", ".join(target.name for target in targets)
            raise RecipeError(f"none of the files asked for ({asked}) has the option {name}; it belongs to {_owners(name) or 'no format'}.")


def _owners(option: str) -> str:
    return ", ".join(target.name for target in table.TARGETS.values() if option in target.format_options)


def _bound(data: Any, network: Model, seed: int) -> Data:
    record = network.provenance.get("processing")
    processing = None if record is None else Processing.from_json(record)
    bound = sources.load(data, network.inputs, seed, processing=processing).bind(network.inputs, network.outputs)
    if not len(bound.evaluation):
        raise DataError(f"{bound.name}: the proof needs an evaluation part, and these data have none.")
    return bound


def _check_trainable(recipe: Recipe, data: Data) -> None:
    """Before anything is done: steps that train need samples to learn from."""
    if recipe.trainings and not len(data.train):
        steps = ", ".join(step.kind for step in recipe.steps if getattr(step, "training", None) is not None)
        raise DataError(f"{data.name}: this recipe trains ({steps}), and these data have no train part; give one, or take the recipe int8.")


def opened_report(folder: Path) -> Report:
    """The report of a finished run, its files ready to be called."""
    manifest = Manifest.read(folder / "manifest.json")

    def open_artifact(record: ArtifactRecord) -> Artifact:
        target, found = table.find(record.target), manifest.files[record.target]
        return Artifact(folder / record.path, target.name, table.runner(target).load(folder / record.path), found.inputs, found.outputs)

    report = replace(Report.read(folder), open_artifact=open_artifact)
    object.__setattr__(report, "folder", folder)
    return report


@dataclass
class _Journey:
    """One run, from a loaded network to its folder."""

    network: Model
    others: Mapping[str, Model]
    data: Data
    targets: list[Target]
    exporters: Mapping[str, Any]
    recipe: Recipe
    budget: Budget
    settings: Settings
    run: Run
    log: list[str] = field(default_factory=list)
    decided: list[Step] = field(default_factory=list)
    started: float = field(default_factory=time.perf_counter)

    def go(self) -> None:
        """Everything, top to bottom."""
        tables = [self.exporters[target.name].capabilities(self.settings.options.cpu) for target in self.targets]
        results, trail = self._compressed(tables)
        model = results[-1].model if results else self.network
        pairs = [self._exported(model, target) for target in self.targets]
        expected = self._expected(model, tables)
        conditions = Conditions(self.settings.threads, self.settings.seed, progress=self._progress)
        records = [self._judged(prove(pair, expected[pair.target.name], self.data, conditions, self.run.work)) for pair in pairs]
        self._write(records, trail, pairs)

    def _compressed(self, tables: list[Capabilities]) -> tuple[list[StepResult], list[TrailEntry]]:
        """The recipe, step by step; finished steps are taken from the run's store."""
        context = Context(
            tuple(tables),
            self.data.without_evaluation(),
            self.settings.seed,
            self._quality,
            self._progress,
            self.run.steps,
            original=self.network,
            networks=self.others,
        )
        with stopwatch(self.targets, self.exporters, context, self.settings.options, self.settings.threads) as compared:
            return self._steps(replace(context, time_on_target=compared), tables)

    def _steps(self, context: Context, tables: list[Capabilities]) -> tuple[list[StepResult], list[TrailEntry]]:
        """Each step on what the one before it left."""
        results: list[StepResult] = []
        trail: list[TrailEntry] = []
        for step in self.recipe.steps:
            start = time.perf_counter()
            before = results[-1].model if results else self.network
            key = signature(step=step.to_json(), model=before.fingerprint, data=self.data.fingerprint, tables=[one.digest for one in tables])
            results.append(self._restored(key, before) or self._kept(key, before, step.apply(before, context)))
            seconds = time.perf_counter() - start
            self.decided.append(results[-1].decided or step)
            trail.append(TrailEntry(step.kind, round(seconds, 3), results[-1].changed, results[-1].skipped))
            self._say(f"{step.kind}: {seconds:.1f} s; " + "; ".join(f"{change.what}: {change.why}" for change in results[-1].changed))
        return results, trail

    def _kept(self, key: str, before: Model, result: StepResult) -> StepResult:
        """A step's result, kept for a resumed run: the network where it changed, else its plans alone."""
        same = result.model.without_plans().fingerprint == before.without_plans().fingerprint
        record = {
            "fingerprint": result.model.fingerprint,
            "plans": [plan.to_json() for plan in result.model.plans],
            "changed": _rows(result.changed),
            "skipped": _rows(result.skipped),
            "decided": None if result.decided is None else result.decided.to_json(),
        }

        def write(folder: Path) -> None:
            write_file(folder / "result.json", json.dumps(record))
            if not same:
                save(result.model, folder / "model.pt2")

        with suppress(ModelError):  # a network that no file can hold is made anew
            self.run.steps.put(key, write)
        self.run.steps.clear()
        return result

    def _restored(self, key: str, before: Model) -> StepResult | None:
        folder = self.run.steps.get(key)
        if folder is None:
            return None
        record = json.loads((folder / "result.json").read_text(encoding="utf-8"))
        saved = folder / "model.pt2"
        model = load(saved) if saved.exists() else replace(before, plans=tuple(QuantizationPlan.from_json(plan) for plan in record["plans"]))
        if model.fingerprint != record["fingerprint"]:
            return None
        decided = None if record.get("decided") is None else step_from_json(record["decided"])
        return StepResult(model, _changes(record["changed"]), _changes(record["skipped"]), decided)

    def _quality(self, model: Model) -> float:
        """What a step judges candidates by: quality on the selection part."""
        return evaluate(model, self.data.selection, self.data.task).value

    def _exported(self, model: Model, target: Target) -> Pair:
        self._progress(0, 1, f"exporting ({target.name})")
        folder = self.run.work / "artifacts" / target.name
        folder.mkdir(parents=True, exist_ok=True)
        exporter, options = self.exporters[target.name], self.settings.options
        asked = {name: value for name, value in options.format.items() if name in target.format_options}
        options = replace(options, format=asked, inside=self.settings.layers)
        start = time.perf_counter()
        compressed = exporter.export(model, folder / f"model{target.extension}", options)
        seconds = time.perf_counter() - start
        twin = table.exporter(table.find(target.float_twin))
        options = replace(options, integer_io=None, format={}, inside=False)
        plain = twin.export(self.network.without_plans(), folder / f"model-float{target.extension}", options)
        write_file(folder / "names.json", json.dumps(dict(compressed.names), indent=0, ensure_ascii=False) + "\n")
        self._say(f"exported {target.name} in {seconds:.2f} s: {compressed.path.stat().st_size} bytes, float {plain.path.stat().st_size}")
        self._progress(1, 1, f"exporting ({target.name})")
        return Pair(target, compressed, plain, seconds)

    def _expected(self, model: Model, tables: list[Capabilities]) -> dict[str, Expectation]:
        """What simulation and plan say of each target; targets that share a plan share the work."""
        found = {table.name: in_float(model) for table in tables}
        for plan in model.plans:
            served = [table for table in tables if table.name in plan.serves]
            found |= expectations(model, plan, served, self.data, self.settings.seed, self._progress, self.settings.layers)
        return found

    def _judged(self, record: ArtifactRecord) -> ArtifactRecord:
        met, missed = judge(self.budget, record, self.settings.sure)
        return replace(record, met=met, missed=tuple(missed))

    def _write(self, records: list[ArtifactRecord], trail: list[TrailEntry], pairs: list[Pair]) -> None:
        folder, data = self.run.work, self.data
        totals = cost(self.network)
        counts = {f"n_{name}": len(part) for name, part in data.parts()}
        report = Report(
            tersenet=tersenet.__version__,
            seconds=round(time.perf_counter() - self.started, 2),
            peak_rss_bytes=peak_rss_bytes(),
            seed=self.settings.seed,
            environment={**environment(self.settings.threads), "kernels_for": self.settings.options.cpu or "this machine"},
            model=ModelRecord(self.network.name, self.network.format, totals.parameters, totals.macs, totals.float_bytes),
            data=DataRecord(name=data.name, task=data.task.name, fingerprint=data.fingerprint, **counts),
            records=tuple(records),
            budget=self.budget,
            met=all(record.met for record in records),
            recipe=tuple(Recipe(self.decided).to_json()),
            trail=tuple(trail),
            sure=self.settings.sure,
        )
        report = advised(report)
        files = {
            pair.target.name: entry(pair.target, folder, pair.compressed, pair.plain, pair.compressed.path.parent / "names.json") for pair in pairs
        }
        Manifest(tersenet.__version__, self.network.name, data.task.name, data.preparation, data.class_names, files).write(folder)
        write_file(folder / "recipe.json", json.dumps(Recipe(self.decided).to_json(), indent=1) + "\n")
        write_file(folder / "log.txt", "\n".join(self.log) + "\n")
        report.write(folder)
        html.write(report, folder)

    def _say(self, line: str) -> None:
        self.log.append(line)

    def _progress(self, done: int, total: int, what: str) -> None:
        self.settings.progress(done, total, what)


def _rows(changes: Iterable[Change]) -> list[list[str]]:
    return [[change.what, change.why] for change in changes]


def _changes(rows: list[list[str]]) -> tuple[Change, ...]:

    return tuple(Change(*row) for row in rows)
