"""A DICOM series in, a NIfTI overlay out: it lies on the anatomy, though the label map's array runs the other way."""

import json

import nibabel as nib
import numpy as np
import pytest
import SimpleITK as sitk
import torch
import yaml
from typer.testing import CliRunner

import medxai
from medxai.cli.app import app
from tests.truth import weights

LPS = np.diag([-1.0, -1.0, 1.0])


@pytest.fixture(scope="module")
def overlay(data_dir, tmp_path_factory):
    """The CT itself, scaled to [0, 1] and smoothed by a network, as the map of that network."""
    folder = tmp_path_factory.mktemp("series")
    window = {"a_min": -1024, "a_max": 1024, "b_min": 0.0, "b_max": 1.0, "clip": True}
    steps = [{"Orientation": {"axcodes": "RAS"}}, {"ScaleIntensityRange": window}]
    (folder / "recipe.yaml").write_text(yaml.safe_dump({"name": "window", "transforms": steps}), "utf-8")
    data = data_dir("dicom/totalseg_ct_j2k")
    words = [
        "explain", str(data / "series"), "--model", "tests.truth:looker",
        "--factory-arg", "levels=1", "--weights", str(weights(folder, 1)), "--recipe", str(folder / "recipe.yaml"),
        "--layer", "act", "--target", "1", "--mask", str(data / "example_seg_dicom.nii.gz"),
        "--label", "5", "-o", str(folder / "out"),
    ]  # fmt: skip
    done = CliRunner().invoke(app, words, catch_exceptions=False)
    assert done.exit_code == 0, done.output
    return folder / "out"


def foreign_scan(data_dir):
    reader = sitk.ImageSeriesReader()
    reader.SetFileNames(reader.GetGDCMSeriesFileNames(str(data_dir("dicom/totalseg_ct_j2k") / "series")))
    return reader.Execute()


def test_the_affine_is_the_scanners(overlay, data_dir):
    scan, image = foreign_scan(data_dir), nib.load(overlay / "saliency.nii.gz")
    assert image.shape == scan.GetSize()
    for corner in [(0, 0, 0), (511, 0, 0), (0, 511, 19), (511, 511, 19)]:
        ours = nib.affines.apply_affine(image.affine, corner)
        np.testing.assert_allclose(LPS @ ours, scan.TransformIndexToPhysicalPoint(corner), atol=1e-3)


def test_arrays_run_opposite_ways_and_the_world_agrees(overlay, data_dir):
    path = data_dir("dicom/totalseg_ct_j2k") / "example_seg_dicom.nii.gz"
    labels, image = nib.load(path), nib.load(overlay / "saliency.nii.gz")
    assert labels.shape == image.shape
    assert np.sign(labels.affine[1, 1]) == -np.sign(image.affine[1, 1])
    ends = np.array([[0, 0, 0], np.array(labels.shape) - 1])
    boxes = [np.sort(nib.affines.apply_affine(i.affine, ends), axis=0) for i in (labels, image)]
    np.testing.assert_allclose(boxes[0], boxes[1], atol=1e-2)


def test_the_map_of_every_organ_follows_its_density(overlay, data_dir):
    """Mean map per organ, read through our geometry, against mean HU per organ, read through SimpleITK alone."""
    path = data_dir("dicom/totalseg_ct_j2k") / "example_seg_dicom.nii.gz"
    foreign_labels = sitk.ReadImage(str(path))
    density = sitk.Resample(foreign_scan(data_dir), foreign_labels, sitk.Transform(), sitk.sitkLinear, -1024.0)
    hounsfield = np.clip(sitk.GetArrayFromImage(density), -1024, 1024)
    codes = sitk.GetArrayFromImage(foreign_labels)
    saliency = medxai.load_overlay(overlay / "saliency.nii.gz")
    organs = [int(c) for c in np.unique(codes) if c and (codes == c).sum() > 500]
    assert len(organs) >= 5
    labels = medxai.read_volume(path)
    values = saliency.on(labels.geometry)
    first = medxai.read_mask(path, organs[0])
    assert first.geometry == labels.geometry
    assert torch.equal(first.data, labels.data[0] == organs[0])
    ours = [float(values[labels.data[0] == organ].nanmean()) for organ in organs]
    array = np.asarray(nib.load(overlay / "saliency.nii.gz").dataobj)
    voxelwise = [float(array[(labels.data[0] == organ).numpy()].mean()) for organ in organs]
    expected = [float(hounsfield[codes == organ].mean()) for organ in organs]
    assert np.corrcoef(ours, expected)[0, 1] > 0.99
    assert np.corrcoef(voxelwise, expected)[0, 1] < 0.9


def test_the_scores_are_written_beside_chance(overlay):
    rows = {row["metric"]: row for row in json.loads((overlay / "scores.json").read_text())["scores"]}
    assert 0 < rows["mass_in_mask"]["chance"]["uniform"] < 1
    assert rows["mass_in_mask"]["value"] > 0


def test_compressed_slices_hold_the_scanners_values(data_dir):
    volume = medxai.read_volume(data_dir("dicom/totalseg_ct_j2k") / "series")
    theirs = torch.from_numpy(sitk.GetArrayFromImage(foreign_scan(data_dir)).T.astype(np.float32))
    assert torch.equal(volume.data[0], theirs)
