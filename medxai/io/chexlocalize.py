"""The files of CheXlocalize: annotations as polygons or COCO run lengths, maps as npz or pickles of tensors."""

import io
import json
import pickle
from collections import OrderedDict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import numpy as np
import torch
from numpy.typing import NDArray

from medxai.core.volume import Mask
from medxai.errors import InputError, UnknownNameError
from medxai.io.film import flat_geometry
from medxai.shapes import Map


@dataclass(frozen=True, eq=False)
class Annotations:
    """The annotated films of one file by name, decoded film by film: a set of 668 films is 40 GB of pixels."""

    path: Path
    entries: Mapping[str, Mapping[str, Any]]

    def __iter__(self) -> Iterator[str]:
        return iter(sorted(self.entries))

    def __len__(self) -> int:
        return len(self.entries)

    def __contains__(self, film: object) -> bool:
        return film in self.entries

    def mask(self, film: str, finding: str) -> Mask:
        """The region of a finding on a film; a film without that finding has an empty one.

        Raises UnknownNameError for a film that is not annotated, and InputError for an entry that cannot be read.
        """
        if film not in self.entries:
            raise UnknownNameError(f"{self.path}: no film {film!r}.", expected=f"one of {len(self)} films")
        entry = self.entries[film]
        try:
            pixels = _polygons(entry, finding) if "img_size" in entry else _run_lengths(entry, finding)
        except (KeyError, TypeError, ValueError, IndexError, OverflowError) as error:
            raise InputError(
                f"{self.path}: the entry of {finding!r} on {film!r} cannot be read.",
                expected="polygons with img_size, or COCO run lengths with size and counts",
                found=f"{type(error).__name__}: {error}",
            ) from error
        return Mask(torch.from_numpy(pixels), flat_geometry(pixels.shape, None))


@dataclass(frozen=True, eq=False)
class FilmMap:
    """A map of one finding on one film: values at the model's size, shape of the film, probability of the model."""

    film: str
    finding: str
    values: Map
    shape: tuple[int, int]
    probability: float


@dataclass(frozen=True)
class Points:
    """Where a reader saw the findings: pixels (x, y) by film and finding."""

    entries: Mapping[str, Mapping[str, tuple[tuple[float, float], ...]]]

    def of(self, film: str, finding: str) -> tuple[tuple[float, float], ...]:
        """The points of a finding on a film; none where the reader set none."""
        return self.entries.get(film, {}).get(finding, ())


def read_points(path: str | Path) -> Points:
    """A reader's points: a JSON object of films, each an object of findings, each a list of [x, y]. InputError else."""
    entries = read_annotations(path).entries
    try:
        points = {
            film: {
                name: tuple((float(x), float(y)) for x, y in places)
                for name, places in own.items()
                if name != "img_size"
            }
            for film, own in entries.items()
        }
    except (TypeError, ValueError) as error:
        raise InputError(
            f"{path} holds no points.", expected="a list of [x, y] per finding and film", found=f"{error}"
        ) from error
    return Points(points)


def read_annotations(path: str | Path) -> Annotations:
    """The annotations of a JSON file, polygons (with img_size) or segmentations (run lengths). Raises InputError."""
    path = Path(path)
    try:
        entries = json.loads(path.read_text("utf-8"))
    except (OSError, ValueError) as error:
        raise InputError(f"{path} is no JSON file.", found=f"{error}") from error
    if not isinstance(entries, dict) or not all(isinstance(entry, dict) for entry in entries.values()):
        raise InputError(f"{path} holds no annotations.", expected="an object of films, each an object of findings")
    return Annotations(path, entries)


def read_film_map(path: str | Path) -> FilmMap:
    """A map file: npz (map, prob, task, cxr_dims_wh), or the published pickle of tensors, of which no code is run.

    The film is named by the file, as in `patient1_study1_view1_frontal_Edema_map.pkl`, or by its folder for an npz.
    Raises InputError.
    """
    path = Path(path)
    fields = _npz(path) if path.suffix == ".npz" else _pickle(path)
    try:
        values = torch.as_tensor(fields["map"]).to(torch.float32).squeeze()
        finding, (width, height) = str(fields["task"]), (int(n) for n in fields["cxr_dims"])
        probability = _probability(fields["prob"])
    except (KeyError, TypeError, ValueError, OverflowError) as error:
        raise InputError(
            f"{path} is no map of CheXlocalize.",
            expected="map, prob, task and cxr_dims",
            found=f"{type(error).__name__}: {error}",
        ) from error
    if values.ndim != 2 or not values.numel():
        raise InputError(f"{path}: a map has two axes.", found=f"shape {tuple(values.shape)}")
    broken = int((~values.isfinite()).sum())
    if broken:
        raise InputError(
            f"{path}: some values of the map are no numbers.",
            expected="finite values",
            found=f"{broken} of {values.numel()} NaN or infinite",
            code="N12",
        )
    if not 0 <= probability <= 1:
        raise InputError(f"{path}: prob is no probability.", expected="0 to 1", found=f"{probability}")
    name = path.parent.name if path.suffix == ".npz" else path.stem.removesuffix(f"_{finding}_map")
    return FilmMap(name, finding, values, (height, width), probability)


def patient_of(film: str) -> str:
    """The patient of a film, the part of its name before the study."""
    return film.partition("_")[0]


def decode_counts(counts: str | Sequence[int], size: Sequence[int]) -> NDArray[np.bool_]:
    """The pixels (rows, columns) of COCO run lengths: column by column, runs of outside and inside in turn.

    A string holds 5 bits of a run per character, from 48 on, bit 5 saying that more follow, the last one its sign;
    from the third on a run is stated as its difference to the one before the last.
    """
    runs = np.array(_runs(counts) if isinstance(counts, str) else list(counts), np.int64)
    rows, columns = (int(n) for n in size)
    if (runs < 0).any() or runs.sum() != rows * columns:
        raise ValueError(f"runs of {runs.sum()} pixels for a film of {rows} x {columns}")
    inside = np.repeat(np.arange(len(runs)) % 2 == 1, runs)
    return np.ascontiguousarray(inside.reshape(columns, rows).T)


def _runs(text: str) -> list[int]:
    runs: list[int] = []
    place = 0
    while place < len(text):
        value = shift = 0
        more = True
        while more:
            bits = ord(text[place]) - 48
            value |= (bits & 31) << shift
            more, place, shift = bool(bits & 32), place + 1, shift + 5
        if bits & 16:
            value -= 1 << shift
        runs.append(value + runs[-2] if len(runs) > 2 else value)
    return runs


def _run_lengths(entry: Mapping[str, Any], finding: str) -> NDArray[np.bool_]:
    if not entry:
        raise ValueError("an empty entry, which does not state the film's size")
    if finding not in entry:
        return np.zeros([int(n) for n in next(iter(entry.values()))["size"]], bool)
    return decode_counts(entry[finding]["counts"], entry[finding]["size"])


def _polygons(entry: Mapping[str, Any], finding: str) -> NDArray[np.bool_]:
    """Filled with their outlines, as the authors draw them."""
    from PIL import Image, ImageDraw

    rows, columns = (int(n) for n in entry["img_size"])
    film = Image.new("1", (columns, rows))
    for polygon in entry.get(finding, []):
        ImageDraw.Draw(film).polygon([(float(x), float(y)) for x, y in polygon], outline=1, fill=1)
    return np.array(film, bool)


def _npz(path: Path) -> Mapping[str, Any]:
    try:
        with path.open("rb") as file, np.load(file, allow_pickle=False) as stored:
            fields = {name: stored[name] for name in stored.files}
    except (OSError, ValueError, EOFError, BadZipFile) as error:
        raise InputError(f"{path} cannot be read.", found=f"{error}") from error
    return {**fields, "cxr_dims": fields.get("cxr_dims_wh", fields.get("cxr_dims"))}


def _pickle(path: Path) -> Mapping[str, Any]:
    try:
        with path.open("rb") as file:
            fields = _TensorsOnly(file).load()
    except Exception as error:  # a damaged pickle raises anything
        raise InputError(f"{path} is no pickle of tensors alone.", found=f"{error}") from error
    if not isinstance(fields, dict):
        raise InputError(f"{path} is no map of CheXlocalize.", found=f"a pickled {type(fields).__name__}")
    return fields


class _TensorsOnly(pickle.Unpickler):
    """Builds tensors, dictionaries and plain values; every other name in the file is refused before it is looked up."""

    def find_class(self, module: str, name: str) -> Any:
        known = {
            ("collections", "OrderedDict"): OrderedDict,
            ("torch._utils", "_rebuild_tensor_v2"): torch._utils._rebuild_tensor_v2,
            ("torch.storage", "_load_from_bytes"): _storage,
        }
        if (module, name) not in known:
            raise pickle.UnpicklingError(f"it asks for {module}.{name}")
        return known[module, name]


def _storage(content: bytes) -> Any:
    return torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)


def _probability(value: Any) -> float:
    numbers = np.asarray(value, np.float64).ravel()
    if numbers.size != 1:
        raise ValueError(f"one probability, not {numbers.size}")
    return float(numbers[0])
