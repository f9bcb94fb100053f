"""Targets that contrast, group, localise or look inside, against their definitions written out."""

import math
import pickle

import pytest
import torch

from medxai.cli.targets import parse_output, parse_target
from medxai.core.layer import Layer
from medxai.core.target import (
    ChannelScore,
    ComponentScore,
    ContrastScore,
    FinerScore,
    GroupContrastScore,
    GroupScore,
    NeuronScore,
    RegionScore,
    RegressionScore,
    ReSTScore,
    SimilarityScore,
    VoxelScore,
    settled,
)
from medxai.errors import TargetError

Y = torch.tensor([[1.0, 5.0, 2.0, -3.0], [4.0, 0.0, 7.0, 1.0]])


def lse(*values):
    return math.log(sum(math.exp(v) for v in values))


@pytest.mark.parametrize(
    ("target", "expected"),
    [
        (GroupScore((0, 2), "logsumexp"), [lse(1, 2), lse(4, 7)]),
        (GroupContrastScore((0, 3), (1, 2)), [1 - 3 - 7, 4 + 1 - 7]),
        (GroupContrastScore((0, 3), (1,), "logsumexp"), [lse(1, -3) - 5, lse(4, 1) - 0]),
        (ReSTScore(0), [1 + 1 - lse(1, 5, 2, -3), 4 + 4 - lse(4, 0, 7, 1)]),
        (RegressionScore(2, -1), [-2.0, -7.0]),
        (FinerScore(1), [5 - 0.6 * (2 + 1 - 3) / 3, 0 - 0.6 * (1 + 4 + 7) / 3]),
        (FinerScore(1, count=1), [5 - 0.6 * 2, 0 - 0.6 * 1]),
        (FinerScore(1, count=2, gamma=1.0), [5 - 1.5, 0 - 2.5]),
        (FinerScore(1, group=(0, 3)), [5 - 0.6 * (1 - 3) / 2, 0 - 0.6 * (4 + 1) / 2]),
        (FinerScore(1, count=1, group=(0, 3)), [5 - 0.6 * 1, 0 - 0.6 * 1]),
    ],
    ids=repr,
)
def test_closed_form(target, expected):
    torch.testing.assert_close(target(Y), torch.tensor(expected, dtype=torch.float32))
    assert pickle.loads(pickle.dumps(target)) == target  # noqa: S301 - our own bytes


def test_finer_is_the_contrast_with_the_nearest_also_in_its_gradient():
    y = Y.clone().requires_grad_()
    (found,) = torch.autograd.grad(FinerScore(1)(y)[0], y)
    (wanted,) = torch.autograd.grad(ContrastScore(1, (0, 2, 3), 0.6)(y)[0], y)
    torch.testing.assert_close(found, wanted)


def test_settled_references_stay_when_the_image_changes():
    target = settled(FinerScore(1, count=1), Y)
    assert target.chosen == ((2,), (3,))
    changed = torch.tensor([[4.9, 5.0, 2.0, -3.0], [0.1, 0.0, 7.0, 1.0]])
    torch.testing.assert_close(target(changed), torch.tensor([5 - 0.6 * 2, 0 - 0.6 * 1]))
    assert settled(target, changed) is target


def segmentation():
    """Two boxes of class 1 that do not touch, in two and a half dimensions' worth of noise."""
    output = torch.rand(1, 2, 6, 7, 8, generator=torch.Generator().manual_seed(0))
    output[:, 1] -= 2
    output[:, 1, 1:3, 1:3, 1:4] += 4
    output[:, 1, 4:6, 4:6, 4:6] += 4
    return output


def test_component_is_the_box_that_contains_the_voxel():
    output = segmentation()
    target = ComponentScore(1, (2, 1, 3))
    torch.testing.assert_close(target(output)[0], output[0, 1, 1:3, 1:3, 1:4].sum())
    both = RegionScore(1)(output) - ComponentScore(1, (5, 5, 5))(output)
    torch.testing.assert_close(both, target(output))
    fixed = settled(target, output)
    torch.testing.assert_close(fixed(-output)[0], -output[0, 1, 1:3, 1:3, 1:4].sum())
    with pytest.raises(TargetError, match=r"not predicted at voxel \(3, 1, 3\).*nearest one is \(2, 1, 3\)"):
        ComponentScore(1, (3, 1, 3))(output)


def test_components_that_touch_by_a_corner_are_two():
    output = torch.full((1, 1, 4, 4), -1.0)
    output[0, 0, :2, :2] = 1
    output[0, 0, 2:, 2:] = 1
    assert ComponentScore(0, (0, 0))(output) == 4
    assert RegionScore(0)(output) == 8  # one class wins where its logit is positive


def test_single_voxel():
    output = segmentation()
    assert VoxelScore(1, (2, 1, 3))(output) == output[0, 1, 2, 1, 3]
    region = torch.zeros(6, 7, 8, dtype=torch.bool)
    region[2, 1, 3] = True
    assert VoxelScore(1, (2, 1, 3))(output) == RegionScore(1, region)(output)


def test_channel_and_neuron_of_an_inner_layer():
    features = torch.randn(2, 3, 4, 5)
    torch.testing.assert_close(ChannelScore(2)(features), features[:, 2].mean((1, 2)))
    assert torch.equal(NeuronScore(2, (1, 3))(features), features[:, 2, 1, 3])
    assert torch.equal(NeuronScore(1)(features[:, :, 0, 0]), features[:, 1, 0, 0])


def test_similarity_is_the_cosine_and_its_gradient_leaves_the_length_alone():
    wanted, output = torch.tensor([1.0, 2.0, 2.0]), torch.tensor([[2.0, 0.0, 0.0], [2.0, 4.0, 4.0]], requires_grad=True)
    score = SimilarityScore(wanted)(output)
    torch.testing.assert_close(score, torch.tensor([1 / 3, 1.0]))
    (gradient,) = torch.autograd.grad(score.sum(), output)
    torch.testing.assert_close((gradient * output.detach()).sum(1), torch.zeros(2), atol=1e-6, rtol=0)


@pytest.mark.parametrize(
    ("target", "output"),
    [
        (FinerScore(0), Y[:, :2]),
        (FinerScore(4), Y),
        (FinerScore(0, group=(9,)), Y),
        (RegressionScore(4), Y),
        (ReSTScore(7), Y),
        (VoxelScore(0, (1, 2, 3)), torch.zeros(1, 2, 4, 4)),
        (VoxelScore(0, (1, 4)), torch.zeros(1, 2, 4, 4)),
        (VoxelScore(0, (-1, 1)), torch.zeros(1, 2, 4, 4)),
        (ComponentScore(1, (0, 0)), torch.zeros(1, 2, 4, 4)),
        (ChannelScore(3), torch.zeros(1, 3, 4, 4)),
        (NeuronScore(0, (1,)), torch.zeros(1, 3, 4, 4)),
        (SimilarityScore(torch.zeros(3)), Y),
    ],
    ids=repr,
)
def test_what_cannot_be_read_is_an_error_that_says_what_was_expected(target, output):
    with pytest.raises(TargetError, match=r"(?s)Expected"):
        target(output)


@pytest.mark.parametrize(
    "make",
    [
        lambda: FinerScore(0, group=(0, 1)),
        lambda: FinerScore(0, count=0),
        lambda: GroupContrastScore((0, 1), (1,)),
        lambda: GroupContrastScore((), (1,)),
        lambda: RegressionScore(0, 2),
    ],
)
def test_targets_that_mean_nothing_are_refused(make):
    with pytest.raises(TargetError):
        make()


@pytest.mark.parametrize(
    ("text", "target"),
    [
        ("any:1,4", GroupScore((1, 4), "logsumexp")),
        ("groups:1,4/2,5", GroupContrastScore((1, 4), (2, 5))),
        ("finer:3", FinerScore(3)),
        ("finer:3/1,2", FinerScore(3, group=(1, 2))),
        ("rest:2", ReSTScore(2)),
        ("regression:1", RegressionScore(1)),
        ("regression:1/-", RegressionScore(1, -1)),
        ("voxel:1@10,20,30", VoxelScore(1, (10, 20, 30))),
        ("component:1@3,4", ComponentScore(1, (3, 4))),
        ("channel:5", ChannelScore(5)),
        ("neuron:5@1,2", NeuronScore(5, (1, 2))),
    ],
)
def test_grammar(text, target):
    assert parse_target(text) == target


@pytest.mark.parametrize("text", ["voxel:1", "voxel:1@", "groups:1", "finer:", "regression:1/x", "neuron:@1", "what:1"])
def test_what_the_grammar_does_not_know_is_answered_with_it(text):
    with pytest.raises(TargetError, match="component:3@10,20,30"):
        parse_target(text)


def test_outputs_are_named_by_keys_indices_and_layers():
    assert parse_output("0") == (0,)
    assert parse_output("aux.-1") == ("aux", -1)
    assert parse_output("layer:blocks.1") == Layer("blocks.1")
