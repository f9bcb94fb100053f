"""A taught bottleneck: on images it never saw its gates open on the planted evidence, in one forward pass."""

from dataclasses import replace

import pytest
import torch

from medxai.attribution.bottleneck.objective import NOISE_ABOVE
from medxai.attribution.bottleneck.readout import Readout, ReadoutIBA
from medxai.attribution.bottleneck.teaching import train_readout
from medxai.core.layer import Footprint
from medxai.core.target import ClassScore
from medxai.errors import InputError, UsageError
from medxai.io.write import write_file
from medxai.metrics.localisation import mass_in_mask
from medxai.metrics.reading import Reading
from medxai.model.guard import seeded
from medxai.model.place import between, on_cells, on_image
from tests.networks import Planted, planted_case
from tests.reference.helpers import seen_batches

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
        with seen_batches(model, keep=True) as batches:
            found = ReadoutIBA(readout=readout)(model, x, TARGET)
        assert [len(batch) for batch in batches if not batch.is_meta] == [1]  # the trace has no values
        noise, doubt = readout.noise
        assert found.status[0].ok == (not float(found.scores[0]) < noise - doubt)
        assert float(found.details["bits"][0]) == pytest.approx(float(found.maps.sum()))
        shares.append(float(mass_in_mask(Reading(found.maps[0], mask)) / (mask.sum() / mask.numel())))
    return shares


@DIMENSIONS
def test_its_gates_lie_on_the_evidence_of_images_never_seen_and_one_pass_finds_it(ndim, taught):
    untaught = Readout.untaught(TARGET, taught[ndim].statistics)
    assert min(lifts(ndim, taught[ndim])) > 2 * max(lifts(ndim, untaught))
    assert taught[ndim].losses[-1] < 0.4 * taught[ndim].losses[0]


@DIMENSIONS
def test_bits_reach_what_the_score_needs_and_no_further(ndim, taught):
    x, mask = planted_case(ndim, 3)
    bits = ReadoutIBA(readout=taught[ndim])(Planted(ndim), x, TARGET).maps[0]
    assert float(bits[mask].mean()) > 4 * float(bits[~mask].mean())


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


def test_where_noise_scores_above_the_image_there_is_no_map(taught, tmp_path):
    """As of a bottleneck that is searched: what would be kept is a low score. Nearer than chance tells, a notice."""
    readout, (x, _) = taught[2], planted_case(2, 3)
    (score,) = ReadoutIBA(readout=readout)(Planted(2), x, TARGET).scores.tolist()
    for noise, reason, notices in ((1.0, NOISE_ABOVE, 0), (-1.0, "", 0), (0.0, "", 1)):
        known = replace(readout, noise=(score + noise, 1e-6))
        write_file(tmp_path / "readout.safetensors", known.to_bytes())
        found = ReadoutIBA(readout=Readout.read(tmp_path / "readout.safetensors"))(Planted(2), x, TARGET)
        assert found.status[0].reason == reason
        assert sum("noise scored as the image does" in one for one in found.notices) == notices
