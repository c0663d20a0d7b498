"""Lowering an exported graph to a program, by executorch's own passes and no more of them than have something to do.

executorch decomposes a graph three times and retraces it once for each of the delegate's seventeen passes, whether it
finds anything or not; for a ResNet-32 that is most of the time. Here a graph is decomposed once where nothing is left to
decompose, and a pass runs only where one of the operators that it looks for is present. The program is the same.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import fx

from tersenet.errors import UnsupportedError
from tersenet.targets.executorch.silence import native_quiet, quiet
from tersenet.targets.executorch.spell import is_dequantize, is_quantize

# Pass -> the operators (overload packets of the edge dialect) without any of which it changes nothing. Others always run.
LOOKS_FOR: dict[str, tuple[str, ...]] = {
    "XNNPACKRemoveCloneOpsTransform": ("clone", "_clone_dim_order"),
    "DimOrderOpsRevertPass": ("_clone_dim_order", "_to_dim_order_copy", "_empty_dim_order"),
    "ConvertToUpsampleBilinear2d": ("index", "_unsafe_index"),
    "ConvertToLinearPass": ("addmm", "mm"),
    "PropagateCustomMetaPass": (),
    "ConvertToSDPAPass": ("_softmax",),
    "ConstPropPass": ("full", "full_like", "arange", "scalar_tensor"),
    "FuseBatchNormPass": ("native_batch_norm", "_native_batch_norm_legit_no_training"),
    "DecomposeBatchNorm": ("native_batch_norm", "_native_batch_norm_legit_no_training"),
    "FuseActivationPass": ("relu", "hardtanh"),
    "DecomposeConcatenate": ("cat",),
    "RemoveGetItemPass": ("max_pool2d_with_indices", "max"),
    "InsertPadQDQPass": (),  # ours are quantized on both sides (`spell.pads_of_integers`)
    "Conv1dUnsqueezePass": ("convolution",),
    "PReLUReshapePass": ("prelu", "_prelu_kernel"),
    "RemoveRedundantCopyPass": ("_to_copy",),
}


def compile_program(module: fx.GraphModule, examples: tuple[torch.Tensor, ...]) -> Any:
    """An ``ExecutorchProgramManager`` for a graph of fixed shapes, all that XNNPACK takes given to it.

    Raises:
        UnsupportedError: an operator has no kernel in the runtime.
    """
    with quiet(), torch.no_grad(), _without_provenance():
        from executorch.exir import EdgeCompileConfig, to_edge_transform_and_lower

        program = torch.export.export(module, examples)
        try:
            with _needed_passes(), _operators_listed_once():
                edge = to_edge_transform_and_lower(program, partitioner=[_partitioner()], compile_config=EdgeCompileConfig(_check_ir_validity=False))
            made = edge.to_executorch()
        except RuntimeError as error:
            if "out variants" not in str(error):
                raise UnsupportedError(f"ExecuTorch could not lower this network: {str(error).strip().splitlines()[0]}") from error
            raise UnsupportedError(f"{_lacking(re.findall(r'[a-z_]+::[a-zA-Z0-9_.]+', str(error)))}") from error
    _check_kernels(made)
    return made


def _partitioner() -> Any:
    from executorch.backends.xnnpack.partition.config import ALL_PARTITIONER_CONFIGS
    from executorch.backends.xnnpack.partition.config.generic_node_configs import ConstantPadConfig
    from executorch.backends.xnnpack.partition.config.xnnpack_config import ConfigPrecisionType
    from executorch.backends.xnnpack.partition.xnnpack_partitioner import XnnpackPartitioner

    class PadConfig(ConstantPadConfig):
        """XNNPACK pads integers as well as floats, which executorch does not tell it; both sides must have the same numbers."""

        def supported_precision_types(self) -> list[Any]:
            return [ConfigPrecisionType.FP32, ConfigPrecisionType.STATIC_QUANT]

        def get_node_and_deps(self, node: Any, ep: Any) -> list[Any]:
            source, readers = node.args[0], list(node.users)
            same = is_dequantize(source) and len(readers) == 1 and is_quantize(readers[0]) and source.args[1:] == readers[0].args[1:]
            return super().get_node_and_deps(node, ep) if same else [node]

    class Partitioner(XnnpackPartitioner):
        """XNNPACK's own, which names the operators to keep whole for this very graph, so that it is not decomposed twice over."""

        def ops_to_not_decompose(self, ep: Any) -> tuple[list[Any], Any]:
            wanted, takes = super().ops_to_not_decompose(ep)
            present = [node for node in ep.graph.nodes if node.op == "call_function" and node.target in wanted]
            taken = {node: takes(node) for node in present}
            kept = [target for target in wanted if all(taken[node] for node in present if node.target == target)]
            mixed = any(taken[node] and node.target not in kept for node in present)
            return (wanted, takes) if mixed else (kept, None)

    return Partitioner([PadConfig if each is ConstantPadConfig else each for each in ALL_PARTITIONER_CONFIGS])


@contextmanager
def _needed_passes() -> Iterator[None]:
    """Within the block the delegate runs the passes that find something to do."""
    from executorch.backends.xnnpack import xnnpack_preprocess

    whole = xnnpack_preprocess.XNNPACKPassManager

    class Needed(whole):  # type: ignore[misc, valid-type]
        passes: list[Any]

        def __init__(self, exported_program: Any, passes: Any = None) -> None:
            super().__init__(exported_program, passes)
            present = _packets(exported_program.graph)
            self.passes = [each for each in self.passes if _finds_something(each.__name__, present)]

    xnnpack_preprocess.XNNPACKPassManager = Needed
    try:
        yield
    finally:
        xnnpack_preprocess.XNNPACKPassManager = whole


@contextmanager
def _operators_listed_once() -> Iterator[None]:
    """torch lists its dispatcher's composite operators anew for each of some forty namespaces, at every decomposition: a third of a small export."""
    from torch._export import utils

    whole = utils._materialize_cpp_cia_ops
    whole()
    utils._materialize_cpp_cia_ops = lambda: None
    try:
        yield
    finally:
        utils._materialize_cpp_cia_ops = whole


def _packets(graph: fx.Graph) -> set[str]:
    """``convolution`` for every call of ``aten.convolution.default``."""
    names = [getattr(node.target, "__name__", "").split(".") for node in graph.nodes if node.op == "call_function"]
    return {parts[-2] if len(parts) > 1 else parts[0] for parts in names}


def _finds_something(name: str, present: set[str]) -> bool:
    return name not in LOOKS_FOR or not present.isdisjoint(LOOKS_FOR[name])


@contextmanager
def _without_provenance() -> Iterator[None]:
    """Nodes do not carry the history of all the graphs that they were copied through, which every pass would copy again."""
    from torch.fx import traceback

    class Source(traceback.NodeSource):
        def __init__(self, node: Any, pass_name: str = "", action: Any = None) -> None:
            super().__init__(None, pass_name, action)

    whole = traceback.NodeSource
    traceback.NodeSource = Source  # type: ignore[misc]
    try:
        yield
    finally:
        traceback.NodeSource = whole  # type: ignore[misc]


def _check_kernels(made: Any) -> None:
    """Every operator that the delegate left must have a kernel in the runtime."""
    with quiet(), native_quiet():
        from executorch.runtime import Runtime

        present = Runtime.get().operator_registry.operator_names
    wanted = [f"{operator.name}.{operator.overload}".rstrip(".") for operator in made.executorch_program.execution_plan[0].operators]
    absent = sorted(set(wanted) - set(present))
    if absent:
        raise UnsupportedError(_lacking(absent))


def _lacking(names: list[str]) -> str:
    listed = ", ".join(sorted({name.split("::")[-1].split(".")[0] for name in names}))
    return f"ExecuTorch's runtime has no kernel for {listed}; replace this operator in the network, or write the file for another runtime."
