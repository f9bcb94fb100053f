"""A vision transformer of MONAI, which answers a tuple, from the command line to the patient's own coordinates."""

import json
import sys

import nibabel as nib
import numpy as np
import pytest
import torch
import yaml
from monai.networks.nets import ViT

from medxai.cli.app import main

SIZE, PATCH = (32, 48, 16), 8
SPACING = (1.5, 1.0, 2.0)


@pytest.fixture
def run(monkeypatch, capsys):
    def call(*words):
        monkeypatch.setattr(sys, "argv", ["medxai", *map(str, words)])
        with pytest.raises(SystemExit) as ended:
            main()
        captured = capsys.readouterr()
        assert not ended.value.code, captured.err
        return captured.out

    return call


@pytest.fixture
def words(tmp_path):
    torch.manual_seed(0)
    own = {"in_channels": 1, "img_size": list(SIZE), "patch_size": [PATCH] * 3, "hidden_size": 24, "mlp_dim": 32}
    own |= {"num_layers": 3, "num_heads": 2, "classification": True, "num_classes": 3}
    model = ViT(**own)
    torch.save(model.state_dict(), tmp_path / "weights.pt")
    voxels = np.random.default_rng(0).random(SIZE, np.float32)
    nib.save(nib.Nifti1Image(voxels, np.diag([*SPACING, 1])), tmp_path / "scan.nii.gz")
    plan = {"name": "as is", "transforms": [{"Orientation": {"axcodes": "RAS"}}]}
    (tmp_path / "recipe.yaml").write_text(yaml.safe_dump(plan), "utf-8")
    given = [word for name, value in own.items() for word in ("--factory-arg", f"{name}={json.dumps(value)}")]
    return [
        tmp_path / "scan.nii.gz", "--model", "monai.networks.nets:ViT", "--weights", tmp_path / "weights.pt",
        "--recipe", tmp_path / "recipe.yaml", *given, "--output", "0",
    ]  # fmt: skip


def test_vit_is_explained_where_its_patches_lie(run, words, tmp_path):
    run("explain", *words, "--target", "1", "--signed", "--out", tmp_path / "out")
    record = json.loads((tmp_path / "out" / "provenance.json").read_text())["provenance"]
    assert record["layer"] == "blocks.1"
    assert record["parameters"]["relu"] is False
    assert record["target"] == "ClassScore(index=1) of output 0"
    assert any("attention" in notice for notice in record["notices"])
    found = np.asarray(nib.load(tmp_path / "out" / "saliency.nii.gz").dataobj)
    assert found.shape == SIZE
    assert found.min() < 0 < found.max()
    centre = tuple(slice(PATCH // 2 - 1, None, PATCH) for _ in SIZE)
    assert np.unique(found[centre]).size == np.prod([n // PATCH for n in SIZE])


def test_layers_lists_the_blocks_with_their_strides(run, words):
    rows = {row["layer"]: row for row in json.loads(run("layers", *words, "--json"))}
    assert [name for name, row in rows.items() if row["recommended"]] == ["blocks.1"]
    assert rows["blocks.1"]["stride (mm)"] == [PATCH * s for s in SPACING]
    assert rows["blocks.1"]["shape"] == [1 + 4 * 6 * 2, 24]
