"""What would keep a report from being read: LaTeX that does not compile, HTML that is not whole."""

import re
from html.parser import HTMLParser


def latex_errors(text):
    """What would keep LaTeX from compiling: braces, environments, columns, signs that are not escaped."""
    errors = []
    depth = 0
    bare = re.sub(r"\\[\\{}$&%#_]", "", text)
    for sign in bare:
        depth += {"{": 1, "}": -1}.get(sign, 0)
        if depth < 0:
            errors.append("a brace closes nothing")
            break
    if depth > 0:
        errors.append("an open brace")
    stack = []
    for kind, name in re.findall(r"\\(begin|end)\{(\w+\*?)\}", text):
        if kind == "begin":
            stack.append(name)
        elif not stack or stack.pop() != name:
            errors.append(f"{name} ends and was not begun")
    errors += stack
    body = re.sub(r"(?m)^%.*$", "", text)
    if re.search(r"(?<!\\)%", body):
        errors.append("a comment in the text")
    outside = re.sub(r"\$[^$]*\$", "", re.sub(r"\\\$", "", body))
    if "$" in outside or re.search(r"(?<!\\)_", re.sub(r"figures/\S+?\}", "", outside)):
        errors.append("a bare dollar or underscore")
    for columns, table in re.findall(r"\\begin\{(?:tabular|longtable)\}\{([lr]+)\}(.*?)\\end\{", text, re.DOTALL):
        for line in re.sub(r"\\caption.*", "", table).split(r"\\")[:-1]:
            cells = len(re.findall(r"(?<!\\)&", line)) + 1
            if cells != len(columns):
                errors.append(f"{cells} cells in {len(columns)} columns: {line.strip()}")
    return errors


class Links(HTMLParser):
    def __init__(self):
        super().__init__()
        self.open, self.links, self.rows, self.text = [], [], [], ""

    def handle_starttag(self, tag, attributes):
        self.links += [value for name, value in attributes if name in ("src", "href", "srcset", "action", "data")]
        if tag == "tr":
            self.rows.append(0)
        if tag in ("td", "th"):
            self.rows[-1] += 1
        if tag not in ("meta", "img"):
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.text += data
