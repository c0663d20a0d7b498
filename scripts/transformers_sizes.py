"""Small configurations of the classifiers that Transformers lists, by type of model."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

# What a number of a configuration becomes, by its name.
SMALL: Mapping[str, Any] = {
    **dict.fromkeys(("vocab_size", "entity_vocab_size", "pronunciation_vocab_size", "shape_vocab_size", "num_hash_buckets"), 60),
    **dict.fromkeys(("hidden_size", "d_model", "n_embd", "dim", "emb_dim", "pooler_hidden_size", "output_hidden_size"), 16),
    **dict.fromkeys(("pooler_output_size", "pronunciation_embed_dim", "shape_embed_dim", "entity_emb_size", "prediction_head_size"), 16),
    **dict.fromkeys(("word_embed_proj_dim", "input_embedding_size", "output_embedding_size", "projection_dim", "moe_intermediate_size"), 16),
    **dict.fromkeys(("intermediate_size", "encoder_ffn_dim", "decoder_ffn_dim", "hidden_dim", "d_inner", "dff", "d_ff", "ffn_dim"), 24),
    **dict.fromkeys(("ffn_hidden_size", "feed_forward_size", "shared_expert_intermediate_size"), 24),
    **dict.fromkeys(("num_hidden_layers", "encoder_layers", "n_layer", "n_layers", "num_layers"), 2),
    **dict.fromkeys(("decoder_layers", "num_decoder_layers", "num_self_attends_per_block", "first_k_dense_replace"), 1),
    **dict.fromkeys(("num_attention_heads", "encoder_attention_heads", "decoder_attention_heads", "n_head", "n_heads", "num_heads"), 2),
    **dict.fromkeys(("num_key_value_heads", "num_kv_heads", "num_self_attention_heads", "num_cross_attention_heads", "num_query_groups"), 2),
    **dict.fromkeys(("head_dim", "d_kv", "d_head", "kv_channels", "v_head_dim", "query_pre_attn_scalar", "attention_head_size"), 8),
    **dict.fromkeys(("embedding_size", "qk_rope_head_dim", "qk_nope_head_dim", "kv_lora_rank", "q_lora_rank", "index_head_dim"), 8),
    **dict.fromkeys(("num_latents", "d_latents", "gated_norm_rank", "prompt_length", "prompt_mid_dim", "adapter_rank", "rotary_dim"), 8),
    **dict.fromkeys(("classifier_proj_size", "xpath_unit_hidden_size", "coordinate_size", "shape_size", "index_topk"), 8),
    **dict.fromkeys(("num_experts", "num_local_experts", "n_routed_experts"), 4),
    **dict.fromkeys(("num_experts_per_tok", "topk_group", "n_group", "n_shared_experts", "index_n_heads", "moe_topk"), 1),
    **dict.fromkeys(("max_position_embeddings", "n_positions", "max_seq_len", "max_2d_position_embeddings"), 64),
    "qk_head_dim": 16, "pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2, "image_size": 32, "patch_size": 8, "window_size": 4,
    "embed_dim": 8,
}  # fmt: skip

_SOUND: dict[str, Any] = dict(
    conv_dim=[8] * 3, conv_stride=[5, 4, 4], conv_kernel=[10, 4, 4], num_conv_pos_embeddings=16, num_conv_pos_embedding_groups=4
)  # fmt: skip
_FOUR: dict[str, Any] = dict(hidden_sizes=[8, 8, 16, 16], depths=[1, 1, 1, 1])
_TWO: dict[str, Any] = dict(embed_dim=8, depths=[1, 1], num_heads=[2, 2], patch_size=4)
_HEADS: dict[str, Any] = dict(head_dim=8)
# And what else a type of model needs, or has otherwise than the table above.
OWN: Mapping[str, dict[str, Any]] = {
    "bit": dict(_FOUR, hidden_sizes=[16, 16, 32, 32], embedding_size=16, num_groups=4),
    "cvt": dict(embed_dim=[8, 16, 24], num_heads=[1, 2, 3], depth=[1, 2, 3]),
    "convnextv2": dict(num_stages=2, hidden_sizes=[8, 16], depths=[1, 1], patch_size=4),
    "convnext": dict(num_stages=2, hidden_sizes=[8, 16], depths=[1, 1], patch_size=4),
    "data2vec-audio": dict(_SOUND, num_conv_pos_embeddings=2),
    "data2vec-vision": dict(use_relative_position_bias=True, out_indices=[0, 1, 0, 1]),
    "dinov2": dict(image_size=28, patch_size=7),
    "donut-swin": _TWO,
    "efficientnet": dict(width_coefficient=0.25, depth_coefficient=0.3, hidden_dim=320),
    "focalnet": dict(embed_dim=8, hidden_sizes=[8, 16], depths=[1, 1], focal_levels=[2, 2], focal_windows=[3, 3], patch_size=4),
    "hgnet_v2": dict(
        _FOUR, stem_channels=[3, 8, 8], stage_in_channels=[8, 16, 16, 16], stage_mid_channels=[8] * 4, stage_out_channels=[16] * 4,
        stage_num_blocks=[1] * 4, stage_numb_of_layers=[2] * 4,
    ),
    "hiera": dict(depths=[1, 1, 1, 1], num_heads=[1, 2, 2, 2], image_size=[64, 64], patch_size=[7, 7]),
    "hubert": _SOUND,
    "levit": dict(hidden_sizes=[16, 24, 32], num_attention_heads=[2, 2, 2], depths=[1] * 3, key_dim=[8] * 3, image_size=64, patch_size=16),
    "mobilevit": dict(
        image_size=64, hidden_sizes=[16, 24, 32], neck_hidden_sizes=[4, 8, 8, 16, 16, 16, 32], patch_size=2
    ),
    "mobilevitv2": dict(image_size=64, patch_size=2, width_multiplier=0.5),
    "mobilenet_v1": dict(depth_multiplier=0.25),
    "mobilenet_v2": dict(depth_multiplier=0.25),
    "poolformer": dict(_FOUR, patch_size=16),
    "pp_lcnet": dict(scale=0.25),
    "pvt": dict(_FOUR, num_attention_heads=[1, 1, 2, 2], image_size=64),
    "pvt_v2": dict(_FOUR, num_attention_heads=[1, 1, 2, 2], image_size=64),
    "regnet": dict(_FOUR, groups_width=4),
    "resnet": dict(_FOUR, embedding_size=8),
    "segformer": dict(_FOUR, num_attention_heads=[1, 1, 2, 2]),
    "sew": dict(_SOUND, squeeze_factor=2),
    "sew-d": dict(_SOUND, squeeze_factor=2, position_buckets=8),
    "swiftformer": dict(embed_dims=[8, 8, 16, 16], depths=[1] * 4, image_size=64),
    "swin": _TWO,
    "swinv2": dict(_TWO, pretrained_window_sizes=[0, 0]),
    "textnet": dict(
        hidden_sizes=[8, 8, 8, 16, 16], stem_out_channels=8, image_size=[64, 64], conv_layer_strides=[[1], [2], [2], [2]],
        conv_layer_kernel_sizes=[[[3, 3]], [[1, 3]], [[3, 1]], [[3, 3]]],
    ),
    "unispeech": _SOUND,
    "unispeech-sat": _SOUND,
    "wav2vec2": _SOUND,
    "wav2vec2-bert": dict(conv_depthwise_kernel_size=3),
    "wav2vec2-conformer": dict(_SOUND, conv_depthwise_kernel_size=3),
    "wavlm": _SOUND,
    "audio-spectrogram-transformer": dict(patch_size=4, frequency_stride=4, time_stride=4, max_length=32, num_mel_bins=16),
    "whisper": dict(num_mel_bins=16, max_source_positions=32, decoder_start_token_id=1),
    "canine": dict(local_transformer_stride=4, max_position_embeddings=64, num_hash_functions=2),
    "deberta": dict(relative_attention=True, pos_att_type=["p2c", "c2p"], max_relative_positions=8),
    "deberta-v2": dict(relative_attention=True, pos_att_type=["p2c", "c2p"], position_buckets=8, share_att_key=True, norm_rel_ebd="layer_norm"),
    "funnel": dict(block_sizes=[1, 1], num_decoder_layers=1),
    "gpt_neo": dict(attention_types=[[["global", "local"], 1]]),
    "longformer": dict(attention_window=4),
    "mobilebert": dict(intra_bottleneck_size=8, num_feedforward_networks=2),
    "layoutlmv3": dict(coordinate_size=2, shape_size=4),
    "lilt": dict(hidden_size=24),
    "nystromformer": dict(num_landmarks=12, segment_means_seq_len=12),
    "squeezebert": dict(embedding_size=16),
    "t5": dict(decoder_start_token_id=0),
    "nemotron": dict(num_key_value_heads=2),
    "esm": dict(vocab_size=60),
    "deepseek_v2": dict(num_experts_per_tok=1),
    "perceiver": dict(num_self_attention_heads=1, num_cross_attention_heads=1),
    "ministral": _HEADS,
    "hunyuan_v1_dense": _HEADS,
    "hunyuan_v1_moe": _HEADS,
    "reformer": dict(
        axial_pos_shape=[8, 8], axial_pos_embds_dim=[8, 8], attn_layers=["local", "lsh"], local_attn_chunk_length=4, lsh_attn_chunk_length=4
    ),
    "roberta": dict(pad_token_id=1),
}  # fmt: skip


def small(config_class: Any, model_type: str = "") -> dict[str, Any]:
    """Options of a configuration that make its network a small one; those of the configurations inside it too."""
    held, own = config_class().to_dict(), OWN.get(model_type, {})
    inner = {name: small(part) for name, part in config_class.sub_configs.items() if isinstance(held.get(name), dict) and hasattr(part, "to_dict")}
    plain = {name: value for name, value in SMALL.items() if isinstance(held.get(name), int) or (name.endswith("token_id") and name in held)}
    return {**plain, **inner, **own}
