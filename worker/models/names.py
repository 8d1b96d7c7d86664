"""Names of parameters as the user knows them: without the prefix that a wrapper of ours adds; and which are frozen."""

from __future__ import annotations

from torch import nn

from distill_queue.shared.errors import InvalidSpec
from distill_queue.shared.spec.training import TrainingSpec


def prefix_of(model: nn.Module) -> str:
    """What stands before the user's names in torch's own; the class of a wrapper says it as its `names_prefix`."""
    prefix: str = vars(type(model)).get("names_prefix", "")
    return prefix


def parameter_names(model: nn.Module) -> list[str]:
    """The names of a model's parameters as the user knows them, in torch's order."""
    prefix = prefix_of(model)
    return [name.removeprefix(prefix) for name, _ in model.named_parameters()]


def frozen_names(model: nn.Module, training: TrainingSpec) -> frozenset[str]:
    """Torch's names of the parameters that a spec freezes."""
    if not training.freeze:
        return frozenset()
    prefix = prefix_of(model)
    frozen = set(training.frozen(parameter_names(model)))
    return frozenset(name for name, _ in model.named_parameters() if name.removeprefix(prefix) in frozen)


def freeze(model: nn.Module, training: TrainingSpec) -> None:
    """Have the parameters that a spec freezes take no gradient.

    Raises:
        InvalidSpec: what the spec says of parameters by name does not fit the model, or nothing is left to train.

    """
    if misfit := training.misfit(parameter_names(model)):
        field, problem = misfit
        raise InvalidSpec(f"training.{field}: {problem}")
    frozen = frozen_names(model, training)
    for name, parameter in model.named_parameters():
        if name in frozen:
            parameter.requires_grad_(False)
    if frozen and not any(parameter.requires_grad for parameter in model.parameters()):
        raise InvalidSpec("training.freeze: no parameter is left to train")


def frozen_modules(model: nn.Module, frozen: frozenset[str]) -> list[nn.Module]:
    """The modules whose parameters, of which there are some, are all frozen; recurrent layers are left out.

    Args:
        model: a model.
        frozen: torch's names of frozen parameters.

    """
    found: list[nn.Module] = []
    for prefix, module in model.named_modules():
        names = [f"{prefix}.{name}".lstrip(".") for name, _ in module.named_parameters()]
        if names and frozen.issuperset(names):
            # With a gradient that passes through, cuDNN's recurrent layers must be in training mode.
            found += [each for each in module.modules() if not isinstance(each, nn.RNNBase)]
    return found
