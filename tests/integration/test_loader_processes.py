"""Soft labels in the processes of torch's data loader."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from torch.utils.data import DataLoader

from distill_queue.worker.data.teacher_logits import SoftLabelDataset
from tests.unit.shared.soft_labels.test_soft_labels import logits, written


def test_worker_processes_of_a_loader_map_the_cache_themselves(tmp_path: Path) -> None:
    values = logits(1, 64, 4)
    dataset = SoftLabelDataset(written(tmp_path, values))

    loader = DataLoader(dataset, batch_size=8, num_workers=2, multiprocessing_context="spawn")

    np.testing.assert_array_equal(torch.cat(list(loader)).numpy(), values[0])
