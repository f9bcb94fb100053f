"""Masking methods and combined layers through `explain`: place, provenance and every target from one sweep."""

import json

import numpy as np
import pytest

from medxai.attribution.ablation import AblationCAM
from medxai.attribution.combined import Combined
from medxai.attribution.gradient_cams import LayerCAM
from medxai.attribution.masking_cams import ScoreCAM
from medxai.catalog import method
from medxai.core.geometry import Geometry
from medxai.core.target import ClassScore
from medxai.core.volume import Case, Volume
from medxai.errors import UsageError
from medxai.explanation import explain
from medxai.io.recipe import Recipe
from tests.networks import images, net, rising


def case(ndim):
    voxels = images(ndim, 1)[0]
    affine = np.diag([*[1.5, 2.0, 3.0][:ndim], *[1.0] * (4 - ndim)])
    return Case("a", Volume(voxels, Geometry(affine, tuple(voxels.shape[1:]))))


def explained(method, ndim):
    targets = [ClassScore(c) for c in range(3)]
    return explain(rising(net(ndim)), case(ndim), method, targets, Recipe("as is", ()), device="cpu")


@pytest.mark.parametrize("ndim", [2, 3])
@pytest.mark.parametrize("masking", [ScoreCAM(layer="4"), AblationCAM(layer="4")], ids=["Score-CAM", "Ablation-CAM"])
def test_a_masking_map_lies_on_its_layer(masking, ndim):
    found = explained(masking, ndim)
    spacing = np.abs(np.diag(case(ndim).image.geometry.affine))[:ndim]
    for one in found:
        assert one.status.ok
        np.testing.assert_allclose(np.abs(np.diag(one.geometry.affine))[:ndim], 2 * spacing)
        assert one.provenance.layer == "4"
        assert set(one.provenance.details) <= {"masks", "ablations"}
        assert json.dumps(one.provenance.as_dict())


@pytest.mark.parametrize("ndim", [2, 3])
def test_combined_layers_lie_on_the_image_and_name_their_method(ndim):
    found = explained(Combined(method=LayerCAM(), layers=("2", "4"), how="product"), ndim)
    for one in found:
        assert one.geometry == case(ndim).image.geometry
        assert one.provenance.method == "Combined"
        assert one.provenance.parameters["method"]["name"] == "LayerCAM"
        assert list(one.provenance.parameters["layers"]) == ["2", "4"]
        assert json.dumps(one.provenance.as_dict())


def test_no_target_at_all_is_refused():
    with pytest.raises(UsageError, match="target"):
        explain(net(2), case(2), ScoreCAM(layer="4"), [], Recipe("as is", ()), device="cpu")


def test_a_combining_method_takes_several_layers_by_name():
    assert method("LayerCAMFusion", "2,4").layers == ("2", "4")
    assert method("LayerCAMFusion").layers == ()
    assert method("GradCAM", "4").layer == "4"
