"""The results beside this file as tables in two languages; `scripts/docs` puts them into the READMEs."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
NETWORKS = {"mobilenet_v2": "MobileNetV2-1.0/224", "resnet32": "ResNet-32", "resnet44": "ResNet-44", "resnet8": "ResNet-8"}
TARGETS = {"onnxruntime": "ONNX Runtime", "litert": "LiteRT", "executorch": "ExecuTorch", "litert-micro": "tflite-micro"}
TRAINED = {
    "digits": "digits",
    "mnist": "MNIST, Keras",
    "resnet8": "ResNet-8",
    "resnet32": "ResNet-32",
    "resnet32_short": "ResNet-32, shortened",
    "mobilenet_v2": "MobileNetV2 0.35/64",
}
FORMATS = {
    "onnx": "`.onnx`",
    "tflite": "`.tflite`",
    "pt2": "`.pt2`",
    "keras": "`.keras`",
    "h5": "`.h5`",
    "safetensors": "`.py` + `.safetensors`",
    "transformers": "Transformers",
}
RECORDS = ("latency", "bytes", "accuracy", "demo")  # of what a table says of the machine, the times matter most
OWN = {"onnxruntime": ("onnxruntime",), "litert": ("ai-edge-quantizer", "litert-torch"), "executorch": ("executorch",)}

TEXT = {
    "en": {
        "network": "network",
        "runtime": "runtime",
        "size": "int8 file, bytes",
        "smallest": "smallest peer's",
        "ratio": "ratio",
        "least": "against weights, biases and scales alone",
        "time": "int8, ms",
        "peer_time": "the runtime's own quantizer, ms",
        "time_ratio": "ratio (95 % interval)",
        "speedup": "times faster than float",
        "operators": "operators, ours / theirs",
        "drop": "mean drop, points",
        "worst": "worst of five draws",
        "peer_drop": "best peer's mean",
        "agreement": "file agrees with simulation",
        "figure": "figure",
        "limit": "limit",
        "measured": "measured",
        "bytes_title": "**Bytes**",
        "latency_title": "**Latency**, one thread, both files in turn within one process",
        "accuracy_title": "**Accuracy**, float against int8 in the runtime, 5,000 lossy CIFAR-10 images",
        "demo_title": "**`tersenet demo`**, a small network trained on real digits",
        "sizes": "bytes, float / int8",
        "accuracies": "accuracy, float / int8",
        "drop_interval": "drop, points (95 % interval)",
        "faster": "times faster",
        "memory_bytes": "memory, bytes",
        "cost_title": "**What it costs**",
        "networks_title": "**Published networks** as they were published, compressed from the command line, judged on real data",
        "together_title": "**Training**: pruned, taught by the float network and quantized, all in as many epochs as the float network fine-tuned",
        "pruning_title": "**Pruning alone**: half of the multiply-accumulates of ResNet-32 gone, then as many epochs in the same loop; float files",
        "method": "channels taken out",
        "ours": "the smallest within branches (ours)",
        "random": "by chance",
        "torch-pruning": "by Torch-Pruning",
        "accuracy_by_seed": "accuracy, by seed",
        "ahead": "ours in front, points (95 % interval)",
        "macs_share": "MACs left",
        "parameters": "parameters",
        "training_title": "**What training costs**",
        "stage": "what",
        "plain epoch": "an epoch over a hand-written torch loop's",
        "distilled epoch": "an epoch with a teacher over a plain one and the teacher's forward passes",
        "aware epoch": "an epoch with simulated integers over a plain one",
        "pruned": "pruned and taught, float",
        "integers": "and int8, trained",
        "integers, not trained": "and int8, after training",
        "aware": "{weights} weights, trained",
        "accuracies_of": "accuracy, float / compressed",
        "smaller": "bytes (times smaller than float; packed)",
        "quality": "quality, float / int8",
        "quality_drop": "drop (95 % interval)",
        "reference": "published int8 file: bytes; our time over its; points by which ours is behind (95 % interval), or SQNR, ours / its",
        "loading_title": "**What loading takes**, imports left out; at its peak a file of 100 MB may take 2.5 times its size",
        "file": "file",
        "size_bytes": "bytes",
        "load": "seconds, ours / the framework's own reader",
        "grown": "peak memory over the file's size",
        "damaged_title": "**Damaged files** (cut short, bytes changed, zeroed or copied, lengths made huge), read with limits of time and memory",
        "format": "format",
        "files": "files",
        "loaded": "loaded: the damage is to numbers alone",
        "refused": "refused in one line",
        "findings": "crashes, hangs, other errors",
        "elsewhere": " (on {cpu})",
        "apart": " ({networks}: on {cpu})",
        "on": "{cpu}; {versions}. `make bench` measures it again (a script in `benchmarks/`, a JSON in `benchmarks/results/` for each table).",
        "seconds": "calibration over plain forward passes, {estimator}, {network}",
        "memory": "peak memory, 4,096 samples over 256, {estimator}",
        "plan to .tflite": "seconds from the calibrated plan to .tflite, {network}",
        "compress --to litert, measuring left out": "seconds of `compress --to litert`, 256 images, measuring left out, {network}",
        "tersenet demo": "seconds of `tersenet demo`",
    },
    "zh": {
        "network": "网络",
        "runtime": "运行时",
        "size": "int8 文件（字节）",
        "smallest": "同类工具中最小的文件",
        "ratio": "比值",
        "least": "与仅权重、偏置和缩放系数之比",
        "time": "int8（毫秒）",
        "peer_time": "运行时自带量化器（毫秒）",
        "time_ratio": "比值（95 % 区间）",
        "speedup": "相对浮点的加速倍数",
        "operators": "算子数（我们 / 对方）",
        "drop": "平均下降（百分点）",
        "worst": "五次抽样中最差",
        "peer_drop": "同类工具最佳平均值",
        "agreement": "文件与仿真一致率",
        "figure": "指标",
        "limit": "上限",
        "measured": "实测",
        "bytes_title": "**文件大小**",
        "latency_title": "**延迟**：单线程，两个文件在同一进程中交替运行",
        "accuracy_title": "**精度**：浮点与运行时中 int8 的对比，5,000 张有损 CIFAR-10 图像",
        "demo_title": "**`tersenet demo`**：用真实手写数字训练的小网络",
        "sizes": "字节（浮点 / int8）",
        "accuracies": "准确率（浮点 / int8）",
        "drop_interval": "下降（百分点，95 % 区间）",
        "faster": "加速倍数",
        "memory_bytes": "内存（字节）",
        "cost_title": "**开销**",
        "networks_title": "**公开网络**：按其发布时的格式，从命令行压缩，并用真实数据评判",
        "together_title": "**训练**：剪枝、由浮点网络蒸馏并量化，轮数与浮点网络的微调相同",
        "pruning_title": "**仅剪枝**：去掉 ResNet-32 一半的乘加运算，再用同样的循环训练相同轮数；浮点文件",
        "method": "去掉通道的方式",
        "ours": "分支内最小者（我们）",
        "random": "随机",
        "torch-pruning": "由 Torch-Pruning 选择",
        "accuracy_by_seed": "准确率（按种子）",
        "ahead": "我们领先（百分点，95 % 区间）",
        "macs_share": "剩余乘加运算",
        "parameters": "参数",
        "training_title": "**训练的开销**",
        "stage": "内容",
        "plain epoch": "一轮训练与手写 torch 循环之比",
        "distilled epoch": "带教师的一轮与普通一轮加教师前向之比",
        "aware epoch": "带整数仿真的一轮与普通一轮之比",
        "pruned": "剪枝并蒸馏，浮点",
        "integers": "再加 int8，经训练",
        "integers, not trained": "再加 int8，训练后量化",
        "aware": "{weights} 权重，经训练",
        "accuracies_of": "准确率（浮点 / 压缩后）",
        "smaller": "字节（比浮点小的倍数；打包后）",
        "quality": "质量（浮点 / int8）",
        "quality_drop": "下降（95 % 区间）",
        "reference": "公开的 int8 文件：字节数；我们的时间与其之比；我们落后的百分点（95 % 区间），或 SQNR（我们 / 对方）",
        "loading_title": "**读取开销**：不含导入；100 MB 的文件，峰值内存不得超过其大小的 2.5 倍",
        "file": "文件",
        "size_bytes": "字节",
        "load": "秒（我们 / 框架自带的读取）",
        "grown": "峰值内存与文件大小之比",
        "damaged_title": "**损坏的文件**（截断、改动字节、清零或复制片段、把长度改得极大），在限制时间与内存的条件下读取",
        "format": "格式",
        "files": "文件数",
        "loaded": "可读取：只有数值受损",
        "refused": "用一行信息拒绝",
        "findings": "崩溃、挂起、其他错误",
        "elsewhere": "（测于 {cpu}）",
        "apart": "（{networks}：测于 {cpu}）",
        "on": "{cpu}；{versions}。`make bench` 可重新测量（每个表对应 `benchmarks/` 中的脚本和 `benchmarks/results/` 中的 JSON）。",
        "seconds": "校准时间与普通前向传播之比，{estimator}，{network}",
        "memory": "峰值内存：4,096 个样本与 256 个样本之比，{estimator}",
        "plan to .tflite": "从校准后的方案到 .tflite 的秒数，{network}",
        "compress --to litert, measuring left out": "`compress --to litert` 的秒数（256 张图像，不含测量），{network}",
        "tersenet demo": "`tersenet demo` 的秒数",
    },
}


def record(name: str) -> dict[str, Any]:
    """One benchmark's results; without rows where it has not been run."""
    path = HERE / f"{name}.json"
    return json.loads(path.read_text(encoding="utf-8")) if path.exists() else {"rows": []}


def where(rows: Iterable[dict[str, Any]], **key: Any) -> list[dict[str, Any]]:
    """The rows with these fields."""
    return [row for row in rows if all(row.get(name) == value for name, value in key.items())]


def table(heads: list[str], rows: list[list[str]]) -> list[str]:
    """Markdown."""
    return ["| " + " | ".join(line) + " |" for line in (heads, ["---"] * len(heads), *rows)]


def pairs(rows: list[dict[str, Any]]) -> list[tuple[str, str]]:
    """The networks and runtimes that rows speak of, in the order of the lists above."""
    found = {(row["network"], row["target"]) for row in rows}
    return [(network, target) for network in NETWORKS for target in TARGETS if (network, target) in found]


def bytes_table(words: dict[str, str]) -> list[str]:
    rows, lines = record("bytes")["rows"], []
    for network, target in pairs(rows):
        here = where(rows, network=network, target=target)
        peers = [row for row in here if row["against"] not in ("least", "float twin")]
        least = where(here, against="least")
        peer = min(peers, key=lambda row: row["other_bytes"], default=None)
        theirs = [f"{peer['other_bytes']:,} ({peer['against']})", f"{peer['value']:.3f}"] if peer else ["", ""]
        against = f"{least[0]['value']:.3f}" if least else ""
        lines.append([NETWORKS[network], TARGETS[target], f"{here[0]['bytes']:,}", *theirs, against])
    return table([words[key] for key in ("network", "runtime", "size", "smallest", "ratio", "least")], lines)


def latency_table(words: dict[str, str]) -> list[str]:
    rows, lines = where(record("latency")["rows"], file="int8"), []
    for network, target in pairs(rows):
        here = where(rows, network=network, target=target)
        speedup = " / ".join(f"{1 / row['value']:.2f}" for row in where(here, against="float twin"))
        for peer in OWN[target]:
            for row in where(here, against=peer):
                low, high = row["ci95"]
                times = [f"{row['ms']:.3f}", f"{row['other_ms']:.3f} ({peer})", f"{row['value']:.3f} ({low:.3f} to {high:.3f})"]
                lines.append([NETWORKS[network], TARGETS[target], *times, speedup, f"{row['operators']} / {row['other_operators']}"])
    return table([words[key] for key in ("network", "runtime", "time", "peer_time", "time_ratio", "speedup", "operators")], lines)


def accuracy_table(words: dict[str, str]) -> list[str]:
    rows, lines = where(record("accuracy")["rows"], seed="all"), []
    for network, target in pairs(rows):
        here = {row["figure"]: row for row in where(rows, network=network, target=target)}
        drops = [f"{round(here[name]['value'], 2) + 0:.2f}" if name in here else "" for name in ("mean drop", "worst drop")]
        peer = here.get("behind the best peer")
        theirs = f"{peer['peer_drop']:.2f} ({peer['peer']})" if peer else ""
        agreed = f"{100 * here['least agreement']['value']:.2f} %" if "least agreement" in here else ""
        lines.append([NETWORKS[network], TARGETS[target], *drops, theirs, agreed])
    return table([words[key] for key in ("network", "runtime", "drop", "worst", "peer_drop", "agreement")], lines)


def demo_table(words: dict[str, str]) -> list[str]:
    lines = []
    for row in record("demo")["rows"]:
        interval = row["95 % interval"]
        drop = f"{row['drop, points']:.2f}" + (f" ({interval[0]:.2f} … {interval[1]:.2f})" if interval else "")
        sizes = f"{row['float, bytes']:,} / {row['int8, bytes']:,}"
        faster = f"{row['faster']:.2f}" if row["faster"] else "–"
        accuracies = f"{row['float, %']:.2f} / {row['int8, %']:.2f} %"
        lines.append([TARGETS[row["runtime"]], sizes, accuracies, drop, faster, f"{row['memory, bytes']:,} ({row['of']})"])
    return table([words[key] for key in ("runtime", "sizes", "accuracies", "drop_interval", "faster", "memory_bytes")], lines)


def networks_table(words: dict[str, str]) -> list[str]:
    lines = []
    for row in record("networks")["rows"]:
        name = [row["network"], TARGETS[row["target"]]]
        if "refused" in row:
            lines.append([*name, "–", "–", "–", "–", "–", "–"])
            continue
        unit = row["unit"]
        shown = [f"{100 * value:.1f} %" if unit == "points" else f"{value:.3g}" for value in (row["float_quality"], row["quality"])]
        low, high = row["drop_points_ci95"] or (0.0, 0.0)
        drop = f"{row['drop_points']:.2f} ({low:.2f} … {high:.2f})" if row["drop_points_ci95"] else "–"
        sqnr = f"{row['agreement']['sqnr_db']:.0f} dB"
        agreed = f"{100 * row['agreement']['top1']:.1f} %" if row["agreement"]["top1"] is not None else sqnr
        faster = f"{row['speedup']:.2f}" if row["speedup"] else "–"
        reference = row.get("reference")
        beside = f"{reference['bytes']:,}; {reference['time_ratio']:.2f}; {_beside(reference)}" if reference else ""
        lines.append([*name, f"{row['float_bytes']:,} / {row['bytes']:,}", f"{shown[0]} / {shown[1]}", drop, agreed, faster, beside])
    keys = ("network", "runtime", "sizes", "quality", "quality_drop", "agreement", "faster", "reference")
    return table([words[key] for key in keys], lines)


def _beside(reference: dict[str, Any]) -> str:
    """How good a published integer file is beside ours."""
    if "sqnr_db" in reference:
        return " / ".join(f"{value:.1f}" for value in reference["sqnr_db"]) + " dB"
    return f"{reference['behind_points']:.2f} (±{reference['interval']:.2f})"


def cost_table(words: dict[str, str]) -> list[str]:
    rows = [row for name in ("calibration", "export_time", "demo_time") for row in record(name)["rows"]]
    lines = []
    for row in rows:
        network = NETWORKS.get(row.get("network", ""), "")
        lines.append([words[row["figure"]].format(estimator=row.get("estimator"), network=network), f"{row['limit']:g}", f"{row['value']:.4g}"])
    return table([words[key] for key in ("figure", "limit", "measured")], lines)


def loading_table(words: dict[str, str]) -> list[str]:
    lines = []
    for row in record("loading")["rows"]:
        own = "–" if row["own_seconds"] is None else f"{row['own_seconds']:.2f}"
        grown = f"{row['value']:.2f}" if "value" in row else ""
        name = FORMATS[row["format"]]
        lines.append([name, row["file"], f"{row['bytes']:,}", f"{row['load_seconds']:.2f} / {own}", grown])
    return table([words[key] for key in ("format", "file", "size_bytes", "load", "grown")], lines)


def damaged_table(words: dict[str, str]) -> list[str]:
    lines = []
    for row in record("damaged")["rows"]:
        counts = [row["outcomes"].get("loaded", 0), row["outcomes"].get("refused", 0), row["value"]]
        lines.append([FORMATS[row["format"]], f"{row['files']:,}", *(f"{count:,}" for count in counts)])
    return table([words[key] for key in ("format", "files", "loaded", "refused", "findings")], lines)


def drawn(language: str) -> str:
    """All tables that there are results for."""
    words = TEXT[language]
    drawings = {"bytes": bytes_table, "latency": latency_table, "accuracy": accuracy_table, "cost": cost_table}
    drawings |= {
        "together": together_table,
        "pruning": pruning_table,
        "training": training_table,
        "networks": networks_table,
        "demo": demo_table,
        "loading": loading_table,
        "damaged": damaged_table,
    }
    parts = [[words["on"].format(**machine())]] if any(record(name)["rows"] for name in RECORDS) else []
    for name, draw in drawings.items():
        lines = draw(words)
        if len(lines) > 2:
            parts.append([words[f"{name}_title"] + elsewhere(name, words), "", *lines])
    return "\n\n".join("\n".join(part) for part in parts)


def training_table(words: dict[str, str]) -> list[str]:
    rows = record("training")["rows"]
    lines = [[words[row["figure"]], TRAINED[row["network"]], f"{row['limit']:g}", f"{row['value']:.2f}"] for row in rows]
    return table([words[key] for key in ("figure", "network", "limit", "measured")], lines)


def together_table(words: dict[str, str]) -> list[str]:
    """Networks that learned while they were made smaller: all steps together, then training with simulated integers alone."""
    lines = []
    for row in (*record("together")["rows"], *record("qat")["rows"]):
        stage = words[row["stage"]] if "stage" in row else words["aware"].format(weights=row["weights"])
        low, high = row["ci95"]
        smaller = f"{row['bytes']:,}" + (f" ({row['times_smaller']:.2f}; {row['packed_times_smaller']:.2f})" if "times_smaller" in row else "")
        faster = f"{row['speedup']:.2f}" if "speedup" in row else ""
        accuracies = f"{100 * row['float']:.2f} / {100 * row['accuracy']:.2f} %"
        lost = f"{row['value']:.2f} ({low:.2f} … {high:.2f})"
        lines.append([TRAINED[row["network"]], stage, TARGETS[row["target"]], accuracies, lost, smaller, faster])
    return table([words[key] for key in ("network", "stage", "runtime", "accuracies_of", "quality_drop", "smaller", "faster")], lines)


def pruning_table(words: dict[str, str]) -> list[str]:
    """Half of a network's arithmetic taken out in several ways, each row all its seeds."""
    rows, lines = record("pruning")["rows"], []
    runs = [row for row in rows if row["seed"] >= 0]
    for method in dict.fromkeys(row["method"] for row in runs):
        own = where(runs, method=method)
        accuracies = " / ".join(f"{100 * row['accuracy']:.2f} %" for row in own)
        behind = next((row for row in rows if row["method"] == f"ours - {method}"), None)
        low, high = behind["points_ci95"] if behind else (0.0, 0.0)
        ahead = f"{behind['points']:.2f} ({low:.2f} … {high:.2f})" if behind else ""
        faster = [" / ".join(f"{row[target]['speedup']:.2f}" for row in own) for target in ("onnxruntime", "litert")]
        lines.append([words.get(method, method), accuracies, ahead, f"{own[0]['macs_share']:.3f}", f"{own[0]['parameters']:,}", *faster])
    heads = [words[key] for key in ("method", "accuracy_by_seed", "ahead", "macs_share", "parameters")]
    return table([*heads, *(f"{words['faster']}, {TARGETS[target]}" for target in ("onnxruntime", "litert"))], lines)


def elsewhere(name: str, words: dict[str, str]) -> str:
    """What a table was measured on, where that is not what the others were."""
    found, usual = record(name).get("environment"), machine()["cpu"]
    own = _processor(found) if found else usual
    others: dict[str, list[str]] = {}
    for row in record(name)["rows"]:
        if "processor" in row:
            others.setdefault(row["processor"], []).append(_subject(row))
    parts = [words["elsewhere"].format(cpu=own)] * (own != usual)
    parts += [words["apart"].format(cpu=cpu, networks=", ".join(dict.fromkeys(names))) for cpu, names in others.items()]
    return "".join(parts)


def _subject(row: dict[str, Any]) -> str:
    """What a row is about."""
    return FORMATS[row["format"]] if "format" in row else TRAINED.get(row["network"], row["network"])


def _processor(environment: dict[str, Any]) -> str:
    return f"{environment['cpu']}, {environment['instruction_sets'][-1]}"


def machine() -> dict[str, Any]:
    """What the results were measured on."""
    found = next(one["environment"] for one in map(record, RECORDS) if one["rows"])
    named = ("torch", "onnxruntime", "ai-edge-litert", "executorch")
    versions = ", ".join(f"{name} {found['versions'][name]}" for name in named if name in found["versions"])
    return {"cpu": _processor(found), "versions": versions}
