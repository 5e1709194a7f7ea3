"""What PyPI's `spiffe` makes of the socket. Says one JSON object a line; reads a line to go on."""

import json
import os
import sys
import threading

from spiffe import WorkloadApiClient
from spiffe.errors import PySpiffeError


def say(**members):
    print(json.dumps(members), flush=True)


def go_on():
    return sys.stdin.readline().strip()


say(pid=os.getpid())
go_on()
client = WorkloadApiClient("unix://" + sys.argv[1])
try:
    client.fetch_x509_svid()
    say(error=None)
except PySpiffeError as error:
    say(error=str(error))
go_on()

svid = client.fetch_x509_svid()
bundles = client.fetch_x509_bundles()
say(
    id=str(svid.spiffe_id),
    chain=len(svid.cert_chain),
    serial=str(svid.leaf.serial_number),
    domains=sorted(str(domain) for domain in [b.trust_domain for b in bundles.bundles]),
)

jwt = client.fetch_jwt_svid({"db.internal"})
checked = client.validate_jwt_svid(jwt.token, "db.internal")
try:
    client.validate_jwt_svid(jwt.token, "other.internal")
    wrong = None
except PySpiffeError as error:
    wrong = type(error).__name__
say(id=str(checked.spiffe_id), audience=sorted(checked.audience), wrong=wrong)

contexts = []
changed = threading.Condition()


def told(context):
    with changed:
        contexts.append(str(context.default_svid.leaf.serial_number))
        changed.notify_all()


def failed(error):
    say(failed=type(error).__name__)


stream = client.stream_x509_contexts(told, failed, retry_connect=False)


def wait_for(count):
    with changed:
        assert changed.wait_for(lambda: len(contexts) >= count, timeout=30), "no update came"


wait_for(1)
say(streaming=True)
go_on()
wait_for(2)
say(rotated=contexts[0] != contexts[1])
go_on()
