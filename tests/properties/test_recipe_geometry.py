"""The grid that a recipe claims is the grid that its voxels are on: an image of its own coordinates says so.

Channels are world x, y, z (mm), validity and a seed for CropForeground. Linear interpolation keeps a linear field, so
every voxel of the result must equal affine @ index. Where borders leak in is found by a second run that puts NaN on
every border before every step: what NaN or padding touched is not judged.
"""

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st
from monai.transforms import Affine, Resize, Transform, Transpose, Zoom

from medxai.core.geometry import Geometry
from medxai.core.volume import Volume
from medxai.errors import RecipeError
from medxai.io.recipe import Recipe
from medxai.io.recipe_rules import IN_PLACE, SPATIAL
from medxai.io.recipe_steps import step_from_yaml
from tests.io.phantoms import random_affine

Entry = dict[str, dict[str, Any]]
Grid = tuple[int, float, tuple[int, ...]]
TOLERANCE_MM = 1e-3
LINEAR = {2: "bilinear", 3: "trilinear"}


def coordinates(geometry: Geometry) -> torch.Tensor:
    axes = np.meshgrid(*[np.arange(n) for n in geometry.shape3], indexing="ij")
    world = geometry.world(np.stack(axes, -1).astype(np.float64)).reshape(*geometry.shape, 3)
    return torch.from_numpy(np.moveaxis(world, -1, 0).astype(np.float32))


def phantom(geometry: Geometry) -> Volume:
    seed = torch.zeros(1, *geometry.shape)
    seed[(0, *[slice(n // 4, n - n // 4 + 1) for n in geometry.shape])] = 1
    return Volume(torch.cat([coordinates(geometry), torch.ones(1, *geometry.shape), seed]), geometry)


def transform(entry: Entry) -> Any:
    return step_from_yaml(entry).transform


class FrameWithNaN(Transform):
    """NaN on every border voxel, the grid unchanged."""

    def __call__(self, image: torch.Tensor) -> torch.Tensor:
        result = image.clone()
        for axis in range(1, result.ndim):
            result.index_fill_(axis, torch.tensor([0, result.shape[axis] - 1]), torch.nan)
        return result


def worst_mm(steps: list[Any], geometry: Geometry, trusted: tuple[str, ...] = ()) -> tuple[float, int]:
    """The farthest that a judged voxel lies from where the recipe says it is, and how many voxels were judged."""
    marked = [each for step in steps for each in (FrameWithNaN(), step)]
    whole = Recipe.from_compose(steps, trusted=trusted).apply(phantom(geometry))
    marks = Recipe.from_compose([*marked, FrameWithNaN()], trusted=(*trusted, "FrameWithNaN")).apply(phantom(geometry))
    assert marks.geometry == whole.geometry
    clean = marks.images[0].isfinite().all(0) & (marks.images[0, 3] > 1 - 1e-4)
    error = (whole.images[0, :3] - coordinates(whole.geometry)).norm(dim=0)[clean]
    return (float(error.max()) if len(error) else 0.0), len(error)


def per_axis(values: st.SearchStrategy[Any], d: int) -> st.SearchStrategy[list[Any]]:
    return st.lists(values, min_size=d, max_size=d)


def entries(d: int) -> dict[str, st.SearchStrategy[dict[str, Any]]]:
    size = per_axis(st.integers(8, 20), d)
    turn = per_axis(st.floats(-0.6, 0.6), 3 if d == 3 else 1)
    fill = st.sampled_from(["zeros", "border"])
    corners = st.booleans()
    start = per_axis(st.integers(0, 3), d)
    return {
        "Orientation": st.fixed_dictionaries({"axcodes": st.sampled_from(["RAS", "LPI", "SRA", "ALS", "PIR"])}),
        "Spacing": st.fixed_dictionaries(
            {
                "pixdim": per_axis(st.floats(2.0, 6.0), d),
                "padding_mode": fill,
                "align_corners": corners,
                "diagonal": corners,
            }
        ),
        "Resize": st.fixed_dictionaries({"spatial_size": size, "mode": st.just(LINEAR[d]), "align_corners": corners}),
        "ResizeWithPadOrCrop": st.fixed_dictionaries({"spatial_size": size}),
        "SpatialPad": st.fixed_dictionaries({"spatial_size": size, "method": st.sampled_from(["symmetric", "end"])}),
        "BorderPad": st.fixed_dictionaries({"spatial_border": per_axis(st.integers(0, 3), 2 * d)}),
        "DivisiblePad": st.fixed_dictionaries({"k": st.integers(2, 7)}),
        "CenterSpatialCrop": st.fixed_dictionaries({"roi_size": size}),
        "CenterScaleCrop": st.fixed_dictionaries({"roi_scale": st.floats(0.5, 0.9)}),
        "SpatialCrop": st.fixed_dictionaries({"roi_start": start, "roi_end": per_axis(st.integers(8, 14), d)}),
        "CropForeground": st.fixed_dictionaries({"channel_indices": st.just([4]), "margin": st.integers(0, 2)}),
        "Flip": st.fixed_dictionaries({"spatial_axis": st.lists(st.integers(0, d - 1), min_size=1, unique=True)}),
        "Rotate": st.fixed_dictionaries(
            {
                "angle": turn if d == 3 else st.floats(-0.6, 0.6),
                "keep_size": corners,
                "padding_mode": fill,
                "align_corners": corners,
            }
        ),
        "Rotate90": st.fixed_dictionaries({"k": st.integers(0, 3), "spatial_axes": st.permutations(range(d)).map(two)}),
        "Zoom": st.fixed_dictionaries(
            {"zoom": per_axis(st.floats(0.7, 1.5), d), "mode": st.just(LINEAR[d]), "keep_size": corners}
        ),
        "Affine": st.fixed_dictionaries(
            {
                "rotate_params": turn,
                "scale_params": per_axis(st.floats(0.7, 1.4), d),
                "translate_params": per_axis(st.floats(-3, 3), d),
                "shear_params": per_axis(st.floats(-0.2, 0.2), 6 if d == 3 else 2),
                "spatial_size": size,
                "padding_mode": fill,
            }
        ),
    }


def two(axes: list[int]) -> list[int]:
    return list(axes)[:2]


def grids(d: int) -> st.SearchStrategy[Grid]:
    shape = per_axis(st.integers(9, 15), d).map(tuple)
    return st.tuples(st.integers(0, 10_000), st.sampled_from([0.0, 0.0, 0.3]), shape)


def built(grid: Grid) -> Geometry:
    seed, shear, shape = grid
    return Geometry(random_affine(seed, shear), shape)


def test_every_spatial_transform_is_drawn() -> None:
    assert set(entries(3)) == SPATIAL


CALM = settings(
    max_examples=12,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.filter_too_much, HealthCheck.too_slow],
)


KINDS = [(name, d) for name in sorted(SPATIAL) for d in (2, 3) if (name, d) != ("Orientation", 2)]


@pytest.mark.parametrize(("name", "d"), KINDS)
def test_each_transform_tells_the_truth(name: str, d: int) -> None:
    @CALM
    @given(parameters=entries(d)[name], grid=grids(d))
    def law(parameters: dict[str, Any], grid: Grid) -> None:
        worst, judged = worst_mm([transform({name: parameters})], built(grid))
        assume(judged > 0)
        assert worst < TOLERANCE_MM

    law()


@pytest.mark.parametrize("d", [2, 3])
def test_chains_tell_the_truth(d: int) -> None:
    drawn = entries(d)
    if d == 2:
        del drawn["Orientation"]
    first = st.sampled_from(sorted(drawn))
    later = st.sampled_from(sorted(set(drawn) - {"CropForeground"}))
    names = st.tuples(first, later, later)
    chain = names.flatmap(lambda names: st.tuples(*[drawn[n].map(lambda p, n=n: {n: p}) for n in names])).map(list)

    @settings(CALM, max_examples=60)
    @given(steps=chain, grid=grids(d))
    def law(steps: list[Entry], grid: Grid) -> None:
        worst, judged = worst_mm([transform(step) for step in steps], built(grid))
        assume(judged > 0)
        assert worst < TOLERANCE_MM

    law()


LIARS = {
    "Transpose": Transpose((0, 2, 1)),
    "Resize nearest": Resize((6, 8), mode="nearest"),
    "Resize area": Resize((8, 9), mode="area"),
    "Zoom area": Zoom(0.7, mode="area", keep_size=False),
    "Affine align_corners": Affine(rotate_params=[0.3], spatial_size=(15, 17), align_corners=True, image_only=True),
}


@pytest.mark.parametrize("name", LIARS)
def test_what_is_refused_does_lie(name: str) -> None:
    geometry = Geometry(np.diag([2.0, 3.0, 1.0, 1.0]), (11, 13))
    worst, judged = worst_mm([LIARS[name]], geometry, trusted=("Transpose", "Resize", "Zoom", "Affine"))
    assert judged > 0
    assert worst > 0.2
    with pytest.raises(RecipeError):
        Recipe.from_compose([LIARS[name]])


VALUES: dict[str, dict[str, Any]] = {
    "AdjustContrast": {"gamma": 2.0},
    "CastToType": {"dtype": "float32"},
    "ClipIntensityPercentiles": {"lower": 1, "upper": None},
    "EnsureChannelFirst": {},
    "EnsureType": {"data_type": "tensor"},
    "GaussianSharpen": {},
    "GaussianSmooth": {"sigma": 0.7},
    "Identity": {},
    "MedianSmooth": {"radius": 1},
    "NormalizeIntensity": {"nonzero": True, "channel_wise": True},
    "RepeatChannel": {"repeats": 3},
    "ScaleIntensity": {"minv": -1, "maxv": 1},
    "ScaleIntensityFixedMean": {"factor": 0.5},
    "ScaleIntensityRange": {"a_min": 0, "a_max": 90, "b_min": 0, "b_max": 1},
    "ScaleIntensityRangePercentiles": {"lower": 1, "upper": 100, "b_min": 0, "b_max": 1},
    "ShiftIntensity": {"offset": 7.0},
    "StdShiftIntensity": {"factor": 2.0},
    "ThresholdIntensity": {"threshold": 20.0},
    "ToTensor": {},
}


def test_every_transform_of_values_is_tried() -> None:
    assert set(VALUES) == IN_PLACE


@pytest.mark.parametrize(("name", "d"), [(name, d) for name in sorted(IN_PLACE) for d in (2, 3)])
def test_transforms_of_values_leave_every_voxel_where_it_was(name: str, d: int) -> None:
    shape = (13, 14, 11)[:d]
    geometry = Geometry(random_affine(8, shear=0.3), shape)
    lump = np.array([5, 8, 4])[:d]
    squares = sum((axis - at) ** 2 for axis, at in zip(np.indices(shape), lump, strict=True))
    data = torch.from_numpy(90 * np.exp(-np.asarray(squares) / 3.0)).float()[None]
    prepared = Recipe("r", (step_from_yaml({name: VALUES[name]}),)).apply(Volume(data, geometry))
    assert prepared.geometry == geometry
    for channel in prepared.images[0]:
        peak = np.array(np.unravel_index(int(channel.argmax()), shape))
        assert np.abs(peak - lump).sum() <= (1 if name == "MedianSmooth" else 0)
