"""Every target against its closed form, and what it refuses."""

import pytest
import torch

from medxai.core.target import ClassScore, ContrastScore, GroupScore, MarginScore, RegionScore, SignedScore
from medxai.errors import TargetError

Y = torch.tensor([[1.0, 5.0, 2.0, -3.0], [4.0, 0.0, 7.0, 1.0]])


@pytest.mark.parametrize(
    ("target", "expected"),
    [
        (ClassScore(1), [5.0, 0.0]),
        (ClassScore((0, 2)), [1.0, 7.0]),
        (GroupScore((0, 3)), [-2.0, 5.0]),
        (ContrastScore(1, (0, 2), gamma=0.5), [5 - 0.75, -2.75]),
        (MarginScore(1), [3.0, -7.0]),
        (MarginScore(2), [-3.0, 3.0]),
    ],
    ids=repr,
)
def test_closed_form(target, expected):
    assert torch.equal(target(Y), torch.tensor(expected))


def test_signed_score_of_a_single_output():
    assert torch.equal(SignedScore(-1)(Y[:, :1]), -Y[:, 0])
    assert torch.equal(SignedScore(+1)(Y[:, 0]), Y[:, 0])


def test_region_of_a_segmentation():
    torch.manual_seed(0)
    output = torch.randn(2, 3, 4, 5, 6)
    won = output.argmax(1) == 2
    expected = torch.stack([output[i, 2][won[i]].sum() for i in range(2)])
    torch.testing.assert_close(RegionScore(2)(output), expected)
    region = torch.zeros(4, 5, 6, dtype=torch.bool)
    region[1, 2, 3] = True
    torch.testing.assert_close(RegionScore(2, region)(output), output[:, 2, 1, 2, 3])


@pytest.mark.parametrize(
    ("target", "output"),
    [
        (ClassScore(4), Y),
        (ClassScore(-1), Y),
        (ClassScore((0, 1, 2)), Y),
        (ClassScore(0), (Y, Y)),
        (ClassScore(0), {"logits": Y}),
        (ClassScore(0), torch.zeros(2, 3, 4, 4)),
        (SignedScore(1), Y),
        (MarginScore(0), Y[:, :1]),
        (RegionScore(0), Y),
        (RegionScore(0, torch.ones(2, 2, dtype=torch.bool)), torch.zeros(1, 2, 4, 4)),
    ],
    ids=repr,
)
def test_what_cannot_be_read_is_an_error_that_says_what_came(target, output):
    with pytest.raises(TargetError, match=r"(?s)Found|Expected"):
        target(output)


@pytest.mark.parametrize(
    "make",
    [
        lambda: SignedScore(0),
        lambda: ContrastScore(1, ()),
        lambda: ContrastScore(1, (1,)),
        lambda: RegionScore(1, torch.full((4, 4), 2)),
    ],
)
def test_targets_that_mean_nothing_are_refused(make):
    with pytest.raises(TargetError):
        make()
