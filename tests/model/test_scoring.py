"""A score held for many batches is that of each batch by itself, and touches the model once."""

import pytest
import torch
from torch import nn

from medxai.attribution.masking_cams import ScoreCAM
from medxai.core.target import ClassScore
from medxai.metrics.curves import Perturbation
from medxai.metrics.probe import Classes, Probe
from medxai.model import scoring
from medxai.model.scoring import Answers, Scorer, held
from medxai.model.shortcuts import Shortcuts

CPU = torch.device("cpu")


class Remembers(nn.Module):
    """Answers by what earlier batches left: in a buffer, a tensor, a list, or an attribute."""

    def __init__(self, how):
        super().__init__()
        torch.manual_seed(0)
        self.net = nn.Sequential(
            nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten()
        )
        self.register_buffer("level", torch.zeros(1))
        self.how, self.seen, self.last, self.plain = how, [], 0.0, torch.zeros(1)
        self.eval()

    def forward(self, images):
        before = float(self.level) + len(self.seen) + self.last + float(self.plain)
        if self.how == "written":
            self.level += images.mean()
        elif self.how == "replaced":
            self.level = self.level + images.mean()
        elif self.how == "unseen":
            self.level.data += images.mean()
        elif self.how == "pointed":
            self.level.data = self.level.data + images.mean()
        elif self.how == "plain":
            self.plain += images.mean()
        elif self.how == "list":
            self.seen.append(images)
        else:
            self.last += float(images.mean())
        return self.net(images) + before


WAYS = ["written", "replaced", "unseen", "pointed", "plain", "list", "attribute"]


@pytest.mark.parametrize("how", WAYS)
@pytest.mark.parametrize("kind", [Scorer, Answers])
def test_no_batch_is_answered_by_what_another_left(kind, how):
    model = Remembers(how)
    ask = Scorer(model, ClassScore(1)) if kind is Scorer else Answers(model)
    batches = torch.rand(3, 2, 1, 7, 6)
    expected = [ask(batch) for batch in batches]
    with held(ask, CPU) as answer:
        found = [answer(batch) for batch in batches]
    torch.testing.assert_close(found, expected, rtol=0, atol=0)
    with torch.no_grad():
        plain = [model.net(batch)[:, 1] if kind is Scorer else model.net(batch).softmax(1) for batch in batches]
    torch.testing.assert_close(found, plain, rtol=1e-5, atol=1e-6)
    assert (float(model.level), float(model.plain), model.seen, model.last) == (0, 0, [], 0)


@pytest.mark.parametrize("how", WAYS)
def test_a_curve_is_the_same_in_batches_of_any_size(how):
    areas = []
    for batch in (2, 7):
        score = Scorer(Remembers(how), ClassScore(1))
        image, map_ = torch.rand(2, 8, 8, generator=torch.Generator().manual_seed(1))
        areas.append(Probe(map_, image[None], score, perturbation=Perturbation(), batch=batch).deletion.area)
    assert areas[0] == pytest.approx(areas[1], rel=1e-5)


def test_another_function_is_itself():
    with held(torch.sum, CPU) as same:
        assert same is torch.sum


def test_a_curve_and_a_table_of_classes_touch_the_model_once(monkeypatch):
    touched, read, own, shortcuts = [], [], scoring.lent, Shortcuts.of
    monkeypatch.setattr(scoring, "lent", lambda *given: touched.append(1) or own(*given))
    monkeypatch.setattr(Shortcuts, "of", lambda network: read.append(1) or shortcuts(network))
    model = Remembers("list")
    image, map_ = torch.rand(2, 8, 8)
    probe = Probe(map_, image[None], Scorer(model, ClassScore(1)), classes=Classes(Answers(model), (1,)))
    assert len(probe.deletion.score) > 3 * probe.batch
    assert (len(touched), len(read)) == (1, 1)
    assert len(probe.by_class) == 10
    assert (len(touched), len(read)) == (2, 2)


def test_what_is_put_in_the_place_of_voxels_may_be_made_with_gradients():
    def baseline(scene):
        shift = torch.ones(1, requires_grad=True)

        def fill(gone):
            (shift**2).sum().backward()
            return scene.image.masked_fill(gone[:, None], 0.0)

        return fill

    image, map_ = torch.rand(2, 8, 8)
    score = Scorer(Remembers("list"), ClassScore(1))
    probe = Probe(map_, image[None], score, perturbation=Perturbation(baseline=baseline))
    assert probe.deletion.score.isfinite().all()


@pytest.mark.parametrize("how", WAYS)
def test_a_masked_sweep_is_the_same_in_portions_of_any_size(how):
    image = torch.rand(1, 1, 9, 8, generator=torch.Generator().manual_seed(2))
    maps = [
        ScoreCAM(layer="net.0", channel_norm="diff", relu=False, voxels=most)(Remembers(how), image, ClassScore(1)).maps
        for most in (1, 2**21)
    ]
    assert bool(maps[0].any())
    torch.testing.assert_close(*maps, rtol=1e-4, atol=1e-5)


def test_surroundings_that_compute_in_half_precision_move_no_score():
    def target(output):
        return (output @ torch.ones(4, 1))[:, 0] / 3

    model, images = Remembers("list"), torch.rand(2, 1, 7, 6)
    score = Scorer(model, target)
    expected = score(images)
    with held(score, CPU) as answer, torch.autocast("cpu", torch.bfloat16):
        torch.testing.assert_close(answer(images), expected, rtol=0, atol=0)
