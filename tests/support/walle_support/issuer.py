"""A private OpenID Connect provider on loopback: discovery, keys that rotate, logins by device code."""

from __future__ import annotations

import json
import threading
import urllib.parse
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Any

from joserfc import jwt
from joserfc.jwk import ECKey, RSAKey

AUDIENCE = "walle"


class Issuer:
    """The provider; a context manager. ``requests`` counts what was asked, by path."""

    def __init__(self) -> None:
        self.requests: list[str] = []
        self.keys: list[RSAKey | ECKey] = []
        self.away = False
        self.approved: dict[str, Any] | None = None  # the claims of whoever enters the code
        self.denied = False
        self.refresh = ""  # the refresh token that counts now; every use gives another
        self.add_key("rsa-1", "RSA")

    def add_key(self, kid: str, kind: str = "RSA") -> RSAKey | ECKey:
        """A new signing key, in front of the older ones."""
        parameters: Any = {"kid": kid, "use": "sig"}
        key = (
            RSAKey.generate_key(2048, parameters)
            if kind == "RSA"
            else ECKey.generate_key("P-256", parameters)
        )
        self.keys.insert(0, key)
        return key

    def claims(self, now_s: int, **claims: Any) -> dict[str, Any]:
        """What an honest token says."""
        return {
            "iss": self.url, "aud": AUDIENCE, "sub": "u1", "iat": now_s, "exp": now_s + 300,
            "email": "anna@example.org", "email_verified": True, **claims,
        }  # fmt: skip

    def sign(self, claims: dict[str, Any], key: RSAKey | ECKey | None = None, **header: Any) -> str:
        """A token with these claims."""
        key = key or self.keys[0]
        algorithm = "RS256" if isinstance(key, RSAKey) else "ES256"
        return jwt.encode({"alg": algorithm, "kid": key.kid, **header}, claims, key)

    def knows(self, form: dict[str, str]) -> bool:
        """Whether a grant is good."""
        if form.get("grant_type") == "refresh_token":
            return form.get("refresh_token") == self.refresh != ""
        return form.get("device_code") == "dc1"

    def __enter__(self) -> Issuer:
        issuer = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                issuer.requests.append(self.path)
                if issuer.away:
                    self.answer(503, {})
                elif self.path == "/.well-known/openid-configuration":
                    self.answer(200, issuer.discovery())
                elif self.path == "/keys":
                    shown = [key.as_dict(private=False) for key in issuer.keys]
                    shown.append({"kty": "OKP", "crv": "X25519", "use": "enc", "kid": "enc", "x": "AA"})
                    self.answer(200, {"keys": shown})
                else:
                    self.answer(404, {})

            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"])).decode()
                form = dict(urllib.parse.parse_qsl(body))
                issuer.requests.append(self.path)
                if self.path == "/device":
                    self.answer(200, {
                        "device_code": "dc1", "user_code": "ABCD", "interval": 0.01, "expires_in": 30,
                        "verification_uri": f"{issuer.url}/enter",
                    })  # fmt: skip
                elif form.get("client_id") != AUDIENCE or not issuer.knows(form):
                    self.answer(400, {"error": "invalid_grant", "error_description": "who is that?"})
                elif issuer.denied:
                    self.answer(400, {"error": "access_denied", "error_description": "no, said Anna"})
                elif issuer.approved is None or issuer.requests.count("/token") < 3:
                    self.answer(400, {"error": "authorization_pending"})
                else:
                    given = {"access_token": "opaque", "id_token": issuer.sign(issuer.approved)}
                    if issuer.refresh:
                        issuer.refresh += "+"
                        given["refresh_token"] = issuer.refresh
                    self.answer(200, {**given, "token_type": "Bearer"})

            def answer(self, status: int, value: Any) -> None:
                data = json.dumps(value).encode()
                self.send_response(status)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(data)))
                self.end_headers()
                self.wfile.write(data)

            def log_message(self, format: str, *args: Any) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.01,))
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()

    @property
    def url(self) -> str:
        """The issuer."""
        return f"http://127.0.0.1:{self._server.server_port}"

    def discovery(self) -> dict[str, Any]:
        """The discovery document."""
        return {
            "issuer": self.url,
            "jwks_uri": f"{self.url}/keys",
            "device_authorization_endpoint": f"{self.url}/device",
            "token_endpoint": f"{self.url}/token",
        }
