"""The picture says what the values say: colours where the map is, stripes where the model never looked, else grey."""

import io
import subprocess
import sys

import matplotlib as mpl
import numpy as np
import pytest
import torch
from PIL import Image
from scipy import ndimage

from medxai.core.geometry import Geometry
from medxai.core.saliency import Saliency, Status
from medxai.core.volume import Volume
from medxai.render.montage import montage
from medxai.render.overlay import Scene, mask_on, veiled
from medxai.render.palette import Scale, scale_of, window_of
from medxai.render.slices import view
from tests.render.scenes import KNOWN, grid, image_on, mask_at, picture_grid, saliency_on

VOLUME, FILM, SLAB = grid(signs=(-1, 1, 1), tilt=(8.0, 3.0, -5.0)), picture_grid((30, 40), 0.5), grid(shape=(20, 18, 1))
PEAK = {3: (6, 12, 5), 2: (20, 11)}


def _pixels(png: bytes) -> np.ndarray:
    with Image.open(io.BytesIO(png)) as picture:
        return np.asarray(picture.convert("RGB")).astype(int)


def _coloured(png: bytes) -> int:
    pixels = _pixels(png)
    return int((pixels.max(-1) - pixels.min(-1) > 12).sum())


def _chunks(png: bytes) -> set[bytes]:
    found, at = set(), 8
    while at < len(png):
        length = int.from_bytes(png[at : at + 4], "big")
        found.add(png[at + 4 : at + 8])
        at += 12 + length
    return found


@pytest.mark.parametrize("geometry", [VOLUME, FILM], ids=["3D", "2D"])
def test_the_same_values_give_the_same_bytes_and_the_file_holds_only_pixels(geometry: Geometry) -> None:
    at = PEAK[geometry.ndim]
    made = [montage(image_on(geometry), saliency_on(geometry, at), mask_at(geometry, at)) for _ in range(2)]
    with mpl.rc_context({"font.size": 30, "axes.facecolor": "red", "savefig.dpi": 30, "text.color": "blue"}):
        made.append(montage(image_on(geometry), saliency_on(geometry, at), mask_at(geometry, at)))
    assert made[0] == made[1] == made[2]
    assert _chunks(made[0]) == {b"IHDR", b"IDAT", b"IEND"}


def test_a_title_is_drawn_as_written_and_stored_nowhere() -> None:
    png = montage(image_on(FILM), saliency_on(FILM, (20, 11)), title="$x_1$ & <b>")
    assert b"x_1" not in png
    assert png != montage(image_on(FILM), saliency_on(FILM, (20, 11)))
    assert _chunks(png) == {b"IHDR", b"IDAT", b"IEND"}


@pytest.mark.parametrize("geometry", [VOLUME, FILM], ids=["3D", "2D"])
def test_a_degenerate_map_is_named_and_never_drawn(geometry: Geometry) -> None:
    at = PEAK[geometry.ndim]
    drawn = montage(image_on(geometry), saliency_on(geometry, at))
    named = montage(image_on(geometry), saliency_on(geometry, at, status=Status("zero gradient")))
    other = montage(image_on(geometry), saliency_on(geometry, at, status=Status("all negative")))
    assert _coloured(drawn) > 500
    assert _coloured(named) == 0
    assert named != other


def test_a_map_of_zeros_and_a_map_that_missed_the_image_are_not_drawn() -> None:
    nothing = Saliency(torch.zeros(VOLUME.shape), VOLUME, VOLUME, KNOWN)
    far = Geometry(np.diag([1.0, 1.0, 1.0, 1.0]) + np.array([[0, 0, 0, 5000.0]] + [[0.0] * 4] * 3), (4, 4, 4))
    for saliency in (nothing, saliency_on(VOLUME, (6, 12, 5), seen=far)):
        assert _coloured(montage(image_on(VOLUME), saliency)) == 0


@pytest.mark.parametrize(
    "image",
    [
        image_on(SLAB),
        Volume(torch.zeros((1, *VOLUME.shape)), VOLUME),
        Volume(torch.full((1, *FILM.shape), torch.nan), FILM),
        Volume(torch.arange(24 * 20 * 9).reshape(1, 24, 20, 9).to(torch.int16), VOLUME, "CT"),
        Volume(torch.zeros((1, *FILM.shape), dtype=torch.uint8), FILM),
    ],
    ids=["one slice", "constant", "all NaN", "int16", "uint8"],
)
def test_odd_images_make_pictures(image: Volume) -> None:
    at = tuple(n // 2 for n in image.geometry.shape)
    assert _coloured(montage(image, saliency_on(image.geometry, at))) > 100


def test_a_second_channel_changes_the_caption_and_nothing_else() -> None:
    two = image_on(FILM, channels=2)
    one = Volume(two.data[:1], FILM)
    a, b = (_pixels(montage(image, saliency_on(FILM, (20, 11)))) for image in (one, two))
    changed = np.flatnonzero((a != b).any((1, 2)))
    assert changed.size
    assert changed.max() < 68


def _scene(seen: slice = slice(None), mask: np.ndarray | None = None) -> Scene:
    image = image_on(VOLUME).data[0].numpy()
    values = saliency_on(VOLUME, (6, 12, 5)).data.numpy().copy()
    unseen = np.ones(VOLUME.shape, bool)
    unseen[seen] = False
    values[unseen] = np.nan
    return Scene(VOLUME, image, window_of(image), values, mask, scale_of(values))


def test_unseen_voxels_are_veiled_and_zero_voxels_are_bare() -> None:
    scene, plane = _scene(slice(3, None)), view(VOLUME, 2, 5)
    size = (24 * 4, 20 * 4)
    film, over = scene.film(plane, size), scene.overlay(plane, size)
    outside = np.repeat(np.repeat(np.isnan(plane.cut(scene.values)), 4, 0), 4, 1)
    assert outside.any()
    assert np.array_equal(over[outside], veiled(film)[outside])
    assert np.ptp(over[outside], axis=-1).max() == 0
    values = plane.cut(np.nan_to_num(scene.values))
    bare = np.repeat(np.repeat((values == 0) & ~np.isnan(plane.cut(scene.values)), 4, 0), 4, 1)
    inner = ndimage.binary_erosion(bare, np.ones((9, 9)))
    assert inner.any()
    assert np.array_equal(over[inner], film[inner])


def test_the_strongest_colour_lies_where_the_map_peaks() -> None:
    scene = _scene()
    for axis, index in ((0, 6), (1, 12), (2, 5)):
        plane = view(VOLUME, axis, index)
        size = (240, 180)
        tint = np.ptp(scene.overlay(plane, size), axis=-1)
        row, column = np.argwhere(tint > 0.9 * tint.max()).mean(0)
        across, down = plane.place((6, 12, 5), VOLUME.shape3)
        assert (column / size[0], row / size[1]) == pytest.approx((across, down), abs=0.03)


def test_a_mask_on_another_grid_is_drawn_at_its_own_place() -> None:
    other = grid(order=(2, 0, 1), signs=(1, -1, 1), spacing=(2.0, 1.0, 1.2), shape=(30, 40, 45))
    shifted = Geometry(other.affine, other.shape)
    centre = shifted.index(VOLUME.world(np.array([10.0, 9.0, 4.0])))
    at = tuple(round(float(v)) for v in centre)
    mask = mask_at(shifted, at, radius=2)
    shown = np.argwhere(mask_on(mask, VOLUME))
    assert VOLUME.world(shown.mean(0)) == pytest.approx(shifted.world(np.array(at, float)), abs=1.0)
    assert np.array_equal(mask_on(mask, shifted), mask.data.numpy())


def test_a_signed_map_has_symmetric_limits_and_two_hues() -> None:
    scale = scale_of(np.array([-3.0, 0.5, 1.0, np.nan]))
    assert scale == Scale(3.0, signed=True)
    negative, positive = scale.colours(np.array([-3.0, 3.0]))
    assert negative[2] > negative[0]
    assert positive[0] > positive[2]
    assert np.array_equal(scale.cover(np.array([-1.0, 0.0, np.nan])), [scale.cover(np.array([1.0]))[0], 0, 0])


def test_a_stronger_value_is_brighter_and_hides_more() -> None:
    scale = Scale(2.0, signed=False)
    values = np.linspace(0, 2, 50)
    light = scale.colours(values) @ np.array([0.2126, 0.7152, 0.0722])
    assert (np.diff(light) > 0).all()
    assert (np.diff(scale.cover(values)) > 0).all()
    assert scale.cover(values).max() < 0.8
    assert scale_of(np.zeros(4)) is None
    assert scale_of(np.full(4, np.nan)) is None


def test_the_window_ignores_the_value_that_fills_the_background() -> None:
    tissue = np.linspace(100, 200, 1001)
    padded = np.concatenate([np.full(9000, -5.0), tissue])
    assert window_of(padded) == pytest.approx((101, 199))
    assert window_of(tissue) == pytest.approx((101, 199))
    assert window_of(np.full(5, 7.0)) == (7.0, 8.0)
    assert window_of(np.array([0.0] * 1000 + [1.0])) == (0.0, 1.0)


def test_drawing_leaves_pyplot_alone() -> None:
    code = (
        "import sys; from tests.render.scenes import *; from medxai.render.montage import montage; "
        "g = picture_grid((9, 9)); montage(image_on(g), saliency_on(g, (4, 4))); "
        "print('matplotlib.pyplot' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)  # noqa: S603
    assert done.stdout.strip() == "False"
