"""The published numbers of CheXlocalize on its own sample: pixel counts exactly, overlaps to 1e-9."""

import json
import pickle
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from medxai.errors import InputError, MaskError, UnknownNameError
from medxai.io.chexlocalize import decode_counts, patient_of, read_annotations, read_film_map
from medxai.metrics import chexlocalize
from medxai.metrics.chexlocalize import THRESHOLDS, enlarged, hit, iou, otsu_region, region_above
from medxai.metrics.localisation import mass_in_mask
from medxai.metrics.reading import Reading
from medxai.metrics.spec import reason

FINDINGS = tuple(THRESHOLDS)
FILM = "patient64541_study1_view1_frontal"


@pytest.fixture(scope="module")
def folder(data_dir):
    return data_dir("cxr/chexlocalize")


@pytest.fixture(scope="module")
def truth(folder):
    return read_annotations(folder / "gt_segmentations_val.json")


@pytest.fixture(scope="module")
def expected(folder):
    return json.loads((folder / "expected_results.json").read_text())[FILM]


@pytest.mark.parametrize("finding", FINDINGS)
def test_every_published_number(finding, folder, truth, expected):
    found = read_film_map(folder / "gradcam_maps_npz" / FILM / f"{finding.replace(' ', '_')}_map.npz")
    want = expected[finding]
    assert (found.film, found.finding) == (FILM, finding)
    assert found.probability == pytest.approx(want["prob"], abs=1e-9)
    assert list(found.shape) == want["dims_hw"]
    values, mask = enlarged(found.values, found.shape), truth.mask(FILM, finding).data
    assert int(mask.sum()) == want["gt_area"]
    assert list(divmod(int(values.argmax()), found.shape[1])) == want["argmax_rc"]
    assert int((values == values.max()).sum()) == want["argmax_ties"]
    otsu, tuned = otsu_region(values), region_above(values, THRESHOLDS[finding])
    assert int(tuned.sum()) == want["pred_area_tuned"]
    rounding = finding == "Pneumothorax"  # one of its pixels is 79.0 of 255, and the threshold is 79
    assert int(otsu.sum()) == want["pred_area_otsu"] + rounding
    assert int((otsu & mask).sum()) == want["inter_otsu"]
    assert int((otsu | mask).sum()) == want["union_otsu"] + rounding
    for got, name in ((iou(otsu, mask), "iou_otsu"), (iou(tuned, mask), "iou_tuned"), (hit(values, mask), "hit")):
        assert got == pytest.approx(np.nan if want[name] is None else want[name], abs=1e-9, nan_ok=True)
    energy = mass_in_mask(Reading(values, mask))
    wanted = want["energy_in_mask"]
    assert energy == pytest.approx(np.nan if wanted is None else wanted, abs=1e-6, nan_ok=True)


def test_the_published_regions(folder):
    """Nine agree in every pixel; of the tenth one pixel lies on the threshold itself."""
    published = read_annotations(folder / "gradcam_segmentations_val_sample.json")
    differ = dict.fromkeys(FINDINGS, 0)
    for finding in FINDINGS:
        found = read_film_map(folder / "gradcam_maps_npz" / FILM / f"{finding.replace(' ', '_')}_map.npz")
        region = otsu_region(enlarged(found.values, found.shape))
        differ[finding] = int((region ^ published.mask(FILM, finding).data).sum())
    assert differ == {**dict.fromkeys(FINDINGS, 0), "Pneumothorax": 1}


def test_polygons_run_lengths_and_pictures_are_one_annotation(folder, truth):
    polygons = read_annotations(folder / "gt_annotations_val.json")
    for finding in FINDINGS:
        assert torch.equal(polygons.mask(FILM, finding).data, truth.mask(FILM, finding).data)
    for path in (folder / "gt_masks_png").iterdir():
        finding = path.stem.removeprefix(f"{FILM}_").replace("_", " ")
        assert np.array_equal(np.asarray(Image.open(path)) > 0, truth.mask(FILM, finding).data.numpy())
    assert patient_of(FILM) == "patient64541"
    assert list(truth) == [FILM]
    with pytest.raises(UnknownNameError):
        truth.mask("patient1", "Edema")


def test_a_pickle_of_tensors_is_read_and_any_other_refused(folder, tmp_path):
    for finding in ("Airspace Opacity", "Cardiomegaly"):
        pickled = read_film_map(folder / "gradcam_maps_val" / f"{FILM}_{finding}_map.pkl")
        plain = read_film_map(folder / "gradcam_maps_npz" / FILM / f"{finding.replace(' ', '_')}_map.npz")
        assert torch.equal(pickled.values, plain.values)
        assert (pickled.film, pickled.finding, pickled.shape) == (plain.film, plain.finding, plain.shape)
        assert pickled.probability == pytest.approx(plain.probability)

    class Hostile:
        def __reduce__(self):
            return (Path.touch, (tmp_path / "ran",))

    hostile = tmp_path / "patient1_study1_view1_frontal_Edema_map.pkl"
    hostile.write_bytes(pickle.dumps({"map": Hostile()}))
    with pytest.raises(InputError, match="asks for"):
        read_film_map(hostile)
    assert not (tmp_path / "ran").exists()


def encode(pixels):
    """COCO run lengths from their definition."""
    flat = pixels.T.ravel()
    runs = np.diff(np.flatnonzero(np.diff(np.concatenate([[2], flat, [2]]))))
    runs = [0, *runs] if flat[0] else list(runs)
    text = ""
    for number, run in enumerate(runs):
        value, more = int(run - runs[number - 2] if number > 2 else run), True
        while more:
            bits, value = value & 31, value >> 5
            more = value != (-1 if bits & 16 else 0)
            text += chr(48 + bits + 32 * more)
    return text


@pytest.mark.parametrize("seed", range(4))
def test_run_lengths_go_and_come_back(seed):
    rng = np.random.default_rng(seed)
    pixels = rng.random((37, 53)) < (0.5, 0.01, 0.99, 0.0)[seed]
    assert np.array_equal(decode_counts(encode(pixels), pixels.shape), pixels)
    with pytest.raises(ValueError, match="film of"):
        decode_counts(encode(pixels), (37, 54))


def test_contours_fill_holes_and_lose_single_pixels():
    values = torch.zeros(40, 40)
    values[5:25, 5:25] = 1
    values[10:20, 10:20] = 0
    values[35, 35] = 1
    expected = torch.zeros(40, 40, dtype=torch.bool)
    expected[5:25, 5:25] = True
    assert torch.equal(otsu_region(values), expected)
    assert not otsu_region(torch.ones(4, 4)).any()
    assert not region_above(torch.ones(4, 4), 0.4).any()


@pytest.mark.parametrize("value", [0.0, 0.013871687464416027, 6.965049743652344, -20.812976837158203])
def test_a_constant_map_stays_one_when_enlarged(value):
    """Weights that add up to 1 only nearly would leave a pattern, which scaling to [0, 1] makes a region."""
    values = enlarged(torch.full((16, 16), value), (483, 595))
    assert torch.equal(values, torch.full((483, 595), value))
    assert not otsu_region(values).any()


def test_a_constant_map_hits_nothing_but_as_published():
    values, mask = torch.ones(3, 3), torch.eye(3, dtype=torch.bool)
    assert reason(hit(values, mask)) == reason(chexlocalize.chexlocalize_hit(Reading(values, mask))) == "constant map"
    assert hit(values, mask, published=True) == 1
    assert hit(values, ~mask, published=True) == 0


def test_undefined_follows_the_protocol():
    some, none = torch.eye(3, dtype=torch.bool), torch.zeros(3, 3, dtype=torch.bool)
    assert np.isnan([iou(none, some), iou(some, none), iou(none, none), iou(none, none, found_only=False)]).all()
    assert iou(none, some, found_only=False) == iou(some, none, found_only=False) == 0
    assert np.isnan(hit(torch.rand(3, 3), none))
    assert chexlocalize.human_hit([], some) == 0
    assert chexlocalize.human_hit([(0.0, 2.0), (1.2, 1.9)], some) == 1
    with pytest.raises(MaskError, match="beside its film"):
        chexlocalize.human_hit([(-1.0, 2.0)], some)


def test_the_tuned_threshold_has_the_largest_mean():
    values = torch.linspace(0, 1, 11).reshape(1, 11)
    row = chexlocalize.overlaps(values, values > 0.55)
    assert row[3] == pytest.approx(float((values > 0.55).sum() / (values > 0.5).sum()))
    assert chexlocalize.best_threshold([row, row]) == 0.5
    assert np.isnan(chexlocalize.best_threshold([chexlocalize.overlaps(values, values > 2)]))
