"""Recipes: YAML and Compose mean the same, and everything unlawful is refused by name with a way out."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import monai.transforms as mt
import numpy as np
import pytest
import torch

from medxai.core.geometry import Geometry
from medxai.core.volume import Volume
from medxai.errors import InputError, RecipeError
from medxai.io.recipe import Recipe
from medxai.io.recipe_record import WITHHELD
from medxai.io.recipe_steps import step_from_yaml
from tests.io.phantoms import address, random_affine

CONFIGS = Path(__file__).parents[2] / "configs" / "recipes"
VOLUME = Volume(torch.from_numpy(address((9, 8, 7)))[None], Geometry(random_affine(5), (9, 8, 7)))
FILM = Volume(torch.arange(120.0).reshape(1, 10, 12), Geometry(np.diag([-0.5, -0.5, 1.0, 1.0]), (10, 12)))


def yaml_recipe(tmp_path: Path, text: str) -> Recipe:
    path = tmp_path / "recipe.yaml"
    path.write_text(text)
    return Recipe.from_yaml(path)


def refused(tmp_path: Path, step: str, words: str) -> str:
    with pytest.raises(RecipeError, match=words) as refusal:
        yaml_recipe(tmp_path, f"name: r\ntransforms:\n  - {step}\n")
    assert "recipe.yaml" in str(refusal.value)
    return str(refusal.value)


def test_identity_changes_type_and_nothing_else() -> None:
    prepared = Recipe.identity().apply(VOLUME)
    assert prepared.geometry == VOLUME.geometry
    assert prepared.images.dtype == torch.float32
    assert type(prepared.images) is torch.Tensor
    assert torch.equal(prepared.images[0], VOLUME.data.float())
    assert Recipe.identity().apply(FILM).geometry == FILM.geometry
    assert Recipe.identity().description == ()


def test_yaml_and_compose_array_and_dictionary_agree(tmp_path: Path) -> None:
    written = yaml_recipe(
        tmp_path,
        """
name: three ways
transforms:
  - Orientation: {axcodes: RAS}
  - Spacing: {pixdim: [2, 2, 2], mode: bilinear}
  - CenterSpatialCrop: {roi_size: [6, 6, 6]}
  - ScaleIntensity
""",
    )
    letters = (("L", "R"), ("P", "A"), ("I", "S"))
    array = [
        mt.Orientation("RAS", labels=letters),
        mt.Spacing((2, 2, 2), mode="bilinear"),
        mt.CenterSpatialCrop((6, 6, 6)),
        mt.ScaleIntensity(),
    ]
    keys = ["label", "image"]
    dictionary = mt.Compose(
        [
            mt.EnsureChannelFirstd(keys),
            mt.Orientationd(keys, "RAS", labels=letters),
            mt.Compose([mt.Spacingd(keys, (2, 2, 2), mode=("nearest", "bilinear"))]),
            mt.CenterSpatialCropd(keys, (6, 6, 6)),
            mt.AsDiscreted("label", threshold=0.5),
            mt.ScaleIntensityd("image"),
        ]
    )
    results = [r.apply(VOLUME) for r in (written, Recipe.from_compose(array), Recipe.from_compose(dictionary))]
    for other in results[1:]:
        assert torch.equal(results[0].images, other.images)
        assert results[0].geometry == other.geometry
    assert results[0].geometry.axcodes == "RAS"
    assert results[0].geometry.spacing == pytest.approx((2, 2, 2))
    names = [step["transform"] for step in written.description]
    assert names == ["Orientation", "Spacing", "CenterSpatialCrop", "ScaleIntensity"]
    assert [s["transform"] for s in Recipe.from_compose(dictionary).description][1:] == names


def test_the_description_is_json_and_names_the_settings() -> None:
    chain = [mt.Resized("image", (8, 8, 8), mode="trilinear"), mt.NormalizeIntensity(subtrahend=np.array([1.0]))]
    text = json.dumps(Recipe.from_compose(chain).description, allow_nan=False)
    assert "trilinear" in text
    assert "1.0" in text


class Atlas(mt.Transform):
    def __init__(self, path: str) -> None:
        self.path = path

    def __call__(self, image: torch.Tensor) -> torch.Tensor:
        return image


def test_the_description_holds_no_path_and_no_name(tmp_path: Path) -> None:
    path = "/home/hospital/DOE_JANE/atlas.nii"
    kept = mt.Resized(["image", "DOE_JANE"], (8, 8, 8), mode="trilinear")
    padded = mt.BorderPad(1)
    padded.note, padded.folder, padded.deep = path, Path(path), {"DOE^JANE": [path, np.array([path]), b"DOE_JANE"]}
    found = Recipe.from_compose([Atlas(path), mt.CropForegroundd("image", "image"), kept, padded], trusted=("Atlas",))
    text = json.dumps(found.description)
    assert "DOE" not in text
    assert "hospital" not in text
    assert found.description[0] == {"transform": "Atlas", "parameters": {}}
    assert found.description[3]["parameters"]["deep"] == {WITHHELD: [WITHHELD, [WITHHELD], "bytes"]}
    assert found.description[3]["parameters"]["folder"] == "PosixPath"
    written = yaml_recipe(tmp_path, f"name: y\ntransforms: [{{BorderPad: {{spatial_border: 1, mode: {path}}}}}]")
    assert written.description == (
        {"transform": "BorderPad", "parameters": {"spatial_border": 1, "mode": "(text withheld)"}},
    )


def test_the_description_keeps_every_setting() -> None:
    steps = [
        mt.Orientation("RAS", labels=(("L", "R"), ("P", "A"), ("I", "S"))),
        mt.Spacingd("image", (2, 2, 2), mode="bilinear", padding_mode="zeros"),
        mt.Zoom(1.5, mode="nearest-exact", dtype=torch.float32),
        mt.EnsureType(device=torch.device("cpu")),
        mt.GaussianSmooth(2.0),
        mt.NormalizeIntensity(subtrahend=np.array([1.5, 2.5]), nonzero=True),
    ]
    facts = [step["parameters"] for step in Recipe.from_compose(steps).description]
    assert facts[0]["axcodes"] == "RAS"
    assert facts[1]["spacing_transform"]["Spacing"]["pixdim"] == [2, 2, 2]
    assert facts[1]["padding_mode"] == ["zeros"]
    assert (facts[2]["mode"], facts[2]["zoom"], facts[2]["dtype"]) == ("nearest-exact", 1.5, "torch.float32")
    assert facts[3]["device"] == "cpu"
    assert facts[4] == {"sigma": 2.0, "approx": "erf"}
    assert (facts[5]["subtrahend"], facts[5]["nonzero"]) == ([1.5, 2.5], True)
    assert WITHHELD not in json.dumps(facts)


def test_reading_steps_are_left_out() -> None:
    with pytest.warns(UserWarning, match="nvImageCodec"):
        load = mt.LoadImaged("image")
    assert [s.name for s in Recipe.from_compose([load, mt.ScaleIntensityd("image")]).steps] == ["ScaleIntensity"]


def test_the_callers_transforms_stay_untouched_and_lazy_is_off() -> None:
    lazy = mt.Spacing((2, 2, 2), lazy=True)
    prepared = Recipe.from_compose([lazy]).apply(VOLUME)
    eager = Recipe.from_compose([mt.Spacing((2, 2, 2))]).apply(VOLUME)
    assert lazy.lazy is True
    assert torch.equal(prepared.images, eager.images)
    assert prepared.geometry == eager.geometry
    assert prepared.notices == ("lazy resampling switched off",)
    keyed = mt.Spacingd("image", (2, 2, 2), lazy=True)
    assert torch.equal(Recipe.from_compose(mt.Compose([keyed], lazy=True)).apply(VOLUME).images, eager.images)


def test_the_volume_stays_untouched() -> None:
    before = FILM.digest
    Recipe.from_compose([mt.ScaleIntensity(), mt.ThresholdIntensity(0.5)]).apply(FILM)
    assert FILM.digest == before


REFUSED: dict[str, tuple[str, str]] = {
    "misspelt": ("Spacng: {pixdim: [1, 1, 1]}", "Spacng is not among.*Did you mean Spacing"),
    "dictionary name": ("Spacingd: {keys: image}", "Did you mean Spacing"),
    "bad parameter": ("Spacing: {pixdims: [1, 1, 1]}", "no parameter 'pixdims'.*Did you mean pixdim"),
    "bad value": ("Flip: {spatial_axis: [0], lazy: maybe}", "no parameter 'lazy'"),
    "missing value": ("Spacing", "Spacing does not accept these parameters"),
    "elastic": ("Rand3DElastic: {sigma_range: [1, 2]}", "not affine in space"),
    "distortion": ("GridDistortion: {num_cells: 3}", "not affine in space"),
    "warp": ("Warp", "not affine in space"),
    "patches": ("GridPatch: {patch_size: [4, 4]}", "not affine in space"),
    "random": ("RandFlip: {prob: 1}", "random"),
    "transpose": ("Transpose: {indices: [0, 2, 1]}", "Transpose moves voxels"),
    "code": ("Lambda: {func: os.system}", "unknown code"),
    "disk": ("SaveImage: {output_dir: x}", "SaveImage is not among"),
    "nearest": ("Resize: {spatial_size: 8, mode: nearest}", "mode='nearest'.*nearest-exact"),
    "area by default": ("Resize: {spatial_size: 8}", "mode='area'.*bilinear"),
    "zoom area": ("Zoom: {zoom: 2}", "mode='area'"),
    "affine corners": ("Affine: {scale_params: [2, 2, 2], align_corners: true}", "align_corners"),
    "recomputed": ("Spacing: {pixdim: [1, 1, 1], recompute_affine: true}", "recompute_affine"),
    "channel axis": ("EnsureChannelFirst: {channel_dim: 2}", "channel_dim=2.*channel first"),
    "no channel": ("EnsureChannelFirst: {channel_dim: no_channel}", "channel_dim='no_channel'"),
    "two in one": ("{Flip: {}, Rotate90: {}}", "names one transform"),
    "no mapping": ("Flip: 3", "no mapping"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_yaml_is_refused_by_name(tmp_path: Path, case: str) -> None:
    refused(tmp_path, *REFUSED[case])


@pytest.mark.parametrize(
    "text", ["[1, 2]", "name: x", "name: 3\ntransforms: []", "{name: a, transforms: b}", "a: [", ""]
)
def test_what_is_no_recipe_is_refused(tmp_path: Path, text: str) -> None:
    with pytest.raises((RecipeError, InputError), match=r"recipe\.yaml"):
        yaml_recipe(tmp_path, text)
    with pytest.raises(InputError, match=r"absent\.yaml"):
        Recipe.from_yaml(tmp_path / "absent.yaml")


@pytest.mark.parametrize("text", ["", "\n", "# nothing yet\n"])
def test_an_empty_recipe_and_a_folder_are_told_as_such(tmp_path: Path, text: str) -> None:
    with pytest.raises(RecipeError, match=r"recipe\.yaml: not a recipe.*Found nothing: the file is empty"):
        yaml_recipe(tmp_path, text)
    with pytest.raises(RecipeError, match=r"a recipe is a file.*Found a folder.*YAML file inside"):
        Recipe.from_yaml(tmp_path)


class Brighten(mt.Transform):
    def __call__(self, image: torch.Tensor) -> torch.Tensor:
        return image + 1


class Forget(mt.Transform):
    def __call__(self, image: Any) -> torch.Tensor:
        return image.as_tensor()


class Spacing(mt.Spacing):
    """The name of an allowed class, and other behaviour."""


def test_foreign_classes_need_trust_and_an_affine() -> None:
    for stranger in (Brighten(), Spacing((1, 1, 1)), lambda image: image, torch.nn.ReLU()):
        with pytest.raises(RecipeError, match="not a transform of MONAI"):
            Recipe.from_compose([stranger])
    with pytest.raises(RecipeError, match="unknown code"):
        Recipe.from_compose(mt.Lambda(lambda image: image))
    with pytest.raises(RecipeError, match="random"):
        Recipe.from_compose(mt.Compose([mt.RandFlipd("image")]))
    with pytest.raises(RecipeError, match="OneOf is random"):
        Recipe.from_compose([mt.OneOf([mt.Flip(0)])])
    trusted = Recipe.from_compose([Brighten()], trusted=("Brighten",)).apply(FILM)
    assert torch.equal(trusted.images[0], FILM.data + 1)
    assert "user's word" in trusted.notices[0]
    with pytest.raises(RecipeError, match="lost the affine"):
        Recipe.from_compose([Forget()], trusted=("Forget",)).apply(FILM)


def test_a_channel_axis_is_refused_in_a_compose_too() -> None:
    for step in (mt.EnsureChannelFirst(channel_dim=2), mt.EnsureChannelFirstd("image", channel_dim="no_channel")):
        with pytest.raises(RecipeError, match="channel_dim"):
            Recipe.from_compose([step])


def test_steps_of_values_that_move_voxels_are_refused_by_name() -> None:
    for axis in (0, 1):
        flipped = step_from_yaml({"Flip": {"spatial_axis": axis}})
        posing = replace(flipped, name="ScaleIntensity", in_place=True)
        with pytest.raises(RecipeError, match="ScaleIntensity is to change values only, and it moved voxels"):
            Recipe("r", (posing,)).apply(FILM)
    longer = replace(step_from_yaml({"SpatialPad": {"spatial_size": [10, 13], "method": "end"}}), in_place=True)
    with pytest.raises(RecipeError, match=r"SpatialPad.*\(10, 12\) voxels.*\(10, 13\)"):
        Recipe("r", (longer,)).apply(FILM)


def test_dictionary_modes_are_read_at_the_image() -> None:
    keys = ["label", "image"]
    Recipe.from_compose([mt.Resized(keys, (8, 8, 8), mode=("nearest", "trilinear"))])
    with pytest.raises(RecipeError, match="nearest"):
        Recipe.from_compose([mt.Resized(keys, (8, 8, 8), mode=("trilinear", "nearest"))])
    with pytest.raises(RecipeError, match="align_corners"):
        Recipe.from_compose([mt.Affined(keys, align_corners=True)])


def test_applying_refuses_what_the_image_cannot_give(tmp_path: Path) -> None:
    spacing = yaml_recipe(tmp_path, "name: s\ntransforms: [{Spacing: {pixdim: [1, 1]}}]")
    unknown = Volume(FILM.data, Geometry(np.eye(4), (10, 12), "unknown"))
    with pytest.raises(RecipeError, match=r"pixel size.*unknown.*spacing="):
        spacing.apply(unknown)
    assert spacing.apply(FILM).geometry.spacing_mm == pytest.approx((1.0, 1.0))
    orient = yaml_recipe(tmp_path, "name: o\ntransforms: [{Orientation: {axcodes: RAS}}]")
    with pytest.raises(RecipeError, match="two axes"):
        orient.apply(FILM)
    nowhere = Volume(VOLUME.data, Geometry(VOLUME.geometry.affine, (9, 8, 7), "unknown"))
    with pytest.raises(RecipeError, match=r"Orientation needs patient axes.*unknown units.*Flip, Rotate90"):
        orient.apply(nowhere)
    with pytest.raises(RecipeError, match=r"Spacing needs millimetres.*Restore the header"):
        yaml_recipe(tmp_path, "name: s\ntransforms: [{Spacing: {pixdim: [1, 1, 1]}}]").apply(nowhere)
    steps = "[{Flip: {spatial_axis: 0}}, {CenterSpatialCrop: {roi_size: [6, 6, 6]}}, {SpatialPad: {spatial_size: 7}}]"
    index_only = yaml_recipe(tmp_path, f"name: i\ntransforms: {steps}").apply(nowhere)
    assert index_only.geometry.units == "unknown"
    assert index_only.geometry.shape == (7, 7, 7)
    wrong = yaml_recipe(
        tmp_path, "name: w\ntransforms: [{Flip: {spatial_axis: 0}}, {BorderPad: {spatial_border: [1, 2]}}]"
    )
    with pytest.raises(RecipeError, match=r"step 2 \(BorderPad\) fails"):
        wrong.apply(VOLUME)


def test_cropped_away_is_outside_the_grid(tmp_path: Path) -> None:
    crop = yaml_recipe(tmp_path, "name: c\ntransforms: [{SpatialCrop: {roi_start: [2, 1, 3], roi_end: [6, 5, 6]}}]")
    prepared = crop.apply(VOLUME)
    assert prepared.geometry.shape == (4, 4, 3)
    first = VOLUME.geometry.world(np.array([2.0, 1.0, 3.0]))
    assert np.allclose(prepared.geometry.affine[:3, 3], first)
    assert torch.equal(prepared.images[0], VOLUME.data[:, 2:6, 1:5, 3:6].float())


def test_the_recipes_that_ship_do_what_they_say() -> None:
    names = {path.stem for path in CONFIGS.glob("*.yaml")}
    assert names == {"chest_xray", "chest_xray_rgb", "chest_ct", "brain_mri"}
    assert all(Recipe.from_yaml(CONFIGS / f"{name}.yaml").name == name for name in names)
    gray = Volume(torch.linspace(0, 255, 300 * 200).reshape(1, 300, 200), Geometry(np.eye(4), (300, 200)))
    xray = Recipe.from_yaml(CONFIGS / "chest_xray.yaml").apply(gray).images
    assert xray.shape == (1, 1, 224, 224)
    assert float(xray.min()) >= -1024
    assert float(xray.max()) <= 1024
    assert float(xray[0, 0, 112, 112]) == pytest.approx(0, abs=20)
    rgb = Recipe.from_yaml(CONFIGS / "chest_xray_rgb.yaml").apply(gray).images
    means, deviations = torch.tensor([0.485, 0.456, 0.406]), torch.tensor([0.229, 0.224, 0.225])
    back = rgb[0] * deviations[:, None, None] + means[:, None, None]
    assert back.shape == (3, 224, 224)
    assert torch.allclose(back[0], back[1], atol=1e-5)
    assert (float(back.min()), float(back.max())) == pytest.approx((0.0, 1.0), abs=1e-5)
    hu = Volume(torch.full((1, 9, 8, 7), -300.0), VOLUME.geometry)
    ct = Recipe.from_yaml(CONFIGS / "chest_ct.yaml").apply(hu)
    assert ct.geometry.axcodes == "RAS"
    assert ct.geometry.spacing_mm == pytest.approx((2, 2, 2))
    assert torch.allclose(ct.images, torch.full_like(ct.images, 0.5))
    brain = Volume(torch.rand(2, 24, 24, 24) + 1, Geometry(np.diag([-1.0, 1.0, 1.0, 1.0]), (24, 24, 24)))
    mri = Recipe.from_yaml(CONFIGS / "brain_mri.yaml").apply(brain)
    assert mri.geometry.axcodes == "RAS"
    assert mri.images.shape[1] == 2
    for channel in mri.images[0]:
        values = channel[channel != 0]
        assert float(values.mean()) == pytest.approx(0, abs=1e-4)
        assert float(values.std(correction=0)) == pytest.approx(1, abs=1e-3)


@pytest.mark.parametrize(
    ("values", "told"),
    [
        (FILM.data, ""),
        (FILM.data * 16, "93% of what the network sees has the highest value, 127"),
        (0 * FILM.data, "100%"),
    ],
)
def test_a_range_that_the_recipe_cuts_off_is_told(values: torch.Tensor, told: str) -> None:
    recipe = Recipe.from_compose(mt.Compose([mt.ScaleIntensityRange(0, 127, 0, 127, clip=True)]), name="to 127")
    notices = recipe.apply(replace(FILM, data=values)).notices
    assert [notice.partition(":")[0].startswith(told) for notice in notices] == [True] * bool(told)
