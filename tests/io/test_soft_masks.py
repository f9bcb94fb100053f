"""Row M07 of docs/bad_inputs.md: shares are refused as a mask, and kept as shares where that is asked for."""

from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import torch

import medxai
from medxai.core.annotation import SoftMask, agreed
from medxai.core.geometry import Geometry
from medxai.core.saliency import Provenance, Saliency
from medxai.errors import MaskError
from medxai.io.options import ReadOptions
from medxai.io.read import read_annotation, read_mask
from tests.io.dicom.make import GRID
from tests.io.dicom.test_masks import SHAPE, disc, region_of, ring, source, structure_set, write_seg

SOFT = ReadOptions(soft=True)
AFFINE = np.diag([-0.7, -0.9, 2.5, 1.0])


def shares(seed: int = 0) -> np.ndarray:
    return np.where(region_of(), np.random.default_rng(seed).random(SHAPE), 0).astype(np.float32)


def nifti(path: Path, values: np.ndarray) -> Path:
    image = nib.Nifti1Image(values, AFFINE)
    image.header.set_xyzt_units("mm")
    nib.save(image, path)
    return path


def test_shares_of_a_file_are_kept_on_request_and_else_refused(tmp_path: Path) -> None:
    path = nifti(tmp_path / "a.nii.gz", shares())
    with pytest.raises(MaskError, match=r"\[M06\].*--soft"):
        read_mask(path)
    with pytest.raises(MaskError, match=r"\[M06\].*--soft"):
        read_annotation(path)
    found = read_annotation(path, options=SOFT)
    assert isinstance(found, SoftMask)
    assert np.array_equal(found.data.numpy(), shares())
    assert found.geometry == medxai.read_volume(path).geometry


@pytest.mark.parametrize(("values", "said"), [(shares() * 255, "between 0 and 1"), (-shares(), "between 0 and 1")])
def test_what_is_no_share_is_refused(tmp_path: Path, values: np.ndarray, said: str) -> None:
    with pytest.raises(MaskError, match=rf"\[M07\].*a\.nii.*{said}"):
        read_annotation(nifti(tmp_path / "a.nii", values), options=SOFT)
    with pytest.raises(MaskError, match=r"\[M07\].*no labels"):
        read_annotation(nifti(tmp_path / "b.nii", shares()), label=1, options=SOFT)


def test_a_fractional_segmentation_gives_its_shares_in_their_place(tmp_path: Path) -> None:
    slices = source(tmp_path / "ct", GRID)
    write_seg(tmp_path / "seg.dcm", slices, shares(), "FRACTIONAL")
    found = read_annotation(tmp_path / "seg.dcm", options=SOFT, reference=tmp_path / "ct")
    assert isinstance(found, SoftMask)
    assert found.geometry == medxai.read_volume(tmp_path / "ct").geometry
    assert np.abs(found.data.numpy() - shares()).max() <= 0.5 / 255 + 1e-6


def test_a_binary_segmentation_and_contours_are_shares_of_0_and_1(tmp_path: Path) -> None:
    slices = source(tmp_path / "ct", GRID)
    write_seg(tmp_path / "seg.dcm", slices, region_of())
    binary = read_annotation(tmp_path / "seg.dcm", options=SOFT, reference=tmp_path / "ct")
    assert np.array_equal(binary.data.numpy(), region_of().astype(np.float32))
    structure_set(tmp_path / "rt.dcm", str(slices[0].FrameOfReferenceUID), [ring(GRID, 2, 3.1)])
    drawn = read_annotation(tmp_path / "rt.dcm", options=SOFT, reference=tmp_path / "ct")
    assert isinstance(drawn, SoftMask)
    assert np.array_equal(drawn.data[:, :, 2].numpy(), disc(3.1).astype(np.float32))


def test_a_score_counts_every_voxel_by_its_share(tmp_path: Path) -> None:
    grid = Geometry(AFFINE, SHAPE)
    unknown = Provenance("m", {}, "", "", (), "", "", 0, "", 0.0, {})
    values = torch.rand(SHAPE, generator=torch.Generator().manual_seed(0))
    saliency = Saliency(values, grid, grid, unknown, source=grid)
    mask = read_annotation(nifti(tmp_path / "a.nii", shares()), options=SOFT)
    expected = float((values * torch.from_numpy(shares())).sum() / values.sum())
    assert medxai.evaluate(saliency, mask)["mass_in_mask"].value == pytest.approx(expected, rel=1e-5)
    case = medxai.Case("a", medxai.Volume(values[None], grid))
    medxai.save_overlay(saliency, case, tmp_path / "out", mask)
    assert (tmp_path / "out" / "overlay.png").is_file()
    both = agreed([mask, SoftMask(torch.ones(SHAPE), mask.geometry)])
    assert torch.allclose(both.data, (mask.data + 1) / 2)
