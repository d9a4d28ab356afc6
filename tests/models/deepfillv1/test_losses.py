"""Discounts by hand, and a whole step's losses and gradients against PyTorch.

Achieved on TensorFlow and JAX, float32 against float64: losses to 2e-6 of themselves, gradients
(those of the penalty are second derivatives) to 3e-6 of the largest of their network.
"""

import numpy as np
import pytest
from keras import ops

from facehal.backend import value_and_gradients
from facehal.models.deepfillv1.config import DeepFillConfig
from facehal.models.deepfillv1.losses import discounts, penalty, weighted_l1
from facehal.models.deepfillv1.task import DeepFillTask

pytestmark = pytest.mark.core


def test_discounts_by_hand(masks):
    found = masks(2, 24)
    ours = discounts(found, 0.9)
    assert ours.shape == (2, 24, 24) and ours.dtype == np.float32
    for mask, weights in zip(found, ours, strict=True):
        known = np.argwhere(mask == 1)
        places = np.indices(mask.shape).reshape(2, -1).T
        distance = np.sqrt(((places[:, None] - known[None]) ** 2).sum(-1)).min(1)
        np.testing.assert_allclose(weights.ravel(), 0.9**distance, rtol=1e-5)
    assert (ours[found == 1] == 1).all()


def test_discounts_are_about_what_the_published_box_has():
    """0.23 in the mean around an ellipse of 30 % of 128×128; 0.25 in the box of 128×128."""
    rows, columns = np.mgrid[:128, :128] + 0.5
    a, b = 46.0, 34.0
    mask = (((rows - 64) / a) ** 2 + ((columns - 64) / b) ** 2 < 1).astype(np.uint8)
    assert abs(mask.mean() - 0.3) < 0.005
    ours = discounts(mask[None], 0.9)[0][mask == 0].mean()
    i = np.minimum(np.arange(128), 128 - np.arange(128))
    theirs = (0.9 ** np.minimum(i[:, None], i[None])).mean()
    assert round(theirs, 2) == 0.25 and abs(ours - 0.23) < 0.015


def test_no_face_and_nothing_but_face():
    masks = np.stack([np.zeros((16, 16), np.uint8), np.ones((16, 16), np.uint8)])
    found = discounts(masks, 0.9)
    assert np.isfinite(found).all() and found[0].max() < 1e-6 and (found[1] == 1).all()
    pictures = ops.ones((2, 16, 16, 3))
    for where in (ops.zeros((2, 16, 16, 1)), ops.ones((2, 16, 16, 1))):
        value = float(ops.convert_to_numpy(weighted_l1(pictures, 0.0 * pictures, where)))
        assert value == float(ops.convert_to_numpy(where).max())


def test_the_penalty_looks_at_the_hole_alone():
    """Of a linear critic the gradient is known: its weights."""
    random = np.random.default_rng(0)
    slope = random.standard_normal((4, 4, 3)).astype(np.float32)
    hole = random.integers(0, 2, (2, 4, 4, 1)).astype(np.float32)
    real, fake = random.standard_normal((2, 2, 4, 4, 3)).astype(np.float32)
    ours = penalty(
        lambda x: ops.sum(x * slope, axis=(1, 2, 3)),
        ops.convert_to_tensor(real),
        ops.convert_to_tensor(fake),
        ops.convert_to_tensor(hole),
        ops.convert_to_tensor(np.array([0.3, 0.6], np.float32)),
    )
    norms = [np.sqrt((slope**2 * h).sum()) for h in hole]
    np.testing.assert_allclose(
        ops.convert_to_numpy(ours), np.mean([(n - 1) ** 2 for n in norms]), rtol=1e-5
    )


@pytest.fixture
def system(shuffled):
    config = DeepFillConfig.from_dict(
        {"network": {"resolution": 32, "width": 4, "critic_width": 4}, "loss": {"adversarial": 0.5}}
    )
    task = DeepFillTask(config)
    system = task.build(0, None, 0)
    model = system.model
    for seed, network in enumerate((model.coarse, model.refinement, system.whole, system.local)):
        shuffled(network, seed=seed)
    return task, system


def _compare(ours, report, theirs, parts, gradients, leaves):
    """The largest relative differences of the losses and of the gradients."""
    losses = [(float(ops.convert_to_numpy(ours)), theirs.item())]
    losses += [(float(ops.convert_to_numpy(report[n])), v.item()) for n, v in parts.items()]
    apart = max(abs(a - b) / abs(b) for a, b in losses)
    theirs.backward()
    pairs = [
        (ops.convert_to_numpy(g), leaf.grad.numpy())
        for g, leaf in zip(gradients, leaves, strict=True)
    ]
    largest = max(np.abs(b).max() for _, b in pairs)
    steep = max(np.abs(a - b).max() for a, b in pairs) / largest
    print(f"losses {apart:.1e}, gradients {steep:.1e} apart")
    return apart, steep


def test_a_step_is_the_published_one(system, published, torch_weights, masks, record_property):
    import torch

    task, system = system
    random = np.random.default_rng(0)
    batch = {
        "faces": random.integers(0, 256, (3, 32, 32, 3)).astype(np.uint8),
        "masks": masks(3, 32),
    }
    batch = task.prepare(batch, 5)
    tensors = {name: ops.convert_to_tensor(value) for name, value in batch.items()}
    state = [v for network in system.networks for v in network.variables]

    faces = torch.tensor(batch["faces"][..., ::-1].copy(), dtype=torch.float64)
    real = (faces / 127.5 - 1).permute(0, 3, 1, 2)
    mask = 1 - torch.tensor(batch["masks"], dtype=torch.float64)[:, None]
    weights = torch.tensor(batch["discounts"], dtype=torch.float64)[:, None]

    def squares(x):
        places = zip(x, batch["corners"].tolist(), strict=True)
        return torch.stack([one[:, i : i + 16, j : j + 16] for one, (i, j) in places])

    # The critics know red first.
    def judged(network, x):
        return published.critic(network, x.flip(1))

    generators = torch_weights(system.model.coarse, system.model.refinement)
    critics = [torch_weights(system.whole), torch_weights(system.local)]
    first, second = published.painted(generators, real * (1 - mask), mask)
    complete = second * mask + real * (1 - mask)

    # The generators.
    def in_hole(x):
        return ((real - x).abs() * weights * mask).sum() / (3 * mask.sum())

    def on_face(x):
        return ((real - x).abs() * (1 - mask)).mean() / (1 - mask).mean()

    parts = {
        "hole_l1": 1.2 * in_hole(first) + in_hole(second),
        "known_l1": 1.2 * on_face(first) + on_face(second),
        "adversarial": -judged(critics[0], complete).mean()
        - judged(critics[1], squares(complete)).mean(),
    }
    theirs = 1.2 * parts["hole_l1"] + 1.2 * parts["known_l1"] + 0.5 * parts["adversarial"]
    variables = system.model.trainable_variables
    value, report, gradients = value_and_gradients(
        lambda: system.generators_loss(tensors, 5), variables, state
    )
    leaves = [leaf for pair in generators.values() for leaf in pair]
    apart, steep = _compare(value, report, theirs, parts, gradients, leaves)
    record_property("generators", (apart, steep))
    assert apart < 1e-5 and steep < 1e-5

    # The critics.
    for network in critics:
        for pair in network.values():
            for leaf in pair:
                leaf.grad = None
    complete = complete.detach()
    theirs, parts = 0.0, {"penalty": 0.0}
    for index, (name, view) in enumerate((("global", lambda x: x), ("local", squares))):
        positive, negative = view(real), view(complete)
        distance = judged(critics[index], positive).mean() - judged(critics[index], negative).mean()
        share = torch.tensor(batch["shares"][:, index], dtype=torch.float64)[:, None, None, None]
        between = (positive + share * (negative - positive)).requires_grad_()
        (slope,) = torch.autograd.grad(
            judged(critics[index], between).sum(), between, create_graph=True
        )
        norm = (slope.square() * view(mask)).sum((1, 2, 3)).sqrt()
        parts[f"{name}_distance"] = distance
        parts["penalty"] = parts["penalty"] + (norm - 1).square().mean()
        theirs = theirs - distance
    theirs = theirs + 10 * parts["penalty"]
    variables = [*system.whole.trainable_variables, *system.local.trainable_variables]
    value, report, gradients = value_and_gradients(
        lambda: system.critics_loss(tensors, 5), variables, state
    )
    leaves = [leaf for network in critics for pair in network.values() for leaf in pair]
    apart, steep = _compare(value, report, theirs, parts, gradients, leaves)
    record_property("critics", (apart, steep))
    assert apart < 1e-5 and steep < 1e-5
