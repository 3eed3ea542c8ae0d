"""The page of `report`: its numbers are those of the JSON, it needs nothing but itself, hostile names
do nothing, and it is there without gnuplot too.

usage: report_page.py MUONSPEC EXAMPLE"""
import base64
import hashlib
import html.parser
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile

sys.dont_write_bytecode = True
import report_numbers as numbers

MUONSPEC, EXAMPLE = map(os.path.abspath, sys.argv[1:3])
EARLY, LATE = (os.path.join(EXAMPLE, f"step-00{step}.h5") for step in ("0400", "1600"))
GNUPLOT = os.environ.get("MUONSPEC_GNUPLOT") or shutil.which("gnuplot")
VOID = {"meta", "br", "img", "link", "input", "hr"}
UNCLOSED = {"td", "tr", "th"}  # their end tags may be left out
HOSTILE = ["model.layers.0.<script>alert(1)</script>.weight",
           "model.layers.1.\"><img src=x onerror=alert(1)>.weight",
           "model.layers.2.'</title></svg></table><script>x</script>.weight",
           "model.layers.3.&lt;b&gt;`touch x`$(touch y)\n\u202e.weight"]


class Page(numbers.Tables, html.parser.HTMLParser):
    """Elements and their counts, text, and the tables as {caption: (columns, rows)}; a cell is a
    number where it has data-v, else its text."""

    def __init__(self, text):
        super().__init__(convert_charrefs=True)
        self.tags, self.attributes, self.text, self.script = {}, [], [], []
        self.tables, self.rows, self.columns, self.where, self.caption = {}, None, None, None, ""
        self.stack = []
        self.feed(text)
        self.close()
        assert not self.stack, self.stack

    def handle_starttag(self, tag, attrs):
        attrs = dict(attrs)
        self.tags[tag] = self.tags.get(tag, 0) + 1
        self.attributes.append((tag, attrs))
        if tag not in VOID | UNCLOSED:
            self.stack.append(tag)
        self.where = tag
        if tag == "table":
            self.columns, self.rows, self.caption = [], [], ""
        elif tag == "th":
            self.columns.append("")
        elif tag == "tr" and self.columns:
            self.rows.append([])
        elif tag == "td":
            self.rows[-1].append(float(attrs["data-v"]) if "data-v" in attrs else "")

    def handle_startendtag(self, tag, attrs):
        self.tags[tag] = self.tags.get(tag, 0) + 1
        self.attributes.append((tag, dict(attrs)))

    def handle_endtag(self, tag):
        if tag in UNCLOSED:
            self.where = None
            return
        assert self.stack and self.stack[-1] == tag, (tag, self.stack)
        self.stack.pop()
        if tag == "table":
            self.add_table(self.caption, self.columns, self.rows)
            self.columns = None
        self.where = None

    def handle_data(self, data):
        if self.where == "script":
            self.script.append(data)
        else:
            self.text.append(data)
        if self.where == "caption":
            self.caption += data
        elif self.where == "th":
            self.columns[-1] += data
        elif self.where == "td" and isinstance(self.rows[-1][-1], str):
            self.rows[-1][-1] += data.rstrip("\n")


def report(*arguments, **environment):
    numbers.run(MUONSPEC, "report", "-q", "--no-store", "-o", "page.html", *arguments, **environment)
    with open("page.html", encoding="utf-8") as f:
        return Page(f.read())


def values(*arguments):
    return numbers.values(MUONSPEC, *arguments)


def test_checkpoint():
    page = report(LATE)
    assert numbers.check_weights(page, values("analyze", LATE)) > 300
    assert numbers.check_risks(page, values("risk", LATE)) > 0


def test_run():
    page = report(EXAMPLE)
    numbers.check_run(page, values("track", "--no-store", EXAMPLE))
    assert numbers.check_weights(page, values("analyze", LATE)) > 300


def test_comparison():
    page = report(EARLY, LATE, "--label", "<b>early</b>", "--label", "late")
    wanted = values("compare", EARLY, LATE)
    assert numbers.check_comparison(page, wanted) > 300
    numbers.check_weights(page, values("analyze", EARLY))
    numbers.check_weights(page, values("analyze", LATE), " 2")
    entropy = next(f for f in wanted["findings"] if f["metric"] == "svd_entropy")
    text = "".join(page.text)
    assert "<b>early</b>" in text and f"{entropy['median_difference']:.4g}"[:5] in text


def test_activations():
    """What a training recorded, and in other runs what forward measured and kept."""
    training = os.path.join(EXAMPLE, "..", "weight-decay", "checkpoints", "muon-decay")
    page, wanted = report(training), values("track", "--no-store", training)
    assert numbers.check_activations(page, wanted) == 32
    peaks = set()
    for s in wanted["series"]:
        if s["metric"] == "recorded_max_attention_logit":
            peaks.update({(v, s["name"], step) for step, v in zip(s["steps"], s["values"])})
    value, layer, step = max(peaks)
    assert f"the highest was {value:.4g}, of {layer} at step {step} (recorded)" in "".join(page.text)
    if GNUPLOT:
        assert ("figure", {"id": "activations"}) in page.attributes
    os.mkdir("measured")
    shutil.copy(EARLY, "measured")
    shutil.copy(LATE, "measured")
    with open("text", "w") as f:
        f.write("In the beginning God created the heaven and the earth.")
    for file in os.listdir("measured"):
        numbers.run(MUONSPEC, "forward", "-q", "--store", "--tokens", "text", "measured/" + file)
    numbers.run(MUONSPEC, "report", "-q", "-o", "page.html", "measured")
    with open("page.html", encoding="utf-8") as f:
        page = Page(f.read())
    assert numbers.check_activations(page, values("track", "measured")) == 2 * (1 + 5 * 3)
    numbers.check_risks(page, values("risk", "measured"))
    text = "".join(page.text)
    assert "(measured)" in text and "'muonspec forward --store' measures" not in text


def check_by_itself(page):
    policy = next(a["content"] for t, a in page.attributes
                  if t == "meta" and a.get("http-equiv") == "Content-Security-Policy")
    digest = hashlib.sha256("".join(page.script).encode()).digest()
    assert policy.startswith("default-src 'none'") and page.tags["script"] == 1
    assert f"'sha256-{base64.b64encode(digest).decode()}'" in policy, \
        "PAGE_SCRIPT_HASH in tools/muonspec/page_assets.h should be " + base64.b64encode(digest).decode()
    for tag, attributes in page.attributes:
        assert tag not in ("img", "link", "iframe", "object", "embed", "base", "form"), tag
        for name, value in attributes.items():
            assert not name.startswith("on"), name
            if name in ("src", "href", "xlink:href"):
                assert re.fullmatch(r"#f\d+-[A-Za-z0-9_]+", value), value
    ids = [a["id"] for _, a in page.attributes if "id" in a]
    assert len(ids) == len(set(ids))
    assert all(a.get("aria-label") for t, a in page.attributes if t == "svg")


def test_by_itself():
    page = report(EXAMPLE)
    check_by_itself(page)
    assert page.tags.get("svg", 0) == (6 if GNUPLOT else 0)


def safetensors(path, names):
    header = {n: {"dtype": "F32", "shape": [2, 2], "data_offsets": [16 * i, 16 * i + 16]}
              for i, n in enumerate(names)}
    text = json.dumps(header).encode()
    with open(path, "wb") as f:
        f.write(len(text).to_bytes(8, "little") + text +
                bytes.fromhex("0000803f000000400000404000008040") * len(names))


def test_long_table():
    """It is folded, and whole for those without scripts; names can't end the fold."""
    names = [f"{i}.</noscript></details><script>x</script>.weight" for i in range(101)]
    for count in (100, 101):
        safetensors("long.safetensors", names[:count])
        page = report("long.safetensors")
        check_by_itself(page)
        assert page.tags.get("noscript", 0) == (count > 100)
        assert numbers.check_weights(page, values("analyze", "long.safetensors")) > 10 * count


def test_hostile_names():
    safetensors("hostile.safetensors", HOSTILE)
    before = set(os.listdir("."))
    page = report("hostile.safetensors")
    check_by_itself(page)
    assert set(os.listdir(".")) <= before | {"page.html"}
    names = [row["matrix"] for row in page.records("Matrices")]
    assert names[:3] == HOSTILE[:3], names
    assert names[3] == HOSTILE[3].replace("\n", "\\n").replace("\u202e", "\\xe2\\x80\\xae")


def test_without_gnuplot():
    done = numbers.run(MUONSPEC, "report", "--no-store", "-q", "-o", "bare.html", LATE,
                       MUONSPEC_GNUPLOT="/none")
    assert "no figures: MUONSPEC_GNUPLOT names no program" in done.stderr, done.stderr
    with open("bare.html", encoding="utf-8") as f:
        page = Page(f.read())
    assert "svg" not in page.tags and "There are no figures" in "".join(page.text)
    assert numbers.check_weights(page, values("analyze", LATE)) > 300


def test_same_bytes():
    pages = []
    for threads in "12":
        report(EXAMPLE, "--threads", threads)
        with open("page.html", "rb") as f:
            pages.append(f.read())
    assert pages[0] == pages[1]


def main():
    tests = [f for n, f in globals().items() if n.startswith("test_")]
    with tempfile.TemporaryDirectory() as scratch:
        os.chdir(scratch)
        for test in tests:
            test()
        os.chdir("/")
    print(f"report_page: {len(tests)} tests passed")


main()
