"""Flower's logins: the users and passwords that the environment names."""

from __future__ import annotations

from collections.abc import Mapping

from distill_queue.shared.errors import InvalidSettings


def logins(environment: Mapping[str, str]) -> list[str]:
    """Each login as `user:password`: those in FLOWER_BASIC_AUTH, and the one in FLOWER_USER and FLOWER_PASSWORD.

    Flower splits FLOWER_BASIC_AUTH at commas, so a password with a comma goes into FLOWER_PASSWORD.

    Raises:
        InvalidSettings: a login would not work, or let in others than it seems; the message quotes no part of it.

    """
    found = []
    if (several := environment.get("FLOWER_BASIC_AUTH")) is not None:
        for number, login in enumerate(parts := several.split(","), start=1):
            user, colon, password = login.partition(":")
            place = f"FLOWER_BASIC_AUTH, login {number} of {len(parts)}" if "," in several else "FLOWER_BASIC_AUTH"
            if not colon:
                raise InvalidSettings(
                    f"{place}: not user:password; a password with a comma goes into FLOWER_PASSWORD, its user into "
                    "FLOWER_USER"
                )
            found.append(_login(user, password, f"{place}: the user", f"{place}: the password"))
    names = ("FLOWER_USER", "FLOWER_PASSWORD")
    given = [environment[name] for name in names if name in environment]
    if len(given) == 1:
        raise InvalidSettings("FLOWER_USER and FLOWER_PASSWORD: give both or none")
    if given:
        user, password = given
        if ":" in user:
            raise InvalidSettings("FLOWER_USER has a colon, with which browsers begin the password")
        found.append(_login(user, password, *names))
    return found


def _login(user: str, password: str, its_user: str, its_password: str) -> str:
    """A checked user and password, as `user:password`."""
    for part, name in ((user, its_user), (password, its_password)):
        if not part:
            raise InvalidSettings(f"{name} is empty")
        if part != part.strip():
            raise InvalidSettings(f"{name} begins or ends with a space")
        if not (part.isascii() and part.isprintable()):
            raise InvalidSettings(f"{name} has a character that is not ASCII, which Flower cannot compare")
    return f"{user}:{password}"
