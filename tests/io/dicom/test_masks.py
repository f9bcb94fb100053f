"""Segmentations and structure sets: every voxel of the region where it was drawn, or a refusal."""

import warnings
from collections.abc import Callable
from pathlib import Path

import highdicom
import numpy as np
import pytest
import SimpleITK
from highdicom.content import AlgorithmIdentificationSequence
from highdicom.sr.coding import CodedConcept
from numpy.typing import NDArray
from pydicom import Dataset, dcmread
from pydicom.dataset import FileDataset
from pydicom.uid import RTStructureSetStorage, generate_uid

from medxai.errors import InputError, MaskError
from medxai.io.codes import codes
from medxai.io.options import ReadOptions
from medxai.io.read import read_mask, read_volume
from tests.io.dicom.make import GRID, alone
from tests.io.phantoms import address, random_affine, right_handed, write_series

SHAPE = (9, 8, 7)
Find = Callable[[str], Path]
Bools = NDArray[np.bool_]


def region_of(seed: int = 0) -> Bools:
    """A region that misses the first slices, one in the middle and the last."""
    region = np.random.default_rng(seed).random(SHAPE) > 0.6
    region[:, :, [0, 1, 3, 6]] = False
    return region


def source(folder: Path, grid: NDArray[np.float64]) -> list[FileDataset]:
    slices = write_series(folder, address(SHAPE), grid)
    for s in slices:
        s.PatientBirthDate = s.PatientSex = s.StudyDate = s.StudyTime = s.AccessionNumber = s.StudyID = ""
        s.ReferringPhysicianName = s.PositionReferenceIndicator = ""
    return slices


def write_seg(path: Path, slices: list[FileDataset], stack: NDArray[np.generic], kind: str = "BINARY") -> None:
    """`stack` (column, row, slice[, segment]) by highdicom, which leaves empty frames out."""
    code = CodedConcept("85756007", "SCT", "Tissue")
    family = CodedConcept("123109", "DCM", "Artificial Intelligence")
    count = stack.shape[3] if stack.ndim == 4 else 1
    descriptions = [
        highdicom.seg.SegmentDescription(
            n + 1, f"part {n + 1}", code, code, "AUTOMATIC", AlgorithmIdentificationSequence("x", family, "1")
        )
        for n in range(count)
    ]
    array = np.moveaxis(stack, (2, 1, 0), (0, 1, 2))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        highdicom.seg.Segmentation(
            slices,
            np.ascontiguousarray(array),
            kind,
            descriptions,
            generate_uid(),
            1,
            generate_uid(),
            1,
            "m",
            "x",
            "1",
            "1",
            omit_empty_frames=True,
        ).save_as(path)


@pytest.mark.parametrize("seed", range(6))
def test_frames_that_were_left_out_leave_the_others_in_place(tmp_path: Path, seed: int) -> None:
    grid = right_handed(random_affine(seed))
    slices, region = source(tmp_path / "ct", grid), region_of(seed)
    write_seg(tmp_path / "seg.dcm", slices, region)
    assert int(dcmread(tmp_path / "seg.dcm").NumberOfFrames) == 3
    image = read_volume(tmp_path / "ct")
    mask = read_mask(tmp_path / "seg.dcm", reference=tmp_path / "ct")
    assert mask.geometry == image.geometry
    ours = image.geometry.world(np.argwhere(mask.data.numpy()).astype(float))
    truth = np.argwhere(region) @ grid[:3, :3].T + grid[:3, 3]
    assert len(ours) == len(truth)
    order = [np.lexsort(np.round(p, 2).T) for p in (ours, truth)]
    assert np.abs(ours[order[0]] - truth[order[1]]).max() < 1e-3


def test_without_its_image_the_slab_is_right_and_told(tmp_path: Path) -> None:
    slices, region = source(tmp_path / "ct", GRID), region_of()
    write_seg(tmp_path / "seg.dcm", slices, region)
    mask = read_mask(tmp_path / "seg.dcm")
    assert np.array_equal(mask.data.numpy(), region[:, :, 2:6])
    assert mask.geometry.world(np.zeros(3)) == pytest.approx(GRID[:3] @ [0, 0, 2, 1], abs=1e-3)
    assert any("ends with the frames" in notice for notice in mask.notices)


def test_of_several_segments_one_is_chosen(tmp_path: Path) -> None:
    slices = source(tmp_path / "ct", GRID)
    both = np.stack([region_of(1), region_of(2)], -1)
    write_seg(tmp_path / "seg.dcm", slices, both)
    for n in (1, 2):
        mask = read_mask(tmp_path / "seg.dcm", label=n, reference=tmp_path / "ct")
        assert np.array_equal(mask.data.numpy(), both[..., n - 1])
    for label in (None, 3):
        with pytest.raises(MaskError, match=r"\[M05\].*1, 2"):
            read_mask(tmp_path / "seg.dcm", label=label, reference=tmp_path / "ct")


def test_a_label_map_of_highdicom(tmp_path: Path) -> None:
    slices = source(tmp_path / "ct", GRID)
    one, two = region_of(1), region_of(2)
    two &= ~one
    write_seg(tmp_path / "seg.dcm", slices, np.stack([one, two], -1), "LABELMAP")
    for n, region in ((1, one), (2, two)):
        mask = read_mask(tmp_path / "seg.dcm", label=n, reference=tmp_path / "ct")
        assert np.array_equal(mask.data.numpy(), region)


def test_a_fractional_segmentation_needs_a_threshold(tmp_path: Path) -> None:
    slices = source(tmp_path / "ct", GRID)
    share = np.where(region_of(), np.random.default_rng(0).random(SHAPE), 0)
    write_seg(tmp_path / "seg.dcm", slices, share.astype(np.float32), "FRACTIONAL")
    with pytest.raises(MaskError, match=r"\[M07\].*--threshold"):
        read_mask(tmp_path / "seg.dcm", reference=tmp_path / "ct")
    mask = read_mask(tmp_path / "seg.dcm", options=ReadOptions(threshold=0.5), reference=tmp_path / "ct")
    assert np.array_equal(mask.data.numpy(), np.around(share * 255) >= 127.5)


def test_another_grid_is_kept_and_covers_the_image(tmp_path: Path) -> None:
    slices = source(tmp_path / "ct", GRID)
    coarse = GRID @ np.diag([2.0, 2.0, 1.0, 1.0])
    frame = slices[0].FrameOfReferenceUID
    others = write_series(tmp_path / "coarse", address((4, 4, 7)), coarse)
    for s in others:
        s.FrameOfReferenceUID = frame
        s.PatientBirthDate = s.PatientSex = s.StudyDate = s.StudyTime = s.AccessionNumber = s.StudyID = ""
        s.ReferringPhysicianName = s.PositionReferenceIndicator = ""
    region = np.zeros((4, 4, 7), bool)
    region[1, 2, 3] = True
    write_seg(tmp_path / "seg.dcm", others, region)
    mask = read_mask(tmp_path / "seg.dcm", reference=tmp_path / "ct")
    where = mask.geometry.world(np.argwhere(mask.data.numpy()).astype(float))
    assert where[0] == pytest.approx(coarse[:3] @ [1, 2, 3, 1], abs=1e-3)
    corners = mask.geometry.index(GRID[None, :3] @ [8, 7, 6, 1])
    assert (corners <= np.array(mask.geometry.shape) - 1 + 1e-3).all()


def test_another_frame_of_reference_is_refused(tmp_path: Path) -> None:
    slices = source(tmp_path / "ct", GRID)
    write_seg(tmp_path / "seg.dcm", slices, region_of())
    source(tmp_path / "other", GRID)
    with pytest.raises(MaskError, match=r"\[D47\].*another frame of reference"):
        read_mask(tmp_path / "seg.dcm", reference=tmp_path / "other")


def test_real_segmentations_are_those_of_dcmqi(data_dir: Find) -> None:
    folder = data_dir("dicom/dcmqi")
    mask = read_mask(folder / "liver.dcm", reference=folder / "ct-3slice")
    theirs = SimpleITK.GetArrayFromImage(SimpleITK.ReadImage(str(folder / "liver_seg.nrrd"))).T
    assert np.array_equal(mask.data.numpy(), theirs > 0)
    for name in ("noppv", "ppv5"):
        sparse = read_mask(folder / f"sparse-labelmap-{name}.dcm", reference=folder / "24x38x3" / "image")
        theirs = SimpleITK.GetArrayFromImage(SimpleITK.ReadImage(str(folder / f"sparse_labelmap_{name}_seg.nrrd"))).T
        assert np.array_equal(sparse.data.numpy(), theirs == 1)  # 5 is padding there
    packed = read_mask(data_dir("dicom/pydicom_data") / "liver_rle.dcm", reference=folder / "ct-3slice")
    assert np.array_equal(packed.data.numpy(), mask.data.numpy())


def structure_set(path: Path, frame: str, contours: list[NDArray[np.float64]], **facts: object) -> None:
    """Contours (n, 3) in LPS mm as region 1."""
    dataset = alone(Modality="RTSTRUCT")
    for keyword in ("Rows", "Columns", "PixelData"):
        delattr(dataset, keyword)
    dataset.SOPClassUID = dataset.file_meta.MediaStorageSOPClassUID = RTStructureSetStorage
    region, drawn = Dataset(), Dataset()
    region.ROINumber, region.ReferencedFrameOfReferenceUID, region.ROIName = 1, frame, "CANARY"
    drawn.ReferencedROINumber, drawn.ContourSequence = 1, []
    for points in contours:
        item = Dataset()
        item.ContourGeometricType, item.NumberOfContourPoints = "CLOSED_PLANAR", len(points)
        item.ContourData = [f"{v:.10g}"[:16] for v in points.ravel()]
        for keyword, value in facts.items():
            setattr(item, keyword, value)
        drawn.ContourSequence.append(item)
    dataset.StructureSetROISequence, dataset.ROIContourSequence = [region], [drawn]
    dataset.save_as(path, enforce_file_format=True)


def ring(
    grid: NDArray[np.float64], k: float, radius: float, centre: tuple[float, float] = (4.2, 3.3)
) -> NDArray[np.float64]:
    """A circle in slice `k`, radius in voxels, in LPS mm."""
    angles = np.linspace(0, 2 * np.pi, 400, endpoint=False)
    index = np.stack([centre[0] + radius * np.cos(angles), centre[1] + radius * np.sin(angles), 0 * angles + k], 1)
    return (index @ grid[:3, :3].T + grid[:3, 3]) * [-1, -1, 1]


def disc(radius: float, centre: tuple[float, float] = (4.2, 3.3)) -> Bools:
    i, j = np.meshgrid(np.arange(SHAPE[0]), np.arange(SHAPE[1]), indexing="ij")
    return np.asarray((i - centre[0]) ** 2 + (j - centre[1]) ** 2 < radius**2)


@pytest.mark.parametrize("seed", range(4))
def test_contours_are_filled_on_their_slices_with_holes(tmp_path: Path, seed: int) -> None:
    grid = right_handed(random_affine(seed, shear=0.3 * (seed % 2)))
    slices = source(tmp_path / "ct", grid)
    frame = str(slices[0].FrameOfReferenceUID)
    structure_set(tmp_path / "rt.dcm", frame, [ring(grid, 2, 3.1), ring(grid, 2, 1.4), ring(grid, 4, 2.3)])
    mask = read_mask(tmp_path / "rt.dcm", reference=tmp_path / "ct")
    expected = np.zeros(SHAPE, bool)
    expected[:, :, 2], expected[:, :, 4] = disc(3.1) & ~disc(1.4), disc(2.3)
    image = read_volume(tmp_path / "ct")
    flipped = image.geometry.distance(type(image.geometry)(grid, SHAPE)) > 1e-3
    assert np.array_equal(mask.data.numpy(), expected[:, :, ::-1] if flipped else expected)
    assert any("1 slices between" in notice for notice in mask.notices)
    assert "CANARY" not in repr(mask)


def test_contours_beside_the_slices_are_refused_or_told(tmp_path: Path) -> None:
    frame = str(source(tmp_path / "ct", GRID)[0].FrameOfReferenceUID)
    structure_set(tmp_path / "rt.dcm", frame, [ring(GRID, 2.1, 3)])
    mask = read_mask(tmp_path / "rt.dcm", reference=tmp_path / "ct")
    assert any("0.100 of a step beside" in notice for notice in mask.notices)
    for k in (2.5, -1.0, 9.0):
        structure_set(tmp_path / "rt.dcm", frame, [ring(GRID, k, 3)])
        with pytest.raises(MaskError, match=r"\[D48\].*in no slice"):
            read_mask(tmp_path / "rt.dcm", reference=tmp_path / "ct")


def test_open_contours_enclose_nothing(tmp_path: Path) -> None:
    frame = str(source(tmp_path / "ct", GRID)[0].FrameOfReferenceUID)
    structure_set(tmp_path / "rt.dcm", frame, [ring(GRID, 2, 3)], ContourGeometricType="OPEN_PLANAR")
    with pytest.raises(MaskError, match=r"\[D48\].*encloses nothing"):
        read_mask(tmp_path / "rt.dcm", reference=tmp_path / "ct")
    structure_set(tmp_path / "rt.dcm", frame, [ring(GRID, 2, 3)], NumberOfContourPoints=7)
    with pytest.raises(InputError, match=r"\[D48\].*malformed"):
        read_mask(tmp_path / "rt.dcm", reference=tmp_path / "ct")


def test_a_structure_set_needs_the_series_it_was_drawn_on(tmp_path: Path, data_dir: Find) -> None:
    frame = str(source(tmp_path / "ct", GRID)[0].FrameOfReferenceUID)
    structure_set(tmp_path / "rt.dcm", frame, [ring(GRID, 2, 3)])
    with pytest.raises(MaskError, match=r"\[D47\].*--mask-image"):
        read_mask(tmp_path / "rt.dcm")
    structure_set(tmp_path / "rt.dcm", "1.2.3", [ring(GRID, 2, 3)])
    with pytest.raises(MaskError, match=r"\[D47\].*another frame"):
        read_mask(tmp_path / "rt.dcm", reference=tmp_path / "ct")
    folder = data_dir("dicom/rt_utils") / "mock_data"
    real = read_mask(folder / "rt.dcm", reference=folder)
    assert int(real.data.sum()) == 1443
    assert codes(real.notices)[0] == "D47"
    assert "drawn on slices of this image" in real.notices[0]
