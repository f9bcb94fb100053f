"""Where a NIfTI header says the voxels are: sform and qform, each checked, neither believed against the other.

The sform is the affine where its code is set, else the qform. Where both codes are 0 the file says nothing about the
patient: the grid is then axis-aligned at the origin, with pixdim for steps, and of unknown units.

A file whose `descrip` is `PIXEL_FRAME`, as `write_nifti` marks its maps on a grid of unknown units, states a matrix and
no patient: its grid is of unknown units too.
"""

from collections.abc import Callable, Mapping
from itertools import product
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from medxai.core.geometry import Geometry
from medxai.errors import GeometryError
from medxai.io.codes import notice
from medxai.io.content import blaming
from medxai.io.nifti_header import NiftiHeader
from medxai.io.options import ReadOptions
from medxai.shapes import Affine

PIXEL_FRAME = b"pixel frame of the source image, no patient space"

_UNITS = {0: "", 1: "meter", 2: "mm", 3: "micron"}
_MM = {"meter": 1000.0, "micron": 0.001}
_AGREE_MM = 0.1
_LONGER = 1 + 1e-6  # a unit quaternion of float32 may be so much too long
_NOWHERE = notice("N03", "header states no patient orientation: grid is not in the patient")
_PIXELS = notice("N03", "header states a pixel frame: grid is not in the patient")

Form = Literal["sform", "qform"]
Steps = NDArray[np.float64]


def place(
    path: Path, header: NiftiHeader, shape: tuple[int, ...], options: ReadOptions
) -> tuple[Geometry, tuple[str, ...]]:
    """The grid of a file, and what was repaired. Raises `GeometryError` for what places no voxel, or places it twice.

    `options.affine` chooses between a sform and a qform that contradict each other, or one of them and pixdim.
    """
    unit = _unit(path, header)
    scale = np.diag([_MM.get(unit, 1.0)] * 3 + [1.0])
    steps, notices = _steps(header, len(shape))
    coded = _coded(header, options)
    if not coded:
        if not steps.all():
            raise _no_steps(path, header, "and neither sform nor qform is set")
        return Geometry(scale @ np.diag([*steps, 1.0]), shape, "unknown"), (*notices, _NOWHERE)
    if "sform" in coded and not steps.all():
        coded, notices = ("sform",), (*notices, notice("N06", "pixdim is not positive: steps of the sform used"))
    forms = {name: scale @ _finite(path, name, _FORMS[name](path, header, steps)) for name in coded}
    with blaming(path, "N08"):
        geometry = Geometry(forms[coded[0]], shape)
    if options.affine in coded:
        notices = (*notices, notice("N01", f"{options.affine} taken as the user chose"))
    else:
        _refuse_quarrel(path, forms, shape)
        _refuse_other_steps(path, geometry, scale[0, 0] * steps)
    if header.fields["descrip"].item() == PIXEL_FRAME:
        return Geometry(geometry.affine, shape, "unknown"), (*notices, _PIXELS)
    return geometry, (*notices, *_about_unit(unit))


def _coded(header: NiftiHeader, options: ReadOptions) -> tuple[Form, ...]:
    """The forms whose code is set, or of several the one that the user chose."""
    coded = tuple(name for name in _FORMS if int(header.fields[f"{name}_code"]) > 0)
    return (options.affine,) if options.affine in coded else coded


def _steps(header: NiftiHeader, axes: int) -> tuple[Steps, tuple[str, ...]]:
    """pixdim of the three axes in the header's unit, 0 where it is no positive number; 1 for an axis that is not."""
    stated = header.numbers("pixdim")[1:4]
    steps = np.where(np.isfinite(stated), np.abs(stated), 0.0)
    steps[axes:] = 1.0
    turned = bool((stated[:axes] < 0).any())
    return steps, (notice("N05", "pixdim is negative: its absolute value used"),) if turned else ()


def _no_steps(path: Path, header: NiftiHeader, why: str) -> GeometryError:
    return GeometryError(
        f"{path}: pixdim is not positive, {why}, so nothing says how far apart voxels are.",
        expected="positive pixdim[1:4], or a sform",
        found=f"pixdim[1:4] {header.fields['pixdim'][1:4].tolist()}",
        remedy="Repair the header.",
        code="N07",
    )


def _sform(_path: Path, header: NiftiHeader, _steps: Steps) -> Affine:
    rows = np.array([header.numbers(f"srow_{axis}") for axis in "xyz"])
    return np.vstack([rows, [0.0, 0.0, 0.0, 1.0]])


def _qform(path: Path, header: NiftiHeader, steps: Steps) -> Affine:
    from nibabel.quaternions import quat2mat

    if not steps.all():
        raise _no_steps(path, header, "and there is only a qform")
    imaginary = np.array([header.numbers(f"quatern_{letter}") for letter in "bcd"])
    turn, length = float(header.fields["pixdim"][0]), float((imaginary**2).sum())
    if not length <= _LONGER or turn not in (-1.0, 0.0, 1.0):
        raise GeometryError(
            f"{path}: the qform is no rotation.",
            expected="a quaternion of length 1 and pixdim[0] of 1 or -1",
            found=f"quatern_b, c, d {imaginary.tolist()}, pixdim[0] {turn:g}",
            remedy="Choose the sform with affine='sform' (--affine sform), if there is one.",
            code="N08",
        )
    affine = np.eye(4)
    affine[:3, :3] = quat2mat([max(0.0, 1.0 - length) ** 0.5, *imaginary]) * steps
    affine[:3, 2] *= -1.0 if turn < 0 else 1.0
    affine[:3, 3] = [header.numbers(f"qoffset_{axis}") for axis in "xyz"]
    return affine


_FORMS: Mapping[Form, Callable[[Path, NiftiHeader, Steps], Affine]] = {"sform": _sform, "qform": _qform}


def _finite(path: Path, name: Form, affine: Affine) -> Affine:
    if not np.isfinite(affine).all():
        raise GeometryError(
            f"{path}: the {name} is no affine.",
            expected="finite numbers",
            found=f"{affine[:3].tolist()}",
            remedy="Repair the header, or choose the other one with affine= (--affine), if there is one.",
            code="N08",
        )
    return affine


def _refuse_quarrel(path: Path, forms: Mapping[Form, Affine], shape: tuple[int, ...]) -> None:
    if len(forms) < 2:
        return
    corners = np.array([(*c, 1.0) for c in product(*[(0, n - 1) for n in (*shape, 1)[:3]])])
    apart = float(np.linalg.norm(corners @ (forms["sform"] - forms["qform"]).T, axis=1).max())
    if not apart <= _AGREE_MM:
        raise GeometryError(
            f"{path}: sform and qform place the image differently, {apart:.3g} mm apart at a corner.",
            expected=f"at most {_AGREE_MM} mm",
            found=f"sform {forms['sform'][:3].round(4).tolist()}, qform {forms['qform'][:3].round(4).tolist()}",
            remedy="If you know which is right, choose it with affine='sform' or 'qform' (--affine).",
            code="N01",
        )


def _refuse_other_steps(path: Path, geometry: Geometry, steps: Steps) -> None:
    """Steps of the affine and pixdim agree at the far end of each axis; a sheared axis may state its height."""
    axes = geometry.affine[:3, :3]
    lengths = np.linalg.norm(axes, axis=0)
    heights = 1 / np.linalg.norm(np.linalg.inv(axes), axis=1)
    reach = np.array(geometry.shape3) - 1
    apart = np.minimum(np.abs(lengths - steps), np.abs(heights - steps)) * reach * (steps > 0)
    if not apart.max() <= _AGREE_MM:
        raise GeometryError(
            f"{path}: the sform's steps are not those of pixdim, {apart.max():.3g} mm apart along an axis.",
            expected=f"at most {_AGREE_MM} mm",
            found=f"steps of the sform {lengths.round(5).tolist()}, pixdim {steps.round(5).tolist()} mm",
            remedy="If you know that the sform is right, choose it with affine='sform' (--affine sform).",
            code="N02",
        )


def _unit(path: Path, header: NiftiHeader) -> str:
    code = int(header.fields["xyzt_units"]) % 8
    if code not in _UNITS:
        raise GeometryError(
            f"{path}: the unit of length is no NIfTI code.",
            expected="0 (unknown), 1 (m), 2 (mm) or 3 (micron)",
            found=f"{code} in xyzt_units",
            remedy="Repair the header.",
            code="N11",
        )
    return _UNITS[code]


def _about_unit(unit: str) -> tuple[str, ...]:
    if unit == "mm":
        return ()
    said = f"header is in units of {unit}: converted to millimetres" if unit else ""
    return (notice("N11", said or "header states no unit of length: millimetres assumed"),)
