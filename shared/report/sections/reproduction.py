"""How to make the pipeline's results again: commands, and the spec to copy."""

from __future__ import annotations

from distill_queue.shared.errors import InvalidSpec
from distill_queue.shared.plan.planned_spec import PlannedSpec
from distill_queue.shared.report.facts import ReportFacts
from distill_queue.shared.report.section import Listing, Section
from distill_queue.shared.store.artifact import place_of


def section(facts: ReportFacts) -> Section:
    """The commands that make the results again, and the spec that they need."""
    title, plan = "How to make it again", facts.status.plan
    text = (
        "The first command runs the pipeline again as it was planned, as long as the broker remembers it; results that "
        "are in the store are found, not computed again."
    )
    retry = f"distill retry {facts.status.id}"
    try:
        planned = PlannedSpec.of(plan)
    except InvalidSpec:
        missing = "Not shown: the spec (an earlier version made the plan, and this one would refuse it)."
        return Section(title, text, commands=(retry,), notes=(missing,))
    file = f"{plan.name}.yaml"
    text += (
        f" The other commands run the spec below, copied into {file}. With the same version of distill-queue 'distill "
        "plan' shows the keys above, and a training gives the same bytes on the same kind of device, with the same "
        "number of threads and the same version of torch."
    )
    own = f"DISTILL_PLUGINS={','.join(planned.packages)} " if planned.packages else ""
    notes = tuple(
        f"{name} is no part of this page: copy it from {place_of(ref)} in the store"
        + (", with the suffix that it has there." if ref.kind == "label_file" else ".")
        for name, ref in planned.files.items()
    )
    commands = (retry, f"distill plan {file}", f"{own}distill run {file}")
    return Section(title, text, commands=commands, listing=Listing(file, planned.text), notes=notes)
