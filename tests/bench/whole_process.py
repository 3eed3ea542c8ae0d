#!/usr/bin/python3
"""Benchmarks of the whole program: wall and CPU seconds and peak memory of `muonspec analyze`.

usage: whole_process.py BUILD_DIR [--quick]

Prints tables 2 to 4 of the README. Everything compared is measured in this one run. What table 2
compares with needs python3-numpy, and python3-scipy for WeightWatcher's part; without them these
rows are left out."""
import json
import os
import subprocess
import sys
import tempfile
import time

BUILD = sys.argv[1]
QUICK = "--quick" in sys.argv
MUONSPEC = os.path.join(BUILD, "muonspec")

HERE = os.path.dirname(os.path.abspath(__file__))

NUMPY = """
import sys, json, numpy as np, h5py
with h5py.File(sys.argv[1], "r") as f:
    names = []
    f.visititems(lambda n, d: names.append(n) if isinstance(d, h5py.Dataset) else None)
    for n in names:
        np.linalg.svd(f[n][:], compute_uv=False)
"""


def measure(command, runs, output=os.devnull):
    """Best of `runs`: wall seconds, CPU seconds, peak MiB (that of the largest process)."""
    best = None
    for _ in range(runs):
        start = time.monotonic()
        with open(output, "w") as out:
            child = subprocess.Popen(command, stdout=out)
            _, status, usage = os.wait4(child.pid, 0)
            child.returncode = os.waitstatus_to_exitcode(status)
        wall = time.monotonic() - start
        if child.returncode:
            sys.exit("%s ended with %d" % (" ".join(command), child.returncode))
        cpu = usage.ru_utime + usage.ru_stime
        if best is None or wall < best[0]:
            best = (wall, cpu, usage.ru_maxrss / 1024)
    return best


def make(folder, kind, ending):
    path = os.path.join(folder, kind + ending)
    subprocess.check_call([os.path.join(BUILD, "tests/make_checkpoint"), kind, path])
    return path


def gflop(path):
    """Floor of the decompositions: m n^2 + 4/3 n^3 per matrix."""
    listing = json.loads(subprocess.check_output([MUONSPEC, "ls", path, "--format", "json"]))
    total = 0
    for m in listing["matrices"]:
        n, k = sorted((m["rows"], m["cols"]))
        total += k * n * n + 4 / 3 * n ** 3
    return total / 1e9


def row(label, wall, cpu, peak, extra=""):
    print("%-44s %8.2f %8.2f %9.0f  %s" % (label, wall, cpu, peak, extra))


def head(title, extra=""):
    print("\n%s\n%-44s %8s %8s %9s  %s" % (title, "", "wall s", "CPU s", "peak MiB", extra))


def have(modules):
    return not subprocess.call(["/usr/bin/python3", "-c", "import " + modules],
                               stderr=subprocess.DEVNULL)


def weightwatcher(folder, path):
    """Its numerical core on the same file, in turns; what both make of these random matrices."""
    if not have("scipy.linalg, h5py"):
        print("WeightWatcher's core: left out, SciPy is not installed (python3-scipy)")
        return
    outputs = [os.path.join(folder, name) for name in ("ours.json", "theirs.json")]
    ours = measure([MUONSPEC, "analyze", path, "--format", "json"], 1, outputs[0])
    theirs = measure(["/usr/bin/python3", os.path.join(HERE, "weightwatcher_core.py"), path], 1,
                     outputs[1])
    row("WeightWatcher's core, a lower bound", *theirs)
    row("muonspec analyze, just before", *ours, "%.1fx faster" % (theirs[0] / ours[0]))
    report, fits = (json.load(open(name)) for name in outputs)
    metrics = {m["tensor"]: m["metrics"] for m in report["matrices"]}
    alphas = [fit["alpha"] for fit in fits.values()]
    print("  alpha of these Gaussian matrices: %.2f to %.2f by WeightWatcher's procedure; null here "
          "for %d of %d" % (min(alphas), max(alphas),
                            sum(m["alpha"] is None for m in metrics.values()), len(metrics)))
    print("  largest relative difference of ww_entropy: %.1e" %
          max(abs(metrics[name]["ww_entropy"] / fit["entropy"] - 1) for name, fit in fits.items()))


def twelve(folder):
    path = make(folder, "twelve", ".h5")
    work = gflop(path)
    head("2. Twelve matrices, 104 MB, float32, HDF5 (%.1f GFLOP)" % work, "against NumPy")
    ours = measure([MUONSPEC, "analyze", path, "--format", "json"], 3)
    if have("numpy, h5py"):
        numpy = measure(["/usr/bin/python3", "-c", NUMPY, path], 1 if QUICK else 2)
        row("NumPy svd(compute_uv=False) of each", *numpy)
        row("muonspec analyze, all metrics", *ours, "%.1fx faster" % (numpy[0] / ours[0]))
    else:
        row("muonspec analyze, all metrics", *ours, "(NumPy is not installed)")
    one = measure([MUONSPEC, "analyze", path, "--format", "json", "--threads", "1"], 2)
    row("  with one worker", *one, "%.2fx slower" % (one[0] / ours[0]))
    if not QUICK:
        weightwatcher(folder, path)
    os.unlink(path)


def moonlight(folder):
    # Moonlight-16B: 26 such layers, and a first one with a dense MLP of 11264
    mla = sum(k * n * n + 4 / 3 * n ** 3 for n, k in
              ((2048, 3072), (576, 2048), (512, 4096), (2048, 2048)))
    dense = 3 * (11264 * 2048 ** 2 + 4 / 3 * 2048 ** 3)
    times = {}
    head("3. One layer of Moonlight-16B, bf16: 200 matrices, 1.17 GB", "GFLOP/s")
    for ending, workers in ((".h5", 1), (".h5", 2), (".safetensors", 2)):
        path = make(folder, "moonlight-layer", ending)
        work = gflop(path)
        t = measure([MUONSPEC, "analyze", path, "--format", "json", "--threads", str(workers)], 1)
        times[ending, workers] = t[0]
        row("%s, %d worker%s" % (ending[1:], workers, "s" if workers > 1 else ""), *t,
            "%.1f" % (work / t[0]))
        os.unlink(path)
    rate = work / times[".h5", 2]
    whole = (26 * work + (mla + dense) / 1e9) / rate
    print("two workers: %.2f times one; all 27 layers at this rate: %.1f minutes" %
          (times[".h5", 1] / times[".h5", 2], whole / 60))


def embedding(folder):
    head("4. An embedding of 163840 x 2048, bf16, 671 MB")
    for ending in (".h5", ".safetensors"):
        path = make(folder, "embedding", ending)
        row(ending[1:], *measure([MUONSPEC, "analyze", path, "--format", "json"], 1))
        os.unlink(path)


def main():
    with tempfile.TemporaryDirectory(dir=BUILD) as folder:
        twelve(folder)
        if not QUICK:
            moonlight(folder)
            embedding(folder)


main()
