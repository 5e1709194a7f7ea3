"""A browser that reads forms and keeps cookies: usage: browser.py URL USER [CODE]. Ends when no form is left."""
import html.parser
import http.cookiejar
import sys
import urllib.parse
import urllib.request


class Form(html.parser.HTMLParser):
    def __init__(self, page):
        super().__init__()
        self.action, self.fields, self.seen = None, {}, False
        self.feed(page)

    def handle_starttag(self, tag, attributes):
        attributes = dict(attributes)
        if tag == "form" and not self.seen:
            self.action, self.seen = attributes.get("action"), True
        if tag == "input" and attributes.get("name"):
            self.fields[attributes["name"]] = attributes.get("value") or ""


url, user, *code = sys.argv[1:]
jar = http.cookiejar.CookieJar()
opener = urllib.request.build_opener(urllib.request.HTTPCookieProcessor(jar))
answers = {"login": user, "password": "any", "user_code": code[0] if code else ""}
place, data = url, None
for _ in range(30):
    with opener.open(place, data, timeout=20) as answer:
        place, page = answer.geturl(), answer.read().decode()
    form = Form(page)
    if not form.action or "/callback" in place:
        print(page)
        sys.exit(0)
    fields = {name: answers.get(name) or value for name, value in form.fields.items()}
    place, data = urllib.parse.urljoin(place, form.action), urllib.parse.urlencode(fields).encode()
sys.exit("too many pages")
