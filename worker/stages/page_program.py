"""Page program: a teacher as a program that the report's page computes beside its students."""

from __future__ import annotations

from pathlib import Path
from tempfile import TemporaryDirectory

from distill_queue.shared.errors import StageFailed
from distill_queue.shared.plan.recipes import WritePageProgram
from distill_queue.shared.results.page_program import PageProgram, PageProgramRecord
from distill_queue.worker.exports import onnx, page_program
from distill_queue.worker.exports.deployable import deployable
from distill_queue.worker.exports.facts import FileFacts
from distill_queue.worker.exports.job import ExportJob
from distill_queue.worker.machine import extras
from distill_queue.worker.stages.context import StageContext


def run(recipe: WritePageProgram, context: StageContext) -> PageProgramRecord:  # noqa: ARG001 (each kind's function has one)
    """Write a model's program, or why it has none: a page that lacks it is no reason to fail."""
    extras.require("onnxruntime", "export", "students that are exported need")
    test = context.split("test", streamed=True)
    model = deployable(context.model("model"), test)
    reason = page_program.reason_against(model, test)
    if reason is None:
        facts = FileFacts(context.dataset.class_names, "", "", model.inputs)
        with TemporaryDirectory() as scratch:
            file = Path(scratch) / "model.onnx"
            try:
                onnx.write(ExportJob(context.title, model, facts, lambda: iter(())), file)
            except StageFailed as error:
                reason = str(error)
            else:
                return page_program.write(model, file, test, context.folder)
    return page_program.put(PageProgram(reason=reason), context.folder)
