"""The command that scores: a map, or a folder of chest-film maps, against annotations."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from math import isnan
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from medxai.cli.options import AsJson, Device, FactoryArgs, MaskImage, Seed, Spacing
from medxai.cli.reading import with_read_options
from medxai.io.options import DEFAULT, ReadOptions

if TYPE_CHECKING:
    from collections.abc import Callable

    from medxai.core.annotation import Annotation
    from medxai.core.saliency import Saliency
    from medxai.core.volume import Mask, Volume
    from medxai.evaluation import Evaluation, Score

Asked = Annotated[str | None, typer.Option("--model", help="Factory of the network, to ask it too; as in explain.")]
AskedWeights = Annotated[Path | None, typer.Option("--weights", help="Its weights.")]
AskedRecipe = Annotated[Path | None, typer.Option("--recipe", help="Its preprocessing recipe.")]
AskedTarget = Annotated[str | None, typer.Option("--target", help="What was explained.")]
AskedMethod = Annotated[str | None, typer.Option("--method", help="The method, to ask it too.")]


@with_read_options
def evaluate(  # noqa: PLR0913, PLR0917 - one parameter per option
    saliency: Annotated[Path, typer.Argument(help="Saliency map; with --preset chexlocalize also a folder of maps.")],
    masks: Annotated[
        list[Path],
        typer.Argument(help="Annotation, on any grid of the same patient; several are several readers of one finding."),
    ],
    preset: Annotated[str, typer.Option("--preset", help="basic, full, chexlocalize or arun.")] = "basic",
    metric: Annotated[
        list[str] | None, typer.Option("--metric", help="A name from `medxai metrics`; repeat for more.")
    ] = None,
    labels: Annotated[
        list[int] | None, typer.Option("--label", help="Label value that is a finding; repeat to score each.")
    ] = None,
    domain: Annotated[
        Path | None, typer.Option("--domain", help="Mask on the annotation's grid to ask within: body, lungs.")
    ] = None,
    image: Annotated[
        Path | None, typer.Option("--image", help="The image: adds its edges as a chance row; needed with --model.")
    ] = None,
    other: Annotated[
        list[Path] | None, typer.Option("--other", help="Another patient's map, for the mean map; repeat for more.")
    ] = None,
    again: Annotated[
        list[Path] | None, typer.Option("--again", help="Map of this case by another training or architecture.")
    ] = None,
    places: Annotated[
        int, typer.Option("--places", min=0, help="Lay the finding at this many other places for a p-value.")
    ] = 0,
    model: Asked = None,
    weights: AskedWeights = None,
    recipe: AskedRecipe = None,
    target: AskedTarget = None,
    method: AskedMethod = None,
    factory_arg: FactoryArgs = None,
    spacing: Spacing = None,
    mask_image: MaskImage = None,
    device: Device = "auto",
    seed: Seed = 0,
    as_json: AsJson = False,
    options: ReadOptions = DEFAULT,
) -> None:
    """Score a saliency map against an annotation, beside what maps that know nothing would score."""
    from medxai.cli.progress import steps
    from medxai.errors import UsageError

    if saliency.is_dir():
        if preset != "chexlocalize" or len(masks) != 1:
            raise UsageError("A folder of maps is scored by --preset chexlocalize, against one annotation file.")
        _films(saliency, masks[0], seed, as_json)
        return
    with steps(3) as step:
        step("loading")
        import medxai
        from medxai.cli.checks import read_region
        from medxai.evaluation import Chance, evaluate_labels
        from medxai.evaluation.agreement import sensitivity_to

        found = medxai.load_overlay(saliency)
        drawn = _annotations(
            masks, labels or [], lambda path, label: read_region(path, label, spacing, options, mask_image)
        )
        within = None if domain is None else read_region(domain, None, spacing, options)
        shown = None if image is None else medxai.read_volume(image, options=options)
        chance = Chance(shown, tuple(medxai.load_overlay(path) for path in other or ()), places=places, seed=seed)
        step("scoring")
        scored = evaluate_labels(found, drawn, metric, options, preset, chance, within)
        grid = next(iter(drawn.values())).geometry
        repeated = sensitivity_to(found, {path.name: medxai.load_overlay(path) for path in again or ()}, grid)
        step("asking")
        network = _Network(model, weights, recipe, target, method, tuple(factory_arg or ()), device)
        answers = _ask(found, shown, network, preset, seed)
    _show(scored, answers, {name: asdict(agreement) for name, agreement in repeated.items()}, as_json)


@dataclass(frozen=True)
class _Network:
    """What the command line says of the network to ask."""

    model: str | None
    weights: Path | None
    recipe: Path | None
    target: str | None
    method: str | None
    arguments: tuple[str, ...]
    device: str


def _annotations(
    masks: Sequence[Path], labels: Sequence[int], read: "Callable[[Path, int | None], Mask]"
) -> "dict[str, Annotation]":
    """By name, each label of each reader; before several readers of one finding, what they share."""
    from medxai.core.annotation import agreed

    drawn = {}
    for reader, path in enumerate(masks, 1):
        for label in labels or (None,):
            said = [f"label {label}"] * (len(labels) > 1) + [f"reader {reader}"] * (len(masks) > 1)
            drawn[", ".join(said)] = read(path, label)
    if len(masks) > 1 and len(labels) < 2:
        return {"all readers": agreed(list(drawn.values())), **drawn}
    return dict(drawn)


def _ask(found: "Saliency", image: "Volume | None", network: _Network, preset: str, seed: int) -> "Sequence[Score]":
    """The scores that need the network, none where none is named. Raises UsageError for half of what that takes."""
    from medxai import catalog
    from medxai.cli.targets import parse_target
    from medxai.errors import UsageError
    from medxai.evaluation.asking import Asking, evaluate_model
    from medxai.evaluation.presets import ASKED
    from medxai.io.recipe import Recipe
    from medxai.model.load import load_model, parse_factory_args

    if network.model is None:
        return ()
    if image is None or network.weights is None or network.recipe is None or network.target is None:
        raise UsageError(
            "The network cannot be asked.", expected="--model with --weights, --recipe, --target and --image"
        )
    loaded = load_model(network.model, network.weights, factory_args=parse_factory_args(list(network.arguments)))
    how = None if network.method is None else catalog.method(network.method, found.provenance.layer or "auto")
    asking = Asking(
        loaded, parse_target(network.target), Recipe.from_yaml(network.recipe), how, device=network.device, seed=seed
    )
    return evaluate_model(found, image, asking, ASKED.get(preset) if how is not None else None)


def _films(folder: Path, truth: Path, seed: int, as_json: bool) -> None:
    """CheXlocalize's own table of a folder of its map files."""
    from medxai.cli.progress import steps
    from medxai.cli.report import print_json, print_table

    with steps(2) as step:
        step("loading")
        from medxai.evaluation.films import film_table, mean_over_findings, score_films
        from medxai.io.chexlocalize import read_annotations

        annotations = read_annotations(truth)
        maps = sorted(path for ending in ("_map.npz", "_map.pkl") for path in folder.rglob(f"*{ending}"))
        step("scoring")
        rows = film_table(score_films(maps, annotations), seed)
    hit, iou, left = mean_over_findings(rows)
    if as_json:
        overall = {"hit": None if isnan(hit) else hit, "iou": None if isnan(iou) else iou, "left_out": list(left)}
        print_json({"findings": [row.as_dict() for row in rows], "mean_over_findings": overall})
        return
    print_table(
        [
            {
                "finding": row.finding,
                "films": row.films,
                "annotated": row.annotated,
                "hit rate": str(row.hit),
                "mIoU (Otsu)": str(row.iou),
                "mIoU (tuned thresholds)": str(row.iou_tuned),
            }
            for row in rows
        ]
    )
    if not isnan(hit):
        typer.echo(f"mean over the findings with 10 or more annotated films: hit rate {hit:.3f}, mIoU {iou:.3f}")
    if left:
        typer.echo(f"note: left out of the mean, too few annotated films: {', '.join(left)}")


def _show(
    scored: "Mapping[str, Evaluation]", answers: "Sequence[Score]", repeated: Mapping[str, Any], as_json: bool
) -> None:
    from medxai.cli.report import print_json, print_table, show_evaluation, show_scores

    if as_json:
        whole: dict[str, Any] = {name: evaluation.as_dict() for name, evaluation in scored.items()}
        whole = whole[""] if list(whole) == [""] else {"annotations": whole}
        whole |= {"asked": [score.as_dict() for score in answers]} if answers else {}
        whole |= {"again": {name: _plain(row) for name, row in repeated.items()}} if repeated else {}
        print_json(whole)
        return
    said: tuple[str, ...] = ()
    for name, evaluation in scored.items():
        if name:
            typer.echo(f"{name}:")
        show_evaluation(evaluation, said)
        said += evaluation.notices
    if answers:
        typer.echo("asking the network:")
        show_scores(answers)
    if repeated:
        typer.echo("the same case again:")
        print_table([{"map": name, **{key: _plain(row)[key] for key in row}} for name, row in repeated.items()])


def _plain(row: Mapping[str, Any]) -> dict[str, Any]:
    return {key: None if isinstance(value, float) and isnan(value) else value for key, value in row.items()}
