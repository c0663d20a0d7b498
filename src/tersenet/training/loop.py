"""The one training loop."""

from __future__ import annotations

import io
import math
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch
from torch import Tensor, fx, nn

from tersenet.data.samples import Part
from tersenet.errors import DataError, DivergedError, RecipeError, TersenetError
from tersenet.graph.training import Statistics, follow_within
from tersenet.progress import Progress, silent
from tersenet.store import write_file
from tersenet.tensors import TensorSpec
from tersenet.training.augmentation import Augmented
from tersenet.training.averages import Average
from tersenet.training.devices import Machine, Woven, device_for, fabric_for, machine_for, set_seed
from tersenet.training.hooks import Hook, Moment
from tersenet.training.objective import Objective
from tersenet.training.optimizers import Schedule, optimizer_for, weights
from tersenet.training.options import Training

SAVED_SECONDS = 60.0  # at the latest, so much of an epoch is lost when a process is killed
STATISTICS_BATCHES = 64  # that batch norm's statistics are estimated anew from


@dataclass(frozen=True)
class Judge:
    """What tells a better network from a worse one: its quality on the selection part.

    Args:
        metric: its name.
        direction: higher or lower, whichever is better.
        value: of a network in evaluation mode.
    """

    metric: str
    direction: str
    value: Callable[[nn.Module], float]


@dataclass(frozen=True)
class Lesson:
    """All that goes into training a network.

    Args:
        module: what learns; it is changed.
        objective: what it learns.
        part: the train part, prepared batch by batch.
        how: the options.
        specs: of the network's inputs.
        judge: tells the best epoch; None: the last is the best.
        hooks: what takes part beside.
        batch: samples of a step; 0: as the options say. Given for a network whose batch is fixed: each step has exactly as many then.
        seed: of everything random.
        kept: the file that training goes on from after an interruption; None: it cannot.
        signature: of all that the outcome depends on; a file of another training is not gone on from.
        progress: called with (steps done, all steps, where it is).
    """

    module: nn.Module
    objective: Objective
    part: Part
    how: Training
    specs: Sequence[TensorSpec]
    judge: Judge | None = None
    hooks: Sequence[Hook] = ()
    batch: int = 0
    seed: int = 0
    kept: Path | None = None
    signature: str = ""
    progress: Progress = silent


@dataclass(frozen=True)
class Epoch:
    """How one epoch went.

    Args:
        epoch: from 1.
        loss: the mean over its steps.
        metric: on the selection part after it; None where nothing judges.
        learning_rate: of its last step.
    """

    epoch: int
    loss: float
    metric: float | None
    learning_rate: float


@dataclass(frozen=True)
class Outcome:
    """What training came to; the network holds the weights.

    Args:
        history: every epoch.
        best_epoch: whose weights the network has, from 1.
        stopped: why training ended before its last epoch, or "".
    """

    history: tuple[Epoch, ...]
    best_epoch: int
    stopped: str = ""


def train(lesson: Lesson) -> Outcome:
    """Train a network.

    Everything random depends on the seed and the number of the step alone, so that training that was interrupted at any moment
    ends with the same weights, bit for bit, as training that was not.

    Raises:
        DivergedError: the loss became NaN or infinite; the network has the weights of the last epoch that was well.
        DataError: no labelled samples to learn from, fewer than one batch of a network whose batch is fixed, fewer than two for each process, or
            patience where nothing judges.
        RecipeError, MissingDependencyError: what the options ask for is not to be had here.
    """
    if lesson.how.patience and lesson.judge is None:
        raise DataError(
            f"patience ({lesson.how.patience}) waits for a better metric on the selection part, and these data have none with labels; "
            "give one (tersenet.Data.from_arrays(selection=...)), or leave patience out."
        )
    _check_shares(lesson)
    with _repeatable():
        return _together(lesson) if lesson.how.processes > 1 else Loop(lesson, machine_for(lesson.how)).run()


def _check_shares(lesson: Lesson) -> None:
    """Each process needs two samples of every batch: of one alone batch norm has no variance."""
    processes, size = lesson.how.processes, lesson.how.batch_size
    if processes == 1:
        return
    if lesson.batch:
        raise RecipeError(f"a network that takes {lesson.batch} samples at once cannot share them among {processes} processes; take one.")
    if size < 2 * processes:
        raise RecipeError(f"{processes} processes need batches of at least {2 * processes} samples, two for each, got a batch_size of {size}.")
    if len(lesson.part) < 2 * processes:
        raise DataError(f"{processes} processes need at least {2 * processes} samples, two for each, and the train part has {len(lesson.part)}.")


def _together(lesson: Lesson) -> Outcome:
    """In several processes, each with its share of every batch; the first one's network comes back."""
    fabric = fabric_for(lesson.how, device_for(lesson.how))
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "network.pt"  # too large for what carries results from process to process
        done = fabric.launch(_one_of_several, lesson, file)
        _load(lesson.module, torch.load(file, weights_only=True))
    if done.error is not None:
        if isinstance(done.error, DivergedError) and done.learned:
            done.error.model = lesson.module
        raise done.error
    return done.outcome


def _one_of_several(fabric: Any, lesson: Lesson, file: Path) -> SimpleNamespace:
    """What one process returns; errors as values, for a raised one would come back as a text."""
    if fabric.device.type == "cpu":
        torch.set_num_threads(1)  # a forked process cannot start more
    done = SimpleNamespace(outcome=None, error=None, learned=False)
    try:
        done.outcome = Loop(lesson, Woven(fabric)).run()
    except TersenetError as error:
        done.error, done.learned = type(error)(*error.args), getattr(error, "model", None) is not None
    if fabric.global_rank == 0:
        torch.save({name: tensor.cpu() for name, tensor in _snapshot(lesson.module).items()}, file)
    return done


@contextmanager
def _repeatable() -> Iterator[None]:
    """Kernels of a GPU that give the same bits each time; the user's own random state comes back."""
    cudnn = torch.backends.cudnn
    before = cudnn.deterministic, cudnn.benchmark
    cudnn.deterministic, cudnn.benchmark = True, False
    try:
        with torch.random.fork_rng(devices=[]):
            yield
    finally:
        cudnn.deterministic, cudnn.benchmark = before


class Loop:
    """One training, from its start or from where it was interrupted, to its end."""

    def __init__(self, lesson: Lesson, machine: Machine) -> None:
        how = lesson.how
        self.lesson, self.machine, self.how = lesson, machine, how
        self.size = lesson.batch or how.batch_size
        self.steps = _steps(lesson.part, self.size, fixed=bool(lesson.batch), processes=how.processes)
        self.module = lesson.module.to(machine.device)
        follow_within(self.module, self.steps)
        optimizer = optimizer_for(self.module, how, {start: rate for hook in lesson.hooks for start, rate in hook.rates.items()})
        self.schedule = Schedule(how, self.steps)
        self.average = Average(how, self.module)
        self.augmented = Augmented(how.augmentation, lesson.specs)
        self.penalized = weights(self.module) if how.l1 else []
        self.moment = Moment(self.module, how, optimizer, self.steps)
        self.history: list[Epoch] = []
        self.best_epoch, self.loss = 0, 0.0
        self.first = 0  # epochs before it were not yet what training is for (`Hook.settled`)
        self.settled = _snapshot(self.module)
        self.saved = time.monotonic()
        self._restore()
        self.network, self.optimizer = machine.setup(self.module, optimizer)

    def run(self) -> Outcome:
        """Everything, top to bottom."""
        for hook in self.lesson.hooks:
            hook.start(self.moment)
        stopped = self._stopped()
        while self.moment.epoch < self.how.epochs and not stopped:
            self._epoch()
            self._judge()
            self.moment.epoch += 1
            self._save()
            stopped = self._stopped()
        _load(self.module, self.settled)
        total = self.how.epochs * self.steps
        self.lesson.progress(total, total, self._said())
        return Outcome(tuple(self.history), self.best_epoch, stopped)

    def _epoch(self) -> None:
        """The steps of an epoch that are not done yet."""
        moment = self.moment
        self.module.train()
        if moment.step == moment.epoch * self.steps:
            self.loss = 0.0
            for hook in self.lesson.hooks:
                hook.before_epoch(moment)
        for inputs, labels in self._batches(moment.epoch, first=moment.step - moment.epoch * self.steps):
            self._step(inputs, labels)
            if self.lesson.kept is not None and time.monotonic() - self.saved > SAVED_SECONDS:
                self._save()
        for hook in self.lesson.hooks:
            hook.after_epoch(moment)

    def _step(self, inputs: tuple[Tensor, ...], labels: Tensor | None) -> None:
        moment, how = self.moment, self.how
        rate = how.learning_rate * self.schedule.factor(moment.step)
        for group in self.optimizer.param_groups:
            group["lr"] = rate * group.get("rate", 1.0)
        for hook in self.lesson.hooks:
            hook.before_step(moment)
        loss = self.lesson.objective(self.network, inputs, labels)
        if self.penalized:
            loss = loss + how.l1 * torch.stack([weight.abs().sum() for weight in self.penalized]).sum()
        loss = sum((added for hook in self.lesson.hooks if (added := hook.penalty(moment)) is not None), loss)
        moment.loss = self._checked(loss)
        self.machine.backward(loss)
        for hook in self.lesson.hooks:
            hook.after_backward(moment)
        if how.clip_norm:
            self.machine.clip(self.network, self.optimizer, how.clip_norm)
        self.optimizer.step()
        self.optimizer.zero_grad()
        for hook in self.lesson.hooks:
            hook.after_step(moment)
        self.average.after_step()
        self.loss += moment.loss
        moment.step += 1
        self.lesson.progress(moment.step, how.epochs * self.steps, self._said())

    def _checked(self, loss: Tensor) -> float:
        """The loss as a number.

        Raises:
            DivergedError: it is none.
        """
        value = float(self.machine.mean(loss.detach()))
        if not math.isfinite(value):
            self._diverged(f"the loss became {value} in epoch {self.moment.epoch + 1}, step {self.moment.step % self.steps + 1}")
        return value

    def _diverged(self, what: str, advice: Sequence[str] = ()) -> None:
        _load(self.module, self.settled)
        how, best = self.how, self.best_epoch
        if not advice:
            advice = [
                f"a learning_rate below {how.learning_rate}",
                *["clip_norm 1"] * (not how.clip_norm),
                *["warmup_epochs 1"] * (not how.warmup_epochs),
            ]
            advice += ["precision float32"] * (how.precision != "float32")
        was = f"the network is left as it was after epoch {best}" if best else "the network is left as it was given"
        error = DivergedError(f"training needs finite numbers, and {what}; {was}. Try {' or '.join(advice)}.")
        error.model = self.module if best else None
        raise error

    def _judge(self) -> None:
        """The end of an epoch: what the network would be if training ended here, and whether it is the best so far."""
        moment, judge = self.moment, self.lesson.judge
        self.average.after_epoch(moment.epoch)
        raw = _snapshot(self.module)
        if not all(map(_finite, self.module.parameters())):
            self._diverged(f"weights became NaN or infinite in epoch {moment.epoch + 1}")
        spoilt = next((name for name, buffer in self.module.named_buffers() if not _finite(buffer) and _finite(self.settled.get(name, buffer))), "")
        if spoilt:
            # The variance of one value is NaN; one that is too large for a float is infinite.
            large = bool(self.module.get_buffer(spoilt).isinf().any())
            advice = ["data that are scaled to about -1..1", "a lower learning_rate"] if large else ["batches of at least 2 samples"]
            self._diverged(f"the statistics {spoilt} became NaN or infinite in epoch {moment.epoch + 1}", advice)
        if self.average:
            self.average.load()
            self._estimate_statistics()
        self.module.eval()
        metric = None if judge is None else self.machine.agreed(judge.value(self.module))
        loss = self.loss / self.steps
        rate = float(self.optimizer.param_groups[0]["lr"])
        better = self._better(metric)
        if not all(hook.settled(moment) for hook in self.lesson.hooks):
            self.first = len(self.history) + 1
        self.history.append(Epoch(moment.epoch + 1, loss, metric, rate))
        self.schedule.judge(loss if judge is None or metric is None else metric if judge.direction == "lower" else -metric)
        if better:
            self.best_epoch = moment.epoch + 1
            self.settled = _snapshot(self.module) if self.average else raw
        if self.average:
            _load(self.module, raw)

    def _better(self, metric: float | None) -> bool:
        judge = self.lesson.judge
        if judge is None or metric is None or self.how.keep == "last":
            return True
        before = [entry.metric for entry in self.history[self.first :] if entry.metric is not None]
        return not before or (metric > max(before) if judge.direction == "higher" else metric < min(before))

    def _stopped(self) -> str:
        """Why training ends before its last epoch; "" where it goes on."""
        judge, patience = self.lesson.judge, self.how.patience
        counted = self.history[self.first :]
        if judge is None or not patience or not counted:
            return ""
        values = [entry.metric if judge.direction == "higher" else -entry.metric for entry in counted if entry.metric is not None]
        best = values.index(max(values)) + 1
        waited = len(values) - best
        return f"{judge.metric} was no better for {waited} epochs" if waited >= patience else ""

    def _estimate_statistics(self) -> None:
        statistics = Statistics(self.module) if isinstance(self.module, fx.GraphModule) else None
        if statistics:
            for place, (inputs, _) in enumerate(self._batches(self.moment.epoch, first=0)):
                if place == STATISTICS_BATCHES:
                    break
                statistics.see(*inputs)
            statistics.settle()

    def _batches(self, epoch: int, first: int) -> Iterator[tuple[tuple[Tensor, ...], Tensor | None]]:
        """An epoch's batches in their order, from the `first`, on the device and augmented; random numbers are set anew for each."""
        order = np.random.default_rng([self.lesson.seed, epoch]).permutation(len(self.lesson.part))
        generator, device = torch.Generator(), self.machine.device
        for place in range(first, self.steps):
            chosen = order[place * self.size : (place + 1) * self.size]
            arrays, labels = self.lesson.part.batch(_share(chosen, self.machine.rank, self.how.processes))
            number = epoch * self.steps + place
            drawn = int(np.random.SeedSequence([self.lesson.seed, number, self.machine.rank]).generate_state(1, np.uint64)[0] >> np.uint64(1))
            set_seed(drawn, device)
            inputs = tuple(torch.from_numpy(array).to(device) for array in arrays)
            if self.augmented.rows:
                inputs = self.augmented(inputs, generator.manual_seed(drawn))
            yield inputs, None if labels is None else torch.from_numpy(labels).to(device)

    def _said(self) -> str:
        """Where training is, for a bar."""
        metric = next((entry.metric for entry in reversed(self.history) if entry.metric is not None), None)
        judged = f", {self.lesson.judge.metric} {metric:.4g}" if metric is not None and self.lesson.judge is not None else ""
        return f"training: epoch {min(self.moment.epoch + 1, self.how.epochs)} of {self.how.epochs}, loss {self.moment.loss:.4g}{judged}"

    def _save(self) -> None:
        """Write all that training goes on from, whole or not at all."""
        self.saved = time.monotonic()
        if self.lesson.kept is None or self.machine.rank:
            return
        record = {
            "signature": self.lesson.signature,
            "epoch": self.moment.epoch,
            "step": self.moment.step,
            "loss": [self.loss, self.moment.loss],
            "module": self.module.state_dict(),
            "optimizer": self.moment.optimizer.state_dict(),
            "schedule": self.schedule.state(),
            "average": self.average.state(),
            "machine": self.machine.state(),
            "hooks": [hook.state() for hook in self.lesson.hooks],
            "history": [asdict(entry) for entry in self.history],
            "best": [self.best_epoch, self.first, self.settled],
        }
        buffer = io.BytesIO()
        torch.save(record, buffer)
        write_file(self.lesson.kept, buffer.getvalue())

    def _restore(self) -> None:
        record = _read(self.lesson.kept, self.machine.device)
        if record is None or record["signature"] != self.lesson.signature:
            return
        self.module.load_state_dict(record["module"])
        self.moment.optimizer.load_state_dict(record["optimizer"])
        self.moment.epoch, self.moment.step = record["epoch"], record["step"]
        self.loss, self.moment.loss = record["loss"]
        self.schedule.restore(record["schedule"])
        self.average.restore(record["average"])
        self.machine.restore(record["machine"])
        for hook, state in zip(self.lesson.hooks, record["hooks"], strict=True):
            hook.restore(state)
        self.history = [Epoch(**entry) for entry in record["history"]]
        self.best_epoch, self.first, self.settled = record["best"]


def _steps(part: Part, size: int, fixed: bool, processes: int) -> int:
    """Steps of one epoch.

    Samples that fill no batch are left out where the batch is fixed, and where they are fewer than two for each process: batch
    norm makes nothing of one.
    """
    if not len(part):
        raise DataError("training needs samples, and the train part is empty.")
    whole, rest = divmod(len(part), size)
    if fixed and not whole:
        raise DataError(f"the network takes {size} samples at once, and the train part has {len(part)}.")
    left = rest >= 2 * processes and not fixed
    return max(whole + left, 1)


def _share(chosen: np.ndarray, rank: int, processes: int) -> np.ndarray:
    """One process's part of a batch; all have as many."""
    return chosen if processes == 1 else chosen[: len(chosen) // processes * processes][rank::processes]


def _finite(tensor: Tensor) -> bool:
    return bool(torch.isfinite(tensor).all())


def _snapshot(module: nn.Module) -> dict[str, Tensor]:
    return {name: tensor.detach().clone() for name, tensor in module.state_dict().items()}


def _load(module: nn.Module, state: Mapping[str, Tensor]) -> None:
    module.load_state_dict(dict(state))


def _read(path: Path | None, device: torch.device) -> dict[str, Any] | None:
    """What `_save` wrote; None where there is nothing, or nothing whole."""
    if path is None or not path.is_file():
        return None
    try:
        return torch.load(path, map_location=device, weights_only=True)
    except Exception:  # noqa: BLE001 - torch.load raises several kinds for a torn file; training starts anew then
        return None
