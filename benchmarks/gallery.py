"""One finding in 2D and one in 3D, seen by every method: writes docs/gallery.md and its two pictures (`make gallery`).

The patients are synthetic, as in `medxai demo`: a chest with one lesion of known place. A small network is trained on
others of the cohort, in 3D on the volumes and in 2D on single slices; then each method of the catalogue explains the
same held-out patient. Numbers are the share of positive attribution in the lesion, beside that of a uniform map.
"""

import argparse
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from textwrap import fill
from typing import Any

import matplotlib
import numpy as np
import torch
from matplotlib import pyplot as plt
from PIL import Image
from rich.progress import track
from torch import Tensor, nn

import medxai
from medxai import Case, ClassScore, Geometry, Mask, Recipe, Saliency, Volume, catalog
from medxai.attribution.bottleneck.co_iba import CoIBA
from medxai.attribution.bottleneck.iba import IBA
from medxai.attribution.bottleneck.input_iba import InputIBA
from medxai.attribution.bottleneck.multi_layer import MultiLayerIBA
from medxai.attribution.bottleneck.statistics import FeatureStatistics, estimate
from medxai.core.layer import Layer
from medxai.core.protocols import Attributor
from medxai.demo.cohort import draw_patient
from medxai.demo.model import build
from medxai.demo.training import Training, prepare
from medxai.errors import MedxaiError
from medxai.model.layers import stages
from medxai.model.trace import trace
from medxai.render.overlay import Scene, mask_on
from medxai.render.palette import scale_of, window_of
from medxai.render.slices import sparsest_axis, view

BRIEFLY = {"SSCAM": 4, "ISCAM": 4}
OTHERS = 24
_WIDE = 32  # letters over a tile
DOCS = Path(__file__).parents[1] / "docs"
STEPS = {
    3: "transforms: [{Orientation: {axcodes: RAS}}, {Spacing: {pixdim: [2.0, 2.0, 2.0], padding_mode: border}}, "
    "{ScaleIntensityRange: {a_min: -1000, a_max: 200, b_min: 0.0, b_max: 1.0, clip: true}}, "
    "{ResizeWithPadOrCrop: {spatial_size: [132, 96, 84]}}]",
    2: "transforms: [{ScaleIntensityRange: {a_min: -1000, a_max: 200, b_min: 0.0, b_max: 1.0, clip: true}}]",
}
PAGE = """\
# Gallery

Written by `make gallery`. One synthetic patient with one lesion (contour), a small network trained on others of the
cohort, and what every method of the catalogue says about the same decision with its defaults (SS-CAM and IS-CAM with
4 masks per channel, and bottlenecks with the [statistics](bottleneck.md) of 24 others). Under each name: the share of
positive attribution that lies in the lesion; a uniform map has {uniform3:.1%} in 3D and {uniform2:.1%} in 2D. The
maps are drawn from zero to their own maximum, blue where evidence speaks against. Two pictures say nothing about which
method is better: `docs/benchmarks.md` has measurements on real scans.

## A volume

![every method on a 3D case](gallery_3d.png)

## A slice

![every method on a 2D case](gallery_2d.png)

{refused}
"""


@dataclass(frozen=True, eq=False)
class Scan:
    """A held-out case with its lesion, its network and the recipe between them, and other cases as prepared."""

    case: Case
    lesion: Mask
    model: nn.Module
    recipe: Recipe
    others: tuple[Tensor, ...] = ()

    def statistics(self, layer: str | Layer) -> FeatureStatistics:
        """Of the features of a layer over the others, element by element."""
        return estimate(self.model, self.others, layer, "element")


def volume(seed: int, folder: Path, epochs: int) -> Scan:
    """A whole scan, and a network trained on whole scans."""
    recipe = _recipe(folder, 3)
    examples = [prepare(draw_patient(seed, number).case, recipe) for number in range(64)]
    model, _ = Training(epochs, seed)(build, examples, torch.device("cpu"), lambda: None)
    case = draw_patient(seed, 65).case
    others = tuple(example.images for example in examples[:OTHERS])
    return Scan(case, case.masks["lesion"], model, recipe, others)


def film(seed: int, folder: Path, epochs: int) -> Scan:
    """One slice through the lesion, and a network trained on slices of others."""
    recipe = _recipe(folder, 2)
    examples = [prepare(_slice(draw_patient(seed, number).case), recipe) for number in range(128)]
    model, _ = Training(epochs, seed)(_flat, examples, torch.device("cpu"), lambda: None)
    case = _slice(draw_patient(seed, 131).case)
    others = tuple(example.images for example in examples[:OTHERS])
    return Scan(case, case.masks["lesion"], model, recipe, others)


def _flat() -> nn.Module:
    from monai.networks.nets import DenseNet

    network: nn.Module = DenseNet(2, 1, 2, init_features=16, growth_rate=16, block_config=(3,))
    return network


def _slice(case: Case) -> Case:
    """The axial slice of 2 mm pixels through the lesion, or through the middle of a healthy chest."""
    grid = case.image.geometry
    lesion = case.masks.get("lesion")
    centre = (np.array(grid.shape) - 1) / 2
    if lesion is not None:
        centre = torch.nonzero(lesion.data).double().mean(0).numpy()
    shape = (132, 96)
    affine = np.diag([2.0, 2.0, 1.0, 1.0])
    affine[:3, 3] = grid.world((np.array(grid.shape) - 1) / 2) - [shape[0] - 1, shape[1] - 1, 0]
    affine[2, 3] = grid.world(centre)[2]
    flat = Geometry(affine, shape)
    from medxai.core.resample import read_on

    masks = {}
    if lesion is not None:
        masks = {"lesion": Mask(read_on(lesion.data.float(), lesion.geometry, flat) > 0.5, flat)}
    values = read_on(case.image.data[0].float(), grid, flat)
    return Case(case.id, Volume(values[None], flat, "CT"), masks, case.labels)


def _recipe(folder: Path, ndim: int) -> Recipe:
    path = folder / f"gallery_{ndim}d.yaml"
    path.write_text(f"name: gallery_{ndim}d\n{STEPS[ndim]}\n", "utf-8")
    return Recipe.from_yaml(path)


def sheet(scan: Scan, names: Sequence[str], path: Path, columns: int = 6) -> dict[str, str]:
    """Draw a tile per method; answers the reasons of those that refuse."""
    found: dict[str, Saliency] = {}
    refused: dict[str, str] = {}
    for name in track(names, path.name, transient=True):
        try:
            found[name] = medxai.explain(scan.model, scan.case, _method(name, scan), ClassScore(1), scan.recipe)
        except MedxaiError as error:
            refused[name] = str(error)
    draw(scan, found, path, columns)
    return refused


def draw(scan: Scan, found: Mapping[str, Saliency], path: Path, columns: int) -> None:
    """Draw the image with its lesion, and a tile for each saliency."""
    rows = -(-(len(found) + 1) // columns)
    figure, axes = plt.subplots(
        rows, columns, figsize=(2.5 * columns, 2.35 * rows), squeeze=False, layout="constrained"
    )
    figure.get_layout_engine().set(rect=(0, 0, 1, 0.985))
    tiles = [(None, "the image and its lesion"), *((s, _caption(name, s, scan)) for name, s in found.items())]
    for axis in axes.flat:
        axis.set_axis_off()
    for axis, (saliency, caption) in zip(axes.flat, tiles, strict=False):
        _draw(axis, scan, saliency)
        axis.set_title(caption, fontsize=8.5)
    figure.savefig(path, dpi=72, metadata={"Software": None})
    plt.close(figure)
    with Image.open(path) as drawn:
        drawn.convert("RGB").quantize(192, dither=Image.Dither.NONE).save(path, optimize=True)


def _method(name: str, scan: Scan) -> Attributor:
    """The method with its defaults, few noisy masks where it takes many, and noise that looks like the others."""
    method: Any = catalog.method(name)
    if name in BRIEFLY:
        method = replace(method, n=BRIEFLY[name])
    if scan.others and isinstance(method, InputIBA):
        method = replace(method, latent=IBA(statistics=scan.statistics("auto")))
    elif scan.others and isinstance(method, CoIBA | MultiLayerIBA):
        layers = stages(trace(scan.model, tuple(scan.others[0].shape)))
        method = replace(method, layers=layers, statistics=tuple(map(scan.statistics, layers)))
    elif scan.others and "statistics" in {field.name for field in fields(method)}:
        method = replace(method, statistics=scan.statistics("auto"))
    made: Attributor = method
    return made


def _caption(name: str, saliency: Saliency, scan: Scan) -> str:
    score = medxai.evaluate(saliency, scan.lesion, ["mass_in_mask"])["mass_in_mask"]
    return f"{name}\n{fill(score.reason, _WIDE) or f'{score.value:.2f} in the lesion'}"


def _draw(axis: "plt.Axes", scan: Scan, saliency: Saliency | None) -> None:
    image, grid = scan.case.image, scan.case.image.geometry
    voxels = image.data[0].numpy().reshape(grid.shape3)
    values = np.zeros(grid.shape3, np.float32) if saliency is None else saliency.on(grid).numpy().reshape(grid.shape3)
    scale = scale_of(values) if saliency is not None and saliency.status.ok else None
    region = mask_on(scan.lesion, grid)
    scene = Scene(grid, voxels, window_of(voxels), values, region, scale)
    plane = sparsest_axis(grid) if grid.ndim == 3 else 2
    cut = view(grid, plane, round(float(np.argwhere(region).mean(0)[plane])))
    size = (round(240 * cut.size[0] / max(cut.size)), round(240 * cut.size[1] / max(cut.size)))
    axis.imshow(scene.overlay(cut, size))
    edge = scene.region(cut, size)
    if edge is not None:
        axis.contour(edge, [0.5], colors="white", linewidths=0.9)


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--docs", type=Path, default=DOCS)
    options.add_argument("--seed", type=int, default=0)
    options.add_argument("--epochs", type=int, default=60)
    options.add_argument("--methods", nargs="*", default=sorted(catalog.methods()))
    options.add_argument("--slice", type=Path, help="draw the slice alone, without others, into this file")
    chosen = options.parse_args()
    matplotlib.use("Agg")
    if chosen.slice:
        alone = replace(film(chosen.seed, _scratch(), chosen.epochs), others=())
        print(sheet(alone, chosen.methods, chosen.slice, columns=4))
        return
    makers: dict[int, Callable[[int, Path, int], Scan]] = {3: volume, 2: film}
    uniform, lines = {}, []
    for ndim, make in makers.items():
        scan = make(chosen.seed, _scratch(), chosen.epochs)
        uniform[ndim] = float(scan.lesion.data.float().mean())
        refused = sheet(scan, chosen.methods, chosen.docs / f"gallery_{ndim}d.png")
        lines += [f"* {name} in {ndim}D: {reason}" for name, reason in refused.items()]
    words = "Not shown, with the reason each gives:\n\n" + "\n".join(lines) if lines else ""
    page = PAGE.format(uniform3=uniform[3], uniform2=uniform[2], refused=words).rstrip() + "\n"
    (chosen.docs / "gallery.md").write_text(page, "utf-8")


def _scratch() -> Path:
    from tempfile import mkdtemp

    return Path(mkdtemp(prefix="medxai-gallery-"))


if __name__ == "__main__":
    main()
