"""The rows M03 to M11 of docs/bad_inputs.md by their codes; M01 and M02 are in tests/core/test_pairing."""

from pathlib import Path

import numpy as np
import pytest
import torch

from medxai.core.geometry import Geometry
from medxai.core.saliency import Provenance, Saliency
from medxai.core.volume import Mask
from medxai.errors import MedxaiError
from medxai.evaluation import evaluate
from medxai.io.codes import codes
from medxai.io.read import load_case, read_mask
from tests.io.nifti_phantom import phantom
from tests.io.phantoms import SHAPE

GRID = Geometry(np.diag([1.0, 1.0, 2.0, 1.0]), SHAPE)


def mask_file(folder: Path, values: np.ndarray) -> Path:
    (folder / "m.nii").write_bytes(phantom(voxels=values))
    return folder / "m.nii"


def refusal(path: Path, label: int | None = None) -> str:
    with pytest.raises(MedxaiError, match=path.name) as caught:
        read_mask(path, label)
    return caught.value.code


def saliency(data: torch.Tensor, grid: Geometry = GRID) -> Saliency:
    return Saliency(data, grid, grid, Provenance("M", {}, "", "", (), "", "", 0, "cpu", 0.0, {}), source=grid)


def test_m03_an_empty_mask_is_undefined_with_its_reason(tmp_path: Path) -> None:
    mask = read_mask(mask_file(tmp_path, np.zeros(SHAPE, np.uint8)))
    assert codes(mask.notices) == ("M03",)
    found = evaluate(saliency(torch.rand(SHAPE)), Mask(mask.data, GRID), ["pointing_game"])
    assert np.isnan(found["pointing_game"].value)
    assert found["pointing_game"].reason == "empty mask"


def test_m04_a_full_mask_and_m09_one_that_nobody_saw() -> None:
    full = Mask(torch.ones(SHAPE, dtype=torch.bool), GRID)
    assert "M04" in codes(evaluate(saliency(torch.rand(SHAPE)), full, ["mass_in_mask"]).notices)
    far = GRID.affine.copy()
    far[:3, 3] = 500
    with pytest.raises(MedxaiError) as caught:
        evaluate(saliency(torch.rand(SHAPE)), Mask(torch.ones(3, 3, 3, dtype=torch.bool), Geometry(far, (3, 3, 3))))
    assert caught.value.code == "M09"


def test_m05_to_m08_values(tmp_path: Path) -> None:
    labels = np.zeros(SHAPE, np.float32)
    labels[0], labels[1] = 1, 2
    assert refusal(mask_file(tmp_path, labels)) == "M05"
    assert refusal(mask_file(tmp_path, labels), label=0) == "M05"
    assert refusal(mask_file(tmp_path, labels / 2)) == "M06"
    assert refusal(mask_file(tmp_path, np.minimum(labels, 0.999)), label=1) == "M06"  # M07, a soft mask, is the same
    assert refusal(mask_file(tmp_path, np.where(labels == 1, -1, 0).astype(np.int16))) == "M06"
    assert read_mask(tmp_path / "m.nii", label=-1).data.sum() == labels[0].size
    eight = read_mask(mask_file(tmp_path, (labels == 1).astype(np.uint8) * 255))
    assert codes(eight.notices) == ("M08",)
    assert torch.equal(eight.data, torch.from_numpy(labels == 1))


@pytest.mark.parametrize("step", [0.25, 0.5, 2.0])
def test_m10_nothing_is_half_a_voxel_off_on_any_grid_of_the_mask(step: float) -> None:
    i = np.meshgrid(*[np.arange(n) for n in SHAPE], indexing="ij")
    field = torch.from_numpy((GRID.world(np.stack(i, -1).astype(np.float64)) @ [1.0, 3.0, 7.0]).astype(np.float32))
    other = Geometry(GRID.affine @ np.diag([step, step, 1.0, 1.0]), (3, 3, 3))
    j = np.meshgrid(*[np.arange(3.0)] * 3, indexing="ij")
    truth = other.world(np.stack(j, -1)) @ [1.0, 3.0, 7.0]
    assert np.allclose(saliency(field).on(other).numpy(), truth, atol=1e-4)


def test_m11_masks_have_the_names_that_they_are_given(tmp_path: Path) -> None:
    path = mask_file(tmp_path, np.ones(SHAPE, np.uint8))
    masks = {"tumour": read_mask(path), "oedema": read_mask(path)}
    assert load_case(path, masks=masks).masks == masks
    assert load_case(path).masks == {}
