"""`muonspec forward` on checkpoints of muontrain against what muontrain recorded in them: the loss on
the held-out text, the activations of every layer and matrix, the logits of every head.

usage: forward_training.py MUONTRAIN MUONSPEC
"""
import json
import os
import subprocess
import sys
import tempfile

import h5py
import numpy as np

LENGTH = 32
# model, flags, which arithmetic the recorded figures are in (0 float32, 1 bf16), relative tolerance:
# sums of other shapes are added up in another order, and in bf16 that rounds single results another way
CASES = [
    ("llama-tiny", ["--kv-heads", "2"], 0, 1e-5),
    ("llama-tiny", ["--tied-head", "--precision", "bf16"], 1, 4e-3),
    ("moe-tiny", [], 0, 1e-5),
]


def corpus(path):
    """Some text with a pattern, the same at every call."""
    random = np.random.default_rng(1)
    words = [bytes(random.integers(97, 123, n)) for n in random.integers(2, 8, 60)]
    with open(path, "wb") as f:
        f.write(b" ".join(words[i] for i in random.integers(0, 60, 3000)))


def run(command):
    result = subprocess.run(command, capture_output=True, text=True)
    if result.returncode:
        sys.exit(f"{' '.join(command)}: exit status {result.returncode}\n{result.stderr}")
    return result.stdout


def compare(file, report, run_index, tolerance):
    """What differs by more than the tolerance, and how much was compared."""
    bad, done = [], 0

    def close(name, got, want):
        nonlocal done
        done += 1
        error = np.max(np.abs(np.asarray(got, float) - want) / np.maximum(np.abs(want), 1e-3))
        if not error <= tolerance:
            bad.append(f"{name}: off by {error:.3g}, {tolerance:.3g} allowed")

    got, recorded = report["runs"][run_index], file["activations"]
    close("loss", got["loss"], file.attrs["loss"])
    for name in ("output_rms", "output_max_abs", "max_attention_logit", "share_logits_over_100",
                 "head_max_logits"):
        close(name, [layer[name] for layer in got["layers"]], recorded[name][:])
    matrices = {m["name"]: m for m in got["matrices"] if m["output_rms"] is not None}
    if set(matrices) != set(recorded["matrices"]):
        bad.append("other matrices are recorded")
    for name in recorded["matrices"]:
        for what in ("output_rms", "output_max_abs"):
            close(f"{name} {what}", matrices[name][what], recorded["matrices"][name][what][0])
    return bad, done


def main(muontrain, muonspec):
    passed = failed = 0
    with tempfile.TemporaryDirectory() as folder:
        text = os.path.join(folder, "text")
        corpus(text)
        for index, (model, flags, run_index, tolerance) in enumerate(CASES):
            out = os.path.join(folder, str(index))
            run([muontrain, "--model", model, "--corpus", text, "--out", out, "--steps", "6",
                 "--batch", "4", "--length", str(LENGTH), "--lr", "0.02", "--checkpoint-steps", "3",
                 "--quiet", *flags])
            for step in (3, 6):
                checkpoint = os.path.join(out, f"step-{step:06d}.h5")
                report = json.loads(run(
                    [muonspec, "forward", checkpoint, "--tokens", os.path.join(out, "held_out.txt"),
                     "--length", str(LENGTH), "--format", "json"]))
                with h5py.File(checkpoint) as f:
                    bad, done = compare(f, report, run_index, tolerance)
                passed += done - len(bad)
                failed += len(bad)
                for line in bad:
                    print(f"FAILED {model} {' '.join(flags)} step {step}: {line}")
    print(f"forward_training: {passed} passed, {failed} failed")
    return failed > 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:3]))
