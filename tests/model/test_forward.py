"""A pass with channels last is taken where the network answers the same, and nowhere else."""

import pytest
import torch
from torch import nn

from medxai.model.forward import Forward


class Told(nn.Module):
    """A convolution and its normalisation, which notes who normalised."""

    def __init__(self, note=lambda by_line: None):
        super().__init__()
        torch.manual_seed(0)
        self.conv, self.norm, self.note = nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), note
        self.norm.running_mean.normal_()
        self.eval()

    def forward(self, images):
        self.note("forward" in vars(self.norm))
        return self.norm(self.conv(images)).flatten(1)


def test_it_asks_both_ways_once_and_then_by_lines():
    by_line = list[bool]()
    network, images, forward = Told(by_line.append), torch.rand(3, 1, 6, 5), Forward()
    with torch.no_grad():
        expected = network(images)
        for _ in range(2):
            torch.testing.assert_close(forward.on(network)(images), expected)
    assert forward.last
    assert by_line == [False, False, True, True, True]


@pytest.mark.parametrize("change", ["strides", "statistics"])
def test_a_network_that_would_answer_otherwise_keeps_its_own_layout(change):
    class Other(Told):
        def forward(self, images):
            if change == "statistics":
                self.norm.running_mean = torch.full((4,), float(images.mean()))
            found = self.norm(self.conv(images))
            return found.as_strided((len(images), 48), (48, 1)) if change == "strides" else found.flatten(1)

    network, images, forward = Other(), torch.rand(2, 1, 6, 5), Forward()
    with torch.no_grad():
        expected = network(images)
        torch.testing.assert_close(forward.on(network)(images), expected)
    assert forward.last == (change == "statistics")  # by lines that no longer fit


def test_an_error_of_the_network_is_not_hidden():
    network = nn.Sequential(nn.Conv2d(1, 3, 3), nn.BatchNorm2d(4)).eval()
    with pytest.raises(RuntimeError, match="running_mean"):
        Forward().on(network)(torch.rand(2, 1, 6, 5))


def test_an_image_that_is_normalised_in_place_is_normalised_once():
    class InPlace(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv = nn.Conv2d(3, 2, 3)

        def forward(self, images):
            return self.conv(images.sub_(0.5).div_(0.25)).view(len(images), -1)

    network, images = InPlace(), torch.rand(2, 3, 6, 5)
    with torch.no_grad():
        expected = network(images.clone())
        found = Forward().on(network)(images.clone(memory_format=torch.channels_last))
    torch.testing.assert_close(found, expected)


def test_a_layout_that_one_image_allows_and_two_forbid_is_given_up():
    class Views(nn.Module):
        def __init__(self):
            super().__init__()
            torch.manual_seed(0)
            self.conv = nn.Conv2d(1, 4, 3)

        def forward(self, images):
            values = self.conv(images)
            return values.view(-1, *values.shape[2:]).mean((1, 2)).view(len(images), 4)

    network, images, forward = Views(), torch.rand(2, 1, 6, 5), Forward()
    with torch.no_grad():
        run = forward.on(network)
        torch.testing.assert_close(run(images[:1]), network(images[:1]))
        assert forward.last
        torch.testing.assert_close(run(images), network(images))
    assert not forward.last
