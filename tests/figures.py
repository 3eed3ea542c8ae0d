"""Figures by the real gnuplot: well-formed SVG of the same bytes each time, every kind of picture,
scripts that work by themselves, and names that do nothing. Skipped without gnuplot.

usage: figures.py MUONSPEC EXAMPLE"""
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import xml.etree.ElementTree as ET

MUONSPEC, EXAMPLE = map(os.path.abspath, sys.argv[1:3])
CHECKPOINT = os.path.join(EXAMPLE, "step-001600.h5")
GNUPLOT = os.environ.get("MUONSPEC_GNUPLOT") or shutil.which("gnuplot")
HOSTILE = ["model.layers.0.a'; !touch cut; 'b.weight",
           "model.layers.1.`touch back`$(touch shell).weight",
           "model.layers.1.<script>document.title='x'</script>\"&%d_x^2{/Bold @y}.weight",
           "model.layers.2.line\nset output 'line'\n.weight",
           "model.layers.3.end_of_data\nsystem 'touch end'.weight",
           "model.layers.4.'</title></svg><script>x</script>.weight",
           "''quotes''.weight", '"double".weight', "`", "'", "\\'\\", "<img src=x onerror=alert(1)>"]


def plot(*arguments):
    """Names of the files that were written, as the program says."""
    done = subprocess.run([MUONSPEC, "plot", "-q", "--no-store", *arguments], text=True,
                          capture_output=True)
    assert done.returncode == 0, done.stderr
    return done.stdout.split()


def safetensors(path, names):
    header = {n: {"dtype": "F32", "shape": [2, 2], "data_offsets": [16 * i, 16 * i + 16]}
              for i, n in enumerate(names)}
    text = json.dumps(header).encode()
    with open(path, "wb") as f:
        f.write(len(text).to_bytes(8, "little") + text + bytes.fromhex("0000803f000000400000404000008040") * len(names))


def read(path):
    with open(path, "rb") as f:
        return f.read()


def test_same_bytes():
    first = plot(EXAMPLE, "-o", "one", "--keep-script")
    second = plot(EXAMPLE, "-o", "two", "--keep-script", "--threads", "1")
    assert len(first) == len(second) == 18, first
    for a, b in zip(first, second):
        assert read(a) == read(b), a


def test_well_formed():
    for path in plot(EXAMPLE, "-o", "svg"):
        root = ET.fromstring(read(path))
        assert root.tag.endswith("svg"), path
        texts = [t.text for t in root.iter("{http://www.w3.org/2000/svg}text")]
        assert len(texts) > 5, (path, texts)


def test_activations():
    """Of runs that record them: a line and a band for each run in each panel."""
    runs = [os.path.join(EXAMPLE, "..", "weight-decay", "checkpoints", r)
            for r in ("muon-decay", "adamw-decay")]
    plot(*runs, "--label", "muon", "--label", "adamw", "-o", "activations", "--keep-script")
    texts = [t.text for t in ET.fromstring(read("activations/activations.svg")).iter(
        "{http://www.w3.org/2000/svg}text")]
    assert {"largest attention logit", "largest activation", "output RMS"} <= set(texts), texts
    blocks = read("activations/activations.dat").decode().strip().split("\n\n\n")
    assert len(blocks) == 6 and all(len(b.splitlines()) == 4 for b in blocks), blocks
    for line in "\n".join(blocks).splitlines():
        _, mean, low, high = map(float, line.split()) if line else (0, 0, 0, 0)
        assert low <= mean <= high, line


def test_formats():
    for kind, start in (("png", b"\x89PNG\r\n"), ("pdf", b"%PDF-")):
        for path in plot(CHECKPOINT, EXAMPLE + "/step-000400.h5", "-o", kind, "--format", kind):
            assert read(path).startswith(start) and len(read(path)) > 4000, path


def test_scripts_stand_alone():
    plot(CHECKPOINT, "-o", "kept", "--keep-script")
    for name in [n for n in os.listdir("kept") if n.endswith(".gp")]:
        picture = os.path.join("kept", name[:-3] + ".svg")
        before = read(picture)
        os.remove(picture)
        subprocess.run([GNUPLOT, "-d", name], cwd="kept", check=True)
        assert read(picture) == before, name


def test_hostile_names():
    safetensors("hostile.safetensors", HOSTILE)
    files = plot("hostile.safetensors", "-o", "hostile", "--metrics", "rms,spectral_norm")
    texts = set()
    for path in files:
        root = ET.fromstring(read(path))
        for element in root.iter():
            tag = element.tag.split("}")[1]
            assert tag in ("svg", "title", "desc", "g", "rect", "defs", "circle", "path", "use",
                           "filter", "feFlood", "feComposite", "text", "polygon", "tspan"), tag
            assert not [a for a in element.attrib if a.startswith("on")]
            if tag == "text":
                texts.add("".join(element.itertext()))
    for name in ("`touch back`$(touch shell)", "''quotes''", '"double"', "`", "'", "\\\\'\\\\"):
        assert name in texts, (name, texts)
    assert any(t.startswith("<script>do") and "{/Bold @" in t for t in texts), texts
    left = {n for n in os.listdir(".")} - {"hostile.safetensors", "hostile", "one", "two", "svg",
                                           "png", "pdf", "kept", "activations"}
    assert not left, left


def test_labels():
    """The labels of a comparison are foreign too."""
    files = plot(CHECKPOINT, EXAMPLE + "/step-000400.h5", "--label", "'a'; !touch x; '<b>", "--label",
                 "`touch y`", "-o", "labels")
    assert all(ET.fromstring(read(f)) is not None for f in files)
    assert re.search(rb"'a'; !touch x; '&lt;b>", read("labels/spectra.svg"))
    assert not os.path.exists("x") and not os.path.exists("y")


def main():
    if not GNUPLOT:
        print("figures: skipped, gnuplot is not installed (gnuplot-nox)")
        return
    tests = [f for n, f in globals().items() if n.startswith("test_")]
    with tempfile.TemporaryDirectory() as scratch:
        os.chdir(scratch)
        for test in tests:
            test()
        os.chdir("/")
    print(f"figures: {len(tests)} tests passed")


main()
