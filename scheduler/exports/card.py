"""The card: what a student is, how good its files are, and where they come from, in Markdown."""

from __future__ import annotations

from distill_queue.scheduler.exports.facts import FolderFacts
from distill_queue.scheduler.exports.template import filled
from distill_queue.shared.results.interval import wilson
from distill_queue.shared.results.records import EvaluationRecord


def card(facts: FolderFacts, use: str) -> str:
    """The text of the card; `use` is the command that tries the files."""
    student, recipe = facts.student, facts.student.recipe
    versions = facts.exports[0].manifest.provenance.versions
    runtimes = dict.fromkeys(record.runtime for record in facts.records)
    return filled(
        "card.md",
        student=student,
        model=recipe.model.words,
        loss=recipe.distillation.words,
        data=student.data,
        dataset=facts.dataset_name,
        inputs=facts.inputs,
        records=facts.records,
        onnx_file=facts.onnx_file,
        accuracies=[accuracy(record.accuracy, record.samples) for record in facts.records],
        scores=[(name, accuracy(each.accuracy, each.samples), each) for name, each in _models(facts)],
        taught=f"{student.runs.teacher}, another student" if student.runs.teacher else "the pipeline's teacher",
        licence=facts.licence,
        keys={
            "model": student.model.manifest.key,
            "data": student.dataset.manifest.key,
            **{record.file: each.manifest.key for record, each in zip(facts.records, facts.exports, strict=True)},
        },
        versions=[*(f"{name} {each}" for name, each in versions.items()), *runtimes],
        use=use,
    )


def accuracy(share: float, samples: int) -> str:
    """An accuracy with its 95 % interval, and on how many samples."""
    low, high = wilson(share, samples)
    return f"{share:.2%} ({low:.2%} to {high:.2%})"


def _models(facts: FolderFacts) -> list[tuple[str, EvaluationRecord]]:
    """The student, its control and its teacher, as far as they are known."""
    student = facts.student
    known = {"student": student.evaluation, "control: the same without a teacher": student.control}
    called = f"teacher{student.teacher_words and f': {student.teacher_words}'}"
    return [(name, each) for name, each in (*known.items(), (called, student.teacher)) if each]
