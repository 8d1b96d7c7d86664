"""Pictures in files: where they lie in a folder, and how they become samples. Knows no other sources of data."""
