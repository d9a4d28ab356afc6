"""The network of a folded model as an ONNX graph, written node by node.

A converter would carry TensorFlow's layout over, with a transposition before and behind many
layers, and would tie the export to TensorFlow. Our generators have six kinds of layers, which are
written down faster than that is cleaned up, and from either backend. Inside, pictures are
(n, channels, h, w), as ONNX's convolutions want them; inputs and outputs are the Keras model's.
"""

from typing import Any

import numpy as np

from facehal.layers.convolution import SLOPE
from facehal.layers.resampling import pillow
from facehal.models.cascade.generator import SMALLEST, Generator
from facehal.models.cascade.layers import Upscaler
from facehal.optional import require

OPSET = 17
IR_VERSION = 8  # what readers since 2022 understand
LARGE = 1024  # numbers of an array that is worth a node of its own
Layer = Any


def onnx_graph(model: Any, metadata: dict[str, str]) -> Any:
    """The ONNX model of a folded cascade or ProGAN.

    Args:
        model: without batch normalisation (:func:`facehal.models.cascade.folding.fold`).
        metadata: texts that are stored in the file.

    Returns:
        An ``onnx.ModelProto``: ``masked_faces`` (n, S, S, 3) and ``masks`` (n, S, S, 1) to
        ``"8"`` … ``"128"`` (n, N, N, 3), as the Keras model, n free. That of a model with variants
        also takes ``latent`` (n, latent), which may be left out: then it is zeros.

    Raises:
        FacehalError: the package onnx is not installed.
    """
    return _Graph().model(model, metadata)


class _Graph:
    """Nodes and constants as they come; every value has a name of its own."""

    def __init__(self) -> None:
        require("onnx", "the export to ONNX")
        from onnx import TensorProto, helper, numpy_helper

        self.helper, self.float = helper, TensorProto.FLOAT
        self.from_array = numpy_helper.from_array
        self.style = ""
        self.nodes: list[Any] = []
        self.constants: list[Any] = []

    def constant(self, values: np.ndarray) -> str:
        """An array of the file; in float16 where it is large and float16 holds all its numbers.

        What is computed with is float32 all the same: ONNX Runtime casts once, when it reads the
        file, and the file is half as large.
        """
        name = f"constant_{len(self.constants)}"
        half = _halved(values)
        self.constants.append(self.from_array(np.ascontiguousarray(half), name))
        return name if half is values else self.add("Cast", name, to=self.float)

    def add(self, kind: str, *inputs: str, name: str = "", **attributes: Any) -> str:
        output = name or f"{kind}_{len(self.nodes)}"
        self.nodes.append(self.helper.make_node(kind, list(inputs), [output], **attributes))
        return output

    def model(self, model: Any, metadata: dict[str, str]) -> Any:
        side = model.resolutions[-1]
        faces = self.add("Transpose", "masked_faces", perm=[0, 3, 1, 2])
        # One channel: the order of the axes is a matter of the shape alone.
        shape = self.constant(np.array([0, 1, side, side], np.int64))
        masks = self.add("Reshape", "masks", shape)
        if model.latent:
            self.style = "latent"
            zeros = np.zeros((1, model.latent), np.float32)
            self.constants.append(self.from_array(zeros, "latent"))  # where it is not given
        previous = None
        for index, size in enumerate(model.resolutions):
            face, mask = (self.resized(x, side, size) for x in (faces, masks))
            x = face
            if previous is not None:
                rough = self.upscaled(model.upscalers[index - 1], previous)
                x = self.add("Concat", face, rough, axis=1)
            previous = self.composite(face, mask, self.generated(model.generators[index], x))
            self.add("Transpose", previous, name=str(size), perm=[0, 2, 3, 1])
        return self.finished(model.resolutions, model.latent, metadata)

    def resized(self, pictures: str, side: int, size: int) -> str:
        """As :func:`facehal.layers.pyramid.resized`."""
        if size == side:
            return pictures
        rows = pillow(side, size, "bilinear")
        half = self.add("MatMul", pictures, self.constant(rows.T))
        return self.add("MatMul", self.constant(rows), half)

    def composite(self, face: str, mask: str, t: str) -> str:
        """As :func:`facehal.layers.pyramid.composite` of the picture (t + 1) / 2."""
        half = self.constant(np.float32(0.5))
        context = self.add("Sub", half, self.add("Mul", mask, half))
        return self.add("Add", self.add("Mul", context, t), self.add("Add", face, context))

    def generated(self, network: Generator, x: str) -> str:
        """The layers of a generator in their order, up to the tanh."""
        layer = network.get_layer
        size = network.resolution
        x = self.leaky(self.convolution(layer("entry"), x))
        skips = {size: x}
        while size > SMALLEST:
            size //= 2
            x = self.leaky(self.convolution(layer(f"down_{size}"), x))
            block = layer(f"residual_{size}")
            inner = self.convolution(block.conv2, self.leaky(self.convolution(block.conv1, x)))
            x = skips[size] = self.leaky(self.add("Add", inner, x))
        if self.style:
            x = self.modulated(layer(f"style_{size}"), x)
        while True:
            size *= 2
            # The activation stands before the shuffle here, where it fuses with the convolution.
            x = self.leaky(self.convolution(layer(f"up_{size}"), x))
            if size == network.resolution:
                break
            if self.style:
                x = self.modulated(layer(f"style_{size}"), x, times=4)
            x = self.add("Concat", self.shuffled(x), skips[size], axis=1)
        return self.shuffled(self.add("Tanh", self.exit(layer("exit"), x, skips[size])))

    def exit(self, layer: Layer, low: str, skip: str) -> str:
        """The last convolution, four pixels at once: (n, 12, N/2, N/2), still to be shuffled.

        ONNX Runtime computes sixteen channels or none, of which three would be used. So two by two
        pixels become channels; their surroundings are 4×4 pixels of the skip connection and 3×3 of
        the decoder's output before its shuffle, which need not be done at all.
        """
        kernel, bias = layer.get_weights()
        channels = kernel.shape[2] // 2
        no_bias = np.zeros(4 * len(bias), np.float32)
        return self.add(
            "Add",
            self.conv(low, _before_shuffle(kernel[:, :, :channels]), no_bias, 1, 1, (1, 1)),
            self.conv(skip, _four_pixels(kernel[:, :, channels:]), np.tile(bias, 4), 2, 1, (1, 1)),
        )

    def modulated(self, layer: Layer, x: str, times: int = 1) -> str:
        """As :class:`facehal.models.cascade.layers.Modulation`; before a shuffle every channel is
        four of them."""
        (kernel,) = layer.get_weights()
        matrices = np.split(kernel, 2, axis=1)
        axes = self.constant(np.array([2, 3], np.int64))
        factor, offset = (
            self.add(
                "Unsqueeze",
                self.add("MatMul", self.style, self.constant(np.tile(matrix, times))),
                axes,
            )
            for matrix in matrices
        )
        one = self.constant(np.float32(1.0))
        return self.add("Add", self.add("Mul", x, self.add("Add", factor, one)), offset)

    def upscaled(self, upscaler: Upscaler, x: str) -> str:
        return self.shuffled(self.convolution(upscaler.conv, x))

    def shuffled(self, x: str) -> str:
        return self.add("DepthToSpace", x, blocksize=2, mode="DCR")

    def leaky(self, x: str) -> str:
        return self.add("LeakyRelu", x, alpha=SLOPE)

    def convolution(self, layer: Layer, x: str) -> str:
        kernel, bias = layer.get_weights()
        stride, dilation = layer.strides[0], layer.dilation_rate[0]
        # Keras's "same": of an odd rest the greater part on the right and below.
        total = (kernel.shape[0] - 1) * dilation + 1 - stride
        padding = (total // 2, total - total // 2)
        return self.conv(x, kernel.transpose(3, 2, 0, 1), bias, stride, dilation, padding)

    def conv(
        self,
        x: str,
        kernel: np.ndarray,
        bias: np.ndarray,
        stride: int,
        dilation: int,
        padding: tuple[int, int],
    ) -> str:
        return self.add(
            "Conv",
            x,
            self.constant(kernel),
            self.constant(bias),
            strides=[stride, stride],
            dilations=[dilation, dilation],
            pads=[padding[0], padding[0], padding[1], padding[1]],
        )

    def finished(self, resolutions: tuple[int, ...], latent: int, metadata: dict[str, str]) -> Any:
        side = resolutions[-1]
        more = []
        if latent:
            shape: list[str | int | None] = ["batch", latent]
            more.append(self.helper.make_tensor_value_info("latent", self.float, shape))

        def value(name: str, size: int, channels: int) -> Any:
            shape = ["batch", size, size, channels]
            return self.helper.make_tensor_value_info(name, self.float, shape)

        graph = self.helper.make_graph(
            self.nodes,
            "facehal",
            [value("masked_faces", side, 3), value("masks", side, 1), *more],
            [value(str(size), size, 3) for size in resolutions],
            self.constants,
        )
        model = self.helper.make_model(
            graph, opset_imports=[self.helper.make_opsetid("", OPSET)], producer_name="facehal"
        )
        model.ir_version = IR_VERSION
        self.helper.set_model_props(model, metadata)
        return model


def _halved(values: np.ndarray) -> np.ndarray:
    """The same numbers in float16, where they are many and float16 holds every one of them."""
    if values.dtype != np.float32 or values.size < LARGE:
        return values
    with np.errstate(over="ignore"):  # infinite is not equal
        half = values.astype(np.float16)
    return half if np.array_equal(half, values) else values


def _four_pixels(kernel: np.ndarray) -> np.ndarray:
    """A 3×3 kernel (3, 3, in, out) as one of stride 2 that gives two by two pixels as channels.

    (4·out, in, 4, 4), to be padded by one on every side; the pixels are the slower index of the
    channels, as in TensorFlow's depth to space.
    """
    inputs, outputs = kernel.shape[2:]
    wide = np.zeros((2, 2, outputs, inputs, 4, 4), np.float32)
    for y, x in np.ndindex(2, 2):
        wide[y, x, :, :, y : y + 3, x : x + 3] = kernel.transpose(3, 2, 0, 1)
    return wide.reshape(4 * outputs, inputs, 4, 4)


def _before_shuffle(kernel: np.ndarray) -> np.ndarray:
    """The same for an input that has not been shuffled yet: (4·out, 4·in, 3, 3), stride 1."""
    inputs, outputs = kernel.shape[2:]
    wide = np.zeros((2, 2, outputs, 2, 2, inputs, 3, 3), np.float32)
    for y, x, row, column in np.ndindex(2, 2, 3, 3):
        # The pixel that this tap reads, counted from the upper left of the four: -1 to 2.
        above, left = y + row - 1, x + column - 1
        at = wide[y, x, :, above % 2, left % 2, :, above // 2 + 1, left // 2 + 1]
        at[...] = kernel[row, column].T
    return wide.reshape(4 * outputs, 4 * inputs, 3, 3)
