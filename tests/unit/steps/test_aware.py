"""Quantization that trains: it starts where calibration ends, learns what rounding does, and one network serves all runtimes."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn

import tersenet
from tersenet import Quantize, Recipe, Train, Training
from tersenet.annotations import Annotations
from tersenet.data.digits import read_digits
from tersenet.errors import DataError, DivergedError, RecipeError
from tersenet.graph.deploy import deployable
from tersenet.graph.simulate import simulate
from tersenet.graph.walk import bind, constant
from tersenet.model import Model
from tersenet.numerics.affine import quantize
from tersenet.numerics.weights import kernel_pairs_fit
from tersenet.schemes import Encoding
from tersenet.step import Context
from tersenet.store import Store
from tersenet.targets.executorch.capabilities import capabilities as executorch
from tersenet.targets.litert.capabilities import LITERT, LITERT_MICRO
from tersenet.targets.onnxruntime.capabilities import capabilities as onnxruntime
from tersenet.training.aware import read_aware

DATA = read_digits()
TABLES = (onnxruntime("x86-avx2"), LITERT, LITERT_MICRO, executorch())
# so small a step moves no weight and no ratio by as much as one bit
STILL = {"epochs": 1, "learning_rate": 1e-30, "statistics_until": 0.0, "learn": "steps"}
SHORT = {"epochs": 1, "learning_rate": 1e-3}


class Digits(nn.Module):
    """Convolution, batch norm, relu, a residual."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.norm = nn.Conv2d(1, 8, 3, padding=1, bias=False), nn.BatchNorm2d(8)
        self.second, self.other = nn.Conv2d(8, 8, 3, padding=1), nn.BatchNorm2d(8)
        self.pool, self.head = nn.MaxPool2d(2), nn.Linear(128, 10)

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        one = torch.relu(self.norm(self.first(image)))
        two = torch.relu(one + self.other(self.second(one)))
        return self.head(self.pool(two).flatten(1))


@pytest.fixture(scope="module")
def network() -> Model:
    torch.manual_seed(0)
    model = tersenet.load(Digits().eval(), (torch.zeros(2, 1, 8, 8),))
    return Train(Training(epochs=6, learning_rate=3e-3)).apply(model, Context((), DATA)).model


def accuracy(model: Model) -> float:
    arrays, labels = DATA.evaluation.batch(np.arange(len(DATA.evaluation)))
    return float((model(*arrays).argmax(1) == labels).mean())


def numbers(model: Model) -> list[dict]:
    return [{**plan.to_json(), "offsets": {}} for plan in model.plans]


@pytest.mark.parametrize("learn", ["steps", "fixed"])
@pytest.mark.parametrize("tables", [TABLES[:1], TABLES[1:2], TABLES[1:]], ids=["pairs", "litert", "three"])
def test_where_nothing_moves_it_is_quantization_after_training(network: Model, tables, learn: str) -> None:
    still = Quantize(training={**STILL, "learn": learn}).apply(network, Context(tables, DATA)).model
    after = Quantize(correct_biases=False).apply(network, Context(tables, DATA)).model
    assert numbers(still) == numbers(after)
    arrays, _ = DATA.evaluation.batch(np.arange(50))
    for one, two in zip(still.plans, after.plans, strict=True):
        assert np.array_equal(simulate(still, one)(*arrays), simulate(after, two)(*arrays))


def test_where_nothing_moves_values_of_fewer_bits_are_those_of_quantization_after_training(network: Model) -> None:
    step = Quantize(weights="int4", activations="int3", ranges="mse", correct_biases=False)
    still = replace(step, training=read_aware(STILL)).apply(network, Context(TABLES, DATA)).model
    assert numbers(still) == numbers(step.apply(network, Context(TABLES, DATA)).model)
    assert all(plan.narrow for plan in still.plans)


def test_step_sizes_of_values_of_fewer_bits_learn(network: Model) -> None:
    step = Quantize(weights="int4", activations="int3", ranges="mse")
    after = step.apply(network, Context(TABLES[1:2], DATA)).model
    trained = replace(step, training=read_aware({**SHORT, "epochs": 3})).apply(network, Context(TABLES[1:2], DATA)).model
    assert all(trained.plans[0].values[name].scale != after.plans[0].values[name].scale for name in after.plans[0].narrow)
    values = [simulate(model, model.plans[0]) for model in (after, trained)]
    assert accuracy(values[1]) >= accuracy(values[0])


@pytest.mark.parametrize("learn", ["steps", "moving", "fixed"])
@pytest.mark.parametrize("weights", ["int4", "int2"])
def test_it_is_better_than_after_training_at_few_bits(network: Model, weights: str, learn: str) -> None:
    context = Context((LITERT,), DATA)
    options = {"weights": weights, "granularity": {"int4": "per-tensor", "int2": "per-channel"}[weights]}
    after = Quantize(**options).apply(network, context).model
    trained = Quantize(training={"epochs": 3, "learning_rate": 2e-3, "learn": learn}, **options).apply(network, context).model
    gained = {"int4": 0.01, "int2": 0.02}[weights] if learn == "steps" else 0.0  # grids that do not learn gain less, how much hangs on rounding
    assert accuracy(simulate(trained, trained.plans[0])) >= accuracy(simulate(after, after.plans[0])) + gained


class Raw(Digits):
    """Takes what cameras give, 0 to 255: its first weights are tiny, and their gradients large."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.load_state_dict(network.state_dict())
        with torch.no_grad():
            self.first.weight.div_(255)


def test_step_sizes_do_not_run_away_where_weights_are_tiny_and_values_large(network: Model) -> None:
    raw = Raw(network.graph).eval()
    model = tersenet.load(raw, (torch.zeros(2, 1, 8, 8),))
    parts = {name: part.arrays()[0] * np.float32(255) for name, part in DATA.parts()}
    data = tersenet.Data.from_arrays(
        train=(parts["train"], DATA.train.labels),
        calibration=parts["calibration"],
        selection=(parts["selection"], DATA.selection.labels),
        evaluation=(parts["evaluation"], DATA.evaluation.labels),
    )
    how = {"epochs": 2, "learning_rate": 1e-5, "optimizer": "sgd", "momentum": 0.9, "statistics_until": 1.0}
    trained = Quantize(training=how).apply(model, Context((LITERT,), data))
    simulated = simulate(trained.model, trained.model.plans[0])
    assert float((simulated(parts["evaluation"]).argmax(1) == DATA.evaluation.labels).mean()) > accuracy(network) - 0.03


def test_training_that_does_harm_is_told(network: Model) -> None:
    how = {"epochs": 1, "learning_rate": 5.0, "optimizer": "sgd"}
    left = Quantize(training=how).apply(network, Context((LITERT,), DATA)).skipped
    (harm,) = [change.why for change in left if change.what == "a gain by training"]
    assert "on the selection part was" in harm and "try a learning_rate below 5" in harm


def test_one_network_serves_all_runtimes(network: Model) -> None:
    result = Quantize(training=SHORT).apply(network, Context(TABLES, DATA))
    assert {name for plan in result.model.plans for name in plan.serves} == {table.name for table in TABLES}
    grids = [{name: (value.scale, value.zero_point) for name, value in plan.values.items()} for plan in result.model.plans]
    assert all(grid == grids[0] for grid in grids), "all runtimes have the same operators in integers here"
    module = deployable(result.model)
    for node in module.graph.nodes:
        if node.name in result.model.plans[0].units and "weight" in result.model.plans[0].units[node.name].weights:
            integers = quantize(constant(module, bind(node)["weight"]), result.model.plans[0].units[node.name].weights["weight"])
            assert bool(kernel_pairs_fit(integers, 0, 1).all()), "one of them adds pairs in 16 bits"


@pytest.mark.parametrize("learn", ["steps", "moving", "fixed"])
@pytest.mark.parametrize(
    "options",
    [
        {"power_of_two": True, "symmetric": True},
        {"granularity": "per-tensor"},
        {"activations": "int16"},
        {"full_range": True, "weight_ranges": "mse"},
    ],
    ids=["power of two", "per tensor", "int16", "mse"],
)
def test_schemes_stay_what_they_are(network: Model, options: dict, learn: str) -> None:
    context = Context((LITERT,), DATA)
    after = Quantize(correct_biases=False, **options).apply(network, context).model.plans[0]
    moved = {**SHORT, "learning_rate": 3e-3, "learn": learn}
    trained = Quantize(training=moved, **options).apply(network, context).model
    plan = trained.plans[0]
    for name, encoding in plan.values.items():
        assert (encoding.scheme, encoding.axis, encoding.shared) == (after.values[name].scheme, after.values[name].axis, after.values[name].shared)
        _check(encoding)
    for anchor, unit in plan.units.items():
        assert {name: encoding.scheme for name, encoding in unit.weights.items()} == {
            name: encoding.scheme for name, encoding in after.units[anchor].weights.items()
        }
        for encoding in unit.weights.values():
            _check(encoding)
    if learn != "fixed" and "power_of_two" not in options:
        assert plan.values != after.values
    assert accuracy(simulate(trained, plan)) > 0.85


def _check(encoding: Encoding) -> None:
    assert all(scale > 0 and scale == float(np.float32(scale)) for scale in encoding.scale)
    assert all(encoding.scheme.lowest <= zero <= encoding.scheme.highest for zero in encoding.zero_point)
    if encoding.scheme.power_of_two:
        assert all(np.frexp(scale)[0] == 0.5 for scale in encoding.scale)


def test_groups_learn_one_grid(network: Model) -> None:
    plan = Quantize(training=SHORT).apply(network, Context((LITERT,), DATA)).model.plans[0]
    groups: dict[str, set] = {}
    for encoding in plan.values.values():
        if encoding.shared:
            groups.setdefault(encoding.shared, set()).add((encoding.scale, encoding.zero_point))
    assert groups
    assert all(len(grids) == 1 for grids in groups.values())


def test_probabilities_keep_the_grid_that_a_kernel_demands_and_still_have_gradients() -> None:
    torch.manual_seed(1)
    head = nn.Sequential(nn.Flatten(), nn.Linear(64, 10), nn.Softmax(1)).eval()
    model = tersenet.load(head, (torch.zeros(2, 1, 8, 8),))
    result = Quantize(training={"epochs": 4, "learning_rate": 1e-2, "learn": "steps"}).apply(model, Context((LITERT,), DATA)).model
    assert result.plans[0].values["softmax"].scale == (1 / 256,)
    assert accuracy(simulate(result, result.plans[0])) > 0.85


def test_masks_survive(network: Model) -> None:
    mask = np.random.default_rng(0).random((8, 8, 3, 3)) > 0.5
    with torch.no_grad():
        sparse = replace(network, annotations=Annotations(masks={"second.weight": mask}))
    trained = Quantize(training=SHORT).apply(sparse, Context((LITERT,), DATA)).model
    weight = trained.graph.get_parameter("second.weight").detach().numpy()
    assert not weight[~mask].any()
    assert weight[mask].all()
    assert np.array_equal(trained.annotations.masks["second.weight"], mask)


def test_a_teacher_is_learned_from(network: Model) -> None:
    step = Quantize(weights="int4", training={**SHORT, "distill": {"method": "soft"}})
    taught = step.apply(network, Context((LITERT,), DATA, original=network)).model
    alone = Quantize(weights="int4", training=SHORT).apply(network, Context((LITERT,), DATA)).model
    assert taught.fingerprint != alone.fingerprint
    assert accuracy(simulate(taught, taught.plans[0])) > 0.85


def test_a_second_call_answers_from_the_draft_and_an_interrupted_one_goes_on(network: Model, tmp_path) -> None:
    step = Quantize(training={"epochs": 2, "learning_rate": 1e-3, "optimizer": "adam", "ranges_until": 0.6})
    whole = step.apply(network, Context((LITERT,), DATA)).model
    store = Store(tmp_path / "steps")
    count = 0

    def interrupt(done: int, total: int, what: str) -> None:
        nonlocal count
        count += what.startswith("training")
        if count == 10:
            raise KeyboardInterrupt

    import tersenet.training.loop as loop

    saved, loop.SAVED_SECONDS = loop.SAVED_SECONDS, 0.0
    try:
        with pytest.raises(KeyboardInterrupt):
            step.apply(network, Context((LITERT,), DATA, store=store, progress=interrupt))
        assert step.apply(network, Context((LITERT,), DATA, store=store)).model.fingerprint == whole.fingerprint
    finally:
        loop.SAVED_SECONDS = saved


def test_a_recipe_keeps_it() -> None:
    recipe = Recipe([Quantize(weights="int4", training={"epochs": 3, "learn": "moving", "distill": {"method": "soft"}})])
    written = recipe.to_json()
    assert written[0]["training"] == {"epochs": 3, "learn": "moving", "distill": {}}
    assert Recipe.from_json(written) == recipe
    assert Quantize().to_json() == {"step": "quantize"}
    assert Quantize(training=Training(epochs=2)).training.epochs == 2


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"learn": "step"}, "way to learn grids"),
        ({"epoch": 3}, "did you mean 'epochs'"),
        ({"statistics_until": 1.5}, "a share of the steps"),
        ({"grid_rate": 2.0, "learn": "fixed"}, "grid_rate goes with learn steps"),
        ({"dropout": 0.5}, "no dropout"),
        ({"teacher": "a.pt2"}, "a teacher is for distill"),
        ({"distill": {"method": "hard"}}, "hard"),
    ],
)
def test_options_that_do_not_fit(options: dict, message: str) -> None:
    with pytest.raises(RecipeError, match=message):
        Quantize(training=options)


def test_what_it_needs(network: Model) -> None:
    arrays, _ = DATA.calibration.batch(np.arange(32))
    bare = tersenet.Data.from_arrays(calibration=arrays[0]).bind(network.inputs)
    with pytest.raises(DataError, match="quantize with training needs a train part"):
        Quantize(training=SHORT).apply(network, Context((LITERT,), bare))
    with pytest.raises(RecipeError, match="none of this network runs in integers"):
        Quantize(training=SHORT, keep_float=("*",)).apply(network, Context((LITERT,), DATA))


def test_a_diverged_network_is_left_as_it_last_was_well(network: Model, monkeypatch) -> None:
    from tersenet.training import loop

    checked, steps = loop.Loop._checked, iter(range(10_000))
    monkeypatch.setattr(loop.Loop, "_checked", lambda self, loss: checked(self, loss * (float("nan") if next(steps) == self.steps + 1 else 1)))
    with pytest.raises(DivergedError, match="the loss became nan in epoch 2") as caught:
        Quantize(training={"epochs": 2}).apply(network, Context((LITERT,), DATA))
    assert accuracy(caught.value.model) > 0.85
