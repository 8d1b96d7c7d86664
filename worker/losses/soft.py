"""Losses: functions of logits `[batch, classes]` before softmax, computed in float32, averaged over the batch.

They run under `torch.func.vmap`, each member with its own temperature and alpha: nothing branches on a value.
"""

from __future__ import annotations

import math

import torch
from torch.nn import functional

from distill_queue.shared.spec.student import DistillationSpec

#: A number, or one member's own as a float32 tensor without dimensions.
Scalar = float | torch.Tensor

#: Temperatures up to which the plain sum of a divergence is right to five digits; it takes half of the time.
PLAIN_TEMPERATURE = 20.0

#: The target of a row without a label.
UNLABELLED = -1

#: What Sun et al. 2024 add to the standard deviation, in units of the logits.
EPSILON = 1e-7

#: Part of a vector's length that its deviations must pass to be more than float32's rounding.
ROUNDING = 1e-6

#: Length that a vector's deviations must pass for their squares to be clear of float32's underflow.
TINY = 1e-15


def soft(
    student_logits: torch.Tensor,
    teacher_logits: torch.Tensor,
    targets: torch.Tensor,
    distillation: DistillationSpec,
    *,
    temperature: Scalar,
) -> torch.Tensor:
    """The soft loss that `distillation` names, of standardised logits if it says so.

    Raises:
        ValueError: the loss is none of ours, or student and teacher differ in their classes.

    """
    if distillation.standardise:
        student_logits, teacher_logits = standardise(student_logits), standardise(teacher_logits)
    match distillation.loss:
        case "kd":
            return kl(student_logits, teacher_logits, temperature=temperature)
        case "dkd":
            return dkd(
                student_logits,
                teacher_logits,
                targets,
                temperature=temperature,
                target_weight=distillation.target_weight,
                others_weight=distillation.others_weight,
            )
        case "dist":
            return dist(
                student_logits,
                teacher_logits,
                temperature=temperature,
                inter_weight=distillation.inter_weight,
                intra_weight=distillation.intra_weight,
            )
        case "mse":
            return mse(student_logits, teacher_logits)
        case reference:
            raise ValueError(f"'{reference}' is no loss of worker.losses.soft: import it and call it instead of `soft`")


def kd(
    student_logits: torch.Tensor,
    teacher_logits: torch.Tensor,
    targets: torch.Tensor,
    *,
    temperature: Scalar,
    alpha: Scalar,
    label_smoothing: float = 0.0,
) -> torch.Tensor:
    """`alpha * T² * KL(teacher‖student at T) + (1 - alpha) * cross-entropy` (Hinton et al. 2015, section 2)."""
    student_logits = student_logits.float()
    soft_part = kl(student_logits, teacher_logits, temperature=temperature)
    return alpha * soft_part + (1.0 - alpha) * cross_entropy(student_logits, targets, label_smoothing)


def cross_entropy(logits: torch.Tensor, targets: torch.Tensor, label_smoothing: float = 0.0) -> torch.Tensor:
    """Mean negative log-likelihood, in nats, over the rows with a label; 0 if there is none.

    Args:
        logits: `[batch, classes]`, before softmax.
        targets: `[batch]`, int64 classes, -1 where there is no label.
        label_smoothing: share of each label that is spread evenly over all classes (Szegedy et al. 2016, section 7).

    Returns:
        A scalar: the sum over the labelled rows by their count.

    """
    total = functional.cross_entropy(
        logits.float(), targets, ignore_index=UNLABELLED, reduction="sum", label_smoothing=label_smoothing
    )
    # torch's own mean is 0 / 0 where no row has a label.
    return total / (targets != UNLABELLED).sum().clamp_min(1)


def mixed_cross_entropy(
    logits: torch.Tensor,
    targets: torch.Tensor,
    partner_targets: torch.Tensor,
    shares: torch.Tensor,
    label_smoothing: float = 0.0,
) -> torch.Tensor:
    """Cross-entropy with the labels of blended samples: `(1 - share)` of a row's own and `share` of its partner's.

    Zhang et al. 2018 (mixup). A row counts by the shares of its labels that are known.

    Args:
        logits: `[batch, classes]`, before softmax.
        targets: `[batch]`, int64 classes, -1 where there is no label.
        partner_targets: the same of the samples that were blended in.
        shares: `[batch]`, of the partners, from 0 to 1.
        label_smoothing: share of each label that is spread evenly over all classes.

    Returns:
        A scalar: the weighted sum over the rows by the sum of the weights.

    """
    logits = logits.float()
    total, weight = logits.new_zeros(()), logits.new_zeros(())
    for labels, weights in ((targets, 1.0 - shares), (partner_targets, shares)):
        rows = functional.cross_entropy(
            logits, labels, ignore_index=UNLABELLED, reduction="none", label_smoothing=label_smoothing
        )
        total, weight = total + (weights * rows).sum(), weight + (weights * (labels != UNLABELLED)).sum()
    return total / weight.clamp_min(1.0 / 256)


def kl(student_logits: torch.Tensor, teacher_logits: torch.Tensor, *, temperature: Scalar) -> torch.Tensor:
    """`T² * KL(teacher‖student at T)`, summed over the classes, averaged over the rows.

    Hinton, Vinyals and Dean 2015, section 2: the factor T² keeps the size of the gradients as T changes. At large T it
    tends to `|student - teacher|² / (2 * classes)` of the rows' logits less their means.
    """
    student, teacher = _tempered(student_logits, teacher_logits, temperature)
    log_p, log_q = functional.log_softmax(teacher, dim=1), functional.log_softmax(student, dim=1)
    if isinstance(temperature, float) and temperature <= PLAIN_TEMPERATURE:
        return temperature**2 * (log_p.exp() * (log_p - log_q)).sum(1).mean()
    return temperature**2 * _divergences(log_p, log_q).mean()


def dkd(
    student_logits: torch.Tensor,
    teacher_logits: torch.Tensor,
    targets: torch.Tensor,
    *,
    temperature: Scalar,
    target_weight: float,
    others_weight: float,
) -> torch.Tensor:
    """`T² * (target_weight * TCKD + others_weight * NCKD)` (Zhao et al. 2022, eq. 7), averaged over the rows.

    TCKD is the divergence over (target, all others), NCKD the one among the others. With `target_weight` 1 and
    `others_weight` a row's own `1 - teacher's probability of the target`, it is `kl`. Two classes have one other: NCKD
    is 0. A row without a label (-1) takes the teacher's likeliest class for its target.
    """
    student, teacher = _tempered(student_logits, teacher_logits, temperature)
    targets = torch.where(targets == UNLABELLED, teacher.argmax(1), targets)
    student_target, student_others = _decouple(student, targets)
    teacher_target, teacher_others = _decouple(teacher, targets)
    rows = target_weight * _divergences(teacher_target, student_target)
    rows = rows + others_weight * _divergences(teacher_others, student_others)
    return temperature**2 * rows.mean()


def dist(
    student_logits: torch.Tensor,
    teacher_logits: torch.Tensor,
    *,
    temperature: Scalar,
    inter_weight: float,
    intra_weight: float,
) -> torch.Tensor:
    """`T² * (inter_weight * inter + intra_weight * intra)` (Huang et al. 2022, eq. 8 to 10, and T² as in their code).

    Both are 1 - Pearson's correlation of the probabilities at T: `inter` between the classes of a row, averaged over
    the rows, `intra` between the rows of a class, averaged over the classes. The correlation hardly changes with T, so
    T² weighs this loss up against cross-entropy at large T.
    """
    student, teacher = (logits.softmax(1) for logits in _tempered(student_logits, teacher_logits, temperature))
    inter, intra = (_decorrelations(student, teacher, dim).mean() for dim in (1, 0))
    return temperature**2 * (inter_weight * inter + intra_weight * intra)


def mse(student_logits: torch.Tensor, teacher_logits: torch.Tensor) -> torch.Tensor:
    """Mean over the batch and the classes of the squared difference of the logits; it knows no temperature."""
    student, teacher = _tempered(student_logits, teacher_logits, 1.0)
    return (student - teacher).square().mean()


def standardise(logits: torch.Tensor) -> torch.Tensor:
    """Each row of `logits` `[batch, classes]` at mean 0 and deviation 1, float32; a constant row becomes 0.

    `(z - mean) / (standard deviation + 1e-7)`, the deviation with `classes - 1` (Sun et al. 2024, their code).
    """
    deviations, length = _deviations(logits.float(), 1)
    return deviations / (length / math.sqrt(max(logits.shape[1] - 1, 1)) + EPSILON)


def _tempered(
    student_logits: torch.Tensor, teacher_logits: torch.Tensor, temperature: Scalar
) -> tuple[torch.Tensor, torch.Tensor]:
    """Both logits in float32, divided by the temperature.

    Raises:
        ValueError: their shapes differ, and arithmetic might have stretched one over the other.

    """
    if student_logits.shape != teacher_logits.shape:
        student, teacher = tuple(student_logits.shape), tuple(teacher_logits.shape)
        raise ValueError(f"student logits {student}, teacher logits {teacher}: both must be the same [batch, classes]")
    return student_logits.float() / temperature, teacher_logits.float() / temperature


def _divergences(log_p: torch.Tensor, log_q: torch.Tensor) -> torch.Tensor:
    """KL(p‖q) of each row `[batch]` of log-probabilities `[batch, classes]`.

    Summed as `p * (r - 1) + q` with `r = log p - log q`: the same as `p * r`, since p and q sum to 1. Where r is small
    this is `p * (r + expm1(-r))`, which is never negative and in which an error of r counts only times r. With `p * r`,
    rounding times T² passes 15 % of the loss at T = 1000, and makes it negative at 10,000 (measured on logits of 0.3).
    """
    ratio = log_p - log_q
    near = ratio.clamp(-1.0, 1.0)
    p = log_p.exp()
    terms = torch.where(ratio.abs() < 1.0, p * (near + torch.expm1(-near)), p * (ratio - 1.0) + log_q.exp())
    return terms.sum(1)


def _decouple(logits: torch.Tensor, targets: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Log-probabilities of (target, all others) `[batch, 2]`, and of the others alone `[batch, classes - 1]`.

    The others are gathered rather than masked: no infinity comes up, not even with two classes.
    """
    classes = logits.shape[1]
    others = logits.gather(1, (targets[:, None] + torch.arange(1, classes, device=logits.device)) % classes)
    pairs = torch.cat((logits.gather(1, targets[:, None]), others.logsumexp(1, keepdim=True)), dim=1)
    return functional.log_softmax(pairs, dim=1), functional.log_softmax(others, dim=1)


def _decorrelations(values: torch.Tensor, others: torch.Tensor, dim: int) -> torch.Tensor:
    """1 - Pearson's correlation along `dim` of two matrices, as half the squared distance of the unit deviations.

    Where one of the two does not vary there is no gradient: 1 there (correlation 0), but 0 where neither varies.
    """
    deviations, length = _deviations(values, dim)
    other_deviations, other_length = _deviations(others, dim)
    distance = (deviations / length - other_deviations / other_length).square().sum(dim) / 2.0
    varies, other_varies = (vectors.detach().any(dim) for vectors in (deviations, other_deviations))
    return torch.where(varies & other_varies, distance, (varies ^ other_varies).float())


def _deviations(values: torch.Tensor, dim: int) -> tuple[torch.Tensor, torch.Tensor]:
    """The deviations from the mean along `dim`, and their length, that dimension kept.

    Where they are no more than rounding: 0 and the length 1, which neither the division by it nor its gradient minds.
    """
    deviations = values - values.mean(dim, keepdim=True)
    square = deviations.square().sum(dim, keepdim=True)
    varies = square > ROUNDING**2 * values.square().sum(dim, keepdim=True) + TINY**2
    return torch.where(varies, deviations, 0.0), torch.where(varies, square, 1.0).sqrt()
