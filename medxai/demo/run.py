"""The demo: a cohort with known lesions, a network trained on it, and the main job from files to scores."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors.torch import save
from torch import nn

from medxai.attribution.gradient_cams import GradCAM
from medxai.core.target import ClassScore
from medxai.core.volume import Case
from medxai.demo.cohort import draw_patient
from medxai.demo.files import RECIPE, image_of, load, store
from medxai.demo.model import LESION, build
from medxai.demo.report import TWO, command, marks_table, scores_table
from medxai.demo.training import Training, auc, margin, prepare
from medxai.demo.two_lesions import PICTURE, Marks, compare
from medxai.evaluation import Evaluation, evaluate
from medxai.explanation import explain
from medxai.io.recipe import Recipe
from medxai.io.write import made_folder, write_file
from medxai.model.device import pick_device
from medxai.model.load import load_model
from medxai.overlay import save_overlay

FACTORY = "medxai.demo.model:build"
BY_PATCH = "medxai.demo.model:build_by_patch"


@dataclass(frozen=True)
class Plan:
    """How many patients are drawn for training and held out (every other one has a lesion), and how long is trained.

    `two_lesions` more are held out that have two.
    """

    training: int = 64
    held_out: int = 16
    two_lesions: int = 8
    epochs: int = 60


@dataclass(frozen=True, eq=False)
class _Found:
    """What the demo reports."""

    loss: float
    margins: Mapping[str, float]
    evaluations: Mapping[str, Evaluation]
    marks: Mapping[str, Mapping[str, Marks]]


def run_demo(out: Path, seed: int = 0, device: str = "auto", plan: Plan = Plan()) -> None:
    """Draw a cohort, train on it, explain its held-out patients from their files and print the scores beside chance.

    Training patients stay in memory; held-out patients, weights, recipe and every result are files under `out`. The
    same seed gives the same cohort everywhere, and the same scores on the same machine. Raises WriteError.
    """
    from rich.console import Console

    console = Console(highlight=False, soft_wrap=True)
    out = made_folder(Path(out) / "cohort").parent
    total = plan.training + plan.held_out
    console.print(
        f"{total} synthetic chest CTs, every other one with a lesion; {plan.held_out} are held out, "
        f"and {plan.two_lesions} more with two lesions."
    )
    with _one_thread(), _progress(plan.training + 2 * plan.held_out + plan.epochs + plan.two_lesions) as step:
        found = _run(out, seed, device, plan, step)
    sick = [m for name, m in found.margins.items() if name in found.evaluations]
    well = [m for name, m in found.margins.items() if name not in found.evaluations]
    right = sum(m > 0 for m in sick) + sum(m <= 0 for m in well)
    console.print(
        f"Trained on {plan.training} (last loss {found.loss:.3f}). Held out: AUC {auc(sick, well):.3f}, "
        f"{right} of {len(found.margins)} called right."
    )
    console.print(scores_table(found.margins, found.evaluations))
    first = next(iter(found.evaluations))
    console.print(f"The same by hand:\n{command(out, first, FACTORY, 'GradCAM')}")
    console.print(f"Open {out / first / 'overlay.png'}, or its saliency.nii.gz over {image_of(out, first)}.")
    if found.marks:
        both = next(iter(found.marks))
        console.print(marks_table(list(found.marks.values())))
        console.print(f"{TWO}\nThe same by hand:\n{command(out, both, BY_PATCH, 'InverseIBA')}")
        console.print(f"Open {out / both / PICTURE}: two lesions under Grad-CAM, IBA and Inverse IBA.")


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
        names.append(store(draw_patient(seed, number).case, out))
    network, loss = Training(plan.epochs, seed)(build, examples, place, lambda: step("training"))
    weights = {name: value.cpu().contiguous() for name, value in network.state_dict().items()}
    write_file(out / "model.safetensors", save(weights))
    model = load_model(FACTORY, out / "model.safetensors")
    margins, evaluations = {}, {}
    for name in names:
        step("explaining")
        case = load(out, name)
        margins[name] = margin(model, recipe.apply(case.image).images)
        if case.masks:
            evaluations[name] = _explain(model, case, recipe, out, device, seed)
    marks = {}
    by_patch = load_model(BY_PATCH, out / "model.safetensors")
    for number in range(plan.training + plan.held_out, plan.training + plan.held_out + plan.two_lesions):
        step("comparing")
        case = load(out, store(draw_patient(seed, number, lesions=2).case, out))
        marks[case.id] = compare(by_patch, case, recipe, out / case.id, device, seed)
    return _Found(loss, margins, evaluations, marks)


def _explain(model: nn.Module, case: Case, recipe: Recipe, out: Path, device: str, seed: int) -> Evaluation:
    saliency = explain(model, case, GradCAM(), ClassScore(LESION), recipe, device=device, seed=seed)
    evaluation = evaluate(saliency, case.masks["lesion"])
    save_overlay(saliency, case, out / case.id, case.masks["lesion"], evaluation)
    return evaluation


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
