"""What a card does: `make gpu` runs the tests marked `gpu` and these measurements; `make gpu-dry` tries it on the CPU.

Each module but those named below is a section of the report: its `SECTION` has a function that yields rows as they are
measured. `section` says what a section is, `child` runs one in a process of its own, `report` writes what came of
them; `bare_machine` and `wheels` prepare a machine that has torch and no way to a package index.
"""
