"""A saliency goes back to disk in the scanner's coordinates, and comes back from disk as what it was."""

import hashlib
import json
from pathlib import Path
from typing import Any

import numpy as np
import torch

from medxai.core.geometry import Geometry
from medxai.core.saliency import Provenance, Saliency, Status
from medxai.core.volume import Case, Mask
from medxai.errors import InputError, WriteError
from medxai.evaluation import Evaluation
from medxai.io.read import read_volume
from medxai.io.write import made_folder, remove_file, write_file, write_json, write_nifti
from medxai.render.montage import montage

SALIENCY, SEEN, PICTURE, PROVENANCE, SCORES = (
    "saliency.nii.gz",
    "seen.nii.gz",
    "overlay.png",
    "provenance.json",
    "scores.json",
)
NAMES = (SALIENCY, SEEN, PICTURE, PROVENANCE, SCORES)


def save_overlay(
    saliency: Saliency,
    case: Case,
    out: str | Path,
    mask: Mask | None = None,
    evaluation: Evaluation | None = None,
) -> tuple[Path, ...]:
    """Write the saliency on the case's own grid, a picture of it and how it came to be, into the folder `out`.

    `saliency.nii.gz` holds raw float32 values, 0 where the model never looked; where that happens `seen.nii.gz` says so
    voxel by voxel. Every file is whole or absent. No file holds a patient's name, a path or a date.
    An earlier result of ours in the folder makes room; raises WriteError where files of these names are not ours.
    """
    out = _cleared(made_folder(out))
    grid = case.image.geometry
    values = saliency.on(grid)
    outside = values.isnan()
    limits = _limits(values)
    write_nifti(out / SALIENCY, values.nan_to_num(nan=0.0), grid, intent_name=saliency.provenance.method, limits=limits)
    written = [out / SALIENCY]
    if bool(outside.any()):
        write_nifti(out / SEEN, (~outside).float(), grid, intent_name="seen by model", limits=(0.0, 1.0))
        written.append(out / SEEN)
    write_file(out / PICTURE, montage(case.image, saliency, mask, values=values))
    write_json(out / PROVENANCE, _record(saliency, out / SALIENCY))
    written += [out / PICTURE, out / PROVENANCE]
    if evaluation is not None:
        write_json(out / SCORES, evaluation.as_dict())
        written.append(out / SCORES)
    return tuple(written)


def load_overlay(path: str | Path) -> Saliency:
    """The saliency of a NIfTI file on the file's grid.

    Where the `provenance.json` that was written with this very file (by its digest) lies beside it, status, field and
    provenance are what they were; a map from elsewhere counts as ok and seen everywhere, and a notice says so.
    """
    path = Path(path)
    volume = read_volume(path)
    if volume.data.shape[0] != 1:
        raise InputError("A saliency map has one value per voxel.", found=f"{volume.data.shape[0]} channels in {path}")
    data = volume.data[0].to(torch.float32)
    record = _recorded(path)
    if record is None:
        unknown = Provenance("unknown", {}, "", "", (), "", "", 0, "", 0.0, {}, notices=_FOREIGN)
        return Saliency(data, volume.geometry, volume.geometry, unknown, source=volume.geometry)
    box = record["seen"]
    field = Geometry(np.array(box["affine"], np.float64), tuple(box["shape"]), box["units"])
    facts = record["provenance"]
    known = Provenance(**{**facts, "recipe": tuple(facts["recipe"]), "notices": tuple(facts["notices"])})
    grid = Geometry(volume.geometry.affine, volume.geometry.shape, field.units)
    return Saliency(data, grid, field, known, Status(record["status"]["reason"]), grid)


_FORMAT = "medxai-saliency-1"
_FOREIGN = ("no matching provenance.json beside the map: taken as valid and as seen everywhere",)


def _cleared(out: Path) -> Path:
    present = [out / name for name in NAMES if (out / name).exists()]
    if present and (not (out / SALIENCY).is_file() or _recorded(out / SALIENCY) is None):
        raise WriteError(
            f"{out} holds files that an overlay would replace, and that no earlier overlay left whole.",
            found=", ".join(path.name for path in present),
            remedy="Remove them, or name another folder.",
        )
    for path in present:
        remove_file(path)
    return out


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


def _record(saliency: Saliency, path: Path) -> dict[str, Any]:
    return {
        "format": _FORMAT,
        "status": {"ok": saliency.status.ok, "reason": saliency.status.reason},
        "provenance": saliency.provenance.as_dict(),
        "cells": _grid(saliency.geometry),
        "seen": _grid(saliency.seen),
        "saliency_sha256": _digest(path),
    }


def _grid(geometry: Geometry) -> dict[str, Any]:
    return {"affine": geometry.affine.tolist(), "shape": list(geometry.shape), "units": geometry.units}


def _digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def _limits(values: torch.Tensor) -> tuple[float, float]:
    high = float(values.nan_to_num(nan=0.0).abs().max())
    return (-high if bool((values < 0).any()) else 0.0, high)
