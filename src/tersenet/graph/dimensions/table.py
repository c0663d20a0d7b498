"""The rule of each ATen operator: how the axes of its result follow from those of its inputs, and which must be cut alike."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from tersenet.graph.dimensions import elementwise, movement, normalization, products, recurrent, reshape
from tersenet.graph.dimensions.site import Site, Value

Rule = Callable[[Site], Value]

_UNARY = """
    relu relu6 relu_ leaky_relu elu selu celu sigmoid tanh hardtanh hardsigmoid hardswish silu mish gelu softplus softsign log_sigmoid hardshrink
    softshrink tanhshrink threshold dropout feature_dropout alpha_dropout feature_alpha_dropout
    abs neg exp exp2 expm1 log log2 log10 log1p sqrt rsqrt reciprocal square sin cos tan asin acos atan sinh cosh erf erfc floor ceil round trunc
    frac sign sgn logical_not bitwise_not isnan isinf isfinite nan_to_num positive
    to _to_copy type_as contiguous clone detach alias lift_fresh_copy zeros_like ones_like full_like empty_like rand_like
    fake_quantize_per_tensor_affine absolute negative arcsin arccos arctan asinh acosh atanh arcsinh arccosh arctanh fix sinc deg2rad rad2deg
    erfinv logit rrelu special_expit special_erf special_erfc special_exp2 special_expm1 special_log1p special_logit
"""
_ELEMENTWISE = """
    add sub rsub mul div floor_divide remainder fmod maximum minimum pow atan2 where masked_fill lerp addcmul addcdiv
    eq ne lt le gt ge logical_and logical_or logical_xor __and__ __or__ __xor__ bitwise_and bitwise_or bitwise_xor copy fill
    multiply subtract divide true_divide float_power greater greater_equal less less_equal not_equal logaddexp logaddexp2 hypot xlogy arctan2
"""
_REDUCTIONS = "mean sum amax amin var std prod logsumexp linalg_vector_norm norm all any nansum var_mean std_mean aminmax"
_ALONG = "softmax _softmax log_softmax _log_softmax cumsum cumprod cummax cummin logcumsumexp sort topk"
_PLACES = """
    max_pool1d max_pool2d max_pool3d max_pool2d_with_indices avg_pool1d avg_pool2d avg_pool3d
    adaptive_avg_pool1d adaptive_avg_pool2d adaptive_avg_pool3d adaptive_max_pool1d adaptive_max_pool2d _adaptive_avg_pool2d
    upsample_nearest1d upsample_nearest2d upsample_nearest3d _upsample_nearest_exact2d upsample_linear1d upsample_bilinear2d upsample_bicubic2d
    upsample_trilinear3d adaptive_max_pool3d
    reflection_pad1d reflection_pad2d replication_pad1d replication_pad2d
"""


def _all(names: str, rule: Rule) -> dict[str, Rule]:
    return dict.fromkeys(names.split(), rule)


RULES: Mapping[str, Rule] = {
    **_all(_UNARY, elementwise.first),
    **_all(_ELEMENTWISE, elementwise.elementwise),
    **_all("clamp clamp_min clamp_max clip", elementwise.limited),
    **_all(_REDUCTIONS, elementwise.reduced),
    **_all("argmax argmin max min median nanmedian", elementwise.reduced_whole),
    **_all(_ALONG, elementwise.along),
    **_all(_PLACES, elementwise.places),
    **_all("zeros ones full empty new_zeros new_ones new_full new_empty", elementwise.filled),
    **_all("arange scalar_tensor linspace", elementwise.counted),
    "prelu": elementwise.prelu,
    "glu": movement.glu,
    "sym_size": elementwise.size,
    # products
    **_all("conv1d conv2d conv3d convolution conv_transpose1d conv_transpose2d conv_transpose3d", products.convolution),
    "linear": products.linear,
    **_all("matmul bmm mm mv addmm baddbmm", products.product),
    "scaled_dot_product_attention": products.attention,
    "embedding": products.embedding,
    "einsum": products.einsum,
    "tensordot": products.tensordot,
    **_all("outer ger", products.outer),
    "bilinear": products.bilinear,
    **_all("cosine_similarity pairwise_distance", products.similarity),
    "cdist": products.distances,
    # normalizations
    **_all("batch_norm instance_norm", normalization.batch_norm),
    **_all("layer_norm rms_norm", normalization.layer_norm),
    "group_norm": normalization.group_norm,
    "_weight_norm": normalization.weight_norm,
    # recurrent
    **_all("lstm gru rnn_tanh rnn_relu", recurrent.recurrent),
    **_all("lstm_cell gru_cell rnn_tanh_cell rnn_relu_cell", recurrent.cell),
    # movement
    **_all("view reshape _unsafe_view flatten unflatten ravel", reshape.reshape),
    **_all("view_as reshape_as", reshape.reshape_as),
    **_all("squeeze unsqueeze", movement.squeeze),
    "permute": movement.permute,
    **_all("transpose swapdims swapaxes", movement.transpose),
    **_all("movedim moveaxis", movement.moved),
    **_all("mT mH adjoint", movement.last_two),
    **_all("t numpy_T", movement.reversed_axes),
    **_all("expand broadcast_to", movement.expand),
    "expand_as": movement.expand_as,
    **_all("repeat tile", movement.repeat),
    "repeat_interleave": movement.repeat_interleave,
    **_all("cat concat concatenate hstack", movement.concatenate),
    **_all("vstack row_stack", movement.piled),
    "column_stack": movement.columns,
    "stack": movement.stack,
    **_all("split split_with_sizes chunk tensor_split", movement.split),
    "unbind": movement.unbind,
    **_all("slice narrow", movement.slice_),
    "select": movement.select,
    "index_select": movement.index_select,
    "index": movement.index,
    "gather": movement.gather,
    **_all("flip flipud fliplr", movement.flip),
    "roll": movement.roll,
    **_all("pad constant_pad_nd", movement.pad),
    "pixel_shuffle": movement.pixel_shuffle,
    "pixel_unshuffle": movement.pixel_unshuffle,
    "channel_shuffle": movement.channel_shuffle,
    "im2col": movement.unfold,
    "col2im": movement.fold,
    "unfold": movement.windows,
    **_all("grid_sampler grid_sampler_2d grid_sampler_3d", movement.sampled),
    **_all("rot90 tril triu diagonal", movement.turned),
    **_all("select_scatter slice_scatter", movement.scatter_select),
}


def rule_of(name: str) -> Rule:
    """The rule of an ATen operator by its name without overload (``conv2d``); one that pins everything where there is none."""
    return RULES.get(name, elementwise.without_rule)
