"""Which layer "auto" means in real networks, and how other names are answered."""

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
    resnet50,
)
from torch import nn

from medxai.errors import LayerError, LayerNotFoundError, ModelError
from medxai.model.layers import layer_table, resolve_layer, stages
from medxai.model.trace import trace
from tests.real_models import squeezenet

SIZE = 64


class FunctionalReLU(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv1, self.conv2 = nn.Conv2d(1, 4, 3, padding=1), nn.Conv2d(4, 8, 3, 2, padding=1)
        self.norm, self.head = nn.BatchNorm2d(8), nn.Linear(8, 2)

    def forward(self, x):
        x = torch.relu(self.conv1(x))
        return self.head(torch.relu(self.norm(self.conv2(x))).mean((2, 3)))


def residual_unet(ndim):
    return UNet(ndim, 1, 2, (8, 16, 32, 64), (2, 2, 2), num_res_units=2)


def vit(ndim):
    return ViT(1, (SIZE,) * ndim, (16,) * ndim, 48, 96, 2, 4, classification=True, spatial_dims=ndim)


def densenet(ndim):
    return DenseNet121(ndim, 1, 3)


def resnet_18(ndim):
    return resnet18(spatial_dims=ndim, n_input_channels=1, num_classes=3)


AUTO = [
    (densenet, "class_layers.relu"),
    (resnet_18, "layer4"),
    (lambda n: resnet50(spatial_dims=n, n_input_channels=1, num_classes=3), "layer4"),
    (lambda n: SEResNet50(spatial_dims=n, in_channels=1, num_classes=3), "layer4"),
    (lambda n: UNet(n, 1, 2, (8, 16, 32), (2, 2)), "model.1.submodule.1"),
    (residual_unet, "model.1.submodule.1.submodule.1"),
    (lambda n: SegResNet(n, in_channels=1), "down_layers.3"),
    (lambda n: SwinUNETR(in_channels=1, out_channels=2, feature_size=12, spatial_dims=n), "encoder10"),
]


@pytest.mark.parametrize("ndim", [2, 3])
@pytest.mark.parametrize(("build", "layer"), AUTO)
def test_auto_is_the_last_map_after_its_nonlinearity(build, layer, ndim):
    traced = trace(build(ndim), (1, 1, *(SIZE,) * ndim))
    found, notices = resolve_layer(traced, "auto")
    assert found == layer
    assert [("attention" in notice) for notice in notices] == [True] * (layer == "encoder10")
    assert traced.notices == ()
    marked = [row for row in layer_table(traced) if row.recommended]
    assert [row.name for row in marked] == [layer]
    assert len(marked[0].jump) == ndim


@pytest.mark.parametrize("ndim", [2, 3])
def test_efficientnet_shares_its_activation_so_auto_names_the_norm_and_says_so(ndim):
    model = EfficientNetBN("efficientnet-b0", pretrained=False, spatial_dims=ndim, in_channels=1, num_classes=3)
    traced = trace(model, (1, 1, *(SIZE,) * ndim))
    layer, (notice,) = resolve_layer(traced, "auto")
    assert layer == "_bn1"
    assert "before its nonlinearity (silu)" in notice
    with pytest.raises(LayerError, match=r"'_swish' .*: runs 2 times"):
        resolve_layer(traced, "_swish")


def test_functional_relu_cannot_be_named_so_its_norm_is_and_the_notice_says_so():
    traced = trace(FunctionalReLU(), (1, 1, 32, 32))
    layer, (notice,) = resolve_layer(traced, "auto")
    assert layer == "norm"
    assert "before its nonlinearity (relu)" in notice
    assert "before its nonlinearity (relu)" in resolve_layer(traced, "conv2")[1][0]


def test_auto_of_a_network_whose_classes_are_a_map_is_the_last_map_that_weights_read():
    traced = trace(squeezenet(), (1, 3, 224, 224))
    assert resolve_layer(traced, "auto") == ("features", ())
    assert resolve_layer(traced, "classifier.2") == ("classifier.2", ())


def test_layer_inside_an_attention_is_refused_with_a_hint():
    with pytest.raises(LayerError, match=r"'blocks\.1\.attn' .*cannot carry a map.*say so: Layer"):
        resolve_layer(trace(vit(3), (1, 1, *(SIZE,) * 3)), "blocks.1.attn")


def test_unknown_name_is_answered_with_the_five_nearest_and_their_shapes():
    traced = trace(resnet_18(2), (1, 1, SIZE, SIZE))
    with pytest.raises(LayerNotFoundError, match=r"'layer5'.*layer4 \(512, 4, 4\)") as caught:
        resolve_layer(traced, "layer5")
    assert str(caught.value).count("(") >= 5


def test_layer_that_runs_twice_is_refused_with_the_block_around_it():
    traced = trace(resnet_18(2), (1, 1, SIZE, SIZE))
    with pytest.raises(LayerError, match=r"runs 2 times.*'layer4\.1'"):
        resolve_layer(traced, "layer4.1.act")


def test_layer_without_cells_is_refused():
    with pytest.raises(LayerError, match="one cell only"):
        resolve_layer(trace(densenet(2), (1, 1, SIZE, SIZE)), "class_layers.pool")


def test_network_without_maps_has_no_auto():
    model = nn.Sequential(nn.Flatten(), nn.Linear(64, 8), nn.ReLU(), nn.Linear(8, 2))
    with pytest.raises(LayerError, match="No layer"):
        resolve_layer(trace(model, (1, 1, 8, 8)), "auto")


class Shared(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv, self.act, self.head = nn.Conv2d(1, 1, 3, padding=1), nn.ReLU(), nn.Linear(1, 2)

    def forward(self, x):
        return self.head(self.act(self.conv(self.act(self.conv(x)))).mean((2, 3)))


class Rolled(FunctionalReLU):
    def forward(self, x):
        return super().forward(x.roll(1, 2))


@pytest.mark.parametrize(
    ("model", "size", "reason"),
    [
        (Shared(), 16, r"every layer with a map runs more than once, as 'act' \(1, 16, 16\)\. Give each use its own"),
        (Rolled(), 16, r"the path from the image is lost at operation 'roll', as 'norm' \(8, 8, 8\)"),
        (FunctionalReLU(), 1, r"every map has one cell only, as 'norm' \(8, 1, 1\)\. Give a larger image"),
        (nn.Sequential(nn.Flatten(), nn.Linear(64, 2)), 8, r"no map at all; the last layer '1' emits \(2,\)"),
        (nn.Conv2d(1, 2, 3), 8, "a network without layers"),
    ],
)
def test_where_no_layer_will_do_the_reason_is_told_and_naming_one_is_not_advised(model, size, reason):
    with pytest.raises(LayerError, match=f"^No layer.*{reason}") as caught:
        resolve_layer(trace(model, (1, 1, size, size)), "auto")
    assert "yourself" not in str(caught.value)


def test_map_that_is_turned_or_made_from_the_whole_image_is_refused_for_that():
    class Turned(FunctionalReLU):
        def forward(self, x):
            return self.head(self.norm(self.conv2(self.conv1(x.transpose(2, 3)))).mean((2, 3)))

    class Painted(FunctionalReLU):
        def forward(self, x):
            whole = x.mean((2, 3), keepdim=True) * torch.ones(1, 1, 8, 8, device=x.device)
            return self.head(self.norm(self.conv2(self.conv1(whole))).mean((2, 3)))

    for model in (Turned(), Painted()):
        with pytest.raises(LayerError, match=r"'norm' .*axes are not those of the image in their order"):
            resolve_layer(trace(model, (1, 1, 16, 16)), "norm")


def test_layer_beside_the_path_to_the_output_is_not_auto():
    class Aside(FunctionalReLU):
        def forward(self, x):
            y = super().forward(x)
            self.conv1(x)
            return y

    class Last(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.body, self.unused, self.head = nn.Conv2d(1, 4, 3), nn.Conv2d(4, 4, 1), nn.Linear(4, 2)

        def forward(self, x):
            x = self.body(x)
            self.unused(x)
            return self.head(x.mean((2, 3)))

    assert resolve_layer(trace(Last(), (1, 1, 16, 16)), "auto")[0] == "body"
    with pytest.raises(LayerError, match="runs 2 times"):
        resolve_layer(trace(Aside(), (1, 1, 16, 16)), "conv1")


@pytest.mark.parametrize(
    ("model", "shape", "found"),
    [
        (
            lambda: resnet18(spatial_dims=2, n_input_channels=3, num_classes=2),
            (1, 1, 32, 32),
            "3 input .*'conv1'.*1 input",
        ),
        (lambda: DenseNet121(2, 1, 2), (1, 1, 32, 32, 32), r"features\.conv0.*a 2D model given a 3D image"),
        (lambda: DenseNet121(3, 1, 2), (1, 1, 32, 32), r"features\.conv0.*a 3D model given a 2D image"),
        (lambda: DenseNet121(3, 1, 2), (1, 1, 8, 8, 8), r"features\.transition2\.pool.*AvgPool3d.*recipe"),
        (lambda: nn.Sequential(nn.Flatten(), nn.Linear(9, 2)), (1, 1, 4, 4), "'1' .Linear.*16.*9"),
        (lambda: nn.Conv2d(1, 1, 1), (8, 8), "batch, channels"),
    ],
)
def test_network_that_does_not_fit_the_image_is_refused_before_any_case(model, shape, found):
    network = model()
    with pytest.raises(ModelError, match=found):
        trace(network, shape)
    assert network.training
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in network.modules())


def test_trace_computes_nothing_and_leaves_the_model_as_it_was():
    model = resnet18(spatial_dims=3, n_input_channels=1, num_classes=2).train()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    addresses = {name: value.data_ptr() for name, value in model.state_dict().items()}
    with torch.inference_mode():
        traced = trace(model, (4, 1, 512, 512, 512))  # 137 million voxels
    assert traced.layers[-1].shape == (2,)
    assert traced.image_shape == (1, 512, 512, 512)
    assert model.training
    assert all(p.requires_grad and p.grad is None for p in model.parameters())
    assert {name: value.data_ptr() for name, value in model.state_dict().items()} == addresses
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in model.modules())


def test_network_that_holds_a_plain_tensor_is_traced_on_zeros_and_says_so():
    class Holds(FunctionalReLU):
        def __init__(self) -> None:
            super().__init__()
            self.scale = torch.ones(1, 1, 1, 4)

        def forward(self, x):
            return super().forward(x * self.scale.repeat(1, 1, 1, x.shape[-1] // 4))

    traced = trace(Holds(), (1, 1, 16, 16))
    assert "broke off (RuntimeError: " in traced.notices[0]
    assert "meta" in traced.notices[0]
    assert "looks at values" not in traced.notices[0]
    assert resolve_layer(traced, "auto")[0] == "norm"


def test_network_that_looks_at_values_is_traced_on_zeros_and_says_so():
    class Looks(FunctionalReLU):
        def forward(self, x):
            return super().forward(x - x.mean().item())

    traced = trace(Looks(), (1, 1, 16, 16))
    assert "image of zeros, because the pass without values broke off (RuntimeError: Tensor.item()" in traced.notices[0]
    assert resolve_layer(traced, "auto")[0] == "norm"


def test_a_stage_ends_after_its_nonlinearity_and_never_in_a_padding():
    network = EfficientNetBN("efficientnet-b0", pretrained=False, spatial_dims=2, in_channels=1, num_classes=2)
    assert stages(trace(network, (1, 1, 64, 64))) == ("_blocks.0", "_blocks.1", "_blocks.2", "_blocks.4", "_bn1")
    names = stages(trace(DenseNet121(2, 1, 3), (1, 1, 64, 64)))
    assert names[1:-1] == tuple(f"features.transition{n}.relu" for n in (1, 2, 3))
    assert names[-1] == "class_layers.relu"
