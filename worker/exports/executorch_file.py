"""An ExecuTorch file as its runtime runs it, one sample at a time."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from distill_queue.worker.exports.quiet import quiet, quiet_native

#: The method of a file that answers.
METHOD = "forward"


class File:
    """A file whose answers are asked for, by a number of threads, which the process's other files then share."""

    @staticmethod
    def load_library() -> None:
        """Load the runtime, which a cold start does not count."""
        _native()

    def __init__(self, path: Path, threads: int = 1) -> None:
        native = _native()
        self._path = path
        with quiet_native():  # It says how many threads it now has.
            native._unsafe_reset_threadpool(threads)
            #: The method needs the program, and both must live as long as the file.
            self._program = native._load_program(str(path))
            self._method = self._program.load_method(METHOD)
        self.runtime = f"executorch {version('executorch')}"

    def logits(self, samples: Mapping[str, npt.NDArray[Any]]) -> npt.NDArray[np.float32]:
        """Logits `[samples, classes]` of raw samples, whose inputs stand in the order of the file's."""
        import torch

        inputs = [torch.from_numpy(each) for each in samples.values()]
        rows = [self._method([each[row : row + 1] for each in inputs])[0] for row in range(len(inputs[0]))]
        found: npt.NDArray[np.float32] = torch.cat(rows).numpy()
        return found

    @property
    def operators(self) -> dict[str, int]:
        """How often the file calls each backend and each operator that no backend took, the most frequent first."""
        with quiet():
            from executorch.exir._serialize._program import deserialize_pte_binary
            from executorch.exir.schema import DelegateCall, KernelCall

            plans = deserialize_pte_binary(self._path.read_bytes()).program.execution_plan
        plan = next(each for each in plans if each.name == METHOD)
        found: Counter[str] = Counter()
        for call in (each.instr_args for chain in plan.chains for each in chain.instructions):
            if isinstance(call, DelegateCall):
                found[plan.delegates[call.delegate_index].id] += 1
            elif isinstance(call, KernelCall):
                found[plan.operators[call.op_index].name] += 1
        return dict(found.most_common())


def _native() -> Any:
    """ExecuTorch's runtime. `executorch.runtime` would load the exporter too, which takes ten times as long."""
    import torch  # noqa: F401 (the runtime is linked against it, and finds it only if it is loaded)

    with quiet(), quiet_native():
        from executorch.extension.pybindings import _C
    return _C
