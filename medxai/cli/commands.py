"""The commands that compute: explain, demo."""

from pathlib import Path
from typing import Annotated

import typer

from medxai.cli.options import (
    Blending,
    Device,
    Factory,
    FactoryArgs,
    Images,
    Label,
    Margin,
    MaskFile,
    MaskImage,
    Output,
    Overlap,
    RecipeFile,
    Seed,
    Spacing,
    Weights,
    WeightsDigest,
    Window,
)
from medxai.cli.reading import with_read_options
from medxai.io.options import DEFAULT, ReadOptions


@with_read_options
def explain(  # noqa: PLR0913, PLR0917 - one parameter per option
    images: Images,
    model: Factory,
    weights: Weights,
    recipe: RecipeFile,
    target: Annotated[str, typer.Option("--target", help="What to explain: a class number, or see the documentation.")],
    out: Annotated[Path, typer.Option("-o", "--out", help="Folder for the results.")],
    factory_arg: FactoryArgs = None,
    weights_sha256: WeightsDigest = None,
    method: Annotated[str, typer.Option("--method", help="A name from `medxai methods`.")] = "GradCAM",
    layer: Annotated[
        str, typer.Option("--layer", help="A name from `medxai layers`, several with commas to combine them, or auto.")
    ] = "auto",
    output: Output = None,
    allow_stochastic: Annotated[
        bool, typer.Option("--allow-stochastic", help="Explain one draw of a network that answers by chance.")
    ] = False,
    signed: Annotated[
        bool, typer.Option("--signed", help="Keep what speaks against the target, as negative values.")
    ] = False,
    orthogonal: Annotated[
        bool,
        typer.Option("--orthogonal", help="Write the map of a tilted series on a grid without shear."),
    ] = False,
    window: Window = None,
    overlap: Overlap = 0.25,
    margin: Margin = 0,
    blend: Blending = "constant",
    mask: MaskFile = None,
    label: Label = None,
    spacing: Spacing = None,
    device: Device = "auto",
    seed: Seed = 0,
    mask_image: MaskImage = None,
    options: ReadOptions = DEFAULT,
) -> None:
    """Explain one case and write saliency.nii.gz, overlay.png, provenance.json and, with --mask, scores.json."""
    from medxai.cli.progress import steps

    with steps(5) as step:
        step("loading")
        import medxai
        from medxai import catalog
        from medxai.cli.checks import read_inputs, refuse_own_input
        from medxai.cli.report import show_evaluation, show_saliency
        from medxai.cli.targets import in_windows, keeping_sign, parse_output, parse_target
        from medxai.errors import MedxaiError
        from medxai.model.load import parse_factory_args
        from medxai.overlay import refuse_folder

        refuse_own_input([*images, *([mask] if mask else [])], out)
        refuse_folder(out)
        goal = parse_target(target)
        part = None if output is None else parse_output(output)
        how = catalog.method(method, layer)
        how = keeping_sign(how) if signed else how
        how = in_windows(how, window, overlap, margin, blend) if window else how
        prepare = medxai.Recipe.from_yaml(recipe)
        case, region = read_inputs(images, mask, label, spacing, options, mask_image)
        step("model")
        arguments = parse_factory_args(factory_arg or [])
        network = medxai.load_model(model, weights, factory_args=arguments, sha256=weights_sha256)
        step("explaining")
        saliency = medxai.explain(
            network,
            case,
            how,
            goal,
            prepare,
            device=device,
            seed=seed,
            output=part,
            allow_stochastic=allow_stochastic,
        )
        step("scoring")
        try:
            evaluation = None if region is None else medxai.evaluate(saliency, region, options=options)
        except MedxaiError:
            medxai.save_overlay(saliency, case, out, orthogonal=orthogonal)
            show_saliency(saliency, out)
            raise
        step("writing")
        medxai.save_overlay(saliency, case, out, region, evaluation, orthogonal)
    show_saliency(saliency, out)
    if evaluation is not None:
        show_evaluation(evaluation, said=saliency.provenance.notices)


def demo(
    out: Annotated[Path, typer.Option("-o", "--out", help="Folder for the results.")] = Path("medxai-demo"),
    seed: Seed = 0,
    device: Device = "auto",
) -> None:
    """Build a small synthetic chest-CT cohort, train a 3D classifier, explain and score it: under two minutes."""
    from medxai.demo.run import run_demo

    run_demo(out, seed, device)
