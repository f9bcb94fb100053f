"""A saliency goes back to disk in the scanner's coordinates, and comes back from disk as what it was."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from medxai.core.annotation import Annotation
from medxai.core.geometry import Geometry
from medxai.core.saliency import Provenance, Saliency, Status
from medxai.core.volume import Case
from medxai.errors import InputError, WriteError, refuse_other_kind
from medxai.evaluation import Evaluation
from medxai.io.codes import codes, notice
from medxai.io.options import ReadOptions
from medxai.io.read import read_volume
from medxai.io.write import made_folder, refuse_unwritable, remove_file, write_file, write_json, write_nifti
from medxai.render.montage import montage

SALIENCY, SEEN, PICTURE, PROVENANCE, SCORES = (
    "saliency.nii.gz",
    "seen.nii.gz",
    "overlay.png",
    "provenance.json",
    "scores.json",
)
NAMES = (SALIENCY, SEEN, PICTURE, PROVENANCE, SCORES)
UNFINISHED = ".medxai-unfinished"


def save_overlay(
    saliency: Saliency,
    case: Case,
    out: str | Path,
    mask: Annotation | None = None,
    evaluation: Evaluation | None = None,
    orthogonal: bool = False,
) -> tuple[Path, ...]:
    """Write the saliency on the case's own grid, a picture of it and how it came to be, into the folder `out`.

    The grid of a tilted series is sheared, which a NIfTI file states exactly and not every program reads: with
    `orthogonal` the map is read on `Geometry.orthogonal()` of it instead, and the provenance says so.
    `saliency.nii.gz` holds raw float32 values, 0 where the model never looked; where that happens `seen.nii.gz` says so
    voxel by voxel. No file holds a patient's name, a path or a date. An earlier result of ours is replaced, each file
    whole before it takes its name; until all are, `.medxai-unfinished` lies in the folder, and stays there where the
    process ends before. Raises WriteError where files of these names are not ours.
    """
    refuse_other_kind("saliency", isinstance(saliency, Saliency), "one Saliency, each in a folder of its own", saliency)
    refuse_other_kind("case", isinstance(case, Case), "a Case, as load_case(path)", case)
    refuse_other_kind("mask", mask is None or isinstance(mask, Annotation), "a Mask, as read_mask(path)", mask)
    out = _begun(made_folder(out))
    own = case.image.geometry
    grid = own.orthogonal() if orthogonal else own
    shown = saliency.on(own)
    values = shown if grid is own else saliency.on(grid)
    outside = values.isnan()
    limits = _limits(values)
    write_nifti(out / SALIENCY, values.nan_to_num(nan=0.0), grid, intent_name=saliency.provenance.method, limits=limits)
    written = [out / SALIENCY]
    if bool(outside.any()):
        write_nifti(out / SEEN, (~outside).float(), grid, intent_name="seen by model", limits=(0.0, 1.0))
        written.append(out / SEEN)
    write_file(out / PICTURE, montage(case.image, saliency, mask, values=shown))
    notices = () if grid is own else (notice("D27", "the image's grid is sheared, this file's is not: interpolated"),)
    write_json(out / PROVENANCE, _record(saliency, own, out / SALIENCY, notices))
    written += [out / PICTURE, out / PROVENANCE]
    if evaluation is not None:
        write_json(out / SCORES, evaluation.as_dict())
        written.append(out / SCORES)
    for stale in {out / name for name in (SEEN, SCORES, UNFINISHED)} - {*written}:
        remove_file(stale)
    return tuple(written)


def refuse_folder(out: str | Path) -> None:
    """Raise WriteError where `save_overlay` could not begin in the folder `out`; it is left as it is, or missing."""
    refuse_unwritable(out)
    _refuse_foreign(Path(out))


def load_overlay(path: str | Path, nan: float | None = None) -> Saliency:
    """The saliency of a NIfTI file on the file's grid; `nan` takes the place of NaN and infinity, else refused.

    Where the `provenance.json` that was written with this very file (by its digest) lies beside it, status, field and
    provenance are what they were; a map from elsewhere counts as ok and seen everywhere, and a notice says so.
    """
    path = Path(path)
    volume = read_volume(path, options=ReadOptions(nan=nan))
    if volume.data.shape[0] != 1:
        raise InputError("A saliency map has one value per voxel.", found=f"{volume.data.shape[0]} channels in {path}")
    data = volume.data[0].to(torch.float32)
    filled = "N12" in codes(volume.notices) and nan is not None and bool((data == nan).all())
    unread = Status(f"no voxel but {nan:g}, in place of NaN") if filled else Status()
    record = _recorded(path)
    if record is None:
        told = (*_FOREIGN, *volume.notices)
        unknown = Provenance("unknown", {}, "", "", (), "", "", 0, "", 0.0, {}, notices=told)
        return Saliency(data, volume.geometry, volume.geometry, unknown, unread, volume.geometry)
    try:
        facts, status, field = record["provenance"], Status(record["status"]["reason"]), _geometry(record["seen"])
        image = _geometry(record["image"]) if "image" in record else None
        known = Provenance(**{**facts, **_restored(facts)})
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise InputError(
            f"{path}: the {PROVENANCE} beside it cannot be read.",
            expected="the record as medxai wrote it",
            found=type(error).__name__,
            remedy="Remove it: the map then counts as one from elsewhere.",
        ) from error
    grid = Geometry(volume.geometry.affine, volume.geometry.shape, field.units)
    return Saliency(data, grid, field, known, status, image or grid)


def _restored(facts: Mapping[str, Any]) -> dict[str, Any]:
    """What JSON cannot hold: tuples, and what is no number or infinite."""
    return {
        "recipe": tuple(facts["recipe"]),
        "notices": tuple(facts["notices"]),
        "score": _measured(facts["score"]),
        "details": {name: _measured(value) for name, value in facts.get("details", {}).items()},
    }


def _measured(value: Any) -> Any:
    """A number or numbers as they were before `write_json`."""
    if isinstance(value, list):
        return tuple(_measured(one) for one in value)
    return float("nan" if value is None else value)


_FORMAT = "medxai-saliency-1"
_FOREIGN = ("no matching provenance.json beside the map: taken as valid and as seen everywhere",)


def _begun(out: Path) -> Path:
    """The folder, marked as unfinished; what it holds of these names is ours."""
    _refuse_foreign(out)
    write_file(out / UNFINISHED, b"")
    return out


def _refuse_foreign(out: Path) -> None:
    present = [out / name for name in NAMES if (out / name).exists()]
    if (
        present
        and not (out / UNFINISHED).is_file()
        and (not (out / SALIENCY).is_file() or _recorded(out / SALIENCY) is None)
    ):
        raise WriteError(
            f"{out} holds files that an overlay would replace, and that no earlier overlay left whole.",
            found=", ".join(path.name for path in present),
            remedy="Remove them, or name another folder.",
        )


def _recorded(path: Path) -> dict[str, Any] | None:
    beside = path.parent / PROVENANCE
    if not beside.is_file():
        return None
    try:
        record: Any = json.loads(beside.read_text("utf-8"))
    except ValueError:
        return None
    ours = (
        isinstance(record, dict) and record.get("format") == _FORMAT and record.get("saliency_sha256") == _digest(path)
    )
    return record if ours else None


def _record(saliency: Saliency, image: Geometry, path: Path, notices: tuple[str, ...]) -> dict[str, Any]:
    told = replace(saliency.provenance, notices=(*saliency.provenance.notices, *notices))
    return {
        "format": _FORMAT,
        "status": {"ok": saliency.status.ok, "reason": saliency.status.reason},
        "provenance": told.as_dict(),
        "cells": _grid(saliency.geometry),
        "seen": _grid(saliency.seen),
        "image": _grid(image),
        "saliency_sha256": _digest(path),
    }


def _grid(geometry: Geometry) -> dict[str, Any]:
    return {"affine": geometry.affine.tolist(), "shape": list(geometry.shape), "units": geometry.units}


def _geometry(stored: Mapping[str, Any]) -> Geometry:
    return Geometry(np.array(stored["affine"], np.float64), tuple(stored["shape"]), stored["units"])


def _digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def _limits(values: torch.Tensor) -> tuple[float, float]:
    high = float(values.nan_to_num(nan=0.0).abs().max())
    return (-high if bool((values < 0).any()) else 0.0, high)
