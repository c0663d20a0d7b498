"""The command line: parse, call the face, print, exit code.

Nothing heavy is imported before it is needed: ``tersenet --help`` answers at once, and measuring a file needs no torch.
"""

from __future__ import annotations

import _thread
import dataclasses
import json
import re
import shlex
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from inspect import getdoc
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

import tersenet
from tersenet.bars import Bars
from tersenet.errors import WITHOUT_TORCH, TersenetError
from tersenet.training.methods import Distillation
from tersenet.training.options import Training

if TYPE_CHECKING:  # a report is loaded with everything that it draws on
    from tersenet.record import Report

DONE, MISSED, BAD_INPUT, INTERRUPTED = 0, 1, 2, 130
MODEL = (
    "MODEL is a file (.keras or .h5 of Keras, .onnx, .tflite, .pt2), a folder in Transformers layout, hf:ID from the hub, or file.py:name, a network "
    "that Python makes. docs/models.md says more, and the way from TensorFlow and others."
)


@click.group(context_settings={"help_option_names": ["-h", "--help"]}, epilog=MODEL)
@click.version_option(tersenet.__version__, prog_name="tersenet")
def tersenet_command() -> None:
    """Compress a trained network for a device and a budget, and prove the result by running that very file."""


@tersenet_command.command(epilog=MODEL)
@click.argument("model")
@click.option("--data", "source", required=True, help="digits, a folder, a .npz, .csv or .parquet file, or file.py:name")
@click.option("--to", "targets", multiple=True, default=("onnxruntime",), show_default=True, help="a runtime; may be given several times")
@click.option("--recipe", default=None, help="int8, small, smallest, or a file (JSON or YAML); int8 unless given")
@click.option("--epochs", type=click.IntRange(1), default=None, help="of all steps of the recipe that train, together")
@click.option("--learning-rate", type=click.FloatRange(0, min_open=True), default=None, help="the highest of the recipe's, the others in proportion")
@click.option("--batch-size", type=click.IntRange(1), default=None, help="of every step of the recipe that trains")
@click.option("--augmentation", multiple=True, help="of every step of the recipe that trains: flip, crop:4, noise:0.01, shift:0.1; several times")
@click.option("--max-drop", default=None, metavar="POINTS", help="points of the metric that may be lost")
@click.option("--max-bytes", default=None, metavar="SIZE", help="of the file: 60kB, 1.5MB, 4096")
@click.option("--max-latency", default=None, metavar="TIME", help="of one run: 2ms, 800us")
@click.option("--max-memory", default=None, metavar="SIZE", help="of one run")
@click.option("--io", "io_type", type=click.Choice(["float", "int8"]), default=None, help="what the file takes and returns")
@click.option("--layout", type=click.Choice(["nhwc", "nchw"]), default=None, help="of image inputs in the file")
@click.option("--batch", type=int, default=1, show_default=True, help="of files that fix one")
@click.option("--cpu", default="", help="instruction set that kernels are chosen for; this machine's unless given")
@click.option("--qoperator", is_flag=True, help="write QOperator instead of QDQ, where the format has it")
@click.option("--sparse", is_flag=True, help="store weights that are mostly zero without their zeros, where the format can (litert)")
@click.option(
    "--four-bit-weights",
    type=click.Choice(["fast", "always", "never"]),
    default=None,
    help="store weights of at most 4 bits two a byte: where kernels are as fast (fast, unless given), wherever they take them, nowhere",
)
@click.option("--weights", default=None, type=click.Path(), help="a .safetensors file for code; .weights.h5 or .weights.json for Keras")
@click.option(
    "--length",
    type=click.IntRange(1),
    default=None,
    help="tokens of a text (128) or samples of a sound (one second) that a Transformers network takes",
)
@click.option("--out", default=None, type=click.Path(), help="folder of the run")
@click.option("--seed", type=int, default=0, show_default=True)
@click.option("--threads", type=int, default=1, show_default=True, help="that runtimes are given")
@click.option("--layers", is_flag=True, help="compare the files with the simulation layer by layer, where the runtime lets one look")
@click.option("--sure", is_flag=True, help="the worse ends of intervals must meet the budget too")
@click.option("--trust", is_flag=True, help="read files that would run code that came with them")
@click.option("--json", "as_json", is_flag=True, help="print the record alone")
def compress(model: str, source: str, targets: tuple[str, ...], recipe: str | None, as_json: bool, **options: Any) -> int:
    """Compress MODEL for some runtimes and prove the files."""
    from tersenet.journey import compress as run
    from tersenet.recipe import find_recipe

    epochs, rate, size = (options[name] or 0 for name in ("epochs", "learning_rate", "batch_size"))
    chosen = find_recipe(recipe or "int8").retrained(epochs, rate, size, options["augmentation"])
    budget = tersenet.Budget(options["max_drop"], options["max_bytes"], options["max_latency"], options["max_memory"])
    with Bars() as progress:
        settings = _settings(options, progress)
        report = run(model, source, to=targets, recipe=chosen, budget=budget, out=options["out"], settings=settings)
    return _show(report, as_json)


def _settings(options: dict[str, Any], progress: Bars) -> Any:
    asked = tersenet.ExportOptions(
        integer_io=None if options["io_type"] is None else options["io_type"] == "int8",
        layout=(options["layout"] or "").upper(),
        batch=options["batch"],
        cpu=options["cpu"],
        format=_of_formats(options),
    )
    chosen = {name: options[name] for name in ("weights", "trust", "seed", "threads", "layers", "sure")}
    return tersenet.Settings(options=asked, progress=progress, length=options["length"] or 0, **chosen)


def _of_formats(options: dict[str, Any]) -> dict[str, Any]:
    """What was asked that some formats alone have."""
    return {name: options[name] for name in ("qoperator", "sparse", "four_bit_weights") if options[name]}


def _options_of(kind: type) -> Callable[[Any], Any]:
    """Gives a command an option for each that a frozen value has, in its words."""
    said = dict(re.findall(r"^    (\w+): (.+?)(?=^    \w+:|\Z)", (getdoc(kind) or "").partition("Args:\n")[2], re.M | re.S))

    def give(command: Any) -> Any:
        for entry in reversed(dataclasses.fields(kind)):
            command = _option_of(entry, said.get(entry.name, ""))(command)
        return command

    return give


def _option_of(entry: dataclasses.Field[Any], said: str) -> Any:
    usual = entry.default
    shown = ", ".join(usual) if isinstance(usual, tuple) else usual
    kind = "" if isinstance(usual, bool) or shown in ("", None) else f"  [default: {shown}]"
    how: dict[str, Any] = {"help": " ".join(said.split()) + kind, "default": None}
    if isinstance(usual, bool):
        how["is_flag"] = True
    elif isinstance(usual, tuple):
        how["multiple"] = True
    else:
        how["type"] = float if usual is None else type(usual)
    return click.option(f"--{entry.name.replace('_', '-')}", entry.name, **how)


def _chosen(kind: type, options: dict[str, Any]) -> dict[str, Any]:
    """What was said of a frozen value's options."""
    return {entry.name: options[entry.name] for entry in dataclasses.fields(kind) if options[entry.name] not in (None, ())}


@tersenet_command.command(epilog=MODEL)
@click.argument("model")
@click.option("--data", "source", required=True, help="digits, a folder, a .npz, .csv or .parquet file, or file.py:name")
@_options_of(Training)
@click.option("--from-scratch", is_flag=True, help="from random weights")
@click.option("--exchange", multiple=True, help="activations that become others first: a pair such as silu:hardswish, or cheap; several times")
@click.option("--to", "targets", multiple=True, help="a runtime whose kernels decide what is cheap; may be given several times")
@click.option("--weights", default=None, type=click.Path(), help="a .safetensors file for a network that comes from code")
@click.option("--length", type=click.IntRange(1), default=None, help="as in compress")
@click.option("--out", default=None, type=click.Path(), help="folder of the result")
@click.option("--seed", type=int, default=0, show_default=True)
@click.option("--trust", is_flag=True, help="read files that would run code that came with them")
@click.option("--json", "as_json", is_flag=True, help="print the record alone")
def train(model: str, source: str, targets: tuple[str, ...], as_json: bool, **options: Any) -> int:
    """Train or fine-tune MODEL, and judge it before and after."""
    network = tersenet.load(model, weights=options["weights"], trust=options["trust"], length=options["length"] or 0)
    step = tersenet.Train(Training(**_chosen(Training, options)), exchange=options["exchange"], from_scratch=options["from_scratch"])
    with Bars() as progress:
        found = tersenet.fit(network, source, step, to=targets, out=options["out"], seed=options["seed"], progress=progress)
    _print(found.record if as_json else _trained(found), as_json)
    return DONE


@tersenet_command.command(epilog=MODEL)
@click.argument("model")
@click.option("--data", "source", required=True, help="digits, a folder, a .npz, .csv or .parquet file, or file.py:name")
@click.option("--teacher", default="", metavar="MODEL", help="the network that MODEL learns from")
@click.option("--student", default="", metavar="MODEL", help="the network that learns from MODEL, and takes its place")
@_options_of(Distillation)
@_options_of(Training)
@click.option("--weights", default=None, type=click.Path(), help="a .safetensors file for a MODEL that comes from code")
@click.option("--length", type=click.IntRange(1), default=None, help="as in compress")
@click.option("--out", default=None, type=click.Path(), help="folder of the result")
@click.option("--seed", type=int, default=0, show_default=True)
@click.option("--trust", is_flag=True, help="read files that would run code that came with them")
@click.option("--json", "as_json", is_flag=True, help="print the record alone")
def distill(model: str, source: str, teacher: str, student: str, as_json: bool, **options: Any) -> int:
    """Let MODEL learn from a teacher, or a student from MODEL, and judge it before and after."""
    if bool(teacher) == bool(student):
        raise click.UsageError("give --teacher, a network that MODEL learns from, or --student, one that learns from MODEL.")
    training = Training(**_chosen(Training, options))
    step = tersenet.Distill(**_chosen(Distillation, options), training=training, teacher=teacher or model)
    given = tersenet.load(model, weights=options["weights"], trust=options["trust"], length=options["length"] or 0)
    other = tersenet.load(teacher or student, trust=options["trust"])
    learner, teaching = (given, other) if teacher else (other, given)
    with Bars() as progress:
        found = tersenet.distill(learner, source, step, teacher=teaching, out=options["out"], seed=options["seed"], progress=progress)
    _print(found.record if as_json else _trained(found), as_json)
    return DONE


def _trained(found: Any) -> dict[str, Any]:
    """What a person wants to know of a training."""
    record = found.record
    after = record["after"]
    quality = (
        {} if after is None else {after["metric"]: f"{record['before']:.4g} before, {after['value']:.4g} after ({after['n']} evaluation samples)"}
    )
    if record.get("teacher"):
        quality["teacher"] = f"{record['teacher']['name']}, {record['teacher']['value']:.4g}"
    epochs = [{name: entry[name] for name in ("epoch", "loss", "metric")} for entry in record["history"]]
    left = {"left": [f"{entry['what']}: {entry['why']}" for entry in record["skipped"]]} if record["skipped"] else {}
    done = [f"{entry['what']}: {entry['why']}" for entry in record["changed"]]
    return {"history": epochs, "done": done, **left, **quality, "network": str(found.folder / "model.pt2")}


@tersenet_command.command()
@click.argument("file", type=click.Path())
@click.option("--data", "source", required=True, help="what judges: as in compress")
@click.option("--against", default=None, type=click.Path(), help="another file, timed in turn and compared on the same samples")
@click.option("--threads", type=int, default=1, show_default=True)
@click.option("--seed", type=int, default=0, show_default=True)
@click.option("--json", "as_json", is_flag=True, help="print the figures as JSON")
def measure(file: str, source: str, against: str | None, threads: int, seed: int, as_json: bool) -> int:
    """Accuracy, latency and memory of FILE in its own runtime."""
    with Bars() as progress:
        found = tersenet.evaluate(file, source, against=against, threads=threads, seed=seed, progress=progress)
    _print(found, as_json)
    return DONE


@tersenet_command.command(epilog=MODEL)
@click.argument("model", required=False)
@click.option("--data", "source", default=None, help="look at data instead of a network")
@click.option("--to", "targets", multiple=True, help="runtimes; all that are installed unless given")
@click.option("--weights", default=None, type=click.Path())
@click.option("--length", type=click.IntRange(1), default=None, help="of a Transformers network: as in compress")
@click.option("--trust", is_flag=True)
@click.option("--json", "as_json", is_flag=True)
def inspect(model: str | None, source: str | None, targets: tuple[str, ...], as_json: bool, **options: Any) -> int:
    """Layers, MACs and bytes of MODEL, and what would stay in float; or what data hold and what is wrong with them."""
    if (model is None) == (source is None):
        raise click.UsageError("give a MODEL, or --data DATA alone.")
    if source is not None:
        for name, given in {"to": targets, "weights": options["weights"], "length": options["length"]}.items():
            if given:
                raise click.UsageError(f"--{name} is of a MODEL, and --data DATA looks at data alone.")
        from tersenet.data import sources
        from tersenet.data.inspection import describe

        _print(describe(sources.load(source, trust=options["trust"])), as_json)
    else:
        _print(tersenet.inspect_model(model, targets, weights=options["weights"], trust=options["trust"], length=options["length"] or 0), as_json)
    return DONE


@tersenet_command.command()
@click.option("--json", "as_json", is_flag=True)
def targets(as_json: bool) -> int:
    """Runtimes: installed or how to install, and what each can do."""
    from tersenet.targets import table

    _print(table.describe(), as_json)
    return DONE


@tersenet_command.command()
@click.argument("folder", type=click.Path())
@click.option("--open", "opens", is_flag=True, help="show the page in a browser")
def report(folder: str, opens: bool) -> int:
    """Redraw the page of a run from its record."""
    from tersenet.record import Report
    from tersenet.report import html

    page = html.write(Report.read(Path(folder)), Path(folder))
    click.echo(str(page))
    if opens:
        click.launch(str(page))
    return DONE


@tersenet_command.command()
@click.option("--out", default="runs/demo", show_default=True, type=click.Path())
@click.option("--json", "as_json", is_flag=True)
def demo(out: str, as_json: bool) -> int:
    """Train a small network on real digits, compress it for every runtime, and say where the report is."""
    from tersenet.demo import demo as run

    with Bars() as progress:
        report = run(out, progress)
    return _show(report, as_json)


def _show(report: Report, as_json: bool) -> int:
    if as_json:
        click.echo(json.dumps(report.to_json(), indent=1, ensure_ascii=False))
    else:
        from tersenet.report.text import show

        show(report)
    return DONE if report.met else MISSED


def _print(found: Any, as_json: bool) -> None:
    if as_json:
        click.echo(json.dumps(found, indent=1, ensure_ascii=False))
    else:
        from tersenet.report.listing import print_listing

        print_listing(found)


@contextmanager
def _interrupts_kept() -> Iterator[None]:
    """An interrupt that comes while a destructor or a callback of C code runs would be printed and forgotten: it is sent again, a moment later."""
    usual = sys.unraisablehook

    def hook(unraisable: sys.UnraisableHookArgs) -> None:
        if unraisable.exc_type is KeyboardInterrupt:
            threading.Timer(0.05, _thread.interrupt_main).start()
        else:
            usual(unraisable)

    sys.unraisablehook = hook
    try:
        yield
    finally:
        sys.unraisablehook = usual


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; the exit code is what the contract says."""
    given = None if arguments is None else list(arguments)
    try:
        with _interrupts_kept():
            result = tersenet_command.main(args=given, prog_name="tersenet", standalone_mode=False)
    except click.exceptions.Exit as leaving:
        return leaving.exit_code
    except click.ClickException as error:
        context = getattr(error, "ctx", None)
        hint = f" {context.command_path} --help lists what there is." if context else ""
        click.echo(f"tersenet: {error.format_message()}{hint}", err=True)
        return BAD_INPUT
    except TersenetError as error:
        click.echo(f"tersenet: {error}", err=True)
        return BAD_INPUT
    except ModuleNotFoundError as error:
        if error.name != "torch":
            raise
        click.echo(f"tersenet: {WITHOUT_TORCH}", err=True)
        return BAD_INPUT
    except (KeyboardInterrupt, click.Abort):
        click.echo(f"\ninterrupted; the same command goes on from here:\n  tersenet {shlex.join(sys.argv[1:] if given is None else given)}", err=True)
        return INTERRUPTED
    return result if isinstance(result, int) else DONE


if __name__ == "__main__":
    sys.exit(main())
