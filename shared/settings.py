"""Settings: the one reader of the environment.

The module is longer than others: each variable stands here with its check, and with what follows from it.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import ssl
from pathlib import Path
from typing import Annotated, Any, Self
from urllib.parse import unquote, urlsplit

from pydantic import BeforeValidator, Field, SecretStr, ValidationError, field_validator, model_validator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from distill_queue.shared.broker_address import BrokerAddress
from distill_queue.shared.catalog import STAGE_KINDS, STORE_DRIVERS, did_you_mean
from distill_queue.shared.errors import InvalidInput, InvalidSettings
from distill_queue.shared.files.given_file import require_file
from distill_queue.shared.files.markup import parse_json
from distill_queue.shared.text import plain_line

#: The fewest characters of a signing key.
SHORTEST_KEY = 16
#: The most bytes of a file of certificates: those of all authorities together are a quarter of a million.
MOST_PEM_BYTES = 10_000_000
#: The most characters of the path of a store: the paths of its files are longer.
LONGEST_PLACE = 1_000
#: The most characters of a message about a setting.
LONGEST_WORDS = 500


def _location(value: object) -> object:
    """A store's place as it is used: a path for a file:// URL, no slash at the end of another."""
    if isinstance(value, Path):
        return str(value)
    if not isinstance(value, str) or "://" not in value:
        return value
    parts = urlsplit(value)
    if parts.scheme == "file":
        if parts.netloc not in ("", "localhost") or not parts.path or "\0" in unquote(parts.path):
            raise ValueError("not a folder of this machine: use file:///folder")
        return unquote(parts.path)
    if parts.scheme not in STORE_DRIVERS:
        schemes = ", ".join(f"{scheme}://" for scheme in ("file", *STORE_DRIVERS))
        raise ValueError(f"unknown scheme '{parts.scheme}': use a folder or one of {schemes}")
    if not re.fullmatch(r"[\w.-]+(/[\w.=+~-]+)*/?", parts.netloc + parts.path) or parts.query or parts.fragment:
        raise ValueError(f"not a bucket and a prefix: use {parts.scheme}://bucket/prefix, and its driver's variables")
    return f"{parts.scheme}://{parts.netloc}{parts.path.rstrip('/')}"


class Settings(BaseSettings):
    """How this process reaches the broker and the store, from `DISTILL_*` variables."""

    model_config = SettingsConfigDict(
        env_prefix="DISTILL_",
        env_ignore_empty=True,
        frozen=True,
        extra="ignore",
        allow_inf_nan=False,
        use_attribute_docstrings=True,
    )

    broker_url: str = Field(default="redis://127.0.0.1:6379/0", repr=False)
    """Redis or Valkey, as `redis://user:password@host:6379/0`, `rediss://` (TLS) or `redis+socket:///path?db=0`."""
    prefix: str = Field(default="", max_length=64)
    """A project's name before all keys in the broker, so that several can share one database; none: no prefix."""
    broker_ca: Path | None = None
    """Certificates (PEM) of which one must have signed the broker's; without it, those that the system trusts."""
    broker_certificate: Path | None = None
    """This process's certificate (PEM), for a broker that asks for one."""
    broker_key: Path | None = None
    """The key (PEM) of the certificate in `DISTILL_BROKER_CERTIFICATE`."""
    signing_key: SecretStr = SecretStr("")
    """Secret with which clients and workers sign messages; more of them, after commas, only verify messages."""
    store: Annotated[str, BeforeValidator(_location)] = ".distill"
    """Where the artifacts lie, the same for every worker: a folder, or an object store as `s3://bucket/prefix`."""
    cache: Path = Path(".distill/cache")
    """Folder for what this machine keeps of an object store: copies of artifacts, its own logs and downloads."""
    cache_gb: float = Field(default=20.0, gt=0.0, le=1e6)
    """Gigabytes that the copies of artifacts in `DISTILL_CACHE` may take; the least recently used ones make room."""
    plugins: Annotated[tuple[str, ...], NoDecode] = ()
    """Packages from which workers may import models, data sets and losses of the user's own."""
    data: Annotated[tuple[Path, ...], NoDecode] = ()
    """Folders, with colons between them, from which workers may read data that a spec names by its path."""
    visibility_timeout_seconds: float = Field(default=60.0, ge=1.0, le=86_400.0)
    """Seconds after which an unrenewed message or lease is given to another worker."""
    max_attempts: int = Field(default=3, ge=1, le=1_000)
    """How often a stage may be begun without getting any further before it fails for good."""
    checkpoint_seconds: float = Field(default=30.0, gt=0.0, le=86_400.0)
    """Seconds between two checkpoints of a training: a killed worker loses at most so much work."""
    retry_seconds: float = Field(default=900.0, ge=0.0, le=30 * 86_400.0)
    """Seconds for which a stage is tried again while the store or a download does not work."""
    time_limits: Annotated[dict[str, Annotated[float, Field(ge=1.0, le=365 * 86_400.0)]], NoDecode] = {}
    """Seconds that a stage of a kind may take at one go, as `{"train_teacher": 3600}`; a spec may say otherwise."""
    history_days: float = Field(default=7.0, gt=0.001, le=3_650.0)
    """Days that a pipeline's state and results stay in the broker after its last change."""
    threads: int = Field(default=0, ge=0, le=1_024)
    """Threads of one worker's tensor operations; 0 takes all cores."""
    memory_gb: float = Field(default=0.0, ge=0.0, le=1e6)
    """Gigabytes that a stage may take on its device; 0 takes what is free."""
    metrics_port: int = Field(default=0, ge=0, le=65_535)
    """Port of a worker's metrics for Prometheus; 0 serves none. Several workers take this one and the next ones."""
    metrics_address: str = "127.0.0.1"
    """Address at which the metrics are served."""

    def __init__(self, **values: Any) -> None:
        """Read the variables; values that are given here come first.

        Raises:
            InvalidSettings: one of them cannot be used; the message names its variable.

        """
        try:
            super().__init__(**values)
        except ValidationError as error:
            problems = dict.fromkeys(
                ": ".join((*(f"DISTILL_{str(name).upper()}" for name in e["loc"][:1]), _reason(e["msg"])))
                for e in error.errors(include_input=False, include_url=False)
            )
            raise InvalidSettings("; ".join(problems)) from None

    @classmethod
    def load(cls) -> Self:
        """The settings of this process.

        Raises:
            InvalidSettings: a variable cannot be used; the message names it.

        """
        return cls()

    @model_validator(mode="before")
    @classmethod
    def _of_characters(cls, values: Any) -> Any:
        """Refuse bytes that are no UTF-8: Python reads them as halves of characters, which no message could hold."""
        for name, value in values.items() if isinstance(values, dict) else ():
            text = str(value) if isinstance(value, str | Path) else ""
            if "\0" in text or (not text.isascii() and text.encode(errors="replace").decode() != text):
                raise ValueError(f"DISTILL_{str(name).upper()}: holds bytes that are no UTF-8, or a NUL")
        return values

    @field_validator("broker_url")
    @classmethod
    def _one_address(cls, url: str) -> str:
        BrokerAddress.parse(url)
        return url

    @field_validator("store", "cache")
    @classmethod
    def _short_enough(cls, place: str | Path) -> str | Path:
        if len(str(place)) > LONGEST_PLACE:
            raise ValueError(f"a path of more than {LONGEST_PLACE:,} characters")
        return place

    @field_validator("prefix")
    @classmethod
    def _harmless_in_patterns(cls, prefix: str) -> str:
        if not re.fullmatch("[A-Za-z0-9._-]*", prefix):
            raise ValueError("use letters, digits, '-', '_' and '.' only; a colon is put after it")
        return prefix

    @field_validator("signing_key")
    @classmethod
    def _long_enough(cls, value: SecretStr) -> SecretStr:
        if any(len(key) < SHORTEST_KEY for key in _keys(value)):
            raise ValueError(f"shorter than {SHORTEST_KEY} characters: make one with 'openssl rand -hex 32'")
        return value

    @model_validator(mode="after")
    def _certificates_are_some(self) -> Self:
        given = [name for name in ("broker_ca", "broker_certificate", "broker_key") if getattr(self, name)]
        if given and not self.encrypted:
            raise ValueError(f"DISTILL_{given[0].upper()}: only for an encrypted broker: use rediss:// in its URL")
        if (self.broker_certificate is None) != (self.broker_key is None):
            raise ValueError("DISTILL_BROKER_CERTIFICATE and DISTILL_BROKER_KEY: give both or none")
        for name in given:
            try:
                require_file(getattr(self, name), MOST_PEM_BYTES)
            except InvalidInput as error:
                raise ValueError(f"DISTILL_{name.upper()}: {error}") from None
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        try:
            if self.broker_ca:
                context.load_verify_locations(self.broker_ca)
        except (OSError, ValueError):
            raise ValueError(f"DISTILL_BROKER_CA: {self.broker_ca}: no certificate in PEM") from None
        try:
            if self.broker_certificate:
                # A key that is locked is refused here, rather than asked for its password by every process.
                context.load_cert_chain(self.broker_certificate, self.broker_key, password=lambda: b"")
        except (OSError, ValueError):
            raise ValueError(
                f"DISTILL_BROKER_CERTIFICATE: {self.broker_certificate}: no certificate that goes with the key "
                f"{self.broker_key}, both in PEM and without a password"
            ) from None
        return self

    @field_validator("time_limits", mode="before")
    @classmethod
    def _known_kinds_in_json(cls, value: object) -> object:
        limits = parse_json(value) if isinstance(value, str) else value
        for kind in limits if isinstance(limits, dict) else ():
            if kind not in STAGE_KINDS:
                raise ValueError(
                    f"unknown kind of stage '{plain_line(str(kind), 60)}'{did_you_mean(kind, STAGE_KINDS)}"
                )
        return limits

    @field_validator("metrics_address")
    @classmethod
    def _host(cls, address: str) -> str:
        if not re.fullmatch(r"[0-9A-Za-z_:%-]{1,63}(\.[0-9A-Za-z_-]{1,63})*", address):
            raise ValueError("no IP address, and no name of a host")
        return address

    @field_validator("plugins")
    @classmethod
    def _names_of_packages(cls, names: tuple[str, ...]) -> tuple[str, ...]:
        for name in names:
            if not all(part.isidentifier() for part in name.split(".")):
                raise ValueError(f"{plain_line(ascii(name), 60)} is no name of a package")
        return names

    @field_validator("plugins", mode="before")
    @classmethod
    def _comma_separated(cls, value: object) -> object:
        if isinstance(value, str):
            return tuple(part.strip() for part in value.split(",") if part.strip())
        return value

    @field_validator("data", mode="before")
    @classmethod
    def _colon_separated(cls, value: object) -> object:
        return tuple(filter(None, value.split(os.pathsep))) if isinstance(value, str) else value

    @property
    def is_remote(self) -> bool:
        """Whether the store is an object store, of which this machine has copies."""
        return "://" in self.store

    @property
    def folder(self) -> Path:
        """The store's folder, or this machine's folder for an object store."""
        if not self.is_remote:
            return Path(self.store)
        name = urlsplit(self.store).netloc
        return self.cache / f"{name}-{hashlib.sha256(self.store.encode()).hexdigest()[:8]}"

    @property
    def contents(self) -> Path:
        """The file in which this machine remembers the hashes of data."""
        return self.cache / "contents.sqlite"

    @property
    def anywhere(self) -> Self:
        """The same settings with absolute paths, for a process that runs in another folder."""
        store = self.store if self.is_remote else str(self.folder.absolute())
        data = tuple(folder.absolute() for folder in self.data)
        return self.model_copy(update={"store": store, "cache": self.cache.absolute(), "data": data})

    @property
    def environment(self) -> dict[str, str]:
        """The variables that give another process these settings."""
        values = self.model_dump(mode="json") | {
            "plugins": ",".join(self.plugins),
            "data": os.pathsep.join(map(str, self.data)),
            "time_limits": json.dumps(self.time_limits),
            "signing_key": self.signing_key.get_secret_value(),
        }
        return {f"DISTILL_{name.upper()}": "" if value is None else str(value) for name, value in values.items()}

    @property
    def broker(self) -> BrokerAddress:
        """The broker's address, with user and password."""
        return BrokerAddress.parse(self.broker_url)

    @property
    def broker_address(self) -> str:
        """The broker's URL without its user and password, for messages."""
        return str(self.broker)

    @property
    def encrypted(self) -> bool:
        """Whether all that goes to the broker and comes from it is encrypted."""
        return self.broker.encrypted

    @property
    def broker_is_here(self) -> bool:
        """Whether the broker is on this machine, so that no network sees what is sent."""
        return self.broker.is_here

    @property
    def tls(self) -> dict[str, str | bool]:
        """Options of the redis client that encrypt a connection to the broker; empty if it is not encrypted.

        The broker's certificate and host name are always verified.
        """
        if not self.encrypted:
            return {}
        files = {
            "ssl_ca_certs": self.broker_ca,
            "ssl_certfile": self.broker_certificate,
            "ssl_keyfile": self.broker_key,
        }
        given = {name: str(path) for name, path in files.items() if path}
        return {"ssl_cert_reqs": "required", "ssl_check_hostname": True, **given}

    @property
    def signing_keys(self) -> tuple[str, ...]:
        """The key to sign with, then others that are accepted; without any, nothing is signed."""
        return _keys(self.signing_key)

    @property
    def renewal_seconds(self) -> float:
        """Seconds between two renewals of what a worker holds."""
        return self.visibility_timeout_seconds / 8

    @property
    def holding_seconds(self) -> float:
        """Seconds after its last renewal at which a message or lease is given away.

        One renewal longer than the timeout: a worker that is paused just after a renewal has all of the timeout.
        """
        return self.visibility_timeout_seconds + self.renewal_seconds

    @property
    def answer_seconds(self) -> float:
        """Seconds within which the broker answers; a connection on which it does not is taken to be dead."""
        return min(10.0, max(3.0, self.visibility_timeout_seconds / 6))

    @property
    def history_seconds(self) -> int:
        """Seconds that a pipeline's state stays in the broker after its last change."""
        return int(self.history_days * 86_400)


def _reason(message: str) -> str:
    return plain_line(message.removeprefix("Value error, "), LONGEST_WORDS)


def _keys(secret: SecretStr) -> tuple[str, ...]:
    parts = (part.strip() for part in secret.get_secret_value().split(","))
    return tuple(part for part in parts if part)
