"""The loop does what a hand-written one does, goes on after being killed as if nothing had been, and stops where it must."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from tersenet.data.preparation import Preparation
from tersenet.data.samples import Part
from tersenet.data.tasks import ACCURACY
from tersenet.errors import DataError, DivergedError, MissingDependencyError, RecipeError
from tersenet.frontends.table import load
from tersenet.graph.training import learned, trainable
from tersenet.model import Model
from tersenet.testing.networks import SmallConvolutional, samples, small_convolutional
from tersenet.training import loop
from tersenet.training.devices import set_seed
from tersenet.training.hooks import Hook, Masked, Moment
from tersenet.training.loop import Judge, Lesson, Outcome, train
from tersenet.training.objective import objective_for
from tersenet.training.options import Training

COUNT, BATCH = 50, 16
PART = Part((samples(COUNT, 1),), np.arange(COUNT) % 5, preparation=(Preparation(),))
MODEL = small_convolutional()


def test_seeds_are_those_of_torch() -> None:
    torch.manual_seed(3)
    expected = torch.rand(4)
    set_seed(3, torch.device("cpu"))
    assert torch.equal(torch.rand(4), expected)


def lesson(how: Training, module: nn.Module | None = None, **more: Any) -> Lesson:
    return Lesson(module or trainable(MODEL), objective_for(ACCURACY), PART, how, MODEL.inputs, **more)


def trained(how: Training, **more: Any) -> tuple[Model, Outcome]:
    module = trainable(MODEL)
    outcome = train(lesson(how, module, **more))
    return learned(MODEL, module), outcome


def source() -> SmallConvolutional:
    """The module that the model came from."""
    network = SmallConvolutional()
    network.load_state_dict(MODEL.graph.state_dict(), strict=False)
    return network.train()


def same(model: Model, state: dict[str, torch.Tensor]) -> bool:
    return all(torch.equal(tensor, state[name]) for name, tensor in model.graph.state_dict().items())


def test_weights_and_running_statistics_are_those_of_a_hand_written_loop() -> None:
    how = Training(
        epochs=3, batch_size=BATCH, optimizer="sgd", momentum=0.9, nesterov=True, learning_rate=0.05, schedule="exponential", decay=0.5, clip_norm=1.0
    )
    network = source()
    optimizer = torch.optim.SGD(network.parameters(), 0.05, momentum=0.9, nesterov=True)
    x, y = torch.from_numpy(PART.inputs[0]), torch.from_numpy(PART.labels)
    for epoch in range(3):
        order = torch.from_numpy(np.random.default_rng([7, epoch]).permutation(COUNT))
        for chosen in order.split(BATCH):
            optimizer.param_groups[0]["lr"] = 0.05 * 0.5**epoch
            optimizer.zero_grad()
            nn.functional.cross_entropy(network(x[chosen]), y[chosen]).backward()
            nn.utils.clip_grad_norm_(network.parameters(), 1.0)
            optimizer.step()
    model, outcome = trained(how, seed=7)
    assert same(model, network.state_dict())
    assert not torch.equal(network.state_dict()["stem.1.running_mean"], MODEL.graph.state_dict()["stem.1.running_mean"])
    assert [entry.epoch for entry in outcome.history] == [1, 2, 3]
    assert outcome.history[-1].learning_rate == pytest.approx(0.0125)
    assert outcome.history[-1].loss < outcome.history[0].loss
    assert np.allclose(model(samples(4)), network.eval()(torch.from_numpy(samples(4))).detach().numpy(), atol=1e-6)


def test_the_users_own_random_numbers_are_as_they_were() -> None:
    torch.manual_seed(5)
    wanted = torch.rand(1)
    torch.manual_seed(5)
    trained(Training(epochs=1, batch_size=BATCH))
    assert torch.equal(torch.rand(1), wanted)


def test_l1_is_the_gradient_of_magnitudes() -> None:
    network, how = source(), Training(epochs=1, batch_size=64, optimizer="sgd", learning_rate=0.1, schedule="constant", l1=0.01)
    order = np.random.default_rng([0, 0]).permutation(COUNT)
    x, y = torch.from_numpy(PART.inputs[0])[order], torch.from_numpy(PART.labels)[order]
    loss = nn.functional.cross_entropy(network(x), y) + 0.01 * sum(one.abs().sum() for one in network.parameters() if one.dim() > 1)
    loss.backward()
    model, outcome = trained(how)
    for name, parameter in network.named_parameters():
        assert torch.allclose(model.graph.state_dict()[name], parameter - 0.1 * parameter.grad, atol=1e-6), name
    assert outcome.history[0].loss == pytest.approx(float(loss.detach()), rel=1e-5)


def test_masked_weights_stay_out() -> None:
    mask = np.random.default_rng(0).random((5, 8)) < 0.5
    model, _ = trained(Training(epochs=2, batch_size=BATCH), hooks=[Masked({"head.weight": mask})])
    weight = model.graph.state_dict()["head.weight"].numpy()
    assert np.array_equal(weight != 0, mask)


def scripted(values: list[float], direction: str = "higher") -> Judge:
    """A metric that goes as it is told."""
    left = iter(values)
    return Judge("metric", direction, lambda module: next(left))


def test_training_stops_when_nothing_gets_better_and_keeps_the_best() -> None:
    how = Training(epochs=6, batch_size=BATCH, patience=2, schedule="constant")
    stopped, outcome = trained(how, judge=scripted([0.1, 0.5, 0.4, 0.5]))
    assert (outcome.best_epoch, len(outcome.history), outcome.stopped) == (2, 4, "metric was no better for 2 epochs")
    shorter, _ = trained(Training(epochs=2, batch_size=BATCH, schedule="constant"))
    assert same(stopped, shorter.graph.state_dict())
    _, lower = trained(how, judge=scripted([3.0, 1.0, 2.0, 2.0], "lower"))
    assert lower.best_epoch == 2
    _, last = trained(Training(epochs=2, batch_size=BATCH, keep="last"), judge=scripted([0.9, 0.1]))
    assert last.best_epoch == 2


def test_ema_is_the_average_over_steps_with_statistics_of_its_own() -> None:
    how = Training(epochs=1, batch_size=BATCH, optimizer="sgd", learning_rate=0.1, schedule="constant")
    seen: list[dict[str, torch.Tensor]] = []

    class Watch(Hook):
        def after_step(self, moment: Moment) -> None:
            seen.append({name: one.detach().clone() for name, one in moment.module.named_parameters()})

    model, _ = trained(Training(**{**vars(how), "average": "ema", "average_decay": 0.25}), hooks=[Watch()])
    for name, one in MODEL.graph.named_parameters():
        average = one.detach()
        for number, state in enumerate(seen, 1):
            decay = min(0.25, (1 + number) / (10 + number))
            average = decay * average + (1 - decay) * state[name]
        assert torch.allclose(model.graph.state_dict()[name], average, atol=1e-6), name
    network = source()
    network.load_state_dict(model.graph.state_dict(), strict=False)
    means, order = [], np.random.default_rng([0, 0]).permutation(COUNT)
    network.stem[1].register_forward_hook(lambda layer, given, result: means.append(given[0].mean((0, 2, 3))))
    with torch.no_grad():
        for start in range(0, COUNT, BATCH):
            network(torch.from_numpy(PART.inputs[0])[order[start : start + BATCH]])
    assert torch.allclose(model.graph.state_dict()["stem.1.running_mean"], torch.stack(means).mean(0), atol=1e-5)


def test_swa_is_the_mean_of_the_last_epochs() -> None:
    seen: list[torch.Tensor] = []

    class Watch(Hook):
        def after_epoch(self, moment: Moment) -> None:
            seen.append(dict(moment.module.named_parameters())["head.weight"].detach().clone())

    how = Training(epochs=4, batch_size=BATCH, average="swa", average_start=0.5, schedule="constant")
    model, _ = trained(how, hooks=[Watch()])
    assert torch.allclose(model.graph.state_dict()["head.weight"], (seen[2] + seen[3]) / 2, atol=1e-6)


def test_a_loss_that_is_no_number_stops_training_and_says_what_to_change() -> None:
    module = trainable(MODEL)
    with pytest.raises(DivergedError, match=r"the loss became (nan|inf) in epoch 1, step \d; the network is left as it was given. Try"):
        train(lesson(Training(epochs=2, batch_size=BATCH, optimizer="sgd", learning_rate=1e20, schedule="constant"), module))
    assert same(learned(MODEL, module), MODEL.graph.state_dict())

    class Poison(Hook):
        def before_step(self, moment: Moment) -> None:
            if moment.epoch == 2:
                next(moment.module.parameters()).data.fill_(np.nan)

    good, _ = trained(Training(epochs=2, batch_size=BATCH, schedule="constant"))
    with pytest.raises(DivergedError, match="epoch 3, step 1; the network is left as it was after epoch 2") as caught:
        train(lesson(Training(epochs=3, batch_size=BATCH, schedule="constant"), module := trainable(MODEL), hooks=[Poison()]))
    assert caught.value.model is module
    assert same(learned(MODEL, module), good.graph.state_dict())


def test_there_must_be_something_to_learn_from() -> None:
    with pytest.raises(DataError, match="the train part is empty"):
        train(Lesson(trainable(MODEL), objective_for(ACCURACY), Part(), Training(), MODEL.inputs))
    with pytest.raises(DataError, match="takes 64 samples at once, and the train part has 50"):
        train(lesson(Training(), batch=64))


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_a_gpu_that_is_not_there_is_said() -> None:
    with pytest.raises(RecipeError, match="device cuda needs a GPU"):
        train(lesson(Training(device="cuda")))
    with pytest.raises(RecipeError, match="precision fp16 needs a GPU; take bf16 or float32"):
        train(lesson(Training(precision="fp16")))


def test_bf16_learns_the_same_with_fewer_bits() -> None:
    if find_spec("lightning_fabric") is None:
        pytest.skip("mixed precision needs Lightning Fabric: pip install 'tersenet[train]'")
    whole, _ = trained(how := Training(epochs=1, batch_size=BATCH, optimizer="sgd", learning_rate=0.1, schedule="constant", clip_norm=5.0))
    mixed, outcome = trained(Training(**{**vars(how), "precision": "bf16"}))
    one, other = (model.graph.state_dict()["head.weight"] for model in (whole, mixed))
    assert one.dtype == other.dtype == torch.float32
    assert 0 < float((one - other).abs().max()) < 0.02
    assert np.isfinite(outcome.history[0].loss)


def test_mixed_precision_without_fabric_says_how_to_install_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "lightning_fabric", None)
    with pytest.raises(MissingDependencyError, match=r"precision bf16 needs Lightning Fabric: pip install 'tersenet\[train\]'"):
        train(lesson(Training(precision="bf16")))


SCRIPT = """
    import os, signal, sys
    from pathlib import Path
    import numpy as np, torch
    from tersenet.data.preparation import Preparation
    from tersenet.data.samples import Part
    from tersenet.data.tasks import ACCURACY
    from tersenet.graph.training import learned, trainable
    from tersenet.testing.networks import samples, small_convolutional
    from tersenet.training import loop
    from tersenet.training.hooks import Hook
    from tersenet.training.objective import objective_for
    from tersenet.training.options import Training

    torch.set_num_threads(1)
    loop.SAVED_SECONDS = 0.0
    deadly, folder, name = int(sys.argv[1]), Path(sys.argv[2]), sys.argv[3]

    class Death(Hook):
        count = 0
        def before_step(self, moment):
            self.count += 1
            if moment.step == deadly:
                os.kill(os.getpid(), signal.SIGKILL)
        def state(self):
            return self.count
        def restore(self, state):
            self.count = state

    model, judged = small_convolutional(), iter(range(100))
    part = Part((samples(50, 1),), np.arange(50) % 5, preparation=(Preparation(),))
    how = Training(epochs=4, batch_size=16, average="ema", augmentation=("flip", "crop:1", "noise"), schedule="plateau", decay_epochs=1, decay=0.5)
    judge = loop.Judge("spread", "lower", lambda module: float(next(module.parameters()).std()))
    module, death = trainable(model), Death()
    lesson = loop.Lesson(module, objective_for(ACCURACY), part, how, model.inputs, judge, [death], kept=folder / "kept.pt", signature=name)
    outcome = loop.train(lesson)
    print(learned(model, module).fingerprint, outcome, death.count)
"""


def test_killed_at_any_moment_it_ends_with_the_same_weights(tmp_path: Path) -> None:
    script = tmp_path / "script.py"
    script.write_text(textwrap.dedent(SCRIPT))

    def run(deadly: int, folder: Path, name: str = "one") -> subprocess.CompletedProcess[str]:
        folder.mkdir(exist_ok=True)
        environment = {**os.environ, "OMP_NUM_THREADS": "1"}
        return subprocess.run([sys.executable, script, str(deadly), folder, name], capture_output=True, text=True, check=False, env=environment)

    whole = run(-1, tmp_path / "whole")
    assert whole.returncode == 0, whole.stderr
    for deadly in (6, 13):  # in the middle of an epoch, then in another
        assert run(deadly, tmp_path / "killed").returncode == -signal.SIGKILL
        assert (tmp_path / "killed" / "kept.pt").exists()
    again = run(-1, tmp_path / "killed")
    assert again.returncode == 0, again.stderr
    assert again.stdout == whole.stdout
    other = run(-1, tmp_path / "killed", name="another")  # its signature is another: what is kept is not gone on from
    assert other.stdout == whole.stdout


def test_what_is_kept_of_another_training_or_torn_is_not_gone_on_from(tmp_path: Path) -> None:
    how, kept = Training(epochs=1, batch_size=BATCH), tmp_path / "kept.pt"
    wanted, _ = trained(how)
    trained(Training(epochs=1, batch_size=BATCH, learning_rate=0.5), kept=kept, signature="other")
    model, _ = trained(how, kept=kept, signature="mine")
    assert same(model, wanted.graph.state_dict())
    kept.write_bytes(kept.read_bytes()[:1000])
    model, _ = trained(how, kept=kept, signature="mine")
    assert same(model, wanted.graph.state_dict())


def test_two_processes_learn_together() -> None:
    if find_spec("lightning_fabric") is None:
        pytest.skip("several processes need Lightning Fabric: pip install 'tersenet[train]'")
    script = f"""
        import warnings
        import numpy as np, torch
        from tersenet.graph.training import learned, trainable
        from tersenet.testing.networks import samples, small_convolutional
        from tersenet.training.loop import Lesson, train
        from tersenet.training.objective import objective_for
        from tersenet.training.options import Training
        from tersenet.data.preparation import Preparation
        from tersenet.data.samples import Part
        from tersenet.data.tasks import ACCURACY
        from tersenet.errors import DivergedError

        model, part = small_convolutional(), Part((samples({COUNT}, 1),), np.arange({COUNT}) % 5, preparation=(Preparation(),))
        how = dict(epochs=8, batch_size=16, processes=2)
        module = trainable(model)
        outcome = train(Lesson(module, objective_for(ACCURACY), part, Training(**how), model.inputs))
        assert outcome.history[-1].loss < outcome.history[0].loss
        assert learned(model, module).fingerprint != model.fingerprint
        try:
            train(Lesson(module, objective_for(ACCURACY), part, Training(**how, optimizer="sgd", learning_rate=1e20), model.inputs))
        except DivergedError as error:
            print(error)
    """
    done = subprocess.run([sys.executable, "-c", textwrap.dedent(script)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "the loss became" in done.stdout


@pytest.mark.parametrize(
    "how, more, error, message",
    [
        ({"processes": 9, "batch_size": 16}, {}, RecipeError, "9 processes need batches of at least 18 samples, .* got a batch_size of 16"),
        ({"processes": 2}, {"batch": 16}, RecipeError, "a network that takes 16 samples at once cannot share them among 2 processes"),
        ({"processes": 30}, {}, DataError, "30 processes need at least 60 samples, two for each, and the train part has 50"),
        ({"patience": 2}, {}, DataError, "patience .2. waits for a better metric on the selection part, and these data have none with labels"),
    ],
)
def test_what_cannot_be_had_of_these_samples_is_refused(how: Any, more: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        train(lesson(Training(epochs=1, **how), **more))


def test_processes_with_one_sample_each_take_no_step() -> None:
    assert [loop._steps(PART, size, fixed=False, processes=2) for size in (47, 46)] == [1, 2]  # 3 samples are left, and 4


def test_statistics_of_single_values_are_told() -> None:
    module = nn.Sequential(nn.Flatten(), nn.Linear(3 * 8 * 8, 4), nn.BatchNorm1d(4), nn.ReLU(), nn.Linear(4, 5)).eval()
    network = trainable(load(module, (torch.zeros(2, 3, 8, 8),)))
    with pytest.raises(DivergedError, match="2.running_var became NaN or infinite in epoch 1; .* Try batches of at least 2 samples."):
        train(lesson(Training(epochs=1, batch_size=1), network))
    assert all(bool(torch.isfinite(buffer).all()) for buffer in network.buffers())


def test_statistics_too_large_for_floats_are_told() -> None:
    module = nn.Sequential(nn.Flatten(), nn.BatchNorm1d(3 * 8 * 8), nn.Linear(3 * 8 * 8, 5)).eval()
    network = trainable(load(module, (torch.zeros(2, 3, 8, 8),)))
    large = Part((samples(COUNT, 1) * np.float32(1e30),), PART.labels, preparation=(Preparation(),))
    with pytest.raises(DivergedError, match="1.running_var became NaN or infinite in epoch 1; .* Try data that are scaled to about -1..1 or"):
        train(Lesson(network, objective_for(ACCURACY), large, Training(epochs=1), MODEL.inputs))


def test_the_file_that_is_gone_on_from_is_written_after_each_epoch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sizes: list[int] = []
    write = loop.write_file
    monkeypatch.setattr(loop, "write_file", lambda path, content: (sizes.append(len(content)), write(path, content)))
    trained(Training(epochs=3, batch_size=BATCH), kept=tmp_path / "kept.pt", signature="mine")
    assert len(sizes) == 3
