"""In anyone's MONAI pipeline our readers give the voxels and affine of `read_volume`, and refuse what it refuses."""

from pathlib import Path

import monai.transforms as mt
import numpy as np
import pytest
import SimpleITK
import torch
from monai.data import MetaTensor
from PIL import Image

from medxai.core.geometry import Geometry
from medxai.core.volume import Volume
from medxai.errors import GeometryError, InputError
from medxai.io.monai import from_metatensor, to_metatensor
from medxai.io.read import load_case, read_volume
from medxai.io.readers import DicomReader, ItkFileReader, MedxaiReader, NiftiReader, PictureReader
from tests.io.phantoms import address, random_affine, right_handed, write_series
from tests.io.test_read import nifti

pytestmark = pytest.mark.filterwarnings("ignore:NvImgCodecPydicomReader")


def samples(folder: Path) -> dict[str, tuple[type, Path]]:
    affine = right_handed(random_affine(11))
    path = nifti(folder / "a.nii.gz", address(), affine)
    write_series(folder / "series", address(), affine)
    SimpleITK.WriteImage(SimpleITK.ReadImage(str(path)), str(folder / "a.nrrd"))
    Image.fromarray(np.arange(12, dtype=np.uint8).reshape(3, 4)).save(folder / "a.png")
    return {
        "nifti": (NiftiReader, path),
        "dicom": (DicomReader, folder / "series"),
        "itk": (ItkFileReader, folder / "a.nrrd"),
        "picture": (PictureReader, folder / "a.png"),
    }


@pytest.mark.parametrize("kind", ["nifti", "dicom", "itk", "picture"])
def test_voxels_and_affine_are_ours(tmp_path: Path, kind: str) -> None:
    reader, path = samples(tmp_path)[kind]
    ours = read_volume(path)
    for chosen in (reader(), MedxaiReader()):
        keyed = mt.LoadImaged("image", reader=chosen, ensure_channel_first=True)({"image": str(path)})["image"]
        plain = mt.LoadImage(reader=chosen, dtype=None)(path)
        assert keyed.affine.dtype == torch.float64
        for image in (keyed, plain[None]):
            assert np.array_equal(image.affine.numpy(), ours.geometry.affine)
            assert np.array_equal(image.as_tensor().numpy(), ours.data.numpy())
        assert plain.as_tensor().dtype == ours.data.dtype
        back = from_metatensor(keyed, ours.geometry.units)
        assert back.geometry == ours.geometry
        assert chosen.verify_suffix(str(path))


def test_several_files_are_channels(tmp_path: Path) -> None:
    paths = [nifti(tmp_path / f"{n}.nii", address() * n) for n in (1, 2)]
    image = mt.LoadImage(reader=MedxaiReader(), ensure_channel_first=True)([str(path) for path in paths])
    assert torch.equal(image.as_tensor(), load_case(*paths).image.data.float())


def test_a_refusal_reaches_the_caller_instead_of_another_reader(tmp_path: Path) -> None:
    written = write_series(tmp_path / "series", address((7, 5, 6)), np.diag([-1.0, -1.0, 2.0, 1.0]))
    Path(written[2].filename).unlink()
    with pytest.raises(InputError, match="not evenly spaced"):
        mt.LoadImaged("image", reader=MedxaiReader())({"image": str(tmp_path / "series")})


def test_our_volume_passes_through_a_metatensor() -> None:
    volume = Volume(torch.rand(2, 3, 4, 5), Geometry(random_affine(3), (3, 4, 5)), "MR")
    tensor = to_metatensor(volume)
    assert tensor.affine.dtype == torch.float64
    back = from_metatensor(tensor, modality="MR")
    assert back.digest == volume.digest
    before = volume.digest
    tensor += 1
    assert volume.digest == before


def test_volumes_are_off_the_graph_and_of_a_type_that_numpy_knows(tmp_path: Path) -> None:
    for _, path in samples(tmp_path).values():
        volume = read_volume(path)
        assert not volume.data.requires_grad
        assert volume.data.numpy().shape == volume.data.shape
    values = torch.rand(1, 2, 3, 4, requires_grad=True)
    for tensor in (values * 2, values.to(torch.bfloat16)):
        volume = from_metatensor(MetaTensor(tensor, affine=torch.eye(4)))
        assert not volume.data.requires_grad
        assert volume.data.dtype == torch.float32
        assert torch.equal(volume.data, tensor.detach().float())
        assert len(volume.digest) == 64


def test_lps_tensors_are_turned_and_plain_ones_refused() -> None:
    tensor = MetaTensor(torch.zeros(1, 2, 3, 4), affine=torch.eye(4), meta={"space": "LPS"})
    assert from_metatensor(tensor).geometry.axcodes == "LPS"
    with pytest.raises(GeometryError, match="plain tensor"):
        from_metatensor(torch.zeros(1, 2, 3))
    tensor.meta["space"] = "scanner"
    with pytest.raises(GeometryError, match="unknown space"):
        from_metatensor(tensor)
