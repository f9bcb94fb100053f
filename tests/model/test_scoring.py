"""A score held for many batches is that of each batch by itself, and touches the model once."""

import pytest
import torch
from torch import nn

from medxai.core.target import ClassScore
from medxai.metrics.curves import Perturbation
from medxai.metrics.probe import Classes, Probe
from medxai.model import scoring
from medxai.model.scoring import Answers, Scorer, held

CPU = torch.device("cpu")


class Remembers(nn.Module):
    """Answers by what earlier batches left: in a buffer, written into or replaced, in a list, or in an attribute."""

    def __init__(self, how):
        super().__init__()
        torch.manual_seed(0)
        self.net = nn.Sequential(
            nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten()
        )
        self.register_buffer("level", torch.zeros(1))
        self.how, self.seen, self.last = how, [], 0.0
        self.eval()

    def forward(self, images):
        before = float(self.level) + len(self.seen) + self.last
        if self.how == "written":
            self.level += images.mean()
        elif self.how == "replaced":
            self.level = self.level + images.mean()
        elif self.how == "list":
            self.seen.append(images)
        else:
            self.last += float(images.mean())
        return self.net(images) + before


WAYS = ["written", "replaced", "list", "attribute"]


@pytest.mark.parametrize("how", WAYS)
@pytest.mark.parametrize("kind", [Scorer, Answers])
def test_no_batch_is_answered_by_what_another_left(kind, how):
    model = Remembers(how)
    ask = Scorer(model, ClassScore(1)) if kind is Scorer else Answers(model)
    batches = torch.rand(3, 2, 1, 7, 6)
    ask(batches[0])  # which layout it reads is known from here on
    expected = [ask(batch) for batch in batches]
    with held(ask, CPU) as answer:
        found = [answer(batch) for batch in batches]
    torch.testing.assert_close(found, expected, rtol=0, atol=0)
    assert (float(model.level), model.seen, model.last) == (0, [], 0)


@pytest.mark.parametrize("how", WAYS)
def test_a_curve_is_the_same_in_batches_of_any_size(how):
    areas = []
    for batch in (2, 7):
        score = Scorer(Remembers(how), ClassScore(1))
        score(torch.rand(1, 1, 8, 8))
        image, map_ = torch.rand(2, 8, 8, generator=torch.Generator().manual_seed(1))
        areas.append(Probe(map_, image[None], score, perturbation=Perturbation(), batch=batch).deletion.area)
    assert areas[0] == pytest.approx(areas[1], rel=1e-5)


def test_another_function_is_itself():
    with held(torch.sum, CPU) as same:
        assert same is torch.sum


def test_a_curve_and_a_table_of_classes_touch_the_model_once(monkeypatch):
    touched, own = [], scoring.untouched
    monkeypatch.setattr(scoring, "untouched", lambda *given: touched.append(1) or own(*given))
    model = Remembers("list")
    image, map_ = torch.rand(2, 8, 8)
    probe = Probe(map_, image[None], Scorer(model, ClassScore(1)), classes=Classes(Answers(model), (1,)))
    assert len(probe.deletion.score) > 3 * probe.batch
    assert len(touched) == 1
    assert len(probe.by_class) == 10
    assert len(touched) == 2
