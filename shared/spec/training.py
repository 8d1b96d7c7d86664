"""What a spec says of a training."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Annotated, Any, Literal, Self

from pydantic import BeforeValidator, Discriminator, Field, Tag, model_validator
from pydantic_core import PydanticCustomError

from distill_queue.shared.catalog import did_you_mean
from distill_queue.shared.results.measure import WORDS, Measure
from distill_queue.shared.spec.augmentation import AugmentationSpec
from distill_queue.shared.spec.models.family import ModelFamily
from distill_queue.shared.spec.parameters import PatternRates, Patterns, depths, matching, unmatched, without_buffers
from distill_queue.shared.spec.part import SpecPart

#: The momentum of `sgd`, where a spec says none.
MOMENTUM = 0.9
#: What the schedule `step` multiplies by, where a spec says nothing.
GAMMA = 0.1
#: Options of one optimizer or schedule, which have no effect with another.
_BELONGS = {
    "momentum": ("optimizer", "sgd"),
    "nesterov": ("optimizer", "sgd"),
    "milestones": ("schedule", "step"),
    "gamma": ("schedule", "step"),
    "power": ("schedule", "polynomial"),
}
#: Why samples that are drawn by class are not blended.
BLENDS = "mixup and cutmix blend in samples of all classes, as often as there are some: leave out one of the two"


def _numbers_as_names(given: Any) -> Any:
    """The keys of a mapping as text: in YAML, the class `7` is written as a number."""
    return {str(name) if type(name) is int else name: weight for name, weight in given.items()}


#: `balanced`, or weights by the names of classes.
ClassWeights = Annotated[
    Annotated[Literal["balanced"], Tag("balanced")]
    | Annotated[
        dict[str, Annotated[float, Field(gt=0.0, le=1e6)]],
        Field(min_length=1, max_length=10_000),
        BeforeValidator(_numbers_as_names),
        Tag("by class"),
    ],
    Discriminator(lambda given: "by class" if isinstance(given, dict) else "balanced"),
]


def unknown_classes(weights: Mapping[str, float], class_names: Sequence[str]) -> str:
    """Why weights do not belong to some classes, in the words of a spec; empty where they do."""
    unknown = next((name for name in weights if name not in class_names), None)
    if unknown is None:
        return ""
    hint = did_you_mean(unknown, class_names)
    return f"training.class_weights: class {unknown} is none of the {len(class_names):,} classes of the data{hint}"


class TrainingSpec(SpecPart):
    """How a model is trained; the defaults suit small images."""

    epochs: int = Field(default=5, ge=1, le=100_000)
    """How often each sample is seen."""
    batch_size: int = Field(default=256, ge=1, le=1_048_576)
    """Samples of a batch; a single one left at the end of an epoch joins the one before it where the model needs it."""
    optimizer: Literal["adam", "adamw", "sgd"] = "adam"
    """`sgd` has Nesterov's momentum, of 0.9 where `momentum` says no other."""
    # What is new is left out where it has its default, so that messages and keys stay what they were.
    momentum: float = Field(default=MOMENTUM, ge=0.0, lt=1.0, exclude_if=lambda momentum: momentum == MOMENTUM)
    """Momentum of `sgd`; 0: none."""
    nesterov: bool = Field(default=True, exclude_if=lambda nesterov: nesterov)
    """Whether the momentum of `sgd` is Nesterov's (Sutskever et al. 2013)."""
    learning_rate: float = Field(default=1e-3, gt=0.0, le=1e3)
    """The learning rate, or the highest one where the schedule changes it."""
    learning_rates: Annotated[PatternRates, Field(exclude_if=lambda rates: not rates)] = ()
    """Learning rates of some parameters, as `{"head.*": 1e-3}`: of the first shell pattern that matches a name."""
    layer_decay: Annotated[float, Field(gt=0.0, le=1.0, exclude_if=lambda decay: decay == 1.0)] = 1.0
    """What each layer's learning rate is of that of the layer behind it; the head has `learning_rate`."""
    freeze: Annotated[Patterns, Field(exclude_if=lambda freeze: not freeze)] = ()
    """Shell patterns of the names of parameters that stay as they are, as `["stem.*", "blocks.0.*"]`."""
    weight_decay: float = Field(default=0.0, ge=0.0, le=10.0)
    """Weight decay of matrices and kernels; norms and biases have none."""
    clip_norm: float | None = Field(default=None, gt=0.0, le=1e6, exclude_if=lambda norm: norm is None)
    """Largest norm of a step's gradients, over all parameters together; larger ones are scaled down to it."""
    accumulate: int = Field(default=1, ge=1, le=65_536, exclude_if=lambda batches: batches == 1)
    """Batches that make a step together, as one batch of so many times the size would."""
    schedule: Literal["constant", "one_cycle", "cosine", "step", "polynomial"] = "one_cycle"
    """How the learning rate changes over the steps."""
    milestones: Annotated[
        tuple[Annotated[int, Field(ge=1)], ...],
        Field(strict=False, max_length=100, exclude_if=lambda milestones: not milestones),
    ] = ()
    """Of `step`: whole epochs after which the learning rate is multiplied by `gamma`, as `[60, 80]`."""
    gamma: float = Field(default=GAMMA, gt=0.0, le=1.0, exclude_if=lambda gamma: gamma == GAMMA)
    """Of `step`: what the learning rate is multiplied by at each milestone."""
    power: float = Field(default=1.0, gt=0.0, le=100.0, exclude_if=lambda power: power == 1.0)
    """Of `polynomial`: the power of the share of the steps that is left; 1 is a line down to 0."""
    warmup: float = Field(default=0.0, ge=0.0, lt=1.0)
    """Share of the steps in which the learning rate rises from 0; not of `one_cycle`, which rises by itself."""
    label_smoothing: float = Field(default=0.0, ge=0.0, lt=1.0)
    """Share of a hard label that is spread over all classes."""
    class_weights: ClassWeights | None = Field(default=None, exclude_if=lambda weights: weights is None)
    """How much a label counts in the hard loss: `balanced`, or `{name: weight}` by class, where others count 1."""
    sampling: Literal["even", "balanced"] = Field(default="even", exclude_if=lambda sampling: sampling == "even")
    """`balanced`: an epoch shows each class equally often, small ones over and over; `even`: each sample once."""
    augmentation: AugmentationSpec = AugmentationSpec()
    """A teacher's views; a student and its control see those of the soft labels."""
    ema_decay: float | None = Field(default=None, gt=0.0, lt=1.0, exclude_if=lambda decay: decay is None)
    """Weights are averaged: each step keeps this share of the average so far, and adds the rest of the new weights."""
    keep: Literal["last", "best"] = "last"
    """`best` keeps the weights of the epoch that is best on held-out samples."""
    best_by: Measure = Field(default="accuracy", exclude_if=lambda measure: measure == "accuracy")
    """What epochs are compared by, for `keep: best` and `patience`; also the points of a grid that has such epochs."""
    keep_state: Annotated[bool, Field(exclude_if=lambda keeps: not keeps)] = False
    """Keep the optimiser's state beside the weights, for a later pipeline that `continues` the training to the bit."""
    patience: int | None = Field(default=None, ge=1)
    """Epochs that are not better on held-out samples than the best one, after which a training ends; none: never."""
    seed: int = Field(default=0, ge=0, lt=2**32)
    """Seed of the initial weights, the order of the samples and dropout."""
    precision: Literal["auto", "float32", "bfloat16", "float16"] = "auto"
    """`auto` is the first of bfloat16, float16 (on a card) and float32 that is fast and, by a probe, right."""

    @property
    def chooses(self) -> bool:
        """Whether epochs are compared on held-out samples."""
        return self.keep == "best" or self.patience is not None

    @property
    def without_effect(self) -> tuple[str, str] | None:
        """A field that does nothing here, and what to do about it; None if there is none.

        New specs must not have one. What was trained by earlier versions may, and is still read.
        """
        if self.warmup and self.schedule == "one_cycle":
            return "warmup", "'one_cycle' rises by itself: leave it out, or say another schedule, as 'cosine'"
        return None

    @property
    def words(self) -> tuple[str, ...]:
        """How it minds classes of different sizes, as short as tables need it; nothing where it does not."""
        weights = "balanced" if self.class_weights == "balanced" else "given"
        return (
            *(() if self.class_weights is None else (f"class weights {weights}",)),
            *(() if self.sampling == "even" else ("balanced sampling",)),
            *(() if self.best_by == "accuracy" else (f"epochs compared by {WORDS[self.best_by]}",)),
        )

    @property
    def is_new(self) -> bool:
        """Whether only versions that know stage format 6 can train so."""
        left_out = {name: field.exclude_if for name, field in type(self).__pydantic_fields__.items()}
        new = any(is_default and not is_default(getattr(self, name)) for name, is_default in left_out.items())
        return new or self.schedule in ("step", "polynomial") or self.precision == "float16" or self.augmentation.is_new

    def shortened(self, epochs: int) -> Self:
        """The same with fewer epochs, and milestones at the same shares of them."""
        places = (round(milestone * epochs / self.epochs) for milestone in self.milestones)
        milestones = tuple(sorted({place for place in places if 0 < place < epochs}))
        if not self.milestones:
            return self.model_copy(update={"epochs": epochs})
        if milestones:
            return self.model_copy(update={"epochs": epochs, "milestones": milestones})
        # Copies remember what was said: the options of `step` would be refused beside another schedule.
        said = self.model_dump(exclude_unset=True, exclude={"milestones", "gamma"})
        return type(self).model_validate(said | {"epochs": epochs, "schedule": "constant"})

    def frozen(self, names: Sequence[str]) -> list[str]:
        """The parameters of a model that stay as they are."""
        return matching(self.freeze, names)

    def rates(self, names: Sequence[str]) -> list[float]:
        """The learning rate of each of a model's parameters; in a schedule, the highest one.

        With a layer decay, a rate falls by a factor from each layer to the one before it (Clark et al. 2020, ELECTRA,
        section 3.1; Bao et al. 2022, BEiT, appendix). A rate that is given by a pattern is not changed by it.

        Raises:
            ValueError: no layers are numbered in the names, whose rates a decay could tell apart.

        """
        rates = dict.fromkeys(names, self.learning_rate)
        if self.layer_decay != 1.0:
            found = depths(names)
            deepest = max(found.values())
            rates = {name: rate * self.layer_decay ** (deepest - found[name]) for name, rate in rates.items()}
        for each in reversed(self.learning_rates):
            rates |= dict.fromkeys(matching([each.pattern], names), each.learning_rate)
        return list(rates.values())

    def misfit(self, names: Sequence[str]) -> tuple[str, str] | None:
        """The field that does not fit a model with parameters of these names, and what is wrong; None if all fit."""
        for field, patterns in (
            ("freeze", self.freeze),
            ("learning_rates", [each.pattern for each in self.learning_rates]),
        ):
            if problem := next(filter(None, (unmatched(pattern, names) for pattern in patterns)), None):
                return field, problem
        if self.freeze and len(self.frozen(names)) == len(names):
            return "freeze", "all parameters are frozen: there is nothing to train"
        try:
            self.rates(names)
        except ValueError as error:
            return "layer_decay", str(error)
        return None

    @model_validator(mode="after")
    def _options_have_an_effect(self) -> Self:
        for field, (choice, owner) in _BELONGS.items():
            chosen = getattr(self, choice)
            if field in self.model_fields_set and chosen != owner:
                raise PydanticCustomError(
                    "options",
                    "belongs to {choice} '{owner}', not to '{chosen}'",
                    {"key": field, "choice": choice, "owner": owner, "chosen": chosen},
                )
        if not self.momentum and self.nesterov and "nesterov" in self.model_fields_set:
            raise PydanticCustomError("options", "needs a momentum above 0", {"key": "nesterov"})
        return self

    @model_validator(mode="after")
    def _milestones_are_reached(self) -> Self:
        if self.schedule == "step" and not self.milestones:
            raise PydanticCustomError("options", "'step' needs milestones, as [60, 80]", {"key": "schedule"})
        if any(later <= earlier for earlier, later in pairwise(self.milestones)):
            raise PydanticCustomError("options", "each milestone is later than the one before", {"key": "milestones"})
        if self.milestones and self.milestones[-1] >= self.epochs:
            raise PydanticCustomError(
                "options",
                "epoch {milestone} is not before the end of {epochs} epochs",
                {"key": "milestones", "milestone": self.milestones[-1], "epochs": self.epochs},
            )
        return self

    @model_validator(mode="after")
    def _compares_what_it_measures(self) -> Self:
        if self.best_by != "accuracy" and not self.chooses:
            raise PydanticCustomError(
                "options",
                "compares epochs on held-out samples, which only 'keep: best' and 'patience' do",
                {"key": "best_by"},
            )
        return self

    @model_validator(mode="after")
    def _balances_once(self) -> Self:
        if self.sampling == "balanced" and self.class_weights == "balanced":
            raise PydanticCustomError(
                "options",
                "a small class would count twice: leave out one of balanced 'sampling' and balanced 'class_weights'",
                {"key": "class_weights"},
            )
        return self

    @model_validator(mode="after")
    def _draws_from_its_own_classes(self) -> Self:
        if self.sampling == "balanced" and self.augmentation.blends:
            raise PydanticCustomError("options", BLENDS, {"key": "sampling"})
        return self


def require_parameters(model: ModelFamily, training: TrainingSpec) -> None:
    """Refuse a training that names parameters which its model does not have, as far as these are known without torch.

    Raises:
        PydanticCustomError: it does.

    """
    tensors = model.tensors(None, None)
    if tensors is not None and (misfit := training.misfit(without_buffers(tensors))):
        field, problem = misfit
        raise PydanticCustomError("options", "{problem}", {"key": f"training.{field}", "problem": problem})
