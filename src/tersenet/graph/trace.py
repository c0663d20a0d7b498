"""From a torch module to a `Model`: one exported ATen graph, with an open batch where the network allows one."""

from __future__ import annotations

import contextlib
import io
import logging
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence, Set
from dataclasses import replace
from typing import Any

import torch
from torch.export.graph_signature import InputKind, OutputKind

from tersenet.errors import ModelError
from tersenet.graph.explain import first_line, place_of, reason_for
from tersenet.graph.layout import image_layout
from tersenet.graph.recurrent import shapes_only
from tersenet.graph.signature import Call, bind, named_outputs
from tersenet.graph.tidy import Lifted, assemble, attribute_name
from tersenet.graph.writes import AliasedWrite
from tersenet.model import Model
from tersenet.tensors import TensorSpec

_PART = 1 << 20  # elements that are looked at together
OPEN = torch.export.Dim.DYNAMIC


def trace(
    module: torch.nn.Module,
    example_inputs: Any,
    *,
    name: str = "model",
    dynamic: Mapping[str, Mapping[int, str]] | None = None,
    handed_over: bool = False,
) -> Model:
    """Export a module in evaluation mode; it and its parameters stay as they are, and the model has copies.

    Args:
        module: float32, on the CPU.
        example_inputs: a tuple of what forward takes, or a dict by parameter name. Tensors or arrays, nested as forward likes them;
            axis 0 is the batch.
        name: what reports call the network.
        dynamic: input name -> axis -> what that axis counts, for further axes that must take any size (the length of sequences).
        handed_over: nobody else has the module; its tensors become the model's.

    Returns:
        The model. Where the batch cannot be left open it has that of the example, and `fixed_batch` says why.

    Raises:
        ModelError: what cannot be traced, with the line of the user's code, the reason and what to change; or parameters that
            are not finite, not float32 or not on the CPU.
    """
    _check_parameters(module)
    call = bind(module, example_inputs)
    axes = _open_axes(call, dynamic or {})
    with _quiet(module):
        try:
            return _traced(module, _with_batch_of_two(call), axes, name, "", handed_over)
        except ModelError:
            raise
        except Exception as error:  # noqa: BLE001 - torch.export raises whatever its parts and the user's code raise
            why = f"{place_of(error)}{reason_for(error)[0]}"
        try:
            return _traced(module, call, [each - {0} for each in axes], name, why, handed_over)
        except ModelError:
            raise
        except Exception as error:
            raise _explained(module, call, error) from error


def trace_open(
    module: torch.nn.Module, tensors: Mapping[str, torch.Tensor], axes: Sequence[Set[int]], *, name: str, fixed_batch: str, source: Mapping[str, Any]
) -> Model:
    """Export a module whose open axes are known already: a graph that was exported elsewhere, whose other sizes are written in it as numbers.

    Args:
        module: takes the tensors in order.
        tensors: example inputs by name.
        axes: of each input, those that may be of any size.
        fixed_batch: why the batch is fixed, "" where it is open.
        source: goes into the model's provenance.

    Raises:
        ModelError: as `trace`.
    """
    _check_parameters(module)
    call = Call(tuple(tensors.values()), tuple(tensors), lambda flat: (tuple(flat), {}))
    with _quiet(module):
        try:
            return replace(_traced(module, call, axes, name, fixed_batch), provenance=dict(source))
        except ModelError:
            raise
        except Exception as error:  # torch.export raises whatever its parts do
            raise _untraceable(module, error) from error


def _traced(module: torch.nn.Module, call: Call, axes: Sequence[Set[int]], name: str, fixed_batch: str, handed_over: bool = False) -> Model:
    names: list[str] = []
    flat = _Flat(module, call, lambda given: names.__setitem__(slice(None), given))
    with shapes_only():
        program = torch.export.export(flat, call.tensors, dynamic_shapes=(tuple(dict.fromkeys(each, OPEN) for each in axes),), strict=False)
    try:
        graph = _assembled(program, call.names, handed_over)
    except AliasedWrite:  # torch's own decomposition unravels writes into views, at the price of batch norm's usual form
        graph = _assembled(program.run_decompositions({}), call.names, handed_over)
    inputs = [node for node in graph.graph.nodes if node.op == "placeholder"]
    results = next(node for node in graph.graph.nodes if node.op == "output").args[0]
    return Model(
        graph=graph,
        inputs=tuple(_spec(given, node, image_layout(node)) for given, node in zip(call.names, inputs, strict=True)),
        outputs=tuple(_spec(given, node, "") for given, node in zip(names, results, strict=True)),
        name=name,
        fixed_batch=fixed_batch,
        provenance={"class": type(module).__name__, "torch": torch.__version__},
    )


class _Flat(torch.nn.Module):
    """The user's module as a function of a flat list of tensors that returns a flat tuple of tensors."""

    def __init__(self, module: torch.nn.Module, call: Call, name_outputs: Callable[[Iterable[str]], None]) -> None:
        super().__init__()
        self.inner = module
        self.call = call
        self.name_outputs = name_outputs  # torch.export puts a module's attributes back, so names must leave by another way

    def forward(self, *tensors: torch.Tensor) -> tuple[torch.Tensor, ...]:
        args, kwargs = self.call.arguments(tensors)
        before = dict(self.inner.named_buffers())
        outputs = named_outputs(self.inner(*args, **kwargs))
        for name, buffer in self.inner.named_buffers():
            if before.get(name) is not buffer:  # torch.export would drop the assignment without a word
                raise _writes_state(name)
        self.name_outputs(outputs)
        return tuple(outputs.values())


def _assembled(program: torch.export.ExportedProgram, names: Sequence[str], handed_over: bool) -> torch.fx.GraphModule:
    """The program's graph with its parameters in it, under the names that they have in the user's module."""
    lifted, inputs, waiting = {}, {}, list(names)
    for entry in program.graph_signature.input_specs:
        if entry.kind is InputKind.USER_INPUT:
            inputs[entry.arg.name] = waiting.pop(0)
        elif entry.kind in (InputKind.PARAMETER, InputKind.BUFFER, InputKind.CONSTANT_TENSOR):
            held = program.state_dict if entry.target in program.state_dict else program.constants
            lifted[entry.arg.name] = Lifted(attribute_name(entry.target.removeprefix("inner.")), held[entry.target])
    written = [entry.target.removeprefix("inner.") for entry in program.graph_signature.output_specs if entry.kind is OutputKind.BUFFER_MUTATION]
    if written:
        raise _writes_state(written[0])
    by_name = {node.name: node for node in program.graph.nodes}
    outputs = [by_name[entry.arg.name] for entry in program.graph_signature.output_specs if entry.kind is OutputKind.USER_OUTPUT]
    return assemble(program.graph, lifted, inputs, outputs, handed_over)


def _writes_state(name: str) -> ModelError:
    return ModelError(f"the network writes to its own {name} when it runs; take the state as an input and return its new value.")


def _spec(name: str, node: torch.fx.Node, layout: str) -> TensorSpec:
    value = node.meta["val"]
    shape = tuple(size if isinstance(size, int) else None for size in value.shape)
    return TensorSpec(name, shape, str(value.dtype).removeprefix("torch."), layout)


def _check_parameters(module: torch.nn.Module) -> None:
    for name, tensor in module.named_parameters():
        _check_form(name, tensor)
        if not _finite(tensor):
            kind = "NaN" if torch.isnan(tensor).any() else "infinite"
            raise ModelError(f"all weights must be finite; {name} holds {kind} values. Load weights from before training diverged.")
    for name, buffer in module.named_buffers():  # infinite buffers are usual: masks of attention
        _check_form(name, buffer)
        if buffer.is_floating_point() and torch.isnan(buffer).any():
            raise ModelError(f"all weights must be finite; the buffer {name} holds NaN values. Load weights from before training diverged.")


def _finite(tensor: torch.Tensor) -> bool:
    """Part by part: what is computed on the way would take twice the memory of the tensor."""
    return all(bool(torch.isfinite(part).all()) for part in tensor.detach().reshape(-1).split(_PART))


def _check_form(name: str, tensor: torch.Tensor) -> None:
    if isinstance(tensor, torch.nn.UninitializedParameter | torch.nn.UninitializedBuffer):
        raise ModelError(f"{name} has no shape yet (a lazy module); run the module once on an example before loading it.")
    if (tensor.is_floating_point() and tensor.dtype is not torch.float32) or tensor.is_complex():
        raise ModelError(f"weights must be float32; {name} is {str(tensor.dtype).removeprefix('torch.')}. Call module.float() first.")
    if tensor.device.type != "cpu":
        raise ModelError(f"weights must be on the CPU; {name} is on {tensor.device}. Call module.cpu() first.")


def _open_axes(call: Call, dynamic: Mapping[str, Mapping[int, str]]) -> list[Set[int]]:
    """The axes of each input that take any size: the batch, and what the user asks for."""
    unknown = set(dynamic) - set(call.names)
    if unknown:
        raise ModelError(f"there is no input {sorted(unknown)[0]!r} to leave open; the inputs are {', '.join(call.names)}.")
    batch = _batch(call)
    axes: list[Set[int]] = []
    for name, tensor in zip(call.names, call.tensors, strict=True):
        asked = dynamic.get(name, {})
        for axis, what in asked.items():
            if not 0 <= axis < tensor.dim() or tensor.shape[axis] < 2:
                raise ModelError(
                    f"axis {axis} ({what}) of input {name!r} must have a size of 2 or more in the example to be left open; "
                    f"the example's shape is {tuple(tensor.shape)}."
                )
        axes.append(set(asked) | ({0} if _has_batch(tensor, batch) else set()))
    return axes


def _batch(call: Call) -> int:
    return next((tensor.shape[0] for tensor in call.tensors if tensor.dim()), 1)


def _has_batch(tensor: torch.Tensor, batch: int) -> bool:
    return tensor.dim() > 0 and tensor.shape[0] == batch


def _with_batch_of_two(call: Call) -> Call:
    """The example with a batch of two where it had one: tracing takes a size of 1 for a constant."""
    if _batch(call) != 1:
        return call
    tensors = tuple(torch.cat([tensor, tensor]) if _has_batch(tensor, 1) else tensor for tensor in call.tensors)
    return Call(tensors, call.names, call.arguments)


def _explained(module: torch.nn.Module, call: Call, error: Exception) -> ModelError:
    """The error for what could not be traced; a network that does not even run says so."""
    args, kwargs = call.arguments(call.tensors)
    try:
        module(*args, **kwargs)
    except Exception as own:  # noqa: BLE001 - whatever the user's code raises
        return ModelError(f"{place_of(own, module)}the network fails on its own example inputs: {first_line(own)}")
    return _untraceable(module, error)


def _untraceable(module: torch.nn.Module, error: Exception) -> ModelError:
    reason, change = reason_for(error)
    return ModelError(f"{place_of(error, module)}the network cannot be traced: {reason}" + (f"; {change}." if change else "."))


@contextlib.contextmanager
def _quiet(module: torch.nn.Module) -> Iterator[None]:
    """Evaluation mode, no gradients, no fused attention kernels that export would record, and nothing printed by torch; all put back after."""
    modes = [(part, part.training) for part in module.modules()]
    loggers = [logger for key, logger in logging.root.manager.loggerDict.items() if key.startswith("torch") and isinstance(logger, logging.Logger)]
    silenced = [(logger, logger.disabled) for logger in loggers]
    fast = torch.backends.mha.get_fastpath_enabled()
    try:
        for part, _ in modes:
            part.training = False
        for logger in loggers:
            logger.disabled = True
        torch.backends.mha.set_fastpath_enabled(False)
        sink = io.StringIO()  # torch prints the part of the graph that it has when it fails
        with torch.no_grad(), warnings.catch_warnings(), contextlib.redirect_stdout(sink), contextlib.redirect_stderr(sink):
            warnings.simplefilter("ignore")
            yield
    finally:
        torch.backends.mha.set_fastpath_enabled(fast)
        for logger, was in silenced:
            logger.disabled = was
        for part, training in modes:
            part.training = training
