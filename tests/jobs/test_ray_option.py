"""What `--ray` means and refuses; here no cluster is started."""

import importlib.util

import pytest
import typer
from typer.testing import CliRunner

from facehal.cli.app import RayOption, WithRay, app
from facehal.errors import ConfigError, FacehalError
from facehal.jobs.on_ray import Ray

verb = typer.Typer()


@verb.command(cls=WithRay)
def show(word: str, ray: RayOption = None) -> None:
    print(word, ray)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("data", "data None"),
        ("data --ray", "data local"),
        ("--ray data", "data local"),
        ("data --ray auto", "data auto"),
        ("--ray head.example:6379 data", "data head.example:6379"),
        ("--ray=10.0.0.1:6379 data", "data 10.0.0.1:6379"),
    ],
)
def test_an_address_may_follow(words, said):
    assert CliRunner().invoke(verb, words.split()).stdout == f"{said}\n"


def test_gpus_are_those_of_ray(sample_data, tmp_path):
    words = ["augment", str(sample_data), str(tmp_path / "out"), "--ray-gpus", "1"]
    with pytest.raises(ConfigError, match="--ray-gpus is for --ray"):
        CliRunner().invoke(app, words, catch_exceptions=False)
    assert not (tmp_path / "out").exists()


@pytest.mark.skipif(importlib.util.find_spec("ray") is not None, reason="Ray is installed")
def test_without_ray():
    with pytest.raises(FacehalError, match=r"pip install 'facehal\[ray\]'"):
        Ray()
