#!/usr/bin/python3
"""The numbers that WeightWatcher's analyze() computes of every matrix by default, done again with the
calls of its source: WeightWatcher itself is in no Debian package. Prints alpha, its KS distance and
the entropy of each matrix as JSON. Needs python3-scipy and python3-h5py.

usage: weightwatcher_core.py CHECKPOINT.h5

Source: github.com/CalculatedContent/WeightWatcher, version 0.7.4.5 (commit 03065a9; the same in
c245b86 of 2026), weightwatcher/:
  RMT_Util.py     svd_vals: scipy.linalg.svd(W, compute_uv=False) in float64, for both of its methods
                  unless PyTorch finds a GPU; matrix_entropy
  WW_powerlaw.py  WWFit.fit_power_law: every eigenvalue over 1e-5 is tried as xmin
  weightwatcher.py  combined_eigenvalues, apply_powerlaw, apply_norm_metrics

Left out, so that the time is a lower bound: importing powerlaw, scikit-learn, matplotlib, pandas and
PyTorch, building the model, copies of layers, the table of results."""
import json
import sys

import h5py
import numpy as np
import scipy.linalg

SMALLEST_EIGENVALUE = 1e-5


def power_law(eigenvalues):
    """Exponent and KS distance at the xmin of least distance."""
    x = eigenvalues[eigenvalues > SMALLEST_EIGENVALUE]
    log_x = np.log(x)
    best = (np.nan, np.inf)
    for i in range(len(x) - 1):
        n = len(x) - i
        alpha = 1 + n / (np.sum(log_x[i:]) - n * log_x[i])
        if alpha > 1:
            distance = np.max(np.abs(1 - (x[i:] / x[i]) ** (1 - alpha) - np.arange(n) / n))
            if distance < best[1]:
                best = (alpha, distance)
    return best


def entropy(singular_values, longest):
    floor = singular_values.max() * longest * np.finfo(singular_values.dtype).eps
    rank = np.count_nonzero(singular_values > floor)
    p = singular_values ** 2 / np.sum(singular_values ** 2)
    return -np.sum(p * np.log(p)) / np.log(rank)


def analyze(weight):
    weight = weight.astype(float)
    s = np.sort(scipy.linalg.svd(weight, compute_uv=False))
    alpha, distance = power_law(s * s)
    norm = np.sum(s * s)
    return {"alpha": alpha, "alpha_ks": distance, "entropy": entropy(s, max(weight.shape)),
            "spectral_norm": s[-1], "stable_rank": norm / s[-1] ** 2,
            "log_norm": np.log10(norm), "log_alpha_norm": np.log10(np.sum((s * s) ** alpha)),
            "alpha_weighted": alpha * np.log10(s[-1] ** 2)}


def main():
    results = {}

    def visit(name, item):
        if isinstance(item, h5py.Dataset) and item.ndim == 2:
            results[name] = analyze(item[:])
    with h5py.File(sys.argv[1]) as f:
        f.visititems(visit)
    json.dump(results, sys.stdout)


main()
