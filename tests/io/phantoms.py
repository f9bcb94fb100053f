"""Images whose voxels store their own index, so that any reading of them is scored in mm without a reference."""

from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from pydicom.dataset import FileDataset, FileMetaDataset
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian, generate_uid
from scipy.spatial.transform import Rotation

from medxai.core.volume import Volume
from medxai.shapes import Affine

SHAPE = (7, 5, 4)
LPS_RAS = np.diag([-1.0, -1.0, 1.0, 1.0])


def address(shape: tuple[int, ...] = SHAPE) -> NDArray[np.int16]:
    """Voxel (i, j, k) holds i + 16 j + 256 k."""
    i, j, k = np.meshgrid(*[np.arange(n) for n in (*shape, 1, 1)[:3]], indexing="ij")
    return (i + 16 * j + 256 * k).astype(np.int16).reshape(shape)


def farthest_mm(volume: Volume, affine: Affine) -> float:
    """The farthest that any voxel with a value lies from where its stored address belongs under the true affine."""
    stored = volume.data[0].numpy().astype(np.float64)
    codes = np.nan_to_num(stored).astype(np.int64)
    true = np.stack([codes % 16, codes // 16 % 16, codes // 256], -1) @ affine[:3, :3].T + affine[:3, 3]
    axes = np.meshgrid(*[np.arange(n) for n in volume.geometry.shape3], indexing="ij")
    said = volume.geometry.world(np.stack(axes, -1).astype(np.float64)).reshape(true.shape)
    return float(np.linalg.norm(true - said, axis=-1)[np.isfinite(stored)].max())


def random_affine(seed: int, shear: float = 0.0) -> Affine:
    """Oblique, possibly flipped and permuted, 0.3 to 8 mm, RAS; `shear` moves slices along the rows, in steps."""
    rng = np.random.default_rng(seed)
    affine = np.eye(4)
    turn = Rotation.random(random_state=seed).as_matrix()
    affine[:3, :3] = turn[:, rng.permutation(3)] * rng.choice([-1.0, 1.0], 3) * rng.uniform(0.3, 8.0, 3)
    affine[:3, 2] += shear * affine[:3, 1]
    affine[:3, 3] = rng.uniform(-300, 300, 3)
    return affine


def right_handed(affine: Affine) -> Affine:
    """The affine, its third axis turned so that it follows row x column, as slices of a series do."""
    result = affine.copy()
    if np.linalg.det(result[:3, :3]) < 0:
        result[:3, 2] *= -1
    return result


def write_series(
    folder: Path, voxels: NDArray[np.int16], affine: Affine, seed: int = 0, numbered: bool = False
) -> list[FileDataset]:
    """A CT series (i = column, j = row, k = slice) under shuffled names and, unless `numbered`, InstanceNumbers."""
    rng = np.random.default_rng(seed)
    folder.mkdir(exist_ok=True)
    count = voxels.shape[2]
    names, series, frame = rng.permutation(count), generate_uid(), generate_uid()
    slices = []
    for k in range(count):
        dataset = ct_slice(voxels[:, :, k], affine, k, series, frame)
        dataset.InstanceNumber = k + 1 if numbered else int(rng.integers(1, 999))
        dataset.save_as(folder / f"{names[k]:03d}.dcm", enforce_file_format=True)
        dataset.filename = str(folder / f"{names[k]:03d}.dcm")
        slices.append(dataset)
    return slices


def ct_slice(plane: NDArray[np.int16], affine: Affine, k: int, series: str, frame: str) -> FileDataset:
    lps = LPS_RAS @ affine
    lengths = np.linalg.norm(lps[:3, :3], axis=0)
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID, meta.MediaStorageSOPInstanceUID = CTImageStorage, generate_uid()
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    dataset = FileDataset("", {}, file_meta=meta, preamble=b"\0" * 128)
    dataset.SOPClassUID, dataset.SOPInstanceUID = CTImageStorage, meta.MediaStorageSOPInstanceUID
    dataset.Modality, dataset.SeriesInstanceUID, dataset.FrameOfReferenceUID = "CT", series, frame
    dataset.PatientID = dataset.PatientName = "CANARY"
    dataset.StudyInstanceUID = generate_uid(entropy_srcs=[series])
    dataset.ImagePositionPatient = _decimals(lps[:3, 3] + k * lps[:3, 2])
    dataset.ImageOrientationPatient = _decimals([*(lps[:3, 0] / lengths[0]), *(lps[:3, 1] / lengths[1])])
    dataset.PixelSpacing = _decimals([lengths[1], lengths[0]])
    dataset.SliceThickness = f"{lengths[2]:.8g}"
    dataset.RescaleSlope, dataset.RescaleIntercept = 1, 0
    dataset.SamplesPerPixel, dataset.PhotometricInterpretation = 1, "MONOCHROME2"
    dataset.Columns, dataset.Rows = plane.shape
    dataset.BitsAllocated, dataset.BitsStored, dataset.HighBit, dataset.PixelRepresentation = 16, 16, 15, 1
    dataset.PixelData = np.ascontiguousarray(plane.T).tobytes()
    return dataset


def _decimals(values: object) -> list[str]:
    return [f"{v:.10g}"[:16] for v in np.asarray(values, np.float64)]
