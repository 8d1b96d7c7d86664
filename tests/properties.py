"""How many examples hypothesis tries of a property: all in the whole suite, a few in `make check`."""

from __future__ import annotations

from typing import Any

from hypothesis import settings

#: The profile of `make check`, and its examples; `tests/conftest.py` registers it.
QUICK = "quick"
QUICK_EXAMPLES = 5


def examples(count: int, **more: Any) -> settings:
    """Try a property on so many examples, however long each takes."""
    quick = settings.get_current_profile_name() == QUICK
    return settings(max_examples=min(count, QUICK_EXAMPLES) if quick else count, deadline=None, **more)
