"""Operators of ATen that a file may name: they compute on tensors and touch nothing else. (``aten::from_file``, for one, reads the disk.)"""

from __future__ import annotations

_ARITHMETIC = """
__and__ __or__ __xor__
abs acos acosh add addcdiv addcmul addmm addmv alias all amax amin any arange argmax argmin argsort asin asinh atan atan2 atanh baddbmm
bernoulli bitwise_and bitwise_left_shift bitwise_not bitwise_or bitwise_right_shift bitwise_xor bmm bucketize ceil clamp clamp_max clamp_min
copysign cos cosh cross cummax cummin cumprod cumsum deg2rad diff div divide dot dropout einsum empty empty_like eq erf erfc erfinv exp exp2
expm1 eye fill floor floor_divide fmod frac full full_like ge greater greater_equal gt heaviside hypot isfinite isinf isnan le lerp less
less_equal linalg_vector_norm linspace log log10 log1p log2 logaddexp logaddexp2 logcumsumexp logical_and logical_not logical_or logical_xor
logit logsumexp lt masked_fill matmul max maximum mean median min minimum mm mul multiply mv ne neg negative new_empty new_full new_ones
new_zeros norm not_equal ones ones_like outer polar pow prod rad2deg reciprocal relu remainder round rsqrt rsub scalar_tensor sgn sigmoid
sign signbit sin sinc sinh sort sqrt square std std_mean sub subtract sum tan tanh tensordot topk tril triu true_divide trunc var var_mean
where xlogy zeros zeros_like
"""
_NETWORKS = """
_adaptive_avg_pool2d _adaptive_avg_pool3d _log_softmax _native_batch_norm_legit_no_training _scaled_dot_product_flash_attention_for_cpu
_softmax _upsample_nearest_exact2d adaptive_avg_pool1d adaptive_avg_pool2d adaptive_avg_pool3d adaptive_max_pool1d adaptive_max_pool2d
affine_grid_generator alpha_dropout avg_pool1d avg_pool2d avg_pool3d batch_norm bilinear celu channel_shuffle conv1d conv2d conv3d
conv_transpose1d conv_transpose2d conv_transpose3d convolution cosine_similarity elu embedding embedding_bag feature_dropout gelu glu
grid_sampler grid_sampler_2d group_norm gru gru_cell hardshrink hardsigmoid hardswish hardtanh instance_norm layer_norm leaky_relu linear
log_sigmoid log_softmax lstm lstm_cell max_pool1d max_pool2d max_pool2d_with_indices max_pool3d mish native_batch_norm native_dropout
native_group_norm native_layer_norm one_hot pairwise_distance pixel_shuffle pixel_unshuffle prelu relu6 rms_norm rnn_relu rnn_tanh rrelu
scaled_dot_product_attention selu silu softmax softplus softshrink softsign tanhshrink threshold upsample_bicubic2d upsample_bilinear2d
upsample_linear1d upsample_nearest1d upsample_nearest2d upsample_nearest3d upsample_trilinear3d
"""
_SHAPES = """
_reshape_alias _shape_as_tensor _to_copy _unsafe_view as_strided broadcast_tensors broadcast_to cat chunk clone concat concatenate
constant_pad_nd contiguous copy detach diagonal expand expand_as flatten flip gather hstack im2col index index_add index_copy index_put
index_select lift_fresh lift_fresh_copy masked_scatter meshgrid movedim narrow numel numpy_T pad permute pixel_shuffle ravel
reflection_pad1d reflection_pad2d repeat repeat_interleave replication_pad1d replication_pad2d reshape reshape_as roll rot90 scatter
scatter_add scatter_reduce select select_scatter size slice slice_scatter split split_with_sizes squeeze stack swapaxes swapdims sym_numel
sym_size sym_storage_offset sym_stride t take take_along_dim tensor_split tile to transpose type_as unbind unflatten unfold unsqueeze view
view_as vstack zero
"""
_STATED = """
_assert_async _assert_scalar _assert_tensor_metadata sym_constrain_range sym_constrain_range_for_size
"""
_FUNCTIONAL = frozenset(f"{_ARITHMETIC} {_NETWORKS} {_SHAPES}".split())
# Those that write into their first argument end in an underscore.
OPERATORS: frozenset[str] = _FUNCTIONAL | {f"{name}_" for name in _FUNCTIONAL} | set(_STATED.split())
