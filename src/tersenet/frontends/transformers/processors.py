"""What a checkpoint's own processor does, as declared numbers: size, crop and colours of pictures, tokens of texts, features of sounds."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from tersenet.data.picture import RESAMPLES, Picture
from tersenet.data.preparation import Preparation
from tersenet.data.processing import Processing
from tersenet.data.sound import Sound
from tersenet.data.spectrogram import Spectrogram
from tersenet.data.text import Text
from tersenet.errors import DataError, ModelError
from tersenet.frontends.transformers.folder import Checkpoint
from tersenet.frontends.transformers.network import framework, quiet
from tersenet.graph.explain import first_line

GIVE_ARRAYS = "give samples that are prepared already (tersenet.Data.from_arrays)"
# Factory of Transformers -> the files, one of which it needs.
FILES = {
    "AutoImageProcessor": ("preprocessor_config.json", "processor_config.json"),
    "AutoFeatureExtractor": ("preprocessor_config.json", "processor_config.json"),
    "AutoTokenizer": ("tokenizer.json", "vocab.txt", "vocab.json", "tokenizer.model", "spiece.model", "sentencepiece.bpe.model", "spm.model"),
}
# Name of a network's input of tokens -> what the tokenizer gives for it.
TOKENS = {"input_ids": "ids", "attention_mask": "mask", "token_type_ids": "types"}


@dataclass(frozen=True)
class Unknown(Exception):
    """A processor whose way is not known here; `why` is a sentence without its end."""

    why: str


def image_processing(checkpoint: Checkpoint) -> Processing:
    """What is done to pictures; where that is not known, a reason."""
    try:
        processor = _loaded(checkpoint, "AutoImageProcessor", backend="pil")
        name = type(processor).__name__.removesuffix("Pil").removesuffix("Fast")
        if name not in IMAGE_PROCESSORS:
            raise Unknown(f"pictures are prepared by {name}, whose way is not known here")
        return Processing({"pixel_values": IMAGE_PROCESSORS[name](processor)})
    except (Unknown, DataError, AttributeError, KeyError, TypeError, ValueError, ZeroDivisionError) as error:
        why = error.why if isinstance(error, Unknown) else f"its image processor makes no sense ({first_line(error)})"
        return Processing(refused=f"{checkpoint.name}: {why}; {GIVE_ARRAYS}.")


def text_processing(checkpoint: Checkpoint, names: Sequence[str], longest: int, asked: int) -> Processing:
    """What is done to texts.

    Args:
        names: of the inputs that the network takes.
        longest: tokens that the network takes at most; 0 where it has no limit.
        asked: length that the user asks for; 0 for the usual.

    Raises:
        ModelError: more tokens are asked for than the network takes.
    """
    try:
        tokenizer = _loaded(checkpoint, "AutoTokenizer")
        backend = getattr(tokenizer, "backend_tokenizer", None)
        if backend is None:
            raise Unknown(f"texts are prepared by {type(tokenizer).__name__}, which has no form of the tokenizers package")
        if tokenizer.pad_token_id is None:
            raise Unknown("its tokenizer has no token for padding")
        length = token_length(checkpoint, min(longest or tokenizer.model_max_length, tokenizer.model_max_length), asked)
        way = Text(
            "ids", length, tokenizer.pad_token_id, tokenizer.pad_token_type_id, tokenizer.padding_side, tokenizer.truncation_side,
            content=backend.to_str(),
        )  # fmt: skip
        wanted = [name for name in names if name in tokenizer.model_input_names]
        return Processing({name: Preparation(decoded=replace(way, gives=TOKENS[name]), dtype="int64") for name in wanted})
    except (Unknown, DataError, AttributeError, KeyError, TypeError, ValueError) as error:
        why = error.why if isinstance(error, Unknown) else f"its tokenizer makes no sense ({first_line(error)})"
        return Processing(refused=f"{checkpoint.name}: {why}; {GIVE_ARRAYS}.")


def token_length(checkpoint: Checkpoint, longest: int, asked: int) -> int:
    """Tokens of a text: what is asked for, else 128, never more than the network takes."""
    if longest and asked > longest:
        raise ModelError(f"{checkpoint.name} takes texts of at most {longest} tokens, and a length of {asked} is asked for.")
    return asked or min(longest or USUAL_TOKENS, USUAL_TOKENS)


USUAL_TOKENS = 128


def sound_processing(checkpoint: Checkpoint, name: str, asked: int) -> Processing:
    """What is done to sounds.

    Args:
        name: of the network's input.
        asked: samples that the user asks for; 0 for one second.
    """
    try:
        extractor = _loaded(checkpoint, "AutoFeatureExtractor")
        kind = type(extractor).__name__
        if kind not in FEATURE_EXTRACTORS:
            raise Unknown(f"sounds are prepared by {kind}, whose way is not known here")
        return Processing({name: FEATURE_EXTRACTORS[kind](extractor, asked)})
    except (Unknown, DataError, AttributeError, KeyError, TypeError, ValueError) as error:
        why = error.why if isinstance(error, Unknown) else f"its feature extractor makes no sense ({first_line(error)})"
        return Processing(refused=f"{checkpoint.name}: {why}; {GIVE_ARRAYS}.")


def _loaded(checkpoint: Checkpoint, factory: str, **options: Any) -> Any:
    """A processor of the folder; code that comes with it never runs."""
    if not any((checkpoint.folder / name).is_file() for name in FILES[factory]):  # Transformers would make an empty one
        raise Unknown(f"it has no {' or '.join(FILES[factory])}")
    try:
        with quiet():
            return getattr(framework(), factory).from_pretrained(checkpoint.folder, trust_remote_code=False, local_files_only=True, **options)
    except Exception as error:  # whatever Transformers says of a file that is missing or damaged
        raise Unknown(f"its {' or '.join(FILES[factory])} cannot be read ({first_line(error)})") from error


def _plain(processor: Any) -> Preparation:
    """Resized, cropped, multiplied by a factor, normalized: in this order, each where it is switched on."""
    size: Mapping[str, Any] = processor.size if processor.do_resize else {}
    height, width, shortest = (int(size.get(key) or 0) for key in ("height", "width", "shortest_edge"))
    if any(size.get(key) for key in ("longest_edge", "max_height", "max_width")) or (size and not shortest and not (height and width)):
        raise Unknown(f"pictures are resized to {dict(size)}, a rule that is not known here")
    if getattr(processor, "do_pad", None):
        raise Unknown("pictures are padded, a rule that is not known here")
    crop = processor.crop_size if getattr(processor, "do_center_crop", None) else {}
    picture = Picture(
        size=(height, width) if not shortest and size else (),
        shortest=shortest,
        resample=RESAMPLES[int(processor.resample if processor.resample is not None else 2)],
        crop=(crop["height"], crop["width"]) if crop else (),
    )
    mean, std = (_numbers(getattr(processor, name)) if processor.do_normalize else () for name in ("image_mean", "image_std"))
    scale = float(processor.rescale_factor) if processor.do_rescale else 1.0
    return Preparation(scale, mean, std, stored="NHWC", layout="NCHW", dtype="float32", decoded=picture)


def _numbers(value: Any) -> tuple[float, ...]:
    return tuple(float(number) for number in value) if isinstance(value, list | tuple) else (float(value),) * 3


def _enlarged(way: Preparation, shortest: int, crop: int) -> Preparation:
    """Resized by the shorter side to more than the crop that follows."""
    picture: Picture = way.decoded  # type: ignore[assignment]
    return replace(way, decoded=replace(picture, size=(), shortest=shortest, crop=(crop, crop) if crop else picture.crop))


def _convnext(processor: Any) -> Preparation:
    """Below 384 resized by `crop_pct` and cropped, from there on warped (ConvNextImageProcessor.resize)."""
    way, edge = _plain(processor), processor.size["shortest_edge"]
    if not processor.do_resize:
        return way
    if edge < 384:
        return _enlarged(way, int(edge / processor.crop_pct), edge)
    return replace(way, decoded=replace(way.decoded, size=(edge, edge), shortest=0))  # type: ignore[type-var]


def _poolformer(processor: Any) -> Preparation:
    """Resized to more than the size, by `crop_pct` (PoolFormerImageProcessor.resize)."""
    way, size = _plain(processor), processor.size
    if not processor.do_resize or processor.crop_pct is None:
        return way
    edge = size.get("shortest_edge") or (size["height"] if size["height"] == size["width"] else 0)
    if not edge:
        raise Unknown("pictures are resized to a rectangle and enlarged, a rule that is not known here")
    return _enlarged(way, int(edge / processor.crop_pct), 0)


def _levit(processor: Any) -> Preparation:
    """Resized to 256 where the size says 224, and so on (LevitImageProcessor.resize)."""
    way = _plain(processor)
    edge = processor.size.get("shortest_edge") if processor.do_resize else None
    return _enlarged(way, int(256 / 224 * edge), 0) if edge else way


def _efficientnet(processor: Any) -> Preparation:
    """Shifted by one after scaling, or divided by the standard deviation twice, where it says so (EfficientNetImageProcessor)."""
    way = _plain(processor)
    mean, std = way.mean or (0.0,) * 3, way.std or (1.0,) * 3
    if processor.do_rescale and processor.rescale_offset:
        mean = tuple(number + 1.0 for number in mean)
    if processor.include_top:
        std = tuple(one * other for one, other in zip(std, _numbers(processor.image_std), strict=True))
    return replace(way, mean=mean, std=std)


def _mobilevit(processor: Any) -> Preparation:
    """Blue first, where it says so (MobileViTImageProcessor)."""
    way = _plain(processor)
    flipped = bool(processor.do_flip_channel_order)
    return replace(way, decoded=replace(way.decoded, channels="BGR" if flipped else "RGB"))  # type: ignore[type-var]


IMAGE_PROCESSORS: Mapping[str, Callable[[Any], Preparation]] = {
    "BeitImageProcessor": _plain,
    "BitImageProcessor": _plain,
    "CLIPImageProcessor": _plain,
    "ConvNextImageProcessor": _convnext,
    "DeiTImageProcessor": _plain,
    "EfficientNetImageProcessor": _efficientnet,
    "LevitImageProcessor": _levit,
    "MobileNetV1ImageProcessor": _plain,
    "MobileNetV2ImageProcessor": _plain,
    "MobileViTImageProcessor": _mobilevit,
    "PoolFormerImageProcessor": _poolformer,
    "PvtImageProcessor": _plain,
    "SegformerImageProcessor": _plain,
    "SiglipImageProcessor": _plain,
    "ViTImageProcessor": _plain,
}


def _wave(extractor: Any, asked: int) -> Preparation:
    """The samples themselves, mean 0 and variance 1 where it says so (Wav2Vec2FeatureExtractor)."""
    if extractor.padding_side != "right" or extractor.padding_value != 0.0:
        raise Unknown("sounds are padded otherwise than with zeros at their end")
    level = "" if not extractor.do_normalize else "sound" if extractor.return_attention_mask else "whole"
    return Preparation(dtype="float32", decoded=Sound(extractor.sampling_rate, asked or extractor.sampling_rate, level))


def _fbank(extractor: Any, asked: int) -> Preparation:
    """Kaldi's log-mel energies, 25 ms every 10 ms of 16 kHz (ASTFeatureExtractor without torchaudio)."""
    features = Spectrogram(
        400, 160, 512, extractor.num_mel_bins, 20.0, extractor.sampling_rate // 2, "kaldi", extractor.max_length,
        centered=False, periodic=False, emphasis=0.97, level=True, logarithm="natural", floor=1.192092955078125e-07, bands_first=False,
    )  # fmt: skip
    mean, std = ((extractor.mean,), (2.0 * extractor.std,)) if extractor.do_normalize else ((), ())
    return Preparation(mean=mean, std=std, dtype="float32", decoded=Sound(extractor.sampling_rate, spectrogram=features))


def _whisper(extractor: Any, asked: int) -> Preparation:
    """Slaney's mel bands, base-10 logarithm, at most 8 below the maximum (WhisperFeatureExtractor)."""
    if extractor.dither or extractor.padding_value != 0.0:
        raise Unknown("sounds are dithered or padded otherwise than with zeros")
    features = Spectrogram(
        extractor.n_fft, extractor.hop_length, extractor.n_fft, extractor.feature_size, 0.0, 8000.0, "slaney",
        extractor.nb_max_frames, below=8.0,
    )  # fmt: skip
    sound = Sound(extractor.sampling_rate, extractor.n_samples, spectrogram=features)
    return Preparation(mean=(-4.0,), std=(4.0,), dtype="float32", decoded=sound)


FEATURE_EXTRACTORS: Mapping[str, Callable[[Any, int], Preparation]] = {
    "ASTFeatureExtractor": _fbank,
    "Wav2Vec2FeatureExtractor": _wave,
    "WhisperFeatureExtractor": _whisper,
}
