#!/usr/bin/python3
"""muonspec baseline and check as a CI uses them: the right rows fail on a later epoch, JUnit files
are what the common schemas ask for, annotations and CSV decode to the names they are about.

usage: gates.py MUONSPEC DATA_FOLDER

Needs python3-numpy and python3-h5py; skips without them, and what needs the test data without it."""
import csv
import datetime
import glob
import io
import json
import os
import re
import subprocess
import sys
import tempfile
import xml.etree.ElementTree as ElementTree

sys.dont_write_bytecode = True
try:
    import h5py
    import numpy as np
except ImportError:
    print("gates: python3-numpy or python3-h5py is not installed")
    print("0 passed, 0 failed, 1 skipped")
    sys.exit(0)

MUONSPEC, DATA = os.path.abspath(sys.argv[1]), os.path.abspath(sys.argv[2])
HERE = os.path.dirname(os.path.abspath(__file__))
EXAMPLE = os.path.join(HERE, "..", "notebooks-data", "example", "step-001600.h5")
HOSTILE = ["<script>alert('1')</script>&amp;\"", "a\n::error::b\r%0A,c:d", "$(touch harm)`touch harm`",
           "=1+1", "\x1b[31m]]>\uffff\u202e", "-- %s %n", "plain.weight"]


class Failure(Exception):
    pass


class Skip(Exception):
    pass


def expect(condition, *what):
    if not condition:
        raise Failure(" ".join(str(w) for w in what))


def muonspec(*arguments, status=0):
    done = subprocess.run([MUONSPEC, *arguments], capture_output=True, timeout=120)
    expect(done.returncode == status, arguments, "status", done.returncode, done.stderr.decode())
    return done.stdout.decode()


def check(*arguments, status=0):
    return json.loads(muonspec("check", *arguments, "--format", "json", status=status))


# ---- the right rows --------------------------------------------------------------------------

def entries(path):
    with h5py.File(path) as f:
        found = {}
        f.visititems(lambda name, d: found.update({name: d[()].astype(np.float64)})
                     if isinstance(d, h5py.Dataset) and d.dtype.kind == "f" else None)
        return found


def test_later_epoch():
    epochs = sorted(glob.glob(os.path.join(DATA, "series-fer2013", "*.hdf5")))
    if len(epochs) < 2:
        raise Skip("no series-fer2013")
    first, later = epochs[0], next(p for p in epochs if ".102-" in p)
    muonspec("baseline", "-o", "fer.json", "--metrics", "rms,max_abs", first)
    same = check("--baseline", "fer.json", first)
    expect(same["verdict"] == "ok" and same["failed"] == 0 and same["count"] > 0, "its own baseline")
    result = check("--baseline", "fer.json", later, status=1)
    before, now = entries(first), entries(later)
    gates = [g for g in result["gates"] if not g["name"].startswith("(")
             and g["metric"] in ("rms", "max_abs")]
    expect(len(gates) > 20, "gates on matrices:", len(gates))
    failed = 0
    for g in gates:
        value = {"rms": lambda x: np.sqrt(np.mean(x * x)), "max_abs": lambda x: np.abs(x).max()}
        was, is_now = (value[g["metric"]](x[g["name"]]) for x in (before, now))
        expect(abs(g["baseline"] / was - 1) < 1e-12 and abs(g["value"] / is_now - 1) < 1e-12, g)
        wrong = abs(is_now - was) > 0.01 * was
        failed += wrong
        expect((g["verdict"] == "failed") == wrong, g, was, is_now)
    expect(0 < failed, "some rows fail")
    named = {(g["name"], g["metric"]) for g in result["gates"]}
    names = {m["name"] for m in json.loads(muonspec("analyze", "--format", "json", "--metrics",
                                                    "rms", first))["matrices"]}
    expect(named >= {(n, m) for n in names for m in ("rms", "max_abs")}, "every matrix has gates")


def test_unchanged_row():
    """Of two files that differ in one matrix, just that one fails."""
    with h5py.File(EXAMPLE) as f, h5py.File("changed.h5", "w") as g:
        g.attrs.update(f.attrs)
        for name in f:
            f.copy(name, g)
        g["model.layers.1.mlp.up_proj.weight"][0, 0] = 9
    muonspec("baseline", "-o", "example.json", EXAMPLE)
    result = check("--baseline", "example.json", "changed.h5", status=1)
    rows = {g["name"] for g in result["gates"] if g["verdict"] == "failed"}
    expect(rows == {"model.layers.1.mlp.up_proj.weight", "(Dense)"}, rows)


def test_bf16():
    """Default tolerances let pass what storing the weights in bf16 does."""
    with h5py.File(EXAMPLE) as f, h5py.File("bf16.h5", "w") as g:
        g.attrs.update(f.attrs)
        for name, d in f.items():
            if not isinstance(d, h5py.Dataset):
                continue
            bits = d[()].astype(np.float32).view(np.uint32)
            rounded = (bits + 0x7fff + ((bits >> 16) & 1)) >> 16
            g[name] = rounded.astype(np.uint16)
            g[name].attrs["dtype"] = "bfloat16"
    muonspec("baseline", "-o", "float32.json", EXAMPLE)
    rules = {"schema": "muonspec/rules/1", "rules": [{"metric": "risk.*", "ignore": True}]}
    with open("no-risks.json", "w") as f:
        json.dump(rules, f)
    result = check("--baseline", "float32.json", "--rules", "no-risks.json", "bf16.h5")
    moved = [g for g in result["gates"] if g["cause"] == "tolerance" and g["value"] != g["baseline"]]
    expect(len(moved) > 100, "it does change values:", len(moved))


def test_sharded():
    """A folder of shards is one checkpoint, and its digest is of all of them."""
    os.mkdir("model")
    shards = {"a.weight": "model-00001-of-00002.safetensors",
              "b.weight": "model-00002-of-00002.safetensors"}
    for name, shard in shards.items():
        write_safetensors(os.path.join("model", shard), [name])
    with open("model/model.safetensors.index.json", "w") as f:
        json.dump({"metadata": {}, "weight_map": shards}, f)
    muonspec("baseline", "-o", "sharded.json", "model")
    before = check("--baseline", "sharded.json", "model")
    write_safetensors("model/model-00002-of-00002.safetensors", ["b.weight"], 2)
    after = check("--baseline", "sharded.json", "model", status=1)
    expect({g["name"] for g in after["gates"] if g["verdict"] == "failed"} == {"b.weight", "(Other)"})
    expect(before["files"][0]["digest"] != after["files"][0]["digest"], "digests")


# ---- formats -----------------------------------------------------------------------------------

def write_safetensors(path, names, first=1):
    header, data = {}, b""
    for i, name in enumerate(names):
        block = np.full((2, 2), i + first, "<f4").tobytes()
        header[name] = {"dtype": "F32", "shape": [2, 2],
                        "data_offsets": [len(data), len(data) + len(block)]}
        data += block
    text = json.dumps(header).encode()
    with open(path, "wb") as f:
        f.write(len(text).to_bytes(8, "little") + text + data)


def write_hostile(path):
    write_safetensors(path, HOSTILE)
    with open("limit.json", "w") as f:
        json.dump({"schema": "muonspec/rules/1", "rules": [{"metric": "rms", "max": 1.5}]}, f)


# element: required attributes with a pattern, optional attributes, children in order ("*": any number)
COUNT, TIME = r"\d+", r"\d+(\.\d+)?"
SCHEMA = {
    "testsuites": ({}, (), ["testsuite*"]),
    "testsuite": ({"name": r".+", "timestamp": r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d", "hostname": r"\S+",
                   "tests": COUNT, "failures": COUNT, "errors": COUNT, "time": TIME, "id": COUNT,
                   "package": r"\S+"}, ("skipped",),
                  ["properties", "testcase*", "system-out", "system-err"]),
    "properties": ({}, (), ["property*"]),
    "property": ({"name": r".+", "value": r"(?s).*"}, (), []),
    "testcase": ({"name": r".+", "classname": r"(?s).+", "time": TIME}, (), ["failure?"]),
    "failure": ({"type": r".+"}, ("message",), []),
    "system-out": ({}, (), []),
    "system-err": ({}, (), []),
}


def validate_by_schemas(text):
    """Also by schemas themselves, where $MUONSPEC_JUNIT_XSD names some, with colons between: Ant's
    (windyroad/JUnit-Schema, JUnit.xsd) and Jenkins' (xunit-plugin, junit-10.xsd) are not shipped."""
    for schema in filter(None, os.environ.get("MUONSPEC_JUNIT_XSD", "").split(":")):
        done = subprocess.run(["xmllint", "--noout", "--schema", schema, "-"], input=text.encode(),
                              capture_output=True)
        expect(done.returncode == 0, schema, done.stderr.decode()[:400])


def validate(element):
    """By the rules of Ant's JUnit schema, which are the strictest in use, written down again."""
    expect(element.tag in SCHEMA, "unknown element", element.tag)
    required, optional, children = SCHEMA[element.tag]
    for name, pattern in required.items():
        expect(name in element.attrib, element.tag, "lacks", name)
        expect(re.fullmatch(pattern, element.attrib[name]), element.tag, name, element.attrib[name])
    expect(not set(element.attrib) - set(required) - set(optional), element.tag, element.attrib)
    pattern = "".join("(%s )%s" % (c.rstrip("*?"), c[-1] if c[-1] in "*?" else "") for c in children)
    tags = "".join(c.tag + " " for c in element)
    expect(re.fullmatch(pattern, tags), element.tag, "holds", tags[:100])
    for child in element:
        validate(child)


def validate_junit(text, result):
    validate_by_schemas(text)
    root = ElementTree.fromstring(text)
    validate(root)
    datetime.datetime.fromisoformat(root.find("testsuite").get("timestamp"))
    suite = root.find("testsuite")
    cases = suite.findall("testcase")
    expect(int(suite.get("tests")) == len(cases) == result["count"], "tests")
    expect(int(suite.get("failures")) == len(suite.findall("testcase/failure")) == result["failed"],
           "failures")
    for case, gate in zip(cases, result["gates"]):
        expect(case.get("name") == gate["metric"], case.attrib)
        expect((case.find("failure") is not None) == (gate["verdict"] == "failed"), gate)
    return cases


def test_junit():
    write_hostile("hostile.safetensors")
    rules = ("--rules", "limit.json", "hostile.safetensors")
    cases = validate_junit(muonspec("check", "--format", "junit", *rules, status=1),
                           check(*rules, status=1))
    expect({c.get("classname") for c in cases} >= {HOSTILE[0], HOSTILE[2], HOSTILE[3], HOSTILE[-1]},
           [c.get("classname") for c in cases])
    expect(not any(ord(x) < 32 for c in cases for x in c.get("classname")), "control characters")
    muonspec("baseline", "-o", "hostile.json", "hostile.safetensors")
    muonspec("check", "--baseline", "hostile.json", "--junit", "passed.xml", "hostile.safetensors")
    with open("passed.xml") as f:
        validate_junit(f.read(), check("--baseline", "hostile.json", "hostile.safetensors"))
    expect(not os.path.exists("harm"), "nothing in a name is run")


def test_junit_of_all_kinds():
    """Of a run and of a comparison, passed and failed, their names hostile as well."""
    names = ["<run> & 'it'", "other \"run\" ]]>"]
    for i, name in enumerate(names):
        os.mkdir(name)
        for step in (1, 2):
            write_safetensors(os.path.join(name, f"step-{step}.safetensors"), HOSTILE, i + step)
    for kind, arguments in (("run", ["--no-store", names[0]]),
                            ("comparison", ["--no-store", names[0], "--against", names[1]])):
        for verdict, limit, status in (("passed", 1e9, 0), ("failed", 1e-9, 1)):
            metric = "rms" if kind == "run" else "rms.a"
            with open("kinds.json", "w") as f:
                json.dump({"schema": "muonspec/rules/1",
                           "rules": [{"metric": metric, "max": limit}]}, f)
            rules = ("--rules", "kinds.json", *arguments)
            result = check(*rules, status=status)
            cases = validate_junit(muonspec("check", "--format", "junit", *rules, status=status),
                                   result)
            expect(len(cases) > 0 and (result["failed"] > 0) == (verdict == "failed"), kind, verdict)


def decode(text, in_property=False):
    for code, char in ([("%3A", ":"), ("%2C", ",")] if in_property else []) + [
            ("%0D", "\r"), ("%0A", "\n"), ("%25", "%")]:
        text = text.replace(code, char)
    return text


def test_github():
    """Each line is one command, as the runner reads it, and about one gate."""
    write_hostile("hostile.safetensors")
    out = muonspec("check", "--rules", "limit.json", "--format", "github", "hostile.safetensors",
                   status=1)
    failed = [g for g in check("--rules", "limit.json", "hostile.safetensors", status=1)["gates"]
              if g["verdict"] == "failed"]
    lines = out.split("\n")[:-1]
    expect(len(lines) == len(failed) + 1 and "\r" not in out, len(lines), len(failed))
    for line, gate in zip(lines[1:], failed):
        command, properties, message = re.fullmatch(r"::(\w+) (.*?)::(.*)", line).groups()
        expect(command == "error" and "," not in properties, line)
        key, title = properties.split("=", 1)
        title, message = decode(title, True), decode(message)
        expect(key == "title" and title.startswith(gate["metric"] + " of "), title)
        expect(title[len(gate["metric"] + " of "):] + ": " + gate["metric"] + " " + gate["reason"]
               == message, title, message)
        if gate["name"].isprintable():
            expect(title.endswith(gate["name"]), title)


def test_csv():
    write_hostile("hostile.safetensors")
    rows = list(csv.DictReader(io.StringIO(muonspec(
        "check", "--rules", "limit.json", "--format", "csv", "hostile.safetensors", status=1))))
    expect(len(rows) == len(HOSTILE), len(rows))
    for row in rows:
        for cell in row.values():
            expect(cell[:1] not in set("=+-@\t\r") and cell.replace("\uffff", "").isprintable(), cell)
    expect("'=1+1" in [r["name"] for r in rows], [r["name"] for r in rows])


def main():
    counts = {"passed": 0, "failed": 0, "skipped": 0}
    with tempfile.TemporaryDirectory(prefix="muonspec-gates-") as scratch:
        os.chdir(scratch)
        for name, test in sorted(globals().items()):
            if not name.startswith("test_"):
                continue
            try:
                test()
                counts["passed"] += 1
            except Skip as why:
                print("gates: skipped %s: %s" % (name, why))
                counts["skipped"] += 1
            except Exception as failure:
                print("FAILED gates: %s: %s: %s" % (name, type(failure).__name__, failure))
                counts["failed"] += 1
        os.chdir(HERE)
    print("gates: " + ", ".join("%d %s" % (n, what) for what, n in counts.items() if n))
    sys.exit(1 if counts["failed"] else 0)


main()
