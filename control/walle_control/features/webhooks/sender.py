"""Sends one delivery, to public addresses only: a webhook's URL must not reach into our own network.

A host's addresses are looked up once, all are checked, and the connection goes to one of those that were
checked, so that a name that answers differently the next time gains nothing. Redirects are not followed.
"""

from __future__ import annotations

import functools
import ipaddress
import socket
import ssl
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from typing import cast
from urllib.parse import urlsplit

import httpcore
import trio

from walle_shared.errors import ConfigError, ConnectionLost, NotAllowed, PeerTimeout

Address = ipaddress.IPv4Address | ipaddress.IPv6Address
Network = ipaddress.IPv4Network | ipaddress.IPv6Network
Resolve = Callable[[str, int], Awaitable[Sequence[str]]]

_TIMEOUT_S = 10.0
_URL_MAX = 2_000
_NAT64 = ipaddress.IPv6Network("64:ff9b::/96")


async def resolve(host: str, port: int) -> Sequence[str]:
    """The addresses of a host."""
    found = await trio.socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return [str(entry[4][0]) for entry in found]


def parse_networks(texts: Iterable[str]) -> tuple[Network, ...]:
    """Networks such as 10.0.0.0/8.

    Raises:
        ConfigError: one is none.
    """
    try:
        return tuple(ipaddress.ip_network(text) for text in texts)
    except ValueError as error:
        raise ConfigError(f"webhooks.allow_networks: {error}") from None


def check_url(url: str) -> str:
    """Return the URL if it is one that could be delivered to.

    Raises:
        ConfigError: says what is wrong with it.
    """
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError as error:
        raise ConfigError(f"url {url[:80]!r}: {error}") from None
    if parts.scheme not in ("http", "https") or not parts.hostname or port == 0:
        raise ConfigError(f"url {url[:80]!r} must be like https://example.org/hook")
    if parts.username is not None or parts.password is not None or parts.fragment:
        raise ConfigError("url must hold no user, password or fragment: deliveries are signed instead")
    if len(url) > _URL_MAX or not url.isascii() or any(c.isspace() or ord(c) < 33 for c in url):
        raise ConfigError(f"url must be plain ASCII without spaces, at most {_URL_MAX} characters")
    return url


def is_public(address: Address) -> bool:
    """Whether an address is one of the open Internet, also when it is a disguise of an IPv4 address."""
    if isinstance(address, ipaddress.IPv6Address):
        inner = address.ipv4_mapped or address.sixtofour or (address.teredo and address.teredo[1])
        if not inner and address in _NAT64:
            inner = ipaddress.IPv4Address(int(address) & 0xFFFFFFFF)
        if inner:
            return is_public(inner)
    return address.is_global and not address.is_multicast


class Sender:
    """Posts to webhooks.

    Args:
        allowed: networks that may be reached though they are not public; plain ``http`` reaches only these.
        resolve: looks a host up.
    """

    def __init__(self, allowed: tuple[Network, ...] = (), resolve: Resolve = resolve) -> None:
        self._allowed = allowed
        self._resolve = resolve

    async def post(self, url: str, headers: Mapping[str, str], body: bytes) -> int:
        """Post; the receiver's status.

        Raises:
            ConfigError: the URL is none.
            NotAllowed: it leads to an address that is not public.
            ConnectionLost: nobody answers there.
            PeerTimeout: not in time.
        """
        parts = urlsplit(check_url(url))
        host = str(parts.hostname)
        try:
            with trio.fail_after(_TIMEOUT_S):
                port = parts.port or (443 if parts.scheme == "https" else 80)
                addresses = await self._addresses(host, port, encrypted=parts.scheme == "https")
                backend = _Pinned(addresses)
                sent = [*headers.items(), ("Host", parts.netloc)]
                async with (
                    httpcore.AsyncConnectionPool(_tls(), network_backend=backend) as pool,
                    pool.stream("POST", url, headers=sent, content=body) as answer,
                ):
                    return answer.status  # whatever else it says is not read
        except trio.TooSlowError:
            raise PeerTimeout(f"{host} did not answer within {_TIMEOUT_S:g} s") from None
        except (httpcore.NetworkError, httpcore.ProtocolError, httpcore.TimeoutException, OSError) as error:
            raise ConnectionLost(f"{host}: {error or type(error).__name__}") from None

    async def _addresses(self, host: str, port: int, *, encrypted: bool) -> list[str]:
        found = list(dict.fromkeys(await self._resolve(host, port)))
        for text in found:
            address = ipaddress.ip_address(text.split("%")[0])
            inside = any(address in network for network in self._allowed)
            if not inside and not is_public(address):
                raise NotAllowed(
                    f"{host} is {address}, which is no public address: allow it by"
                    " webhooks.allow_networks, if it is meant",
                    code="not_public",
                )
            if not inside and not encrypted:
                raise NotAllowed(f"{host} is on the Internet: use https there", code="not_encrypted")
        return found


@functools.cache
def _tls() -> ssl.SSLContext:
    """Made when first needed: reading all authorities takes a while."""
    return ssl.create_default_context()


class _Pinned(httpcore.AsyncNetworkBackend):
    """Connects to addresses that were looked up and checked before, whatever host is asked for."""

    def __init__(self, addresses: Sequence[str]) -> None:
        self._addresses = addresses
        self._trio = cast(httpcore.AsyncNetworkBackend, httpcore.TrioBackend())

    async def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[httpcore.SOCKET_OPTION] | None = None,
    ) -> httpcore.AsyncNetworkStream:
        failure: Exception = httpcore.ConnectError(f"{host} has no address")
        for address in self._addresses:
            try:
                return await self._trio.connect_tcp(address, port, timeout, local_address, socket_options)
            except httpcore.ConnectError as error:
                failure = error
        raise failure

    async def sleep(self, seconds: float) -> None:
        await self._trio.sleep(seconds)
