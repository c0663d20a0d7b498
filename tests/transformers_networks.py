"""Small networks of Transformers with random weights, saved as checkpoints; and which runtimes have the operators of each."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch

TEXT = dict(
    vocab_size=60, hidden_size=16, num_hidden_layers=2, num_attention_heads=2, intermediate_size=24, max_position_embeddings=40, num_labels=3
)  # fmt: skip
IMAGE = dict(hidden_size=16, num_hidden_layers=2, num_attention_heads=2, intermediate_size=24, image_size=32, patch_size=8, num_labels=3)
STAGES = dict(embedding_size=8, hidden_sizes=[8, 16], depths=[1, 1], num_labels=3)
FOUR = dict(hidden_sizes=[8, 8, 16, 16], depths=[1, 1, 1, 1], num_labels=3)
SOUND = dict(
    hidden_size=16, num_hidden_layers=2, num_attention_heads=2, intermediate_size=24, conv_dim=[8] * 3, conv_stride=[5, 4, 4],
    conv_kernel=[10, 4, 4], num_conv_pos_embeddings=16, num_conv_pos_embedding_groups=4, classifier_proj_size=8, num_labels=3,
)  # fmt: skip
SPECTROGRAM = dict(
    hidden_size=16, num_hidden_layers=2, num_attention_heads=2, intermediate_size=24, patch_size=4, frequency_stride=4, time_stride=4,
    max_length=32, num_mel_bins=16, num_labels=3,
)  # fmt: skip
WHISPER = dict(
    d_model=16, encoder_layers=2, encoder_attention_heads=2, encoder_ffn_dim=24, num_mel_bins=16, max_source_positions=32, decoder_layers=1,
    decoder_attention_heads=2, decoder_ffn_dim=24, classifier_proj_size=8, num_labels=3, vocab_size=60, pad_token_id=0, bos_token_id=1,
    eos_token_id=2, decoder_start_token_id=1,
)  # fmt: skip
TOKENS, SAMPLES, SIDE = 12, 2000, 64


@dataclass(frozen=True)
class Case:
    """A network: its name and configuration, and why a runtime cannot run it."""

    architecture: str
    config: str
    options: dict[str, Any] = field(default_factory=dict)
    refused: dict[str, str] = field(default_factory=dict)

    @property
    def kind(self) -> str:
        return "image" if "Image" in self.architecture else "sound" if self.config in SOUNDS else "text"


SOUNDS = {"Wav2Vec2Config", "HubertConfig", "SEWConfig", "ASTConfig", "WhisperConfig"}
DEBERTA = dict(TEXT, relative_attention=True, pos_att_type=["p2c", "c2p"])
CASES = [
    Case("BertForSequenceClassification", "BertConfig", TEXT),
    Case("BertForTokenClassification", "BertConfig", TEXT),
    Case("BertForSequenceClassification", "BertConfig", dict(TEXT, num_labels=1)),
    Case(
        "DistilBertForSequenceClassification",
        "DistilBertConfig",
        dict(vocab_size=60, dim=16, n_layers=2, n_heads=2, hidden_dim=24, max_position_embeddings=40, num_labels=3),
    ),
    Case("RobertaForSequenceClassification", "RobertaConfig", dict(TEXT, pad_token_id=1)),
    Case("AlbertForSequenceClassification", "AlbertConfig", dict(TEXT, embedding_size=8)),
    Case(
        "MobileBertForSequenceClassification",
        "MobileBertConfig",
        dict(TEXT, embedding_size=8, intra_bottleneck_size=8, num_feedforward_networks=2),
    ),
    Case("ElectraForSequenceClassification", "ElectraConfig", dict(TEXT, embedding_size=8)),
    Case(
        "DebertaForSequenceClassification",
        "DebertaConfig",
        dict(DEBERTA, max_relative_positions=8),
        {"executorch": "XNNPACK fails when the file runs: Propagating input shapes failed"},
    ),
    Case(
        "DebertaV2ForSequenceClassification",
        "DebertaV2Config",
        dict(DEBERTA, position_buckets=8, share_att_key=True, norm_rel_ebd="layer_norm", position_biased_input=False),
    ),
    Case("ViTForImageClassification", "ViTConfig", IMAGE),
    Case("DeiTForImageClassification", "DeiTConfig", IMAGE),
    Case("BeitForImageClassification", "BeitConfig", dict(IMAGE, use_relative_position_bias=True)),
    Case("Dinov2ForImageClassification", "Dinov2Config", dict(IMAGE, image_size=28, patch_size=7)),
    Case(
        "SwinForImageClassification",
        "SwinConfig",
        dict(image_size=32, patch_size=4, embed_dim=8, depths=[2, 2], num_heads=[2, 2], window_size=4, num_labels=3),
    ),
    Case("ConvNextForImageClassification", "ConvNextConfig", dict(num_stages=2, hidden_sizes=[8, 16], depths=[1, 1], image_size=32, num_labels=3)),
    Case("ResNetForImageClassification", "ResNetConfig", dict(STAGES, layer_type="basic")),
    Case("RegNetForImageClassification", "RegNetConfig", dict(STAGES, groups_width=4)),
    Case("MobileNetV1ForImageClassification", "MobileNetV1Config", dict(image_size=32, depth_multiplier=0.25, num_labels=3)),
    Case("MobileNetV2ForImageClassification", "MobileNetV2Config", dict(image_size=32, depth_multiplier=0.25, num_labels=3)),
    Case(
        "EfficientNetForImageClassification",
        "EfficientNetConfig",
        dict(image_size=32, width_coefficient=0.25, depth_coefficient=0.3, hidden_dim=320, num_labels=3),
    ),
    Case(
        "MobileViTForImageClassification",
        "MobileViTConfig",
        dict(image_size=64, hidden_sizes=[16, 24, 32], neck_hidden_sizes=[4, 8, 8, 16, 16, 16, 32], num_attention_heads=2, num_labels=3),
    ),
    Case("PoolFormerForImageClassification", "PoolFormerConfig", FOUR),
    Case("SegformerForImageClassification", "SegformerConfig", dict(FOUR, num_attention_heads=[1, 1, 2, 2], sr_ratios=[8, 4, 2, 1])),
    Case("Wav2Vec2ForSequenceClassification", "Wav2Vec2Config", SOUND),
    Case("HubertForSequenceClassification", "HubertConfig", SOUND),
    Case("SEWForSequenceClassification", "SEWConfig", dict(SOUND, squeeze_factor=2)),
    Case("ASTForAudioClassification", "ASTConfig", SPECTROGRAM),
    Case("WhisperForAudioClassification", "WhisperConfig", WHISPER),
]


def saved(case: Case, folder: Path, image: bool | None = None) -> torch.nn.Module:
    """A network with seeded random weights, saved to a folder; with a processor where it takes images and does not say of which size."""
    import transformers
    from transformers.models.vit.image_processing_pil_vit import ViTImageProcessorPil
    from transformers.utils import logging

    logging.disable_progress_bar()
    torch.manual_seed(0)
    config = getattr(transformers, case.config)(**case.options)
    network = getattr(transformers, case.architecture)._from_config(config, attn_implementation="eager").eval()
    for parameter in network.parameters():
        parameter.data += 0.05 * torch.randn_like(parameter)
    for name, buffer in network.named_buffers():
        if name.endswith("running_mean"):
            buffer.copy_(0.1 * torch.randn_like(buffer))
    network.save_pretrained(folder)
    if (case.kind == "image" if image is None else image) and "image_size" not in case.options:
        ViTImageProcessorPil(size={"height": SIDE, "width": SIDE}).save_pretrained(folder)
    return network


def learning(network: torch.nn.Module) -> torch.nn.Module:
    """The network in training mode, and nothing in it drops any more."""
    for part in network.train().modules():
        for share in ("p", "dropout", "drop_prob", "activation_dropout", "attention_dropout"):
            if isinstance(getattr(part, share, None), float):
                setattr(part, share, 0.0)
        if hasattr(part, "config"):  # sounds lose spans of time and whole layers
            part.config.apply_spec_augment, part.config.layerdrop = False, 0.0
    return network


def samples(case: Case, network: torch.nn.Module, seed: int = 0) -> tuple[np.ndarray, ...]:
    """Three samples, in the order of the network's inputs; of the texts, one is shorter than the others."""
    generator = np.random.default_rng(seed)
    if case.kind == "text":
        ids = generator.integers(3, 60, (3, TOKENS))
        mask = np.ones_like(ids)
        mask[1, 8:], ids[1, 8:] = 0, network.config.pad_token_id
        return ids, mask
    side = case.options.get("image_size", SIDE)
    shape = {"ASTConfig": (32, 16), "WhisperConfig": (16, 64)}.get(case.config, (SAMPLES,)) if case.kind == "sound" else (3, side, side)
    return (generator.standard_normal((3, *shape)).astype(np.float32),)


def options(case: Case) -> dict[str, Any]:
    """What `tersenet.load` is told beside the folder."""
    return {"length": TOKENS} if case.kind == "text" else {"length": SAMPLES} if case.options.get("conv_dim") else {}
