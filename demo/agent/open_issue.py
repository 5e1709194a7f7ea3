"""Opens an issue at the forge with nothing but the standard library."""

import json
import urllib.request

request = urllib.request.Request(
    "https://forge.test/api/repos/acme/site/issues",
    data=json.dumps({"title": "The front page needs a picture"}).encode(),
    headers={"Content-Type": "application/json"},
)
with urllib.request.urlopen(request) as answer:
    print("opened issue", json.load(answer)["number"])
