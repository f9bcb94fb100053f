"""Preprocessing as a value: MONAI transforms, affine in space, whose accumulated affine is the model's grid."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
import yaml
from jaxtyping import Float
from torch import Tensor

from medxai.core.geometry import Geometry
from medxai.core.volume import Volume
from medxai.errors import GeometryError, RecipeError
from medxai.io.content import read_bytes
from medxai.io.monai import to_metatensor
from medxai.io.recipe_steps import FAILURES, Step, step_from_yaml, steps_from_transforms
from medxai.shapes import Affine

_FLAT = 0.5  # of the voxels of a channel
_NEEDS = {
    "Orientation": "patient axes, and nothing says how this image lies in the patient",
    "Spacing": "millimetres, and the pixel size of this image is unknown",
}


@dataclass(frozen=True, eq=False)
class Prepared:
    """What the model sees, and where in the patient each of its voxels lies."""

    images: Float[Tensor, "1 c *s"]
    geometry: Geometry
    notices: tuple[str, ...] = ()


@dataclass(frozen=True, eq=False)
class Recipe:
    """Named steps from a volume on its own grid to the model's input; the same for every image."""

    name: str
    steps: tuple[Step, ...] = field(default=(), repr=False)

    @classmethod
    def identity(cls) -> "Recipe":
        """The recipe without steps: the voxels as read, float32."""
        return cls("identity")

    @classmethod
    def from_yaml(cls, path: str | Path) -> "Recipe":
        """The recipe of a YAML file {name: ..., transforms: [{Name: {parameter: value}}, ...]}.

        Raises `RecipeError` for anything else in it: unknown transforms (with near matches), unknown or refused
        parameters, random transforms and such as are not affine in space.
        """
        path = Path(path)
        content = _parsed(path)
        if not isinstance(content, Mapping) or set(content) != {"name", "transforms"}:
            raise RecipeError(
                f"{path}: not a recipe.",
                expected="the two entries `name` and `transforms`",
                found=_outline(content),
                remedy="Write `name: ...` and `transforms: [...]`; without steps, `transforms: []`.",
            )
        name, entries = content["name"], content["transforms"]
        if not isinstance(name, str) or not isinstance(entries, list):
            raise RecipeError(f"{path}: not a recipe.", expected="a text `name` and a list `transforms`")
        try:
            return cls(name, tuple(step_from_yaml(entry) for entry in entries))
        except RecipeError as error:
            raise RecipeError(f"{path}: {error}") from error

    @classmethod
    def from_compose(cls, transforms: Any, name: str = "compose", trusted: Sequence[str] = ()) -> "Recipe":
        """The recipe of a MONAI Compose, or of a list of transforms, array or dictionary (key "image").

        Reading steps are left out, transforms of other keys too. A class that is not allowed is refused by name
        unless `trusted` names it: its affine is then believed.
        """
        given = getattr(transforms, "transforms", transforms)
        if not isinstance(given, Sequence) or isinstance(given, str):
            given = [given]
        return cls(name, steps_from_transforms(given, tuple(trusted)))

    @property
    def description(self) -> tuple[dict[str, Any], ...]:
        """Every step by class name and settings, in JSON's own types; trusted steps by class name alone.

        Texts other than short words such as modes are withheld: they could name a file or a person.
        """
        return tuple({"transform": step.name, "parameters": dict(step.parameters)} for step in self.steps)

    def apply(self, volume: Volume) -> Prepared:
        """The model's input and its grid: source affine composed with all that the steps moved.

        Raises `RecipeError` naming the step that fails, that needs millimetres or patient axes of a grid of unknown
        units, or that speaks of patient axes to a 2D image.
        """
        frame = _frame(volume.geometry)
        image = to_metatensor(Volume(volume.data.to(torch.float32), volume.geometry), frame)
        for number, step in enumerate(self.steps, 1):
            self._refuse(step, volume.geometry)
            image = self._run(number, step, image)
        if image.ndim != volume.data.ndim:
            raise RecipeError(
                f"Recipe {self.name!r} changes the number of axes.",
                expected=f"(channel, {volume.geometry.ndim} spatial axes)",
                found=f"shape {tuple(image.shape)}",
            )
        tracked = np.asarray(image.affine, np.float64)  # type: ignore[attr-defined]
        try:
            geometry = Geometry(
                _patient(volume.geometry, frame, tracked), tuple(image.shape[1:]), volume.geometry.units
            )
        except GeometryError as error:
            raise RecipeError(f"Recipe {self.name!r} leaves no usable grid: {error}") from error
        images = torch.as_tensor(image.as_tensor())[None].to(torch.float32).contiguous()  # type: ignore[attr-defined]
        notices = (*(step.notice for step in self.steps if step.notice), *_flattened(images[0]))
        return Prepared(images, geometry, tuple(dict.fromkeys(notices)))

    def _run(self, number: int, step: Step, image: Tensor) -> Tensor:
        try:
            return step(image)
        except RecipeError:
            raise
        except FAILURES as error:
            raise RecipeError(
                f"Recipe {self.name!r}, step {number} ({step.name}) fails: {error}",
                found=f"an image of shape {tuple(image.shape)}",
                remedy="Check the parameters of the step against this image.",
            ) from error

    def _refuse(self, step: Step, geometry: Geometry) -> None:
        if step.name == "Orientation" and geometry.ndim == 2:
            raise RecipeError(
                f"Recipe {self.name!r}: Orientation speaks of three patient axes, this image has two axes.",
                remedy="Use Flip or Rotate90.",
            )
        if geometry.units != "mm" and step.name in _NEEDS:
            raise RecipeError(
                f"Recipe {self.name!r}: {step.name} needs {_NEEDS[step.name]}.",
                found=f"{geometry}",
                remedy="Load the image with spacing=(row_mm, column_mm), or use Resize."
                if geometry.ndim == 2
                else "Restore the header, or use steps that follow the array axes: Flip, Rotate90, crop, pad, Resize.",
            )


def _flattened(image: Tensor) -> tuple[str, ...]:
    """A sentence where most of a channel has its highest value; air and padding have the lowest."""
    values = image.flatten(1)
    highest = values.amax(1)
    share, channel = (values == highest[:, None]).float().mean(1).max(0)
    if share <= _FLAT:
        return ()
    told = f"{float(share):.0%} of what the network sees has the highest value, {float(highest[channel]):g}"
    return (f"{told}: the image is constant, or the recipe cuts its range off",)


def _parsed(path: Path) -> object:
    if path.is_dir():
        raise RecipeError(
            f"{path}: a recipe is a file.", found="a folder", remedy="Give the path of the YAML file inside it."
        )
    if path.is_file() and path.stat().st_size == 0:
        return None
    try:
        return yaml.safe_load(read_bytes(path))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise RecipeError(f"{path}: not readable as YAML.", found=" ".join(str(error).split())) from error


def _outline(content: object) -> str:
    if content is None:
        return "nothing: the file is empty"
    return ", ".join(map(str, content)) if isinstance(content, Mapping) else f"a {type(content).__name__}"


def _frame(geometry: Geometry) -> Affine:
    """The affine under which MONAI moves the image.

    MONAI cuts the affine of a 2D image to its upper left 2x2, which need not be invertible in the patient: 2D images
    move in the coordinates of their own plane (the R of a QR decomposition: same lengths, same angles).
    """
    if geometry.ndim == 2:
        plane = np.linalg.qr(geometry.affine[:3, :2]).R
        frame = np.eye(4)
        frame[:2, :2] = plane * np.sign(np.diag(plane))[:, None]
        return frame
    return geometry.affine


def _patient(source: Geometry, frame: Affine, tracked: Affine) -> Affine:
    if np.array_equal(tracked, frame):
        return source.affine
    if np.array_equal(frame, source.affine):
        return tracked
    return np.asarray(source.affine @ (np.linalg.inv(frame) @ tracked), np.float64)
