"""Newton-Schulz in PyTorch, as in Jordan et al. 2024, for bench_newton_schulz, which asks for one
shape at a time: a line "ROWS COLS f32|bf16 TIMES" on stdin is answered with the seconds of one of so
many runs of five steps. The argument is the number of threads; with one its processor time counts."""
import sys
import time

import torch

TYPES = {"f32": torch.float32, "bf16": torch.bfloat16}


def newton_schulz(gradient, dtype, steps=5):
    a, b, c = 3.4445, -4.7750, 2.0315
    x = gradient.to(dtype)
    x = x / (x.norm() + 1e-7)
    tall = x.shape[0] > x.shape[1]
    if tall:
        x = x.T
    for _ in range(steps):
        s = x @ x.T
        x = a * x + (b * s + c * (s @ s)) @ x
    return x.T if tall else x


def seconds(rows, cols, dtype, times):
    gradient = torch.randn(rows, cols)
    now = time.perf_counter if torch.get_num_threads() > 1 else time.thread_time
    start = now()
    for _ in range(times):
        newton_schulz(gradient, dtype)
    return (now() - start) / times


def main():
    torch.set_num_threads(int(sys.argv[1]))
    torch.manual_seed(1)
    with torch.no_grad():
        seconds(64, 64, torch.float32, 1)  # the first is slow
    print(torch.__version__, flush=True)
    for line in sys.stdin:
        rows, cols, name, times = line.split()
        with torch.no_grad():
            print(seconds(int(rows), int(cols), TYPES[name], int(times)), flush=True)


main()
