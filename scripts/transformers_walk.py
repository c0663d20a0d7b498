#!/usr/bin/env python
"""Try every classifier that the installed Transformers lists, small and with random weights, and keep what came of it.

scripts/transformers_walk.py              those that were not tried yet
scripts/transformers_walk.py --again      and those that were not converted
scripts/transformers_walk.py NAME...      these

Each is saved to a folder, read by tersenet in a fork of its own, and compared with Transformers on three samples. The outcomes stand in
transformers_outcomes.json beside this; `scripts/docs` draws the page from them.
"""

from __future__ import annotations

import json
import os
import re
import resource
import signal
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parent / "tests")]
OUTCOMES = HERE / "transformers_outcomes.json"
SECONDS, TOLERANCE, TOKENS, SAMPLES, MOST_PARAMETERS = 120, 1e-4, 12, 2000, 60_000_000
CONVERTED, REFUSED, UNTRIED, DIFFERS = "converted", "refused", "untried", "differs"


def listed() -> Iterator[tuple[str, str, str]]:
    """(class, kind, type of model) of every classifier in the framework's own tables."""
    from transformers.models.auto import modeling_auto

    from tersenet.frontends.transformers.network import KINDS

    seen = set()
    for kind, (_, table) in KINDS.items():
        for model_type, names in getattr(modeling_auto, table).items():
            for name in (names,) if isinstance(names, str) else names:
                if name not in seen:
                    seen.add(name)
                    yield name, kind, model_type


def main(arguments: list[str]) -> None:
    """Try what is asked for, and write each outcome as it comes."""
    import transformers

    from tersenet.store import write_file

    outcomes = known()
    with tempfile.TemporaryDirectory() as folder:
        tried("BertForSequenceClassification", "text", "bert", Path(folder) / "checkpoint")  # what every fork would import else
    names = [word for word in arguments if not word.startswith("-")]
    again = "--again" in arguments
    for name, kind, model_type in list(listed()):
        before = outcomes["classes"].get(name)
        wanted = name in names if names else before is None or (again and before["outcome"] != CONVERTED)
        if wanted:
            outcome, why = forked(name, kind, model_type)
            outcomes = known()  # others may have written in the meantime
            outcomes["classes"][name] = {"kind": kind, "outcome": outcome, "why": why}
            outcomes["transformers"] = transformers.__version__
            outcomes["classes"] = dict(sorted(outcomes["classes"].items()))
            write_file(OUTCOMES, json.dumps(outcomes, indent=1) + "\n")
            print(name, outcome, why, flush=True)


def known() -> dict[str, Any]:
    """What was found before."""
    return json.loads(OUTCOMES.read_text()) if OUTCOMES.exists() else {"classes": {}}


def forked(name: str, kind: str, model_type: str) -> tuple[str, str]:
    """One class in a fork, whose time is limited."""
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        resource.setrlimit(resource.RLIMIT_CPU, (SECONDS, SECONDS))
        signal.alarm(10 * SECONDS)
        try:
            with tempfile.TemporaryDirectory() as folder:
                told = tried(name, kind, model_type, Path(folder) / "checkpoint")
        except BaseException as error:  # noqa: BLE001 - whatever the code of hundreds of networks raises
            told = (UNTRIED, f"{type(error).__name__}: {error}")
        os.write(writer, json.dumps(told).encode())
        os._exit(0)
    os.close(writer)
    with os.fdopen(reader, "rb") as stream:
        content = stream.read()
    os.waitpid(child, 0)
    outcome, why = json.loads(content) if content else (UNTRIED, f"not done in {SECONDS} s")
    return outcome, re.sub(r"\S*/checkpoint", "it", " ".join(why.split()))[:400]


def tried(name: str, kind: str, model_type: str, folder: Path) -> tuple[str, str]:
    """The outcome of one class, and why it was not converted or what is left of it."""
    import torch
    import transformers

    import tersenet
    from transformers_networks import Case, saved
    from transformers_sizes import small

    torch.set_num_threads(1)
    network_class = getattr(transformers, name)
    options = {**small(network_class.config_class, model_type), "num_labels": 3}
    config = network_class.config_class(**options)
    with torch.device("meta"):
        planned = sum(tensor.numel() for tensor in network_class._from_config(config, attn_implementation="eager").parameters())
    if planned > MOST_PARAMETERS:
        return UNTRIED, f"its small configuration still has {planned:,} parameters"
    sized = "image_size" in options or "image_size" in options.get("vision_config", {})
    network = saved(Case(name, network_class.config_class.__name__, options), folder, image=kind == "image" and not sized)
    try:
        model = tersenet.load(folder, **({"length": TOKENS} if kind in ("text", "tokens") else {"length": SAMPLES} if "conv_dim" in options else {}))
    except tersenet.TersenetError as error:
        return REFUSED, str(error)
    difference = compared(network, model)
    return (DIFFERS, f"by {difference:.3g}") if not difference < TOLERANCE else (CONVERTED, model.fixed_batch)


def compared(network: Any, model: Any) -> float:
    """The largest difference of an output, against Transformers on three samples; of texts one is shorter than the others."""
    import numpy as np
    import torch

    generator, given = np.random.default_rng(0), {}
    for spec in model.inputs:
        shape = (spec.shape[0] or 3, *spec.shape[1:])
        given[spec.name] = generator.standard_normal(shape).astype(np.float32)
        if spec.name == "input_ids":
            given[spec.name] = generator.integers(3, 60, shape)
            given[spec.name][1, 8:] = getattr(network.config, "pad_token_id", 0) or 0
        elif spec.name == "attention_mask":
            given[spec.name] = np.ones(shape, np.int64)
            given[spec.name][1, 8:] = 0
        elif spec.name == "token_type_ids":
            given[spec.name] = np.zeros(shape, np.int64)
    with torch.no_grad():
        found = network(**{name: torch.from_numpy(array) for name, array in given.items()})
    wanted = (found.logits if "logits" in found else found[0]).numpy()
    return float(np.abs(model(*given.values()) - wanted).max())


if __name__ == "__main__":
    main(sys.argv[1:])
