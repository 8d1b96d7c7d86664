"""Fitting: weights that a training starts from, where all but a head for other classes must be the model's."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass

from distill_queue.shared.files.weights_file import Renaming, Shape, Tensor, misfit, prefix_between
from distill_queue.shared.line import listed

#: Tensors of a head that a note names.
MOST_NAMED = 4


@dataclass(frozen=True, slots=True)
class Fitting:
    """What of some weights a model starts from."""

    #: How their names become the model's.
    renaming: Renaming | None
    #: The model's tensors that stay as they are drawn: those of its head.
    drawn: tuple[str, ...]
    #: What is wrong with the weights; empty if nothing is.
    problem: str

    @property
    def words(self) -> str:
        """What was changed or left out, as the end of a sentence; empty if nothing was."""
        parts = [self.renaming.words] if self.renaming else []
        if self.drawn:
            parts.append(f"{listed(self.drawn, MOST_NAMED)} drawn anew, for other classes")
        return "; ".join(parts)


def fitting(
    given: Mapping[str, Tensor], wanted: Mapping[str, Shape], whole: Collection[str], classes: int | None
) -> Fitting:
    """Find out what of some weights a model can start from.

    Args:
        given: the tensors by name.
        wanted: the model's own.
        whole: as of `misfit`.
        classes: how many the model tells apart; None where that is not known yet.

    """
    renaming = prefix_between(given, wanted)
    named = renaming.of(given) if renaming else dict(given)
    drawn = _head_of_other_classes(named, wanted, classes)
    kept = {name: each for name, each in named.items() if name not in drawn}
    rest = {name: shape for name, shape in wanted.items() if name not in drawn}
    return Fitting(renaming, drawn, misfit(kept, rest, whole))


def _head_of_other_classes(
    given: Mapping[str, Tensor], wanted: Mapping[str, Shape], classes: int | None
) -> tuple[str, ...]:
    """The tensors of the model's last layer, if the given ones differ only in their number of classes, or are absent.

    A head that is absent while there are tensors that the model does not have may be among these by another name.
    """
    last = next((name for name, shape in reversed(list(wanted.items())) if classes and shape[:1] == (classes,)), None)
    if last is None:
        return ()
    module = last.rpartition(".")[0]
    head = tuple(name for name, shape in wanted.items() if name.rpartition(".")[0] == module and shape)
    found = {name: given[name].shape for name in head if name in given}
    if not found:
        return head if all(name in wanted for name in given) else ()
    alike = len(found) == len(head) and all(_differ_in_classes(found[name], wanted[name]) for name in head)
    return head if alike else ()


def _differ_in_classes(shape: tuple[int, ...], wanted: Shape) -> bool:
    rest = zip(shape[1:], wanted[1:], strict=False)
    same = len(shape) == len(wanted) and all(want is None or have == want for have, want in rest)
    return same and shape[:1] != wanted[:1]
