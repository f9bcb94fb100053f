"""Bottlenecks of a regressor: the bits its value depends on, with the direction in which they move it."""

from dataclasses import dataclass
from typing import ClassVar

from medxai.attribution.bottleneck.iba import IBA, InverseIBA
from medxai.attribution.bottleneck.objective import Aim
from medxai.core.protocols import Traits

_SIGNED = Traits(reads="score", cost="1F + T n (suffix F + B)", shared=False, random=True)


@dataclass(frozen=True, kw_only=True)
class RegressionIBA(IBA):
    """Bits a value rests on, above zero in cells that raise it and below where they lower it.

    `aim` says of which value: "deviation", the one that was answered; "reach", another one, `value`; "raise" or
    "lower", one as high or as low as these features allow. The sign is that of the cell's part in the way of the score
    from noise to the features (layer integrated gradients, smoothed as the gate is). Source: Khakzar et al. 2021,
    whose objective of a high value, -y^2, is the same for y and -y, and has no sign.
    """

    traits: ClassVar[Traits] = _SIGNED
    aim: Aim = "deviation"

    _signed: ClassVar[bool] = True


@dataclass(frozen=True, kw_only=True)
class InverseRegressionIBA(InverseIBA):
    """Bits without which nothing is left of a value, signed as in RegressionIBA.

    `aim` as there: what is to be removed is all that brings the score from that of noise towards the answered value or
    `value`, or all that raises it, or lowers it. Source: Khakzar et al. 2021.
    """

    traits: ClassVar[Traits] = _SIGNED
    aim: Aim = "deviation"

    _signed: ClassVar[bool] = True


METHODS = (RegressionIBA, InverseRegressionIBA)
