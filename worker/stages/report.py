"""Report: all students beside their controls and the teacher."""

from __future__ import annotations

from collections.abc import Iterator

from distill_queue.shared.plan.recipes import StudentRuns, WriteReport
from distill_queue.shared.results.budget import Candidate, Limits, verdict
from distill_queue.shared.results.export import ExportRecord
from distill_queue.shared.results.records import ChoiceRecord, EvaluationRecord
from distill_queue.shared.results.scores import ReportRecord, StudentRun
from distill_queue.worker.evaluation import scores
from distill_queue.worker.stages.context import StageContext, record_of

REPORT = "report.json"


def run(recipe: WriteReport, context: StageContext) -> ReportRecord:
    """Compare every student with its control and with the teacher; trainings without scores have no student here."""
    choices = {
        role: record_of(context.inputs[role], ChoiceRecord) for role in context.inputs if role.endswith("/choice")
    }
    evaluations = {
        role: record_of(artifact, EvaluationRecord)
        for role, artifact in context.inputs.items()
        if recipe.students and role not in choices and "/export/" not in role
    }
    students = []
    for student in recipe.students:
        runs = tuple(
            StudentRun(
                seed=seed,
                student=evaluations[student.role(seed)],
                control=evaluations.get(student.control(seed)),
            )
            for seed in student.seeds
        )
        score = scores.score(student.name, runs, evaluations.get("teacher"))
        chosen = {
            "choice": choices.get(f"{student.name}/choice"),
            "control_choice": choices.get(f"{student.name}/control/choice"),
            "teacher": student.teacher,
            "exports": _exports(student, context),
        }
        students.append(score.model_copy(update=chosen))
    teachers = tuple(evaluations[f"teacher {number}"] for number in range(1, recipe.teachers + 1))
    report = ReportRecord(teacher=evaluations.get("teacher"), teachers=teachers, students=tuple(students))
    if recipe.budget:
        limits = Limits(**recipe.budget.model_dump())
        report = report.model_copy(update={"budget": verdict(limits, tuple(candidates(report)))})
    (context.folder / REPORT).write_text(report.model_dump_json(indent=1), encoding="utf-8")
    return report


def candidates(report: ReportRecord) -> Iterator[Candidate]:
    """What a budget chooses from: each student's files; of one without any, its first seed's model in torch."""
    for score in report.students:
        for export in score.exports:
            yield Candidate(
                student=score.name,
                file=export.file,
                size_bytes=export.size_bytes,
                latency_ms=export.latency_median_ms,
                accuracy=export.accuracy,
                samples=export.samples,
            )
        if not score.exports:
            yield Candidate(
                student=score.name,
                size_bytes=score.student.size_bytes,
                latency_ms=report.fastest(score.student).latency_median_ms,
                accuracy=score.student.accuracy,
                samples=score.student.samples,
            )


def _exports(student: StudentRuns, context: StageContext) -> tuple[ExportRecord, ...]:
    """The files that a student was exported to."""
    begin = student.export("")
    return tuple(record_of(each, ExportRecord) for role, each in context.inputs.items() if role.startswith(begin))
