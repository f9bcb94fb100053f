"""Was a map made of the network, image, preparation and question that it is held against?"""

import json
from collections.abc import Mapping, Sequence
from typing import Any

from medxai.core.saliency import Saliency
from medxai.core.volume import Volume
from medxai.evaluation.asking import Asking
from medxai.model.load import weights_sha256
from medxai.model.tap import tapped


def otherwise(saliency: Saliency, image: Volume, asking: Asking) -> tuple[str, ...]:
    """A sentence for each of these that is not what the provenance of the map tells; none where it tells nothing.

    To ask another network or another question is sound where that is the question (metrics between models).
    """
    told = saliency.provenance
    shape = tuple(asking.recipe.apply(image).images.shape)
    weights = weights_sha256(tapped(asking.model, asking.output, shape))
    compared = (
        (
            f"of other weights ({told.weights_sha256[:8]}) than those that are asked ({weights[:8]})",
            *(told.weights_sha256, weights),
        ),
        (
            f"of another image ({told.input_sha256[:8]}) than the one that is asked about ({image.digest[:8]})",
            *(told.input_sha256, image.digest),
        ),
        (
            f"made with recipe {told.recipe_name!r}, whose steps are not those of {asking.recipe.name!r}",
            *(_plain(told.recipe) if told.recipe_name else "", _plain(asking.recipe.description)),
        ),
        (
            f"an answer to {told.target}, and {asking.target!r} is asked",
            *(told.target.partition(" of ")[0], repr(asking.target)),
        ),
    )
    return tuple(f"the map is {what}" for what, then, now in compared if then and then != now)


def _plain(steps: Sequence[Mapping[str, Any]]) -> str:
    return json.dumps(list(steps), default=str, sort_keys=True)
