"""The state of a training: all that the rest of it depends on, which is what a checkpoint holds."""

from __future__ import annotations

import time
from collections.abc import Sequence

import torch
from torch import nn

from distill_queue.shared.results.measure import Measure
from distill_queue.shared.spec.training import TrainingSpec
from distill_queue.worker.training.checkpoints import Checkpoint
from distill_queue.worker.training.descent.descent import Descent
from distill_queue.worker.training.epochs.curves import Curve, Point, Tally
from distill_queue.worker.training.epochs.held_out import HeldOutScores
from distill_queue.worker.training.epochs.orders import Orders


class State:
    """Where a training stands, and what is known of each member so far."""

    def __init__(
        self,
        training: TrainingSpec,
        models: Sequence[nn.Module],
        descent: Descent,
        orders: Orders,
        tally: Tally,
    ) -> None:
        """Stand before the first step.

        Args:
            training: how all members are trained.
            models: the members' models, which are changed in place.
            descent: what changes them.
            orders: in which order they see the samples.
            tally: what is counted in an epoch.

        """
        self.training, self.models = training, models
        self.descent, self.orders, self.tally = descent, orders, tally
        #: Optimiser steps of an epoch, and its batches.
        self.steps_an_epoch, self._batches_an_epoch = descent.accumulation.steps, len(descent.accumulation.sizes)
        #: Whole epochs so far, and batches of the present one.
        self.epoch = self.batch = 0
        self._best_by: Measure | None = None if training.best_by == "accuracy" else training.best_by
        self.curves = [Curve(best_by=self._best_by) for _ in models]
        #: Why a member is not trained any more; nothing while it is.
        self.failures = [""] * len(models)
        #: Weights of the best epochs so far, by member and name.
        self._best: dict[str, torch.Tensor] = {}
        self._seconds_before = 0.0
        self._started = time.monotonic()

    @property
    def step(self) -> int:
        """Optimiser steps of the present epoch so far."""
        return self.descent.accumulation.steps_after(self.batch)

    @property
    def steps(self) -> int:
        """Optimiser steps so far."""
        return self.epoch * self.steps_an_epoch + self.step

    @property
    def last_step(self) -> int:
        """Optimiser steps of all epochs that the spec asks for."""
        return self.steps_an_epoch * self.training.epochs

    @property
    def batches(self) -> int:
        """Batches so far, by which checkpoints are counted."""
        return self.epoch * self._batches_an_epoch + self.batch

    @property
    def share(self) -> float:
        """The part of the batches that is done, from 0 to 1."""
        return self.batches / (self._batches_an_epoch * self.training.epochs)

    @property
    def seconds(self) -> float:
        """Seconds in the loop so far, those before the last checkpoint included."""
        return self._seconds_before + time.monotonic() - self._started

    @property
    def ended(self) -> bool:
        """Whether there is no epoch left to train."""
        patience = self.training.patience
        given_up = patience is not None and self.curves[0].epochs_since_best >= patience
        return self.epoch >= self.training.epochs or given_up or all(self.failures)

    @property
    def summary(self) -> str:
        """Loss and accuracy of the last epoch, if there was one; of several members, of the best."""
        if not self.curves[0]:
            return ""
        best = max(self.curves, key=lambda curve: curve.points[-1].train_accuracy)
        return f" · {best.last_in_words}"

    def note(self, losses: torch.Tensor, hits: torch.Tensor) -> None:
        """Count a batch that was learned from, without waiting for the device; shapes as in `Tally.note`."""
        self.tally.note(self.batch, losses, hits)
        self.batch += 1

    def end_epoch(self, held_out: HeldOutScores) -> None:
        """Sum up the epoch, with each member's scores on the held-out samples, and stand before the next one."""
        losses, accuracies, bad_batches = self.tally.sum_up()
        points = map(Point._make, zip(losses, accuracies, held_out.accuracies, strict=True))
        skipping = self.descent.loss_scale.failure(self.last_step) if self.descent.loss_scale else ""
        for member, (point, bad_batch) in enumerate(zip(points, bad_batches, strict=True)):
            if bad_batch is not None and not self.failures[member]:
                step = self.epoch * self.steps_an_epoch + bad_batch // self.training.accumulate + 1
                self.failures[member] = f"the loss is not finite in step {step}: try a smaller learning_rate"
            self.failures[member] = self.failures[member] or skipping
            self.curves[member].points.append(point)
            if held_out.measures is not None:
                self.curves[member].measures.append(held_out.measures[member])
            if self.training.keep == "best" and not self.curves[member].epochs_since_best:
                weights = self.models[member].state_dict()
                self._best |= {f"{member}/{name}": tensor.clone() for name, tensor in weights.items()}
        self.epoch, self.batch = self.epoch + 1, 0
        self.orders.remember()

    def finish(self) -> None:
        """Put the weights' average, or the weights of the best epochs, into the models, where these are asked for."""
        self.descent.finish()
        for member, model in enumerate(self.models):
            if best := _below(f"{member}/", self._best):
                model.load_state_dict(best)

    def kept_epoch(self, member: int) -> int:
        """The epoch, counted from 1, whose weights a member has in the end."""
        curve = self.curves[member]
        return curve.best_epoch if self.training.keep == "best" else len(curve)

    def checkpoint(self) -> Checkpoint:
        """The state as tensors and facts."""
        tensors = {"losses": self.tally.losses, "hits": self.tally.hits, "random": torch.get_rng_state()}
        for member, model in enumerate(self.models):
            tensors |= {f"model/{member}/{name}": tensor for name, tensor in model.state_dict().items()}
            tensors[f"shuffle/{member}"] = self.orders.states[member]
        tensors |= self.descent.state
        tensors |= {f"best/{name}": tensor for name, tensor in self._best.items()}
        if self._device.type == "cuda":
            tensors["random_cuda"] = torch.cuda.get_rng_state(self._device)
        facts = {
            "epoch": self.epoch,
            "step": self.batch,
            "seconds": self.seconds,
            "curves": [curve.points for curve in self.curves],
            "failures": self.failures,
        }
        if self._best_by:
            facts["measures"] = [curve.measures for curve in self.curves]
        return Checkpoint(tensors, facts)

    def load(self, checkpoint: Checkpoint) -> None:
        """Stand where a checkpoint was written."""
        tensors, facts = checkpoint.tensors, checkpoint.facts
        self.descent.load(tensors)
        for member, model in enumerate(self.models):
            model.load_state_dict(_below(f"model/{member}/", tensors))
        self.orders.load([tensors[f"shuffle/{member}"] for member in range(len(self.models))])
        self.tally.losses.copy_(tensors["losses"])
        self.tally.hits.copy_(tensors["hits"])
        self._best = {name: tensor.to(self._device) for name, tensor in _below("best/", tensors).items()}
        torch.set_rng_state(tensors["random"])
        if self._device.type == "cuda":
            torch.cuda.set_rng_state(tensors["random_cuda"], self._device)
        self.epoch, self.batch, self.failures = facts["epoch"], facts["step"], facts["failures"]
        measures = facts.get("measures", [[] for _ in self.models])
        self.curves = [
            Curve([Point(*point) for point in points], self._best_by, values)
            for points, values in zip(facts["curves"], measures, strict=True)
        ]
        self._seconds_before = facts["seconds"]

    @property
    def _device(self) -> torch.device:
        return self.tally.losses.device


def _below(prefix: str, tensors: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """The tensors whose names begin with a prefix, by the rest of their names."""
    return {name.removeprefix(prefix): tensor for name, tensor in tensors.items() if name.startswith(prefix)}
