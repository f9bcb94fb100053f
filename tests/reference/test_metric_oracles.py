"""The localisation metrics against scikit-learn, scikit-image, MONAI and SciPy, and against their own definition."""

import numpy as np
import pytest
import torch
from monai.metrics import compute_average_surface_distance, compute_hausdorff_distance
from scipy import ndimage
from scipy.spatial.distance import cdist
from skimage.filters import threshold_otsu
from sklearn.metrics import average_precision_score, f1_score, jaccard_score, precision_recall_curve, roc_auc_score

from medxai.core.geometry import Geometry
from medxai.metrics import distance, ehr, localisation, thresholds
from medxai.metrics.places import apart, world
from medxai.metrics.reading import Reading


def cases():
    rng = np.random.default_rng(0)
    for shape in ((31, 23), (13, 17, 11)):
        for levels in (None, 7):
            values = ndimage.gaussian_filter(rng.standard_normal(shape), 2).astype(np.float32)
            if levels:
                values = np.round(values / np.abs(values).max() * levels).astype(np.float32)
            mask = ndimage.gaussian_filter(rng.standard_normal(shape), 2) + values / 3
            yield pytest.param(values, mask > np.quantile(mask, 0.8), id=f"{len(shape)}d-{levels or 'no'}-ties")


each_case = pytest.mark.parametrize(("values", "mask"), list(cases()))


def reading(values, mask):
    grid = Geometry(np.diag([0.7, 1.1, 2.5, 1.0]), values.shape)
    return Reading(torch.from_numpy(values), torch.from_numpy(mask), grid)


@each_case
def test_ranks_agree_with_scikit_learn(values, mask):
    ours, flat, truth = reading(values, mask), values.ravel(), mask.ravel()
    assert localisation.auroc(ours) == pytest.approx(roc_auc_score(truth, flat), abs=1e-12)
    assert localisation.average_precision(ours) == pytest.approx(average_precision_score(truth, flat), abs=1e-12)


@each_case
def test_thresholds_agree_with_scikit_learn_and_scikit_image(values, mask):
    ours, truth, positive = reading(values, mask), mask.ravel(), np.maximum(values, 0)
    above = (positive > threshold_otsu(positive)).ravel()
    assert thresholds.iou_at_otsu(ours) == pytest.approx(jaccard_score(truth, above), abs=1e-12)
    assert thresholds.dice_at_otsu(ours) == pytest.approx(f1_score(truth, above), abs=1e-12)
    half = (values >= values.max() / 2).ravel()
    assert thresholds.iou_at_fraction(ours, 0.5) == pytest.approx(jaccard_score(truth, half), abs=1e-12)
    precision, recall, _ = precision_recall_curve(truth, positive.ravel())
    with np.errstate(invalid="ignore"):
        every = np.nan_to_num(2 * precision * recall / (precision + recall))[1:]
    assert thresholds.best_dice(ours) == pytest.approx(every.max(), abs=1e-12)
    curve = thresholds.sweep(ours)
    assert curve.dice.max() <= thresholds.best_dice(ours)
    assert curve.iou[49] == pytest.approx(thresholds.iou_at_fraction(ours, 0.5), abs=1e-12)


@pytest.mark.filterwarnings("ignore:.*always_return_as_numpy:FutureWarning")  # theirs
@each_case
def test_surface_distances_agree_with_monai(values, mask):
    ours = reading(values, mask)
    core = torch.from_numpy(values >= values.max() / 2)[None, None].float()
    truth, spacing = torch.from_numpy(mask)[None, None].float(), ours.spacing_mm
    theirs = compute_hausdorff_distance(core, truth, include_background=True, percentile=95, spacing=spacing)
    assert distance.hd95_at_half_maximum(ours) == pytest.approx(float(theirs), rel=1e-5)
    theirs = compute_average_surface_distance(core, truth, include_background=True, symmetric=True, spacing=spacing)
    assert distance.assd_at_half_maximum(ours) == pytest.approx(float(theirs), rel=1e-5)


@pytest.mark.parametrize("shape", [(64, 50), (20, 18, 16)], ids=["2d", "3d"])
@pytest.mark.parametrize("shear", [0.0, 0.3])
@pytest.mark.parametrize("count", [2, 300])
def test_the_nearest_voxel_is_found_in_any_way(shape, shear, count):
    """Few voxels go by a tree, many by a transform, and those of a sheared grid by a tree again: all as by hand."""
    rng = np.random.default_rng(count)
    turn = np.linalg.qr(rng.standard_normal((3, 3)))[0]
    skew = np.eye(3)
    skew[0, 1] = shear
    affine = np.eye(4)
    affine[:3, :3] = turn @ skew @ np.diag([0.7, 1.1, 2.5])
    grid = Geometry(affine, shape)
    places = np.argwhere(np.ones(shape))
    points, others = (places[rng.choice(len(places), count, replace=False)] for _ in range(2))
    by_hand = cdist(world(points, grid), world(others, grid)).min(1)
    np.testing.assert_allclose(apart(points, others, grid), by_hand, rtol=1e-9, atol=1e-9)


@each_case
def test_peak_and_centroid_agree_with_scipy(values, mask):
    ours, spacing = reading(values, mask), np.array([0.7, 1.1, 2.5])[: values.ndim]
    field = ndimage.distance_transform_edt(~mask, sampling=spacing)
    assert distance.peak_distance(ours) == pytest.approx(field[values == values.max()].mean(), rel=1e-6)
    within = (field[values == values.max()] <= 2.0).mean()
    assert distance.pointing_near(ours, 2.0) == pytest.approx(within, abs=1e-12)
    positive = np.maximum(values, 0).astype(float)
    apart = (np.array(ndimage.center_of_mass(positive)) - ndimage.center_of_mass(mask)) * spacing
    assert distance.centroid_distance(ours) == pytest.approx(np.linalg.norm(apart), rel=1e-6)


def heat_ratio(heatmap, roi, by_heat):
    """The equation of the paper, threshold by threshold."""
    hot = np.where(heatmap >= 0.1, heatmap, 0)
    ratios = []
    for q in np.linspace(0, 1, 11):
        kept = hot >= min(np.quantile(hot[hot > 0], q), 0.99 * hot.max())
        ratios.append((hot[kept & roi].sum() if by_heat else (kept & roi).sum()) / kept.sum())
    return np.trapezoid(ratios, dx=0.1)


@each_case
def test_effective_heat_ratio_is_that_of_the_paper(values, mask):
    normalised = np.maximum(values, 0).astype(float) / values.max()
    ours = reading(normalised, mask)
    assert ehr.ehr_published(ours) == pytest.approx(heat_ratio(normalised, mask, by_heat=True), abs=1e-9)
    assert ehr.ehr_unweighted(ours) == pytest.approx(heat_ratio(normalised, mask, by_heat=False), abs=1e-9)
    assert ehr.ehr_published(reading(normalised * 0.3, mask)) == pytest.approx(ehr.ehr_published(ours), abs=1e-9)
    assert ehr.ehr_published(ours) <= ehr.ehr_mass(ours) + 1e-12


def test_ties_of_the_published_example():
    """1000 voxels, 50 of them above zero and in the mask of 200: 50 hits and 150 of the 950 zeros at random."""
    values, mask = torch.zeros(1000), torch.zeros(1000, dtype=torch.bool)
    values[:50], mask[:200] = torch.arange(50) + 1.0, True
    expected = (50 + 150 * 150 / 950) / 200
    assert localisation.precision_at_mask_size(Reading(values, mask)) == pytest.approx(expected, abs=1e-12)


def test_soft_masks_count_by_their_share():
    """A voxel of share w is w of a voxel in the mask and 1 - w of one beside it: so say ten copies of each."""
    rng = np.random.default_rng(3)
    values = torch.from_numpy(rng.standard_normal(60).astype(np.float32))
    tenths = rng.integers(0, 11, 60)
    soft = Reading(values, torch.from_numpy(tenths / 10))
    copies = np.concatenate([np.arange(10) < n for n in tenths])
    hard = Reading(values.repeat_interleave(10), torch.from_numpy(copies))
    for metric in (
        localisation.auroc,
        localisation.average_precision,
        localisation.mass_in_mask,
        localisation.pointing_game,
    ):
        assert metric(soft) == pytest.approx(metric(hard), abs=1e-9)
    for metric in (thresholds.iou_at_otsu, thresholds.best_dice, localisation.precision_at_mask_size):
        assert metric(soft) == pytest.approx(metric(hard), abs=1e-9)


def test_spacing_moves_millimetres_and_nothing_else():
    rng = np.random.default_rng(4)
    values = torch.from_numpy(rng.random((12, 11, 10), np.float32))
    mask = torch.zeros(12, 11, 10, dtype=torch.bool)
    mask[2:5, 3:6, 4:7] = True
    grids = [Geometry(np.diag([*spacing, 1.0]), (12, 11, 10)) for spacing in ((1.0, 1, 1), (2.0, 2, 2))]
    one, two = (Reading(values, mask, grid) for grid in grids)
    assert distance.peak_distance(two) == pytest.approx(2 * distance.peak_distance(one))
    assert distance.assd_at_half_maximum(two) == pytest.approx(2 * distance.assd_at_half_maximum(one))
    assert localisation.auroc(two) == localisation.auroc(one)
