"""The inputs that are no DICOM, and the truth about each."""

from collections.abc import Iterator, Mapping
from io import BytesIO
from pathlib import Path

import nibabel as nib
import numpy as np
from PIL import Image, TiffImagePlugin

from benchmarks.corpus.inputs import pydicom_judge
from benchmarks.corpus.judge import RIGHT_MM, Array, Input, Judge, Verdict, by_address, unknown
from medxai.io.source import GZIP
from tests.io import test_itk_rows, test_nifti_rows
from tests.io.nifti_phantom import AFFINE
from tests.io.test_picture_rows import GRAY, NOISE

NIBABEL = Path(nib.__file__).parent
UNJUDGED = {"N12", "N14", "N15", "N27", "N28"}
"""Rows where another answer than ours may be right: voxels that are kept as they are, or are not the phantom."""


def niftis(folder: Path) -> Iterator[Input]:
    """The NIfTI rows of docs/bad_inputs.md that need no permission: one changed field of an address phantom each."""
    coded = {**test_nifti_rows.REFUSED, **test_nifti_rows.REPAIRED}
    rows = {name: content for name, (_, content) in coded.items()} | test_nifti_rows.ACCEPTED
    for n, (name, content) in enumerate(rows.items()):
        path = folder / f"{n:03d}{'.nii.gz' if content.startswith(GZIP) else '.nii'}"
        path.write_bytes(content)
        yield Input("generated NIfTI", name, path, unknown if name[:3] in UNJUDGED else by_address(AFFINE))


def text_headers(folder: Path) -> Iterator[Input]:
    """The same for NRRD and MetaImage."""
    for n, (name, (code, header, old, new)) in enumerate(test_itk_rows.REFUSED.items()):
        ending = "nrrd" if header.startswith("NRRD") else "mha"
        path = test_itk_rows.put(folder, header.replace(old, new), name=f"{n:03d}.{ending}")
        judge = unknown if code in {*UNJUDGED, "N13"} else by_address(test_itk_rows.AFFINE)
        yield Input("generated NRRD, MHA", name, path, judge)


def pictures(folder: Path) -> Iterator[Input]:
    """Pictures of known gray values, stored in unusual ways or damaged."""
    for name, (ending, content, truth) in _pictures().items():
        path = folder / f"{name.replace(' ', '_')}.{ending}"
        path.write_bytes(content)
        yield Input("generated pictures", name, path, _gray_judge(truth))


def nibabel_files() -> Iterator[Input]:
    """The files inside nibabel, compared with what it reads of those that it calls NIfTI; others are no image to us."""
    for root in (NIBABEL / "tests" / "data", NIBABEL / "nicom" / "tests" / "data"):
        for path in sorted(root.iterdir()):
            if path.is_file() and path.suffix not in {".py", ".rst", ".m"}:
                judge = {".nii": _nibabel_judge, ".gz": _nibabel_judge, ".dcm": pydicom_judge}.get(path.suffix)
                yield Input("nibabel", path.name, path, judge(path) if judge else unknown)


def _pictures() -> Mapping[str, tuple[str, bytes, Array]]:
    palette = Image.fromarray(GRAY).convert("P")
    palette.putpalette([value for n in range(256) for value in (255 - n,) * 3])
    alpha = Image.merge("LA", (Image.fromarray(GRAY), Image.new("L", GRAY.shape[::-1], 255)))
    ink = Image.merge("CMYK", (*[Image.new("L", GRAY.shape[::-1])] * 3, Image.fromarray(255 - GRAY)))
    turned = Image.Exif()
    turned[0x0112] = 6
    white = TiffImagePlugin.ImageFileDirectory_v2()
    white[262] = 0
    wide = GRAY.astype(np.uint16) * 257
    png, jpeg = _stored(Image.fromarray(NOISE), "PNG"), _stored(Image.fromarray(NOISE), "JPEG")
    colours = Image.fromarray(np.stack([GRAY] * 3, -1))
    return {
        "16 bits": ("png", _stored(Image.fromarray(wide), "PNG"), wide),
        "palette": ("png", _stored(palette, "PNG"), 255 - np.asarray(palette)),
        "opaque alpha": ("png", _stored(alpha, "PNG"), GRAY),
        "CMYK": ("tif", _stored(ink, "TIFF"), GRAY),
        "turned by EXIF": ("png", _stored(Image.fromarray(GRAY), "PNG", exif=turned), np.rot90(GRAY, -1)),
        "zero is white": ("tif", _stored(Image.fromarray(wide), "TIFF", tiffinfo=white), 65535 - wide),
        "three equal channels": ("png", _stored(colours, "PNG"), GRAY),
        "named otherwise": ("jpg", _stored(Image.fromarray(GRAY), "PNG"), GRAY),
        "cut PNG": ("png", png[: len(png) // 2], NOISE),
        "cut JPEG": ("jpg", jpeg[: len(jpeg) // 2], np.asarray(Image.open(BytesIO(jpeg)))),
        "one bit": ("png", _stored(Image.fromarray(GRAY > 100), "PNG"), (GRAY > 100).astype(np.uint8)),
    }


def _stored(image: Image.Image, form: str, **settings: object) -> bytes:
    buffer = BytesIO()
    image.save(buffer, form, **settings)
    return buffer.getvalue()


def _gray_judge(truth: Array) -> Judge:
    """The gray values, rows first or columns first; more channels beside them, or 255 for the 1 of a bit, is no lie."""

    def judge(voxels: Array, affine: Array) -> Verdict:  # noqa: ARG001
        first = voxels[..., 0] if voxels.ndim == 3 else voxels
        ways = [way.astype(np.float64) for way in (truth, truth.T) if way.shape == first.shape]
        if any(np.allclose(first, way, atol=1e-3) for way in ways):
            return True if (voxels == np.broadcast_to(first.T, voxels.T.shape).T).all() else None
        return None if truth.max() == 1 and any(np.allclose(first, 255 * way) for way in ways) else False

    return judge


def _nibabel_judge(path: Path) -> Judge:
    def judge(voxels: Array, affine: Array) -> Verdict:
        try:
            image = nib.load(path)
            theirs = image.get_fdata()
        except Exception:
            return None
        if voxels.shape != theirs.shape:
            return None if theirs.ndim > 3 else False
        corner = np.array([*(n - 1 for n in theirs.shape), 1.0])
        apart = max(np.abs((affine - image.affine) @ at).max() for at in (corner, np.array([0, 0, 0, 1.0])))
        return bool(np.allclose(voxels, theirs, rtol=1e-5, atol=1e-3) and apart < RIGHT_MM)

    return judge
