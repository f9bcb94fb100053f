"""ROAR, KAR and shuffled labels with a classifier that trains in closed form."""

from dataclasses import replace

import pytest
import torch

from benchmarks.retraining import Split, Task, data_randomisation, replaced, roar
from benchmarks.roar import task as stripes
from medxai.errors import InputError
from tests.metrics.probes import draw


class Nearest(torch.nn.Module):
    """The class whose mean image is nearer."""

    def __init__(self, images, labels):
        super().__init__()
        self.means = torch.stack([images[labels == k].flatten(1).mean(0) for k in (0, 1)])

    def forward(self, x):
        return -torch.cdist(x.flatten(1), self.means)


def spots(shape, count, seed):
    """Noise, and a bright corner in the images of class 1: all of the evidence is 2 voxels wide."""
    images = 0.5 * draw(count, 1, *shape, seed=seed)
    labels = torch.arange(count) % 2
    images[labels == 1, :, :2, :2] += 1
    return Split(images, labels)


def asked(shape):
    evidence = torch.zeros(shape)
    evidence[:2, :2] = 1

    def exact(model, images, labels):
        return evidence.expand(len(images), *shape)

    def away(model, images, labels):
        return 1 - exact(model, images, labels)

    def learned(model, images, labels):
        return (model.means[1] - model.means[0]).reshape(shape).expand(len(images), *shape)

    def fit(images, labels, seed):
        return Nearest(images, labels)

    maps = {"exact": exact, "inverted": away, "learned": learned}
    return Task(spots(shape, 60, 1), spots(shape, 40, 2), fit, maps)


@pytest.mark.parametrize("shape", [(8, 8), (8, 8, 3)], ids=["2d", "3d"])
def test_removing_the_evidence_leaves_chance_and_keeping_it_leaves_all(shape):
    task, share = asked(shape), 4 / 64
    removed, kept = (roar(task, "exact", [share], [0, 1], check)[0] for check in ("roar", "kar"))
    assert abs(removed.mean - 0.5) < 0.2
    assert kept.mean == 1
    assert kept.spread == 0
    assert roar(task, "inverted", [share], [0])[0].mean == 1
    assert abs(roar(task, "inverted", [share], [0], "kar")[0].mean - 0.5) < 0.2


@pytest.mark.parametrize("keep", [False, True])
def test_exactly_the_share_is_replaced_by_the_mean_of_each_channel(keep):
    split = Split(draw(3, 2, 5, 4), torch.zeros(3, dtype=torch.long))
    before = split.images.clone()
    fill = torch.tensor([7.0, 8.0])
    found = replaced(split, torch.arange(60.0).reshape(3, 5, 4), 0.25, fill, keep)
    gone = found.images == fill.reshape(1, 2, 1, 1)
    assert gone.flatten(1).sum(1).tolist() == [2 * (15 if keep else 5)] * 3
    assert torch.equal(found.images[~gone], before[~gone])
    assert torch.equal(split.images, before)


@pytest.mark.parametrize("value", [torch.nan, torch.inf, 0.0, 1.0])
def test_images_whose_map_says_nothing_are_left_out_and_counted(value):
    task = asked((8, 8))

    def partly(model, images, labels):
        maps = task.explain["exact"](model, images, labels).clone()
        maps[:10] = value
        return maps

    def silent(model, images, labels):
        return torch.full(images[:, 0].shape, value)

    told = replace(task, explain={"partly": partly, "silent": silent})
    (level,) = roar(told, "partly", [4 / 64], [0])
    assert level.left_out == 20
    assert abs(level.mean - 0.5) < 0.2
    assert roar(task, "exact", [4 / 64], [0])[0].left_out == 0
    with pytest.raises(InputError, match="No map says anything"):
        roar(told, "silent", [4 / 64], [0])
    with pytest.raises(InputError, match="10 of 60"):
        replaced(task.train, partly(None, task.train.images, task.train.labels), 0.5, torch.zeros(1))


def test_maps_that_ignore_the_labels_survive_their_shuffling():
    task = asked((8, 8))
    blind, learned = (data_randomisation(task, name) for name in ("exact", "learned"))
    assert blind.spearman == pytest.approx(1)
    assert blind.ssim == pytest.approx(1)
    assert learned.spearman < 0.5
    assert learned.compared == 40
    assert learned.accuracy == 1
    assert learned.accuracy_shuffled < 1


def test_the_task_made_here_tells_its_class_inside_the_box_alone():
    made = stripes(train=40, test=20)
    where = made.explain["exact evidence"](torch.nn.Identity(), made.train.images, made.train.labels)
    assert bool((where.flatten(1).sum(1) == 64).all())
    inside = made.train.images[:, 0].masked_fill(where == 0, 0)
    assert set(inside[where == 1].unique().tolist()) == {0.0, 1.0}
