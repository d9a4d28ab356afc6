import pytest

from facehal.config import TrainingConfig
from facehal.errors import TrainingError
from facehal.training.history import Row, collapses, read_history, resolutions, total_epochs

WATCH = TrainingConfig(collapse_bound=0.02, collapse_epochs=3, collapse_steps=500)


def rows(losses, steps=1000, resolution=64):
    name = f"{resolution}/discriminator"
    return [
        Row({"epoch": n, "step": n * steps, "seconds": 1.0, name: loss})
        for n, loss in enumerate(losses, 1)
    ]


def test_history_of_stages(tmp_path):
    """What a stage does not have is left out, not nought."""
    assert read_history(tmp_path) == []  # before the end of the first epoch
    (tmp_path / "history.csv").write_text(
        "epoch,step,seconds,stage,8/pixel,16/pixel\n1,3,2.5,8,0.25,\n2,6,3,16,,0.5\n"
    )
    first, second = read_history(tmp_path)
    assert first == {"epoch": 1, "step": 3, "seconds": 2.5, "8/pixel": 0.25}
    assert (first.stage, second.stage) == ("8", "16")
    assert "8/pixel" not in second and second["16/pixel"] == 0.5
    assert resolutions([first, second]) == [8, 16]


@pytest.mark.parametrize(
    "text", ["epoch,step,seconds\n1,3,soon\n", "name\n1\n", "epoch,step,seconds\n1,3,2,9\n"]
)
def test_not_a_history(tmp_path, text):
    (tmp_path / "history.csv").write_text(text)
    with pytest.raises(TrainingError, match=r"history\.csv: not a history that training wrote"):
        read_history(tmp_path)


def test_total_epochs():
    assert total_epochs([("", 7)], []) == 7 == total_epochs([("", 7)], rows([0.1] * 3))
    growing = [("8", 4), ("16", 4), ("32", 4)]
    assert total_epochs(growing, []) == 12
    # The first stage was over when it got four epochs instead of two.
    done = rows([0.1] * 3)
    for row, stage in zip(done, ("8", "8", "16"), strict=True):
        row.stage = stage
    assert total_epochs(growing, done[:2]) == 12 and total_epochs(growing, done) == 2 + 4 + 4


def test_collapse():
    """Three epochs in a row, and once only."""
    assert collapses(rows([0.4, 0.01, 0.01, 0.03, 0.01, 0.01]), WATCH) == []
    (one,) = collapses(rows([0.4, 0.01, 0.015, 0.013, 0.4, 0.01, 0.01, 0.01]), WATCH)
    assert (one.resolution, one.epoch, one.epochs, one.loss) == (64, 4, 3, 0.013)
    assert "epoch 4" in str(one) and "block 64" in str(one) and "\n" not in str(one)


def test_collapse_on_short_epochs():
    """Ten epochs of fifty steps are five hundred."""
    assert collapses(rows([0.001] * 9, steps=50), WATCH) == []
    (one,) = collapses(rows([0.001] * 12, steps=50), WATCH)
    assert (one.epoch, one.epochs) == (10, 10)


def test_collapse_in_every_block_by_epoch():
    """A growing network: the rows of another stage end what came before."""
    grown = rows([0.01] * 2, resolution=8) + rows([0.5, 0.5, 0.01, 0.01, 0.01], resolution=16)[2:]
    assert [one.resolution for one in collapses(grown, WATCH)] == [16]
    both = [
        {**a, **b}
        for a, b in zip(rows([0.01] * 4, resolution=8), rows([0.01] * 4), strict=True)
    ]  # fmt: skip
    both[0]["8/discriminator"] = 0.4
    assert [(one.resolution, one.epoch) for one in collapses(both, WATCH)] == [(64, 3), (8, 4)]


def test_collapse_can_be_switched_off():
    assert collapses(rows([0.0] * 9), TrainingConfig(collapse_bound=0.0)) == []
