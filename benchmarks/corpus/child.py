"""One reader in a process of its own: a path per line on stdin, a JSON answer per line on stdout, voxels in a file.

python -m benchmarks.corpus.child medxai|MONAI|SimpleITK FOLDER
"""

import json
import os
import resource
import sys
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

Answer = tuple[NDArray[Any], NDArray[Any], tuple[str, ...]]
"""Voxels (i, j[, k]), affine to RAS+ mm, and what the reader told."""

MEMORY = 6 * 2**30
FLIP = np.diag([-1.0, -1.0, 1.0, 1.0])


def medxai_reader(path: str) -> Answer:
    from medxai.io.read import read_volume

    volume = read_volume(path)
    return volume.data[0].numpy(), volume.geometry.affine, volume.notices


def monai_reader(path: str) -> Answer:
    from monai.transforms import LoadImage

    image = LoadImage(image_only=True)(path)
    return np.asarray(image), np.asarray(image.affine, np.float64), ()


def simpleitk_reader(path: str) -> Answer:
    import SimpleITK

    if Path(path).is_dir():
        names = SimpleITK.ImageSeriesReader.GetGDCMSeriesFileNames(path)
        if not names:
            raise ValueError("no series")
        image = SimpleITK.ReadImage(names)
    else:
        image = SimpleITK.ReadImage(path)
    size = image.GetDimension()
    affine = np.eye(4)
    direction = np.array(image.GetDirection()).reshape(size, size)
    affine[:size, :size] = direction * np.array(image.GetSpacing())
    affine[:size, 3] = image.GetOrigin()
    array = SimpleITK.GetArrayFromImage(image)
    array = array[..., 0] if image.GetNumberOfComponentsPerPixel() > 1 else array
    return array.T, FLIP @ affine, ()


READERS: dict[str, Callable[[str], Answer]] = {
    "medxai": medxai_reader,
    "MONAI": monai_reader,
    "SimpleITK": simpleitk_reader,
}


def answer(read: Callable[[str], Answer], path: str, out: Path) -> dict[str, Any]:
    with warnings.catch_warnings(record=True) as remarks:
        warnings.simplefilter("always")
        try:
            array, affine, told = read(path)
        except Exception as error:
            ours = "medxai.errors" in {base.__module__ for base in type(error).__mro__}
            return {"error": f"{type(error).__name__}: {error}"[:300], "code": getattr(error, "code", ""), "ours": ours}
    np.save(out, np.asarray(array))
    warned = [str(remark.message)[:120] for remark in remarks if issubclass(remark.category, UserWarning)]
    return {"affine": affine.tolist(), "told": list(told), "warned": warned}


def main() -> None:
    """Answer until stdin ends; what a reader prints goes to stderr."""
    replies = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    read, folder = READERS[sys.argv[1]], Path(sys.argv[2])
    for n, line in enumerate(sys.stdin):
        out = folder / f"{n % 2}.npy"
        reply = answer(read, line.rstrip("\n"), out)
        replies.write(json.dumps(reply | {"file": str(out)}) + "\n")
        replies.flush()


if __name__ == "__main__":
    main()
