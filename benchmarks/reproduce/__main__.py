"""`python -m benchmarks.reproduce [SECTION…]`: run sections from nothing, or from where the last run ended.

Trainings go to a store in `.reproduce`, which git ignores; what is there is not trained again. Each outcome is written
to `docs/results/<section>.json` at once. The tables of the pages are rewritten at the end, or alone with `--tables`.
"""

from __future__ import annotations

import argparse

from benchmarks.reproduce import data, hinton, mnist, recipes, tables, trials
from benchmarks.reproduce.figures import ROOT, SectionFigures
from benchmarks.reproduce.section import Section
from benchmarks.reproduce.workplace import STORE, Workplace

#: In the order in which they are run.
SECTIONS: dict[str, Section] = {
    module.SECTION.name: module.SECTION for module in (mnist, hinton, recipes, data, trials)
}
#: Longer times are told in hours.
MOST_MINUTES = 100


def main() -> None:
    """Run what the command line asks for."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.reproduce", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("sections", nargs="*", metavar="SECTION", help=f"of {', '.join(SECTIONS)}; all by default")
    parser.add_argument("--only", nargs="+", metavar="NAME", help="some of their specs, by the file's name")
    parser.add_argument("--tables", action="store_true", help="run nothing: rewrite the tables from the figures")
    options = parser.parse_args()
    if unknown := set(options.sections) - SECTIONS.keys():
        parser.error(f"no section {', '.join(sorted(unknown))}: there are {', '.join(SECTIONS)}")
    if not options.tables:
        try:
            run([SECTIONS[name] for name in options.sections or SECTIONS], options.only)
        except KeyboardInterrupt:
            raise SystemExit("stopped: the next run goes on from here") from None
    for path in tables.rewrite(SECTIONS):
        print(f"rewritten: {path.relative_to(ROOT)}")


def run(sections: list[Section], only: list[str] | None) -> None:
    """Run sections, or some of their specs, and write down what comes out."""
    wanted = {section.name: [spec for spec in section.specs() if not only or spec.stem in only] for section in sections}
    if only and not any(wanted.values()):
        raise SystemExit(f"error: --only: no spec is named {', '.join(only)}")
    print(forecast(sections, wanted_names={name: [spec.stem for spec in specs] for name, specs in wanted.items()}))
    workplace = Workplace()
    workplace.set_up()
    for section in sections:
        for spec in wanted[section.name]:
            print(f"\n{section.name}: {spec.relative_to(ROOT)}", flush=True)
            for outcome in section.measure(spec, workplace):
                SectionFigures.load(section.name).having(outcome).save()


def forecast(sections: list[Section], wanted_names: dict[str, list[str]]) -> str:
    """How long it will take, by what it took the last time."""
    lines = []
    for section in sections:
        figures = SectionFigures.load(section.name)
        found = {name: figures.find(name) for name in wanted_names[section.name]}
        known = [outcome for outcome in found.values() if outcome and outcome.minutes is not None]
        unknown = [name for name, outcome in found.items() if outcome is None or outcome.minutes is None]
        if known:
            minutes, machines = sum(each.minutes or 0.0 for each in known), {each.machine for each in known}
            took = f"{minutes:.0f} minutes" if minutes < MOST_MINUTES else f"{minutes / 60:.1f} hours"
            lines.append(f"{section.name}: {took} the last time ({'; '.join(sorted(machines))})")
        if unknown:
            lines.append(f"{section.name}: it is not known how long {', '.join(unknown)} take")
    return "\n".join([*lines, f"less what {STORE.relative_to(ROOT)} has already"])


if __name__ == "__main__":
    main()
