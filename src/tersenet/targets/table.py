"""The targets: the literal table of the runtimes that files are written for, and how to find one's way in it.

A new runtime is one row here and a folder beside this file. Nothing here imports a runtime or torch before it is needed.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from importlib import import_module
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from tersenet.capabilities import Capabilities
from tersenet.errors import MissingDependencyError, ModelError, RecipeError, check_known, shortened
from tersenet.target import Exporter, Runner, Target

TARGETS: Mapping[str, Target] = {
    "onnxruntime": Target(
        name="onnxruntime",
        extension=".onnx",
        exporter="tersenet.targets.onnxruntime.export:OnnxExporter",
        runner="tersenet.targets.onnxruntime.run:OnnxRunner",
        requires=("onnxruntime",),
        writes=("onnx",),
        extra="onnxruntime",
        float_twin="onnxruntime",
        times=True,
        about="ONNX Runtime on servers and desktops: .onnx files, standard QDQ, an open batch",
        runtime="onnxruntime>=1.18",
        format_options=("qoperator", "four_bit_weights"),
        capabilities="tersenet.targets.onnxruntime.capabilities:capabilities",
        example=('import numpy as np, onnxruntime\n{inputs}session = onnxruntime.InferenceSession("{file}")\noutputs = session.run(None, inputs)\n'),
    ),
    "litert": Target(
        name="litert",
        extension=".tflite",
        exporter="tersenet.targets.litert.export:LiteRTExporter",
        runner="tersenet.targets.litert.run:LiteRTRunner",
        requires=("ai_edge_litert", "flatbuffers"),
        extra="litert",
        float_twin="litert",
        times=True,
        about="LiteRT (TensorFlow Lite) on phones and small boards: .tflite files, XNNPACK kernels",
        runtime="ai-edge-litert>=2.1",
        format_options=("sparse", "four_bit_weights"),
        capabilities="tersenet.targets.litert.capabilities:capabilities",
        example=(
            "import numpy as np\n"
            "from ai_edge_litert.interpreter import Interpreter\n"
            "{inputs}"
            'interpreter = Interpreter("{file}")\n'
            "interpreter.allocate_tensors()\n"
            "for detail in interpreter.get_input_details():\n"
            '    interpreter.set_tensor(detail["index"], inputs[detail["name"]])\n'
            "{reset}interpreter.invoke()\n"
            'outputs = [interpreter.get_tensor(detail["index"]) for detail in interpreter.get_output_details()]\n'
        ),
        reset="interpreter.reset_all_variables()  # else recurrent layers go on from the run before\n",
    ),
    "litert-micro": Target(
        name="litert-micro",
        extension=".tflite",
        exporter="tersenet.targets.litert.micro:MicroExporter",
        runner="tersenet.targets.litert.micro_run:MicroRunner",
        requires=("tflite_micro", "ai_edge_litert", "flatbuffers"),
        extra="litert-micro",
        float_twin="litert",
        times=False,
        about="the interpreter for microcontrollers: .tflite files of integers alone, with C source beside them",
        runtime="tflite-micro>=0.dev20261023182759",
        format_options=("four_bit_weights",),
        capabilities="tersenet.targets.litert.capabilities:micro_capabilities",
        example=(
            "import numpy as np\n"
            "from tflite_micro.python.tflite_micro import runtime\n"
            "{inputs}"
            'interpreter = runtime.Interpreter.from_file("{file}")\n'
            "for index, array in enumerate(inputs.values()):\n"
            "    interpreter.set_input(array, index)\n"
            "interpreter.invoke()\n"
            "outputs = [interpreter.get_output(index) for index in range({outputs})]\n"
        ),
    ),
    "executorch": Target(
        name="executorch",
        extension=".pte",
        exporter="tersenet.targets.executorch.export:ExecuTorchExporter",
        runner="tersenet.targets.executorch.run:ExecuTorchRunner",
        requires=("executorch", "torchao"),
        extra="executorch",
        float_twin="executorch",
        times=True,
        about="ExecuTorch on phones: .pte files, XNNPACK delegate",
        runtime="executorch>=1.5,<1.6",
        capabilities="tersenet.targets.executorch.capabilities:capabilities",
        fragile=True,
        example=(
            "import numpy as np, torch\n"
            "from executorch.runtime import Runtime\n"
            "{inputs}"
            'method = Runtime.get().load_program("{file}").load_method("forward")\n'
            "outputs = method.execute([torch.from_numpy(array) for array in inputs.values()])\n"
        ),
    ),
}
# The distribution whose version counts, where its name is not the module's.
DISTRIBUTIONS = {"ai_edge_litert": "ai-edge-litert", "tflite_micro": "tflite-micro"}


def find(name: str) -> Target:
    """The target of a name.

    Raises:
        RecipeError: there is none; close names are named.
    """
    check_known("target", name, TARGETS, RecipeError)
    return TARGETS[name]


def found(names: Any) -> list[Target]:
    """The targets of a name or a list of names, each once, in their order.

    Raises:
        RecipeError: it is neither, or there is no such target; close names are named.
    """
    given = [names] if isinstance(names, str) else names
    if not isinstance(given, Sequence) or not all(isinstance(name, str) for name in given):
        raise RecipeError(f"the runtimes must be the name of one, or a list of names, got {shortened(names)}; known: {', '.join(sorted(TARGETS))}.")
    return [find(name) for name in dict.fromkeys(given)]


def install_line(target: Target) -> str:
    """The command that installs a target's packages."""
    return f"pip install 'tersenet[{target.extra}]'"


def missing(modules: Iterable[str]) -> tuple[str, ...]:
    """Those of some modules that are not installed."""
    return tuple(name for name in modules if find_spec(name) is None)


def exporter(target: Target) -> Exporter:
    """What writes a target's files.

    Raises:
        MissingDependencyError: a package is not installed; the line that installs it is named.
    """
    made: Exporter = _load(target, target.exporter, (*target.requires, *target.writes))
    return made


def runner(target: Target) -> Runner:
    """What runs a target's files; needs only what running does. Raises as `exporter` does."""
    made: Runner = _load(target, target.runner, target.requires)
    return made


def _load(target: Target, place: str, needs: Iterable[str]) -> Any:
    absent = missing(needs)
    if absent:
        raise MissingDependencyError(f"target {target.name} needs {', '.join(absent)}, which is not installed: {install_line(target)}")
    module, _, name = place.partition(":")
    return getattr(import_module(module), name)()


def capabilities(target: Target, cpu: str = "") -> Capabilities:
    """What a runtime can do on an instruction set ("": this machine's); needs neither the runtime nor torch."""
    module, _, name = target.capabilities.partition(":")
    made: Capabilities = getattr(import_module(module), name)(cpu)
    return made


def describe() -> list[dict[str, Any]]:
    """What `tersenet targets` shows: each runtime, whether it is installed or how to install it, and what it is."""
    rows = []
    for target in TARGETS.values():
        absent = missing((*target.requires, *target.writes))
        table = capabilities(target)
        rows.append(
            {
                "target": target.name,
                "extension": target.extension,
                "about": target.about,
                "installed": not absent,
                "version": None if absent else _version(target.requires[0]),
                "install": install_line(target),
                "missing": list(absent),
                "integer_kernels": sorted(table.kernels),
                "float_islands": table.floats is None or bool(table.floats),
                "integer_io": "by default" if table.integer_io else "on request",
            }
        )
    return rows


def _version(module: str) -> str | None:
    try:
        return version(DISTRIBUTIONS.get(module, module))
    except PackageNotFoundError:
        return None


def target_of(path: Path) -> Target:
    """The target that runs a file, by the file's extension; of two that share one, the first in the table.

    Raises:
        ModelError: no runtime here reads such files.
    """
    for target in TARGETS.values():
        if target.extension == path.suffix:
            return target
    known = ", ".join(sorted({target.extension for target in TARGETS.values()}))
    raise ModelError(f"{path} is not a file that a runtime here reads: its name must end in one of {known}.")
