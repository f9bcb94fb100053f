"""What modules add to their output whatever their input is."""

from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.modules.conv import _ConvNd
from torch.nn.modules.instancenorm import _InstanceNorm

_BY_INPUT = (nn.GroupNorm, nn.LayerNorm, nn.RMSNorm, nn.LocalResponseNorm)


def bias_of(module: nn.Module, output: Tensor) -> Tensor | None:
    """The constant in the module's output in eval mode, broadcastable to it; None where it adds none."""
    bias = _constant(module)
    if bias is None or isinstance(module, nn.Linear | nn.LayerNorm):
        return bias
    return bias.view(-1, *[1] * (output.ndim - 2))


def input_dependent(network: nn.Module) -> tuple[str, ...]:
    """The kinds of norm in the network whose scale depends on their input also in eval mode."""
    kinds = {type(module).__name__ for module in network.modules() if _scales_by_input(module)}
    return tuple(sorted(kinds))


def _scales_by_input(module: nn.Module) -> bool:
    if isinstance(module, _BatchNorm | _InstanceNorm):
        return module.running_mean is None
    return isinstance(module, _BY_INPUT)


def _constant(module: nn.Module) -> Tensor | None:
    if isinstance(module, _BatchNorm | _InstanceNorm) and module.running_mean is not None:
        return _of_running_norm(module)
    if isinstance(module, _ConvNd | nn.Linear | nn.GroupNorm | nn.LayerNorm | _BatchNorm | _InstanceNorm):
        bias: Tensor | None = module.bias
        return bias if bias is None else bias.detach()
    return None


def _of_running_norm(module: _BatchNorm | _InstanceNorm) -> Tensor | None:
    if module.running_mean is None or module.running_var is None:
        return None
    scale: Tensor = (module.running_var + module.eps).rsqrt()
    if module.weight is not None:
        scale = scale * module.weight.detach()
    shift: Tensor = -module.running_mean * scale
    return shift if module.bias is None else shift + module.bias.detach()
