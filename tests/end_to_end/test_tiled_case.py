"""A volume larger than the network's window comes home in millimetres like any other."""

import nibabel as nib
import numpy as np
import pytest
import torch
import yaml
from monai.networks.nets import ViT

import medxai
from medxai.attribution.gradient_cams import GradCAM, LayerCAM
from medxai.attribution.tiled import Tiled
from medxai.core.target import ClassScore, RegionScore
from medxai.errors import ModelError
from tests.networks import CONV

AFFINE = np.array([[0, -2.0, 0, 40], [1.5, 0, 0, -20], [0, 0, 3.0, 5], [0, 0, 0, 1]])
PLAN = {"name": "as is", "transforms": [{"Orientation": {"axcodes": "RAS"}}]}


class Bright(torch.nn.Module):
    """Class 1 is what is bright; its features lie on every second voxel."""

    def __init__(self):
        super().__init__()
        self.down, self.act = CONV[3](1, 1, 2, stride=2), torch.nn.ReLU()
        self.up = torch.nn.Upsample(scale_factor=2)
        torch.nn.init.constant_(self.down.weight, 1 / 8)
        torch.nn.init.constant_(self.down.bias, -0.5)

    def forward(self, x):
        features = self.up(self.act(self.down(x)))
        return torch.cat([torch.full_like(features, 0.01), features], 1)


@pytest.fixture
def case(tmp_path):
    voxels = np.random.default_rng(0).random((32, 24, 40), np.float32) * 0.3
    voxels[20:24, 6:10, 30:34] = 1
    nib.save(nib.Nifti1Image(voxels, AFFINE), tmp_path / "scan.nii.gz")
    return medxai.load_case(tmp_path / "scan.nii.gz")


@pytest.fixture
def recipe(tmp_path):
    (tmp_path / "recipe.yaml").write_text(yaml.safe_dump(PLAN), "utf-8")
    return medxai.Recipe.from_yaml(tmp_path / "recipe.yaml")


def test_windows_find_the_landmark_where_the_whole_finds_it(case, recipe):
    target = RegionScore(1)
    whole = medxai.explain(Bright(), case, LayerCAM(layer="act"), target, recipe)
    found = medxai.explain(Bright(), case, Tiled(LayerCAM(layer="act"), window=16, overlap=0.25), target, recipe)
    np.testing.assert_allclose(found.geometry.affine, whole.geometry.affine)
    torch.testing.assert_close(found.data, whole.data)
    assert found.provenance.method == "Tiled(LayerCAM)"
    assert found.provenance.layer == "act"
    cell = np.array(np.nonzero(found.data.numpy())).mean(1)
    landmark = AFFINE @ [21.5, 7.5, 31.5, 1]
    np.testing.assert_allclose(found.geometry.affine @ [*cell, 1], landmark, atol=1e-6)


def test_network_of_fixed_size_is_explained_in_windows_of_that_size(case, recipe):
    torch.manual_seed(0)
    own = {"hidden_size": 24, "mlp_dim": 32, "num_layers": 2, "num_heads": 2, "classification": True, "num_classes": 2}
    model = ViT(1, (16, 16, 8), (8, 8, 4), **own)
    target = ClassScore(1)
    with pytest.raises(ModelError, match="fails"):
        medxai.explain(model, case, GradCAM(), target, recipe, output=0)
    found = medxai.explain(model, case, Tiled(GradCAM(relu=False), (16, 16, 8), overlap=0), target, recipe, output=0)
    assert found.status.ok
    assert (found.provenance.layer, found.data.shape) == ("blocks.0", (3, 4, 10))
