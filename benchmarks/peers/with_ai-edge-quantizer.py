"""NETWORK IMAGES FLOAT INT8: ai_edge_quantizer, 8-bit weights and activations, on a float .tflite that is there already."""

import sys
import time

import flatbuffers
import numpy as np
from ai_edge_litert import schema_py_generated as schema
from ai_edge_quantizer import quantizer, recipe


def completed(path: str) -> bytes:
    """The file with what the tool asks for: a signature (input x, output y), and a name for every constant."""
    with open(path, "rb") as file:
        model = schema.ModelT.InitFromObj(schema.Model.GetRootAs(file.read(), 0))
    [graph] = model.subgraphs
    signature = schema.SignatureDefT(signatureKey=b"serve", subgraphIndex=0)
    signature.inputs = [schema.TensorMapT(name=b"x", tensorIndex=graph.inputs[0])]
    signature.outputs = [schema.TensorMapT(name=b"y", tensorIndex=graph.outputs[0])]
    model.signatureDefs = [signature]
    for index, tensor in enumerate(graph.tensors):
        tensor.name = tensor.name or f"constant{index}".encode()
    builder = flatbuffers.Builder(1 << 20)
    builder.Finish(model.Pack(builder), b"TFL3")
    return bytes(builder.Output())


def main(name: str, images: str, plain: str, quantized: str) -> None:
    start = time.perf_counter()
    samples = [{"x": np.ascontiguousarray(image[None].transpose(0, 2, 3, 1))} for image in np.load(images)]
    tool = quantizer.Quantizer(bytearray(completed(plain)))
    tool.load_quantization_recipe(recipe.static_wi8_ai8())
    tool.quantize(tool.calibrate({"serve": samples})).export_model(quantized, overwrite=True)
    print("quantized", round(time.perf_counter() - start, 2))


if __name__ == "__main__":
    main(*sys.argv[1:])
