#!/usr/bin/env python3
"""token.py NAME [PLAN]: a token for jwt-authn.yaml, as an issuer would sign it; the first time it makes the issuer's key, in target/jwt/.

Needs openssl. (JSON Web Token: RFC 7519; RS256: RFC 7518, 3.3; the published key: RFC 7517, RFC 7518, 6.3.1.)
"""
import base64
import json
import os
import subprocess
import sys
import time

FOLDER = os.environ.get("JWT_FOLDER", "target/jwt")
KEY = os.path.join(FOLDER, "issuer.pem")


def openssl(*arguments, data=None):
    return subprocess.run(["openssl", *arguments], input=data, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, check=True).stdout


def base64url(data):
    return base64.urlsafe_b64encode(data).decode().rstrip("=")


def encoded(value):
    return base64url(json.dumps(value).encode())


def make_key():
    os.makedirs(FOLDER, exist_ok=True)
    openssl("genrsa", "-out", KEY, "2048")
    modulus = openssl("rsa", "-in", KEY, "-noout", "-modulus").decode().strip().removeprefix("Modulus=")
    # The exponent is what openssl takes if not told otherwise: 65537.
    public = {"kty": "RSA", "alg": "RS256", "kid": "issuer", "n": base64url(bytes.fromhex(modulus)), "e": "AQAB"}
    with open(os.path.join(FOLDER, "jwks.json"), "w") as file:
        json.dump({"keys": [public]}, file)


def main(name, plan=None):
    if not os.path.exists(KEY):
        make_key()
    claims = {"iss": "https://issuer.example.com", "aud": "api", "sub": name, "exp": int(time.time()) + 3600}
    if plan is not None:
        claims["plan"] = plan
    signed = encoded({"alg": "RS256", "typ": "JWT", "kid": "issuer"}) + "." + encoded(claims)
    print(signed + "." + base64url(openssl("dgst", "-sha256", "-sign", KEY, data=signed.encode())))


if __name__ == "__main__":
    main(*sys.argv[1:])
