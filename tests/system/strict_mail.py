"""strict_mail.py - what Python's own mail and HTML parsers make of messages.

Reads messages from standard input, one in base64 per line, and writes one line of JSON for each.  Any defect that the
mail parser knows of is an error.
"""
import base64
import email.parser
import email.policy
import html.parser
import json
import sys

POLICY = email.policy.SMTP.clone(raise_on_defect=True)


class Tokens(html.parser.HTMLParser):
    def __init__(self):
        super().__init__(convert_charrefs=True)
        self.tokens = []

    def handle_starttag(self, tag, attrs):
        self.tokens.append({"begin": tag, "attributes": attrs})

    def handle_endtag(self, tag):
        self.tokens.append({"end": tag})

    def handle_data(self, data):
        if self.tokens and "text" in self.tokens[-1]:
            self.tokens[-1]["text"] += data
        else:
            self.tokens.append({"text": data})

    def handle_comment(self, data):
        self.tokens.append({"comment": data})

    def handle_decl(self, decl):
        self.tokens.append({"declaration": decl})

    def handle_pi(self, data):
        self.tokens.append({"instruction": data})

    def unknown_decl(self, data):
        self.tokens.append({"unknown": data})


def tokens_of(text):
    parser = Tokens()
    parser.feed(text)
    parser.close()
    return parser.tokens


def header_of(name, value):
    header = {"name": name, "text": str(value), "defects": [str(defect) for defect in value.defects]}
    if hasattr(value, "groups"):
        header["groups"] = [[group.display_name, [[a.display_name, a.addr_spec] for a in group.addresses]]
                            for group in value.groups]
    return header


def part_of(part):
    content = part.get_payload(decode=True).decode("utf-8", "strict")
    result = {"headers": part.keys(), "type": part.get_content_type(), "charset": part.get_content_charset(),
              "disposition": part.get_content_disposition(), "text": content}
    if part.get_content_type() == "text/html":
        result["tokens"] = tokens_of(content)
    return result


def read(raw):
    message = email.parser.BytesParser(policy=POLICY).parsebytes(raw)
    parts = list(message.iter_parts()) if message.is_multipart() else [message]
    return {
        "headers": [header_of(name, value) for name, value in message.items()],
        "type": message.get_content_type(), "preamble": message.preamble, "epilogue": message.epilogue,
        "defects": [str(defect) for part in message.walk() for defect in part.defects],
        "parts": [part_of(part) for part in parts],
    }


for line in sys.stdin:
    try:
        result = read(base64.b64decode(line))
    except Exception as error:  # told to the test, which fails
        result = {"error": "%s: %s" % (type(error).__name__, error)}
    print(json.dumps(result))
