"""Every row of the table of Keras layers against Keras itself, on its torch backend."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from keras_layers import CASES, Case, array_of, convert, inputs_of, layer_of, randomized, weights_of
from tersenet.errors import ModelError
from tersenet.frontends.keras.layer import Layer, Weights
from tersenet.frontends.keras.table import LAYERS
from tersenet.graph.deploy import deployable
from tersenet.graph.trace import trace

keras = pytest.importorskip("keras")

EACH = [pytest.param(kind, case, id=f"{kind}-{place}") for kind, cases in CASES.items() for place, case in enumerate(cases)]
FIRST = [pytest.param(kind, cases[0], id=kind) for kind, cases in CASES.items() if cases]
# What other tests compare: rows with weights in inner cells, and those that only TensorFlow can run.
ELSEWHERE = {"IntegerLookup", "Pipeline", "SpectralNormalization"}


def made(kind: str, case: Case) -> tuple[Any, torch.nn.Module, list[np.ndarray]]:
    """A layer of Keras with random weights, our module of it, and inputs."""
    layer = getattr(keras.layers, kind)(**case.options)
    inputs = inputs_of(case)
    called(layer, inputs, **in_evaluation(layer))
    randomized(layer)
    return layer, convert(layer_of(layer, [(None, *shape) for shape in case.shapes])), inputs


def in_evaluation(layer: Any) -> dict[str, bool]:
    """Some layers take it for training where nothing is said."""
    return {"training": False} if layer._call_has_training_arg else {}


def called(layer: Any, inputs: list[np.ndarray], **options: Any) -> np.ndarray:
    with torch.no_grad():
        given = [torch.from_numpy(array) for array in inputs]
        return layer(given[0] if len(given) == 1 else given, **options).detach().numpy()


def close(ours: torch.Tensor, theirs: np.ndarray, tolerance: float = 1e-5) -> None:
    assert tuple(ours.shape) == theirs.shape
    assert str(ours.dtype).removeprefix("torch.") == str(theirs.dtype)
    np.testing.assert_allclose(ours.detach().numpy(), theirs, rtol=tolerance, atol=tolerance * max(1.0, float(np.abs(theirs).max(initial=0))))


@pytest.mark.filterwarnings("ignore:You passed `rms_scaling=True`")
@pytest.mark.parametrize(("kind", "case"), EACH)
def test_a_layer_computes_what_keras_computes(kind: str, case: Case) -> None:
    layer, module, inputs = made(kind, case)
    with torch.no_grad():
        close(module(*(torch.from_numpy(array) for array in inputs)), called(layer, inputs, **in_evaluation(layer)))


@pytest.mark.parametrize(("kind", "case"), FIRST)
def test_a_layer_is_traced_with_an_open_batch(kind: str, case: Case) -> None:
    _, module, inputs = made(kind, case)
    model = trace(module, tuple(inputs))
    assert model.fixed_batch == ""
    wanted = module(*(torch.from_numpy(array) for array in inputs)).detach().numpy()
    for graph in (model.graph, deployable(model)):
        found = graph(*(torch.from_numpy(array) for array in inputs))
        np.testing.assert_allclose(
            found[0].detach().numpy() if isinstance(found, tuple | list) else found.detach().numpy(), wanted, rtol=1e-4, atol=1e-4
        )


def test_every_row_has_cases() -> None:
    ours = {kind for kind, (module, _) in LAYERS.items() if module.rpartition(".")[2] in OURS and hasattr(keras.layers, kind)}
    assert ours == set(CASES) | ELSEWHERE, "rows of Keras 2 alone have their tests in tests/unit/frontends/keras"


OURS = {"activation_layers", "categories", "convolution", "dense", "merging", "normalization", "pooling", "preprocessing", "regularization"}
OURS |= {"reshaping", "resizing", "spectrogram", "transposed"}


@pytest.mark.parametrize("axis", [-1, 1])
def test_batch_norm_in_training(axis: int) -> None:
    layer, module, inputs = made("BatchNormalization", Case(((5, 6, 4),), {"axis": axis, "momentum": 0.7}))
    theirs = called(layer, inputs, training=True)
    ours = module.train()(torch.from_numpy(inputs[0]))
    close(ours, theirs)
    np.testing.assert_allclose(module.running_mean.numpy(), array_of(layer.moving_mean), rtol=1e-5, atol=1e-6)
    # torch takes the variance of the population, Keras on torch that of the sample: n - 1 of n, of the new part.
    count = inputs[0].size / module.running_mean.numel()
    old = array_of(made("BatchNormalization", Case(((5, 6, 4),), {"axis": axis, "momentum": 0.7}))[0].moving_variance)
    new = (array_of(layer.moving_variance) - 0.7 * old) / 0.3
    np.testing.assert_allclose(module.running_var.numpy(), 0.7 * old + 0.3 * new * count / (count - 1), rtol=1e-5)


@pytest.mark.parametrize(
    ("kind", "options", "shape", "shared"),
    [
        ("Dropout", {"rate": 0.5}, (40, 50), ()),
        ("Dropout", {"rate": 0.5, "noise_shape": [None, 1, None]}, (40, 50), (1,)),
        ("SpatialDropout1D", {"rate": 0.5}, (40, 50), (1,)),
        ("SpatialDropout2D", {"rate": 0.5}, (8, 9, 200), (1, 2)),
        ("SpatialDropout3D", {"rate": 0.5}, (3, 4, 5, 200), (1, 2, 3)),
    ],
)
def test_dropout_in_training(kind: str, options: dict[str, Any], shape: tuple[int, ...], shared: tuple[int, ...]) -> None:
    torch.manual_seed(0)
    module = convert(layer_of(getattr(keras.layers, kind)(**options), [(None, *shape)])).train()
    result = module(torch.ones(4, *shape))
    assert set(result.unique().tolist()) == {0.0, 2.0}
    assert 0.4 < float((result == 0).float().mean()) < 0.6
    for axis in shared:
        assert bool((result.amax(axis) == result.amin(axis)).all())
    for axis in set(range(1, len(shape) + 1)) - set(shared):
        assert not bool((result.amax(axis) == result.amin(axis)).all())


@pytest.mark.parametrize(
    ("kind", "options", "deviation"),
    [("GaussianNoise", {"stddev": 0.3}, 0.3), ("GaussianDropout", {"rate": 0.2}, 0.5), ("AlphaDropout", {"rate": 0.2}, None)],
)
def test_noise_in_training(kind: str, options: dict[str, Any], deviation: float | None) -> None:
    torch.manual_seed(0)
    module = convert(layer_of(getattr(keras.layers, kind)(**options), [(None, 100)])).train()
    if deviation is None:  # mean and variance are kept
        result = module(torch.randn(1000, 100))
        assert abs(float(result.mean())) < 0.02
        assert abs(float(result.std()) - 1) < 0.02
    else:
        result = module(torch.ones(1000, 100))
        assert abs(float(result.mean()) - 1) < 0.02
        assert abs(float(result.std()) - deviation) < 0.02


@pytest.mark.parametrize("axis", [[2], [1, 2], [1, 3], [1]])
def test_norms_over_other_axes(axis: list[int]) -> None:
    """Against their definition: Keras on torch fails for most of these."""
    x, sizes = inputs_of(Case(((5, 6, 4),)))[0], [(3, 5, 6, 4)[each] for each in axis]
    weight, bias = (np.random.default_rng(seed).normal(size=sizes).astype(np.float32) for seed in (1, 2))
    spread = [(3, 5, 6, 4)[place] if place in axis else 1 for place in range(4)]
    mean, over = x.mean(tuple(axis), keepdims=True), tuple(axis)
    centered = (x - mean) / np.sqrt(((x - mean) ** 2).mean(over, keepdims=True) + 1e-3) * weight.reshape(spread) + bias.reshape(spread)
    module = convert(Layer("LayerNormalization", "a", {"axis": axis, "epsilon": 1e-3}, Weights((weight, bias)), ((None, 5, 6, 4),)))
    close(module(torch.from_numpy(x)), centered)
    module = convert(Layer("RMSNormalization", "a", {"axis": axis, "epsilon": 1e-6}, Weights((weight,)), ((None, 5, 6, 4),)))
    close(module(torch.from_numpy(x)), x / np.sqrt((x**2).mean(over, keepdims=True) + 1e-6) * weight.reshape(spread))


@pytest.mark.parametrize("inside", ["Conv2D", "Dense"])
def test_spectral_normalization_in_evaluation(inside: str) -> None:
    case = {"Conv2D": Case(((6, 5, 3),)), "Dense": Case(((5,),))}[inside]
    options = {"Conv2D": {"filters": 4, "kernel_size": 3}, "Dense": {"units": 4}}[inside]
    layer = keras.layers.SpectralNormalization(getattr(keras.layers, inside)(**options))
    inputs = inputs_of(case)
    layer(torch.from_numpy(inputs[0]))
    randomized(layer)
    module = convert(layer_of(layer, [(None, *shape) for shape in case.shapes]))
    close(module(torch.from_numpy(inputs[0])), called(layer, inputs, training=False))
    assert "normalized as training left it" in module.notes[0]


@pytest.mark.parametrize(
    "activation", ["relu", "LeakyReLU", "PReLU", "Softmax", "ReLU", {"class_name": "function", "config": "gelu", "registered_name": "function"}]
)
def test_an_activation_inside_a_layer(activation: Any) -> None:
    given = getattr(keras.layers, activation)() if isinstance(activation, str) and activation != "relu" else activation
    if isinstance(given, dict):
        layer = keras.layers.Dense(4, activation="gelu")
    else:
        layer = keras.layers.Dense(4, activation=given)
    inputs = inputs_of(Case(((5,),)))
    called(layer, inputs)
    randomized(layer)
    found = layer_of(layer, [(None, 5)])
    if isinstance(given, dict):
        found = Layer(found.kind, found.name, {**found.config, "activation": given}, found.weights, found.input_shapes)
    close(convert(found)(torch.from_numpy(inputs[0])), called(layer, inputs))


def test_masked_means_and_merges() -> None:
    x, y = (torch.randn(2, 4, 3) for _ in range(2))
    first, second = torch.tensor([[1, 1, 0, 0], [1, 1, 1, 0]]).bool(), torch.tensor([[1, 0, 0, 1], [1, 1, 1, 1]]).bool()
    module = convert(Layer("GlobalAveragePooling1D", "a", {}, Weights(), ((None, 4, 3),)))
    close(module(x, mask=first), keras.layers.GlobalAveragePooling1D()(x, mask=first).numpy())
    for kind in ("Add", "Average", "Maximum", "Minimum", "Multiply", "Concatenate"):
        layer = getattr(keras.layers, kind)()
        a, b = x.clone(), y.clone()
        a._keras_mask, b._keras_mask = first, second
        theirs = layer([a, b])
        module = convert(Layer(kind, "a", layer.get_config(), Weights(), ((None, 4, 3), (None, 4, 3))))
        ours = module(x, y, mask=[first, second]) if kind in ("Maximum", "Minimum", "Multiply") else module(x, y)
        close(ours, theirs.numpy())
        wanted = layer.compute_mask([x, y], [first, second])
        assert torch.equal(module.output_mask(x, y, mask=[first, second]), wanted), kind
        alone = layer.compute_mask([x, y], [first, None])
        found = module.output_mask(x, y, mask=[first, None])
        assert (found is None and alone is None) or torch.equal(found, alone), kind


def test_masks_of_softmax_and_embedding() -> None:
    x, mask = torch.randn(3, 4), torch.tensor([[1, 1, 0, 0], [1, 1, 1, 1], [0, 0, 0, 0]]).bool()
    module = convert(Layer("Softmax", "a", {"axis": -1}, Weights(), ((None, 4),)))
    close(module(x, mask=mask), keras.layers.Softmax()(x, mask=mask).numpy())
    words = torch.tensor([[1, 0, 2]])
    table = Weights((np.ones((3, 2), np.float32),))
    for masks in (True, False):
        module = convert(Layer("Embedding", "a", {"input_dim": 3, "output_dim": 2, "mask_zero": masks}, table, ((None, 3),)))
        found = module.output_mask(words)
        assert torch.equal(found, words != 0) if masks else found is None
    steps = torch.tensor([[[1.0, 1.0], [0.0, 1.0], [0.0, 0.0]]])
    module = convert(Layer("Masking", "a", {"mask_value": 0.0}, Weights(), ((None, 3, 2),)))
    assert module.output_mask(steps).tolist() == [[True, True, False]]


def test_integer_lookup() -> None:
    """Against the examples of Keras's own documentation: Keras can run it on TensorFlow only."""
    config: dict[str, Any] = {"vocabulary": [12, 36, 1138, 42], "num_oov_indices": 1, "mask_token": None, "output_mode": "int"}
    words = torch.tensor([[12, 1138, 42], [42, 1000, 36]])
    assert looked_up(config, words).tolist() == [[1, 3, 4], [4, 0, 2]]
    assert looked_up({**config, "num_oov_indices": 2}, torch.tensor([[12, 1138, 42], [37, 1000, 36]])).tolist() == [[2, 4, 5], [1, 0, 3]]
    assert looked_up({**config, "mask_token": 0}, torch.tensor([[0, 12, 7]])).tolist() == [[0, 2, 1]]
    hot = looked_up({**config, "output_mode": "one_hot"}, torch.tensor([[12], [36], [1138], [42], [7]]))
    assert hot.tolist() == np.eye(5)[[1, 2, 3, 4, 0]].tolist()
    several = looked_up({**config, "output_mode": "multi_hot"}, torch.tensor([[12, 1138, 42, 42], [42, 7, 36, 7]]))
    assert several.tolist() == [[0, 1, 0, 1, 1], [1, 0, 1, 0, 1]]
    counted = looked_up({**config, "output_mode": "count"}, torch.tensor([[12, 1138, 42, 42], [42, 7, 36, 7]]))
    assert counted.tolist() == [[0, 1, 0, 1, 2], [2, 0, 1, 0, 1]]
    assert looked_up({**config, "vocabulary": [-1, 12, 36]}, torch.tensor([[12, 36, 5]])).tolist() == [[1, 2, 0]]


def looked_up(config: dict[str, Any], words: torch.Tensor) -> torch.Tensor:
    return convert(Layer("IntegerLookup", "a", config, Weights(), ((None, words.shape[1]),)))(words)


def test_pipeline() -> None:
    layers = [keras.layers.Resizing(8, 8), keras.layers.Rescaling(1 / 255), keras.layers.RandomFlip()]
    layer = keras.layers.Pipeline(layers)
    inputs = inputs_of(Case(((6, 5, 3),), positive=255.0))
    module = convert(layer_of(layer, [(None, 6, 5, 3)]))
    close(module(torch.from_numpy(inputs[0])), called(layer, inputs, training=False))


def test_weights_that_do_not_fit_are_refused() -> None:
    layer = keras.layers.Conv2D(4, 3)
    layer.build((None, 8, 8, 3))
    found = layer_of(layer, [(None, 8, 8, 3)])
    for weights, message in (
        (Weights(), "must have 2 variables"),
        (Weights((found.weights.own[0][..., :2], found.weights.own[1])), r"variable 0 of the layer 'conv2d\S*' \(Conv2D\) must have the shape"),
    ):
        with pytest.raises(ModelError, match=message):
            convert(Layer(found.kind, found.name, found.config, weights, found.input_shapes))
    assert len(weights_of(layer).own) == 2
