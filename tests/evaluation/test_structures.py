"""The table of structures tells how the atlas lies, and asks within the domain alone."""

import json
from dataclasses import replace

import nibabel as nib
import numpy as np
import pytest
import torch
from typer.testing import CliRunner

from medxai.cli.app import app
from medxai.cli.evaluate_atlas import print_structures
from medxai.core.geometry import Geometry
from medxai.core.saliency import Provenance, Saliency
from medxai.core.volume import Mask, Volume
from medxai.errors import GeometryError, MaskError
from medxai.evaluation.structures import structures
from medxai.metrics.atlas import by_structure

SHAPE = (8, 6, 4)
GRID = Geometry(np.diag([2.0, 2.0, 3.0, 1.0]), SHAPE)
FLIP = np.array([[-1, 0, 0, 7], [0, 1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1.0]])
FLIPPED = Geometry(GRID.affine @ FLIP, SHAPE)
SAID = "M02: the atlas's axes run in another order or direction: read by position"


def left_is_one():
    labels = torch.zeros(SHAPE)
    labels[:4] = 1
    return labels


def saliency():
    values = torch.rand(SHAPE, generator=torch.Generator().manual_seed(0))
    return Saliency(values, GRID, GRID, Provenance("test", {}, "", "", (), "", "", 0, "", 0.0, {}), source=GRID)


def test_an_atlas_with_reversed_axes_is_read_by_position_and_that_is_said():
    rows, notices = structures(saliency(), Volume(left_is_one().flip(0)[None], FLIPPED))
    plain, nothing = structures(saliency(), Volume(left_is_one()[None], GRID))
    assert (notices, nothing) == ((SAID,), ())
    assert [row.share for row in rows] == pytest.approx([row.share for row in plain], rel=1e-5)


def test_what_is_wrong_with_an_atlas_is_said_of_the_atlas():
    shifted = Geometry(GRID.affine + np.eye(4, k=3) * 40, SHAPE)
    with pytest.raises(MaskError, match="The atlas has the image's shape and lies elsewhere") as refused:
        structures(saliency(), Volume(left_is_one()[None], shifted))
    assert "mask" not in str(refused.value)


def test_an_atlas_of_which_the_model_saw_nothing_is_refused():
    away = Geometry(GRID.affine + np.eye(4, k=3) * 400, (9, 6, 4))
    atlas = Volume(torch.ones(1, 9, 6, 4), away)
    with pytest.raises(MaskError, match="sees no voxel of this atlas"):
        structures(replace(saliency(), source=None), atlas)
    with pytest.raises(MaskError, match="M09"):
        structures(saliency(), Volume(left_is_one()[None], GRID), domain=Mask(torch.zeros(SHAPE).bool(), GRID))


def test_within_a_domain_the_shares_are_of_what_lies_in_it():
    inside = torch.zeros(SHAPE, dtype=torch.bool)
    inside[2:5, 1:4] = True
    found = saliency()
    rows, _ = structures(found, Volume(left_is_one()[None], GRID), domain=Mask(inside, GRID))
    expected = float(found.data[2:4, 1:4].sum() / found.data[2:5, 1:4].sum())
    assert {row.label: row.share for row in rows}[1] == pytest.approx(expected, rel=1e-5)
    assert sum(row.voxels for row in rows) == int(inside.sum())
    with pytest.raises(GeometryError, match="Domain and atlas"):
        structures(found, Volume(left_is_one()[None], FLIPPED), domain=Mask(inside, GRID))


def test_what_a_map_gives_nowhere_is_printed_as_undefined(capsys):
    print_structures(by_structure(torch.zeros(SHAPE), left_is_one().long(), GRID), ())
    shown = capsys.readouterr().out
    assert "nan" not in shown
    assert shown.count("undefined") == 2 * 4


def test_the_command_line_prints_and_writes_both(tmp_path):
    inside = torch.zeros(SHAPE)
    inside[2:5] = 1
    for name, values, grid in (
        ("map", saliency().data, GRID),
        ("atlas", left_is_one(), GRID),
        ("flipped", left_is_one().flip(0), FLIPPED),
        ("domain", inside, GRID),
    ):
        nib.save(nib.Nifti1Image(values.numpy(), grid.affine), tmp_path / f"{name}.nii.gz")
    map_and_mask = [tmp_path / "map.nii.gz", tmp_path / "domain.nii.gz", "--metric", "mass_in_mask"]

    def call(*words):
        done = CliRunner().invoke(app, ["evaluate", *map(str, [*map_and_mask, *words])], catch_exceptions=False)
        assert done.exit_code == 0, done.output
        return done.stdout

    assert f"note: {SAID}" in call("--atlas", tmp_path / "flipped.nii.gz")
    assert json.loads(call("--atlas", tmp_path / "flipped.nii.gz", "--json"))["structures_notices"] == [SAID]
    words = ("--atlas", tmp_path / "atlas.nii.gz", "--domain", tmp_path / "domain.nii.gz", "--json")
    found = json.loads(call(*words))
    assert sum(row["voxels"] for row in found["structures"]) == int(inside.sum())
    assert "structures_notices" not in found
