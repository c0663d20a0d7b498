"""The contract of a step: a frozen value that says what to do, checks itself, and is what runs."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields
from typing import TYPE_CHECKING, Any, ClassVar

from tersenet.errors import DataError, RecipeError, TersenetError, unknown
from tersenet.plain import check_fields
from tersenet.progress import Progress, silent

if TYPE_CHECKING:
    from tersenet.capabilities import Capabilities
    from tersenet.data.parts import Data
    from tersenet.model import Model
    from tersenet.store import Store


@dataclass(frozen=True)
class Change:
    """One thing that a step did or left: what, and how or why."""

    what: str
    why: str


@dataclass(frozen=True)
class StepResult:
    """What a step returns.

    Args:
        model: the new network.
        changed: what it did.
        skipped: what it was asked to do and left, and why.
        decided: the step that does the same without measuring again, where time had a say; None: the step itself.
    """

    model: Model
    changed: tuple[Change, ...] = ()
    skipped: tuple[Change, ...] = ()
    decided: Step | None = None


@dataclass(frozen=True)
class Worth:
    """What a change of a network is worth on a runtime, both networks quantized the usual way.

    Args:
        bytes, before_bytes: of the files with the change, and without.
        speedup: median of time without / time with; None where time means nothing on this machine.
        speedup_ci95: its 95 % interval.
    """

    bytes: int
    before_bytes: int
    speedup: float | None = None
    speedup_ci95: tuple[float, float] | None = None

    @property
    def faster(self) -> bool:
        """Whether it is, beyond doubt: the interval's worse end, where there is one."""
        return self.speedup is not None and (self.speedup_ci95 or (self.speedup,))[0] > 1

    def text(self, name: str) -> str:
        """The figures in words, for the runtime of that name."""
        size = f"{name}: {self.before_bytes:,} -> {self.bytes:,} bytes"
        if self.speedup is None:
            return size
        interval = "" if self.speedup_ci95 is None else " ({:.2f} to {:.2f})".format(*self.speedup_ci95)
        return f"{size}, {self.speedup:.2f} times as fast{interval}"


@dataclass(frozen=True)
class Context:
    """What a step may use, and nothing else.

    Args:
        capabilities: of the runtimes that the result is for.
        data: train, calibration and selection parts; its evaluation part is empty.
        seed: of everything random.
        evaluate: a model's quality on the selection part.
        progress: called with (done, total, what).
        store: where long work keeps what it can go on from after an interruption (`tersenet.store.Store.draft`); None: it cannot.
        original: the network as it came, before any step; None: a step is the first.
        networks: those that steps name (`Step.networks`), by that name.
        time_on_target: of a network and the one that it was made of, what the change is worth on each runtime, by name; None: nobody can measure.
    """

    capabilities: tuple[Capabilities, ...] = ()
    data: Data | None = None
    seed: int = 0
    evaluate: Callable[[Model], float] | None = None
    progress: Progress = silent
    store: Store | None = None
    original: Model | None = None
    networks: Mapping[str, Model] = field(default_factory=dict)
    time_on_target: Callable[[Model, Model], Mapping[str, Worth]] | None = None

    def require(self, part: str, step: str) -> Any:
        """A part of the data.

        Raises:
            DataError: it is missing; the message names the step that needs it.
        """
        found = getattr(self.data, part, None) if self.data is not None else None
        if found is None or len(found) == 0:
            raise DataError(f"{step} needs a {part} part, and these data have none; give one (tersenet.Data.from_arrays({part}=...)).")
        return found

    def network(self, name: str, step: str) -> Model:
        """A network that a step names.

        Raises:
            RecipeError: nobody has loaded it.
        """
        if name not in self.networks:
            raise RecipeError(f"{step} needs the network {name!r}, and nobody has loaded it; give Context(networks={{{name!r}: a tersenet.Model}}).")
        return self.networks[name]


class Options(type):
    """The class of values that are made from named options: what Python would call a TypeError is an error in a recipe here."""

    @property
    def __signature__(cls) -> inspect.Signature:
        """What `help` and editors show: the options, as if this class of classes were not there."""
        whole = inspect.signature(cls.__init__)  # type: ignore[misc]  # of the very class that is made
        return whole.replace(parameters=list(whole.parameters.values())[1:])

    def __call__(cls, *given: Any, **options: Any) -> Any:
        """Make one.

        Raises:
            RecipeError: an option that there is not (close matches named), too many of them, one twice, or one missing.
        """
        signature = inspect.signature(cls)
        for name in options:
            if name not in signature.parameters:
                raise RecipeError(unknown(f"option of {cls.__name__}", name, signature.parameters))
        try:
            bound = signature.bind(*given, **options).arguments
        except TypeError as error:
            raise RecipeError(f"{cls.__name__}({', '.join(signature.parameters)}) cannot be made from these options: {error}.") from error
        for name, value in bound.items():
            if hasattr(type(value), "__array__") and getattr(value, "ndim", True):  # before anything asks it whether it is true
                raise RecipeError(f"{cls.__name__}: {name} must be a plain value, got an array ({type(value).__name__}); give numbers or names.")
        return super().__call__(*given, **options)


def check_options(value: Any, where: str) -> None:
    """Hold options to their types.

    Raises:
        RecipeError: one has another type than it must have.
    """
    check_fields(value, where, RecipeError)


@dataclass(frozen=True)
class Step(metaclass=Options):
    """Base of all steps. A subclass is a frozen dataclass of plain values with `kind`, `check` and `run`."""

    kind: ClassVar[str] = ""

    def __post_init__(self) -> None:
        check_options(self, f"step {self.kind}")
        self.check()

    def check(self) -> None:
        """Raise RecipeError where the options do not make sense."""

    def networks(self) -> tuple[str, ...]:
        """Networks that the step needs beside the one it is given, as `tersenet.load` takes them."""
        return ()

    def run(self, model: Model, context: Context) -> StepResult:
        """Do it. `model` must come out as it went in."""
        raise NotImplementedError

    def apply(self, model: Model, context: Context) -> StepResult:
        """Run the step and hold it to its promise: the input is untouched and a new model comes back."""
        before = model.fingerprint
        result = self.run(model, context)
        object.__getattribute__(model, "__dict__").pop("fingerprint", None)  # a cached answer would hide a change
        if model.fingerprint != before:
            raise TersenetError(f"step {self.kind} changed the model that it was given; a step must return a new one. This is a defect of the step.")
        return result

    def to_json(self) -> dict[str, Any]:
        return {"step": self.kind, **stated(self)}

    @classmethod
    def from_json(cls, record: Mapping[str, Any]) -> Step:
        """The step of this class that `to_json` wrote.

        Raises:
            RecipeError: no mapping, an unknown option (close matches named), or a value that does not pass `check`.
        """
        if not isinstance(record, Mapping):
            raise RecipeError(f"the record of a step must be a mapping of options, got {type(record).__name__}.")
        options = {key: value for key, value in record.items() if key != "step"}
        known = [entry.name for entry in fields(cls)]
        for name in options:
            if name not in known:
                raise RecipeError(unknown(f"option of step {cls.kind}", name, known))
        return cls(**{key: _frozen(value) for key, value in options.items()})


def stated(value: Any) -> dict[str, Any]:
    """The options of a value that are not the usual ones, as plain JSON; options within options too."""
    found = {}
    for entry in fields(value):
        own = getattr(value, entry.name)
        if own != getattr(type(value), entry.name, None):
            found[entry.name] = stated(own) if isinstance(type(own), Options) else _plain(own)
    return found


def _plain(value: Any) -> Any:
    if isinstance(type(value), Options):
        return asdict(value)
    return type(value)(_plain(item) for item in value) if isinstance(value, tuple | list) else value


def _frozen(value: Any) -> Any:
    """JSON's lists as tuples, so that a step stays a value."""
    if isinstance(value, Sequence) and not isinstance(value, str):
        return tuple(_frozen(item) for item in value)
    return value
