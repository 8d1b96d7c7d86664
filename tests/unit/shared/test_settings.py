"""Settings from the environment."""

from __future__ import annotations

from pathlib import Path

import pytest

from distill_queue.shared.errors import InvalidSettings
from distill_queue.shared.settings import Settings


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        (
            "DISTILL_BROKER_URL",
            "amqp://x",
            "DISTILL_BROKER_URL: unknown scheme: use one of redis, rediss, redis\\+socket",
        ),
        ("DISTILL_BROKER_URL", "redis://", "DISTILL_BROKER_URL: no host"),
        ("DISTILL_SIGNING_KEY", "\udcff" * 16, "DISTILL_SIGNING_KEY: holds bytes that are no UTF-8, or a NUL$"),
        ("DISTILL_TIME_LIMITS", '{"\udcff": 1}', "DISTILL_TIME_LIMITS: holds bytes that are no UTF-8, or a NUL$"),
        ("DISTILL_BROKER_URL", "redis://x:port", "DISTILL_BROKER_URL: not a URL"),
        (
            "DISTILL_BROKER_URL",
            "redis://x/abc",
            "DISTILL_BROKER_URL: what follows the host is no number of a database: use",
        ),
        (
            "DISTILL_BROKER_URL",
            "rediss://x/0/1",
            "DISTILL_BROKER_URL: what follows the host is no number of a database",
        ),
        ("DISTILL_THREADS", "many", "DISTILL_THREADS: "),
        ("DISTILL_MAX_ATTEMPTS", "0", "DISTILL_MAX_ATTEMPTS: "),
    ],
)
def test_a_bad_variable_is_named(monkeypatch: pytest.MonkeyPatch, name: str, value: str, message: str) -> None:
    monkeypatch.setenv(name, value)

    with pytest.raises(InvalidSettings, match=message):
        Settings.load()


@pytest.mark.parametrize("url", ["redis://x", "redis://x/", "rediss://x/15", "redis+socket:///folder/socket"])
def test_a_broker_url_may_name_a_database(monkeypatch: pytest.MonkeyPatch, url: str) -> None:
    monkeypatch.setenv("DISTILL_BROKER_URL", url)

    assert Settings.load().broker_url == url


@pytest.mark.parametrize("address", ["127.0.0.1", "::", "fe80::1%eth0.1", "localhost", "my_worker-1.local"])
def test_metrics_may_be_served_at_any_address_or_host(monkeypatch: pytest.MonkeyPatch, address: str) -> None:
    monkeypatch.setenv("DISTILL_METRICS_ADDRESS", address)

    assert Settings.load().metrics_address == address


@pytest.mark.parametrize("prefix", ["two words", "a:b", "a*", "ä", "x" * 65])
def test_a_prefix_has_no_character_that_means_something_to_redis(monkeypatch: pytest.MonkeyPatch, prefix: str) -> None:
    monkeypatch.setenv("DISTILL_PREFIX", prefix)

    with pytest.raises(InvalidSettings, match="DISTILL_PREFIX: "):
        Settings.load()


def test_an_empty_variable_is_as_good_as_none(monkeypatch: pytest.MonkeyPatch) -> None:
    default = Settings()
    for name in default.environment:
        monkeypatch.setenv(name, "")

    assert Settings.load() == default


def test_the_address_in_messages_has_no_password() -> None:
    settings = Settings(broker_url="rediss://user:secret@host:6380/1")

    assert settings.broker_address == "rediss://host:6380/1"


def test_plugins_are_separated_by_commas(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DISTILL_PLUGINS", "one, two")

    assert Settings.load().plugins == ("one", "two")


def test_another_process_gets_the_same_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    settings = Settings(plugins=("a", "b"), time_limits={"distill": 60.0}, retry_seconds=1.5, store=Path("x"))

    for name, value in settings.environment.items():
        monkeypatch.setenv(name, value)

    assert Settings.load() == settings


@pytest.mark.parametrize(
    ("store", "folder"),
    [
        ("somewhere/store", "somewhere/store"),
        ("file:///mnt/a%20share/store", "/mnt/a share/store"),
        ("file://localhost/mnt/store", "/mnt/store"),
        ("s3://bucket/prefix/", ".distill/cache/bucket-9737a7d8"),
        ("gs://bucket/prefix", ".distill/cache/bucket-"),
        ("az://container", ".distill/cache/container-"),
    ],
)
def test_a_store_is_a_folder_or_an_object_store_with_one_for_copies(
    monkeypatch: pytest.MonkeyPatch, store: str, folder: str
) -> None:
    monkeypatch.setenv("DISTILL_STORE", store)

    settings = Settings.load()

    assert str(settings.folder).startswith(folder)
    assert settings.is_remote == (store[:2] in ("s3", "gs", "az"))


def test_settings_for_a_process_in_another_folder_mean_the_same_store(tmp_path: Path) -> None:
    here = Path.cwd()

    assert Settings(store="store").anywhere.store == str(here / "store")
    remote = Settings(store="s3://bucket/prefix", cache=Path("copies")).anywhere
    assert (remote.store, remote.cache) == ("s3://bucket/prefix", here / "copies")


@pytest.mark.parametrize(
    ("variables", "message"),
    [
        ({"STORE": "ftp://host/folder"}, "DISTILL_STORE: unknown scheme 'ftp': use a folder or one of file://, s3://"),
        ({"STORE": "s3:///prefix"}, "DISTILL_STORE: not a bucket and a prefix: use s3://bucket/prefix"),
        ({"STORE": "s3://key:secret@bucket"}, "DISTILL_STORE: not a bucket and a prefix"),
        ({"STORE": "file://host/folder"}, "DISTILL_STORE: not a folder of this machine: use file:///folder"),
        ({"CACHE_GB": "0"}, "DISTILL_CACHE_GB: Input should be greater than 0"),
        (
            {"BROKER_URL": "rediss://x/0?ssl_cert_reqs=none"},
            "DISTILL_BROKER_URL: options of TLS do not belong in the URL",
        ),
        ({"BROKER_CA": "ca.pem"}, "DISTILL_BROKER_CA: only for an encrypted broker: use rediss://"),
        ({"BROKER_URL": "rediss://x", "BROKER_CA": "none.pem"}, "DISTILL_BROKER_CA: none.pem: No such file"),
        ({"BROKER_URL": "rediss://x", "BROKER_CA": __file__}, "DISTILL_BROKER_CA: .*: no certificate in PEM"),
        ({"BROKER_URL": "rediss://x", "BROKER_KEY": __file__}, "DISTILL_BROKER_KEY: give both or none"),
        (
            {"BROKER_URL": "rediss://x", "BROKER_KEY": __file__, "BROKER_CERTIFICATE": __file__},
            "DISTILL_BROKER_CERTIFICATE: .*: no certificate that goes with the key",
        ),
        ({"SIGNING_KEY": "short"}, "DISTILL_SIGNING_KEY: shorter than 16 characters"),
        ({"SIGNING_KEY": "long enough for a key,short"}, "DISTILL_SIGNING_KEY: shorter than 16 characters"),
    ],
)
def test_what_would_not_be_secure_is_refused(
    monkeypatch: pytest.MonkeyPatch, variables: dict[str, str], message: str
) -> None:
    for name, value in variables.items():
        monkeypatch.setenv(f"DISTILL_{name}", value)

    with pytest.raises(InvalidSettings, match=message):
        Settings.load()


@pytest.mark.parametrize(
    ("url", "here"),
    [
        ("redis://localhost", True),
        ("redis://127.0.0.1:1/0", True),
        ("redis://[::1]:6379/0", True),
        ("redis+socket:///tmp/x", True),
        ("redis://127.0.0.1.example.org", False),
        ("redis://10.0.0.1", False),
        ("redis://broker", False),
    ],
)
def test_it_is_known_whether_the_broker_is_on_this_machine(url: str, here: bool) -> None:
    assert Settings(broker_url=url).broker_is_here is here


def test_a_signing_key_is_given_to_other_processes_and_shown_to_nobody() -> None:
    settings = Settings(signing_key="a key of enough letters")

    assert settings.environment["DISTILL_SIGNING_KEY"] == "a key of enough letters"
    assert "enough" not in repr(settings) + settings.model_dump_json()
