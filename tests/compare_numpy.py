#!/usr/bin/python3
"""Compare `muonspec analyze` with NumPy in float64, for every checkpoint in the test data.

usage: compare_numpy.py MUONSPEC DATA_FOLDER

Reads the files with checkpoints.py, so that nothing of muonspec's readers is trusted: every tensor
must be accounted for, shapes and orientation must be as the layouts say, and six metrics must
agree. Needs python3-numpy and python3-h5py; skips without them."""
import json
import os
import re
import subprocess
import sys

sys.dont_write_bytecode = True
try:
    import numpy as np

    from checkpoints import paths_in, read, values
except ImportError:
    print("compare_numpy: python3-numpy or python3-h5py is not installed")
    print("0 passed, 0 failed, 1 skipped")
    sys.exit(0)

MUONSPEC, DATA = sys.argv[1:3]
# relative; effective_rank weighs singular values by s, so that rounding noise of the Gram matrix
# near zero (1e-8 of the largest) shows in it
TOLERANCE = {"spectral_norm": 1e-9, "frobenius_norm": 1e-9, "rms": 1e-9, "stable_rank": 1e-9,
             "svd_entropy": 1e-9, "effective_rank": 1e-6}


def expected_matrix(array, row, layout):
    """The matrix [out, in] that the row should be about."""
    name = row["tensor"].lower()
    if row["slice"] is not None and row["slice"].isdigit():
        return array[int(row["slice"])]
    if layout in ("keras2", "keras3") or (layout == "keras1" and array.ndim == 2):
        if "embedding" in name and array.ndim == 2:
            return array
        if array.ndim == 4 and re.search(r"depthwise_kernel", name):
            return array.reshape(array.shape[0] * array.shape[1], -1).T
        if array.ndim == 3 and re.search(r"/(query|key|value)(_dense)?/", name):
            return array.reshape(array.shape[0], -1).T
        return array.reshape(-1, array.shape[-1]).T
    if re.search(r"lora_[ab]$", name):  # MLX keeps these [in, r] and [r, out]
        return array.T
    return array.reshape(array.shape[0], -1)


def numpy_metrics(w):
    s = np.linalg.svd(w, compute_uv=False)
    total = (s ** 2).sum()
    p, q = s ** 2 / total, s / s.sum()
    p, q = p[p > 0], q[q > 0]
    values = {"spectral_norm": s[0], "frobenius_norm": np.sqrt((w ** 2).sum()),
              "rms": np.sqrt((w ** 2).mean()), "stable_rank": total / s[0] ** 2,
              "effective_rank": np.exp(-(q * np.log(q)).sum())}
    if len(s) > 1:
        values["svd_entropy"] = -(p * np.log(p)).sum() / np.log(len(s))
    return values


def compare_row(row, array, layout, worst):
    problems = []
    if array is None:
        return ["%s: not a float tensor" % row["name"]]
    w = expected_matrix(array, row, layout)
    if (row["rows"], row["cols"]) != w.shape:
        return ["%s: is %dx%d, expected %dx%d" % (row["name"], row["rows"], row["cols"], *w.shape)]
    if not np.isfinite(w).all():
        return [] if row["status"] == "nonfinite" else ["%s: NaN missed" % row["name"]]
    if row["status"] != "ok":
        return ["%s: status %s" % (row["name"], row["status"])]
    if not w.any():
        return [] if row["metrics"]["rms"] == 0 else ["%s: is zero" % row["name"]]
    for metric, expected in numpy_metrics(w).items():
        ours = row["metrics"][metric]
        # entropies near 0 are differences of nearly equal numbers: absolute there
        error = np.inf if ours is None else abs(ours - expected) / max(
            abs(expected), 1e-3 if metric == "svd_entropy" else 0)
        worst[metric] = max(worst.get(metric, 0), error)
        if not error <= TOLERANCE[metric]:
            problems.append("%s: %s is %r, NumPy says %r" % (row["name"], metric, ours, expected))
    return problems


def compare_file(path, worst):
    """Problems found, and the number of matrices compared."""
    run = subprocess.run([MUONSPEC, "analyze", path, "--format", "json", "--include-optimizer"],
                         stdout=subprocess.PIPE)
    if run.returncode:
        return ["exit status %d" % run.returncode], 0
    report = json.loads(run.stdout)
    tensors, layout = {k: values(t) for k, t in read(path).items()}, report["checkpoint"]["layout"]
    problems = []
    if report["schema"] != "muonspec/analyze/1":
        problems.append("schema is " + report["schema"])
    named = {m["tensor"] for m in report["matrices"]} | {s["tensor"] for s in report["skipped"]}
    for name in sorted(set(tensors) ^ named):
        problems.append("%s: %s" % (name, "not accounted for" if name in tensors else "invented"))
    for row in report["matrices"]:
        problems += compare_row(row, tensors.get(row["tensor"]), layout, worst)
    return problems, len(report["matrices"])


def main():
    paths = paths_in(DATA)
    if not paths:
        print("compare_numpy: no checkpoints in %s" % DATA)
        print("0 passed, 0 failed, 1 skipped")
        return 0
    worst, failed, matrices = {}, 0, 0
    for path in paths:
        problems, count = compare_file(path, worst)
        matrices += count
        failed += bool(problems)
        for problem in problems[:5]:
            print("%s: %s" % (os.path.relpath(path, DATA), problem))
    print("compared %d matrices of %d files; largest relative differences: %s" % (
        matrices, len(paths), ", ".join("%s %.1e" % (k, v) for k, v in sorted(worst.items()))))
    print("%d passed, %d failed" % (len(paths) - failed, failed))
    return 1 if failed else 0


sys.exit(main())
