"""onnxruntime's own operators that are refused, by the reason. A test compares them and the table with those of the installed version."""

from __future__ import annotations

from collections.abc import Mapping

_OTHER = "no exporter of networks for CPUs writes it; export without it"
# Reason -> names within the domain com.microsoft.
REASONS: Mapping[str, str] = {
    "it looks for a sequence step by step; export the network without its search": (
        "BeamSearch GreedySearch NGramRepeatBlock Sampling WhisperBeamSearch"
    ),
    "it keeps keys and values of earlier steps; export the network without them": (
        "DecoderAttention DecoderMaskedMultiHeadAttention DecoderMaskedSelfAttention DynamicSparseAttention GroupQueryAttention PagedAttention "
        "SparseAttention SparseAttentionIndexer SparsePagedAttention SpeculativePrefixCommit"
    ),
    "it works on texts that lie behind one another without padding; export without that packing": (
        "GatherPacked MatMulPacked MoEPacked PackedAttention PackedMultiHeadAttention PackedSparseAttentionIndexer "
        "PackedSparseAttentionIndexerMerge RemovePadding RestorePadding VarlenCausalConvWithState VarlenNGramHashMapping"
    ),
    "its weights are in a form of a single kernel; export them in float": (
        "DequantizeBFP DequantizeWithOrder GatherBlockQuantized GemmFloat8 MatMulBlockQuantizedFp4Weight MatMulBlockQuantizedFp8Weight MatMulBnb4 "
        "MatMulFpQ4 MatMulNBitsMlp MatMulNBitsQLoRA MatMulNBitsQkv QMoE QOrderedAttention QOrderedGelu QOrderedLayerNormalization "
        "QOrderedLongformerAttention QOrderedMatMul QuantizeBFP QuantizeWithOrder"
    ),
    "it sends each token to other weights; export without that": "MoE MoEGroupRouter RouterGateUpProj",
    "it carries a state from one run to the next; export without it": (
        "AttnLSTM CausalConvWithState ConvStateReplay GatedDeltaNet GatedDeltaNetStateReplay LinearAttention LinearAttentionGate Mamba2Verify"
    ),
    "it draws other numbers at every run; export in evaluation mode": "BitmaskBiasDropout BitmaskDropout",
    "it works on strings; do this before the network, and give it the numbers": "MurmurHash3 NGramHashMapping Tokenizer WordConvEmbedding",
    "it stands for a part of a network that another program compiled": "EPContext Snpe",
    "its sums of integers are of no float operator; export in float": "MatMulInteger16 MulInteger ReduceSumInteger",
    "the shape of its result depends on the numbers in the data": "Unique",
    "its integers have channels last; optimize the file at a lower level": "NhwcMaxPool",
    _OTHER: (
        "BifurcationDetector BranchwiseRMSNorm ComplexMul ComplexMulConj ConvTransposeWithDynamicPads CropAndResize DynamicTimeWarping EngramGate "
        "FusedMatMulActivation GatedAdd GatedRMSNorm GatedRelativePositionBias GemmFastGelu GemmaRotaryEmbedding HyperConnectionLowRankMix "
        "HyperConnectionPostMix HyperConnectionPreMix IsAllFinite Irfft LongformerAttention MRotaryEmbedding MaxpoolWithMask RMSNormRotary Range "
        "RelativePositionBias Rfft SampleOp ScaledSiLU SparseToDenseMatMul SwiGLU TorchEmbedding UnfoldTensor Inverse GatherND"
    ),
}
REFUSED: Mapping[str, str] = {f"com.microsoft.{name}": reason for reason, names in REASONS.items() for name in names.split()}
