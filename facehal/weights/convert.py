"""Publishers' weight files of each network, in the one layout that `facehal` uses.

Kernels are (height, width, in, out), matrices (in, out), all float32; colours are RGB. Batch
normalisation of a frozen network is folded into its convolutions. Every converter raises
`WeightsError` in one line when a file is cut off, foreign or hostile.
"""

import tarfile
import tempfile
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np

from facehal.errors import WeightsError
from facehal.weights.files import (
    BAD_ARCHIVE,
    Arrays,
    Shapes,
    check,
    is_hdf5,
    is_npz,
    one_line,
    pick,
    read_keras_h5,
    read_npz,
    read_torch,
    unpack_tar,
)

ALEXNET_SHAPES: Shapes = {
    "conv1.kernel_hwio": (11, 11, 3, 64),
    "conv1.bias": (64,),
    "conv2.kernel_hwio": (5, 5, 64, 192),
    "conv2.bias": (192,),
    "conv3.kernel_hwio": (3, 3, 192, 384),
    "conv3.bias": (384,),
    "conv4.kernel_hwio": (3, 3, 384, 256),
    "conv4.bias": (256,),
    "conv5.kernel_hwio": (3, 3, 256, 256),
    "conv5.bias": (256,),
}
LPIPS_VERSIONS = ("0.0", "0.1")
LPIPS_SHAPES: Shapes = {
    f"v{version}.lin{tap}": (channels,)
    for version in LPIPS_VERSIONS
    for tap, channels in enumerate((64, 192, 384, 256, 256))
}

VGG_FACE_CONVOLUTIONS = (2, 2, 3, 3, 3)
"""How many convolutions stand in each of the five stages of VGG-16."""


def vgg_face_shapes(
    channels: tuple[int, ...] = (64, 128, 256, 512, 512), features: int = 4096
) -> dict[str, tuple[int, ...]]:
    """Arrays of a VGG-16 up to fc7; fc6 reads the 7x7 map row by row, channels last."""
    shapes: dict[str, tuple[int, ...]] = {}
    inputs = 3
    for stage, (outputs, count) in enumerate(zip(channels, VGG_FACE_CONVOLUTIONS, strict=True), 1):
        for number in range(1, count + 1):
            shapes[f"conv{stage}_{number}.kernel"] = (3, 3, inputs, outputs)
            shapes[f"conv{stage}_{number}.bias"] = (outputs,)
            inputs = outputs
    for name, inputs in (("fc6", 49 * channels[-1]), ("fc7", features)):
        shapes[f"{name}.kernel"] = (inputs, features)
        shapes[f"{name}.bias"] = (features,)
    return shapes


VGG_FACE_SHAPES: Shapes = vgg_face_shapes()

# The first number of a residual block is its stride; 29 convolutions with the 7x7 stem.
DLIB_BLOCKS: tuple[tuple[int, int], ...] = (
    ((1, 32),) * 3
    + ((2, 64),)
    + ((1, 64),) * 3
    + ((2, 128),)
    + ((1, 128),) * 2
    + ((2, 256),)
    + ((1, 256),) * 2
    + ((2, 256),)
)


def _dlib_shapes() -> dict[str, tuple[int, ...]]:
    shapes: dict[str, tuple[int, ...]] = {"stem.kernel": (7, 7, 3, 32), "stem.bias": (32,)}
    channels = 32
    for index, (_, filters) in enumerate(DLIB_BLOCKS):
        for half, inputs in (("a", channels), ("b", filters)):
            shapes[f"block{index}{half}.kernel"] = (3, 3, inputs, filters)
            shapes[f"block{index}{half}.bias"] = (filters,)
        channels = filters
    shapes["descriptor.kernel"] = (256, 128)
    return shapes


DLIB_SHAPES: Shapes = _dlib_shapes()


RESNET50_BLOCKS = (3, 4, 6, 3)
"""How many bottlenecks stand in each of ResNet-50's stages 2 to 5."""


def resnet50_shapes(width: int = 64, features: int = 256) -> dict[str, tuple[int, ...]]:
    """Arrays of a ResNet-50 with a narrow layer on top, layers named as in its Caffe model."""
    shapes: dict[str, tuple[int, ...]] = {}

    def convolution(name: str, size: int, inputs: int, outputs: int) -> None:
        shapes[f"{name}.kernel"] = (size, size, inputs, outputs)
        shapes[f"{name}.bias"] = (outputs,)

    convolution("conv1_7x7_s2", 7, 3, width)
    inputs = width
    for stage, count in enumerate(RESNET50_BLOCKS, start=2):
        inner = width * 2 ** (stage - 2)
        for block in range(1, count + 1):
            name = f"conv{stage}_{block}"
            convolution(f"{name}_1x1_reduce", 1, inputs, inner)
            convolution(f"{name}_3x3", 3, inner, inner)
            convolution(f"{name}_1x1_increase", 1, inner, 4 * inner)
            if block == 1:
                convolution(f"{name}_1x1_proj", 1, inputs, 4 * inner)
            inputs = 4 * inner
    return shapes | {"feat_extract.kernel": (inputs, features), "feat_extract.bias": (features,)}


RESNET50_SHAPES: Shapes = resnet50_shapes()


def _inception_shapes() -> dict[str, tuple[int, ...]]:
    """Layer names are those of the PyTorch conversions, `Mixed_5b.branch1x1` with underscores."""
    convolutions: dict[str, tuple[int, int, int, int]] = {
        "Conv2d_1a_3x3": (3, 3, 3, 32),
        "Conv2d_2a_3x3": (3, 3, 32, 32),
        "Conv2d_2b_3x3": (3, 3, 32, 64),
        "Conv2d_3b_1x1": (1, 1, 64, 80),
        "Conv2d_4a_3x3": (3, 3, 80, 192),
    }

    def block(name: str, **branches: tuple[int, int, int, int]) -> None:
        convolutions.update({f"{name}_branch{k}": shape for k, shape in branches.items()})

    for name, n, pool in (("Mixed_5b", 192, 32), ("Mixed_5c", 256, 64), ("Mixed_5d", 288, 64)):
        block(name, **{"1x1": (1, 1, n, 64), "5x5_1": (1, 1, n, 48), "5x5_2": (5, 5, 48, 64)})
        block(name, **{"3x3dbl_1": (1, 1, n, 64), "3x3dbl_2": (3, 3, 64, 96)})
        block(name, **{"3x3dbl_3": (3, 3, 96, 96), "_pool": (1, 1, n, pool)})
    block("Mixed_6a", **{"3x3": (3, 3, 288, 384), "3x3dbl_1": (1, 1, 288, 64)})
    block("Mixed_6a", **{"3x3dbl_2": (3, 3, 64, 96), "3x3dbl_3": (3, 3, 96, 96)})
    for name, c in (("Mixed_6b", 128), ("Mixed_6c", 160), ("Mixed_6d", 160), ("Mixed_6e", 192)):
        block(name, **{"1x1": (1, 1, 768, 192), "7x7_1": (1, 1, 768, c), "7x7_2": (1, 7, c, c)})
        block(name, **{"7x7_3": (7, 1, c, 192), "7x7dbl_1": (1, 1, 768, c)})
        block(name, **{"7x7dbl_2": (7, 1, c, c), "7x7dbl_3": (1, 7, c, c)})
        block(name, **{"7x7dbl_4": (7, 1, c, c), "7x7dbl_5": (1, 7, c, 192)})
        block(name, _pool=(1, 1, 768, 192))
    block("Mixed_7a", **{"3x3_1": (1, 1, 768, 192), "3x3_2": (3, 3, 192, 320)})
    block("Mixed_7a", **{"7x7x3_1": (1, 1, 768, 192), "7x7x3_2": (1, 7, 192, 192)})
    block("Mixed_7a", **{"7x7x3_3": (7, 1, 192, 192), "7x7x3_4": (3, 3, 192, 192)})
    for name, n in (("Mixed_7b", 1280), ("Mixed_7c", 2048)):
        block(name, **{"1x1": (1, 1, n, 320), "3x3_1": (1, 1, n, 384)})
        block(name, **{"3x3_2a": (1, 3, 384, 384), "3x3_2b": (3, 1, 384, 384)})
        block(name, **{"3x3dbl_1": (1, 1, n, 448), "3x3dbl_2": (3, 3, 448, 384)})
        block(name, **{"3x3dbl_3a": (1, 3, 384, 384), "3x3dbl_3b": (3, 1, 384, 384)})
        block(name, _pool=(1, 1, n, 192))
    shapes: dict[str, tuple[int, ...]] = {}
    for name, shape in convolutions.items():
        shapes[f"{name}.kernel"] = shape
        shapes[f"{name}.bias"] = shape[-1:]
    return shapes | {"fc.kernel": (2048, 1008), "fc.bias": (1008,)}


INCEPTION_SHAPES: Shapes = _inception_shapes()


def pieapp_taps(width: int = 64) -> tuple[tuple[int, int], ...]:
    """Side and channels of the five maps that PieAPP compares, for patches of 64 pixels."""
    factors = (1, 2, 4, 4, 8)
    return tuple((32 >> level, factor * width) for level, factor in enumerate(factors))


def pieapp_shapes(width: int = 64, hidden: int = 512) -> dict[str, tuple[int, ...]]:
    """Arrays of PieAPP v0.1; its first dense layers read maps row by row, channels last."""
    taps = pieapp_taps(width)
    shapes: dict[str, tuple[int, ...]] = {}
    inputs = 3
    for number, factor in enumerate((1, 1, 1, 2, 2, 2, 4, 4, 4, 8, 8), start=1):
        shapes[f"conv{number}.kernel"] = (3, 3, inputs, factor * width)
        shapes[f"conv{number}.bias"] = (factor * width,)
        inputs = factor * width
    for head, sizes in (("score", taps), ("weight", taps[-1:])):
        shapes[f"fc1_{head}.kernel"] = (sum(s * s * c for s, c in sizes), hidden)
        shapes[f"fc1_{head}.bias"] = (hidden,)
        shapes[f"fc2_{head}.kernel"] = (hidden, 1)
        shapes[f"fc2_{head}.bias"] = (1,)
    return shapes | {"ref_score_subtract.kernel": (1, 1), "ref_score_subtract.bias": (1,)}


PIEAPP_SHAPES: Shapes = pieapp_shapes()


# ----------------------------------------------------------------------- publisher's file to ours


def alexnet(file: Path) -> Arrays:
    """Convolution trunk of torchvision's AlexNet from its .pth, or from our own .npz.

    Raises:
        WeightsError: not such a file.
    """
    if is_npz(file):
        return read_npz(file, ALEXNET_SHAPES)
    state = read_torch(file)
    arrays: Arrays = {}
    for number, index in enumerate((0, 3, 6, 8, 10), start=1):
        for ours, theirs in (("kernel_hwio", "weight"), ("bias", "bias")):
            value = pick(state, f"features.{index}.{theirs}", file)
            # PyTorch: (out, in, height, width).
            arrays[f"conv{number}.{ours}"] = (
                value.transpose(2, 3, 1, 0) if value.ndim == 4 else value
            )
    return check(arrays, ALEXNET_SHAPES, str(file))


def lpips(file: Path) -> Arrays:
    """LPIPS heads of both versions from the publisher's wheel, an unpacked package or our .npz.

    Args:
        file: a .whl, a folder that holds `weights/v0.0/alex.pth` and `weights/v0.1/alex.pth`, or
            an .npz with keys `v0.0.lin0` ... `v0.1.lin4`.

    Raises:
        WeightsError: not such a file.
    """
    if file.is_dir():
        return check(_lpips_heads(file), LPIPS_SHAPES, str(file))
    if file.suffix == ".whl":
        with tempfile.TemporaryDirectory() as scratch:
            try:
                with zipfile.ZipFile(file) as wheel:
                    for version in LPIPS_VERSIONS:
                        wheel.extract(f"lpips/weights/v{version}/alex.pth", scratch)
            except (KeyError, *BAD_ARCHIVE) as error:
                raise WeightsError(f"{file}: not the lpips wheel ({one_line(error)})") from error
            return check(_lpips_heads(Path(scratch) / "lpips"), LPIPS_SHAPES, str(file))
    return read_npz(file, LPIPS_SHAPES)


def _lpips_heads(package: Path) -> Arrays:
    arrays: Arrays = {}
    for version in LPIPS_VERSIONS:
        file = package / "weights" / f"v{version}" / "alex.pth"
        state = read_torch(file)
        for tap in range(5):
            arrays[f"v{version}.lin{tap}"] = pick(state, f"lin{tap}.model.1.weight", file).ravel()
    return arrays


def vgg_face(file: Path, shapes: Shapes = VGG_FACE_SHAPES) -> Arrays:
    """VGG-Face up to fc7, always for RGB, from one of three files.

    The order of the colours belongs to the file: keras-vggface's rcmalli_vggface_tf_vgg16.h5 was
    trained and is fed as BGR, so the first kernel's inputs are turned round here; Oxford's
    PyTorch port vgg_face_dag.pth takes RGB; our own .npz is RGB.

    Args:
        file: one of those.
        shapes: of the arrays (smaller ones in tests).

    Raises:
        WeightsError: not such a file.
    """
    if is_npz(file):
        return read_npz(file, shapes)
    arrays: Arrays = {}
    if is_hdf5(file):
        arrays = read_keras_h5(file, shapes)
        first = pick(arrays, "conv1_1.kernel", file)
        arrays["conv1_1.kernel"] = first[:, :, ::-1]
        return check(arrays, shapes, str(file))
    state = read_torch(file)
    for name in shapes:
        layer, part = name.split(".")
        value = pick(state, f"{layer}.{'weight' if part == 'kernel' else 'bias'}", file)
        if value.ndim == 4:
            value = value.transpose(2, 3, 1, 0)
        elif value.ndim == 2:
            if layer == "fc6" and value.shape[1] % 49 == 0:
                # PyTorch flattens the map channels first.
                value = value.reshape(len(value), -1, 7, 7).transpose(0, 2, 3, 1)
                value = value.reshape(len(value), -1)
            value = value.T
        arrays[name] = value
    return check(arrays, shapes, str(file))


def _folded(
    state: Arrays, convolution: str, norm: str, epsilon: float, shape: tuple[int, ...], file: Path
) -> tuple[np.ndarray, np.ndarray]:
    """Kernel of `shape` and bias of a PyTorch convolution with the frozen batch norm after it."""
    height, width, inputs, outputs = shape
    kernel = pick(state, f"{convolution}.weight", file, (outputs, inputs, height, width))
    gamma, beta, mean, variance = (
        pick(state, f"{norm}.{part}", file, (outputs,)).astype(np.float64)
        for part in ("weight", "bias", "running_mean", "running_var")
    )
    # An impossible variance becomes NaN, which `check` refuses.
    with np.errstate(invalid="ignore", divide="ignore"):
        scale = gamma / np.sqrt(variance + epsilon)
        return kernel.transpose(2, 3, 1, 0) * scale, beta - mean * scale


def resnet50_256d(file: Path, shapes: Shapes = RESNET50_SHAPES) -> Arrays:
    """ResNet-50-256D of VGGFace2 to its 256 features, for RGB, batch norm (1e-5) folded in.

    The order of the colours belongs to the file: VGGFace2's Caffe model takes BGR; its PyTorch
    form, a state dict `resnet50_256.pth`, RGB (the publishers' pytorch_feature_extractor.py feeds
    it PIL's pixels minus 131.0912, 103.8827, 91.4953). A first PyTorch release of 2018,
    `resnet50_256_pytorch.pth`, was a pickled Python object and is refused.

    Args:
        file: `resnet50_256_pytorch.tar.gz` as published, the `resnet50_256.pth` in it, or our
            own .npz.
        shapes: of the arrays (smaller ones in tests).

    Raises:
        WeightsError: not such a file.
    """
    if is_npz(file):
        return read_npz(file, shapes)
    if tarfile.is_tarfile(file):
        with tempfile.TemporaryDirectory() as scratch:
            unpacked = Path(scratch) / "resnet50_256.pth"
            unpack_tar(file, unpacked.name, unpacked)
            state = read_torch(unpacked)
    else:
        state = read_torch(file)
    arrays: Arrays = {}
    for key, shape in shapes.items():
        name = key.removesuffix(".kernel")
        if name == "feat_extract":
            inputs, outputs = shape
            kernel = pick(state, f"{name}.weight", file, (outputs, inputs, 1, 1))
            arrays[key], arrays[f"{name}.bias"] = (
                kernel[:, :, 0, 0].T,
                pick(state, f"{name}.bias", file),
            )
        elif name != key:
            kernel, bias = _folded(state, name, f"{name}_bn", 1e-5, shape, file)
            arrays[key], arrays[f"{name}.bias"] = kernel, bias
    return check(arrays, shapes, str(file))


def inception(file: Path) -> Arrays:
    """Inception-v3 of 2015 (the network of FID), for RGB, batch norm (1e-3) folded in.

    Args:
        file: the PyTorch conversion of `inception-2015-12-05` by pytorch-fid (torch-fidelity's is
            the same file), or our own .npz.

    Raises:
        WeightsError: not such a file.
    """
    if is_npz(file):
        return read_npz(file, INCEPTION_SHAPES)
    state = read_torch(file)
    arrays: Arrays = {
        "fc.kernel": pick(state, "fc.weight", file, (1008, 2048)).T,
        "fc.bias": pick(state, "fc.bias", file),
    }
    for key, shape in INCEPTION_SHAPES.items():
        name = key.removesuffix(".kernel")
        if name not in (key, "fc"):
            theirs = name.replace("_branch", ".branch")
            kernel, bias = _folded(state, f"{theirs}.conv", f"{theirs}.bn", 1e-3, shape, file)
            arrays[key], arrays[f"{name}.bias"] = kernel, bias
    return check(arrays, INCEPTION_SHAPES, str(file))


def pieapp(file: Path) -> Arrays:
    """PieAPP v0.1, for patches whose colours stand in the order that is fed.

    Args:
        file: `PieAPPv0.1.pth` as its authors and piq publish it, or our own .npz.

    Raises:
        WeightsError: not such a file.
    """
    if is_npz(file):
        return read_npz(file, PIEAPP_SHAPES)
    state = read_torch(file)
    taps = pieapp_taps()
    arrays: Arrays = {}
    for key, shape in PIEAPP_SHAPES.items():
        name, part = key.split(".")
        value = pick(state, f"{name}.{'weight' if part == 'kernel' else 'bias'}", file)
        if len(shape) == 4 and value.ndim == 4:
            value = value.transpose(2, 3, 1, 0)
        elif part == "kernel" and value.shape == shape[::-1]:
            if name.startswith("fc1_"):
                value = _channels_last(value, taps if name == "fc1_score" else taps[-1:])
            value = value.T
        elif name == "ref_score_subtract":
            # As published this matrix of one number is a vector.
            value = value.reshape(shape) if value.size == 1 else value
        arrays[key] = value
    return check(arrays, PIEAPP_SHAPES, str(file))


def _channels_last(matrix: np.ndarray, maps: tuple[tuple[int, int], ...]) -> np.ndarray:
    """(out, in) whose inputs are maps (side, channels), flattened by PyTorch channels first."""
    ends = np.cumsum([side * side * channels for side, channels in maps])[:-1]
    return np.concatenate(
        [
            part.reshape(len(matrix), channels, side, side)
            .transpose(0, 2, 3, 1)
            .reshape(len(matrix), -1)
            for part, (side, channels) in zip(np.split(matrix, ends, axis=1), maps, strict=True)
        ],
        axis=1,
    )


# ------------------------------------------------------------------------------------ dlib's .dat


def dlib_resnet(file: Path) -> Arrays:
    """dlib's face descriptor network with its affine layers folded into the convolutions.

    The file holds the layers from the picture to the descriptor. Every tensor stands after the
    bytes 01 02 (its format's version) and four packed integers, and is little-endian float32; a
    convolution's tensor is (out, in, height, width) followed by the biases, an affine layer's is
    gamma followed by beta. The input's scaling, (255 x - mean) / 256, is folded into the stem,
    which does not pad, so that the result is exact up to rounding.

    Returns:
        Arrays of `DLIB_SHAPES`; the stem expects RGB in [0, 1].

    Raises:
        WeightsError: not dlib's file, or cut off.
    """
    try:
        data = file.read_bytes()
    except OSError as error:
        raise WeightsError(f"{file}: cannot be read ({one_line(error)})") from error
    arrays: Arrays = {}
    position = 0
    for name, shape in DLIB_SHAPES.items():
        if not name.endswith(".kernel"):
            continue
        if len(shape) == 2:
            flat, position = _dlib_tensor(data, position, shape, file)
            arrays[name] = flat.reshape(shape)
            continue
        height, width, inputs, outputs = shape
        count = height * width * inputs * outputs
        flat, position = _dlib_tensor(data, position, (count + outputs, 1), file)
        affine, position = _dlib_tensor(data, position, (2 * outputs, 1), file)
        gamma, beta = np.split(affine.astype(np.float64), 2)
        kernel = flat[:count].reshape(outputs, inputs, height, width).transpose(2, 3, 1, 0) * gamma
        bias = flat[count:] * gamma + beta
        if name == "stem.kernel":
            # dlib's input_rgb_image_sized.
            mean = np.array([122.782, 117.001, 104.298])
            bias = bias - np.einsum("hwio,i->o", kernel, mean / 256)
            kernel = kernel * (255 / 256)
        arrays[name] = kernel
        arrays[name.replace("kernel", "bias")] = bias
    return check(arrays, DLIB_SHAPES, str(file))


def _dlib_tensor(
    data: bytes, position: int, shape: tuple[int, int], file: Path
) -> tuple[np.ndarray, int]:
    """The next tensor of exactly this shape (first two of four dimensions) and where it ends."""
    header = b"\x01\x02" + b"".join(_dlib_integer(n) for n in (*shape, 1, 1))
    found = data.find(header, position)
    start = found + len(header)
    count = shape[0] * shape[1]
    # Between two tensors stand a few hundred bytes of settings, never another tensor.
    if found < 0 or found - position > 4096 or start + 4 * count > len(data):
        raise WeightsError(
            f"{file}: not dlib's dlib_face_recognition_resnet_model_v1.dat, or cut off "
            f"(no tensor of {shape} after byte {position})"
        )
    return np.frombuffer(data, "<f4", count, start), start + 4 * count


def _dlib_integer(value: int) -> bytes:
    size = (value.bit_length() + 7) // 8
    return bytes([size]) + value.to_bytes(size, "little")


Converter = Callable[[Path], Arrays]
