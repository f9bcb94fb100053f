"""The first metrics worked out by hand."""

from math import nan

import pytest
import torch

from medxai.metrics.chance import centre
from medxai.metrics.localisation import iou_at_mask_size, mass_in_mask, pointing_game
from medxai.metrics.reading import Reading

MAP = torch.tensor([[4.0, 1.0, 0.0], [2.0, -5.0, 0.0], [0.0, 0.0, 0.0]])


def region(*cells):
    mask = torch.zeros(3, 3, dtype=torch.bool)
    for cell in cells:
        mask[cell] = True
    return mask


def test_the_maximum_is_in_the_mask_or_not():
    assert pointing_game(Reading(MAP, region((0, 0)))) == 1
    assert pointing_game(Reading(MAP, region((0, 1), (1, 0)))) == 0
    assert pointing_game(Reading(torch.tensor([[1.0, 1.0, 1.0], [0, 0, 1.0], [0, 0, 0]]), region((0, 0)))) == 0.25


def test_only_positive_values_have_mass():
    assert mass_in_mask(Reading(MAP, region((0, 0), (1, 1)))) == pytest.approx(4 / 7)


def test_overlap_with_as_many_of_the_highest():
    assert iou_at_mask_size(Reading(MAP, region((0, 0), (1, 0), (0, 1)))) == 1
    assert iou_at_mask_size(Reading(MAP, region((0, 0), (2, 2)))) == pytest.approx(1 / 3)


def test_tied_zeros_fill_the_free_slots_in_expectation():
    """Mask of five: 4, 2 and 1 are taken, and two of the five zeros; two mask voxels are among those zeros."""
    mask = region((0, 0), (0, 2), (1, 2), (1, 0), (0, 1))
    overlap = 3 + 2 * 2 / 5
    assert iou_at_mask_size(Reading(MAP, mask)) == pytest.approx(overlap / (10 - overlap))


def test_a_mask_larger_than_the_field_is_partly_missed():
    """Two of ten rows seen, five rows annotated: twenty voxels are all that can be chosen."""
    saliency = torch.full((10, 10), nan)
    saliency[:2] = torch.rand(2, 10) + 0.1
    mask = torch.zeros(10, 10, dtype=torch.bool)
    mask[:5] = True
    assert iou_at_mask_size(Reading(saliency, mask)) == pytest.approx(20 / 50)


def test_the_centre_prior_is_a_gaussian_of_the_field():
    """Positions 0..4 have mean 2 and variance 2."""
    row = centre(torch.zeros(5, 1))[:, 0]
    expected = torch.exp(-((torch.arange(5.0) - 2) ** 2) / 4)
    torch.testing.assert_close(row, expected)
