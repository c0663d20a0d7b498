"""The table of Keras layers: each class of ``keras.layers`` is converted by one function, or refused with the reason. A test compares it
with Keras's own list; a few classes are of Keras 2, whose files still come."""

from __future__ import annotations

from collections.abc import Mapping

_AT = "tersenet.frontends.keras.layers."

# Class -> where the function is that converts it.
LAYERS: Mapping[str, tuple[str, str]] = {
    # with weights
    "Dense": (_AT + "dense", "dense"),
    "EinsumDense": (_AT + "dense", "einsum_dense"),
    "Embedding": (_AT + "dense", "embedding"),
    "ReversibleEmbedding": (_AT + "dense", "reversible_embedding"),
    "Conv1D": (_AT + "convolution", "conv1d"),
    "Conv2D": (_AT + "convolution", "conv2d"),
    "Conv3D": (_AT + "convolution", "conv3d"),
    "DepthwiseConv1D": (_AT + "convolution", "depthwise1d"),
    "DepthwiseConv2D": (_AT + "convolution", "depthwise2d"),
    "SeparableConv1D": (_AT + "convolution", "separable1d"),
    "SeparableConv2D": (_AT + "convolution", "separable2d"),
    "Conv1DTranspose": (_AT + "transposed", "transposed1d"),
    "Conv2DTranspose": (_AT + "transposed", "transposed2d"),
    "Conv3DTranspose": (_AT + "transposed", "transposed3d"),
    # sequences
    "LSTM": (_AT + "recurrent", "lstm"),
    "GRU": (_AT + "recurrent", "gru"),
    "SimpleRNN": (_AT + "recurrent", "simple"),
    "RNN": (_AT + "recurrent", "rnn"),
    "CuDNNGRU": (_AT + "recurrent", "cudnn_gru"),  # of Keras 2
    "CuDNNLSTM": (_AT + "recurrent", "cudnn_lstm"),  # of Keras 2
    "ConvLSTM1D": (_AT + "convolutional_recurrent", "convolutional1d"),
    "ConvLSTM2D": (_AT + "convolutional_recurrent", "convolutional2d"),
    "ConvLSTM3D": (_AT + "convolutional_recurrent", "convolutional3d"),
    "Bidirectional": (_AT + "wrappers", "bidirectional"),
    "TimeDistributed": (_AT + "wrappers", "time_distributed"),
    "Attention": (_AT + "attention", "attention"),
    "AdditiveAttention": (_AT + "attention", "additive"),
    "MultiHeadAttention": (_AT + "attention", "multi_head"),
    "GroupQueryAttention": (_AT + "attention", "grouped_query"),
    "GroupedQueryAttention": (_AT + "attention", "grouped_query"),
    # activations
    "Activation": (_AT + "activation_layers", "activation"),
    "ELU": (_AT + "activation_layers", "elu"),
    "LeakyReLU": (_AT + "activation_layers", "leaky"),
    "PReLU": (_AT + "activation_layers", "parametric"),
    "ReLU": (_AT + "activation_layers", "rectifier"),
    "Softmax": (_AT + "activation_layers", "softmax"),
    "ThresholdedReLU": (_AT + "activation_layers", "thresholded"),  # of Keras 2
    # normalization
    "BatchNormalization": (_AT + "normalization", "batch_normalization"),
    "GroupNormalization": (_AT + "normalization", "group_normalization"),
    "LayerNormalization": (_AT + "normalization", "layer_normalization"),
    "RMSNormalization": (_AT + "normalization", "rms_normalization"),
    "SpectralNormalization": (_AT + "normalization", "spectral_normalization"),
    "UnitNormalization": (_AT + "normalization", "unit_normalization"),
    "SyncBatchNormalization": (_AT + "normalization", "batch_normalization"),  # of Keras 2
    # pooling
    "AdaptiveAveragePooling1D": (_AT + "pooling", "adaptive_mean1d"),
    "AdaptiveAveragePooling2D": (_AT + "pooling", "adaptive_mean2d"),
    "AdaptiveAveragePooling3D": (_AT + "pooling", "adaptive_mean3d"),
    "AdaptiveMaxPooling1D": (_AT + "pooling", "adaptive_max1d"),
    "AdaptiveMaxPooling2D": (_AT + "pooling", "adaptive_max2d"),
    "AdaptiveMaxPooling3D": (_AT + "pooling", "adaptive_max3d"),
    "AveragePooling1D": (_AT + "pooling", "mean1d"),
    "AveragePooling2D": (_AT + "pooling", "mean2d"),
    "AveragePooling3D": (_AT + "pooling", "mean3d"),
    "GlobalAveragePooling1D": (_AT + "pooling", "global_mean1d"),
    "GlobalAveragePooling2D": (_AT + "pooling", "global_mean2d"),
    "GlobalAveragePooling3D": (_AT + "pooling", "global_mean3d"),
    "GlobalMaxPooling1D": (_AT + "pooling", "global_max1d"),
    "GlobalMaxPooling2D": (_AT + "pooling", "global_max2d"),
    "GlobalMaxPooling3D": (_AT + "pooling", "global_max3d"),
    "MaxPooling1D": (_AT + "pooling", "max1d"),
    "MaxPooling2D": (_AT + "pooling", "max2d"),
    "MaxPooling3D": (_AT + "pooling", "max3d"),
    # several tensors to one
    "Add": (_AT + "merging", "add"),
    "Average": (_AT + "merging", "average"),
    "Concatenate": (_AT + "merging", "concatenate"),
    "Dot": (_AT + "merging", "dot"),
    "Maximum": (_AT + "merging", "maximum"),
    "Minimum": (_AT + "merging", "minimum"),
    "Multiply": (_AT + "merging", "multiply"),
    "Subtract": (_AT + "merging", "subtract"),
    # movement
    "Cropping1D": (_AT + "reshaping", "cropping1d"),
    "Cropping2D": (_AT + "reshaping", "cropping2d"),
    "Cropping3D": (_AT + "reshaping", "cropping3d"),
    "Flatten": (_AT + "reshaping", "flatten"),
    "Identity": (_AT + "dense", "identity"),
    "InputLayer": (_AT + "dense", "identity"),
    "Masking": (_AT + "dense", "masking"),
    "Permute": (_AT + "reshaping", "permute"),
    "RepeatVector": (_AT + "reshaping", "repeat_vector"),
    "Reshape": (_AT + "reshaping", "reshape"),
    "UpSampling1D": (_AT + "resizing", "upsampling1d"),
    "UpSampling2D": (_AT + "resizing", "upsampling2d"),
    "UpSampling3D": (_AT + "resizing", "upsampling3d"),
    "ZeroPadding1D": (_AT + "reshaping", "zero_padding1d"),
    "ZeroPadding2D": (_AT + "reshaping", "zero_padding2d"),
    "ZeroPadding3D": (_AT + "reshaping", "zero_padding3d"),
    # what training alone feels
    "ActivityRegularization": (_AT + "dense", "identity"),
    "AlphaDropout": (_AT + "regularization", "alpha_dropout"),
    "Dropout": (_AT + "regularization", "dropout"),
    "GaussianDropout": (_AT + "regularization", "gaussian_dropout"),
    "GaussianNoise": (_AT + "regularization", "gaussian_noise"),
    "SpatialDropout1D": (_AT + "regularization", "spatial_dropout1d"),
    "SpatialDropout2D": (_AT + "regularization", "spatial_dropout2d"),
    "SpatialDropout3D": (_AT + "regularization", "spatial_dropout3d"),
    # preprocessing
    "AutoContrast": (_AT + "preprocessing", "auto_contrast"),
    "CategoryEncoding": (_AT + "categories", "category_encoding"),
    "CenterCrop": (_AT + "resizing", "center_crop"),
    "Discretization": (_AT + "categories", "discretization"),
    "IntegerLookup": (_AT + "categories", "integer_lookup"),
    "MelSpectrogram": (_AT + "spectrogram", "mel_spectrogram"),
    "Normalization": (_AT + "preprocessing", "normalization"),
    "Pipeline": (_AT + "preprocessing", "pipeline"),
    "Rescaling": (_AT + "preprocessing", "rescaling"),
    "Resizing": (_AT + "resizing", "resizing"),
    "STFTSpectrogram": (_AT + "spectrogram", "stft"),
    # augmentation, which evaluation does not feel
    "AugMix": (_AT + "preprocessing", "augmentation"),
    "CutMix": (_AT + "preprocessing", "augmentation"),
    "Equalization": (_AT + "preprocessing", "augmentation"),
    "MixUp": (_AT + "preprocessing", "augmentation"),
    "RandAugment": (_AT + "preprocessing", "augmentation"),
    "RandomBrightness": (_AT + "preprocessing", "augmentation"),
    "RandomColorDegeneration": (_AT + "preprocessing", "augmentation"),
    "RandomColorJitter": (_AT + "preprocessing", "augmentation"),
    "RandomContrast": (_AT + "preprocessing", "augmentation"),
    "RandomCrop": (_AT + "resizing", "random_crop"),
    "RandomElasticTransform": (_AT + "preprocessing", "augmentation"),
    "RandomErasing": (_AT + "preprocessing", "augmentation"),
    "RandomFlip": (_AT + "preprocessing", "augmentation"),
    "RandomGaussianBlur": (_AT + "preprocessing", "augmentation"),
    "RandomGrayscale": (_AT + "preprocessing", "augmentation"),
    "RandomHeight": (_AT + "preprocessing", "augmentation"),  # of Keras 2
    "RandomHue": (_AT + "preprocessing", "augmentation"),
    "RandomInvert": (_AT + "preprocessing", "augmentation"),
    "RandomPerspective": (_AT + "preprocessing", "augmentation"),
    "RandomPosterization": (_AT + "preprocessing", "augmentation"),
    "RandomRotation": (_AT + "preprocessing", "augmentation"),
    "RandomSaturation": (_AT + "preprocessing", "augmentation"),
    "RandomSharpness": (_AT + "preprocessing", "augmentation"),
    "RandomShear": (_AT + "preprocessing", "augmentation"),
    "RandomTranslation": (_AT + "preprocessing", "augmentation"),
    "RandomWidth": (_AT + "preprocessing", "augmentation"),  # of Keras 2
    "RandomZoom": (_AT + "preprocessing", "augmentation"),
    "Solarization": (_AT + "preprocessing", "augmentation"),
}

_TEXT = "it works on text, and a graph takes numbers: turn text into numbers where the data are prepared"
_CODE = "it runs code that a file cannot hold safely"
_CELL = "it is one step of a recurrent layer, and is read with the layer (RNN) that runs it"
_LOCAL = "it has a kernel of its own for each place, which no runtime's operator has"
_BASE = "it is what layers are made from, and computes nothing itself"
# Class -> why it is not converted.
REFUSED: Mapping[str, str] = {
    "ContrastLimitedAdaptiveHistogramEqualization": "it counts the values of each tile of an image, which no runtime does: prepare the data with it",
    "DenseFeatures": "it reads tables by TensorFlow's columns of features: make numbers of them where the data are prepared",
    "FlaxLayer": _CODE,
    "GRUCell": _CELL,
    "HashedCrossing": "it sorts by a hash of text, which is no tensor computation: do it where the data are prepared",
    "Hashing": "it sorts by a hash of text, which is no tensor computation: do it where the data are prepared",
    "JaxLayer": _CODE,
    "Lambda": f"{_CODE}: write it as a layer of its own, and give a function that converts it",
    "LSTMCell": _CELL,
    "Layer": _BASE,
    "LocallyConnected1D": _LOCAL,
    "LocallyConnected2D": _LOCAL,
    "MaxNumBoundingBoxes": "it cuts lists of boxes beside an image, which are labels and no part of a network",
    "SimpleRNNCell": _CELL,
    "StackedRNNCells": _CELL,
    "StringLookup": _TEXT,
    "TFSMLayer": "it runs a TensorFlow SavedModel that lies in another folder",
    "TextVectorization": _TEXT,
    "TorchModuleWrapper": f"{_CODE}: load its module itself",
    "Wrapper": _BASE,
}

_EDGES = "as TensorFlow and JAX compute it; on torch Keras repeats edges where padding same is longer behind than before"
_STEPS = "recurrent dropout is not kept for later training; each call starts from zeros where it was stateful"
# Class -> with what options it is refused, or what of it is not kept.
LIMITS: Mapping[str, str] = {
    "AlphaDropout": "not with noise_shape",
    **dict.fromkeys(("AveragePooling1D", "AveragePooling2D", "AveragePooling3D"), _EDGES),
    "BatchNormalization": "not with renorm; the statistics of later training count masked steps too",
    "CategoryEncoding": "not with sparse; at most 1,000,000 classes",
    "Bidirectional": "of LSTM, GRU, SimpleRNN and RNN",
    "ConvLSTM1D": _STEPS,
    "ConvLSTM2D": _STEPS,
    "ConvLSTM3D": _STEPS,
    "CuDNNGRU": _STEPS,
    "CuDNNLSTM": _STEPS,
    "Discretization": "not with sparse; with its boundaries in the configuration",
    "GRU": _STEPS,
    "IntegerLookup": "with its vocabulary in the configuration; not with invert, tf_idf, farmhash, or without a place for unknown numbers",
    "LSTM": _STEPS,
    "MultiHeadAttention": "over all axes between the batch and the features, to an output of one axis",
    "RNN": "of LSTMCell, GRUCell, SimpleRNNCell and StackedRNNCells of these",
    "RandomCrop": "of images that have its size: in evaluation Keras 2 resizes others and Keras 3 leaves them",
    "Resizing": "interpolation nearest or bilinear; others differ between the backends of Keras, or torch has none",
    "ReversibleEmbedding": "from words to features alone",
    "SimpleRNN": _STEPS,
    "SpectralNormalization": "the kernel as training left it; later training does not normalize it again",
    "UpSampling2D": "interpolation nearest or bilinear; others differ between the backends of Keras, or torch has none",
}

# Layers whose output has the mask of their input; those not here that have no rule of their own end it.
PASSES_MASK = frozenset(
    {"Activation", "ActivityRegularization", "AlphaDropout", "BatchNormalization", "Dense", "Dropout", "ELU", "GaussianDropout", "GaussianNoise"}
    | {"GroupNormalization", "GroupedQueryAttention", "Identity", "LayerNormalization", "LeakyReLU", "MultiHeadAttention", "Normalization", "PReLU"}
    | {"ReLU", "Rescaling", "Softmax", "SpatialDropout1D", "SpatialDropout2D", "SpatialDropout3D", "SyncBatchNormalization", "ThresholdedReLU"}
    | {"TimeDistributed", "UnitNormalization"}
)
