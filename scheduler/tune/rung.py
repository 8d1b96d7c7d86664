"""Rungs: for how long, and with how many seeds, a round's candidates are trained before the worst are dropped."""

from __future__ import annotations

from dataclasses import dataclass

from distill_queue.shared.spec.student import StudentSpec

#: Seeds of the candidates that are trained to the end.
SEEDS = 3


@dataclass(frozen=True, slots=True)
class Rung:
    """A step of a round."""

    #: The share of a candidate's epochs, as its denominator. Each training is a whole one, with a schedule as short: a
    #: half-trained model would still have the high learning rate of a one-cycle schedule.
    part: int
    seeds: int

    def trained(self, student: StudentSpec) -> StudentSpec:
        """A candidate as this rung trains it.

        Its seeds are others than those of the final pipeline: these have no part in the choice.
        """
        epochs = -(-student.training.epochs // self.part)
        first = (student.training.seed + student.seeds) % (2**32 - SEEDS)
        training = student.training.shortened(epochs).model_copy(update={"seed": first})
        return student.model_copy(update={"training": training, "seeds": self.seeds})


#: Candidates of a round; of those that a rung trained, one in `KEPT` goes on to the next.
CANDIDATES, KEPT = 16, 4
RUNGS = (Rung(part=4, seeds=1), Rung(part=1, seeds=SEEDS))
