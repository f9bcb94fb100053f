"""A replay equals a full run whose layer output was replaced: real networks, chains, skips and every trap we know."""

import re
from functools import partial

import pytest
import torch
from monai.networks.nets import (
    DenseNet121,
    EfficientNetBN,
    SegResNet,
    SEResNet50,
    SwinUNETR,
    UNet,
    ViT,
    resnet18,
)
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves
from torch.utils.checkpoint import checkpoint

from medxai.attribution.bottleneck.path import LayerIntegratedGradients
from medxai.attribution.bottleneck.regression import RegressionIBA
from medxai.core.target import ClassScore
from medxai.errors import LayerError, LayerNotFoundError, ModelError
from medxai.model.resume import resumable

REAL = {
    "DenseNet121": (
        lambda n: DenseNet121(n, 1, 3),
        ["class_layers.relu", "features.denseblock4", "features.denseblock3.denselayer5.layers.relu2"],
    ),
    "ResNet18": (
        lambda n: resnet18(spatial_dims=n, n_input_channels=1, num_classes=3, widen_factor=0.25),
        ["layer4", "layer4.1.bn1", "layer3.0.conv1", "bn1"],
    ),
    "SEResNet50": (
        lambda n: SEResNet50(spatial_dims=n, in_channels=1, num_classes=3),
        ["layer4", "layer3.2.conv2"],
    ),
    "EfficientNet-B0": (
        lambda n: EfficientNetBN("efficientnet-b0", pretrained=False, spatial_dims=n, in_channels=1, num_classes=3),
        ["_bn1", "_blocks.3.5", "_blocks.3.5._depthwise_conv"],
    ),
    "ViT": (
        lambda n: ViT(1, (32,) * n, (8,) * n, 48, 96, 3, 4, classification=True, spatial_dims=n),
        ["blocks.2.norm1", "blocks.1", "patch_embedding"],
    ),
    "UNet": (
        lambda n: UNet(n, 1, 2, (4, 8, 16), (2, 2), num_res_units=1),
        ["model.1.submodule.1", "model.1.submodule.0", "model.2"],
    ),
    "SegResNet": (
        lambda n: SegResNet(n, in_channels=1),
        ["down_layers.3", "up_layers.0", "down_layers.1.1.conv1"],
    ),
}
CASES = [(name, layer) for name, (_, layers) in REAL.items() for layer in layers]


def replaced(model: nn.Module, layer: str, image: Tensor, activation: Tensor, n: int):
    """The output of the whole network with the layer's output replaced."""
    handle = model.get_submodule(layer).register_forward_hook(lambda *_: activation.clone())
    try:
        return model(image.repeat(n, *[1] * (image.ndim - 1)))
    finally:
        handle.remove()


def assert_equal(found, wanted) -> None:
    found, wanted = tree_leaves(found), tree_leaves(wanted)
    assert len(found) == len(wanted)
    for a, b in zip(found, wanted, strict=True):
        if isinstance(b, Tensor):
            assert (a - b).abs().max() <= 1e-6 * b.abs().max().clamp(min=1)
        else:
            assert a == b


def check(model: nn.Module, layer: str, image: Tensor, n: int = 3):
    run = resumable(model, layer, image)
    generator = torch.Generator().manual_seed(2)
    with torch.no_grad():
        assert_equal(run(run.activation), model(image))
        for _ in range(2):  # the first replay spoils nothing for the second
            repeated = run.activation.repeat(n, *[1] * (run.activation.ndim - 1))
            other = repeated + torch.randn(repeated.shape, generator=generator, dtype=repeated.dtype) * repeated.std()
            kept = other.clone()
            assert_equal(run(other), replaced(model, layer, image, other, n))
            assert torch.equal(other, kept)
    assert not any("forward" in m.__dict__ or m._forward_hooks or m._forward_pre_hooks for m in model.modules())
    return run


@pytest.mark.parametrize("ndim", [2, 3])
@pytest.mark.parametrize(("name", "layer"), CASES)
def test_real_network_resumes_as_the_full_run(name, layer, ndim):
    torch.manual_seed(0)
    run = check(REAL[name][0](ndim).eval().double(), layer, torch.rand(1, 1, *(32,) * ndim, dtype=torch.float64))
    assert run.full == ""


@pytest.mark.parametrize("layer", ["encoder10", "swinViT.layers2.0.blocks.1.attn.proj", "decoder3"])
def test_network_that_folds_windows_into_the_batch_resumes(layer):
    torch.manual_seed(0)
    model = SwinUNETR(in_channels=1, out_channels=2, feature_size=12, spatial_dims=2).eval()
    run = check(model.double(), layer, torch.rand(1, 1, 64, 64, dtype=torch.float64))
    assert run.full == ""


@pytest.mark.slow
@pytest.mark.parametrize("layer", ["encoder10", "decoder3"])
def test_network_that_folds_windows_into_the_batch_resumes_in_3d(layer):
    torch.manual_seed(0)
    model = SwinUNETR(in_channels=1, out_channels=2, feature_size=12, spatial_dims=3).eval()
    run = check(model.double(), layer, torch.rand(1, 1, 64, 64, 64, dtype=torch.float64), n=2)
    assert run.full == ""


class Small(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.stem, self.deep, self.last = (nn.Conv2d(i, 4, 3, padding=1) for i in (1, 4, 4))
        self.act, self.norm, self.head = nn.ReLU(inplace=True), nn.BatchNorm2d(4), nn.Linear(4, 2)

    def score(self, x):
        return self.head(x.flatten(2).mean(2))


class Shared(Small):
    """One activation module before, at and after the layer."""

    def forward(self, x):
        x = self.act(self.stem(x)) + self.act(self.norm(self.stem(x)))
        return self.score(self.act(self.last(self.act(self.deep(x)))))


class WritesMemory(Small):
    """Code after the layer adds into what was computed before it."""

    def forward(self, x):
        skip = self.stem(x)
        skip += self.deep(skip.relu())
        skip.mul_(2)
        return self.score(self.last(skip))


class WritesEarly(Small):
    """The answer of the stem is overwritten before the layer, and read after it."""

    def forward(self, x):
        skip = self.stem(x)
        y = self.norm(skip)
        skip.add_(1)
        return self.score(self.deep(y).sin() * skip)


class WritesImage(Small):
    def forward(self, x):
        x -= x.mean()
        return self.score(self.deep(self.stem(x)) + x)


class WritesLayer(Small):
    def forward(self, x):
        return self.score(self.act(self.deep(self.stem(x))))


class Folds(Small):
    """Two windows per sample lie in the batch axis."""

    def forward(self, x):
        b, _, h, w = x.shape
        windows = self.stem(x.view(b, 1, 2, h // 2, w).transpose(1, 2).reshape(2 * b, 1, h // 2, w))
        y = self.deep(windows) + windows
        return self.score(y.view(b, 2, 4, h // 2, w).transpose(1, 2).reshape(b, 4, h, w))


class Keywords(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.a, self.b, self.c = (nn.Conv2d(1, 4, 3, padding=1), nn.Conv2d(4, 4, 3, padding=1), nn.Conv2d(4, 4, 1))
        self.pair = Pair()

    def forward(self, x):
        parts = self.pair(x=self.a(x), scale=3.0)
        return {"logits": (self.b(parts["first"]) * parts["rest"][0] + self.c(parts["first"])).mean((2, 3)), "n": 3}


class Pair(nn.Module):
    def forward(self, *, x, scale):
        return {"first": x * scale, "rest": (x.sigmoid(), "words")}


class Table(Small):
    """A module whose answer has no batch axis."""

    def __init__(self) -> None:
        super().__init__()
        self.positions = nn.Embedding(4, 4)

    def forward(self, x):
        table = self.positions(torch.arange(4))
        return self.score(self.deep(self.stem(x))) @ table[:2, :2] + table.sum()


class KeepsPositions(Small):
    """What is kept is the same for every image, so it may be."""

    def forward(self, x):
        y = self.stem(x)
        if not hasattr(self, "positions"):
            self.positions = torch.linspace(0, 1, y.shape[-1])
        return self.score(self.deep(y) * self.positions)


@pytest.mark.parametrize(
    ("build", "layer"),
    [
        (Shared, "deep"),
        (Shared, "last"),
        (WritesMemory, "deep"),
        (WritesEarly, "deep"),
        (WritesImage, "deep"),
        (WritesLayer, "deep"),
        (Folds, "deep"),
        (Folds, "stem"),
        (Table, "deep"),
        (Keywords, "b"),
        (KeepsPositions, "deep"),
    ],
)
def test_trap_is_resumed_truly(build, layer):
    torch.manual_seed(0)
    assert check(build().eval(), layer, torch.rand(1, 1, 8, 6)).full == ""


def test_what_ran_before_is_not_run_again_and_not_kept_without_need():
    model, image = resnet18(spatial_dims=2, n_input_channels=1, num_classes=2).eval(), torch.rand(1, 1, 32, 32)
    run = resumable(model, "layer4.0.conv2", image)
    calls: list[str] = []
    handles = [
        module.register_forward_hook(lambda *_, name=name: calls.append(name))
        for name, module in model.named_modules()
        if isinstance(module, nn.Conv2d)
    ]
    original = torch.nn.functional.conv2d
    executed: list[int] = []
    torch.nn.functional.conv2d = lambda *args: executed.append(1) or original(*args)
    try:
        run(run.activation)
    finally:
        torch.nn.functional.conv2d = original
        for handle in handles:
            handle.remove()
    assert len(executed) == 3  # the shortcut and the two convolutions of the last block
    kept = {
        t.untyped_storage().data_ptr(): t.untyped_storage().nbytes() for a in run.answers for t in tree_leaves(a.value)
    }
    layer3 = 256 * 4 * 4
    assert sum(kept.values()) <= 4 * layer3 + 64, "only the input of the shortcut is needed"


def test_gradients_flow_from_the_output_to_the_activation():
    torch.manual_seed(0)
    model, image = Shared().eval().requires_grad_(False), torch.rand(1, 1, 8, 6)
    run = resumable(model, "deep", image)
    leaf = run.activation.repeat(3, 1, 1, 1).requires_grad_()
    (found,) = torch.autograd.grad(run(leaf)[:, 1].sum(), leaf)
    other = run.activation.repeat(3, 1, 1, 1).requires_grad_()
    (wanted,) = torch.autograd.grad(replaced(model, "deep", image, other, 3)[:, 1].sum(), other)
    torch.testing.assert_close(found, wanted)
    assert found.abs().sum() > 0


class Counts(Small):
    """The output depends on how many samples there are."""

    def forward(self, x):
        return self.score(self.deep(self.stem(x))) * len(x)


class Encoder(nn.Module):
    """Keeps its skip for itself."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(1, 4, 3, padding=1)

    def forward(self, x):
        self.skip = self.conv(x).sin()
        return self.skip.relu()


class Stores(Small):
    """What ran before the layer left something behind, which is read after it."""

    def __init__(self) -> None:
        super().__init__()
        self.encoder = Encoder()

    def forward(self, x):
        return self.score(self.last(self.deep(self.encoder(x))) * self.encoder.skip)


class Turns(Small):
    """A module answers with the batch in its second axis."""

    def __init__(self) -> None:
        super().__init__()
        self.turn = Turn()

    def forward(self, x):
        y = self.turn(self.stem(x))
        return self.score(torch.cat([y.movedim(1, 0), self.deep(y.movedim(1, 0))], 1)[:, 2:6])


class Turn(nn.Module):
    def forward(self, x):
        return x.movedim(1, 0)


@pytest.mark.parametrize(
    ("build", "reason"),
    [
        (Counts, "a replay does not give what a full pass gives"),
        (Stores, "a replay does not give what a full pass gives"),
        (Turns, "RuntimeError: .*[Ss]ize.*"),
    ],
)
def test_network_that_cannot_be_resumed_is_run_whole_and_says_so(build, reason):
    torch.manual_seed(0)
    assert re.fullmatch(reason, check(build().eval(), "deep", torch.rand(1, 1, 8, 6)).full)


def test_network_that_keeps_its_skip_is_right_after_another_image_went_through():
    torch.manual_seed(0)
    model, image = Stores().eval(), torch.rand(1, 1, 8, 6)
    run = resumable(model, "deep", image)
    other = torch.randn(3, *run.activation.shape[1:])
    wanted = replaced(model, "deep", image, other, 3)
    model(torch.rand(1, 1, 8, 6) * 9)
    assert_equal(run(other), wanted)


def test_network_that_draws_random_numbers_is_refused():
    class Draws(Small):
        def forward(self, x):
            return self.score(self.deep(self.stem(x)) + torch.rand(1))

    with pytest.raises(ModelError, match="differently each time"):
        resumable(Draws().eval(), "deep", torch.rand(1, 1, 8, 6))


def test_layer_that_runs_twice_or_never_or_is_unknown_is_refused():
    model = Shared().eval()
    model.idle = nn.Conv2d(1, 1, 1)
    for layer, error, words in (
        ("act", LayerError, "more than once"),
        ("idle", LayerError, "did not run"),
        ("deepp", LayerNotFoundError, "deep"),
    ):
        with pytest.raises(error, match=words):
            resumable(model, layer, torch.rand(1, 1, 8, 6))
        assert not any(m._forward_hooks or m._forward_pre_hooks for m in model.modules())


def test_model_is_as_found_after_an_exception_in_a_replay():
    model = Shared().eval()
    own = model.stem.forward
    model.stem.forward = own  # a patch of the caller's
    run = resumable(model, "deep", torch.rand(1, 1, 8, 6))
    with pytest.raises(LayerError, match="no output of the layer"):
        run(torch.rand(2, 5, 8, 6))
    broken = run.activation.clone()
    head, model.head = model.head, nn.Linear(7, 2)
    with pytest.raises(RuntimeError, match="shapes"):
        run(broken)
    model.head = head
    assert model.stem.__dict__.pop("forward") is own
    assert not any("forward" in m.__dict__ or m._forward_hooks for m in model.modules())
    assert_equal(run(run.activation), run.output)


def test_works_inside_inference_mode():
    model = WritesMemory().eval()
    with torch.inference_mode():
        image = torch.rand(1, 1, 8, 6)
        run = resumable(model, "deep", image)
        assert_equal(run(run.activation), model(image))
    assert run.full == ""


class Recomputes(nn.Module):
    """Makes what follows its stem again in the backward pass."""

    def __init__(self, flag, value):
        super().__init__()
        torch.manual_seed(0)
        self.stem, self.chain = nn.Conv2d(1, 4, 3), nn.Sequential(nn.Conv2d(4, 6, 3), nn.BatchNorm2d(6), nn.ReLU())
        nn.init.ones_(self.chain[1].bias)
        self.flag = flag
        setattr(self, flag, value)
        self.eval()

    def forward(self, images):
        values = self.stem(images)
        wanted = getattr(self, self.flag)
        if wanted and (values.requires_grad or wanted == "always"):
            values = checkpoint(self.chain, values, use_reentrant=False)
        else:
            values = self.chain(values)
        return values.mean((2, 3))


@pytest.mark.parametrize("layer", ["stem", "chain.0"])
@pytest.mark.parametrize("flag", ["use_checkpoint", "grad_checkpointing"])
def test_activations_made_again_are_those_made_once(flag, layer):
    image, method = torch.rand(1, 1, 9, 8), LayerIntegratedGradients(layer=layer)
    networks = [Recomputes(flag, value) for value in (False, True)]
    expected, found = (method(network, image, ClassScore(1)).maps for network in networks)
    assert bool(expected.any())
    torch.testing.assert_close(found, expected, rtol=0, atol=0)
    assert getattr(networks[1], flag) is True


@pytest.mark.parametrize("method", [LayerIntegratedGradients, partial(RegressionIBA, beta=1.0, steps=3)])
def test_a_layer_outside_of_what_is_made_again_is_resumed_truly(method):
    image = torch.rand(1, 1, 9, 8)
    networks = [Recomputes("memory_efficient", value) for value in (False, True)]
    expected, found = (method(layer="stem")(network, image, ClassScore(1)).maps.abs() for network in networks)
    assert bool(expected.any())
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("layer", ["chain.0", "chain.1"])
def test_a_layer_inside_of_what_is_made_again_is_refused(layer):
    network = Recomputes("memory_efficient", value=True)
    network.stem.weight.requires_grad_()
    held = resumable(network, layer, torch.rand(1, 1, 9, 8))
    assert held(held.activation).shape == (1, 6)
    network.memory_efficient = "always"
    with pytest.raises(ModelError, match="makes the activations of this layer again"), torch.enable_grad():
        held(held.activation.requires_grad_())


def test_a_caller_who_stores_what_is_saved_elsewhere_gets_the_same_map():
    network, image, method = (
        Recomputes("flagged", False),
        torch.rand(1, 1, 9, 8),
        LayerIntegratedGradients(layer="stem"),
    )
    expected = method(network, image, ClassScore(1)).maps
    with torch.autograd.graph.save_on_cpu():
        found = method(network, image, ClassScore(1)).maps
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-7)


def test_network_that_cannot_read_one_image_for_many_is_resumed():
    class Views(Small):
        def forward(self, x):
            values = self.deep(self.stem(x))
            return values.view(-1, *values.shape[2:]).mean((1, 2)).view(len(x), -1)

    assert not resumable(Views().eval(), "deep", torch.rand(1, 1, 6, 5)).full
