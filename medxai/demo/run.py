"""The demo: a cohort with known lesions, a network trained on it, and the main job from files to scores."""

import shlex
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from math import isnan
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from safetensors.torch import save
from torch import nn

from medxai.attribution.gradient_cams import GradCAM
from medxai.core.target import ClassScore
from medxai.core.volume import Case
from medxai.demo.cohort import draw_patient
from medxai.demo.model import build
from medxai.demo.training import Training, auc, margin, prepare
from medxai.evaluation import Evaluation, evaluate
from medxai.explanation import explain
from medxai.io.read import load_case, read_mask
from medxai.io.recipe import Recipe
from medxai.io.write import made_folder, write_file, write_nifti
from medxai.model.device import pick_device
from medxai.model.load import load_model
from medxai.overlay import save_overlay

if TYPE_CHECKING:
    from rich.table import Table

FACTORY = "medxai.demo.model:build"
SHOWN = ("pointing_game", "mass_in_mask", "iou_at_mask_size")
LESION = 1
RECIPE = """\
# CT in Hounsfield units: patient axes, 2 mm, air to soft tissue as 0 to 1, padded to one size.
name: demo_chest_ct
transforms:
  - Orientation: {axcodes: RAS}
  - Spacing: {pixdim: [2.0, 2.0, 2.0], mode: bilinear, padding_mode: border}
  - ScaleIntensityRange: {a_min: -1000, a_max: 200, b_min: 0.0, b_max: 1.0, clip: true}
  - ResizeWithPadOrCrop: {spatial_size: [132, 96, 84]}
"""


@dataclass(frozen=True)
class Plan:
    """How many patients are drawn for training and held out (every other one has a lesion), and how long is trained."""

    training: int = 64
    held_out: int = 16
    epochs: int = 60


@dataclass(frozen=True, eq=False)
class _Found:
    """What the demo reports."""

    loss: float
    margins: Mapping[str, float]
    evaluations: Mapping[str, Evaluation]


def run_demo(out: Path, seed: int = 0, device: str = "auto", plan: Plan = Plan()) -> None:
    """Draw a cohort, train on it, explain its held-out patients from their files and print the scores beside chance.

    Training patients stay in memory; held-out patients, weights, recipe and every result are files under `out`. The
    same seed gives the same cohort everywhere, and the same scores on the same machine. Raises WriteError.
    """
    from rich.console import Console

    console = Console(highlight=False, soft_wrap=True)
    out = made_folder(Path(out) / "cohort").parent
    total = plan.training + plan.held_out
    console.print(f"{total} synthetic chest CTs, every other one with a lesion; {plan.held_out} are held out.")
    with _one_thread(), _progress(plan.training + 2 * plan.held_out + plan.epochs) as step:
        found = _run(out, seed, device, plan, step)
    sick = [m for name, m in found.margins.items() if name in found.evaluations]
    well = [m for name, m in found.margins.items() if name not in found.evaluations]
    right = sum(m > 0 for m in sick) + sum(m <= 0 for m in well)
    console.print(
        f"Trained on {plan.training} (last loss {found.loss:.3f}). Held out: AUC {auc(sick, well):.3f}, "
        f"{right} of {len(found.margins)} called right."
    )
    console.print(_table(found))
    first = next(iter(found.evaluations))
    console.print(f"The same by hand, for one patient:\n{_command(out, first)}")
    console.print(f"Open {out / first / 'overlay.png'}, or its saliency.nii.gz over {_image(out, first)}.")


def _run(out: Path, seed: int, device: str, plan: Plan, step: Callable[[str], None]) -> _Found:
    place = pick_device(device)
    write_file(out / "recipe.yaml", RECIPE.encode())
    recipe = Recipe.from_yaml(out / "recipe.yaml")
    examples = []
    for number in range(plan.training):
        step("drawing")
        examples.append(prepare(draw_patient(seed, number).case, recipe))
    names = []
    for number in range(plan.training, plan.training + plan.held_out):
        step("writing")
        names.append(_store(draw_patient(seed, number).case, out))
    network, loss = Training(plan.epochs, seed)(build, examples, place, lambda: step("training"))
    weights = {name: value.cpu().contiguous() for name, value in network.state_dict().items()}
    write_file(out / "model.safetensors", save(weights))
    model = load_model(FACTORY, out / "model.safetensors")
    margins, evaluations = {}, {}
    for name in names:
        step("explaining")
        case = _load(out, name)
        margins[name] = margin(model, recipe.apply(case.image).images)
        if case.masks:
            evaluations[name] = _explain(model, case, recipe, out, device, seed)
    return _Found(loss, margins, evaluations)


def _explain(model: nn.Module, case: Case, recipe: Recipe, out: Path, device: str, seed: int) -> Evaluation:
    saliency = explain(model, case, GradCAM(), ClassScore(LESION), recipe, device=device, seed=seed)
    evaluation = evaluate(saliency, case.masks["lesion"])
    save_overlay(saliency, case, out / case.id, case.masks["lesion"], evaluation)
    return evaluation


def _store(case: Case, out: Path) -> str:
    write_nifti(_image(out, case.id), case.image.data[0].float(), case.image.geometry, intent_name="CT in HU")
    for mask in case.masks.values():
        write_nifti(_lesion(out, case.id), mask.data.float(), mask.geometry, intent_name="lesion")
    return case.id


def _load(out: Path, name: str) -> Case:
    lesion = _lesion(out, name)
    masks = {"lesion": read_mask(lesion)} if lesion.exists() else {}
    return load_case(_image(out, name), masks=masks, case_id=name)


def _image(out: Path, name: str) -> Path:
    return out / "cohort" / f"{name}.nii.gz"


def _lesion(out: Path, name: str) -> Path:
    return out / "cohort" / f"{name}_lesion.nii.gz"


def _command(out: Path, name: str) -> str:
    options = {
        "--model": FACTORY,
        "--weights": out / "model.safetensors",
        "--recipe": out / "recipe.yaml",
        "--target": LESION,
        "--mask": _lesion(out, name),
        "-o": out / f"{name}-again",
    }
    words = ["medxai", "explain", str(_image(out, name))]
    return shlex.join([*words, *(str(word) for pair in options.items() for word in pair)])


def _table(found: _Found) -> "Table":
    """Every held-out patient's scores, their mean, and the means of maps that know nothing."""
    from rich.table import Table

    every = list(found.evaluations.values())
    table = Table("patient", "margin", *SHOWN, title="Grad-CAM of held-out patients with a lesion")
    for name, evaluation in found.evaluations.items():
        table.add_row(name, f"{found.margins[name]:+.2f}", *(_number(evaluation[m].value) for m in SHOWN))
    table.add_section()
    table.add_row(f"mean (n = {len(every)})", "", *(_number(_mean([e[m].value for e in every])) for m in SHOWN))
    for chance in every[0].scores[0].chance:
        means = [_mean([e[m].chance[chance] for e in every]) for m in SHOWN]
        table.add_row(f"chance: {chance}", "", *map(_number, means))
    return table


def _mean(values: Sequence[float]) -> float:
    defined = [value for value in values if not isnan(value)]
    return sum(defined) / len(defined) if defined else float("nan")


def _number(value: float) -> str:
    return "undefined" if isnan(value) else f"{value:.3f}"


@contextmanager
def _one_thread() -> Iterator[None]:
    """Patches this small train no faster on several threads, and far slower where those have to share the cores."""
    usual = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(usual)


@contextmanager
def _progress(total: int) -> Iterator[Callable[[str], None]]:
    """A bar on stderr; the yielded function names what begins and moves the bar by one."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

    columns = (TextColumn("{task.description:<10}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task("", total=total)
        yield lambda name: bar.update(task, description=name, advance=1)
