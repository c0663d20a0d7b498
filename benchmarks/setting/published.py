"""Published networks of TERSENET_DATA and the data that judge them, for `benchmarks/networks.py`: functions that `--data` names.

Where a network's own data are not there, others of its kind stand in, without labels: the float network is the judge then.
"""

from __future__ import annotations

import gzip
import importlib.util
import io
import os
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType

import numpy as np
import torch
from setting.networks import BENCH, DATA

import tersenet

RATE = 16000


@dataclass(frozen=True)
class Published:
    """A network, its data, and the integer file that was published beside it.

    Args:
        model: its file below TERSENET_DATA, or the function here that makes it of one.
        data: the function here that gives its data.
        reference: an integer file of the same network, "" where there is none.
        recipe: of another quantization than the default one, a file beside this; "" for the default.
        io: words of the command line for the LiteRT file that is held against the reference: integers in and out, where that has them.
    """

    model: str
    data: str
    reference: str = ""
    io: tuple[str, ...] = ("--io", "int8")
    recipe: str = ""

    @property
    def short(self) -> str:
        """A name for folders."""
        return Path(self.model).name.partition(".gz")[0].rpartition(".")[0] or self.model


NETWORKS = {
    "ResNet-8 (Keras 2 .h5)": Published(
        "mlperf_tiny/image_classification/pretrainedResnet.h5", "cifar_raw", "mlperf_tiny/image_classification/pretrainedResnet_quant.tflite"
    ),
    "visual wake words (Keras 2 .h5)": Published(
        "mlperf_tiny/visual_wake_words/vww_96.h5", "photographs_96", "mlperf_tiny/visual_wake_words/vww_96_int8.tflite"
    ),
    "anomaly detection (Keras 2 .h5)": Published(
        "mlperf_tiny/anomaly_detection/ad01.h5",
        "sound_windows",
        "mlperf_tiny/anomaly_detection/ad01_int8.tflite",
        recipe="per_tensor.json",  # narrow linear layers: a scale for each channel weighs a tenth of the weights
    ),
    "streaming wake word (Keras 2 .h5)": Published(
        "mlperf_tiny/streaming_wakeword/str_ww_ref_model.h5", "sound_columns", "mlperf_tiny/streaming_wakeword/str_ww_ref_model.tflite"
    ),
    "keyword spotting (float .tflite)": Published(
        "mlperf_tiny/keyword_spotting/kws_ref_model_float32.tflite", "keywords", "mlperf_tiny/keyword_spotting/kws_ref_model.tflite"
    ),
    "MNIST LSTM (float .tflite)": Published("mnist_lstm/trained_lstm.tflite", "mnist_rows", "mnist_lstm/trained_lstm_int8.tflite", io=()),
    "SqueezeNet 1.0 (.onnx)": Published("squeezenet/squeezenet_v1_0_decoded.onnx.gz", "photographs_caffe"),
    "MobileNetV1 0.25/128 (.onnx)": Published(
        "coral_mobilenet_v1/mobilenet_v1_0.25_128_dequant.onnx", "photographs_128", "coral_mobilenet_v1/mobilenet_v1_0.25_128_quant.tflite"
    ),
    "voice activity, Silero (.onnx, LSTM)": Published("silero_detector", "silero_frames"),
    "MobileNetV2 0.35/224 and a new head (.keras)": Published("mobilenet_with_head", "cifar_enlarged", recipe="least_squares.json"),
    "MobileNetV2 0.35/224 backbone (.keras)": Published("mobilenet_v2_0.35/mobilenet_v2_0.35_224_backbone.keras", "photographs_224"),
}


def file_of(network: Published) -> Path:
    """The network's file, unpacked where it is packed."""
    path = DATA / network.model
    if path.suffix != ".gz":
        return path
    plain = BENCH / "published" / path.stem
    if not plain.exists():
        plain.parent.mkdir(parents=True, exist_ok=True)
        plain.write_bytes(gzip.decompress(path.read_bytes()))
    return plain


def _decoded(archive: str, count: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """JPEGs and the numbers of their draw."""
    from PIL import Image

    table = np.load(DATA / archive)
    jpeg, offsets = table["jpeg"], table["offsets"]
    chosen = np.random.default_rng(seed).permutation(len(offsets) - 1)[:count]
    images = [np.asarray(Image.open(io.BytesIO(jpeg[offsets[index] : offsets[index + 1]].tobytes())).convert("RGB")) for index in chosen]
    return np.stack(images), chosen


def cifar_raw() -> tersenet.Data:
    """CIFAR-10 as MLPerf Tiny's ResNet-8 takes it: 0..255, NHWC; labelled."""
    images, chosen = _decoded("cifar10_jpeg/test_5000.npz", 5000)
    labels = np.load(DATA / "cifar10_jpeg/test_5000.npz")["labels"][chosen].astype(np.int64)
    calibration, _ = _decoded("cifar10_jpeg/train_50000.npz", 256)
    return tersenet.Data.from_arrays(
        calibration=calibration.astype(np.float32), evaluation=(images.astype(np.float32), labels), task="image-classification"
    )


def _photographs(size: int) -> tuple[np.ndarray, np.ndarray]:
    """500 photographs resized to a square (n, size, size, 3) in 0..255, and their ImageNet classes."""
    from PIL import Image

    images, chosen = _decoded("imagenet_samples/samples_500.npz", 500)
    resized = [np.asarray(Image.fromarray(image).resize((size, size), Image.Resampling.BILINEAR)) for image in images]
    classes = np.load(DATA / "imagenet_samples/samples_500.npz")["class_index"][chosen].astype(np.int64)
    return np.stack(resized).astype(np.float32), classes


def _unlabelled(samples: np.ndarray, calibration: int = 128) -> tersenet.Data:
    return tersenet.Data.from_arrays(calibration=samples[:calibration], evaluation=samples[calibration:], task="image-classification")


def photographs_96() -> tersenet.Data:
    """Photographs as the person detector takes them, in 0..1; whether there is a person nobody has written down."""
    return _unlabelled(_photographs(96)[0] / np.float32(255))


def photographs_224() -> tersenet.Data:
    """Photographs in -1..1 for a backbone without classes: SQNR of its features."""
    images = _photographs(224)[0][:192] / np.float32(127.5) - 1
    return tersenet.Data.from_arrays(calibration=images[:64], evaluation=images[64:], task="regression")


def photographs_128() -> tersenet.Data:
    """Photographs in -1..1, NCHW, with classes that count a background before ImageNet's."""
    images, classes = _photographs(128)
    images = np.ascontiguousarray((images / np.float32(127.5) - 1).transpose(0, 3, 1, 2))
    return tersenet.Data.from_arrays(calibration=images[:128], evaluation=(images[128:], classes[128:] + 1), task="image-classification")


def photographs_caffe() -> tersenet.Data:
    """Photographs as SqueezeNet takes them: the middle 227 x 227, BGR, 0..255, Caffe's means taken off."""
    images, chosen = _decoded("imagenet_samples/samples_500.npz", 500)
    cut = images[:, 14:241, 14:241, ::-1].astype(np.float32) - np.array([104, 117, 123], np.float32)
    classes = np.load(DATA / "imagenet_samples/samples_500.npz")["class_index"][chosen].astype(np.int64)
    x = np.ascontiguousarray(cut.transpose(0, 3, 1, 2))
    return tersenet.Data.from_arrays(calibration=x[:128], evaluation=(x[128:], classes[128:]), task="image-classification")


SILERO, SILERO_FRAME, SILERO_CONTEXT = DATA / "silero_vad", 512, 64


def silero_detector() -> tersenet.Model:
    """The detector at 16 kHz: (sound, state) to (probability of speech, next state); its file has the batch second in states, data have it first."""
    sound, state = torch.zeros(2, SILERO_CONTEXT + SILERO_FRAME), torch.zeros(2, 2, 128)
    network = tersenet.load(SILERO / "silero_vad.onnx", {"input": sound.numpy(), "state": state.numpy(), "sr": RATE}, dynamic={"state": {1: "batch"}})

    class Detector(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.network = network.graph

        def forward(self, sound: torch.Tensor, state: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
            speech, after = self.network(sound, state.transpose(0, 1))
            return speech, after.transpose(0, 1)

    return tersenet.load(Detector(), (sound, state), name="silero_vad")


def silero_frames() -> tersenet.Data:
    """A minute of sound in frames, each with the state that the published network has come to in ONNX Runtime; labelled by what it says there."""
    import onnxruntime
    import soundfile

    samples, _ = soundfile.read(SILERO / "test.wav", dtype="float32")
    frames = np.lib.stride_tricks.sliding_window_view(np.pad(samples, (SILERO_CONTEXT, 0)), SILERO_CONTEXT + SILERO_FRAME)[::SILERO_FRAME].copy()
    session, state = onnxruntime.InferenceSession(SILERO / "silero_vad.onnx"), np.zeros((2, 1, 128), np.float32)
    states, speech = [], []
    for frame in frames:
        states.append(state[:, 0])
        found, state = session.run(None, {"input": frame[None], "state": state, "sr": np.array(RATE)})
        speech.append(found[0, 0] > 0.5)
    x, labels, calibrated = (frames, np.stack(states)), np.array(speech).astype(np.int64), np.arange(len(frames)) % 8 == 0
    return tersenet.Data.from_arrays(
        calibration=tuple(array[calibrated] for array in x),
        evaluation=(tuple(array[~calibrated] for array in x), labels[~calibrated]),
        task=(_same_as_published, "frames told as the published network tells them", "higher"),
    )


def _same_as_published(outputs: tuple[np.ndarray, np.ndarray], labels: np.ndarray) -> float:
    return float(((outputs[0][:, 0] > 0.5) == labels).mean())


def _example() -> ModuleType:
    """examples/keras_mobilenet.py, which fits the head."""
    spec = importlib.util.spec_from_file_location("keras_mobilenet", Path(__file__).resolve().parents[2] / "examples" / "keras_mobilenet.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    os.environ["TERSENET_DATA"] = str(DATA)
    spec.loader.exec_module(module)
    return module


def mobilenet_with_head() -> tersenet.Model:
    """The backbone with a head fitted on its features of CIFAR-10, as the example makes it; made once."""
    path = BENCH / "published" / "mobilenet_with_head.keras"
    if not path.exists():
        example = _example()
        backbone = example.keras.models.load_model(DATA / "mobilenet_v2_0.35" / "mobilenet_v2_0.35_224_backbone.keras", compile=False)
        path.parent.mkdir(parents=True, exist_ok=True)
        example.with_head(backbone, *example.pictures("train_50000.npz", example.FITTED_ON)).save(path)
    return tersenet.load(path)


def cifar_enlarged() -> tersenet.Data:
    """CIFAR-10 in 224 x 224, -1..1; labelled."""
    example = _example()
    (calibration, _), (images, labels) = example.pictures("train_50000.npz", example.CALIBRATED_ON), example.pictures("test_5000.npz", 500)
    return tersenet.Data.from_arrays(
        calibration=example.PIXELS.apply(calibration), evaluation=(example.PIXELS.apply(images), labels), task="image-classification"
    )


def mnist_rows() -> tersenet.Data:
    """MNIST in 0..1, an image a sequence of 28 rows; labelled."""
    x, y = _mnist("t10k")
    calibration, _ = _mnist("train")
    return tersenet.Data.from_arrays(calibration=calibration[:256], evaluation=(x[:3000], y[:3000]), task="image-classification")


def _mnist(part: str) -> tuple[np.ndarray, np.ndarray]:
    images = gzip.decompress((DATA / "mnist" / f"{part}-images-idx3-ubyte.gz").read_bytes())
    labels = gzip.decompress((DATA / "mnist" / f"{part}-labels-idx1-ubyte.gz").read_bytes())
    return np.frombuffer(images, np.uint8, offset=16).reshape(-1, 28, 28) / np.float32(255), np.frombuffer(labels, np.uint8, offset=8).astype(
        np.int64
    )


def _clips() -> tuple[np.ndarray, np.ndarray]:
    """Spoken words (n, 16000) in -1..1, each as loud as it can be, and their classes."""
    import soundfile

    table = np.load(DATA / "speech_commands/clips_250.npz")
    flac, offsets = table["flac"], table["offsets"]
    clips = np.zeros((len(offsets) - 1, RATE), np.float32)
    for index in range(len(clips)):
        sound, _ = soundfile.read(io.BytesIO(flac[offsets[index] : offsets[index + 1]].tobytes()), dtype="float32")
        clips[index, : len(sound)] = sound[:RATE] / max(float(sound.max()), 1e-6)
    return clips, table["labels"].astype(np.int64)


def _mel_filters(bins: int, count: int, low: float, high: float) -> np.ndarray:
    """(bins, count): triangles on the HTK mel scale, as tf.signal.linear_to_mel_weight_matrix has them."""
    to_mel = lambda hertz: 1127.0 * np.log1p(np.asarray(hertz) / 700.0)  # noqa: E731
    edges = np.linspace(to_mel(low), to_mel(high), count + 2)
    places = to_mel(np.linspace(0, RATE / 2, bins)[1:])[:, None]
    rising = (places - edges[:-2]) / (edges[1:-1] - edges[:-2])
    falling = (edges[2:] - places) / (edges[2:] - edges[1:-1])
    return np.vstack([np.zeros((1, count)), np.maximum(0, np.minimum(rising, falling))])


def _log_mel(clips: np.ndarray, frame: int, step: int, size: int, filters: np.ndarray) -> np.ndarray:
    """(n, frames, mels): the logarithm of mel energies of windows of sound (magnitudes of a transform of `size`)."""
    count = 1 + (clips.shape[1] - frame) // step
    window = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(frame) / frame)
    frames = np.stack([clips[:, start * step : start * step + frame] * window for start in range(count)], 1)
    return np.log(np.abs(np.fft.rfft(frames, size)) @ filters + 1e-6)


def keywords() -> tersenet.Data:
    """Ten MFCCs of 49 windows, as MLPerf Tiny's keyword spotting takes them (windows of 30 ms every 20 ms, 40 mels from 20 to 4000 Hz); labelled."""
    clips, labels = _clips()
    mel = _log_mel(clips, 480, 320, 512, _mel_filters(257, 40, 20, 4000))
    turns = np.cos(np.pi / 40 * (np.arange(40)[:, None] + 0.5) * np.arange(10)) * 2
    x = ((mel @ turns) / np.sqrt(2 * 40.0)).astype(np.float32)[..., None]
    return tersenet.Data.from_arrays(calibration=x[:100], evaluation=(x[100:], labels[100:]), task="image-classification")


def sound_columns() -> tersenet.Data:
    """30 columns of 40 log-mel energies, in -1..1 as the wake word's detector takes them; unlabelled."""
    clips, _ = _clips()
    mel = _log_mel(clips, 1024, 512, 1024, _mel_filters(513, 40, 20, 4000))[:, :30]
    x = np.clip(mel / 6.0, -1, 1).astype(np.float32)[:, :, None, :]
    return _unlabelled(x, 100)


def sound_windows() -> tersenet.Data:
    """Five columns of 128 log-mel energies in decibels, as the autoencoder of machine sounds takes them; here of spoken words, unlabelled."""
    clips, _ = _clips()
    mel = _log_mel(clips, 1024, 512, 1024, _mel_filters(513, 128, 0, 8000)) * (20 / np.log(10))
    windows = [mel[:, start : start + 5].reshape(-1, 640) for start in range(0, 25, 5)]
    x = np.concatenate(windows).astype(np.float32)
    return tersenet.Data.from_arrays(calibration=x[:256], evaluation=x[256:], task="regression")
