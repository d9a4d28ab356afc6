import math

import pytest

from facehal.errors import TrainingError
from facehal.training.bar import Bar

GOOD = {"8/pixel": 0.1, "8/adversarial": 0.2}
BAD = {"8/pixel": 0.1, "8/adversarial": math.nan}


def bar(folder, step=0, show=False, precision="float32") -> Bar:
    span = {"step": step, "span": (0, 100), "steps_per_epoch": 25, "epochs": 4}
    return Bar("8/pixel", folder, **span, precision=precision, show=show)


@pytest.mark.parametrize("show", [True, False])
def test_alarm_in_time(tmp_path, show):
    """At the first step of a stretch and at every tenth, shown or not."""
    watcher, looks = bar(tmp_path, show=show), []

    def read(logs):
        looks.append(watcher.step)
        return logs

    watcher.stepped(lambda: read(GOOD))
    for _ in range(1, 9):
        watcher.stepped(lambda: read(BAD))  # reading a loss costs time: not looked at
    with pytest.raises(TrainingError, match="step 10: 8/adversarial is not finite"):
        watcher.stepped(lambda: read(BAD))
    assert looks == [1, 10]
    watcher.close()


def test_alarm_before_a_checkpoint(tmp_path):
    watcher = bar(tmp_path, step=20)
    watcher.stepped(lambda: {"8/pixel": 0.1})
    watcher.stepped(lambda: {"8/pixel": math.inf})
    with pytest.raises(TrainingError, match="step 22: 8/pixel is not finite"):
        watcher.look({"8/pixel": math.inf})


def test_alarm_names_the_last_checkpoint(tmp_path):
    with pytest.raises(TrainingError, match="last good checkpoint is none"):
        bar(tmp_path).look({"8/pixel": math.nan})
    for step in (1, 2):
        (tmp_path / f"step_0000000{step}.npz").touch()
    with pytest.raises(TrainingError, match=r"last good checkpoint is .*step_00000002\.npz"):
        bar(tmp_path).look({"8/pixel": math.nan})


def test_alarm_names_the_precision(tmp_path):
    """Where it is a likely cause, and only there."""
    with pytest.raises(TrainingError, match=r"lower learning rates$"):
        bar(tmp_path).look(BAD)
    with pytest.raises(TrainingError, match=r"float32 \(training.precision is bfloat16, a likely"):
        bar(tmp_path, precision="bfloat16").look(BAD)


def test_a_phase_that_did_not_come(tmp_path):
    """The watched loss may be of a phase that is seldom: nothing to show, no alarm."""
    watcher = bar(tmp_path)
    watcher.stepped(lambda: {"critic": 0.5})
    assert watcher.step == 1


def test_bar_after_a_resume_inside_a_stage(tmp_path, monkeypatch):
    """Its own stage, the run's epochs; the time to the end from the steps done here alone, without
    the first, which builds the graph."""
    now = [1000.0]
    watcher = Bar(
        *("16/pixel", tmp_path),
        **{"step": 130, "span": (100, 200), "steps_per_epoch": 50, "epochs": 6},
        stage="block 16 (2/3)",
    )
    shown = watcher.bar
    shown.start_t = shown.last_print_t = now[0]
    shown._time = lambda: now[0]
    assert (shown.n, shown.total) == (30, 100) and "block 16 (2/3), epoch 3/6" in str(shown)
    for step in range(21):
        now[0] += 2.0 if step else 60.0  # the first builds
        watcher.stepped(lambda: {"16/pixel": 0.25})
    watcher.bar.mininterval = 0
    # 51 of 100 steps stand, 20 of them were timed at two seconds: 49 are left.
    state = shown.format_dict
    assert (state["n"], state["initial"], state["elapsed"]) == (51, 31, 40.0)
    assert "01:38" in str(shown) and "epoch 4/6" in str(shown) and "16/pixel 0.25" in str(shown)
    for _ in range(49):
        watcher.stepped(lambda: {"16/pixel": 0.25})
    assert "block 16 (2/3), epoch 4/6: 100%" in str(shown)
    watcher.close()
