"""Describe two pipelines in Python, submit them, watch them and compare them. `distill up` must be running.

In a notebook, pipelines and results appear as tables.
"""

from __future__ import annotations

from typing import Any

from distill_queue.scheduler.client import PipelineClient


def spec(temperature: float) -> dict[str, Any]:
    """Return a pipeline with the keys of a spec file; both pipelines have the same teacher, which is trained once."""
    training = {"epochs": 10, "batch_size": 64}
    return {
        "name": f"t{temperature:g}",
        "dataset": {"name": "digits"},
        "teacher": {"model": {"name": "mlp", "hidden": [128]}, "training": training},
        "students": [
            {
                "name": "small",
                "model": {"name": "mlp", "hidden": [16]},
                "distillation": {"temperature": temperature},
                "training": training,
                "seeds": 2,
            }
        ],
    }


def main() -> None:
    """Submit two pipelines, wait for both, and compare their students."""
    client = PipelineClient()
    pipelines = [client.submit(spec(temperature)) for temperature in (1.0, 4.0)]
    print("submitted", *pipelines)

    results = [pipeline.watch() for pipeline in pipelines]

    # With pandas: results[0].frame().groupby(["model", "role"]).accuracy.mean()
    for row in results[0].rows():
        print(row["model"], row["role"], row["seed"], row["accuracy"])

    for student in client.compare(pipelines, order="accuracy"):
        print(f"{student.pipeline}: {student.accuracy:.2%}; beside training without the teacher: {student.verdict}")


if __name__ == "__main__":
    main()
