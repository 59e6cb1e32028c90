"""A private OpenID Connect provider on loopback: discovery, rotating keys, logins by device or browser."""

from __future__ import annotations

import base64
import hashlib
import json
import secrets
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
        self.revoked: list[str] = []  # refresh tokens that were given back
        self.offers_revocation = True
        self.secret = ""  # the client's; empty: it is a public one
        self.redirect_uris: set[str] = set()  # those that a browser may be sent back to
        self.codes: dict[str, dict[str, str]] = {}  # what browsers asked for, by code; each counts once
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

    def authorize(self, asked: dict[str, str]) -> str:
        """Where a browser is sent back to: with a code, if ``approved`` is somebody; empty: nowhere."""
        back = asked.get("redirect_uri", "")
        if back not in self.redirect_uris or asked.get("client_id") != AUDIENCE:
            return ""
        answer = {"state": asked.get("state", ""), "iss": self.url}
        if self.denied or self.approved is None:
            answer |= {"error": "access_denied", "error_description": "no, said Anna"}
        elif asked.get("response_type") != "code" or asked.get("code_challenge_method") != "S256":
            answer |= {"error": "invalid_request"}
        else:
            answer["code"] = secrets.token_hex(8)
            self.codes[answer["code"]] = asked
        return f"{back}?{urllib.parse.urlencode(answer)}"

    def token(self, form: dict[str, str]) -> tuple[int, dict[str, Any]]:
        """What the token endpoint answers."""
        asked = self._asked(form)
        if form.get("client_id") != AUDIENCE or asked is None or form.get("client_secret", "") != self.secret:
            return 400, {"error": "invalid_grant", "error_description": "who is that?"}
        if self.denied:
            return 400, {"error": "access_denied", "error_description": "no, said Anna"}
        waits = "device_code" in form and self.requests.count("/token") < 3
        if self.approved is None or waits:
            return 400, {"error": "authorization_pending"}
        claims = self.approved | ({"nonce": asked["nonce"]} if "nonce" in asked else {})
        given = {"access_token": "opaque", "id_token": self.sign(claims), "token_type": "Bearer"}
        if self.refresh:
            self.refresh += "+"
            given["refresh_token"] = self.refresh
        return 200, given

    def revoke(self, form: dict[str, str]) -> tuple[int, Any]:
        """What the revocation endpoint answers: nothing, for whoever may ask (RFC 7009)."""
        if form.get("client_id") != AUDIENCE or form.get("client_secret", "") != self.secret:
            return 401, {"error": "invalid_client"}
        self.revoked.append(form["token"])
        if form["token"] == self.refresh:
            self.refresh = ""
        return 200, None

    def _asked(self, form: dict[str, str]) -> dict[str, str] | None:
        """What was asked for at first, if the grant is good."""
        match form.get("grant_type"):
            case "refresh_token":
                return {} if form.get("refresh_token") == self.refresh != "" else None
            case "authorization_code":
                asked = self.codes.pop(form.get("code", ""), None)
                digest = hashlib.sha256(form.get("code_verifier", "").encode()).digest()
                challenge = base64.urlsafe_b64encode(digest).rstrip(b"=").decode()
                is_same = asked is not None and asked["redirect_uri"] == form.get("redirect_uri")
                return asked if asked and is_same and asked["code_challenge"] == challenge else None
            case _:
                return {} if form.get("device_code") == "dc1" else None

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
                elif self.path.startswith("/authorize?"):
                    asked = dict(urllib.parse.parse_qsl(self.path.partition("?")[2]))
                    back = issuer.authorize(asked)
                    self.answer(302 if back else 400, {}, back)
                else:
                    self.answer(404, {})

            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"])).decode()
                form = dict(urllib.parse.parse_qsl(body))
                issuer.requests.append(self.path)
                if issuer.away:
                    self.answer(503, {})
                elif self.path == "/device":
                    self.answer(200, {
                        "device_code": "dc1", "user_code": "ABCD", "interval": 0.01, "expires_in": 30,
                        "verification_uri": f"{issuer.url}/enter",
                    })  # fmt: skip
                elif self.path == "/revoke":
                    self.answer(*issuer.revoke(form))
                else:
                    self.answer(*issuer.token(form))

            def answer(self, status: int, value: Any, location: str = "") -> None:
                data = json.dumps(value).encode() if value is not None else b""
                self.send_response(status)
                if location:
                    self.send_header("Location", location)
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
            "authorization_endpoint": f"{self.url}/authorize",
            **({"revocation_endpoint": f"{self.url}/revoke"} if self.offers_revocation else {}),
        }
