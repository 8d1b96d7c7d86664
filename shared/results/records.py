"""What stages return: small frozen models."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from distill_queue.shared.frozen import Frozen
from distill_queue.shared.line import SealedLine
from distill_queue.shared.results.measure import Measure, best_place, in_words


class DataWarning(Frozen):
    """A warning about something that is allowed, but seldom intended."""

    #: Its name in a spec's `accept`; any text, since later versions know other kinds.
    kind: SealedLine
    text: SealedLine

    def __str__(self) -> str:
        return f"{self.text} ({self.kind})"


#: The most classes of which an evaluation's record has each.
MOST_CLASSES = 100

#: Left out where there are none, so that records without warnings stay as they always were.
DataWarnings = Annotated[tuple[DataWarning, ...], Field(exclude_if=lambda warnings: not warnings)]


#: The number of parameters that are trained; left out where all are, so that those records stay as they always were.
TrainedParameters = Annotated[int | None, Field(exclude_if=lambda trained: trained is None)]


class InputRecord(Frozen):
    """One of several inputs of a sample, by a name."""

    #: Numbers reach the model as float32, normalised; tokens as int64; flags as they are.
    kind: Literal["numbers", "tokens", "flags"]
    shape: tuple[int, ...]
    #: As those of a data set with one input; none of tokens and flags.
    mean: tuple[float, ...] = ()
    std: tuple[float, ...] = ()
    #: The largest number of a token, and the one that short texts are filled up with; none of others.
    largest: Annotated[int | None, Field(exclude_if=lambda largest: largest is None)] = None
    padding: Annotated[int | None, Field(exclude_if=lambda padding: padding is None)] = None


class DatasetRecord(Frozen):
    """A packed data set."""

    kind: Literal["dataset"] = "dataset"
    #: Shape of one sample, as in `[channels, height, width]` for images; none where it has several inputs.
    shape: tuple[int, ...]
    class_names: tuple[str, ...]
    train_samples: int
    #: Training samples with a label.
    labelled_samples: int
    #: Samples that are held out of the training data, to choose by.
    validation_samples: int
    test_samples: int
    #: Mean and standard deviation of each channel of the training inputs, as stored; none of tokens.
    mean: tuple[float, ...]
    #: For a constant channel the size of its value, but at least 1.
    std: tuple[float, ...]
    #: The largest value that a pixel can have, where mean and deviation were stated and so do not tell it.
    largest: Annotated[float | None, Field(exclude_if=lambda largest: largest is None)] = None
    #: The inputs of a sample by their names, where it has several.
    inputs: Annotated[dict[str, InputRecord], Field(exclude_if=lambda inputs: not inputs)] = {}  # noqa: RUF012 (pydantic copies it)
    warnings: DataWarnings = ()
    #: SHA-256 of the user's files that the data were read from.
    content: Annotated[str | None, Field(exclude_if=lambda content: content is None)] = None

    @property
    def tokens(self) -> bool:
        """Whether a sample is one input of tokens, int64, and not of measurements, float32."""
        return not self.mean and not self.inputs

    @property
    def input_shape(self) -> tuple[int, ...] | dict[str, tuple[int, ...]]:
        """The shape of a sample, or of each of its inputs by name."""
        return {name: each.shape for name, each in self.inputs.items()} or self.shape

    @property
    def classes(self) -> int:
        """Number of classes."""
        return len(self.class_names)

    @property
    def summary(self) -> str:
        """The record in a few words."""
        some = self.labelled_samples < self.train_samples
        labelled = f", {self.labelled_samples:,} with a label" if some else ""
        return f"{self.train_samples:,} + {self.test_samples:,} samples, {self.classes} classes{labelled}"


class TrainingRecord(Frozen):
    """A trained model."""

    kind: Literal["training"] = "training"
    parameters: int
    trained_parameters: TrainedParameters = None
    epochs: int
    #: The epoch whose weights were kept, counted from 1.
    kept_epoch: int
    steps: int
    #: Mean loss and accuracy over that epoch's training batches.
    loss: float
    train_accuracy: float
    #: Accuracy after that epoch on the samples that are held out of the training data, where there are any.
    held_out_accuracy: float | None
    #: What epochs were compared by on held-out samples, where that is not the accuracy; and its value for that epoch.
    best_by: Annotated[Measure | None, Field(exclude_if=lambda measure: measure is None)] = None
    held_out_measure: Annotated[float | None, Field(exclude_if=lambda value: value is None)] = None
    #: Seconds in the training loop, without reading data and writing weights; its share, where models were stacked.
    seconds: float
    #: Models that were trained side by side.
    together: int
    #: Precision of the matrix products.
    precision: str
    #: Why the products were not in bfloat16 or float16, which `auto` takes where the device computes it natively.
    fallback: Annotated[str | None, Field(exclude_if=lambda fallback: fallback is None)] = None
    #: Steps in float16 that were not taken, as their gradients were not finite; they are among `steps`.
    skipped_steps: Annotated[int, Field(exclude_if=lambda skipped: not skipped)] = 0
    #: What it began with, where weights were not drawn, as the end of a sentence.
    start: Annotated[SealedLine | None, Field(exclude_if=lambda start: start is None)] = None

    @property
    def summary(self) -> str:
        """The record in a few words."""
        held_out = "" if self.held_out_accuracy is None else f", {self.held_out_accuracy:.1%}{self._compared} held out"
        skipped = f", {self.skipped_steps:,} of {self.steps:,} steps skipped" if self.skipped_steps else ""
        return (
            f"{self.epochs} epochs in {self.seconds:.1f} s, loss {self.loss:.3f}, "
            f"{self.train_accuracy:.1%} on training data{held_out}{', in float32' if self.fallback else ''}{skipped}"
            f"{f', {self.start}' if self.start else ''}"
        )

    @property
    def _compared(self) -> str:
        """What the epochs were compared by, if that is not the accuracy, as the rest of a list."""
        if self.best_by is None or self.held_out_measure is None:
            return ""
        return f", {in_words(self.held_out_measure, self.best_by)}"


class WeightsRecord(Frozen):
    """A teacher whose weights were given."""

    kind: Literal["weights"] = "weights"
    parameters: int
    #: What was done to the tensors' names, as the end of a sentence; left out where nothing was.
    taken: Annotated[SealedLine | None, Field(exclude_if=lambda taken: taken is None)] = None
    warnings: DataWarnings = ()

    @property
    def summary(self) -> str:
        """The record in a few words."""
        return f"{self.parameters:,} parameters, {self.taken or 'as given'}"


class EnsembleRecord(Frozen):
    """Several teachers as one model."""

    kind: Literal["ensemble"] = "ensemble"
    teachers: int
    parameters: int
    #: Place of the point whose models these are, where they were chosen from a grid.
    best: Annotated[int | None, Field(exclude_if=lambda best: best is None)] = None

    @property
    def summary(self) -> str:
        """The record in a few words."""
        return f"{self.teachers} teacher{'' if self.teachers == 1 else 's'}, {self.parameters:,} parameters"


class ChoiceRecord(Frozen):
    """Which point of a grid is best on held-out samples."""

    kind: Literal["choice"] = "choice"
    #: A label for each point: what tells it from the others.
    labels: tuple[str, ...]
    #: How good each is on the held-out samples, averaged over the seeds.
    held_out: tuple[float, ...]
    #: What they are compared by, where that is not the accuracy.
    best_by: Annotated[Measure | None, Field(exclude_if=lambda measure: measure is None)] = None
    #: How the best point was trained, by seed.
    trained: dict[int, TrainingRecord]

    @property
    def best(self) -> int:
        """Place of the best point, the first of equals."""
        return best_place(self.held_out, self.measure)

    @property
    def measure(self) -> Measure:
        """What the points are compared by."""
        return self.best_by or "accuracy"

    @property
    def tie(self) -> str:
        """Words about points that are as good as the best one; empty where there are none."""
        equals = self.held_out.count(self.held_out[self.best])
        return f", the first of {equals} equal ones" if equals > 1 else ""

    @property
    def summary(self) -> str:
        """The record in a few words."""
        best = self.best
        held_out = in_words(self.held_out[best], self.measure, 2)
        return f"{self.labels[best]}: {held_out} held out, best of {len(self.labels)}{self.tie}"


class SoftLabelsRecord(Frozen):
    """A cache of soft labels."""

    kind: Literal["soft_labels"] = "soft_labels"
    samples: int
    views: int
    size_bytes: int
    #: As in `LabelStatistics`; the last three are none in records of earlier versions.
    accuracy: float
    confidence: float | None = None
    calibration_error: float | None = None
    entropy: float | None = None
    #: Blocks of rows that other workers computed.
    blocks_of_helpers: int = 0

    @property
    def summary(self) -> str:
        """The record in a few words."""
        right = f"teacher right on {self.accuracy:.1%}"
        return f"{self.samples:,} samples, {self.size_bytes / 1e6:.1f} MB, {right}"


class ClassesRecord(Frozen):
    """How well a model tells each class of the test set, as scikit-learn defines it (`results.class_scores`)."""

    #: Means over the classes that have test samples, of recall and of F1.
    balanced_accuracy: float
    macro_f1: float
    #: Of each class, in the order of their numbers; none where there are more than `MOST_CLASSES`.
    samples: tuple[int, ...] = ()
    precision: tuple[float, ...] = ()
    recall: tuple[float, ...] = ()
    f1: tuple[float, ...] = ()


class EvaluationRecord(Frozen):
    """A model's scores on the test set, and what it costs."""

    kind: Literal["evaluation"] = "evaluation"
    samples: int
    accuracy: float
    #: Mean negative log-likelihood of the true class, in nats.
    negative_log_likelihood: float
    #: Share of the samples on which model and teacher choose the same class; none where the teacher cannot run here.
    agreement: float | None
    parameters: int
    trained_parameters: TrainedParameters = None
    #: Multiply-adds of one sample's forward pass.
    multiply_adds: int
    #: Bytes of the weights on disk.
    size_bytes: int
    #: Milliseconds of a forward pass at batch 1.
    latency_median_ms: float
    latency_p95_ms: float
    #: Samples a second at large batches.
    throughput: float
    device: str
    #: Seconds that the model's training loop took; none for given weights.
    training_seconds: float | None
    #: Where the classes of the test set are imbalanced, or the model's epochs were compared by a mean over classes.
    classes: Annotated[ClassesRecord | None, Field(exclude_if=lambda classes: classes is None)] = None

    @property
    def summary(self) -> str:
        """The record in a few words."""
        return f"{self.accuracy:.2%} on {self.samples:,} test samples, {self.latency_median_ms:.2f} ms at batch 1"

    @property
    def parameters_in_words(self) -> str:
        """The number of parameters, and of those that are trained where others are frozen."""
        trained = "" if self.trained_parameters is None else f" ({self.trained_parameters:,} trained)"
        return f"{self.parameters:,}{trained}"
