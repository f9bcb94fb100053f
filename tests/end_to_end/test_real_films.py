"""Real chest films and real weights: one film, however it is stored, has one map; a pinned logit has none."""

import json

import nibabel as nib
import numpy as np
import pydicom
import pytest
import SimpleITK as sitk
import torch
from PIL import Image
from typer.testing import CliRunner

import medxai
from medxai.cli.app import app

FILM = "1.2.276.0.7230010.3.1.4.8323329.6904.1517875201.850819.dcm"
RECIPE = "configs/recipes/chest_xray_rgb.yaml"


@pytest.fixture(scope="module")
def net(data_dir):
    weights = data_dir("models/squeezenet_cxr3") / "squeezenet1_1_model.pth"
    return medxai.load_model("tests.real_models:squeezenet", weights)


def twin(path, out):
    """The same film in the other photometric interpretation: stored values turned about, tag changed."""
    film = pydicom.dcmread(path)
    pixels = film.pixel_array
    other = {"MONOCHROME1": "MONOCHROME2", "MONOCHROME2": "MONOCHROME1"}
    if film.file_meta.TransferSyntaxUID.is_compressed:
        film.decompress()
    film.PhotometricInterpretation = other[film.PhotometricInterpretation]
    film.PixelData = (2**film.BitsStored - 1 - pixels).astype(pixels.dtype).tobytes()
    film.save_as(out)
    return out


def explained(net, path, index):
    case = medxai.load_case(path)
    recipe = medxai.Recipe.from_yaml(RECIPE)
    return case, medxai.explain(net, case, medxai.GradCAM(), medxai.ClassScore(index), recipe, device="cpu")


@pytest.mark.parametrize("name", [FILM, "Fake_MONOCHROME1.dcm"])
@pytest.mark.parametrize("index", [0, 1, 2])
def test_photometric_twins_give_identical_maps(net, data_dir, tmp_path, name, index):
    path = data_dir("cxr/siim_dicom") / name
    case, straight = explained(net, path, index)
    other, turned = explained(net, twin(path, tmp_path / "twin.dcm"), index)
    assert torch.equal(case.image.data, other.image.data)
    assert torch.equal(straight.data, turned.data)
    assert straight.status == turned.status


def test_a_changed_tag_alone_is_the_negative(data_dir):
    """The second film holds the pixels of the first under the other tag, so it shows the negative of the first."""
    folder = data_dir("cxr/siim_dicom")
    first, second = (medxai.read_volume(folder / name) for name in (FILM, "Fake_MONOCHROME1.dcm"))
    assert torch.equal(second.data, 255 - first.data)
    assert any("MONOCHROME1" in notice for notice in second.notices)
    assert not any("MONOCHROME1" in notice for notice in first.notices)


def test_the_pinned_logit_is_degenerate_and_draws_no_map(net, data_dir, tmp_path):
    case, saliency = explained(net, data_dir("cxr/nih") / "00000001_000.png", 2)
    assert saliency.provenance.score == 0
    assert saliency.status.reason == "zero gradient"
    assert not saliency.data.any()
    medxai.save_overlay(saliency, case, tmp_path)
    assert json.loads((tmp_path / "provenance.json").read_text())["status"] == {"ok": False, "reason": "zero gradient"}


@pytest.mark.parametrize("name", ["cxr/siim_dicom/" + FILM, "cxr/nih/00000001_000.png"])
def test_overlay_lies_on_the_film(net, data_dir, tmp_path, name):
    path = data_dir(name)
    done = CliRunner().invoke(
        app,
        ["explain", str(path), "--model", "tests.real_models:squeezenet", "--recipe", RECIPE, "--target", "1",
         "--weights", str(data_dir("models/squeezenet_cxr3") / "squeezenet1_1_model.pth"), "-o", str(tmp_path)],
        catch_exceptions=False,
    )  # fmt: skip
    assert done.exit_code == 0, done.output
    case, saliency = explained(net, path, 1)
    overlay = nib.load(tmp_path / "saliency.nii.gz")
    grid = case.image.geometry
    np.testing.assert_allclose(overlay.affine, grid.affine, atol=1e-3)
    values = np.asarray(overlay.dataobj)
    assert values.shape == (*grid.shape, 1)
    np.testing.assert_array_equal(values[..., 0], saliency.on(grid).nan_to_num(nan=0.0).numpy())
    assert values.max() > 0
    foreign = sitk.ReadImage(str(tmp_path / "saliency.nii.gz"))
    assert foreign.GetSize() == (*grid.shape, 1)
    np.testing.assert_allclose(foreign.GetSpacing()[:2], grid.spacing, atol=1e-5)


def test_the_whole_film_is_seen(net, data_dir):
    case, saliency = explained(net, data_dir("cxr/nih") / "00000001_000.png", 1)
    assert not saliency.on(case.image.geometry).isnan().any()


def test_a_picture_of_unknown_size_is_scored_from_file_as_in_memory(net, data_dir, tmp_path):
    """A mark in the file and the record beside the map both say that the pixel size is unknown."""
    case, saliency = explained(net, data_dir("cxr/nih") / "00000001_000.png", 1)
    region = torch.zeros(case.image.geometry.shape, dtype=torch.bool)
    region[300:420, 250:460] = True
    mask = medxai.Mask(region, case.image.geometry)
    medxai.save_overlay(saliency, case, tmp_path)
    assert medxai.evaluate(medxai.load_overlay(tmp_path / "saliency.nii.gz"), mask) == medxai.evaluate(saliency, mask)


def test_a_mask_picture_follows_the_size_that_the_user_gives(net, data_dir, tmp_path):
    weights = data_dir("models/squeezenet_cxr3") / "squeezenet1_1_model.pth"
    film = data_dir("cxr/nih") / "00000001_000.png"
    pixels = np.zeros((512, 512), np.uint8)
    pixels[300:420, 250:460] = 255
    Image.fromarray(pixels).save(tmp_path / "heart.png")
    words = ["explain", str(film), "--model", "tests.real_models:squeezenet", "--weights", str(weights), "--recipe",
             RECIPE, "--target", "1", "--mask", str(tmp_path / "heart.png"), "--spacing", "0.75,0.766"]  # fmt: skip
    done = CliRunner().invoke(app, [*words, "-o", str(tmp_path / "out")], catch_exceptions=False)
    assert done.exit_code == 0, done.output
    overlay = nib.load(tmp_path / "out" / "saliency.nii.gz")
    np.testing.assert_allclose(overlay.header.get_zooms()[:2], (0.75, 0.766), rtol=1e-6)
    in_pixels = CliRunner().invoke(app, [*words[:-2], "-o", str(tmp_path / "px")], catch_exceptions=False)
    assert in_pixels.exit_code == 0, in_pixels.output
    scores = [json.loads((tmp_path / o / "scores.json").read_text())["scores"] for o in ("out", "px")]
    for in_mm, plain in zip(*scores, strict=True):
        if in_mm["unit"]:
            assert in_mm["value"] >= 0
            assert plain["reason"] == "the pixel size is unknown"
        else:
            assert in_mm["value"] == pytest.approx(plain["value"], rel=1e-4)
