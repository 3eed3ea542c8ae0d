#!/usr/bin/python3
"""Writes metric_numbers.h: metrics of made-up matrices by NumPy float64 and plain Python, from the
definitions and independently of muonspec's code. Run: /usr/bin/python3 metric_numbers.py >
metric_numbers.h. The matrices are exact in float32, and made by integer arithmetic, so that
unit/metric/test_metric_golden.c can make the same bits."""
import math

import numpy as np


def stream(seed):
    x = seed
    while True:
        x = (x * 1664525 + 1013904223) % 2**32
        yield (x >> 8) + 0.5  # (0, 2^24)


def matrix(rows, cols, seed):
    s = stream(seed)
    w = np.array([next(s) for _ in range(rows * cols)]).reshape(rows, cols) - 0.5
    return (w / 2**24 - 0.5) * 2.0 ** -(np.arange(cols) % 5)


def pareto(count, body, seed):
    """Singular values whose squares have density ~ lambda^-3, and a uniform body below."""
    s = stream(seed)
    sigma = [math.sqrt(1 / math.sqrt(next(s) / 2**24)) for _ in range(count)]
    sigma += [next(s) / 2**24 for _ in range(body)]
    return sorted(sigma, reverse=True)


def fit(sigma):
    """Clauset et al. 2009, every distinct eigenvalue with at least 50 from it on up as xmin."""
    lam = sorted((x * x for x in sigma), reverse=True)
    best = None
    for k in range(50, len(lam) + 1):
        if k < len(lam) and lam[k] == lam[k - 1]:
            continue
        xmin = lam[k - 1]
        alpha = 1 + k / math.fsum(math.log(x / xmin) for x in lam[:k])
        ks = 0
        for i, x in enumerate(lam[:k]):
            above = (x / xmin) ** (1 - alpha)
            ks = max(ks, (i + 1) / k - above, above - i / k)
        if best is None or ks <= best[2]:
            best = (alpha, xmin, ks, k, (alpha - 1) / math.sqrt(k))
    return best


def bf16(w):
    bits = w.astype(np.float32).view(np.uint32).astype(np.uint64)
    bits = (bits + 0x7FFF + ((bits >> 16) & 1)) & 0xFFFF0000
    return bits.astype(np.uint32).view(np.float32).astype(np.float64)


def metrics(w):
    m, n = sorted(w.shape)
    rows, cols = w.shape
    s = np.linalg.svd(w, compute_uv=False)
    p, q = s**2 / np.sum(s**2), s / np.sum(s)
    h = -np.sum(p * np.log(p)) / np.log(m)
    norm = np.linalg.norm(w)
    edge = np.std(w) * (math.sqrt(m) + math.sqrt(n))
    d = w - np.mean(w)
    yield "rms", np.sqrt(np.mean(w**2))
    yield "max_abs", np.max(np.abs(w))
    yield "mean", np.mean(w)
    yield "std", np.std(w)
    yield "excess_kurtosis", np.mean(d**4) / np.mean(d**2) ** 2 - 3
    yield "zero_fraction", np.mean(w == 0)
    yield "frobenius_norm", norm
    yield "spectral_norm", np.linalg.norm(w, 2)
    yield "nuclear_norm", np.linalg.norm(w, "nuc")
    yield "sigma_min", np.linalg.norm(w, -2)
    yield "condition_number", np.linalg.cond(w)
    yield "svd_entropy", h
    yield "svd_entropy_excess", h - (1 - m / (2 * n) / np.log(m))
    yield "effective_rank", np.exp(-np.sum(q * np.log(q)))
    yield "stable_rank", norm**2 / s[0] ** 2
    yield "participation_ratio", np.sum(s**2) ** 2 / np.sum(s**4)
    yield "numerical_rank", np.linalg.matrix_rank(w.astype(np.float32))
    yield "mp_edge_ratio", s[0] / edge
    yield "mp_spikes", np.sum(s > edge)
    alpha, xmin, ks, tail, sigma = fit(s)
    yield "alpha_xmin", xmin
    yield "alpha_ks", ks
    yield "alpha_tail", tail
    yield "ww_entropy", -np.sum(p * np.log(p)) / np.log(np.linalg.matrix_rank(w))
    yield "output_rms", norm / math.sqrt(rows)
    yield "output_rms_max", s[0] * math.sqrt(cols / rows)
    yield "bf16_rel_error", np.linalg.norm(w - bf16(w)) / norm
    yield "bf16_exact_fraction", np.mean(w == bf16(w))


print("/* Written by metric_numbers.py (NumPy %s, float64); tolerances are the test's. */" % np.__version__)
print("static const golden_metric golden_metrics[] = {")
for rows, cols, seed in ((60, 90, 1), (200, 64, 2)):
    for name, value in metrics(matrix(rows, cols, seed)):
        print('\t{%d, %d, %d, "%s", %.17g},' % (rows, cols, seed, name, value))
print("};")
print("/* values of a power law, values of a body below, seed; alpha, xmin, ks, tail, sigma */")
print("static const golden_fit golden_fits[] = {")
for count, body, seed in ((500, 0, 3), (80, 300, 4), (150, 250, 8), (0, 400, 6), (51, 0, 7)):
    alpha, xmin, ks, tail, sigma = fit(pareto(count, body, seed))
    print("\t{%d, %d, %d, %.17g, %.17g, %.17g, %d, %.17g}," % (count, body, seed, alpha, xmin, ks, tail, sigma))
print("};")
