"""The sections of a report: a file each, with what it says and its figures, which knows no other section."""
