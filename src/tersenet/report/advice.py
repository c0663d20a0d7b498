"""Sentences about a record: what is wrong with a file and why, and what to do next. Pure functions of the record."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace

from tersenet.record import ArtifactRecord, FloatOperator, Layer, Quality, Report
from tersenet.report.wording import between, compared, counted, milliseconds, share, signed, size

AGREES = 0.995  # of the samples, ties left out
LOSS_POINTS = 1.0  # a drop that deserves a warning, where it is more than chance
WIDE_POINTS = 1.0  # half an interval that says little
WEAK_DB = 20.0  # a layer below it loses a tenth of its amplitude
SMALL_FILE = 30_000  # bytes, below which a file's structure weighs as much as its numbers
SHORT_RUN_MS = 0.05  # a run in which calling the operators costs as much as they do
FEW_CALIBRATION = 100
INTEGER_DOTS = {"avx512-vnni", "avx-vnni", "amx-int8", "dotprod", "i8mm"}
DOCUMENTATION = "manifest.json says what each file takes and returns, and how to run it"


def advised(report: Report) -> Report:
    """The same record with its `warnings` and `next` filled in, after those that it has already."""
    found, ahead = warnings(report), next_steps(report)
    return replace(
        report,
        warnings=report.warnings + tuple(text for text in found if text not in report.warnings),
        next=report.next + tuple(text for text in ahead if text not in report.next),
    )


def warnings(report: Report) -> tuple[str, ...]:
    """What whoever uses a file must know first: budgets missed, then files that are wrong, then files that gain nothing."""
    texts = [miss.text for record in report.records for miss in record.missed]
    for check in (not_agreeing, not_as_good, not_smaller, not_faster):
        texts += [text for record in report.records if (text := check(record, report))]
    return tuple(texts) + doubtful(report)


def not_agreeing(record: ArtifactRecord, report: Report) -> str:
    """A file that does not compute what was simulated; "" where it does."""
    found = record.agreement
    if found is None:
        return ""
    if found.max_abs is None or found.sqnr_db is None:
        return f"{record.target}: the file's outputs hold NaN or infinity. Do not ship it; look for the layer where they begin in the layers below."
    if found.top1 is None or found.top1 >= AGREES:
        return ""
    tied = f"; {found.ties} ties are left out" if found.ties else ""
    why = "its kernels round in another way than the simulation does, or an operator was converted wrongly"
    if report.environment.get("kernels_for", "this machine") != "this machine":
        why = f"it was made for the kernels of {report.environment['kernels_for']}, and this machine's may saturate where those do not"
    elif record.declined:
        why = f"the runtime's fast kernels declined {_named(record.declined)}, so other kernels run them; or an operator was converted wrongly"
    return (
        f"{record.target}: the file does not agree with its simulation: the same class on {share(found.top1)} of {found.n:,} samples{tied}, at least "
        f"{share(AGREES)} are expected. Its own quality is measured and holds; the errors of its layers may not. Likely: {why}."
    )


def not_as_good(record: ArtifactRecord, report: Report) -> str:
    """A drop that is large and no chance; "" where there is none."""
    quality = record.quality
    if quality is None or quality.drop_points is None or quality.drop_points < LOSS_POINTS:
        return ""
    if quality.drop_points_ci95 is not None and quality.drop_points_ci95[0] <= 0:
        return ""
    loss = f"{quality.drop_points:.2f} {quality.unit} worse than float's"
    text = f"{record.target}: {quality.metric} is {loss} ({_interval(quality)}): more than chance."
    worst = weakest(record)
    return f"{text} The weakest layer is {worst.name} ({worst.sqnr_db:.1f} dB)." if worst and worst.sqnr_db is not None else text


def not_smaller(record: ArtifactRecord, report: Report) -> str:
    """A file that is not smaller than its float twin, and why; "" where it is."""
    if record.bytes < record.twin.bytes:
        return ""
    if record.float_ops:
        why = f"{_named(record.float_ops)} stayed in float"
    elif record.bytes < SMALL_FILE:
        why = "in a network this small, names, scales and structure weigh more than the weights"
    else:
        why = "scales and conversions were added and no weights became narrower"
    return f"{record.target}: the file is not smaller than float: {size(record.bytes)} against {size(record.twin.bytes)}. Why: {why}."


def not_faster(record: ArtifactRecord, report: Report) -> str:
    """A file that is not faster than its float twin, and why; "" where it is, or where nothing can be said."""
    if record.speedup is None or (record.speedup > 1 and (record.speedup_ci95 is None or record.speedup_ci95[0] > 1)):
        return ""
    ends = f", 95 % interval {record.speedup_ci95[0]:.2f} to {record.speedup_ci95[1]:.2f}" if record.speedup_ci95 else ""
    slower = record.speedup < 1 and (record.speedup_ci95 is None or record.speedup_ci95[1] < 1)
    what = "slower than float" if slower else "not measurably faster than float"
    return f"{record.target}: the file is {what} (speed-up {record.speedup:.2f}{ends}). Likely why: {_why_slow(record, report)}."


def _why_slow(record: ArtifactRecord, report: Report) -> str:
    if record.declined:
        return f"the fast integer kernels declined {_named(record.declined)}"
    if record.float_ops:
        return f"{_named(record.float_ops)} stayed in float, and every border costs a conversion"
    if record.latency_ms is not None and record.latency_ms.median < SHORT_RUN_MS:
        return f"a run takes {milliseconds(record.latency_ms.median)}; calling the operators costs as much as computing them"
    known = report.environment.get("instruction_sets") or ()
    if isinstance(known, list | tuple) and known and not INTEGER_DOTS & set(known):
        return f"this processor has no instructions for sums of 8-bit products (it has {', '.join(map(str, known))})"
    return "every operator runs in integers, so on this processor the runtime's float kernels are as good as its integer ones"


def doubtful(report: Report) -> tuple[str, ...]:
    """What makes the figures themselves weak: few samples, no labels."""
    texts = []
    qualities = [record.quality for record in report.records if record.quality is not None]
    if any(quality.judge != "labels" for quality in qualities):
        texts.append("The evaluation data have no labels: quality is how well each file agrees with the float network, not how often it is right.")
    half, widest = max(((_half(quality), quality) for quality in qualities), key=lambda pair: pair[0], default=(0.0, None))
    if widest is not None and widest.unit == "points" and half > WIDE_POINTS:
        texts.append(f"{widest.n:,} evaluation samples tell a drop only to ±{half:.1f} points: differences smaller than that are noise.")
    if qualities and 0 < report.data.n_calibration < FEW_CALIBRATION:
        texts.append(f"Only {report.data.n_calibration} calibration samples chose the ranges; values beyond them are clipped.")
    return tuple(texts)


def next_steps(report: Report) -> tuple[str, ...]:
    """What to do with the result, most useful first."""
    texts = [*_budget_steps(report), *_quality_steps(report), *_speed_steps(report)]
    texts += [f"{record.target}: {note}." for record in report.records for note in record.notes if " --" in note]  # what an option would change
    half = max((_half(record.quality) for record in report.records if record.quality and record.quality.unit == "points"), default=0.0)
    if half > WIDE_POINTS:
        needed = round(report.data.n_evaluation * (half / (WIDE_POINTS / 2)) * (half / (WIDE_POINTS / 2)), -2)
        texts.append(f"Give about {needed:,.0f} evaluation samples to know the drop to ±{WIDE_POINTS / 2} point.")
    if 0 < report.data.n_calibration < FEW_CALIBRATION:
        texts.append("Give 256 calibration samples or more; they need no labels.")
    untimed = [record.target for record in report.records if record.latency_ms is None]
    if untimed:
        texts.append(f"Time {_listed(untimed)} on the device itself; this machine's time says nothing of it.")
    good = [record for record in report.records if _fit(record, report)]
    if good:
        smallest = min(good, key=lambda record: record.bytes)
        many = f"the file of the runtime that you deploy to (the smallest is {smallest.path}, {size(smallest.bytes)})"
        texts.append(f"Ship {many if len(good) > 1 else f'{smallest.path} ({size(smallest.bytes)})'}; {DOCUMENTATION}.")
    stateful = [record.target for record in report.records if record.stateful]
    if stateful:
        kept = f"Recurrent layers in the file of {_listed(stateful)} go on from the state of the run before"
        texts.append(f"{kept}: reset it before each sequence, as the example in manifest.json does.")
    return tuple(texts)


def _fit(record: ArtifactRecord, report: Report) -> bool:
    """Whether a file may be shipped: within the budget, as simulated, and no worse than float beyond chance unless the budget allows the drop."""
    allowed = report.budget.max_drop is not None
    return record.met and not not_agreeing(record, report) and (allowed or not not_as_good(record, report))


def _budget_steps(report: Report) -> list[str]:
    missed = {miss.budget for record in report.records for miss in record.missed if miss.value is not None}
    met = [record.target for record in report.records if _fit(record, report)]
    texts = []
    if missed and met:
        texts.append(f"Within the budget: {_listed(met)}. Ship one of these, or loosen the limit that the others miss.")
    if missed & {"max_bytes", "max_memory_bytes", "max_latency_ms"} and not any(record.met for record in report.records):
        layers = [(sum(layer.weights.histogram), layer.name) for layer in _layers(report) if layer.weights]
        weights = f" ({max(layers)[1]} alone has {counted(max(layers)[0])} weights)" if layers else ""
        texts.append(f"Eight bits alone do not reach this budget: start from a smaller network{weights}, or loosen the limit.")
    return texts


def _quality_steps(report: Report) -> list[str]:
    """For files that lose more than chance explains, or more than is allowed: which layer to look at, which estimator to try."""
    for record in report.records:
        missed = any(miss.budget == "max_drop_points" for miss in record.missed)
        worst = weakest(record)
        if worst is None or worst.sqnr_db is None or not (missed or not_as_good(record, report)):
            continue
        texts = [f'Keep the weakest layer in float: Quantize(keep_float=("{worst.name}",)); it has {worst.sqnr_db:.1f} dB.']
        asked = _estimator(report)
        if worst.used < 0.6 or worst.clipped > 0.01:
            outliers = f"a few outliers take {share(1 - worst.used, 0)} of its range"
            habit = f"{share(worst.clipped)} of its values are clipped" if worst.clipped > 0.01 else outliers
            other = "percentile" if asked == "mse" else "mse"
            texts.append(f'{worst.name}: {habit}. Try another estimator of ranges: Quantize(ranges="{other}").')
        elif asked == "minmax":
            texts.append('A few far values rule ranges that hold every value. Try those of least squared error: Quantize(ranges="mse").')
        return texts
    return []


def _estimator(report: Report) -> str:
    """How ranges were estimated; "" where nothing was quantized."""
    return next((str(step.get("ranges", "minmax")) for step in report.recipe if step.get("step") == "quantize"), "")


def _speed_steps(report: Report) -> list[str]:
    """For files that gain no speed: the fastest file here, and where else to look."""
    if not any(not_faster(record, report) for record in report.records):
        return []
    timed = [(record.latency_ms.median, f"{record.target}'s") for record in report.records if record.latency_ms]
    timed += [(record.twin.latency_ms.median, f"{record.target}'s in float") for record in report.records if record.twin.latency_ms]
    fastest = f"On this processor the fastest file is {min(timed)[1]} ({milliseconds(min(timed)[0])} a run). " if timed else ""
    return [f"{fastest}Time the files on the device itself (tersenet measure): its processor may have what this one lacks."]


def weakest(record: ArtifactRecord) -> Layer | None:
    """The layer with the least signal to noise; None where none was measured."""
    return min((layer for layer in record.layers if layer.sqnr_db is not None), key=lambda layer: layer.sqnr_db or 0.0, default=None)


def loss_is_noise(quality: Quality | None) -> bool:
    """Whether zero lies within the drop's interval."""
    return quality is not None and quality.drop_points_ci95 is not None and quality.drop_points_ci95[0] <= 0 <= quality.drop_points_ci95[1]


def size_gain(record: ArtifactRecord) -> str:
    """``4.03× smaller``."""
    return compared(record.twin.bytes / record.bytes if record.bytes else None, "smaller", "larger")


def _layers(report: Report) -> tuple[Layer, ...]:
    return report.records[0].layers if report.records else ()


def _half(quality: Quality) -> float:
    return (quality.drop_points_ci95[1] - quality.drop_points_ci95[0]) / 2 if quality.drop_points_ci95 else 0.0


def _interval(quality: Quality) -> str:
    return f"95 % interval {between(quality.drop_points_ci95)}" if quality.drop_points_ci95 else f"{signed(quality.drop_points)}"


def _named(operators: Sequence[FloatOperator], most: int = 3) -> str:
    """``gelu (4), softmax and 2 other kinds``: kinds of operator, most frequent first."""
    counts = Counter(operator.op for operator in operators)
    ordered = sorted(counts.items(), key=lambda pair: (-pair[1], pair[0]))
    names = [kind if count == 1 else f"{kind} ({count})" for kind, count in ordered]
    return _listed(names if len(names) <= most else [*names[:most], f"{len(names) - most} other kinds"])


def _listed(names: list[str]) -> str:
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"
