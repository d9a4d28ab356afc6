"""PieAPP against piq, with the same random weights carried across."""

from pathlib import Path

import keras
import numpy as np
import pytest

from facehal.errors import WeightsError
from facehal.features.pieapp import DENSE, SPARSE, PieAPP
from facehal.weights.converters import pieapp as published

SLIM = {"weights": None, "width": 2, "hidden": 8}


@pytest.fixture(scope="module")
def reference(submodule, tmp_path_factory: pytest.TempPathFactory):
    """piq's PieAPP with random weights, which are also installed in our store."""
    module = submodule("piq", "pieapp")
    torch = pytest.importorskip("torch")
    folder = tmp_path_factory.mktemp("pieapp")
    torch.manual_seed(8)
    state = module.PieAPPModel().state_dict()
    for name, value in state.items():
        if name.startswith("conv") and value.ndim == 4:
            torch.nn.init.kaiming_normal_(value)
    # Weights of one sign, so that their sum stays away from zero, as in the trained network.
    state["fc2_weight.weight"].abs_()
    state["fc2_weight.bias"].fill_(0.5)
    # What the pictures decide outweighs the last bias.
    state["fc2_score.weight"] *= 1000
    # As published: a vector, which piq makes a matrix.
    state["ref_score_subtract.weight"] = state["ref_score_subtract.weight"].reshape(1)
    torch.save(state, folder / "PieAPPv0.1.pth")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("FACEHAL_WEIGHTS", str(folder))
        np.savez(folder / "pieapp.npz", **published.convert(folder / "PieAPPv0.1.pth"))
        patch.setattr(torch.hub, "load_state_dict_from_url", lambda *_, **__: dict(state))
        yield module.PieAPP(reduction="none", stride=SPARSE)


def _pair(n: int, height: int, width: int) -> list[np.ndarray]:
    random = np.random.default_rng(2)
    reference = random.uniform(0, 1, (n, height, width, 3)).astype(np.float32)
    noise = random.normal(0, 0.1, reference.shape) * np.arange(1, n + 1)[:, None, None, None]
    return [reference, np.clip(reference + noise, 0, 1).astype(np.float32)]


def test_equal_to_piq(reference) -> None:
    torch = pytest.importorskip("torch")
    pieapp = PieAPP(channels="rgb")
    for size, stride in (((128, 128), SPARSE), ((64, 92), SPARSE), ((70, 78), DENSE)):
        pair = _pair(2, *size)
        reference.stride = pieapp.stride = stride
        target, picture = (torch.tensor(p).permute(0, 3, 1, 2) for p in pair)
        theirs = reference(picture, target).numpy()
        ours = np.asarray(pieapp(*pair))
        assert ours.shape == (2,)
        assert abs(theirs[0] - theirs[1]) > 0.05 * np.abs(theirs).max()
        difference = np.abs(ours - theirs).max() / np.abs(theirs).max()
        # Measured: 1.3e-5 of sums whose parts have both signs.
        assert difference < 1e-4, f"{size}, stride {stride}: {difference:.1e}"
    # The same network, colours the other way round.
    pieapp.channels, pieapp.stride = "bgr", reference.stride
    np.testing.assert_allclose(pieapp(*(p[..., ::-1] for p in pair)), ours, rtol=1e-5)


@pytest.mark.core
def test_how_many_patches_at_once_changes_nothing() -> None:
    keras.utils.set_random_seed(0)
    pieapp = PieAPP(**SLIM)
    # Weights of one sign, as in the reference above: a sum near zero would make much of rounding.
    head = pieapp.network.get_layer("fc2_weight")
    head.kernel.assign(np.abs(head.kernel.numpy()))
    head.bias.assign([0.5])
    pair = _pair(5, 100, 128)
    expected = np.asarray(pieapp(*pair))
    assert expected.shape == (5,)
    for patches in (1, 4, 7, 1000):
        pieapp.patches = patches
        np.testing.assert_allclose(np.asarray(pieapp(*pair)), expected, rtol=1e-4)
    pieapp.patches = 36
    alone = [float(np.asarray(pieapp(a[None], b[None]))[0]) for a, b in zip(*pair, strict=True)]
    np.testing.assert_allclose(alone, expected, rtol=1e-4)


@pytest.mark.parametrize(("stride", "count"), [(SPARSE, 9), (DENSE, 121)])
def test_number_of_patches_at_128(stride: int, count: int, monkeypatch) -> None:
    pieapp, seen = PieAPP(stride=stride, **SLIM), []
    network = pieapp.network

    def counting(pair, training: bool):
        seen.append(pair[0].shape[0])
        return network(pair, training=training)

    pieapp.network = counting
    pieapp(*_pair(1, 128, 128))
    assert sum(seen) == count
    assert max(seen) <= pieapp.patches


def test_wrong_arguments_are_one_line() -> None:
    pieapp = PieAPP(**SLIM)
    small, other = _pair(1, 63, 80)[0], _pair(1, 80, 80)[0]
    with pytest.raises(ValueError, match="64x64 pixels or more"):
        pieapp(small, small)
    with pytest.raises(ValueError, match="differ"):
        pieapp(small, other)
    with pytest.raises(ValueError, match="RGB of known"):
        pieapp(other[..., :1], other[..., :1])
    with pytest.raises(ValueError, match="channels"):
        PieAPP(channels="gbr", **SLIM)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="1 or more"):
        PieAPP(stride=0, **SLIM)
    assert pieapp(other[:0], other[:0]).shape == (0,)
    assert not pieapp.network.trainable_variables


def test_float32_under_mixed_precision() -> None:
    policy = keras.config.dtype_policy()
    keras.config.set_dtype_policy("mixed_bfloat16")
    try:
        score = PieAPP(**SLIM)(*_pair(1, 64, 64))
    finally:
        keras.config.set_dtype_policy(policy)
    assert keras.backend.standardize_dtype(score.dtype) == "float32"


def test_missing_weights_say_how_to_get_them(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setenv("FACEHAL_WEIGHTS", str(tmp_path))
    with pytest.raises(WeightsError, match="facehal weights get pieapp"):
        PieAPP()


def test_other_files_are_refused(tmp_path: Path) -> None:
    torch = pytest.importorskip("torch", reason="needs PyTorch (extra: reference)")
    torch.save({"conv1.weight": torch.zeros(64, 3, 5, 5)}, tmp_path / "x.pth")
    with pytest.raises(WeightsError, match=r"holds no conv1\.bias; it is not a file of this"):
        published.convert(tmp_path / "x.pth")


def test_published_sizes() -> None:
    shapes = published.SHAPES
    assert shapes["fc1_score.kernel"] == (120832, 512)
    assert shapes["fc1_weight.kernel"] == (2048, 512)
