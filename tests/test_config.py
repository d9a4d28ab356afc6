import math
from pathlib import Path

import pytest
import yaml

from facehal.errors import ConfigError
from facehal.models import from_dict, load_config
from facehal.models.cascade.config import CascadeConfig

EXPERIMENTS = Path(__file__).resolve().parents[1] / "experiments"


def write(folder: Path, name: str, text: str) -> Path:
    path = folder / name
    path.write_text(text, encoding="utf-8")
    return path


def test_defaults_are_the_papers():
    config = CascadeConfig()
    assert config == from_dict({}) == from_dict({"size": "paper"})
    network, loss, training = config.network, config.loss, config.training
    assert (network.base, network.cap, network.discriminator_width) == (64, 512, 1.0)
    assert network.resolutions == (8, 16, 32, 64, 128) and not network.end_to_end
    weights = (loss.perceptual, loss.adversarial, loss.identity, loss.total_variation)
    assert weights == (1.0, 0.1, 10.0, 1e-6)
    assert (loss.pixel, loss.identity_network, loss.lpips_version) == ("l1", "vgg_face", "0.0")
    assert (loss.perceptual_from, loss.label_smoothing) == (32, 0.9)
    rates = (training.generator_rate, training.discriminator_rate)
    assert rates == (1e-4, 2e-4) and (training.beta1, training.beta2) == (0.5, 0.999)
    assert (training.epochs, training.batch_size, training.mirror) == (50, 10, True)
    assert (config.model, training.epochs_per_stage) == ("cascaded", 50)
    assert (training.precision, training.moving_average) == ("float32", 0.0)


def test_the_cascades_experiment_is_the_default():
    assert load_config(EXPERIMENTS / "cascaded.yaml") == CascadeConfig()


@pytest.mark.parametrize("size", ["", "_compact", "_tiny"])
def test_progan_differs_in_the_model_and_its_schedule_alone(size):
    """ "The loss function, hyper parameters and training data are kept the same" (section 3.1)."""
    progan = load_config(EXPERIMENTS / f"progan{size}.yaml").to_dict()
    cascade = load_config(EXPERIMENTS / f"{size[1:] or 'cascaded'}.yaml").to_dict()
    assert (progan.pop("model"), cascade.pop("model")) == ("progan", "cascaded")
    epochs = progan["training"].pop("epochs_per_stage")
    del cascade["training"]["epochs_per_stage"]
    for name in ("widths", "latent"):  # what one block at a time cannot have
        assert not progan["network"].pop(name)
        del cascade["network"][name]
    assert progan == cascade and epochs == {"": 50, "_compact": 3, "_tiny": 20}[size]


@pytest.mark.parametrize("path", sorted(EXPERIMENTS.glob("*.yaml")), ids=lambda path: path.stem)
def test_experiments(path, tmp_path):
    """Each can be read, and what a run folder stores of it reads back as the same."""
    config = load_config(path)
    stored = write(tmp_path, "config.yaml", yaml.safe_dump(config.to_dict(), sort_keys=False))
    assert load_config(stored) == config


@pytest.mark.parametrize("size", CascadeConfig.SIZES)
def test_sizes(size):
    config = from_dict({"size": size, "network": {"cap": 24}})
    assert config.network.base == CascadeConfig.SIZES[size]["base"] and config.network.cap == 24
    assert from_dict(config.to_dict()) == config


def test_shipped_experiments_by_name(tmp_path, monkeypatch):
    """From anywhere; a file of that name here comes first only as a path."""
    monkeypatch.chdir(tmp_path)
    assert load_config("compact") == load_config(EXPERIMENTS / "compact.yaml")
    write(tmp_path, "mine.yaml", "extends: other.yaml\n")
    write(tmp_path, "other.yaml", "size: tiny\n")
    assert load_config("mine.yaml").size == "tiny"
    with pytest.raises(ConfigError, match=r"kompakt: neither a file nor a shipped .*compact, "):
        load_config("kompakt")


def test_extends(tmp_path):
    write(tmp_path, "a.yaml", "size: compact\nloss: {adversarial: 0.5, identity: 3}\n")
    write(tmp_path, "b.yaml", "extends: a.yaml\nloss: {identity: 0}\ntraining:\n  epochs: 3\n")
    (tmp_path / "sub").mkdir()
    path = write(tmp_path, "sub/c.yaml", "extends: ../b.yaml\nsize: tiny\nloss:\ntraining:\n")
    config = load_config(path)
    assert config.size == "tiny" and config.network.base == 2
    assert (config.loss.adversarial, config.loss.identity) == (0.5, 0.0)
    assert config.training.epochs == 3


def test_empty_file_and_empty_section(tmp_path):
    assert load_config(write(tmp_path, "a.yaml", "")) == CascadeConfig()
    assert load_config(write(tmp_path, "b.yaml", "loss:\n  # pixel: l2\n")) == CascadeConfig()


def test_numbers_as_yaml_reads_them(tmp_path):
    """YAML 1.1 reads 1e-5 as text; a whole number is a float where one is expected."""
    loss = load_config(write(tmp_path, "a.yaml", "loss: {total_variation: 1e-5, identity: 3}")).loss
    assert loss.total_variation == 1e-5 and type(loss.identity) is float


REFUSED = {
    "unknown section 'losses'": {"losses": {}},
    "unknown section 3": {3: {}, "x": {}},
    "unknown name 'lambda'": {"loss": {"lambda": 1}},
    "unknown name 7": {"loss": {7: 1, "x": 2}},
    "known are augmentation, batch_size": {"training": {"rate": 1}},
    "size is one of paper, standard": {"size": "huge"},
    "size is one of .* not \\['tiny'\\]": {"size": ["tiny"]},
    "model is one of cascaded, progan, .*not 'gan'": {"model": "gan"},
    "model is one of .* not \\[\\]": {"model": []},
    "end_to_end is for the blocks of a cascade; progan has one": {
        "model": "progan",
        "network": {"end_to_end": True},
    },
    "widths is for the blocks of a cascade": {
        "model": "progan",
        "network": {"resolutions": [8, 16], "widths": [[2, 8], [2, 8]]},
    },
    "latent is for the blocks of a cascade": {"model": "progan", "network": {"latent": 2}},
    "start is for the blocks of a cascade": {"model": "progan", "network": {"start": "compact"}},
    "end_to_end would train the blocks of start": {
        "network": {"start": "compact", "end_to_end": True}
    },
    "widths has 1 pairs for 2 blocks": {"network": {"resolutions": [8, 16], "widths": [[2, 8]]}},
    "widths is a list of \\[base, cap\\], one for each block, not \\[\\[2\\]\\]": {
        "network": {"widths": [[2]]}
    },
    "widths is a list of .*, not \\[\\[2, 0\\]\\]": {"network": {"widths": [[2, 0]]}},
    "widths is a list of .*, not \\[\\[2, 8.5\\]\\]": {"network": {"widths": [[2, 8.5]]}},
    "widths is a list of .*, not \\[2, 8\\]": {"network": {"widths": [2, 8]}},
    "widths is a list of .*, not 5": {"network": {"widths": 5}},
    "latent cannot be -1": {"network": {"latent": -1}},
    "latent needs a batch_size of 4 or more, not 3": {
        "network": {"latent": 2},
        "training": {"batch_size": 3},
    },
    "start must be of type str, not 5": {"network": {"start": 5}},
    "gradient_penalty needs discriminator_normalization: none": {"loss": {"gradient_penalty": 1}},
    "gradient_penalty cannot be -1.0": {
        "network": {"discriminator_normalization": "none"},
        "loss": {"gradient_penalty": -1},
    },
    "discriminator_normalization is one of batch, none, not 'layer'": {
        "network": {"discriminator_normalization": "layer"}
    },
    "divergence cannot be -1.0": {"loss": {"divergence": -1}},
    "epochs_per_stage cannot be 0": {"training": {"epochs_per_stage": 0}},
    "network must be a mapping": {"network": 5},
    "loss must be a mapping": {"loss": ["pixel"]},
    "pixel is one of l1, l2, not 'l3'": {"loss": {"pixel": "l3"}},
    "strides is one of": {"network": {"strides": []}},
    "precision is one of": {"training": {"precision": "float16"}},
    "lpips_version is one of": {"loss": {"lpips_version": 0.2}},
    "starts at 8 and doubles, up to 1024, not \\[16, 32\\]": {"network": {"resolutions": [16, 32]}},
    "starts at 8 and doubles, up to 1024, not \\[\\]": {"network": {"resolutions": []}},
    "starts at 8 and doubles, up to 1024, not 8": {"network": {"resolutions": 8}},
    "up to 1024, not \\[8, 16, 32, 64, 128, 256, 512, 1024, 2048\\]": {
        "network": {"resolutions": [8, 16, 32, 64, 128, 256, 512, 1024, 2048]}
    },
    "optimizer is one of auto, joined, adam": {"training": {"optimizer": "sgd"}},
    "batch_size must be of type int, not 2.5": {"training": {"batch_size": 2.5}},
    "mirror must be of type bool, not 1": {"training": {"mirror": 1}},
    "epochs must be of type int, not True": {"training": {"epochs": True}},
    "identity must be of type float, not 'much'": {"loss": {"identity": "much"}},
    "epochs cannot be 0": {"training": {"epochs": 0}},
    "seed cannot be -1": {"training": {"seed": -1}},
    "adversarial cannot be -0.1": {"loss": {"adversarial": -0.1}},
    "adversarial cannot be nan": {"loss": {"adversarial": math.nan}},
    "generator_rate cannot be inf": {"training": {"generator_rate": math.inf}},
    "moving_average cannot be 1.0": {"training": {"moving_average": 1}},
    "beta1 cannot be 1.5": {"training": {"beta1": 1.5}},
    "label_smoothing cannot be 1.1": {"loss": {"label_smoothing": 1.1}},
    "perceptual_from cannot be 16": {"loss": {"perceptual_from": 16}},
}


@pytest.mark.parametrize("message", REFUSED)
def test_refused(message):
    with pytest.raises(ConfigError, match=message) as caught:
        from_dict(REFUSED[message], source="my.yaml")
    assert str(caught.value).startswith("my.yaml: ") and "\n" not in str(caught.value)


def test_a_version_needs_no_quotes():
    config = from_dict(yaml.safe_load("loss: {lpips_version: 0.1}"))
    assert config.loss.lpips_version == "0.1"


def test_resolutions_are_whole_numbers():
    assert from_dict({"network": {"resolutions": [8.0, 16.0]}}).network.resolutions == (8, 16)
    assert type(from_dict({"network": {"resolutions": [8.0]}}).network.resolutions[0]) is int


def test_widths_of_every_block():
    """Stored and read back as the same; without them every block has the size's."""
    config = from_dict({"size": "tiny", "network": {"widths": [[2, 8], [2, 16], [3, 24]]}})
    assert config.network.widths == ((2, 8), (2, 16), (3, 24))
    assert config.network.width_of(2) == (3, 24)
    assert from_dict(yaml.safe_load(yaml.safe_dump(config.to_dict()))) == config
    assert from_dict({"size": "tiny"}).network.width_of(2) == (2, 16)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("- a\n- b\n", "not a mapping of sections"),
        ("loss: {\n", "not a YAML file"),
        ("size: tiny\nsize: !!python/object:os.system {}\n", "not a YAML file"),
        ("extends: [a.yaml]\n", "extends names one file"),
        ("extends: missing.yaml\n", r"missing\.yaml: cannot be read"),
        ("extends: a.yaml\n", "extends itself"),
        ("loss: {pixels: l1}\n", r"a\.yaml: unknown name 'pixels'"),
    ],
)
def test_refused_files(tmp_path, text, message):
    with pytest.raises(ConfigError, match=message) as caught:
        load_config(write(tmp_path, "a.yaml", text))
    assert "\n" not in str(caught.value)


def test_a_circle_of_files(tmp_path):
    write(tmp_path, "a.yaml", "extends: b.yaml\n")
    with pytest.raises(ConfigError, match="extends itself"):
        load_config(write(tmp_path, "b.yaml", "extends: a.yaml\n"))


def test_not_text_and_not_there(tmp_path):
    (tmp_path / "a.yaml").write_bytes(b"\xff\xfe\x00size")
    with pytest.raises(ConfigError, match="not a YAML file"):
        load_config(tmp_path / "a.yaml")
    for path in (tmp_path, tmp_path / "b.yaml"):
        with pytest.raises(ConfigError, match="cannot be read"):
            load_config(path)


def test_what_a_resumed_run_may_change():
    """Its length and its warnings, nothing else."""
    config = from_dict({})
    free = ("epochs", "epochs_per_stage", "collapse_bound", "collapse_epochs", "collapse_steps")
    names = set(config.to_dict()["training"]) - set(config.fixed()["training"])
    assert names == set(free)
    assert config.replace_training(**dict.fromkeys(free, 7)).fixed() == config.fixed()
    assert config.replace_training(seed=7).fixed() != config.fixed()


def test_replace_training():
    config = from_dict({"size": "tiny", "loss": {"identity": 0}})
    changed = config.replace_training(epochs=3)
    assert changed.training.epochs == 3
    assert (changed.size, changed.network, changed.loss) == (
        config.size,
        config.network,
        config.loss,
    )
    with pytest.raises(ConfigError, match="unknown name 'epoch'"):
        config.replace_training(epoch=3)
    with pytest.raises(ConfigError, match="batch_size cannot be 0"):
        config.replace_training(batch_size=0)
