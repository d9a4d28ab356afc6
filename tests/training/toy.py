"""A small family that is none of the package's: a WGAN with gradient penalty that learns colours.

The generator paints a picture of one colour from noise; a critic of the Wasserstein kind with a
penalty on the norm of its gradient (Gulrajani et al. 2017) trains at every step, the generator at
every third. A folder of :mod:`facehal.models` holds just such a module.
"""

from dataclasses import dataclass, field

import keras
from keras import ops

from facehal.backend import input_gradient
from facehal.config import Experiment, TrainingConfig, setting
from facehal.models.base import Family, PictureModel
from facehal.models.task import Chart, ChartLine, Page, Phase, Stage, System, Task, Update

NOISE = 4


@dataclass(frozen=True)
class ToyTraining(TrainingConfig):
    rate: float = setting(1e-2, positive=True)
    penalty: float = setting(10.0)
    critics: int = setting(3, positive=True)


@dataclass(frozen=True)
class ToyConfig(Experiment):
    model: str = "toy"
    training: ToyTraining = field(default_factory=ToyTraining)


@keras.saving.register_keras_serializable("toy")
class Painter(PictureModel):
    """Noise → one colour; as a picture model it fills what is no face with the mean colour."""

    def __init__(self, **options):
        super().__init__(**options)
        self.resolutions = (8,)
        self.dense = keras.layers.Dense(3, name="colour")
        self.dense.build((None, NOISE))
        self.built = True

    def colours(self, noise):
        return ops.sigmoid(self.dense(noise))

    def hallucinate(self, faces, masks, training=False, latent=None):
        noise = ops.zeros((ops.shape(faces[8])[0], NOISE))
        colour = self.colours(noise)[:, None, None]
        return {"8": faces[8] + (1.0 - masks[8]) * colour}

    def get_config(self):
        return {"name": self.name}


class ToyTask(Task):
    """One stage, two phases."""

    noise = NOISE

    def __init__(self, config: ToyConfig):
        self.config = config
        self.side = 8
        self.stages = (Stage("", "", config.training.epochs),)
        self.columns = ("critic", "distance", "penalty", "generator")

    def build(self, stage, previous, total_steps) -> System:
        training = self.config.training
        painter = Painter(name="painter")
        critic = keras.Sequential(
            [keras.Input((3,)), keras.layers.Dense(16, "tanh"), keras.layers.Dense(1)],
            name="critic",
        )

        def real(batch):
            return ops.mean(ops.cast(batch["faces"], "float32") / 255.0, axis=(1, 2))

        def critic_loss(batch, step):
            ours, theirs = ops.stop_gradient(painter.colours(batch["noise"])), real(batch)
            distance = ops.mean(critic(theirs)) - ops.mean(critic(ours))
            share = ops.sigmoid(batch["noise"][:, :1])
            slope = input_gradient(critic, share * ours + (1.0 - share) * theirs)
            norm = ops.sqrt(ops.sum(ops.square(slope), axis=1) + 1e-12)
            penalty = ops.mean(ops.square(norm - 1.0))
            total = -distance + training.penalty * penalty
            return total, {"critic": total, "distance": distance, "penalty": penalty}

        def generator_loss(batch, step):
            loss = -ops.mean(critic(painter.colours(batch["noise"])))
            return loss, {"generator": loss}

        def optimizer(name):
            return keras.optimizers.Adam(training.rate, beta_1=0.5, name=name)

        ours = Update(optimizer("painting"), painter.trainable_variables)
        theirs = Update(optimizer("judging"), critic.trainable_variables)
        return System(
            model=painter,
            networks=[painter, critic],
            phases=[
                Phase("critic", critic_loss, [theirs], ("critic", "distance", "penalty")),
                Phase("generator", generator_loss, [ours], ("generator",), every=training.critics),
            ],
            watched="critic",
            momentum=training.moving_average,
        )

    def page(self) -> Page:
        lines = [ChartLine("distance", "distance", "c0"), ChartLine("penalty", "penalty", "c1")]
        return Page("Toy", {"critic": [Chart("Critic", lines)]}, "As the names say.", side=8)


FAMILIES = (Family("toy", ToyConfig, ToyTask),)
