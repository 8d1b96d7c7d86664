"""Flower's logins: those that the environment names; a part of a password is not enough."""

from __future__ import annotations

import pytest

from distill_queue.scheduler.monitor.login import logins
from distill_queue.shared.errors import InvalidSettings


def test_several_logins_stand_in_one_variable_and_one_more_in_two() -> None:
    several = {"FLOWER_BASIC_AUTH": "me:secret,you:a:b"}
    one = {"FLOWER_USER": "she", "FLOWER_PASSWORD": "with,comma:and colon"}

    assert logins({}) == []
    assert logins(several) == ["me:secret", "you:a:b"]
    assert logins(several | one) == ["me:secret", "you:a:b", "she:with,comma:and colon"]


@pytest.mark.parametrize(
    ("environment", "message"),
    [
        ({"FLOWER_BASIC_AUTH": "me:se,cret"}, "FLOWER_BASIC_AUTH, login 2 of 2: not user:password; a password with a"),
        ({"FLOWER_BASIC_AUTH": "me:secret,"}, "FLOWER_BASIC_AUTH, login 2 of 2: not user:password; a password with a"),
        ({"FLOWER_BASIC_AUTH": ""}, "FLOWER_BASIC_AUTH: not user:password; a password with a comma goes into FLOWER_P"),
        ({"FLOWER_BASIC_AUTH": "secret"}, "FLOWER_BASIC_AUTH: not user:password; a password with a comma goes into"),
        ({"FLOWER_BASIC_AUTH": ":"}, "FLOWER_BASIC_AUTH: the user is empty"),
        ({"FLOWER_BASIC_AUTH": ":secret"}, "FLOWER_BASIC_AUTH: the user is empty"),
        ({"FLOWER_BASIC_AUTH": "me:"}, "FLOWER_BASIC_AUTH: the password is empty"),
        ({"FLOWER_BASIC_AUTH": "me:secret, you:secret"}, "login 2 of 2: the user begins or ends with a space"),
        ({"FLOWER_BASIC_AUTH": "me:sécret"}, "FLOWER_BASIC_AUTH: the password has a character that is not ASCII"),
        ({"FLOWER_BASIC_AUTH": "me:secret\x1bx"}, "FLOWER_BASIC_AUTH: the password has a character that is not ASCII"),
        ({"FLOWER_USER": "me"}, "FLOWER_USER and FLOWER_PASSWORD: give both or none"),
        ({"FLOWER_PASSWORD": "secret"}, "FLOWER_USER and FLOWER_PASSWORD: give both or none"),
        ({"FLOWER_USER": "", "FLOWER_PASSWORD": "secret"}, "FLOWER_USER is empty"),
        ({"FLOWER_USER": "me", "FLOWER_PASSWORD": ""}, "FLOWER_PASSWORD is empty"),
        ({"FLOWER_USER": "me", "FLOWER_PASSWORD": "secret "}, "FLOWER_PASSWORD begins or ends with a space"),
        ({"FLOWER_USER": "mé", "FLOWER_PASSWORD": "secret"}, "FLOWER_USER has a character that is not ASCII"),
        ({"FLOWER_USER": "m:e", "FLOWER_PASSWORD": "secret"}, "FLOWER_USER has a colon"),
    ],
)
def test_a_login_that_would_let_in_nobody_or_others_is_refused_without_its_password(
    environment: dict[str, str], message: str
) -> None:
    with pytest.raises(InvalidSettings) as refused:
        logins(environment)

    assert message in str(refused.value)
    assert not any(secret in str(refused.value) for secret in ("secret", "cret", "sécret"))
