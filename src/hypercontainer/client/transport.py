"""HTTP/1.1 to hyperd over a unix or TCP socket: one connection for each request.

Import time matters here: `hyper list` is mostly that. So there is no `typing`,
no `dataclasses`, no `urllib.request`.
"""

from __future__ import annotations

import http.client
import json
import os
import socket
import ssl
from urllib.parse import urlencode, urlsplit

from ..errors import BadRequest, HyperError, NotFound, Timeout, from_wire
from .cancel import track
from .streams import FRAMED, RawStream

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from typing import IO, Any

    from .tls import TLS

    Params = Mapping[str, str | int | bool | Sequence[str] | None]

DEFAULT_HOST = "unix:///var/run/hyper.sock"
API_VERSION = "1.17"
CONNECT_TIMEOUT = 10.0
_MAX_ERROR_BODY = 1 << 20
_BLOCK = 1 << 18


class DaemonUnavailable(HyperError):
    """No hyperd answers at the address. `missing` is false when it is there but not for us."""

    code = "no_daemon"
    status = 503

    def __init__(self, message: str, *, missing: bool = True) -> None:
        super().__init__(message)
        self.missing = missing


class Address:
    """Where hyperd listens: `unix:///path` or `tcp://host:port`, the latter maybe by TLS.

    Raises BadRequest.
    """

    __slots__ = ("_context", "host", "path", "port", "text", "tls")

    def __init__(self, text: str, tls: TLS | None = None) -> None:
        self.text = text
        self.tls = tls
        self._context: ssl.SSLContext | None = None
        self.path = self.host = ""
        self.port = 0
        parts = urlsplit(text)
        if parts.scheme == "unix" and parts.path.startswith("/") and not parts.netloc:
            self.path = parts.path
            if tls:
                raise BadRequest(f"TLS is for tcp://HOST:PORT, and hyperd is at {text}")
            return
        try:
            port = parts.port
        except ValueError:
            port = None
        if parts.scheme != "tcp" or not parts.hostname or not port or parts.path not in ("", "/"):
            raise BadRequest(
                f"bad address of hyperd {text!r}: expected unix:///path or tcp://host:port"
            )
        self.host, self.port = parts.hostname, port

    @classmethod
    def of(cls, host: str | None, tls: TLS | None = None) -> Address:
        """The address given, else that of HYPER_HOST, else the default socket.

        TCP without `tls` is by TLS when HYPER_TLS_VERIFY says so.
        """
        text = host or os.environ.get("HYPER_HOST") or DEFAULT_HOST
        if tls is None and text.startswith("tcp:") and os.environ.get("HYPER_TLS_VERIFY"):
            from .tls import TLS

            tls = TLS.of_environment(os.environ)
        return cls(text, tls)

    def connect(self) -> socket.socket:
        """A connected socket. Raises DaemonUnavailable."""
        sock = None
        try:
            if not self.path:
                sock = socket.create_connection((self.host, self.port), CONNECT_TIMEOUT)
                sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
                return self._secured(sock, self.tls) if self.tls else sock
            sock = socket.socket(socket.AF_UNIX)
            sock.settimeout(CONNECT_TIMEOUT)
            sock.connect(self.path)
        except OSError as error:
            if sock is not None:
                sock.close()
            raise self._unavailable(error) from error
        return sock

    def _secured(self, sock: socket.socket, tls: TLS) -> ssl.SSLSocket:
        try:
            if self._context is None:
                self._context = tls.context()
            return self._context.wrap_socket(sock, server_hostname=self.host)
        except BadRequest:
            sock.close()
            raise
        except (ssl.SSLError, ConnectionError) as error:
            sock.close()
            raise self.refused(tls.explain(error, self.host)) from error

    def refused(self, why: str) -> DaemonUnavailable:
        """The error of a hyperd that is there and does not want to talk to us."""
        return DaemonUnavailable(f"cannot connect to hyperd at {self.text}: {why}", missing=False)

    def _unavailable(self, error: OSError) -> DaemonUnavailable:
        if isinstance(error, PermissionError):
            return DaemonUnavailable(
                f"cannot connect to hyperd at {self.text}: permission denied: run as root",
                missing=False,
            )
        why = str(error.strerror or error).lower()
        missing = isinstance(error, (FileNotFoundError, ConnectionRefusedError))
        remedy = "start `hyperd`" if self.path else "is hyperd running there with --host?"
        return DaemonUnavailable(
            f"cannot connect to hyperd at {self.text}: {why}: {remedy}", missing=missing
        )


class _Connection(http.client.HTTPConnection):
    def __init__(self, address: Address) -> None:
        name = "hyperd" if address.path else f"{address.host}:{address.port}"
        super().__init__(name, blocksize=_BLOCK)
        self._address = address

    def connect(self) -> None:
        self.sock = self._address.connect()


class Response:
    """A successful answer whose body is still to be read."""

    def __init__(self, connection: _Connection, raw: http.client.HTTPResponse, what: str) -> None:
        self._connection = connection
        self._raw = raw
        self._what = what

    def header(self, name: str) -> str:
        """A header of the answer, "" when it is not there."""
        return self._raw.getheader(name) or ""

    def json(self) -> Any:
        """The whole body as JSON; None when it is empty."""
        try:
            body = self.read()
            return json.loads(body) if body.strip() else None
        except ValueError as error:
            raise HyperError(f"hyperd did not answer {self._what} with JSON") from error

    def read(self) -> bytes:
        """The whole body."""
        with _told(self._what):
            try:
                return self._raw.read()
            finally:
                self.close()

    def lines(self) -> Iterator[Any]:
        """The JSON objects of a body that has one a line."""
        rest = b""
        try:
            for data in self.chunks():
                *lines, rest = (rest + data).split(b"\n")
                yield from (json.loads(line) for line in lines if line.strip())
            if rest.strip():
                yield json.loads(rest)
        except ValueError as error:
            raise HyperError(f"hyperd sent a bad progress line for {self._what}") from error
        finally:
            self.close()

    def chunks(self) -> Iterator[bytes]:
        """The body piece by piece, as it comes."""
        try:
            while True:
                with _told(self._what):
                    data = self._raw.read1(65536)
                if not data:
                    return
                yield data
        finally:
            self.close()

    def hijack(self) -> RawStream:
        """The connection itself, after `101 UPGRADED`."""
        sock = self._connection.sock
        assert sock is not None
        if isinstance(sock, ssl.SSLSocket):
            return self._hijack_tls(sock)
        sock.setblocking(False)
        early = self._raw.fp.read1(-1)  # what came in one packet with the header
        sock.settimeout(None)
        taken = sock.dup()
        track(taken)
        self.close()
        return RawStream(taken, early or b"")

    def _hijack_tls(self, sock: ssl.SSLSocket) -> RawStream:
        from .tunnel import tunnel

        sock.setblocking(False)
        try:
            early = self._raw.fp.read1(-1)
        except ssl.SSLWantReadError:
            early = b""
        self._connection.sock = None  # it lives on in the tunnel
        taken = tunnel(sock, early or b"")
        track(taken)
        self.close()
        return RawStream(taken)

    def close(self) -> None:
        """Let the connection go."""
        self._raw.close()
        self._connection.close()


def _cut_off(what: str) -> str:
    return f"hyperd closed the connection during {what}: see its log"


class _told:
    """Turns the troubles of a connection into errors that say which request they struck."""

    def __init__(
        self, what: str, timeout: float | None = None, address: Address | None = None
    ) -> None:
        self._what = what
        self._timeout = timeout
        self._address = address

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        if isinstance(error, TimeoutError):
            bound = f" in {self._timeout:.0f} s" if self._timeout else ""
            raise Timeout(f"hyperd did not answer {self._what}{bound}") from error
        broken = isinstance(error, (http.client.HTTPException, ConnectionError, ssl.SSLError))
        if broken and self._address and not self._address.path:
            raise self._address.refused(_why_refused(self._address, error)) from error
        if broken:
            raise HyperError(_cut_off(self._what)) from error


def _why_refused(address: Address, error: BaseException | None) -> str:
    """Why a first request over TCP was not answered."""
    if address.tls and isinstance(error, Exception):
        return address.tls.explain(error, address.host)
    return "it closed the connection: does it want TLS? (--tlsverify, HYPER_TLS_VERIFY)"


class Transport:
    """Sends requests to one address."""

    def __init__(self, address: Address) -> None:
        self.address = address

    def request(
        self,
        method: str,
        path: str,
        params: Params | None = None,
        *,
        body: object = None,
        upload: IO[bytes] | None = None,
        headers: Mapping[str, str] | None = None,
        timeout: float | None = 60.0,
        upgrade: bool = False,
    ) -> Response:
        """Send a request and wait at most `timeout` seconds (None: unbounded) for its answer.

        `body` goes as JSON, `upload` as chunks of a file. Raises the HyperError that
        hyperd answered with, DaemonUnavailable, or Timeout.
        """
        what = f"{method} {path}"
        sent = dict(headers or {})
        data: bytes | IO[bytes] | None = upload
        if body is not None:
            data = json.dumps(body).encode()
            sent["Content-Type"] = "application/json"
        if upgrade:
            sent |= {"Connection": "Upgrade", "Upgrade": FRAMED if self.address.tls else "tcp"}
        elif upload is not None:
            sent["Content-Type"] = "application/x-tar"
        connection = _Connection(self.address)
        try:
            connection.connect()
            track(connection.sock)
            connection.sock.settimeout(timeout)
            with _told(what, timeout, self.address):
                try:
                    connection.request(
                        method,
                        _target(path, params),
                        data,
                        sent,
                        encode_chunked=upload is not None,
                    )
                except (BrokenPipeError, ConnectionResetError, ssl.SSLError):
                    pass  # hyperd has answered before the body's end: the answer says why
                raw = connection.getresponse()
                if raw.status >= 400:
                    raise _error_of(raw)
            if upgrade and raw.status != 101:
                raise HyperError(f"hyperd answered {what} with {raw.status} instead of a stream")
        except BaseException:
            connection.close()
            raise
        return Response(connection, raw, what)


def _target(path: str, params: Params | None) -> str:
    query = urlencode(
        {
            key: ("1" if value else "0") if isinstance(value, bool) else value
            for key, value in (params or {}).items()
            if value is not None
        },
        doseq=True,
    )
    return f"/v{API_VERSION}{path}" + (f"?{query}" if query else "")


def _error_of(raw: http.client.HTTPResponse) -> HyperError:
    body = raw.read(_MAX_ERROR_BODY)
    try:
        wire = json.loads(body)
    except ValueError:
        wire = None
    if isinstance(wire, dict):
        return from_wire(wire)
    text = body.decode(errors="replace").strip() or raw.reason
    kind = NotFound if raw.status == 404 else HyperError
    return kind(f"hyperd answered {raw.status}: {text.splitlines()[0] if text else ''}")
