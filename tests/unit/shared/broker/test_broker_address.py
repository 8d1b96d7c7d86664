"""The broker's address: both clients take each URL for the same place, and no message holds a password."""

from __future__ import annotations

from typing import Any
from urllib.parse import quote, unquote

import kombu
import pytest
from celery import Celery
from hypothesis import given
from hypothesis import strategies as st

from distill_queue.shared.broker.celery_app import create_app
from distill_queue.shared.broker.connection import unchecked_client
from distill_queue.shared.broker_address import SCHEMES, BrokerAddress
from distill_queue.shared.errors import InvalidSettings
from distill_queue.shared.settings import Settings
from tests.properties import examples

#: Letters that no message has four of, what a URL gives a meaning to, and some that are not ASCII.
PASSWORDS = st.text("QXZJ/#?@:%[]+;&=ßø℀", min_size=1, max_size=12)
HOSTS = st.sampled_from(["host", "127.0.0.1", "[::1]", ""])


@st.composite
def urls(draw: st.DrawFn) -> tuple[str, str]:
    """A random URL, and the password in it as it was written."""
    scheme = draw(st.sampled_from([*SCHEMES, "sentinel", "amqp", "REDIS", ""]))
    password = draw(PASSWORDS.map(lambda text: quote(text, safe="")) | PASSWORDS)
    user = draw(st.sampled_from(["", "user", "a/b"]))
    if draw(st.booleans()):  # The rest of a password that begins with a raw ?, without a host after it.
        end = draw(st.text("QXZJ=&", min_size=4, max_size=9))
        return f"{scheme}://{user}:{draw(st.sampled_from(['6379', '', 'QX']))}?{end}", end
    host = draw(st.just("") if scheme == "redis+socket" else HOSTS)
    port = draw(st.sampled_from(["", ":6380", ":x", ":0"]))
    path = draw(st.sampled_from(["", "/", "/3", "/folder/socket", "/a b"]))
    query = draw(st.sampled_from(["", "?db=2", "?virtual_host=3", "?unknown=1", "?db=1&virtual_host=2", "#end"]))
    begin = draw(st.sampled_from([f"{scheme}://", f"{scheme}:", ""]))
    return f"{begin}{user}:{password}@{host}{port}{path}{query}", password


def clients(settings: Settings, app: Celery) -> list[dict[str, Any]]:
    """How the redis client, kombu and Celery's result backend would connect."""
    channel = kombu.transport.redis.Channel.__new__(kombu.transport.redis.Channel)
    channel.connection = app.connection_for_write().transport
    return [
        unchecked_client(settings, retries=0).connection_pool.connection_kwargs,
        channel._connparams(),
        app.backend.connparams,
    ]


def place(options: dict[str, Any]) -> tuple[Any, ...]:
    """The options of a client that say where it connects, and as which user."""
    where = options["path"] if "path" in options else (options["host"], options["port"])
    return where, int(options.get("db") or 0), options.get("username"), options.get("password")


@examples(40)
@given(urls())
def test_all_clients_get_the_password_or_the_url_is_refused_without_a_piece_of_it(drawn: tuple[str, str]) -> None:
    url, password = drawn

    try:
        settings = Settings(broker_url=url)
    except InvalidSettings as error:
        message = str(error)
        for piece in (password[start : start + 4] for start in range(len(password) - 3)):
            assert piece not in message
            assert unquote(piece) not in message or len(unquote(piece)) < 4
        return

    app = create_app(settings)
    places = [place(options) for options in clients(settings, app)]
    assert places == [places[0]] * len(places)
    assert places[0][-1] == unquote(password)
    shown = " ".join(
        [settings.broker_address, repr(settings), repr(settings.broker), *_shown_by_celery(app)],
    )
    assert len(password) < 4 or (password not in shown and unquote(password) not in shown)


def _shown_by_celery(app: Celery) -> list[str]:
    """What Celery prints and tells Flower of its settings."""
    return [app.conf.humanize(), app.connection_for_write().as_uri(), app.backend.as_uri()]


@examples(100)
@given(PASSWORDS, st.sampled_from(SCHEMES))
def test_any_password_may_be_written_with_percent_signs(password: str, scheme: str) -> None:
    end = "/folder/socket?db=5" if scheme == "redis+socket" else "host/5"

    address = BrokerAddress.parse(f"{scheme}://user:{quote(password, safe='')}@{end}")

    assert (address.user, address.password, address.database) == ("user", password, 5)
    assert BrokerAddress.parse(address.celery_url) == address


@pytest.mark.parametrize("url", ["redis://host?hunter", "redis://host/0?hunter=2", "redis+socket:///s?hunter&db=1"])
def test_a_word_of_a_query_that_may_be_a_piece_of_a_password_is_not_shown(url: str) -> None:
    with pytest.raises(InvalidSettings, match=r"an unknown key in its query \(known: .*write \? as %3F") as raised:
        Settings(broker_url=url)

    assert "hunter" not in str(raised.value)


@pytest.mark.parametrize("character", "/#?")
def test_a_raw_character_that_ends_the_host_is_refused_with_advice(character: str) -> None:
    with pytest.raises(InvalidSettings, match=r"DISTILL_BROKER_URL: .*in a user or password write / as %2F") as raised:
        Settings(broker_url=f"redis://:SECRET{character}REST@host:6379/0")

    assert "SECRET" not in str(raised.value)
    assert "REST" not in str(raised.value)


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("redis://host?virtual_host=3", r"unknown key 'virtual_host' .*\(known: none; the database is the path"),
        ("redis+socket:///s?socket_timeout=4", r"unknown key 'socket_timeout' in its query \(known: db, virtual_host"),
        ("redis+socket:///s?db=1&virtual_host=2", "two databases"),
        ("redis+socket:///s?db=one", "no number: use redis\\+socket:///folder/redis.sock"),
        ("redis+socket://run/redis.sock", "not the path of a socket alone"),
        ("redis+socket://", "not the path of a socket alone"),
        ("sentinel://host:26379", "Sentinel is not supported: give the master's own address, or that of a proxy"),
        ("redis+sentinel://host:26379/mymaster", "Sentinel is not supported"),
        ("redis://host:0", "no port from 1 to 65535"),
        ("redis://host/0#1", "a # has no meaning"),
        ("redis://[::g]", "no IP address"),
        ("redis://two words", "the host is no name"),
        ("redis://:%FF@host", "not UTF-8"),
        ("redis://:\udcff@host", "no UTF-8"),
        ("host:6379", "not a URL"),
    ],
)
def test_what_is_no_broker_s_address_is_one_sentence(url: str, message: str) -> None:
    with pytest.raises(InvalidSettings, match=f"DISTILL_BROKER_URL: .*{message}"):
        Settings(broker_url=url)


@pytest.mark.parametrize("name", ["db", "virtual_host"])
def test_a_socket_s_database_has_kombu_s_name_or_redis_s(name: str) -> None:
    settings = Settings(broker_url=f"redis+socket:///a%20folder/socket?{name}=2")

    assert {place(options)[:2] for options in clients(settings, create_app(settings))} == {("/a folder/socket", 2)}
    assert settings.broker_address == "redis+socket:///a%20folder/socket?db=2"
