"""What is removed and what takes its place, as words of the command line."""

import pytest
import torch

from medxai.cli.names import withheld
from medxai.cli.perturbation import parse_perturbation
from medxai.errors import InputError, UsageError
from medxai.io.options import DEFAULT as PLAIN
from medxai.io.recipe import Recipe
from medxai.metrics.curves import DEFAULT
from medxai.metrics.imputation import Blur, Constant, HealthyPatch, Mean, Reference
from medxai.metrics.road import NoisyLinear
from medxai.metrics.units import Cubes, Supervoxels, Voxels
from tests.truth import patient, save

RECIPE = Recipe.identity()


def parsed(units=None, baseline=None):
    return parse_perturbation(units, baseline, RECIPE, PLAIN)


@pytest.mark.parametrize(
    ("text", "units"),
    [
        ("voxels", Voxels()),
        ("cubes:8", Cubes(8.0, "mm")),
        ("cubes:2.5v", Cubes(2.5, "voxel")),
        ("supervoxels:50", Supervoxels(50)),
    ],
)
def test_units(text, units):
    assert parsed(units=text).partition == units
    assert parsed(units=text).baseline == DEFAULT.baseline


@pytest.mark.parametrize(
    ("text", "baseline"),
    [
        ("constant:-0.5", Constant(-0.5)),
        ("constant:0,1", Constant((0.0, 1.0))),
        ("mean", Mean()),
        ("blur:10", Blur(10.0, "mm")),
        ("blur:3v", Blur(3.0, "voxel")),
        ("road", NoisyLinear()),
        ("patch:1,2,3/4,5,6", HealthyPatch((1, 2, 3), (4, 5, 6))),
    ],
)
def test_baselines(text, baseline):
    assert parsed(baseline=text).baseline == baseline
    assert parsed(baseline=text).partition == DEFAULT.partition


def test_another_image_is_prepared_as_the_case_is(tmp_path):
    person = patient(3, size=24)
    found = parsed(baseline=f"image:{save(person, tmp_path)}").baseline
    assert isinstance(found, Reference)
    assert torch.equal(found.image[0], torch.from_numpy(person.voxels).float())
    assert found.geometry.same(person.grid)


@pytest.mark.parametrize("join", [lambda option, value: [option, value], lambda *both: ["=".join(both)]])
def test_the_name_of_another_image_is_withheld(tmp_path, join):
    image = save(patient(3, size=8), tmp_path)
    words = ["evaluate", "map.nii.gz", *join("--baseline", f"image:{image}")]
    assert withheld(f"image:{image} and {image.name}", words) == "image:[input 2] and [input 2]"


@pytest.mark.parametrize(
    "words",
    [
        {"units": "cubes"},
        {"units": "cubes:-1"},
        {"units": "cubes:nan"},
        {"units": "cubes:inf"},
        {"units": "supervoxels:0"},
        {"units": "supervoxels:0.5"},
        {"units": "supervoxels:2.7"},
        {"units": "voxels:8"},
        {"units": "voxels:"},
        {"units": ""},
        {"baseline": "mean:7"},
        {"baseline": "road:0.5"},
        {"baseline": "constant:nan"},
        {"baseline": "constant:0,inf"},
        {"baseline": "patch:1,2,3/0,0,0"},
        {"baseline": "patch:1,2,3/4,-5,6"},
        {"baseline": "patch:-1,2,3/4,5,6"},
        {"baseline": "image:"},
        {"baseline": "image"},
        {"units": "spheres:3"},
        {"baseline": "blur"},
        {"baseline": "constant:dark"},
        {"baseline": "patch:1,2/3"},
        {"baseline": "patch:1,2"},
        {"baseline": "black"},
    ],
)
def test_what_cannot_be_read_is_refused_with_the_grammar(words):
    with pytest.raises(UsageError, match="cannot be read"):
        parsed(**words)


def test_an_image_that_is_none_says_so_itself(tmp_path):
    with pytest.raises(InputError):
        parsed(baseline=f"image:{tmp_path / 'none.nii'}")
