"""Exported programs: what torch saved comes back equal, and nothing in a hostile file runs, climbs or swells."""

import io
import json
import pickle
import tracemalloc
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from tersenet.errors import ModelError, TersenetError, UntrustedError
from tersenet.frontends.pt2_operators import OPERATORS
from tersenet.frontends.table import load
from tersenet.graph.signature import named_outputs
from tersenet.testing.frontend import check_frontend

torch.set_num_threads(1)
OPEN = torch.export.Dim.DYNAMIC


class Residual(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv, self.norm = nn.Conv2d(3, 8, 3, padding=1, bias=False), nn.BatchNorm2d(8)
        self.depthwise = nn.Conv2d(8, 8, 3, padding=1, groups=8)
        self.relu, self.head = nn.ReLU(inplace=True), nn.Linear(8, 5)

    def forward(self, x: torch.Tensor) -> dict:
        y = self.relu(self.norm(self.conv(x)))
        left, right = (y + self.depthwise(y)).chunk(2, 1)
        pooled = torch.cat([right, left * torch.tensor(0.5)], 1).mean((2, 3))
        return {"scores": self.head(pooled.view(x.shape[0], -1)), "features": [pooled]}


class Recurrent(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.cell, self.head = nn.LSTM(5, 6, 2, batch_first=True, bidirectional=True), nn.Linear(12, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(self.cell(x)[0][:, -1])


class Transformer(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Embedding(20, 8)
        self.layer = nn.TransformerEncoderLayer(8, 2, 16, batch_first=True)
        self.register_buffer("places", torch.randn(30, 8), persistent=False)

    def forward(self, tokens: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        x = self.embed(tokens) + self.places[: tokens.shape[1]]
        return self.layer(x, src_key_padding_mask=mask)


def tokens(batch: int, length: int) -> tuple[torch.Tensor, torch.Tensor]:
    ids = torch.randint(0, 20, (batch, length), generator=torch.Generator().manual_seed(0))
    return ids, torch.arange(length)[None].expand(batch, -1) >= length - 1


CASES = {
    "residual": (Residual, (torch.randn(2, 3, 8, 8),), ({0: OPEN},), (torch.randn(5, 3, 8, 8),)),
    "recurrent": (Recurrent, (torch.randn(2, 3, 5),), ({0: OPEN},), (torch.randn(5, 3, 5),)),
    "transformer": (Transformer, tokens(2, 9), ({0: OPEN, 1: OPEN},) * 2, tokens(3, 5)),
}


def exported(name: str) -> tuple[nn.Module, torch.export.ExportedProgram, tuple[torch.Tensor, ...]]:
    kind, example, shapes, inputs = CASES[name]
    torch.manual_seed(0)
    module = kind().eval()
    with torch.no_grad():
        for buffer in module.buffers():
            if buffer.is_floating_point():
                buffer.uniform_(0.5, 2.0)
    return module, torch.export.export(module, example, dynamic_shapes=shapes), inputs


@pytest.mark.parametrize(
    "name, decomposed",
    [(name, False) for name in CASES] + [("residual", True), ("transformer", True), pytest.param("recurrent", True, marks=pytest.mark.slow)],
)
def test_round_trip(tmp_path, name, decomposed):
    module, program, inputs = exported(name)
    torch.export.save(program.run_decompositions() if decomposed else program, tmp_path / "net.pt2")

    def reference(*arrays: np.ndarray) -> tuple[np.ndarray, ...]:
        with torch.no_grad():
            return tuple(part.numpy() for part in named_outputs(module(*map(torch.from_numpy, arrays))).values())

    def learning(*arrays: np.ndarray) -> tuple[np.ndarray, ...]:
        for part in module.train().modules():
            if isinstance(part, nn.Dropout):
                part.p = 0.0
            elif isinstance(part, nn.MultiheadAttention):
                part.dropout = 0.0
        return reference(*arrays)

    example = dict.fromkeys(("litert", "executorch"), "its files have the length of the example") if name == "transformer" else {}
    model = check_frontend(load, tmp_path / "net.pt2", reference, [[tensor.numpy() for tensor in inputs]], training=learning, excused=example)
    assert model.name == "net"
    assert set(dict(module.named_parameters())) <= set(model.graph.state_dict())


def test_names_survive(tmp_path):
    _, program, _ = exported("residual")
    torch.export.save(program, tmp_path / "net.pt2")
    model = load(tmp_path / "net.pt2")
    assert [spec.name for spec in model.inputs] == ["x"]
    assert [spec.name for spec in model.outputs] == ["scores", "features_0"]
    assert model.inputs[0].layout == "NCHW"


def test_a_fixed_batch_stays_fixed_and_says_why(tmp_path):
    torch.export.save(torch.export.export(Residual().eval(), (torch.randn(1, 3, 8, 8),)), tmp_path / "net.pt2")
    model = load(tmp_path / "net.pt2")
    assert model.inputs[0].shape == (1, 3, 8, 8)
    assert "dynamic_shapes" in model.fixed_batch


def test_tied_weights_stay_tied(tmp_path):
    class Tied(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.embed, self.out = nn.Embedding(9, 4), nn.Linear(4, 9, bias=False)
            self.out.weight = self.embed.weight

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.out(self.embed(x))

    torch.export.save(torch.export.export(Tied(), (torch.zeros(2, 3, dtype=torch.int64),)), tmp_path / "net.pt2")
    assert len({tensor.data_ptr() for tensor in load(tmp_path / "net.pt2").graph.state_dict().values()}) == 1


def test_weights_of_its_own_are_not_replaced(tmp_path):
    torch.export.save(exported("recurrent")[1], tmp_path / "net.pt2")
    with pytest.raises(ModelError, match="has weights of its own"):
        load(tmp_path / "net.pt2", weights="w.safetensors")


# Hostile and damaged files.


@pytest.fixture(scope="module")
def honest() -> dict[str, bytes]:
    """The entries of a file that torch wrote."""
    stream = io.BytesIO()
    torch.export.save(exported("residual")[1], stream)
    with zipfile.ZipFile(stream) as archive:
        return {info.filename: archive.read(info) for info in archive.infolist()}


def written(path: Path, entries: dict[str, bytes], compression: int = zipfile.ZIP_STORED) -> Path:
    with zipfile.ZipFile(path, "w", compression) as archive:
        for name, content in entries.items():
            archive.writestr(name, content)
    return path


def find(entries: dict[str, bytes], ending: str) -> str:
    return next(name for name in entries if name.endswith(ending))


def edited(entries: dict[str, bytes], ending: str, change: Callable[[dict], None]) -> dict[str, bytes]:
    """The entries with one JSON file changed."""
    name = find(entries, ending)
    record = json.loads(entries[name])
    change(record)
    return {**entries, name: json.dumps(record).encode()}


def test_the_honest_entries_load(tmp_path, honest):
    assert load(written(tmp_path / "net.pt2", honest)).outputs[0].name == "scores"


def first_node(target: str) -> Callable[[dict], None]:
    def change(record: dict) -> None:
        record["graph_module"]["graph"]["nodes"][0]["target"] = target

    return change


@pytest.mark.parametrize(
    "target",
    [
        "torch.ops.aten.from_file.default",
        "torch.ops.aten.save.default",
        "torch.os.system",
        "torch.load",
        "_operator.attrgetter",
        "_operator.methodcaller",
        "torch.ops.aten.__class__.__init__",
        "torch.ops.load_library",
        "math.__loader__.load_module",
        "#extension:evil",
        "torch.ops.higher_order.cond",
        "exec",
        "",
    ],
)
def test_functions_outside_of_the_table_are_not_looked_up(tmp_path, honest, target):
    path = written(tmp_path / "net.pt2", edited(honest, "models/model.json", first_node(target)))
    with pytest.raises(UntrustedError, match=r"net\.pt2.*beyond what is read safely.*--trust"):
        load(path)


def test_the_table_holds_no_operator_that_touches_the_disk():
    assert not OPERATORS & {"from_file", "save", "load", "_print", "set_data", "fill_diagonal_file"}
    for name in OPERATORS:
        packet = getattr(torch.ops.aten, name, None)
        for overload in packet.overloads() if packet is not None else ():
            arguments = getattr(packet, overload)._schema.arguments
            assert not any("filename" in argument.name or "Storage" in str(argument.type) for argument in arguments), name


def test_expressions_are_not_evaluated(tmp_path, honest, monkeypatch):
    monkeypatch.chdir(tmp_path)
    evil = "__import__('pathlib').Path('executed').write_text('x')"

    def change(record: dict) -> None:
        for meta in record["graph_module"]["graph"]["tensor_values"].values():
            for size in meta["sizes"]:
                if "as_expr" in size:
                    size["as_expr"]["expr_str"] = evil
        record["range_constraints"] = {evil: {"min_val": 0, "max_val": 9}}
        record["guards_code"] = [evil]

    model = load(written(tmp_path / "net.pt2", edited(honest, "models/model.json", change)))
    assert model.inputs[0].shape[0] is None
    assert not Path("executed").exists()


def test_pickles_inside_are_not_opened(tmp_path, honest, monkeypatch):
    monkeypatch.chdir(tmp_path)

    class Evil:
        def __reduce__(self):
            return (open, ("executed", "w"))

    entries = {name: pickle.dumps(Evil()) if name.endswith(".pt") else content for name, content in honest.items()}
    assert load(written(tmp_path / "net.pt2", entries)).name == "net"

    def change(record: dict) -> None:
        next(iter(record["config"].values()))["use_pickle"] = True

    path = written(tmp_path / "pickled.pt2", edited(entries, "model_weights_config.json", change))
    with pytest.raises(UntrustedError, match="pickled tensor"):
        load(path)
    assert not Path("executed").exists()


def test_a_pickle_of_that_name_is_named(tmp_path):
    torch.save({"weight": torch.zeros(2)}, tmp_path / "net.pt2")
    with pytest.raises(ModelError, match=r"net\.pt2: it is a pickle.*torch\.export\.save"):
        load(tmp_path / "net.pt2")


def test_older_files_with_pickled_weights_are_refused(tmp_path):
    path = written(tmp_path / "old.pt2", {"archive/serialized_exported_program.json": b"{}", "archive/serialized_state_dict.pt": b"x"})
    with pytest.raises(UntrustedError, match=r"old\.pt2.*before 2\.8.*--trust"):
        load(path)


def weight(**changes: object) -> Callable[[dict], None]:
    """A change of the first weight's record; ``tensor_meta`` parts by their own name."""

    def change(record: dict) -> None:
        entry = next(iter(record["config"].values()))
        for key, value in changes.items():
            (entry if key in entry else entry["tensor_meta"])[key] = value

    return change


def input_sizes(*sizes: object) -> Callable[[dict], None]:
    def change(record: dict) -> None:
        record["graph_module"]["graph"]["tensor_values"]["x"]["sizes"] = list(sizes)

    return change


@pytest.mark.parametrize(
    "ending, change, words",
    [
        ("model_weights_config.json", weight(path_name="../../etc/passwd"), "entry is called"),
        ("model_weights_config.json", weight(path_name="weight_99"), "no entry"),
        ("model_weights_config.json", weight(sizes=[{"as_int": 1 << 40}], strides=[{"as_int": 1}]), "bytes"),
        ("model_weights_config.json", weight(sizes=[{"as_int": 1 << 40}], strides=[{"as_int": 0}]), "bytes"),
        ("model_weights_config.json", weight(storage_offset={"as_int": -5}), "sizes"),
        ("model_weights_config.json", weight(sizes=[{"as_int": "8"}]), "integer"),
        ("model_weights_config.json", weight(dtype=99), "dense"),
        ("model_weights_config.json", lambda record: record["config"].clear(), "damaged"),
        ("models/model.json", input_sizes({"as_int": 1 << 40}, {"as_int": 1 << 20}), "at most"),
        ("models/model.json", input_sizes({"as_expr": {"expr_str": "s0", "hint": {"as_int": -2}}}), "must be integers"),
        ("models/model.json", input_sizes({"as_expr": {"expr_str": "s0", "hint": None}}), "damaged"),
        ("models/model.json", lambda record: record.pop("graph_module"), "damaged"),
        ("models/model.json", lambda record: record["graph_module"]["graph"]["nodes"].pop(0), "damaged"),
        ("models/model.json", lambda record: record["graph_module"]["graph"]["nodes"].reverse(), "damaged"),
        ("models/model.json", first_node("torch.ops.aten.add.NoSuchOverload"), "no operator"),
    ],
)
def test_damaged_records(tmp_path, honest, ending, change, words):
    path = written(tmp_path / "net.pt2", edited(honest, ending, change))
    with pytest.raises(ModelError, match=words) as caught:
        load(path)
    assert "net.pt2" in str(caught.value)


def test_arguments_that_do_not_fit_are_an_error_of_the_network(tmp_path, honest):
    def change(record: dict) -> None:
        conv = next(node for node in record["graph_module"]["graph"]["nodes"] if "conv2d" in node["target"])
        conv["inputs"] = conv["inputs"][:1]

    with pytest.raises(ModelError, match=r"net\.pt2"):
        load(written(tmp_path / "net.pt2", edited(honest, "models/model.json", change)))


def test_names_that_climb_are_refused(tmp_path, honest):
    for name in ("net/../../evil", "/etc/evil", "net\\evil"):
        with pytest.raises(ModelError, match="outside of the archive"):
            load(written(tmp_path / "net.pt2", {**honest, name: b"x"}))


def test_archives_that_swell_are_refused(tmp_path, honest):
    bomb = {**honest, "archive/data/weights/weight_0": bytes(50_000_000)}
    path = written(tmp_path / "net.pt2", bomb, zipfile.ZIP_DEFLATED)
    assert path.stat().st_size < 1_000_000
    with pytest.raises(ModelError, match="compressed"):
        load(path)


def test_archives_whose_entries_overlap_are_refused(tmp_path, honest):
    path = written(tmp_path / "net.pt2", honest)
    with zipfile.ZipFile(path, "a") as archive:
        for info in list(archive.infolist()):
            archive.filelist.append(info)  # the same bytes once more in the directory
        archive._didModify = True
    with pytest.raises(ModelError, match="more than the file has"):
        load(path)


@pytest.mark.parametrize("kept", [0, 10, 0.3, 0.9, 0.999])
def test_files_cut_short(tmp_path, honest, kept):
    path = written(tmp_path / "net.pt2", honest)
    content = path.read_bytes()
    path.write_bytes(content[: kept if isinstance(kept, int) else int(kept * len(content))])
    with pytest.raises(ModelError, match=r"net\.pt2"):
        load(path)


def test_flipped_bytes_never_raise_anything_else(tmp_path, honest):
    """What comes out of a damaged file is a model or one of our errors."""
    path = written(tmp_path / "net.pt2", honest)
    content = bytearray(path.read_bytes())
    start = content.index(b'{"graph_module"')
    random = np.random.default_rng(0)
    for place in random.integers(start, start + len(honest[find(honest, "models/model.json")]), 8):
        torn = bytearray(content)
        torn[place] = random.integers(32, 127)
        path.write_bytes(torn)
        try:
            load(path)
        except TersenetError as error:
            assert "net.pt2" in str(error)


@pytest.mark.slow
def test_torn_records_with_good_checksums_never_raise_anything_else(tmp_path, honest):
    name = find(honest, "models/model.json")
    random = np.random.default_rng(0)
    for place in random.integers(0, len(honest[name]), 40):
        torn = bytearray(honest[name])
        torn[place : place + 1] = bytes(random.choice(list(b'0987,:"{}[]antrue'), 1).tolist())
        path = written(tmp_path / "net.pt2", {**honest, name: bytes(torn)})
        try:
            load(path)
        except TersenetError as error:
            assert "net.pt2" in str(error)


class Region(nn.Module):
    """Exported without gradients, its region with gradients is a graph within the graph, which is not read safely."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        with torch.enable_grad():
            y = x * 2
        return y + 1


def test_a_trusted_file_is_read_by_torch(tmp_path):
    with torch.no_grad():
        torch.export.save(torch.export.export(Region(), (torch.zeros(2, 3),), dynamic_shapes=({0: OPEN},)), tmp_path / "net.pt2")
    with pytest.raises(UntrustedError, match="higher_order"):
        load(tmp_path / "net.pt2")
    model = load(tmp_path / "net.pt2", trust=True)
    assert model.inputs[0].shape == (None, 3)
    np.testing.assert_array_equal(model(np.ones((5, 3), np.float32)), np.full((5, 3), 3, np.float32))


def test_trust_does_not_mend_a_damaged_file(tmp_path, honest):
    path = written(tmp_path / "net.pt2", edited(honest, "models/model.json", first_node("torch.ops.nothing.here.default")))
    with pytest.raises(ModelError, match=r"net\.pt2.*torch\.export\.load"):
        load(path, trust=True)


def test_a_weight_is_read_into_the_memory_that_it_stays_in(tmp_path):
    network = nn.Linear(1000, 1000)
    path = tmp_path / "a.pt2"
    torch.export.save(torch.export.export(network, (torch.rand(2, 1000),), dynamic_shapes=({0: OPEN},)), path)
    load(path)
    tracemalloc.start()  # counts what Python holds: the bytes of the archive, not torch's tensors
    load(path)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 1.9 * path.stat().st_size
