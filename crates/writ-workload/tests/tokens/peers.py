"""What PyPI's `joserfc` and `pyjwt` make of a token. One JSON object in, one out."""

import json
import sys
import time
import uuid

import jwt as pyjwt
from joserfc import jwt
from joserfc.errors import JoseError
from joserfc.jwk import ECKey, KeySet


def actors(claims):
    found, act = [], claims.get("act")
    while act is not None:
        assert set(act) <= {"sub", "act"}
        found.append(act["sub"])
        act = act.get("act")
    return found


def by_joserfc(asked):
    keys = KeySet.import_key_set(asked["keys"])
    token = jwt.decode(asked["token"], keys, algorithms=["ES256"])

    def check(audience):
        jwt.JWTClaimsRegistry(
            iss={"essential": True, "value": asked["issuer"]},
            aud={"essential": True, "value": audience},
            exp={"essential": True},
        ).validate(token.claims)

    check(asked["audience"])
    try:
        check("https://other.example")
        wrong = False
    except JoseError:
        wrong = True
    return dict(header=token.header, claims=token.claims, actors=actors(token.claims), wrong_audience=wrong)


def by_pyjwt(asked):
    keys = pyjwt.PyJWKSet.from_dict(asked["keys"])
    header = pyjwt.get_unverified_header(asked["token"])

    def decode(audience):
        return pyjwt.decode(
            asked["token"],
            keys[header["kid"]].key,
            algorithms=["ES256"],
            audience=audience,
            issuer=asked["issuer"],
            options={"require": ["exp", "iat", "sub", "aud", "iss"]},
        )

    claims = decode(asked["audience"])
    try:
        decode("https://other.example")
        wrong = False
    except pyjwt.InvalidAudienceError:
        wrong = True
    return dict(header=header, claims=claims, actors=actors(claims), wrong_audience=wrong)


asked = json.load(sys.stdin)
if "proof" in asked:
    key = ECKey.generate_key("P-256")
    header = {"typ": "dpop+jwt", "alg": "ES256", "jwk": key.as_dict(private=False)}
    claims = {"jti": str(uuid.uuid4()), "htm": "POST", "htu": asked["proof"], "iat": int(time.time())}
    answer = dict(proof=jwt.encode(header, claims, key), thumbprint=key.thumbprint())
else:
    answer = dict(joserfc=by_joserfc(asked), pyjwt=by_pyjwt(asked))
print(json.dumps(answer))
