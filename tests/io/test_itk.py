"""MetaImage and NRRD: ITK's LPS world becomes RAS, exactly; damage that ITK accepts is refused."""

from pathlib import Path

import numpy as np
import pytest
import SimpleITK
import torch

from medxai.errors import InputError
from medxai.io.itk import read_itk
from tests.io.phantoms import LPS_RAS, address, farthest_mm, random_affine

NAMES = ["a.mha", "a.mhd", "a.nrrd", "a.nhdr"]


def save(path: Path, voxels: np.ndarray, affine: np.ndarray, compress: bool = False) -> Path:
    image = SimpleITK.GetImageFromArray(np.ascontiguousarray(voxels.T))
    lps = LPS_RAS @ affine
    spacing = np.linalg.norm(lps[:3, :3], axis=0)
    image.SetSpacing(spacing.tolist())
    image.SetDirection((lps[:3, :3] / spacing).ravel().tolist())
    image.SetOrigin(lps[:3, 3].tolist())
    SimpleITK.WriteImage(image, str(path), compress)
    return path


@pytest.mark.parametrize("seed", range(8))
@pytest.mark.parametrize("name", NAMES)
def test_every_voxel_lies_where_its_address_says(tmp_path: Path, seed: int, name: str) -> None:
    affine = random_affine(seed)
    volume = read_itk(save(tmp_path / name, address(), affine, compress=bool(seed % 2)))
    assert farthest_mm(volume, affine) < 1e-3
    assert volume.data.dtype == torch.int16
    assert volume.notices == ()


@pytest.mark.parametrize("name", ["a.mha", "a.nrrd"])
def test_a_flat_image_is_row_and_column(tmp_path: Path, name: str) -> None:
    rows = np.arange(12, dtype=np.int16).reshape(3, 4)
    image = SimpleITK.GetImageFromArray(rows)
    image.SetSpacing((0.2, 0.5))
    SimpleITK.WriteImage(image, str(tmp_path / name))
    volume = read_itk(tmp_path / name)
    assert np.array_equal(volume.data[0].numpy(), rows)
    assert volume.geometry.spacing_mm == (0.5, 0.2)
    assert volume.geometry.axcodes == "PL"


def test_vector_components_are_channels(tmp_path: Path) -> None:
    voxels = np.random.default_rng(0).random((4, 5, 6, 2)).astype(np.float32)
    SimpleITK.WriteImage(SimpleITK.GetImageFromArray(voxels, isVector=True), str(tmp_path / "v.nrrd"))
    volume = read_itk(tmp_path / "v.nrrd")
    assert np.array_equal(volume.data.numpy(), voxels.transpose(3, 2, 1, 0))


def test_ras_space_is_understood_and_no_space_claims_nothing(tmp_path: Path) -> None:
    affine = np.diag([-1.0, -2.0, 3.0, 1.0])
    content = save(tmp_path / "a.nrrd", address(), affine).read_bytes()
    word = b"space: left-posterior-superior"
    (tmp_path / "ras.nrrd").write_bytes(content.replace(word, b"space: right-anterior-superior"))
    assert farthest_mm(read_itk(tmp_path / "ras.nrrd"), np.diag([1.0, 2.0, 3.0, 1.0])) < 1e-3
    (tmp_path / "none.nrrd").write_bytes(content.replace(word, b"space dimension: 3"))
    nowhere = read_itk(tmp_path / "none.nrrd")
    assert nowhere.geometry.units == "unknown"
    assert "names no space" in nowhere.notices[0]


@pytest.mark.parametrize("name", ["a.mha", "a.nrrd"])
@pytest.mark.parametrize("compress", [False, True])
def test_damage_is_refused_by_name(tmp_path: Path, name: str, compress: bool) -> None:
    content = save(tmp_path / name, address(), np.eye(4), compress).read_bytes()
    (tmp_path / f"cut_{name}").write_bytes(content[:-30])
    with pytest.raises(InputError, match=f"cut_{name}"):
        read_itk(tmp_path / f"cut_{name}")
    if compress:
        flipped = bytearray(content)
        flipped[-12] ^= 0xFF
        (tmp_path / f"bad_{name}").write_bytes(bytes(flipped))
        with pytest.raises(InputError, match=f"bad_{name}.*damaged"):
            read_itk(tmp_path / f"bad_{name}")


def test_four_axes_and_missing_data_files_are_refused(tmp_path: Path) -> None:
    four = SimpleITK.GetImageFromArray(np.zeros((2, 3, 4, 5), np.int16), isVector=False)
    SimpleITK.WriteImage(four, str(tmp_path / "four.nrrd"))
    with pytest.raises(InputError, match="not one 2D or 3D image"):
        read_itk(tmp_path / "four.nrrd")
    save(tmp_path / "a.mhd", address(), np.eye(4))
    (tmp_path / "a.raw").unlink()
    with pytest.raises(InputError, match=r"a\.mhd"):
        read_itk(tmp_path / "a.mhd")
