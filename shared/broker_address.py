"""The broker's address: its URL is parsed here once, and both of the broker's clients are configured from that.

The redis client and kombu parse URLs differently: one may take a URL for that of database 2, the other of database 0.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from ipaddress import ip_address
from typing import Any, Literal, Self, get_args
from urllib.parse import quote, unquote

Scheme = Literal["redis", "rediss", "redis+socket"]
SCHEMES: tuple[Scheme, ...] = get_args(Scheme)
DEFAULT_PORT = 6379
#: Keys in a URL's query that name the database of a socket; for a host, the path names it.
DATABASE_KEYS = ("db", "virtual_host")
#: Options that other clients read in a URL's query. Messages name only these: any other word may be a piece of a
#: password that begins with a raw `?`.
OPTIONS = frozenset(
    {
        *DATABASE_KEYS,
        "client_name",
        "connection_timeout",
        "decode_responses",
        "encoding",
        "fanout_patterns",
        "fanout_prefix",
        "global_keyprefix",
        "health_check_interval",
        "master_name",
        "max_connections",
        "password",
        "path",
        "protocol",
        "queue_order_strategy",
        "retry_on_timeout",
        "socket_connect_timeout",
        "socket_keepalive",
        "socket_timeout",
        "timeout",
        "username",
        "visibility_timeout",
    }
)
_EXAMPLES = {scheme: f"{scheme}://host:6379/0" for scheme in SCHEMES} | {
    "redis+socket": "redis+socket:///folder/redis.sock?db=0"
}


@dataclass(frozen=True, slots=True)
class BrokerAddress:
    """Where a Redis or Valkey server listens, with user and password, which its text leaves out."""

    scheme: Scheme
    #: A name or an IP address; empty for a socket.
    host: str = ""
    port: int = DEFAULT_PORT
    #: The path of a Unix socket; empty for a host.
    socket: str = ""
    database: int = 0
    user: str | None = field(default=None, repr=False)
    password: str | None = field(default=None, repr=False)

    @classmethod
    def parse(cls, url: str) -> Self:
        """Read a URL.

        Raises:
            ValueError: it is not the URL of a broker. The message quotes nothing of the URL but names in `OPTIONS`: in
                a URL that cannot be parsed, any other part may be the password.

        """
        name, is_url, rest = url.partition("://")
        scheme = next((scheme for scheme in SCHEMES if scheme == name.lower()), None)
        if "sentinel" in name.lower().split("+"):
            raise ValueError("Sentinel is not supported: give the master's own address, or that of a proxy")
        if not is_url:
            raise ValueError("not a URL: use redis://host:6379/0")
        if scheme is None:
            raise ValueError(f"unknown scheme: use one of {', '.join(SCHEMES)}")
        authority, path, query = _parts(rest, scheme)
        login, _, place = authority.rpartition("@")
        user, password = (_decoded(text) or None for text in login.partition(":")[::2])
        if scheme == "redis+socket":
            if place or len(path) < 2 or "\0" in _decoded(path):
                raise ValueError(f"not the path of a socket alone: use {_EXAMPLES[scheme]}")
            return cls(scheme, "", DEFAULT_PORT, _decoded(path), _database_of_socket(query), user, password)
        _check_keys(query, ())
        if not re.fullmatch("(/[0-9]{0,5})?", path):
            raise ValueError(f"what follows the host is no number of a database: use {_EXAMPLES[scheme]}")
        host, port = _host_and_port(place, scheme)
        return cls(scheme, host, port, "", int(path[1:] or 0), user, password)

    def __str__(self) -> str:
        return self._url(self.scheme, "", database_key="db")

    @property
    def encrypted(self) -> bool:
        """Whether all that goes to the broker and comes from it is encrypted."""
        return self.scheme == "rediss"

    @property
    def is_here(self) -> bool:
        """Whether the broker is on this machine, so that no network sees what is sent."""
        if self.socket or self.host == "localhost":
            return True
        try:
            return ip_address(self.host).is_loopback
        except ValueError:
            return False

    @property
    def redis_options(self) -> dict[str, Any]:
        """The arguments of `redis.Redis` to connect there, without those for certificates."""
        where = {"unix_socket_path": self.socket} if self.socket else {"host": self.host, "port": self.port}
        return where | {
            "db": self.database,
            "username": self.user,
            "password": self.password,
            "ssl": self.encrypted,
        }

    @property
    def celery_url(self) -> str:
        """The URL that Celery and kombu, as broker and as result backend, read as this address."""
        return self._url(self.scheme, self._login, database_key="virtual_host")

    @property
    def _login(self) -> str:
        if self.user is None and self.password is None:
            return ""
        password = "" if self.password is None else f":{quote(self.password, safe='')}"
        return f"{quote(self.user or '', safe='')}{password}@"

    def _url(self, scheme: str, login: str, database_key: str) -> str:
        if self.socket:
            database = f"?{database_key}={self.database}" if self.database else ""
            return f"{scheme}://{login}{quote(self.socket)}{database}"
        host = f"[{quote(self.host, safe=':')}]" if ":" in self.host else self.host
        return f"{scheme}://{login}{host}:{self.port}/{self.database}"


def _parts(rest: str, scheme: Scheme) -> tuple[str, str, str]:
    """What follows a URL's scheme: user, password and host; path; query."""
    authority = re.match("[^/?#]*", rest)
    end = authority.end() if authority else 0
    if "@" in rest[end:]:
        advice = "in a user or password write / as %2F, ? as %3F, # as %23, @ as %40 and % as %25"
        raise ValueError(f"a /, ? or # stands before its last @: {advice}")
    path, _, query = rest[end:].partition("?")
    if "#" in path + query:
        raise ValueError(f"a # has no meaning in the URL: use {_EXAMPLES[scheme]}, and %23 for one in a password")
    return rest[:end], path, query


def _decoded(text: str) -> str:
    """Text without its percent-encoding."""
    try:
        decoded = unquote(text, errors="strict")
        decoded.encode()
    except UnicodeError:
        raise ValueError("not UTF-8: write what is beyond ASCII as its bytes in UTF-8, as %C3%A4 for ä") from None
    return decoded


def _host_and_port(place: str, scheme: Scheme) -> tuple[str, int]:
    found = re.fullmatch(r"(?:\[(?P<ip>[^\[\]]*)\]|(?P<name>[^:\[\]]*))(?::(?P<port>[0-9]{0,5}))?", place)
    if found is None:
        raise ValueError(f"not a URL of a host and a port: use {_EXAMPLES[scheme]}, and %5B and %5D for [ and ]")
    port = int(found["port"] or DEFAULT_PORT)
    if not 0 < port < 65_536:
        raise ValueError(f"no port from 1 to 65535: use {_EXAMPLES[scheme]}")
    if found["ip"] is not None:
        try:
            return str(ip_address(unquote(found["ip"]))), port
        except ValueError:
            raise ValueError("between [ and ] stands no IP address: use redis://[::1]:6379/0") from None
    if not found["name"]:
        raise ValueError(f"no host: use {_EXAMPLES[scheme]}")
    if not re.fullmatch("[A-Za-z0-9._-]+", found["name"]):
        raise ValueError(f"the host is no name of letters, digits, '.', '-' and '_': use {_EXAMPLES[scheme]}")
    return found["name"].lower(), port


def _database_of_socket(query: str) -> int:
    texts = _check_keys(query, DATABASE_KEYS)
    if len(texts) > 1:
        raise ValueError(f"two databases: use {_EXAMPLES['redis+socket']}")
    if any(not re.fullmatch("[0-9]{1,5}", text) for text in texts):
        raise ValueError(f"what names the database is no number: use {_EXAMPLES['redis+socket']}")
    return int(next(iter(texts), 0))


def _check_keys(query: str, known: tuple[str, ...]) -> set[str]:
    """The values of a query whose keys are all known."""
    pairs = [pair.partition("=") for pair in query.split("&") if pair]
    for key, _, _ in pairs:
        if key.startswith("ssl"):
            raise ValueError("options of TLS do not belong in the URL: set DISTILL_BROKER_CA")
        if key not in known:
            shown = f"unknown key '{key}'" if key in OPTIONS else "an unknown key"
            words = ", ".join(known) or "none; the database is the path, as redis://host:6379/2"
            raise ValueError(f"{shown} in its query (known: {words}; in a password write ? as %3F)")
    return {value for _, _, value in pairs}
