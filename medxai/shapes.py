"""Axis names used in every signature: b batch, c channel, k feature channel, *s space, *m map (layer) space."""

from jaxtyping import Bool, Float, Float64, Shaped
from numpy import ndarray
from torch import Tensor

Images = Float[Tensor, "b c *s"]
Features = Float[Tensor, "b k *m"]
Weights = Float[Tensor, "b k *_"]
Maps = Float[Tensor, "b *m"]
Scores = Float[Tensor, "b"]
Map = Float[Tensor, "*s"]
LayerMap = Float[Tensor, "*m"]
MaskArray = Bool[Tensor, "*s"]
Channels = Shaped[Tensor, "c *s"]
Affine = Float64[ndarray, "4 4"]
Points = Float64[ndarray, "*n 3"]
