"""Masks and images: compared by position, never by shape; what lost its orientation is refused (rows M01, M02, N15)."""

import numpy as np
import pytest

from medxai.core.geometry import Geometry
from medxai.core.pairing import paired
from medxai.errors import MaskError
from tests.io.phantoms import random_affine

SHAPE = (7, 5, 4)


def turned(image: Geometry, order: tuple[int, int, int], flips: tuple[int, int, int]) -> Geometry:
    """The same voxel centres, axes permuted and turned round."""
    hop = np.zeros((4, 4))
    hop[3, 3] = 1
    for axis, source in enumerate(order):
        hop[source, axis] = -1 if flips[axis] else 1
        hop[source, 3] += (image.shape[source] - 1) * flips[axis]
    return Geometry(image.affine @ hop, tuple(image.shape[source] for source in order), image.units)


def refusal(image: Geometry, mask: Geometry, **permitted: bool) -> str:
    with pytest.raises(MaskError) as caught:
        paired(image, mask, **permitted)
    return caught.value.code


@pytest.mark.parametrize("seed", range(6))
def test_one_grid_however_its_axes_run_is_one_grid(seed: int) -> None:
    image = Geometry(random_affine(seed, shear=0.2 * (seed % 2)), SHAPE)
    assert paired(image, image) == ()
    assert paired(image, turned(image, (0, 1, 2), (0, 0, 0))) == ()
    for order, flips in (((0, 1, 2), (1, 0, 0)), ((2, 0, 1), (0, 1, 1)), ((1, 0, 2), (0, 0, 0))):
        [said] = paired(image, turned(image, order, flips))
        assert said.startswith("M02: ")


def test_m02_a_mask_of_the_same_shape_that_lies_elsewhere_is_refused_unless_permitted() -> None:
    image = Geometry(np.diag([-0.7, -0.9, 2.5, 1.0]), SHAPE)
    for affine in (np.diag([0.7, 0.9, 2.5, 1.0]), np.eye(4), random_affine(3)):
        mask = Geometry(affine, SHAPE)
        assert refusal(image, mask) == "M02"
        assert paired(image, mask, other_grid=True)[0].startswith("M01: ")
    shifted = image.affine.copy()
    shifted[0, 3] = 0.05
    assert paired(image, Geometry(shifted, SHAPE)) == ()
    shifted[0, 3] = 0.7
    assert refusal(image, Geometry(shifted, SHAPE)) == "M02"


def test_m01_another_grid_is_noticed_or_refused() -> None:
    image = Geometry(np.diag([1.0, 1.0, 2.0, 1.0]), SHAPE)
    finer = Geometry(np.diag([0.5, 0.5, 2.0, 1.0]), (14, 10, 4))
    assert paired(image, finer)[0].startswith("M01: ")
    assert refusal(image, finer, same_grid=True) == "M01"
    assert paired(image, image, same_grid=True) == ()


def test_without_a_place_only_the_same_grid_is_compared() -> None:
    image = Geometry(np.diag([2.0, 3.0, 4.0, 1.0]), SHAPE, "unknown")
    assert paired(image, image) == ()
    assert refusal(image, Geometry(np.eye(4), SHAPE, "unknown")) == "M02"
    assert refusal(image, Geometry(image.affine, (14, 10, 8), "unknown")) == "M02"
    assert refusal(image, turned(image, (0, 1, 2), (1, 0, 0))) == "M02"


def test_n15_flat_and_deep_do_not_meet() -> None:
    volume, flat = Geometry(np.eye(4), SHAPE), Geometry(np.eye(4), SHAPE[:2])
    assert refusal(volume, flat) == refusal(flat, volume) == "N15"
    assert paired(flat, Geometry(np.eye(4), (*SHAPE[:2], 1))) == ()
