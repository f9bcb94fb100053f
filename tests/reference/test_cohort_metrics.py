"""Boxes, pooled thresholds, structures, shapes and places, by hand and against scikit-learn."""

import numpy as np
import pytest
import torch
from sklearn.metrics import average_precision_score, precision_recall_curve

from medxai.core.annotation import SoftMask, agreed, voted
from medxai.core.geometry import Geometry
from medxai.core.volume import Mask
from medxai.errors import GeometryError, MaskError
from medxai.metrics import boxes, chance, cohort
from medxai.metrics.atlas import by_structure
from medxai.metrics.localisation import auroc, mass_in_mask
from medxai.metrics.permutation import permutation
from medxai.metrics.reading import Reading
from medxai.metrics.shape import shape
from medxai.metrics.spec import reason
from medxai.metrics.thresholds import sweep

GRID = Geometry(np.diag([2.0, 1.0, 3.0, 1.0]), (10, 12, 8))


def levels(seed, size=(20, 20)):
    """A map of thousandths with a maximum of 1, and a mask that goes with it."""
    rng = np.random.default_rng(seed)
    values = rng.integers(0, 1000, size) / 1000
    values.flat[0] = 1.0
    mask = rng.random(size) < values**3
    return Reading(torch.from_numpy(values), torch.from_numpy(mask))


def test_pooled_average_precision_and_f1_are_those_of_all_voxels():
    cases = [levels(seed) for seed in range(4)]
    truth = np.concatenate([case.mask.numpy().ravel() for case in cases])
    scores = np.concatenate([case.values.numpy().ravel() for case in cases])
    found = cohort.pooled_average_precision([cohort.histogram(case.ranking) for case in cases])
    assert found == pytest.approx(average_precision_score(truth, scores), abs=1e-9)
    best = cohort.pooled_best_f1([sweep(case, 1000) for case in cases])
    precision, recall, _ = precision_recall_curve(truth, scores)
    f1 = 2 * precision * recall / np.maximum(precision + recall, 1e-12)
    assert best.f1 == pytest.approx(f1.max(), abs=1e-9)
    assert best.precision == pytest.approx(precision[f1.argmax()], abs=1e-9)
    assert np.isnan(cohort.pooled_average_precision([]))
    assert np.isnan(cohort.pooled_best_f1([]).f1)


def test_a_threshold_is_tuned_on_the_mean_overlap():
    values = torch.linspace(0, 1, 101)[None]
    cases = [sweep(Reading(values, values >= t)) for t in (0.55, 0.6, 0.65)]
    assert cohort.tuned_fraction(cases) == 0.6


def test_boxes_become_masks():
    inside = boxes.box_in_voxels(GRID, (2, 3, 4), (5, 6, 7)).data
    assert int(inside.sum()) == 27
    assert bool(inside[2:5, 3:6, 4:7].all())
    assert torch.equal(boxes.box_in_mm(GRID, (4.0, 3.0, 12.0), (8.0, 5.0, 18.0)).data, inside)
    assert torch.equal(boxes.box_in_mm(GRID, (9.9, 2.1, 20.9), (2.1, 5.9, 9.1)).data, inside)
    with pytest.raises(MaskError):
        boxes.box_in_mm(GRID, (100.0, 0, 0), (120.0, 5, 5))
    with pytest.raises(MaskError, match="holds no voxel"):
        boxes.box_in_mm(GRID, (4.1, 3.0, 12.0), (5.9, 5.0, 18.0))
    with pytest.raises(MaskError, match="holds no voxel"):
        boxes.box_in_voxels(GRID, (5, 5, 5), (2, 8, 8))
    with pytest.raises(GeometryError):
        boxes.box_in_mm(Geometry(np.eye(4), (4, 4), "unknown"), (0.0, 0), (1.0, 1))


@pytest.mark.parametrize(
    ("first", "last"), [((-2, 0, 0), (3, 3, 3)), ((8, 0, 0), (99, 4, 4)), ((0, 0), (5, 5)), ((0, 0, 0), (5, 5))]
)
def test_a_box_beyond_the_grid_or_of_other_axes_is_refused(first, last):
    """In millimetres its faces may touch those of the outermost voxels."""
    for box in (boxes.box_in_voxels, boxes.box_in_mm):
        with pytest.raises(MaskError, match="does not lie within the grid"):
            box(GRID, first, last)
    assert bool(boxes.box_in_voxels(GRID, (0, 0, 0), GRID.shape).data.all())
    faces = GRID.world(np.array([(-0.5,) * 3, np.array(GRID.shape) - 0.5])).tolist()
    assert bool(boxes.box_in_mm(GRID, *faces).data.all())


def test_a_box_in_the_plane_has_two_coordinates_or_three():
    film = Geometry(np.array([[2.0, 0, 0, 5], [0, 2, 0, 5], [0, 0, 1, 7], [0, 0, 0, 1]]), (8, 6))
    inside = boxes.box_in_mm(film, (8.0, 8.0), (12.0, 12.0)).data
    assert inside.nonzero().tolist() == [[2, 2], [2, 3], [3, 2], [3, 3]]
    assert torch.equal(boxes.box_in_mm(film, (8.0, 8.0, 6.0), (12.0, 12.0, 8.0)).data, inside)
    with pytest.raises(MaskError, match="does not lie within"):
        boxes.box_in_mm(film, (8.0, 8.0), (12.0, 18.0))


def test_a_mask_without_a_half_has_no_box():
    faint = Reading(torch.rand(20, 20), torch.full((20, 20), 0.25))
    assert reason(boxes.box_iou_at_half_maximum(faint)) == "no voxel of the mask is one half or more"
    assert reason(boxes.box_curve(faint.against(torch.zeros(20, 20)))) == "empty mask"


def test_box_overlap_by_hand():
    one, other = np.array([[0.0, 0], [4, 4]]), np.array([[2.0, 2], [6, 6]])
    assert boxes.box_iou(one, other) == pytest.approx(4 / 28)
    assert boxes.box_iou(one, one + 10) == 0


def spots(*parts):
    values = torch.zeros(20, 20)
    for rows, columns, height in parts:
        values[slice(*rows), slice(*columns)] = height
    return values


def test_box_accuracy_takes_the_largest_part_and_the_best_threshold_of_the_cohort():
    """The finding is the weaker and larger part of two: cut high it is lost, cut low it is the largest."""
    mask = spots(((2, 8), (2, 8), 1)) > 0
    curve = boxes.box_curve(Reading(spots(((2, 8), (2, 8), 0.4), ((15, 18), (15, 18), 1.0)), mask))
    low, high = curve.fractions <= 0.4 + 1e-9, curve.fractions > 0.4 + 1e-9
    assert (curve.largest[low][:-1] == 1).all()
    assert (curve.largest[high] == 0).all()
    hidden = boxes.box_curve(Reading(spots(((2, 8), (2, 8), 0.9), ((10, 19), (10, 19), 1.0)), mask))
    assert hidden.largest.max() == 0
    assert hidden.any_part.max() == 1
    assert boxes.box_accuracy([curve, hidden]) == 0.5
    assert boxes.box_accuracy_v2([curve, hidden]) == 1.0
    assert np.isnan(boxes.box_accuracy([]))


def test_structures_share_what_the_map_gives():
    values = torch.zeros(10, 12, 8)
    values[:5], values[5:] = 3.0, 1.0
    values[9] = -4.0
    values[0, 0, 0] = torch.nan
    labels = torch.zeros(10, 12, 8, dtype=torch.int16)
    labels[:5], labels[9] = 7, 2
    rows = {row.label: row for row in by_structure(values, labels, GRID, {7: "liver"})}
    mass = 3 * (5 * 96 - 1) + 4 * 96
    assert rows[7].share == pytest.approx(3 * (5 * 96 - 1) / mass)
    assert sum(row.share for row in rows.values()) == pytest.approx(1)
    assert sum(row.absolute_share for row in rows.values()) == pytest.approx(1)
    assert (rows[7].name, rows[2].name, rows[0].name) == ("liver", "2", "elsewhere")
    assert rows[2].share == 0
    assert rows[2].absolute_share == pytest.approx(4 * 96 / (mass + 4 * 96))
    assert rows[2].size == pytest.approx(96 * 6 / 1000)
    assert rows[7].lift == pytest.approx(rows[7].share / ((5 * 96 - 1) / 959))
    for wrong, why in ((0.0, "no positive saliency"), (torch.inf, "infinite saliency")):
        for row in by_structure(torch.full((10, 12, 8), wrong), labels, GRID):
            assert {reason(value) for value in (row.share, row.lift, row.per_size)} == {why}
    with pytest.raises(GeometryError):
        by_structure(values, labels[1:])


def test_shape_is_in_millimetres():
    """A bar of 20 x 4 x 9 mm beside a single voxel."""
    mask = np.zeros((20, 12, 10), bool)
    mask[2:12, 3:7, 2:5], mask[18, 10, 8] = True, True
    found = shape(mask, Geometry(np.diag([2.0, 1.0, 3.0, 1.0]), mask.shape))
    assert (found.parts, found.size) == (2, pytest.approx(121 * 6 / 1000))
    variances = [s**2 * (n**2 - 1) / 12 for s, n in ((2, 10), (3, 3))]
    assert found.elongation == pytest.approx(np.sqrt(variances[0] / variances[1]), rel=0.01)
    assert found.solidity == pytest.approx(1, abs=0.01)
    assert shape(np.zeros((5, 5), bool), Geometry(np.eye(4), (5, 5))).parts == 0


def test_chance_maps_know_only_the_image():
    image = torch.zeros(16, 16)
    image[:, 8:] = 1
    seen = torch.rand(16, 16)
    seen[0] = torch.nan
    edges = chance.edges(seen, image, (1.0, 1.0))
    assert edges[0].isnan().all()
    assert set(edges[1:].argmax(1).tolist()) <= {7, 8}
    assert chance.edges(seen, image, (1.0, 2.0))[5, 8] == pytest.approx(float(edges[5, 8]) / 2)
    one, two = torch.zeros(8, 8), torch.zeros(4, 4)
    one[7, 7], two[0, 0] = 100.0, 1.0
    mean = chance.others(torch.rand(16, 16), [one, two])
    assert float(mean[8:, 8:].sum()) == pytest.approx(float(mean[:8, :8].sum()), abs=0.1)
    assert torch.equal(chance.noise(seen, 1).isnan(), seen.isnan())
    assert not torch.equal(chance.noise(seen, 1)[1:], chance.noise(seen, 2)[1:])


def test_the_body_is_the_largest_bright_part_without_its_holes():
    image = torch.zeros(20, 20)
    image[3:15, 4:16] = 100 + torch.rand(12, 12)
    image[7:9, 8:10] = 0
    image[18, 18] = 100
    seen = torch.rand(20, 20)
    seen[4] = torch.nan
    found = chance.body(seen, image)
    expected = torch.zeros(20, 20)
    expected[3:15, 4:16] = 1
    assert torch.equal(found[5:], expected[5:])
    assert found[4].isnan().all()
    assert torch.equal(chance.body(seen, torch.full((20, 20), 3.0)).nan_to_num(), chance.uniform(seen).nan_to_num())


def test_the_finding_is_laid_where_as_much_of_it_is_seen():
    mask = torch.zeros(20, 20, dtype=torch.bool)
    mask[3:6, 4:8] = True
    field = torch.ones(20, 20, dtype=torch.bool)
    field[:, 15:] = False
    places = chance.moved(mask, field, 50)
    assert len(places) == 50
    for place in places:
        assert int((place & field).sum()) == 12
        rows, columns = torch.nonzero(place).T
        assert (int(rows.max() - rows.min()), int(columns.max() - columns.min())) == (2, 3)


def test_p_values_are_small_for_what_is_there_and_even_for_noise():
    mask = torch.zeros(40, 40, dtype=torch.bool)
    mask[10:14, 20:26] = True
    asked = {"auroc": (auroc, "higher"), "mass": (mass_in_mask, "higher")}
    found = permutation(Reading(mask + 0.1 * torch.rand(40, 40), mask), asked)
    assert found["auroc"].p == found["mass"].p == 0.01
    assert found["auroc"].mean == pytest.approx(0.5, abs=0.1)
    torch.manual_seed(0)
    p = [permutation(Reading(torch.rand(40, 40), mask), asked, number=39)["auroc"].p for _ in range(60)]
    assert 0.35 < np.mean(p) < 0.65
    assert 0 <= np.mean(np.array(p) <= 0.1) < 0.25
    whole = torch.ones(5, 5, dtype=torch.bool)
    assert np.isnan(permutation(Reading(torch.rand(5, 5), whole), asked)["auroc"].p)


def test_readers_agree_by_share():
    one, two, three = (torch.zeros(4, 4, dtype=torch.bool) for _ in range(3))
    one[:2], two[:3], three[0] = True, True, True
    grid = Geometry(np.eye(4), (4, 4))
    masks = [Mask(m, grid, ("drawn by hand",)) for m in (one, two, three)]
    assert agreed(masks).data[:, 0].tolist() == pytest.approx([1, 2 / 3, 1 / 3, 0])
    assert agreed(masks).notices == ("drawn by hand",)
    assert [int(voted(masks, share).data.sum()) for share in (1.0, 0.5, 0.0)] == [4, 8, 12]
    with pytest.raises(MaskError):
        agreed([masks[0], Mask(one, Geometry(np.diag([2.0, 1, 1, 1]), (4, 4)))])
    with pytest.raises(MaskError):
        SoftMask(torch.full((4, 4), 1.5), grid)


def test_a_box_of_a_coronal_film_states_three_coordinates():
    coronal = np.array([[1.0, 0, 0, 5], [0, 0, 1, 7], [0, 1, 0, 9], [0, 0, 0, 1]])
    film = Geometry(coronal, (8, 8))
    assert int(boxes.box_in_mm(film, (5.0, 7.0, 9.0), (8.0, 7.0, 12.0)).data.sum()) == 16
    with pytest.raises(MaskError, match="does not lie within the grid"):
        boxes.box_in_mm(film, (5.0, 7.0), (8.0, 7.0))
