"""The command that scores: a map, a folder of chest-film maps, or a table of cases, against annotations."""

import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from math import isnan
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from medxai.cli.evaluate_arun import Judged, OtherModel, OtherWeights, RetrainedWeights, judge
from medxai.cli.evaluate_atlas import Atlas, print_structures
from medxai.cli.evaluate_cohort import How, score_table
from medxai.cli.evaluate_films import Films, ReaderPoints, TuneMaps, TuneTruth, score_folder
from medxai.cli.evaluate_given import CRITERIA, FILMS, MAP, MAP_AND_NETWORK, TABLE, refuse_unused
from medxai.cli.evaluate_network import (
    Asked,
    AskedBaseline,
    AskedLayer,
    AskedLink,
    AskedMethod,
    AskedOutput,
    AskedRecipe,
    AskedTarget,
    AskedUnits,
    AskedWeights,
    Checkpoint,
    Input,
    Method,
    Network,
    Question,
    Removal,
)
from medxai.cli.options import AsJson, Device, FactoryArgs, MaskImage, Seed, Spacing
from medxai.cli.reading import with_read_options
from medxai.io.options import DEFAULT, ReadOptions

if TYPE_CHECKING:
    from collections.abc import Callable

    from medxai.core.annotation import Annotation
    from medxai.core.saliency import Saliency
    from medxai.core.volume import Mask, Volume
    from medxai.evaluation import Evaluation, Score
    from medxai.evaluation.agreement import Agreement
    from medxai.evaluation.asking import Asking
    from medxai.metrics.atlas import Structure


@with_read_options
def evaluate(  # noqa: PLR0913, PLR0917 - one parameter per option
    saliency: Annotated[
        Path,
        typer.Argument(
            help="Saliency map; a table of cases (.csv: saliency, mask; label, finding, patient, case, group, image, "
            "domain); with --preset chexlocalize also a folder of maps."
        ),
    ],
    masks: Annotated[
        list[Path] | None,
        typer.Argument(help="Annotation, on any grid of the same patient; several are several readers of one finding."),
    ] = None,
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
    atlas: Atlas = None,
    image: Annotated[
        Path | None,
        typer.Option("--image", help="The image: adds its edges and the body as chance rows; needed with --model."),
    ] = None,
    other: Annotated[
        list[Path] | None, typer.Option("--other", help="Another patient's map, for the mean map; repeat for more.")
    ] = None,
    again: Annotated[
        list[Path] | None, typer.Option("--again", help="Map of this case by another training or architecture.")
    ] = None,
    places: Annotated[
        int, typer.Option("--places", min=0, help="Lay the finding at so many other places, 19 or more, for a p-value.")
    ] = 0,
    noise: Annotated[bool, typer.Option("--noise/--no-noise", help="A map of noise as a chance row.")] = True,
    tune_maps: TuneMaps = None,
    tune_truth: TuneTruth = None,
    points: ReaderPoints = None,
    model: Asked = None,
    weights: AskedWeights = None,
    recipe: AskedRecipe = None,
    target: AskedTarget = None,
    method: AskedMethod = None,
    layer: AskedLayer = None,
    output: AskedOutput = None,
    link: AskedLink = None,
    units: AskedUnits = None,
    baseline: AskedBaseline = None,
    factory_arg: FactoryArgs = None,
    retrained: RetrainedWeights = None,
    other_model: OtherModel = None,
    other_weights: OtherWeights = None,
    spacing: Spacing = None,
    mask_image: MaskImage = None,
    device: Device = "auto",
    seed: Seed = 0,
    as_json: AsJson = False,
    options: ReadOptions = DEFAULT,
) -> None:
    """Score a saliency map against an annotation, beside what maps that know nothing would score."""
    given = dict(locals())
    from medxai.cli.progress import steps
    from medxai.errors import UsageError

    drawings = tuple(masks or ())
    network = Network(
        Checkpoint(model, weights, factory_arg),
        Question(target, output, link),
        Input(image, recipe, options),
        Method(method, layer),
        Removal(units, baseline),
        device,
        seed,
    )
    if saliency.suffix.lower() == ".csv":
        if drawings or (model is not None and preset != "arun"):
            raise UsageError("A table of cases names its own annotations, and asks a network by --preset arun alone.")
        if model is not None:
            refuse_unused(evaluate, given, "A table judged by the criteria of Arun", CRITERIA)
            judge(saliency, Judged(network, retrained, other_model, other_weights, spacing, options), as_json)
            return
        refuse_unused(evaluate, given, "A table of cases", TABLE)
        score_table(saliency, How(metric, preset, options, spacing, noise, places, seed), as_json)
        return
    if saliency.is_dir():
        if preset != "chexlocalize" or len(drawings) != 1:
            raise UsageError("A folder of maps is scored by --preset chexlocalize, against one annotation file.")
        refuse_unused(evaluate, given, "A folder of maps", FILMS)
        score_folder(Films(saliency, drawings[0], tune_maps, tune_truth, points), seed, as_json)
        return
    if not drawings:
        raise UsageError("There is nothing to score the map against.", expected="a map and its annotation")
    with steps(3) as step:
        step("loading")
        import medxai
        from medxai.cli.checks import read_domain, read_region
        from medxai.evaluation import Chance, evaluate_labels, presets
        from medxai.evaluation.agreement import sensitivity_to
        from medxai.evaluation.structures import structures

        told, asked = (None, None) if metric is None else presets.apart(metric)
        asks = bool(asked) or (asked is None and model is not None)
        removal = network.removal.taken(presets.asked(asked, preset, method is not None) if asks else ())
        refuse_unused(evaluate, given, "This question of a map", (*(MAP_AND_NETWORK if asks else MAP), *removal))
        if asks:
            network.complete()
        found = medxai.load_overlay(saliency, options.nan)
        asking = network.asking(found.provenance.layer or "auto") if asks else None
        drawn = _annotations(
            drawings, labels or [], lambda path, label: read_region(path, label, spacing, options, mask_image)
        )
        within = None if domain is None else read_domain(domain, spacing, options)
        shown, labelled = (
            None if path is None else medxai.read_volume(path, options=options) for path in (image, atlas)
        )
        chance = Chance(
            shown, tuple(medxai.load_overlay(path, options.nan) for path in other or ()), noise, places, seed
        )
        shared = ((), ()) if labelled is None else structures(found, labelled, options, within)
        step("scoring")
        scored = evaluate_labels(found, drawn, told, options, preset, chance, within)
        repeats = {f"again {n}": medxai.load_overlay(path, options.nan) for n, path in enumerate(again or (), 1)}
        changes = sensitivity_to(found, repeats, next(iter(drawn.values())).geometry)
        step("asking")
        answered = _answered(found, shown, asking, asked, within, preset)
    _show(scored, answered, removal, changes, [path.name for path in again or ()], shared, as_json)


def _answered(
    found: "Saliency",
    image: "Volume | None",
    asking: "Asking | None",
    metrics: Sequence[str] | None,
    within: "Mask | None",
    preset: str,
) -> "tuple[Sequence[Score], Sequence[str]]":
    """What the network answers about the map, and what it is asked otherwise than the map was made."""
    from medxai.evaluation.asking import evaluate_model
    from medxai.evaluation.otherwise import otherwise

    if asking is None or image is None:
        return (), ()
    return evaluate_model(found, image, asking, metrics, within, preset), otherwise(found, image, asking)


def _annotations(
    masks: Sequence[Path], labels: Sequence[int], read: "Callable[[Path, int | None], Annotation]"
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


def _show(
    scored: "Mapping[str, Evaluation]",
    asked: "tuple[Sequence[Score], Sequence[str]]",
    removal: Mapping[str, str],
    repeated: "Mapping[str, Agreement]",
    files: Sequence[str],
    shared: "tuple[Sequence[Structure], Sequence[str]]",
    as_json: bool,
) -> None:
    (answers, foreign), (structures, remarks) = asked, shared
    from medxai.cli import names
    from medxai.cli.report import in_decimals, print_json, print_table, show_evaluation, show_scores

    removal = {part: names.said(named, sys.stdout.isatty()) for part, named in removal.items()}
    if as_json:
        whole: dict[str, Any] = {name: evaluation.as_dict() for name, evaluation in scored.items()}
        whole = whole[""] if list(whole) == [""] else {"annotations": whole}
        whole |= {"asked": [score.as_dict() for score in answers]} if answers else {}
        whole |= {"asked_notices": list(foreign)} if foreign else {}
        whole |= {"removal": removal} if removal else {}
        whole |= {"again": {name: _plain(asdict(row)) for name, row in repeated.items()}} if repeated else {}
        whole |= {"structures": [_plain(asdict(row)) for row in structures]} if structures else {}
        whole |= {"structures_notices": list(remarks)} if remarks else {}
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
        for part, named in removal.items():
            typer.echo(f"{part}: {named}")
        show_scores(answers)
        for notice in foreign:
            typer.echo(f"note: {notice}")
    if repeated:
        typer.echo("the same case again:")
        shown = [names.said(file, sys.stdout.isatty()) for file in files]
        rows = zip(repeated.items(), shown, strict=True)
        print_table([{"map": name, "file": file, **in_decimals(asdict(row))} for (name, row), file in rows])
    print_structures(structures, remarks)


def _plain(row: Mapping[str, Any]) -> dict[str, Any]:
    return {key: None if isinstance(value, float) and isnan(value) else value for key, value in row.items()}
