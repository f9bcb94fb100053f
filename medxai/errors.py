"""Every exception medxai raises on purpose; each message says what was expected, what came and what to do."""


class MedxaiError(Exception):
    """Base class: `except MedxaiError` catches all deliberate errors and nothing else.

    `code` names the row of docs/bad_inputs.md that the input fell under, and leads the message as [D20].
    """

    def __init__(self, problem: str, *, code: str = "", expected: str = "", found: str = "", remedy: str = "") -> None:
        self.code = code
        mark = code and f"[{code}]"
        parts = (mark, problem, expected and f"Expected {expected}.", found and f"Found {found}.", remedy)
        super().__init__(" ".join(part for part in parts if part))


class UsageError(MedxaiError, TypeError):
    """An argument is not of the kind that the function takes."""


def refuse_other_kind(what: str, fits: bool, expected: str, found: object) -> None:
    """Raise UsageError where the argument `what` does not fit; what is long to say is told by its type."""
    if fits:
        return
    said = repr(found)
    told = said if len(said) <= 80 else f"a {type(found).__name__}"
    raise UsageError(f"This {what} cannot be used.", expected=expected, found=told)


class InputError(MedxaiError, ValueError):
    """A file or array is not what its reader promises to accept."""


class GeometryError(MedxaiError, ValueError):
    """A grid, an orientation or a millimetre is missing or contradicts another."""


class MaskError(MedxaiError, ValueError):
    """An annotation cannot be read as one foreground region."""


class RecipeError(MedxaiError, ValueError):
    """A preprocessing recipe is malformed, or moves voxels in a way no affine describes."""


class ModelError(MedxaiError, RuntimeError):
    """A model cannot be built, does not fit its input, or gave an unusable output."""


class WeightsError(ModelError):
    """A weights file is unsafe, damaged, or does not fit the architecture."""


class LayerError(ModelError):
    """A layer exists but its output cannot carry a map."""


class LayerNotFoundError(LayerError, LookupError):
    """A layer name matches nothing in the model."""


class DisconnectedError(LayerError):
    """No gradient path joins the target to the layer."""


class FootprintError(LayerError):
    """It is unknown where in the image the cells of a layer look."""


class NonFiniteError(ModelError):
    """The model answered NaN or infinity, so there is nothing to explain."""


class TargetError(MedxaiError, ValueError):
    """A target cannot be read from the model's output."""


class DeviceError(MedxaiError, ValueError):
    """A device was asked for that this machine does not have."""


class UnknownNameError(MedxaiError, LookupError):
    """The catalogue has no method or metric of that name."""


class CatalogError(MedxaiError, RuntimeError):
    """Two rows of the catalogue claim one name."""


class WriteError(MedxaiError, OSError):
    """An output could not be written whole; nothing half-written stays behind."""
