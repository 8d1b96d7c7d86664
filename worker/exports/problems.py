"""Problems: why a student cannot be exported, in which line of its model, and what to do instead."""

from __future__ import annotations

import re
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from difflib import get_close_matches
from pathlib import Path
from types import FrameType
from typing import Any

from distill_queue.shared.errors import StageFailed
from distill_queue.shared.line import first_line, shortened
from distill_queue.worker.exports.job import ExportJob
from distill_queue.worker.machine import memory

#: Characters of what torch says.
LONGEST_REASON = 300
#: Packages whose lines are not the user's.
NOT_THE_USERS = (
    "distill_queue",
    "torch",
    "torchvision",
    "timm",
    "transformers",
    "onnxscript",
    "contextlib",
    "functools",
)
_OPERATOR = re.compile(r"OpOverload\(op='([\w.]+)'")
_SOURCE_LINE = re.compile(r'File "(.+)", line (\d+)')


@contextmanager
def problems(job: ExportJob, program: Any = None) -> Iterator[None]:
    """Say what of a student cannot be exported, in which line of the user's, and what to do.

    Raises:
        StageFailed: some of it cannot be.

    """
    with failing(lambda error: f"{job.name} failed: {_reason(error, program)}"):
        yield


@contextmanager
def failing(words: Callable[[Exception], str], *passing: type[Exception]) -> Iterator[None]:
    """Have an error of a library, which raises any kind, fail the stage.

    Args:
        words: what the stage's message says of the error.
        passing: kinds of errors that are raised as they are, as one of memory that runs out is.

    Raises:
        StageFailed: the library raised another one.

    """
    try:
        yield
    except Exception as error:
        if memory.is_short(error) or isinstance(error, passing):
            raise
        raise StageFailed(words(error)) from error


def root_of(error: BaseException) -> BaseException:
    """The error that an error was raised because of, at the beginning."""
    while error.__cause__ is not None:
        error = error.__cause__
    return error


def _reason(error: BaseException, program: Any) -> str:
    """What an error means for the one who wrote the model."""
    cause = root_of(error)
    said = " ".join(str(cause).split())
    if unknown := _OPERATOR.search(said):
        name = unknown[1]
        return (
            f"ONNX has nothing for torch's operation '{name}'{_line_of(name, program)}: write the forward with others, "
            "or do this step before the model"
        )
    place = _own_line(error)
    if "data-dependent" in said or "unbacked" in said.lower():
        return (
            f"what the forward does depends on values of its input{place}: instead of 'if', .item() or .tolist(), "
            "choose by torch.where"
        )
    if "specialized" in said or ("constant" in said and "batch" in said):
        return (
            f"the size of a batch is part of the model{place}: take sizes from the tensor, as x.flatten(1) or "
            "x.reshape(len(x), -1) do, without int(), a loop over samples or an 'if' on the size"
        )
    reason = shortened(first_line(cause), LONGEST_REASON)
    return f"{reason}{place}: its forward must do the same for every batch, with torch's own operations"


def _own_line(error: BaseException) -> str:
    """The deepest line of a model's own code that an error came through, in brackets; empty if there is none."""
    found = ""
    each: BaseException | None = error
    while each is not None and not found:
        own = [(frame, line) for frame, line in traceback.walk_tb(each.__traceback__) if _is_own(frame)]
        found = f" ({Path(own[-1][0].f_code.co_filename).name}:{own[-1][1]})" if own else ""
        each = each.__cause__ or each.__context__
    return found


def _is_own(frame: FrameType) -> bool:
    package = str(frame.f_globals.get("__name__", "")).partition(".")[0]
    return package not in NOT_THE_USERS and package != "__main__"


def _line_of(operator: str, program: Any) -> str:
    """The last line of source code outside of libraries that an operator of a program came from, in brackets."""
    called = [node for node in program.graph.nodes if node.op == "call_function"] if program is not None else []
    nodes = {str(node.target).split(".")[-2:][0]: node for node in called}
    # Operators are made of others on the way: `linalg_svdvals` becomes `_linalg_svd`.
    for name in get_close_matches(operator.rpartition(".")[2], nodes, 1):
        lines = _SOURCE_LINE.findall(nodes[name].meta.get("stack_trace") or "")
        own = [(path, line) for path, line in lines if not {*NOT_THE_USERS} & {*Path(path).parts}]
        return f" ({Path(own[-1][0]).name}:{own[-1][1]})" if own else ""
    return ""
