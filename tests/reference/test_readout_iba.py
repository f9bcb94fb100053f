"""A taught bottleneck: on images it never saw its gates open on the planted evidence, without a search."""

import json
from dataclasses import replace

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import nn

from medxai.attribution.bottleneck.iba import IBA
from medxai.attribution.bottleneck.objective import NOISE_ABOVE
from medxai.attribution.bottleneck.readout import Readout, ReadoutIBA, normalised
from medxai.attribution.bottleneck.statistics import estimate
from medxai.attribution.bottleneck.teaching import train_readout
from medxai.attribution.passes import one_pass
from medxai.core.layer import Footprint
from medxai.core.target import ClassScore
from medxai.errors import InputError, UsageError
from medxai.io.write import write_file
from medxai.metrics.localisation import mass_in_mask
from medxai.metrics.reading import Reading
from medxai.model.guard import seeded
from medxai.model.place import between, on_cells, on_image
from tests.networks import CONV, Planted, planted_case

DIMENSIONS = pytest.mark.parametrize("ndim", [2, 3])
TARGET = ClassScore(1)


@pytest.fixture(scope="module")
def taught():
    """A readout of each dimension that learned from 48 images."""
    found = {}
    for ndim in (2, 3):
        batches = torch.cat([planted_case(ndim, seed)[0] for seed in range(100, 148)]).split(8)
        with seeded(0, torch.device("cpu")):
            found[ndim] = train_readout(Planted(ndim), batches, TARGET, ["act", "features"], epochs=14, rate=1e-2)
    return found


def lifts(ndim, readout):
    """How many times its share of the image each unseen evidence holds of the bits."""
    model, shares = Planted(ndim), []
    for seed in range(6):
        x, mask = planted_case(ndim, seed)
        found = ReadoutIBA(readout=readout)(model, x, TARGET)
        assert found.status[0].ok
        assert float(found.details["bits"][0]) == pytest.approx(float(found.maps.sum()))
        shares.append(float(mass_in_mask(Reading(found.maps[0], mask)) / (mask.sum() / mask.numel())))
    return shares


@DIMENSIONS
def test_its_gates_lie_on_the_evidence_of_images_never_seen(ndim, taught):
    untaught = Readout.untaught(TARGET, taught[ndim].statistics)
    assert min(lifts(ndim, taught[ndim])) > 2 * max(lifts(ndim, untaught))
    assert taught[ndim].losses[-1] < 0.4 * taught[ndim].losses[0]


@DIMENSIONS
def test_bits_reach_what_the_score_needs_and_no_further(ndim, taught):
    x, mask = planted_case(ndim, 3)
    bits = ReadoutIBA(readout=taught[ndim])(Planted(ndim), x, TARGET).maps[0]
    assert float(bits[mask].mean()) > 4 * float(bits[~mask].mean())


@DIMENSIONS
def test_its_gates_are_tried_and_their_inverse(ndim, taught):
    """What passes keeps the score, what is held back does not; each row speaks of its own image."""
    x = torch.cat([planted_case(ndim, seed)[0] for seed in range(3)]) + 0.4
    found = ReadoutIBA(readout=taught[ndim]).attribute(Planted(ndim), x, (TARGET, TARGET))
    told, again = (one.details for one in found)
    way = told["clean score"] - told["noise score"]
    torch.testing.assert_close(told["retained"], (told["bottleneck score"] - told["noise score"]) / way)
    assert (told["retained"] > 0.6).all()
    assert (told["complement score"] - told["noise score"] < 0.4 * way).all()
    for name, values in told.items():
        torch.testing.assert_close(again[name], values)
        alone = ReadoutIBA(readout=taught[ndim])(Planted(ndim), x[1:2], TARGET).details[name]
        torch.testing.assert_close(alone[0], values[1], rtol=1e-4, atol=1e-5)


def test_written_and_read_it_is_the_same(taught, tmp_path):
    write_file(tmp_path / "readout.safetensors", taught[3].to_bytes())
    found = Readout.read(tmp_path / "readout.safetensors")
    assert found == taught[3]
    assert hash(found) == hash(taught[3])
    assert found != replace(taught[3], biases=tuple(bias + 1 for bias in taught[3].biases))
    (tmp_path / "other").write_bytes(b"no readout")
    with pytest.raises(InputError, match="holds no readout"):
        Readout.read(tmp_path / "other")


def test_parts_that_do_not_fit_are_refused(taught):
    with pytest.raises(InputError, match="do not fit"):
        replace(taught[2], weights=taught[2].weights[:1] * 3)
    with pytest.raises(InputError, match="do not fit"):
        replace(taught[2], statistics=taught[2].statistics[:1])


def test_another_target_is_refused(taught):
    with pytest.raises(UsageError, match="another target"):
        ReadoutIBA(readout=taught[2])(Planted(2), planted_case(2, 0)[0], ClassScore(0))


@DIMENSIONS
def test_from_one_grid_to_another_through_the_image_and_to_the_same_unchanged(ndim):
    coarse = Footprint((1.0, 0.5, 2.0)[:ndim], (2.0, 3.0, 1.0)[:ndim], (6, 5, 7)[:ndim])
    fine = Footprint((0.0,) * ndim, (1.0, 1.5, 1.0)[:ndim], (12, 10, 9)[:ndim])
    shape, cells = (12, 15, 9)[:ndim], torch.rand(2, 3, *coarse.shape)
    expected = on_cells(on_image(cells, coarse, shape), fine)
    torch.testing.assert_close(between(cells, coarse, fine, shape), expected)
    assert torch.equal(between(cells, coarse, coarse, shape), cells)


@DIMENSIONS
def test_what_comes_before_the_layer_sees_the_image_alone_and_a_few_times(ndim, taught):
    model, sizes = Planted(ndim), list[int]()
    convolve = model.features._conv_forward
    model.features._conv_forward = lambda *args: sizes.append(len(args[0])) or convolve(*args)
    found = [ReadoutIBA(readout=taught[ndim])(model, planted_case(ndim, 0)[0], TARGET) for _ in range(2)]
    real = [size for size in sizes if size]
    assert set(real) == {1}
    assert len(real) <= 2 * 5  # the trace, the pass, and three that hold the network at the layer
    assert torch.equal(found[0].details["noise score"], found[1].details["noise score"])


class Skipped(nn.Module):
    """Evidence is what exceeds 0.9 in a smooth first channel; `around` is what the second adds, round the layer."""

    def __init__(self, ndim: int, around: float, sign: float = 1.0) -> None:
        super().__init__()
        self.layer, self.around, self.sign = CONV[ndim](1, 2, 3, padding=1, bias=False), around, sign
        nn.init.constant_(self.layer.weight, 1.8 / 3**ndim)

    def forward(self, x):
        evidence = (self.layer(x[:, :1]) - 0.9).relu().flatten(1).mean(1)
        score = self.sign * evidence + self.around * x[:, 1:].flatten(1).mean(1)
        return torch.stack([-score, score], 1)


def leveled(ndim, evidence, level):
    """A box of evidence in the first channel, the same level all over the second."""
    x = torch.rand(1, 2, *[8] * ndim, generator=torch.Generator().manual_seed(1)) * 0.1
    x[(0, 0, *[slice(2, 6)] * ndim)] += evidence
    x[:, 1] = level
    return x


def cohort(ndim):
    draw = torch.Generator().manual_seed(2)
    parts = torch.rand(32, 2, generator=draw).tolist()
    return torch.cat([leveled(ndim, 1 + 0.5 * evidence, 2 * level) for evidence, level in parts])


def learned(model, images, epochs=20):
    with seeded(0, torch.device("cpu")):
        return train_readout(model, images.split(8), TARGET, ["layer"], epochs=epochs, rate=3e-2)


@DIMENSIONS
@pytest.mark.parametrize("around", [0.0, 3.0])
def test_where_noise_scores_above_the_image_there_is_no_map_whatever_goes_round_the_layer(around, ndim):
    """Each image is compared with the score of noise in its own features, as where a bottleneck is searched."""
    model = Skipped(ndim, around).eval()
    readout = learned(model, cohort(ndim), epochs=1)
    x = torch.cat([leveled(ndim, evidence, level) for evidence in (1.6, 0.4) for level in (0.1, 1.9)])
    found = ReadoutIBA(readout=readout)(model, x, TARGET)
    searched = IBA(layer="layer", statistics=readout.statistics[0], beta=0.1, steps=1)(model, x, TARGET)
    reasons = [one.reason for one in found.status]
    assert reasons == [one.reason for one in searched.status] == ["", "", NOISE_ABOVE, NOISE_ABOVE]
    assert found.maps.flatten(1).any(1).tolist() == [True, True, False, False]
    torch.testing.assert_close(found.details["bits"], found.maps.flatten(1).sum(1))
    own = found.details["noise score"] - around * x[:, 1].flatten(1).mean(1)
    torch.testing.assert_close(own, own[:1].expand(4), rtol=1e-4, atol=1e-5)
    for place, image in enumerate(x.split(1)):
        alone = ReadoutIBA(readout=readout)(model, image, TARGET)
        assert alone.status[0].reason == reasons[place]
        torch.testing.assert_close(alone.details["noise score"][0], found.details["noise score"][place])


def test_a_notice_where_noise_scores_as_the_image_does(taught):
    model, (x, _), said = Planted(2), planted_case(2, 3), []
    for weight in (1.0, 0.0):
        with torch.no_grad():
            model.head.weight[1, 0] = weight
            model.head.bias[1] = 1 - weight
        found = ReadoutIBA(readout=taught[2])(model, x + 0.4 * weight, TARGET)
        assert found.status[0].ok
        said.append([one for one in found.notices if "noise scores as the image does" in one])
        assert bool(found.details["retained"].isnan()) == (weight == 0)
    assert [len(one) for one in said] == [0, 1]


@DIMENSIONS
def test_what_goes_round_the_layer_teaches_nothing(ndim):
    images = cohort(ndim)
    models = [Skipped(ndim, around).eval() for around in (0.0, 3.0)]
    straight, around = (learned(model, images, epochs=20) for model in models)
    assert around.losses[-1] == pytest.approx(straight.losses[-1], rel=0.05)
    maps = [ReadoutIBA(readout=one)(models[0], images[:8], TARGET).maps for one in (straight, around)]
    torch.testing.assert_close(maps[1], maps[0], rtol=0.05, atol=0.01 * float(maps[0].max()))
    inside = maps[1][(slice(None), *[slice(2, 6)] * ndim)]
    assert float(inside.mean() / maps[1].mean()) > 2


def test_scores_that_noise_raises_teach_the_gates_to_shut():
    """The same bright features read for the class, which noise raises, and against it, which noise lowers."""
    images, found = cohort(2) + 0.6, []
    for sign in (1.0, -1.0):
        model = Skipped(2, 0.0, sign).eval()
        readout = learned(model, images, epochs=20)
        with one_pass(model, images, (TARGET,), ["layer"], graph=False) as seen:
            normal, _ = normalised(seen, readout.statistics)
            found.append(float(readout(normal, (1.0, 1.0)).openness.mean()))
    assert found[0] < 0.25 * found[1]


def test_files_that_remember_what_noise_scored_are_read(taught, tmp_path):
    write_file(tmp_path / "new", taught[2].to_bytes())
    with safe_open(str(tmp_path / "new"), "pt") as opened:
        facts = json.loads(opened.metadata()["readout"])
        parts = {name: opened.get_tensor(name) for name in opened.keys()}  # noqa: SIM118 - no mapping
    assert "noise" not in facts
    save_file(parts, tmp_path / "old", {"readout": json.dumps({**facts, "noise": [1.0, 0.5]})})
    assert Readout.read(tmp_path / "old") == Readout.read(tmp_path / "new") == taught[2]


def test_batches_that_end_after_one_layer_or_epoch_are_refused():
    batches = torch.rand(4, 1, 8, 8).split(2)
    with pytest.raises(UsageError, match=r"only once.*Found a generator\. Give a list of tensors"):
        train_readout(Planted(2), (batch for batch in batches), TARGET, ["act"], epochs=1)


def test_no_map_where_the_answer_to_noise_is_not_finite():
    torch.manual_seed(0)

    class Log(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv, self.soft, self.head = nn.Conv2d(1, 4, 3), nn.Softplus(), nn.Linear(4, 2)

        def forward(self, x):
            return self.head(self.soft(3 * self.conv(x)).log().mean((2, 3)))

    model, images = Log().eval(), torch.randn(4, 1, 12, 12)
    readout = Readout.untaught(TARGET, [estimate(model, [images], "soft")])
    found = ReadoutIBA(readout=readout)(model, images[:1], TARGET)
    assert found.status[0].reason == "what the network answers to noise is not finite"
    assert not found.maps.any()
