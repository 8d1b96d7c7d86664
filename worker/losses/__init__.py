"""Losses, a file for each: functions of logits `[batch, classes]` before softmax, float32, averaged over the batch.

They run under `torch.func.vmap`, each member with its own temperature and alpha: so no code branches on a value. The
user's own code may call them as well.
"""

from distill_queue.worker.losses.cross_entropy import cross_entropy, mixed_cross_entropy
from distill_queue.worker.losses.dist import dist
from distill_queue.worker.losses.dkd import dkd
from distill_queue.worker.losses.kd import kd, kl
from distill_queue.worker.losses.mse import mse
from distill_queue.worker.losses.numerics import UNLABELLED, Scalar, standardise
from distill_queue.worker.losses.soft import soft

__all__ = [
    "UNLABELLED",
    "Scalar",
    "cross_entropy",
    "dist",
    "dkd",
    "kd",
    "kl",
    "mixed_cross_entropy",
    "mse",
    "soft",
    "standardise",
]
