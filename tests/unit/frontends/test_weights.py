"""Weights from a file, loaded into the user's network before it is traced."""

import pickle
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from tersenet.errors import ModelError
from tersenet.frontends.table import load
from tersenet.frontends.torch import with_weights

torch.set_num_threads(1)
EXAMPLE = (torch.zeros(1, 3),)


def network(seed: int) -> nn.Sequential:
    torch.manual_seed(seed)
    return nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4))


@pytest.mark.parametrize("name", ["w.safetensors", "w.pt", "wrapped.pt"])
def test_weights_replace_the_networks_own(tmp_path, name):
    trained = network(1).eval()
    path = tmp_path / name
    if path.suffix == ".safetensors":
        save_file(trained.state_dict(), path)
    else:
        torch.save({"state_dict": trained.state_dict()} if name == "wrapped.pt" else trained.state_dict(), path)
    module = network(2)
    before = module[0].weight.clone()
    model = load(module, EXAMPLE, weights=path)
    x = np.random.default_rng(0).standard_normal((5, 3)).astype(np.float32)
    np.testing.assert_allclose(model(x), trained(torch.from_numpy(x)).detach().numpy(), atol=1e-6)
    assert torch.equal(module[0].weight, before), "the user's own module must stay as it is"


@pytest.mark.parametrize(
    "change, words",
    [
        (lambda state: state.pop("0.bias"), "1 missing .0.bias."),
        (lambda state: state.update(extra=torch.zeros(1)), "1 not in the network .extra."),
        (lambda state: state.update({"0.weight": torch.zeros(4, 5)}), r"0\.weight must have the shape \(4, 3\), got \(4, 5\)"),
    ],
)
def test_weights_must_fit(tmp_path, change, words):
    state = dict(network(1).state_dict())
    change(state)
    save_file(state, tmp_path / "w.safetensors")
    with pytest.raises(ModelError, match=rf"w\.safetensors.*{words}"):
        load(network(2), EXAMPLE, weights=tmp_path / "w.safetensors")


def test_counters_of_batch_norm_may_be_missing(tmp_path):
    state = {key: value for key, value in network(1).state_dict().items() if "num_batches" not in key}
    save_file(state, tmp_path / "w.safetensors")
    assert load(network(2), EXAMPLE, weights=tmp_path / "w.safetensors").outputs[0].shape == (None, 4)


class Tied(nn.Module):
    """One tensor under two names, a buffer that no file holds, and half the precision."""

    def __init__(self, seed: int) -> None:
        super().__init__()
        torch.manual_seed(seed)
        self.first, self.second = nn.Linear(3, 3), nn.Linear(3, 3)
        self.second.weight = self.first.weight
        self.first.bias.requires_grad_(False)
        self.register_buffer("shift", torch.randn(3), persistent=False)

    def forward(self, value):
        return self.second(self.first(value)) + self.shift


def test_what_is_shared_stays_shared_and_what_no_file_holds_stays(tmp_path):
    trained, module = Tied(1), Tied(2)
    torch.save({key: value.half() for key, value in trained.state_dict().items()}, tmp_path / "w.pt")
    before = {key: value.clone() for key, value in module.state_dict().items()}
    loaded = with_weights(module, str(tmp_path / "w.pt"))
    assert loaded.second.weight is loaded.first.weight
    assert not loaded.first.bias.requires_grad and loaded.second.bias.requires_grad
    assert torch.equal(loaded.first.weight, trained.first.weight.half().float())
    assert torch.equal(loaded.shift, module.shift) and loaded.shift is not module.shift
    assert all(torch.equal(value, before[key]) for key, value in module.state_dict().items())


def test_weights_that_a_module_computes_its_state_of(tmp_path):
    """As quantized and sharded modules do."""
    trained, module = network(1), network(2)
    for one in (trained, module):
        one.register_state_dict_post_hook(lambda _, state, *__: state.update({key: value.clone() for key, value in state.items()}))
    save_file(trained.state_dict(), tmp_path / "w.safetensors")
    loaded = with_weights(module, str(tmp_path / "w.safetensors"))
    assert torch.equal(loaded[0].weight, trained[0].weight) and not torch.equal(module[0].weight, trained[0].weight)


class Evil:
    def __reduce__(self):
        return (open, ("executed", "w"))


@pytest.mark.parametrize("name", ["missing.safetensors", "torn.safetensors", "torn.pt", "evil.pt", "list.pt"])
def test_files_that_are_no_weights(tmp_path, monkeypatch, name):
    monkeypatch.chdir(tmp_path)
    Path("torn.safetensors").write_bytes(b"\x00" * 40)
    Path("torn.pt").write_bytes(b"PK\x03\x04" * 9)
    Path("evil.pt").write_bytes(pickle.dumps(Evil()))
    torch.save([torch.zeros(1)], "list.pt")
    with pytest.raises(ModelError, match=name):
        load(network(2), EXAMPLE, weights=name)
    assert not Path("executed").exists()
