"""Footprints by arithmetic equal measured impulse responses, for real networks and for single operations."""

import pytest
import torch
from monai.networks.blocks import SubpixelUpsample
from monai.networks.nets import DenseNet121, EfficientNet, SEResNet50, resnet18, resnet50
from torch import nn
from torch.nn.functional import avg_pool2d, instance_norm, interpolate, pad

from medxai.errors import FootprintError
from medxai.model.footprint import footprint
from medxai.model.layers import find_row, resolve_layer
from medxai.model.trace import trace
from tests.model.impulse import centres, uniform

EFFICIENTNET_B0 = [
    "r1_k3_s11_e1_i32_o16_se0.25",
    "r2_k3_s22_e6_i16_o24_se0.25",
    "r2_k5_s22_e6_i24_o40_se0.25",
    "r3_k3_s22_e6_i40_o80_se0.25",
    "r3_k5_s11_e6_i80_o112_se0.25",
    "r4_k5_s22_e6_i112_o192_se0.25",
    "r1_k3_s11_e6_i192_o320_se0.25",
]


def densenet(ndim):
    return DenseNet121(ndim, 1, 2, init_features=2, growth_rate=1, bn_size=1)


def resnet_18(ndim):
    return resnet18(spatial_dims=ndim, n_input_channels=1, num_classes=2, widen_factor=1 / 32)


def resnet_50(ndim):
    return resnet50(spatial_dims=ndim, n_input_channels=1, num_classes=2, widen_factor=1 / 32)


def seresnet(ndim):
    return SEResNet50(spatial_dims=ndim, in_channels=1, num_classes=2)


def efficientnet(ndim):
    return EfficientNet(EFFICIENTNET_B0, spatial_dims=ndim, in_channels=1, num_classes=2, width_coefficient=0.125)


# (network, axes, layers, length of the long axis, of the others): the long one holds the whole receptive field
NETWORKS = [
    (densenet, 2, ("features.pool0", "features.denseblock2", "features.transition3", "class_layers.relu"), 2400, 32),
    (densenet, 3, ("features.pool0", "features.transition1"), 320, 32),
    pytest.param(densenet, 3, ("features.transition3", "class_layers.relu"), 2400, 32, marks=pytest.mark.slow),
    (resnet_18, 2, ("maxpool", "layer1", "layer3.0.conv1", "layer4"), 640, 4),
    (resnet_18, 3, ("maxpool", "layer1", "layer3.0.conv1", "layer4"), 640, 4),
    (resnet_50, 2, ("layer1", "layer2", "layer4"), 640, 4),
    (resnet_50, 3, ("layer1", "layer2", "layer4"), 640, 4),
    (seresnet, 2, ("layer0", "layer2", "layer4"), 700, 8),
    (seresnet, 3, ("layer0", "layer2"), 160, 8),
    pytest.param(seresnet, 3, ("layer3", "layer4"), 700, 8, marks=pytest.mark.slow),
    (efficientnet, 2, ("_conv_stem", "_blocks.2.3", "_blocks.3.5", "_blocks.5.11", "_bn1"), 1024, 32),
    (efficientnet, 3, ("_conv_stem", "_blocks.2.3"), 160, 32),
    pytest.param(efficientnet, 3, ("_blocks.3.5", "_blocks.5.11", "_bn1"), 1024, 32, marks=pytest.mark.slow),
]


@pytest.mark.parametrize(
    ("build", "ndim", "layers", "long", "thin"), NETWORKS, ids=lambda v: getattr(v, "__name__", "")
)
def test_footprint_is_the_measured_centre(build, ndim, layers, long, thin):
    model = uniform(build(ndim))
    for axis in range(ndim):
        size = [thin] * ndim
        size[axis] = long
        for layer, (measured, predicted) in zip(layers, centres(model, layers, size, axis), strict=True):
            assert abs(measured - predicted) <= 0.01, (layer, axis, measured, predicted)


class Between(nn.Module):
    """A strided convolution, the operation on trial, a convolution."""

    def __init__(self, operation) -> None:
        super().__init__()
        self.head, self.tail = nn.Conv2d(1, 4, 5, stride=2, padding=(1, 2)), nn.LazyConv2d(2, 3, padding=1)
        self.operation = operation

    def forward(self, x):
        return self.tail(self.operation(self.head(x)))


def padded_by_cat(x):
    zeros = torch.zeros(1, x.shape[1], 3, x.shape[3], dtype=x.dtype, device=x.device)
    return torch.cat([zeros, x], 2)


OPERATIONS = {
    "dilated": nn.Conv2d(4, 4, 3, stride=2, padding=1, dilation=3),
    "even kernel": nn.Conv2d(4, 4, 4, stride=2, padding=(1, 0)),
    "same padding": nn.Conv2d(4, 4, 3, padding="same", dilation=2),
    "transposed": nn.ConvTranspose2d(4, 4, 3, stride=2, padding=1, output_padding=1),
    "transposed by 2": nn.ConvTranspose2d(4, 4, 2, stride=2),
    "transposed dilated": nn.ConvTranspose2d(4, 4, 3, stride=2, dilation=2),
    "ceil pool": nn.AvgPool2d(3, 2, ceil_mode=True),
    "padded pool": nn.AvgPool2d(4, 3, padding=2),
    "adaptive": nn.AdaptiveAvgPool2d((32, 40)),
    "nearest": nn.Upsample(scale_factor=2),
    "nearest-exact": nn.Upsample(scale_factor=4, mode="nearest-exact"),
    "nearest down": lambda x: interpolate(x, scale_factor=0.5, mode="nearest"),
    "linear": nn.Upsample(scale_factor=2, mode="bilinear"),
    "linear by 1.5": nn.Upsample(scale_factor=1.5, mode="bilinear"),
    "linear, corners": nn.Upsample(size=(150, 170), mode="bilinear", align_corners=True),
    "zero padding": lambda x: pad(x, (0, 3, 5, 1)),
    "cropping": lambda x: pad(x, (-2, 0, -5, -1)),
    "reflection": nn.ReflectionPad2d((1, 0, 3, 2)),
    "replication": nn.ReplicationPad2d((1, 0, 3, 2)),
    "slices": lambda x: x[:, :, 3::2, -70:],
    "narrowed": lambda x: x.narrow(2, 5, 50),
    "flip": lambda x: x.flip(2),
    "padded by cat": padded_by_cat,
    "chunks": lambda x: x.chunk(2, 2)[1],
    "space to depth": lambda x: torch.cat([x[:, :, 0:90:2, 0:90:2], x[:, :, 1:90:2, 1:90:2]], 1),
    "transposed twice": lambda x: x.transpose(2, 3).contiguous().mul(2.0).transpose(2, 3),
    "channels last": lambda x: (x.permute(0, 2, 3, 1) @ torch.ones(4, 4, dtype=x.dtype, device=x.device)).movedim(3, 1),
    "flattened": lambda x: x.flatten(2).mul(2.0).unflatten(2, tuple(x.shape[2:])),
    "shuffled channels": lambda x: x.reshape(1, 2, 2, *x.shape[2:]).transpose(1, 2).reshape(x.shape),
    "pixel shuffle": nn.PixelShuffle(2),
    "pixel unshuffle": lambda x: torch.pixel_unshuffle(x[:, :, :90, :90], 2),
    "subpixel": SubpixelUpsample(2, 4, 4, conv_block=None, apply_pad_pool=False),
    "united": lambda x: x + avg_pool2d(x, 3, 1, 1),
    "gate": lambda x: x * torch.ones_like(x.mean((2, 3), keepdim=True)),
    "softmax of a constant": lambda x: x * torch.softmax(torch.ones_like(x), 1),
    "instance norm": lambda x: x + 0 * instance_norm(x.detach()),
    "normed by hand": lambda x: x + 0 * (x - x.mean(1, keepdim=True)) / (torch.var_mean(x, 1, keepdim=True)[0] + 1),
    "normed by length": lambda x: x + 0 * nn.functional.normalize(x, dim=1),
    "masked": lambda x: x * (x.detach() > -1) + 0 * torch.where(x > 5, x, torch.zeros_like(x)),
    "global branch, repeated": lambda x: x + 0 * x.mean((2, 3), keepdim=True).repeat(1, 1, *x.shape[2:]),
    "kernel from the whole image": lambda x: x + 0 * nn.functional.conv2d(x, x.mean((2, 3), keepdim=True)),
    "written": lambda x: torch.zeros_like(x).copy_(x).mul_(2.0).add_(x).flatten(1).view(x.shape),
    "in place": lambda x: x.clone().mul_(2.0).add_(x),
}


@pytest.mark.parametrize("name", OPERATIONS)
def test_operation_moves_the_footprint_as_measured(name):
    model = Between(OPERATIONS[name]).double()
    size = (201, 190)
    with torch.no_grad():
        model(torch.ones(1, 1, *size, dtype=torch.float64))  # fixes the lazy channels
    model = uniform(model)
    for axis in range(2):
        ((measured, predicted),) = centres(model, ["tail"], size, axis, run=12)
        assert abs(measured - predicted) <= (0.5 if name in {"adaptive", "linear by 1.5"} else 0.05), (axis, measured)


def test_cells_of_resnet18_are_not_where_interpolation_puts_them():
    """Linear interpolation without aligned corners puts cell i at (jump - 1) / 2 + jump * i."""
    off = {}
    for stride in (1, 2):
        model = resnet18(spatial_dims=2, n_input_channels=1, num_classes=2, conv1_t_stride=stride)
        found = footprint(trace(model, (1, 1, 224, 224)), "layer4")
        off[stride] = (found.jump[0] - 1) / 2 - found.start[0]
    assert off == {1: 7.5, 2: 15.5}


def test_partial_write_is_not_followed():
    def halves(x):
        out = torch.zeros_like(x)
        out[:, :, 1:] = x[:, :, :-1]
        return out

    model = Between(halves)
    model(torch.ones(1, 1, 40, 40))
    with pytest.raises(FootprintError, match="partial in-place write"):
        footprint(trace(model, (1, 1, 40, 40)), "tail")


def swapped_by_attention(x):
    tokens = x.flatten(2).transpose(1, 2)
    mixed = torch.softmax(tokens @ tokens.transpose(1, 2), 2) @ tokens
    return mixed.transpose(1, 2).reshape(x.shape)


def by_fused_attention(x):
    tokens = x.flatten(2).transpose(1, 2)[:, None]
    return nn.functional.scaled_dot_product_attention(tokens, tokens, tokens)[:, 0].transpose(1, 2).reshape(x.shape)


def by_shifted_windows(x):
    """Attention in windows of 4 by 4 of the rolled image, as in Swin."""
    b, c, h, w = x.shape
    windows = x.roll((2, 2), (2, 3)).view(b, c, h // 4, 4, w // 4, 4).permute(0, 2, 4, 3, 5, 1).reshape(-1, 16, c)
    mixed = torch.softmax(windows @ windows.transpose(1, 2), 2) @ windows
    mixed = mixed.view(b, h // 4, w // 4, 4, 4, c).permute(0, 5, 1, 3, 2, 4).reshape(x.shape)
    return mixed.roll((-2, -2), (2, 3))


def by_mixing_all_positions(x):
    n = x.shape[2] * x.shape[3]
    return (x.flatten(2) @ torch.ones(n, n, dtype=x.dtype, device=x.device)).reshape(x.shape)


ATTENTION = [swapped_by_attention, by_fused_attention, by_shifted_windows, by_mixing_all_positions]


def traced_between(operation):
    model = Between(operation)
    model(torch.ones(1, 1, 34, 32))  # the head emits 16 by 16
    return trace(model, (1, 1, 34, 32))


@pytest.mark.parametrize("join", [lambda y, a: y + a, lambda y, a: y * a.sigmoid(), lambda y, a: torch.cat([a, y], 1)])
@pytest.mark.parametrize("branch", ATTENTION)
def test_attention_beside_a_path_leaves_its_place_and_a_doubt(branch, join):
    plain, mixed = traced_between(lambda y: y), traced_between(lambda y: join(y, branch(y)))
    assert footprint(mixed, "tail") == footprint(plain, "tail")
    head, tail = (find_row(mixed, name) for name in ("head", "tail"))
    assert (head.doubt, bool(tail.doubt)) == ("", True)
    assert resolve_layer(mixed, "head")[1] == ()
    (notice,) = resolve_layer(mixed, "tail")[1]
    assert "attention" in notice
    assert tail.doubt in notice


@pytest.mark.parametrize("branch", ATTENTION)
def test_attention_alone_has_no_known_place(branch):
    with pytest.raises(FootprintError, match="lost at operation"):
        footprint(traced_between(branch), "tail")


def written(y):
    out = torch.zeros_like(y)
    out[:] = y.roll(8, 2)
    return out


def written_flat(y):
    out = y * 1
    out.view(-1).add_(y.roll(8, 2).view(-1))
    return out


def warped(y):
    theta = torch.eye(2, 3)[None].to(y) + 0 * y.mean()
    grid = nn.functional.affine_grid(theta, list(y.shape), align_corners=False)
    return nn.functional.grid_sample(y, grid, align_corners=False)


LOSING = {
    "transformer times gate": (lambda y: warped(y) * y.sigmoid(), "grid_sampler_2d"),
    "gate times transformer": (lambda y: y.sigmoid() * warped(y), "grid_sampler_2d"),
    "rolled plus itself": (lambda y: y.roll(8, 2) + 0 * y, "roll"),
    "beside itself": (lambda y: torch.cat([y, y.roll(8, 2)], 1), "roll"),
    "rolled, then mixed by channel": (
        lambda y: y + (y.roll(8, 2).permute(0, 2, 3, 1) @ torch.eye(4).to(y)).permute(0, 3, 1, 2),
        "roll",
    ),
    "one axis only": (lambda y: y + y.view(1, 4, 4, 4, 16).transpose(2, 3).reshape(1, 4, 16, 16), "_?view|reshape"),
    "picked rows": (lambda y: y + y.index_select(2, torch.arange(15, -1, -1, device=y.device)), "index_select"),
    "turned": (lambda y: y + y.transpose(2, 3), "add"),
    "stretched": (lambda y: y + interpolate(y[:, :, :8, :8], size=(16, 16)), "add"),
    "written into a constant": (lambda y: y + written(y), "roll"),
    "written into a view": (lambda y: y + written_flat(y), "an in-place write through a view"),
    "around the edge": (lambda y: y + torch.cat([y[:, :, 8:], y[:, :, :8]], 2), "cat"),
    "kernel from the image": (
        lambda y: y + nn.functional.conv2d(y, y[:, :, 4:7, 4:7], padding=1),
        "convolution",
    ),
}


@pytest.mark.parametrize("name", LOSING)
def test_a_branch_of_unknown_origin_is_never_placed_where_the_other_lies(name):
    branch, operation = LOSING[name]
    traced = traced_between(branch)
    assert traced.layers[0].spatial
    with pytest.raises(FootprintError, match=f"lost at operation '(_unsafe)?({operation})'"):
        footprint(traced, "tail")
