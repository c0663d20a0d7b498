"""The network of a checkpoint: built by Transformers' own class, its numbers loaded, returning its logits alone."""

from __future__ import annotations

import contextlib
import functools
import logging
import warnings
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import torch

from tersenet.errors import MissingDependencyError, ModelError, UntrustedError
from tersenet.frontends.transformers.folder import Checkpoint
from tersenet.graph.explain import first_line

# Kind -> the factory of Transformers, and its table of classes by type of model.
KINDS = {
    "image": ("AutoModelForImageClassification", "MODEL_FOR_IMAGE_CLASSIFICATION_MAPPING_NAMES"),
    "text": ("AutoModelForSequenceClassification", "MODEL_FOR_SEQUENCE_CLASSIFICATION_MAPPING_NAMES"),
    "tokens": ("AutoModelForTokenClassification", "MODEL_FOR_TOKEN_CLASSIFICATION_MAPPING_NAMES"),
    "audio": ("AutoModelForAudioClassification", "MODEL_FOR_AUDIO_CLASSIFICATION_MAPPING_NAMES"),
}
# Classes whose graphs were found to compute something else than Transformers does.
WRONG = ("FunnelForTokenClassification",)
# What a network may need beyond the numbers of its weights: tables that are computed.
SLACK = 10_000_000
# Added to the scores of what must not be attended to; its softmax is zero in every float format that runtimes compute in.
MASKED = -1e9


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Nothing that Transformers, or what it imports, would print."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(before)


def framework() -> Any:
    """The ``transformers`` package.

    Raises:
        MissingDependencyError: it is not installed.
    """
    try:
        with quiet():
            import transformers
    except ImportError as error:
        raise MissingDependencyError(
            "reading Transformers networks needs transformers, which is not installed: pip install 'tersenet[transformers]'"
        ) from error
    return transformers


def kind_of(checkpoint: Checkpoint) -> str:
    """A key of `KINDS`.

    Raises:
        ModelError: the network does something else than to classify.
    """
    from transformers.models.auto import modeling_auto

    if checkpoint.architecture in WRONG:
        raise ModelError(f"{checkpoint.name} is a {checkpoint.architecture}, whose traced graph differs from Transformers' own; it is not read.")
    for kind, (_, table) in KINDS.items():
        for names in getattr(modeling_auto, table).values():
            if checkpoint.architecture in ((names,) if isinstance(names, str) else names):
                return kind
    raise ModelError(
        f"{checkpoint.name} is a {checkpoint.architecture[:80]}; the classifiers of images, texts, tokens and sounds are read "
        "(...ForImageClassification, ...ForSequenceClassification, ...ForTokenClassification, ...ForAudioClassification)."
    )


def loaded(checkpoint: Checkpoint, kind: str, trust: bool) -> torch.nn.Module:
    """The network in evaluation mode, float32, with every number of its own from the checkpoint.

    Raises:
        ModelError: the configuration makes no network, or the weights are not its own.
        UntrustedError: its class is code that comes with it.
    """
    transformers = framework()
    factory = getattr(transformers, KINDS[kind][0])
    config = _config(checkpoint, trust)
    with _explained(checkpoint, "its configuration makes no network"):
        with torch.device("meta"):
            planned = factory.from_config(config, attn_implementation="eager", trust_remote_code=trust)
        needed = sum(tensor.numel() for tensor in (*planned.parameters(), *planned.buffers()))
    if not checkpoint.pickled and needed > 2 * checkpoint.elements + SLACK:
        raise ModelError(f"{checkpoint.name}: its configuration asks for {needed} numbers, and its weights hold {checkpoint.elements}.")
    with _explained(checkpoint, "its weights cannot be loaded"):
        network, report = factory.from_pretrained(
            checkpoint.folder,
            config=config,
            attn_implementation="eager",
            dtype=torch.float32,
            use_safetensors=not checkpoint.pickled,
            trust_remote_code=trust,
            local_files_only=True,
            weights_only=True,
            output_loading_info=True,
            ignore_mismatched_sizes=True,  # they are refused below, by name
        )
    _check_loaded(checkpoint, report)
    return network.eval()


def _check_loaded(checkpoint: Checkpoint, report: Mapping[str, Any]) -> None:
    """What Transformers reports must be that every tensor was there, of the shape that the configuration asks for."""
    others = sorted(report["mismatched_keys"])
    if others:
        name, held, wanted = others[0]
        more = f" (and {len(others) - 1} more)" if len(others) > 1 else ""
        raise ModelError(
            f"{checkpoint.name}: its weights do not fit its configuration: {name} has the shape {tuple(held)}, wanted {tuple(wanted)}{more}."
        )
    missing = sorted(report["missing_keys"])
    if missing:
        shown = ", ".join(missing[:3]) + (" ..." if len(missing) > 3 else "")
        raise ModelError(
            f"{checkpoint.name}: its weights lack {len(missing)} tensors of a {checkpoint.architecture} ({shown}); it was not trained for that."
        )


def _config(checkpoint: Checkpoint, trust: bool) -> Any:
    transformers = framework()
    with _explained(checkpoint, "its configuration cannot be read"):
        config = transformers.AutoConfig.from_pretrained(checkpoint.folder, trust_remote_code=trust, local_files_only=True)
        config.use_cache = False
        config._experts_implementation = "batched_mm"  # the others loop over experts that the data choose, or are operators of its own
        config.return_dict = True
        config.output_attentions = False
        config.output_hidden_states = False
    return config


@contextlib.contextmanager
def _explained(checkpoint: Checkpoint, what: str) -> Iterator[None]:
    """Whatever Transformers says of a folder, as an error of ours."""
    try:
        with quiet(), _without_bars():
            yield
    except (ModelError, UntrustedError):
        raise
    except ImportError as error:
        raise MissingDependencyError(f"{checkpoint.name}: {first_line(error)}") from error
    except Exception as error:  # the code of hundreds of networks meets numbers that nobody checked
        if "trust_remote_code" in str(error):
            raise UntrustedError(f"{checkpoint.name} brings its own code; --trust runs it.") from error
        raise ModelError(f"{checkpoint.name}: {what}: {first_line(error)}.") from error


@contextlib.contextmanager
def _without_bars() -> Iterator[None]:
    from transformers.utils import logging as messages

    drawn = messages.is_progress_bar_enabled()
    messages.disable_progress_bar()
    try:
        yield
    finally:
        if drawn:
            messages.enable_progress_bar()


def logits_alone(network: torch.nn.Module) -> None:
    """Make a network return its logits, and nothing else."""
    whole: Callable[..., Any] = network.forward

    @functools.wraps(whole)
    def forward(*args: Any, **kwargs: Any) -> dict[str, torch.Tensor]:
        found = whole(*args, **kwargs)
        return {"logits": found.logits if "logits" in found else found[0]}  # a few classes call them otherwise

    network.forward = forward


@contextlib.contextmanager
def plain_masks() -> Iterator[None]:
    """Masks of padding as one product, where Transformers would index them by pairs of positions."""
    from transformers import masking_utils

    masks = masking_utils.ALL_MASK_ATTENTION_FUNCTIONS
    original = masks["eager"]

    def mask(*args: Any, **kwargs: Any) -> torch.Tensor | None:
        padding = kwargs.get("attention_mask")
        simple = kwargs.get("mask_function") is masking_utils.bidirectional_mask_function and not kwargs.get("use_vmap")
        if args or not simple or padding is None or padding.ndim != 2:
            return original(*args, **kwargs)
        return (1.0 - padding[:, None, None, :].to(torch.float32)) * MASKED

    masks["eager"] = mask
    try:
        yield
    finally:
        del masks["eager"]
