"""Where a network becomes integers, with which numbers, and what is refused."""

from __future__ import annotations

import inspect
import json
import pickle
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn

from tersenet import Data, Override, Quantize, Recipe
from tersenet.capabilities import Capabilities, Kernel
from tersenet.errors import DataError, RecipeError, UnsupportedError
from tersenet.frontends.table import load
from tersenet.graph.simulate import simulate
from tersenet.measure.agreement import sqnr_db
from tersenet.plan import QuantizationPlan
from tersenet.step import Context

WEIGHTED = {"weights": ("int8",), "granularities": ("per-channel", "per-tensor"), "fuses": ("relu", "relu6")}
TABLE = Capabilities(
    "fake",
    {
        "conv2d": Kernel(**WEIGHTED),
        "linear": Kernel(**{**WEIGHTED, "activations": ("int8", "int16")}),
        "matmul": Kernel(),
        "add": Kernel(fuses=("relu",)),
        "mul": Kernel(),
        "max_pool2d": Kernel(shares="result"),
        "reshape": Kernel(shares="result"),
        "split": Kernel(shares="result"),
        "getitem": Kernel(shares="result"),
        "concat": Kernel(shares="all"),
        "softmax": Kernel(result=(1 / 256, -128)),
        "sigmoid": Kernel(result=(1 / 256, -128)),
    },
)


class Function(nn.Module):
    def __init__(self, function, **modules):
        super().__init__()
        self.function = function
        for name, module in modules.items():
            setattr(self, name, module)

    def forward(self, x):
        return self.function(self, x)


def quantized(function, step=None, tables=(TABLE,), shape=(4, 8, 8), **modules):
    torch.manual_seed(0)
    model = load(Function(function, **modules).eval(), (torch.randn(2, *shape),))
    x = np.random.default_rng(0).standard_normal((64, *shape)).astype(np.float32)
    data = Data.from_arrays(calibration=x[:48], evaluation=x[48:])
    return model, (step or Quantize()).apply(model, Context(tables, data.without_evaluation())), x[48:]


def plan_of(*arguments, **modules) -> QuantizationPlan:
    return quantized(*arguments, **modules)[1].model.plans[0]


def conv(inputs=4, outputs=4):
    return nn.Conv2d(inputs, outputs, 3, padding=1)


def test_points_lie_after_the_fused_activation():
    plan = plan_of(lambda net, x: torch.relu(net.layer(x)), layer=conv())
    assert list(plan.units) == ["conv2d"]
    assert plan.units["conv2d"].nodes == ("conv2d", "relu")
    assert set(plan.values) == {"x", "relu"}
    assert plan.values["relu"].range[0] == 0
    assert plan.values["x"].role == "input"
    assert plan.values["relu"].role == "output"


def test_an_activation_with_a_second_reader_before_it_is_not_fused():
    plan = plan_of(lambda net, x: (lambda y: torch.relu(y) + y)(net.layer(x)), layer=conv(), tables=(with_kernel("relu"),))
    assert plan.units["conv2d"].nodes == ("conv2d",)


def with_kernel(kind):
    return replace(TABLE, kernels={**TABLE.kernels, kind: Kernel()})


def test_biases_are_int32_on_the_product_of_scales():
    plan = plan_of(lambda net, x: net.layer(x), layer=conv())
    weight, bias = (plan.units["conv2d"].weights[name] for name in ("weight", "bias"))
    np.testing.assert_array_equal(np.float32(bias.scale), np.float32(weight.scale) * np.float32(plan.values["x"].scale[0]))
    assert bias.scheme.dtype == "int32"
    assert len(weight.scale) == 4
    assert weight.scheme.lowest == -127


def test_pooling_reshape_and_split_keep_their_inputs_numbers():
    def pooled(net, x):
        first, second = net.pool(net.layer(x)).flatten(2).chunk(2, 1)
        return torch.cat([first, second], 2)

    plan = plan_of(pooled, layer=conv(), pool=nn.MaxPool2d(2))
    grids = {(encoding.scale, encoding.zero_point) for name, encoding in plan.values.items() if name != "x"}
    assert len(grids) == 1
    assert {"getitem", "getitem_1", "cat"} <= {name.replace("split_with_sizes", "split") for name in plan.values} | {"cat"}


def test_a_concatenation_of_different_grids_shares_one_and_a_demanded_grid_is_converted_for_it():
    plan = plan_of(lambda net, x: torch.cat([torch.sigmoid(net.one(x)), net.two(x)], 1), one=conv(), two=conv())
    assert plan.values["sigmoid"].scale == (1 / 256,)
    (place,) = plan.uses
    assert place == "cat:0"
    assert plan.uses[place].scale == plan.values["cat"].scale == plan.values["conv2d_1"].scale
    assert plan.values["cat"].shared


def test_what_has_no_kernel_stays_float_and_says_why():
    _, result, _ = quantized(lambda net, x: net.two(torch.sin(net.one(x))), one=conv(), two=conv())
    plan = result.model.plans[0]
    assert plan.float_operators == {"sin": "no integer kernel for sin"}
    assert set(plan.values) == {"x", "conv2d", "sin", "conv2d_1"}
    assert any("sin" in entry.why for entry in result.skipped)


def test_islands_of_light_operators_go_back_to_float():
    plan = plan_of(lambda net, x: torch.sin(torch.sin(net.one(x)) * 2 + 1), one=conv())
    assert set(plan.units) == {"conv2d"}
    assert "two conversions" in plan.float_operators["mul"]


def test_a_network_of_light_operators_alone_is_quantized():
    plan = plan_of(lambda net, x: x * 2 + x)
    assert set(plan.units) == {"mul", "add"}


def test_a_mask_is_not_quantized():
    mask = torch.zeros(8, 8).masked_fill(torch.ones(8, 8).triu(1).bool(), -1e9)

    def attend(net, x):
        return (net.layer(x) @ x + mask).softmax(-1) @ x

    plan = plan_of(attend, layer=conv())
    assert "mask" in plan.float_operators["add"]
    assert max(abs(end) for encoding in plan.values.values() for end in encoding.range) < 1e4


def test_masks_that_come_of_the_data_are_found_by_their_size():
    def attend(net, x):
        return (net.layer(x) @ x + torch.where(x > 0, 0.0, -1e9)).softmax(-1) @ x

    plan = plan_of(attend, layer=conv())
    assert "add" in plan.float_operators
    assert "matmul" in plan.units


def test_what_is_compared_is_not_quantized():
    """Trees: a column, small beside another, is gathered and compared with a threshold out of a table."""
    table = (replace(TABLE, kernels={**TABLE.kernels, **dict.fromkeys(("index", "gather"), Kernel(shares="result"))}),)
    thresholds, leaves = nn.Parameter(torch.tensor([0.001, 500.0])), nn.Parameter(torch.tensor([1.0, 5.0]))

    def walk(net, x):
        x = x * net.widths
        column = torch.zeros_like(x[:, :1]).long()
        branch = (x.gather(1, column) <= net.thresholds[column]).long()
        return net.leaves[branch] * 2

    widths = nn.Parameter(torch.tensor([0.001, 500.0, 1.0, 1.0]))
    model, result, x = quantized(walk, tables=table, shape=(4,), thresholds=thresholds, leaves=leaves, widths=widths)
    plan = result.model.plans[0]
    assert all("comparisons decide" in plan.float_operators[name] for name in ("mul", "gather", "index"))
    assert set(plan.units) == {"index_1", "mul_1"}
    assert sqnr_db(model(x), simulate(result.model, plan)(x)) > 40


def test_what_reads_a_compared_value_leaves_it_in_float():
    plan = plan_of(lambda net, x: (x * 2).where(x > 1, x + 1) * 3)
    assert set(plan.units) == {"mul_1"}
    assert not {"x", "mul", "add"} & set(plan.values)


def test_what_a_heavy_operator_makes_or_takes_is_integers_though_it_is_compared():
    made = plan_of(lambda net, x: (lambda y: torch.where(y > 0, y * 2, y))(net.layer(x)), layer=conv())
    assert set(made.units) == {"conv2d", "mul"}
    taken = plan_of(lambda net, x: (lambda y: torch.where(y > 1, net.layer(y), y))(x * 2), shape=(4,), layer=nn.Linear(4, 4))
    assert set(taken.units) == {"mul", "linear"}
    unread = plan_of(lambda net, x: torch.nn.functional.adaptive_max_pool2d(x * 2, 1), tables=(with_kernel("adaptive_max_pool2d"),))
    assert "mul" in unread.units, "nobody reads the indices of the largest"
    chosen = plan_of(lambda net, x: torch.relu(net.layer(x)).argmax(1), layer=conv())
    assert set(chosen.values) == {"x", "relu"}


def test_integers_alone_are_compared_as_integers():
    plan = plan_of(lambda net, x: x * (x > 1), tables=(replace(TABLE, floats=frozenset()),))
    assert set(plan.units) == {"mul"}


def test_layers_are_left_in_float_by_name_operator_or_kind():
    for pattern in ("one", "on?", "conv2d", "one*"):
        plan = plan_of(lambda net, x: net.two(net.one(x)), Quantize(keep_float=(pattern,)), one=conv(), two=nn.Conv2d(4, 4, 1))
        assert "request" in plan.float_operators["conv2d"], pattern
        assert "conv2d" not in plan.units


def test_what_a_kernel_does_not_take_is_said():
    _, result, _ = quantized(
        lambda net, x: net.layer(x), Quantize(granularity="per-group", group_size=4, weights="int4", full_range=True), layer=conv()
    )
    said = {entry.what for entry in result.skipped}
    assert said == {"per-group scales of conv2d (fake)", "int4 weights of conv2d (fake)", "the full range of weights (fake)"}
    assert result.model.plans[0].units["conv2d"].weights["weight"].scheme.granularity == "per-channel"


def test_int8_and_uint8_activations_are_one_plan():
    plans = [plan_of(lambda net, x: net.layer(x), Quantize(activations=dtype), layer=conv()) for dtype in ("int8", "uint8")]
    assert plans[0] == plans[1]


def test_constants_made_on_the_spot_are_not_listed():
    plan = plan_of(lambda net, x: torch.sin(net.layer(x)) + x.new_zeros(x.shape), layer=conv())
    assert set(plan.float_operators) == {"sin", "add"}


def test_overrides_change_one_layer():
    step = Quantize(overrides=(Override("two", granularity="per-tensor", weights="int4"),))
    plan = plan_of(lambda net, x: net.two(net.one(x)), step, one=conv(), two=conv())
    assert len(plan.units["conv2d"].weights["weight"].scale) == 4
    assert len(plan.units["conv2d_1"].weights["weight"].scale) == 1
    assert plan.units["conv2d_1"].weights["weight"].scheme.dtype == "int4"


def test_sixteen_bit_activations_where_the_runtime_has_them():
    plan = plan_of(lambda net, x: net.layer(x), Quantize(activations="int16"), shape=(6,), layer=nn.Linear(6, 3))
    assert plan.values["linear"].scheme.dtype == "int16"
    assert plan.values["linear"].zero_point == (0,)
    left = plan_of(lambda net, x: net.layer(x), Quantize(activations="int16"), layer=conv())
    assert "int16" in left.float_operators["conv2d"]


def test_one_network_has_activations_of_one_type() -> None:
    """A kernel reads and writes one type; a layer of another would compute nonsense."""
    with pytest.raises(RecipeError, match="16 bits in the whole network or nowhere"):
        Quantize(overrides=(Override(layers="head", activations="int16"),))
    Quantize(activations="int16", overrides=(Override(layers="head", activations="int16", ranges="mse"),))


def test_scales_that_are_powers_of_two():
    plan = plan_of(lambda net, x: torch.relu(net.layer(x)), Quantize(power_of_two=True, symmetric=True), layer=conv())
    scales = [scale for unit in plan.units.values() for encoding in unit.weights.values() for scale in encoding.scale]
    scales += [encoding.scale[0] for encoding in plan.values.values()]
    assert all(np.log2(scale) == int(np.log2(scale)) for scale in scales)
    assert all(encoding.zero_point == (0,) for encoding in plan.values.values())


def test_tables_that_decide_alike_share_a_plan():
    tables = (TABLE, replace(TABLE, name="twin"), replace(TABLE, name="other", restricted_weights=False))
    _, result, _ = quantized(lambda net, x: torch.relu(net.layer(x)), Quantize(full_range=True), tables=tables, layer=conv())
    assert [plan.serves for plan in result.model.plans] == [("fake", "twin"), ("other",)]
    assert result.model.plan_for("twin") is result.model.plans[0]
    with pytest.raises(UnsupportedError, match="not for elsewhere"):
        result.model.plan_for("elsewhere")


def test_integers_alone_or_an_error_that_names_the_operator():
    with pytest.raises(UnsupportedError, match="sin"):
        quantized(lambda net, x: torch.sin(net.layer(x)), tables=(replace(TABLE, floats=frozenset()),), layer=conv())


@pytest.mark.parametrize("ranges", ["minmax", "moving-average", "percentile", "mse", "entropy"])
def test_simulation_is_near_the_network(ranges):
    model, result, x = quantized(lambda net, x: net.two(torch.relu(net.one(x)) + x), Quantize(ranges=ranges), one=conv(), two=conv())
    simulated = simulate(result.model, result.model.plans[0])(x)
    assert sqnr_db(model(x), simulated) > 25
    assert not np.array_equal(model(x), simulated)


def test_a_plan_comes_back_from_json():
    plan = plan_of(lambda net, x: torch.cat([torch.sigmoid(net.one(x)), net.one(x)], 1), one=conv())
    assert QuantizationPlan.from_json(json.loads(json.dumps(plan.to_json()))) == plan


def test_a_recipe_comes_back_from_json():
    recipe = Recipe([Quantize(ranges="mse", keep_float=("head",), overrides=(Override("stem*", weights="int4"),))])
    assert Recipe.from_json(json.loads(json.dumps(recipe.to_json()))) == recipe


BAD = {
    "weights": ({"weights": "int9"}, "int9"),
    "activations": ({"activations": "int9"}, "unknown activations 'int9'"),
    "ranges": ({"ranges": "minmaxx"}, "did you mean 'minmax'"),
    "estimator's number": ({"ranges": "percentile", "range_numbers": (("percentage", 9.0),)}, "percentage"),
    "group without size": ({"granularity": "per-group"}, "group_size"),
    "batch": ({"batch_size": 0}, "batch_size"),
    "override": ({"overrides": ({"layers": "a", "weight": "int4"},)}, "weight"),
    "override without layers": ({"overrides": ({"weights": "int4"},)}, "which layers"),
    "no option": ({"rangez": "mse"}, "unknown option of Quantize 'rangez'; did you mean 'ranges'"),
    "wrong type": ({"symmetric": "yes"}, "symmetric must be bool, got str"),
    "wrong type in an override": ({"overrides": (Override("a", weights=4),)}, "weights must be str, got int"),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_options(name):
    options, message = BAD[name]
    with pytest.raises(RecipeError, match=message):
        Quantize(**options)


def test_an_override_has_no_other_options():
    with pytest.raises(RecipeError, match="unknown option of Override 'keep_flot'; did you mean 'keep_float'"):
        Override("head", keep_flot=True)
    with pytest.raises(RecipeError, match="missing a required argument: 'layers'"):
        Override(keep_float=True)
    with pytest.raises(RecipeError, match="multiple values for argument 'weights'"):
        Quantize("int8", weights="int8")


def test_a_step_shows_its_options_and_survives_copies():
    assert next(iter(inspect.signature(Quantize).parameters)) == "weights"
    step = Quantize(ranges="mse", overrides=(Override("head", keep_float=True),))
    assert pickle.loads(pickle.dumps(step)) == step == replace(step)


def test_a_pattern_that_matches_nothing_names_the_close_ones():
    with pytest.raises(RecipeError, match="layr.*did you mean 'layer'"):
        quantized(lambda net, x: net.layer(x), Quantize(keep_float=("layr",)), layer=conv())


def test_calibration_data_must_be_there():
    model = load(Function(lambda net, x: net.layer(x), layer=conv()).eval(), (torch.randn(2, 4, 8, 8),))
    with pytest.raises(DataError, match="calibration part"):
        Quantize().apply(model, Context((TABLE,), Data.from_arrays(evaluation=np.zeros((2, 4, 8, 8), np.float32))))


def test_an_activation_that_is_not_finite_is_an_error():
    with pytest.raises(DataError, match="NaN or infinity") as caught:
        quantized(lambda net, x: net.layer(torch.log(x)), layer=conv())
    assert "\n" not in str(caught.value)


class Sequence(nn.Module):
    """An LSTM whose last step a linear layer reads."""

    def __init__(self) -> None:
        super().__init__()
        self.layer, self.head = nn.LSTM(4, 6, batch_first=True), nn.Linear(6, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(self.layer(x)[0][:, -1])


def test_weights_alone_may_be_integers():
    lstm = Kernel(("int8",), ("float32",), ("per-gate",), dynamic="rows")
    table = replace(TABLE, kernels={**TABLE.kernels, "lstm": lstm, "select": Kernel(shares="result")})
    x = torch.randn(32, 5, 4, generator=torch.Generator().manual_seed(0))
    model = load(Sequence().eval(), (x[:2],))
    result = Quantize().apply(model, Context((table,), Data.from_arrays(calibration=x.numpy())))
    plan = result.model.plans[0]
    unit = next(unit for unit in plan.units.values() if unit.dynamic)
    assert set(unit.weights) == {"params.0", "params.1"}
    assert [len(set(encoding.scale)) for encoding in unit.weights.values()] == [4, 4]
    assert list(plan.values) == ["select", "linear"]  # the last step alone is quantized, not the sequence
    assert not plan.float_operators
    assert QuantizationPlan.from_json(json.loads(json.dumps(plan.to_json()))) == plan
    assert [change.why for change in result.changed if change.what.startswith("layer")] == [
        "weights in 8 bits; its kernel puts each row of input and state on a grid of 8 bits anew at each step"
    ]
    assert any("per-gate" in change.why for change in result.skipped)
    simulated = simulate(result.model, plan)
    assert np.abs(simulated(x.numpy()) - model(x.numpy())).max() < 0.05


def test_a_layer_of_given_states_keeps_its_weights_alone_in_integers():
    lstm = Kernel(("int8",), ("float32",), ("per-gate",), dynamic="rows", given_states=False)

    class Given(Sequence):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            state = torch.ones(1, x.shape[0], 6)
            return self.layer(x, (state, state))[0]

    x = torch.randn(8, 5, 4, generator=torch.Generator().manual_seed(0))
    model = load(Given().eval(), (x[:2],))
    table = replace(TABLE, kernels={**TABLE.kernels, "lstm": lstm})
    plan = Quantize().apply(model, Context((table,), Data.from_arrays(calibration=x.numpy()))).model.plans[0]
    assert [unit.dynamic for unit in plan.units.values()] == ["never"]
