"""Targets that ask why this and not that."""

from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from medxai.core.target.classes import GroupScore, Together
from medxai.core.target.protocol import check_classes, table, within
from medxai.errors import TargetError
from medxai.shapes import Scores


@dataclass(frozen=True, slots=True)
class ContrastScore:
    """y_a - gamma * mean of y_r over the reference classes r: why this class and not those."""

    index: int
    references: tuple[int, ...]
    gamma: float = 1.0

    def __post_init__(self) -> None:
        check_classes((self.index, *self.references), self)
        if not self.references or len({self.index, *self.references}) != 1 + len(self.references):
            raise TargetError(
                "ContrastScore compares a class with others.",
                expected="at least one reference class, each once and none of them the class itself",
                found=f"{self.index} against {self.references}",
            )

    def __call__(self, output: Any) -> Scores:
        scores = table(output, self)
        others = scores[:, [within(i, scores, self) for i in self.references]].mean(1)
        return scores[:, within(self.index, scores, self)] - self.gamma * others


@dataclass(frozen=True, slots=True)
class GroupContrastScore:
    """One group of classes minus another, each as GroupScore reads it: why any of these and not any of those."""

    indices: tuple[int, ...]
    others: tuple[int, ...]
    together: Together = "sum"

    def __post_init__(self) -> None:
        for group in (self.indices, self.others):
            GroupScore(group)
        if common := set(self.indices) & set(self.others):
            raise TargetError(
                "GroupContrastScore compares two groups.", expected="no common class", found=f"{sorted(common)} in both"
            )

    def __call__(self, output: Any) -> Scores:
        return GroupScore(self.indices, self.together)(output) - GroupScore(self.others, self.together)(output)


@dataclass(frozen=True, slots=True)
class MarginScore:
    """y_a minus the highest other logit of the same sample: why this class and not the runner-up."""

    index: int

    def __call__(self, output: Any) -> Scores:
        scores = table(output, self)
        if scores.shape[1] < 2:
            raise TargetError(f"{self} needs a rival.", expected="at least two classes", found=f"{scores.shape[1]}")
        own = within(self.index, scores, self)
        rivals = [i for i in range(scores.shape[1]) if i != own]
        return scores[:, own] - scores[:, rivals].amax(1)


@dataclass(frozen=True, slots=True)
class FinerScore:
    """y_a - gamma * mean of y_r over the `count` classes r whose logits lie nearest to y_a in the same sample.

    All other classes where they are fewer. In multi-label heads the nearest logits are often findings that come
    together rather than alternatives: `group` restricts the references to classes that are confused with a. With two
    classes the nearest is the only other one, so a binary head is refused. `chosen` holds the references of each sample
    once they are settled. Source: Zhang et al. 2025 (Finer-CAM: gamma 0.6, three references).
    """

    index: int
    count: int = 3
    gamma: float = 0.6
    group: tuple[int, ...] = ()
    chosen: tuple[tuple[int, ...], ...] = ()

    def __post_init__(self) -> None:
        check_classes((self.index, *self.group), self)
        if self.count < 1 or self.index in self.group or len(set(self.group)) != len(self.group):
            raise TargetError(
                "FinerScore compares a class with those that are like it.",
                expected="a count of at least 1, and a group of other classes, each once",
                found=f"index {self.index}, count {self.count}, group {self.group}",
            )

    def __call__(self, output: Any) -> Scores:
        scores = table(output, self)
        own = scores[:, within(self.index, scores, self)]
        chosen = torch.tensor(self.chosen, device=scores.device) if self.chosen else self._nearest(scores)
        if len(chosen) != len(scores):
            raise TargetError(
                f"{self} was settled on other samples.", expected=f"{len(chosen)}", found=f"{len(scores)}"
            )
        return own - self.gamma * scores.gather(1, chosen).mean(1)

    def settled(self, output: Any) -> "FinerScore":
        """With the references of these samples."""
        if self.chosen:
            return self
        return replace(self, chosen=tuple(map(tuple, self._nearest(table(output, self)).tolist())))

    def _nearest(self, scores: Tensor) -> Tensor:
        if scores.shape[1] < 3:
            raise TargetError(
                f"{self} has nothing to choose from.",
                expected="at least three classes",
                found=f"{scores.shape[1]}",
                remedy="For two classes MarginScore(index) is the contrast; for one output use SignedScore.",
            )
        own = within(self.index, scores, self)
        others = self.group or tuple(i for i in range(scores.shape[1]) if i != own)
        columns = torch.tensor([within(i, scores, self) for i in others], device=scores.device)
        distance = (scores.detach()[:, columns] - scores.detach()[:, own, None]).abs()
        nearest = distance.argsort(dim=1, stable=True)[:, : min(self.count, len(others))]
        return columns[nearest]
