"""Training by itself: a network and data in, a network that has learned out, and what that changed on the evaluation part."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import tersenet
from tersenet.data import sources
from tersenet.data.identity import called
from tersenet.data.parts import Data
from tersenet.data.processing import Processing
from tersenet.data.tasks import Task, unlabelled
from tersenet.errors import RecipeError
from tersenet.frontends.pt2_write import save
from tersenet.frontends.table import load
from tersenet.journey import last_good_beside
from tersenet.measure.environment import check_conditions, environment
from tersenet.measure.quality import compare, evaluate, outputs_of
from tersenet.model import Model
from tersenet.plain import to_plain
from tersenet.progress import Progress, check_progress, silent
from tersenet.recipe import Recipe
from tersenet.step import Context, StepResult
from tersenet.steps.distill import Distill, roles, taught
from tersenet.steps.train import Train, learn
from tersenet.store import Run, check_out, claim, run_folder, signature, write_file
from tersenet.targets import table
from tersenet.training.loop import Outcome
from tersenet.training.objective import Loss, held_loss
from tersenet.training.options import Training
from tersenet.training.teacher import AGREEMENT, Teacher


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
    _check_given(out, seed, progress)
    targets, step = table.found(to), training if isinstance(training, Train) else Train(Training() if training is None else training)
    identity = _identity(loss)
    network = load(model)
    bound = _bound(data, network, seed)
    tables = tuple(table.capabilities(target) for target in targets)
    context = Context(tables, bound.without_evaluation(), seed, progress=progress)
    key = signature(
        train=step.to_json(),
        model=network.fingerprint,
        data=bound.fingerprint,
        loss=identity,
        targets=[to] if isinstance(to, str) else list(to),
        seed=seed,
        versions=environment()["versions"],
    )
    with called(*_functions(loss)):
        return _kept(_Work(step, network, network, bound, context, lambda told: learn(step, network, told, held_loss(loss))), key, out)


def distill(
    model: Any,
    data: Any,
    training: Training | Distill | None = None,
    *,
    teacher: Any = None,
    loss: Loss | None = None,
    out: str | Path | None = None,
    seed: int = 0,
    progress: Progress = silent,
) -> Fitted:
    """Let a network learn from a teacher. Arguments as `fit` takes them, and:

    Args:
        model: the network that learns; where the step names a student, that learns, and this one teaches.
        training: how; a step `Distill` says too what of the teacher is learned, and may name it.
        teacher: the network that `model` learns from: a `Model`, or anything that `tersenet.load` takes.

    Raises:
        ModelError: inputs or outputs of both do not match.
        RecipeError: neither a teacher nor a student, or both.
    """
    _check_given(out, seed, progress)
    step = training if isinstance(training, Distill) else Distill(training=Training() if training is None else training)
    identity = _identity(loss)
    network, networks = load(model), {}
    if teacher is not None:
        found = load(teacher)
        step = replace(step, teacher=step.teacher or (str(teacher) if isinstance(teacher, str | Path) else found.name))
        networks[step.teacher] = found
    networks |= {name: load(name) for name in step.networks() if name not in networks}
    learner, taught_by = roles(step, network, Context(networks=networks))
    bound = _bound(data, learner, seed, network)
    context = Context((), bound.without_evaluation(), seed, progress=progress, networks=networks)
    key = signature(
        distill=step.to_json(),
        models=[one.fingerprint for one in (network, learner, taught_by)],
        data=bound.fingerprint,
        loss=identity,
        seed=seed,
        versions=environment()["versions"],
    )
    with called(*_functions(loss)):
        return _kept(_Work(step, learner, taught_by, bound, context, lambda told: taught(step, network, told, held_loss(loss))), key, out)


def _check_given(out: Any, seed: Any, progress: Any) -> None:
    """Refuse arguments of another type than `fit` and `distill` take, before anything is read."""
    check_conditions(1, seed)
    check_progress(progress)
    check_out(out)


def _bound(data: Any, network: Model, seed: int, other: Model | None = None) -> Data:
    """Data as a network takes them; what the source says of processing counts, or where it says nothing, what another's does."""
    known = [one.provenance.get("processing") for one in (network, other) if one is not None]
    record = next((one for one in known if one is not None), None)
    processing = None if record is None else Processing.from_json(record)
    return sources.load(data, network.inputs, seed, processing=processing).bind(network.inputs, network.outputs)


def _identity(loss: Loss | None) -> list[str] | None:
    if loss is not None and not callable(loss):
        raise RecipeError(f"loss must be a function of (outputs, labels), got {type(loss).__name__}.")
    return None if loss is None else Task.own(loss, "loss", "lower").identity()


def _functions(loss: Loss | None) -> tuple[Loss, ...]:
    return () if loss is None else (loss,)


@dataclass(frozen=True)
class _Work:
    """A step that learns, and all that it is done with.

    Args:
        step: what is done.
        network: that learns.
        teacher: that it learns from; itself where there is none.
        data: all parts.
        context: that the step sees.
        learn: does it.
    """

    step: Train | Distill
    network: Model
    teacher: Model
    data: Data
    context: Context
    learn: Callable[[Context], tuple[StepResult, Outcome]]


def _kept(work: _Work, key: str, out: str | Path | None) -> Fitted:
    """The work, done or answered from its folder."""
    folder = run_folder(out, work.network.name, key)
    with last_good_beside(folder), claim(folder, key) as run, called(*work.data.task.functions):
        if not run.finished:
            result, outcome = work.learn(replace(work.context, store=run.steps))
            _write(result.model, _record(work, result, outcome), work.step, run)
    return Fitted(load(folder / "model.pt2"), json.loads((folder / "report.json").read_text(encoding="utf-8")), folder)


def _record(work: _Work, result: StepResult, outcome: Outcome) -> dict[str, Any]:
    return {
        "tersenet": tersenet.__version__,
        "model": work.network.name,
        "data": work.data.to_json(),
        "seed": work.context.seed,
        work.step.kind: work.step.to_json(),
        "history": to_plain(outcome.history),
        "best_epoch": outcome.best_epoch,
        "stopped": outcome.stopped,
        "changed": to_plain(result.changed),
        "skipped": to_plain(result.skipped),
        **_judged(work, result.model),
    }


def _judged(work: _Work, learned: Model) -> dict[str, Any]:
    """Quality on the evaluation part of the network as it came, and as it is, and of a teacher; nothing where nobody judges."""
    part, task, network = work.data.evaluation, work.data.task, work.network
    size, reference = network.batches_of(64), None
    taught_by: dict[str, Any] | None = None
    if len(part) and work.teacher is not network:
        asked = Teacher(work.teacher, network)
        if part.labels is None or not task.labelled:
            reference, task = outputs_of(asked.answers, part, size)[0], replace(unlabelled(task), metric=AGREEMENT)
        taught_by = {"name": work.teacher.name, "fingerprint": work.teacher.fingerprint}
        taught_by["value"] = evaluate(asked.answers, part, task, size=size, reference=reference).value
    said = {} if work.teacher is network else {"teacher": taught_by}
    if not len(part) or (reference is None and (part.labels is None or not task.labelled)):
        return {"before": None, "after": None, **said}
    before, after = (evaluate(model, part, task, size=size, reference=reference) for model in (network, learned))
    return {"before": before.value, "after": to_plain(compare(before, after, task, progress=work.context.progress)), **said}


def _write(learned: Model, record: dict[str, Any], step: Train | Distill, run: Run) -> None:
    run.steps.clear()
    save(learned, run.work / "model.pt2")
    write_file(run.work / "recipe.json", json.dumps(Recipe([step]).to_json(), indent=1) + "\n")
    write_file(run.work / "history.json", json.dumps(record["history"], indent=1) + "\n")
    write_file(run.work / "report.json", json.dumps(record, indent=1, ensure_ascii=False) + "\n")
