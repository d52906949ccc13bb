"""What a written page holds, for the tests that read one."""

import re
from html.parser import HTMLParser

VOID = {"meta", "link", "img", "input", "br"}


class PageParts(HTMLParser):
    """Elements of a page.

    Args:
        text: of the page.

    Attributes:
        elements: (name, attributes) of each, in order.
        numbers: (attributes, text) of each number.
        words: texts outside of numbers, styles, drawings, code and table cells of words.
    """

    def __init__(self, text):
        super().__init__()
        self.elements, self.numbers, self.words, self.headings = [], [], [], []
        self._open = []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag, attrs):
        attributes = dict(attrs)
        self.elements.append((tag, attributes))
        if tag not in VOID:
            self._open.append((tag, attributes))
        if tag == "data":
            self.numbers.append((attributes, ""))

    def handle_startendtag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))

    def handle_endtag(self, tag):
        assert self._open.pop()[0] == tag, f"</{tag}> closes something else"

    def handle_data(self, data):
        tags = [tag for tag, _ in self._open]
        if tags and tags[-1] == "data":
            self.numbers[-1] = (self.numbers[-1][0], self.numbers[-1][1] + data)
        elif not {"style", "svg", "code", "title"} & set(tags):
            self.words.append(data)
        if tags and re.fullmatch("h[1-6]", tags[-1]):
            self.headings.append((int(tags[-1][1]), data.strip()))

    def close(self):
        super().close()
        assert not self._open, f"never closed: {self._open}"

    def of(self, name):
        """Attributes of every element of this name."""
        return [attributes for tag, attributes in self.elements if tag == name]


def check_stands_alone(text):
    """Asserts that a page asks for nothing from elsewhere and runs no script."""
    parts = PageParts(text)
    assert not parts.of("script") and not [tag for tag, _ in parts.elements if tag in ("iframe", "object")]
    policy = next(a for a in parts.of("meta") if a.get("http-equiv") == "Content-Security-Policy")["content"]
    assert policy.startswith("default-src 'none'; img-src data:;") and "script" not in policy
    for _, attributes in parts.elements:
        assert not any(name.startswith("on") for name in attributes)
        for name in ("src", "href", "srcset", "action"):
            assert attributes.get(name, "#").startswith(("#", "data:")), attributes
    assert not re.search(r"url\(|@import", text)
    return parts


def check_numbers(parts, figures, look_up):
    """Asserts that each number is, to the last digit and as formatted, what its key names in `figures`."""
    for attributes, text in parts.numbers:
        value = look_up(figures, attributes["data-key"])
        if value is None:
            assert text == "–" and attributes["value"] == ""
            continue
        assert float(attributes["value"]) == value, attributes
        assert text == format(value, attributes["data-format"]), attributes


def check_readable(parts):
    """Asserts what a reader without a mouse, or without eyes, needs."""
    assert parts.of("html")[0]["lang"] == "en" and parts.of("main") and len(parts.of("title")) >= 1
    assert all(attributes.get("alt") for attributes in parts.of("img"))
    drawings = parts.of("svg")
    assert drawings and all("aria-label" in own or own.get("aria-hidden") == "true" for own in drawings)
    levels = [level for level, _ in parts.headings]
    assert levels[0] == 1 and levels.count(1) == 1
    assert all(after <= before + 1 for before, after in zip(levels, levels[1:], strict=False))
    ids = [attributes["id"] for _, attributes in parts.elements if "id" in attributes]
    assert len(ids) == len(set(ids))
    assert {own["href"][1:] for own in parts.of("a")} <= set(ids)
    assert {own["aria-labelledby"] for own in parts.of("section")} <= set(ids)
