"""Settings: the one reader of the environment."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Self
from urllib.parse import urlsplit, urlunsplit

from pydantic import Field, ValidationError, field_validator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict, SettingsError

from shared.catalog import KINDS, did_you_mean
from shared.errors import InvalidSettings

BROKER_SCHEMES = ("redis", "rediss", "redis+socket")


class Settings(BaseSettings):
    """How this process reaches the broker and the store, from `DISTILL_*` variables."""

    model_config = SettingsConfigDict(
        env_prefix="DISTILL_", frozen=True, extra="ignore", allow_inf_nan=False, use_attribute_docstrings=True
    )

    broker_url: str = "redis://127.0.0.1:6379/0"
    """Redis or Valkey, as `redis://`, `rediss://` (TLS) or `redis+socket://`."""
    store: Path = Path(".distill")
    """Folder of the artifacts; the same one for every worker."""
    plugins: Annotated[tuple[str, ...], NoDecode] = ()
    """Packages from which workers may import models, data sets and losses of the user's own."""
    visibility_timeout_seconds: float = Field(default=60.0, ge=1.0, le=86_400.0)
    """Seconds after which an unrenewed message or lease is given to another worker."""
    max_attempts: int = Field(default=3, ge=1, le=1_000)
    """How often a stage may be begun without getting any further before it fails for good."""
    checkpoint_seconds: float = Field(default=30.0, gt=0.0, le=86_400.0)
    """Seconds between two checkpoints of a training; a killed one loses at most these."""
    retry_seconds: float = Field(default=900.0, ge=0.0, le=30 * 86_400.0)
    """Seconds for which a stage is tried again while the store or a download does not work."""
    time_limits: dict[str, Annotated[float, Field(ge=1.0, le=365 * 86_400.0)]] = {}
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
    """Address at which they are served."""

    @classmethod
    def load(cls) -> Self:
        """The settings of this process.

        Raises:
            InvalidSettings: a variable cannot be used; the message names it.

        """
        try:
            return cls()
        except ValidationError as error:
            problems = (
                f"DISTILL_{str(e['loc'][0]).upper()}: {e['msg'].removeprefix('Value error, ')}" for e in error.errors()
            )
            raise InvalidSettings("; ".join(problems)) from None
        except SettingsError as error:
            # Its message has the field's name in quotes, and speaks of its own classes besides.
            name = str(error).partition('field "')[2].partition('"')[0]
            raise InvalidSettings(f"DISTILL_{name.upper()}: not valid JSON: {error.__cause__}") from None

    @field_validator("broker_url")
    @classmethod
    def _known_scheme(cls, url: str) -> str:
        try:
            parts = urlsplit(url)
            _ = parts.port
        except ValueError as error:
            raise ValueError(f"not a URL ({error}): use redis://host:6379/0") from None
        if parts.scheme not in BROKER_SCHEMES:
            raise ValueError(f"unknown scheme '{parts.scheme}': use one of {', '.join(BROKER_SCHEMES)}")
        if parts.scheme != "redis+socket" and not parts.hostname:
            raise ValueError("no host: use redis://host:6379/0")
        return url

    @field_validator("time_limits")
    @classmethod
    def _known_kinds(cls, limits: dict[str, float]) -> dict[str, float]:
        for kind in limits:
            if kind not in KINDS:
                raise ValueError(f"unknown kind of stage '{kind}'{did_you_mean(kind, KINDS)}")
        return limits

    @field_validator("plugins", mode="before")
    @classmethod
    def _comma_separated(cls, value: object) -> object:
        if isinstance(value, str):
            return tuple(part.strip() for part in value.split(",") if part.strip())
        return value

    @property
    def environment(self) -> dict[str, str]:
        """The variables that give another process these settings."""
        values = self.model_dump(mode="json") | {
            "plugins": ",".join(self.plugins),
            "time_limits": json.dumps(self.time_limits),
        }
        return {f"DISTILL_{name.upper()}": str(value) for name, value in values.items()}

    @property
    def broker_address(self) -> str:
        """The broker's URL without its user and password, for messages."""
        parts = urlsplit(self.broker_url)
        return urlunsplit(parts._replace(netloc=parts.netloc.rpartition("@")[2]))

    @property
    def redis_url(self) -> str:
        """The broker's URL as the redis client spells it."""
        return self.broker_url.replace("redis+socket://", "unix://", 1)

    @property
    def renewal_seconds(self) -> float:
        """Seconds between two renewals of what a worker holds."""
        return self.visibility_timeout_seconds / 8

    @property
    def holding_seconds(self) -> float:
        """Seconds after its last renewal at which a message or lease is given away.

        A renewal longer than the timeout: whoever renewed just before being paused has the whole of it.
        """
        return self.visibility_timeout_seconds + self.renewal_seconds

    @property
    def history_seconds(self) -> int:
        """Seconds that a pipeline's state stays in the broker after its last change."""
        return int(self.history_days * 86_400)
