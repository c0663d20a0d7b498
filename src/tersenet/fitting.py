"""Training by itself: a network and data in, a network that has learned out, and what that changed on the evaluation part."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import tersenet
from tersenet.data import sources
from tersenet.data.parts import Data
from tersenet.data.processing import Processing
from tersenet.data.tasks import Task
from tersenet.frontends.pt2_write import save
from tersenet.frontends.table import load
from tersenet.journey import last_good_beside
from tersenet.measure.environment import check_conditions, environment
from tersenet.measure.quality import compare, evaluate
from tersenet.model import Model
from tersenet.plain import to_plain
from tersenet.progress import Progress, silent
from tersenet.recipe import Recipe
from tersenet.step import Context
from tersenet.steps.train import Train, learn
from tersenet.store import Run, claim, signature, write_file
from tersenet.targets import table
from tersenet.training.objective import Loss
from tersenet.training.options import Training


@dataclass(frozen=True)
class Fitted:
    """What training came to.

    Args:
        model: the network that has learned.
        record: plain facts: epoch by epoch the loss, the metric on the selection part and the learning rate; quality on the evaluation part
            before and after, with the 95 % interval of the difference.
        folder: where it lies, with ``model.pt2``, ``recipe.json``, ``history.json`` and ``report.json``.
    """

    model: Model
    record: dict[str, Any]
    folder: Path

    def __repr__(self) -> str:
        return f"Fitted({self.model.name!r}, {len(self.record['history'])} epochs, in {self.folder})"


def fit(
    model: Any,
    data: Any,
    training: Training | Train | None = None,
    *,
    to: str | Sequence[str] = (),
    loss: Loss | None = None,
    out: str | Path | None = None,
    seed: int = 0,
    progress: Progress = silent,
) -> Fitted:
    """Train a network, from the weights that it has or from random ones.

    Args:
        model: a `Model`, or anything that `tersenet.load` takes.
        data: a `Data`, or the name of a source; it learns on the train part, the selection part tells the best epoch, the evaluation part judges
            before and after.
        training: how; a step `Train` says too which activations are exchanged first, and whether weights are random at the start.
        to: runtimes whose kernels are looked at where activations are exchanged for cheap ones.
        loss: a function of (outputs, labels), tensors, for a task that has none of its own.
        out: the folder of the result; None: one under ``runs/``, named after the network and the signature. The same training is gone on with, or
            answered from what is there.
        seed: of everything random.
        progress: called with (done, total, what).

    Raises:
        DivergedError: the loss became NaN or infinite; the last good network is its `model`, and a file beside the folder.
        TersenetError: bad input, or a missing dependency.
    """
    check_conditions(1, seed)
    step = training if isinstance(training, Train) else Train(training or Training())
    network = load(model)
    record = network.provenance.get("processing")
    processing = None if record is None else Processing.from_json(record)
    bound = sources.load(data, network.inputs, seed, processing=processing).bind(network.inputs, network.outputs)
    names = [to] if isinstance(to, str) else to
    tables = tuple(table.capabilities(table.find(name)) for name in dict.fromkeys(names))
    context = Context(tables, bound.without_evaluation(), seed, progress=progress)
    key = signature(
        train=step.to_json(),
        model=network.fingerprint,
        data=bound.fingerprint,
        loss=None if loss is None else Task.own(loss, "loss", "lower").identity(),
        targets=list(names),
        seed=seed,
        versions=environment()["versions"],
    )
    folder = Path(out) if out is not None else Path("runs") / f"{network.name}-{key[:8]}"
    with last_good_beside(folder), claim(folder, key) as run:
        if not run.finished:
            learned, record = _fitted(step, network, bound, replace(context, store=run.steps), loss)
            _write(learned, record, step, run)
    return Fitted(load(folder / "model.pt2"), json.loads((folder / "report.json").read_text(encoding="utf-8")), folder)


def _fitted(step: Train, network: Model, data: Data, context: Context, loss: Loss | None) -> tuple[Model, dict[str, Any]]:
    result, outcome = learn(step, network, context, loss)
    record = {
        "tersenet": tersenet.__version__,
        "model": network.name,
        "data": data.to_json(),
        "seed": context.seed,
        "train": step.to_json(),
        "history": to_plain(outcome.history),
        "best_epoch": outcome.best_epoch,
        "stopped": outcome.stopped,
        "changed": to_plain(result.changed),
        "skipped": to_plain(result.skipped),
        **_judged(network, result.model, data),
    }
    return result.model, record


def _judged(network: Model, learned: Model, data: Data) -> dict[str, Any]:
    """Quality on the evaluation part of the network as it came, and as it is; nothing where no labels judge."""
    if not len(data.evaluation) or data.evaluation.labels is None or not data.task.labelled:
        return {"before": None, "after": None}
    before, after = (evaluate(model, data.evaluation, data.task, size=model.batches_of(64)) for model in (network, learned))
    return {"before": before.value, "after": to_plain(compare(before, after, data.task))}


def _write(learned: Model, record: dict[str, Any], step: Train, run: Run) -> None:
    run.steps.clear()
    save(learned, run.work / "model.pt2")
    write_file(run.work / "recipe.json", json.dumps(Recipe([step]).to_json(), indent=1) + "\n")
    write_file(run.work / "history.json", json.dumps(record["history"], indent=1) + "\n")
    write_file(run.work / "report.json", json.dumps(record, indent=1, ensure_ascii=False) + "\n")
