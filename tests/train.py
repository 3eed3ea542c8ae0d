#!/usr/bin/python3
"""muontrain from the outside: the same bits however a run is cut up, checkpoints that muonspec reads,
learning, and what happens when something is wrong.

usage: train.py MUONTRAIN MUONSPEC
"""
import csv
import hashlib
import json
import os
import random
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
import time

import h5py
import numpy as np

MUONTRAIN, MUONSPEC = (os.path.abspath(p) for p in sys.argv[1:3])
passed = failed = 0
SMALL = ["--hidden", "32", "--heads", "2", "--ffn", "48", "--length", "32", "--batch", "8",
         "--eval-windows", "8", "--eval-every", "5", "--checkpoint-steps", "0", "--quiet"]
TINY = ["--model", "llama-tiny", *SMALL]
MOE = ["--model", "moe-tiny", "--layers", "2", *SMALL]
# no search for networks; ranks go where there is room
MPIRUN = ["mpirun", "--allow-run-as-root", "--oversubscribe", "--bind-to", "none", "--mca", "btl",
          "self,vader", "--mca", "mpi_yield_when_idle", "1"]
TIMES = ("tokens_per_second", "step_seconds", "optimizer_seconds", "reduce_seconds",
         "momentum_seconds", "gather_seconds", "newton_schulz_seconds", "update_seconds",
         "all_gather_seconds")


def check(good, what):
    global passed, failed
    passed += bool(good)
    failed += not good
    if not good:
        print("FAILED", what)


def write_corpus(path, words, seed):
    """A text of which a small model learns something in a few steps."""
    draw = random.Random(seed)
    vocabulary = ["".join(draw.choice("abcdefghij") for _ in range(draw.randint(2, 6)))
                  for _ in range(40)]
    with open(path, "w") as f:
        f.write(" ".join(draw.choice(vocabulary) for _ in range(words)))


def train(*options, limit=None, mpi=0):
    launcher = [*MPIRUN, "-n", str(mpi)] if mpi else []
    return subprocess.run([*launcher, MUONTRAIN, *options], capture_output=True, text=True,
                          preexec_fn=limit, timeout=120)


def run(folder, *options, **how):
    """A run that must end well."""
    result = train("--corpus", "text", "--out", folder, *options, **how)
    check(result.returncode == 0, f"{folder}: status {result.returncode}: {result.stderr}")
    return result


def tensors(path):
    found = {}
    with h5py.File(path) as f:
        f.visititems(lambda name, o: found.update({name: o[()]})
                     if isinstance(o, h5py.Dataset) else None)
    return found


def digest(path):
    """Of every bit of every tensor, optimizer state included."""
    all_bits = hashlib.sha256()
    for name, values in sorted(tensors(path).items()):
        all_bits.update(name.encode() + values.tobytes())
    return all_bits.hexdigest()


def last(folder):
    names = sorted(n for n in os.listdir(folder) if n.startswith("step-") and n.endswith(".h5"))
    return os.path.join(folder, names[-1]) if names else None


def log(folder):
    with open(os.path.join(folder, "log.csv")) as f:
        return list(csv.DictReader(f))


def bits_of_log(folder):
    return [{k: v for k, v in row.items() if k not in TIMES} for row in log(folder)]


def number(text):
    return float(text) if text else float("nan")


# ---- the same bits ------------------------------------------------------------------------------

def test_threads():
    run("whole", *TINY, "--steps", "12", "--threads", "2")
    run("one-thread", *TINY, "--steps", "12", "--threads", "1")
    check(digest(last("whole")) == digest(last("one-thread")), "1 and 2 threads: same bits")
    check(bits_of_log("whole") == bits_of_log("one-thread"), "1 and 2 threads: same log")
    run("other-seed", *TINY, "--steps", "12", "--seed", "2")
    check(digest(last("whole")) != digest(last("other-seed")), "another seed: other bits")


def test_sigkill():
    """Killed after some checkpoint, wherever that is, and resumed."""
    for at in (1, 7):
        folder = f"killed-{at}"
        child = subprocess.Popen([MUONTRAIN, "--corpus", "text", "--out", folder, *TINY, "--steps",
                                  "12", "--checkpoint-every", "1"], stderr=subprocess.DEVNULL)
        until = time.time() + 60
        while not os.path.exists(f"{folder}/step-{at:06d}.h5") and time.time() < until:
            time.sleep(0.002)
        child.kill()
        child.wait()
        with open(f"{folder}/step-000099.h5.1.tmp", "w") as f:
            f.write("half a checkpoint")
        with open(f"{folder}/log.csv", "a") as f:
            f.write("13,half a")
        run(folder, "--resume", "--quiet")
        check(digest(last(folder)) == digest(last("whole")), f"{folder}: same bits")
        check([r["loss"] for r in log(folder)] == [r["loss"] for r in log("whole")],
              f"{folder}: same losses")
        check(not [n for n in os.listdir(folder) if n.endswith(".tmp")], f"{folder}: no leftovers")
        states = [n for n in os.listdir(folder) if n.endswith(".h5") and
                  any(t.startswith("optimizer/") for t in tensors(f"{folder}/{n}"))]
        check(states == [os.path.basename(last(folder))], f"{folder}: state in the newest alone")


def test_signals():
    """The step ends, a checkpoint is written, the signal is what the program ends by."""
    steps = "3000"
    for number_, name in ((signal.SIGINT, "INT"), (signal.SIGTERM, "TERM")):
        folder = f"stopped-{name}"
        child = subprocess.Popen([MUONTRAIN, "--corpus", "text", "--out", folder, *TINY, "--steps",
                                  steps, "--checkpoint-steps", "0"], stderr=subprocess.PIPE,
                                 text=True)
        until = time.time() + 60
        while time.time() < until and (not os.path.exists(f"{folder}/step-000000.h5") or
                                       len(log(folder)) < 3):
            time.sleep(0.01)
        child.send_signal(number_)
        child.communicate()
        check(child.returncode == -number_, f"{folder}: ended by {child.returncode}")
        step = int(os.path.basename(last(folder))[5:-3])
        check(0 < step < int(steps), f"{folder}: a checkpoint at {step}")
        check(int(log(folder)[-1]["step"]) == step, f"{folder}: the log ends there")
    # one that was stopped goes on as if it had not been
    run("short", *TINY, "--steps", "6", "--checkpoint-steps", "4", "--states", "all")
    os.remove(last("short"))
    run("short", "--resume")
    run("short-whole", *TINY, "--steps", "6", "--checkpoint-steps", "4", "--states", "all")
    check(digest(last("short")) == digest(last("short-whole")), "resumed from step 4: same bits")
    check(bits_of_log("short") == bits_of_log("short-whole"), "resumed from step 4: same log")
    result = run("short", "--resume")
    check("6 of 6" in result.stdout, "resuming what is done does nothing")


def test_variants():
    """Resuming knows all of a run's options."""
    for i, options in enumerate((["--optimizer", "adamw", "--lr", "0.01", "--schedule", "wsd"],
                                 ["--precision", "bf16-no-master", "--momentum-kind", "ema"],
                                 ["--precision", "bf16", "--per-head", "--scale", "original"],
                                 MOE + ["--router", "adamw"])):
        base = options if options[0] == "--model" else TINY + options
        run(f"variant-{i}", *base, "--steps", "5", "--states", "all", "--checkpoint-every", "2")
        whole = digest(last(f"variant-{i}"))
        os.remove(last(f"variant-{i}"))
        run(f"variant-{i}", "--resume")
        check(digest(last(f"variant-{i}")) == whole, f"variant {options}: same bits")
    weights = tensors("variant-1/step-000005.h5")["lm_head.weight"]
    check(not (weights.view(np.uint32) & 0xffff).any(), "bf16-no-master: weights are bf16")


def test_clip_norm():
    """The gradient's norm is logged as it was; limits that it never reaches change no bits."""
    options = [*TINY, "--steps", "5", "--states", "all", "--checkpoint-every", "2"]
    run("norm-0", *options, "--clip-norm", "0")
    norms = [number(r["gradient_norm"]) for r in log("norm-0")[1:]]
    limit = str(0.5 * max(norms))
    run("norm", *options, "--clip-norm", limit)
    whole = digest(last("norm"))
    check(abs(number(log("norm")[1]["gradient_norm"]) - norms[0]) <= 1e-9 * norms[0],
          "the norm before clipping")
    check(whole != digest(last("norm-0")), "a limit that is reached")
    run("norm-high", *options, "--clip-norm", "1e6")
    check(digest(last("norm-high")) == digest(last("norm-0")), "a limit that is not reached")
    os.remove(last("norm"))
    run("norm", "--resume")
    check(digest(last("norm")) == whole, "resumed with --clip-norm: same bits")
    with h5py.File(last("norm-0")) as f:
        check("clip-norm" not in f.attrs["options"], "0 is as if there were no option")
    if shutil.which("mpirun") and not train("--version", mpi=1).returncode:
        run("norm-ranks", *options, "--clip-norm", limit, "--threads", "1", mpi=2)
        check(digest(last("norm-ranks")) == whole, "2 ranks with --clip-norm: same bits")


def test_ranks():
    if not shutil.which("mpirun"):
        print("train: no mpirun, ranks not tested")
        return
    version = train("--version", mpi=1)
    if version.returncode:
        print("train: built without MPI, ranks not tested")
        return
    for ranks in (2, 4):
        run(f"ranks-{ranks}", *TINY, "--steps", "12", "--threads", "1", mpi=ranks)
        check(digest(last(f"ranks-{ranks}")) == digest(last("whole")), f"{ranks} ranks: same bits")
        check(bits_of_log(f"ranks-{ranks}") == bits_of_log("whole"), f"{ranks} ranks: same log")
    # from any number of ranks to any other, and one that divides nothing
    run("ranks-more", *TINY, "--steps", "6", "--states", "all", "--checkpoint-steps", "3")
    whole = digest(last("ranks-more"))
    os.remove(last("ranks-more"))
    run("ranks-more", "--resume", "--threads", "1", mpi=2)
    check(digest(last("ranks-more")) == whole, "begun on one rank, ended on two: same bits")
    run("ranks-3", *MOE, "--steps", "3", "--threads", "1", mpi=3)
    bad = train("--corpus", "nowhere", "--out", "ranks-bad", *TINY, mpi=2)
    check(bad.returncode == 3 and bad.stderr.count("nowhere") == 1, "an error of all ranks, once")


# ---- what a run is ------------------------------------------------------------------------------

def test_learns():
    for optimizer in ("muon", "adamw"):
        folder = f"learns-{optimizer}"
        result = run(folder, *TINY, "--steps", "60", "--optimizer", optimizer, "--lr", "0.01",
                     "--format", "json")
        summary = json.loads(result.stdout)
        text = np.frombuffer(open("text", "rb").read(), np.uint8)
        p = np.bincount(text) / len(text)
        entropy = -(p[p > 0] * np.log(p[p > 0])).sum()
        check(abs(summary["unigram_entropy"] - entropy) < 1e-12, "the unigram entropy")
        check(summary["held_out_loss"] < entropy - 0.1,
              f"{optimizer}: {summary['held_out_loss']} after 60 steps, unigrams give {entropy}")
        rows = log(folder)
        check([int(r["step"]) for r in rows] == list(range(61)), f"{optimizer}: a row for each step")
        check(all(np.isfinite(number(r["gradient_norm"])) for r in rows[1:]), "gradient norms")
        check(abs(number(rows[0]["held_out_loss"]) - np.log(256)) < 0.3, "the start knows nothing")
    rms = np.array([number(r["update_rms"]) for r in log("learns-muon")[1:]])
    check(np.all((rms > 0.12) & (rms < 0.25)), "Muon's updates have the RMS asked for")


def test_checkpoints():
    spaced = [o for o in TINY if o not in ("--checkpoint-steps", "0")]
    run("spaced", *spaced, "--steps", "12")
    names = sorted(n for n in os.listdir("spaced") if n.endswith(".h5"))
    check(names == [f"step-{s:06d}.h5" for s in (0, 1, 2, 5, 10, 12)], f"log-spaced: {names}")
    check(digest(last("spaced")) == digest(last("whole")), "saving changes no bits")
    for name in names:
        path = f"spaced/{name}"
        result = subprocess.run([MUONSPEC, "analyze", "--format", "json", path],
                                capture_output=True, text=True)
        check(result.returncode == 0, f"analyze {path}: {result.stderr}")
        report = json.loads(result.stdout)
        check(report["checkpoint"]["step"] == int(name[5:-3]), f"{path}: its step")
        check(report["checkpoint"]["optimizer"] == "muon", f"{path}: its optimizer")
        check(all(m["status"] == "ok" and "optimizer" not in m["tensor"]
                  for m in report["matrices"]), f"{path}: weights alone")
        with h5py.File(path) as f:
            check(f["activations/output_rms"].shape == (2,), f"{path}: activations of each layer")
            check(f.attrs["muonspec_format"] == 1 and np.isfinite(f.attrs["loss"]), f"{path}: attributes")
            check(json.loads(f.attrs["config"])["hidden_size"] == 32, f"{path}: configuration")
    forward = subprocess.run([MUONSPEC, "forward", last("whole"), "--tokens", "whole/held_out.txt",
                              "--length", "32", "--format", "json"], capture_output=True, text=True)
    check(forward.returncode == 0, f"forward: {forward.stderr}")
    if forward.returncode == 0:
        report = json.loads(forward.stdout)
        with h5py.File(last("whole")) as f:
            loss, rms = f.attrs["loss"], f["activations/output_rms"][()]
            logits = f["activations/max_attention_logit"][()]
        check_forward(report, loss, rms, logits)


def check_forward(report, loss, rms, logits):
    run_ = report["runs"][0]
    check(abs(run_["loss"] - loss) < 1e-6 * loss, "forward finds the recorded loss")
    found = np.array([layer["output_rms"] for layer in run_["layers"]])
    check(np.allclose(found, rms, rtol=1e-5), "forward finds the recorded output RMS")
    found = np.array([layer["max_attention_logit"] for layer in run_["layers"]])
    check(np.allclose(found, logits, rtol=1e-5), "forward finds the recorded logits")


def test_micro_batches():
    """However the batch is cut up, it is the same batch."""
    rows = []
    for parts in (1, 2, 8):
        run(f"parts-{parts}", *TINY, "--steps", "1", "--micro-batches", str(parts))
        rows.append(log(f"parts-{parts}")[1])
    for name in ("loss", "gradient_norm"):
        values = np.array([number(r[name]) for r in rows])
        check(np.allclose(values, values[0], rtol=1e-5), f"micro-batches: {name} {values}")


def test_qk_clip():
    largest = {}
    for family, options in (("llama", TINY), ("moe", MOE)):
        for limit in ("0", "0.3"):
            folder = f"clip-{family}-{limit}"
            run(folder, *options, "--steps", "8", "--lr", "0.02", "--init-std", "0.15",
                "--qk-clip", limit)
            largest[limit] = max(number(r["max_attention_logit"]) for r in log(folder)[5:]
                                 if r["max_attention_logit"])
            clipped = [number(r["clipped_heads"]) for r in log(folder)[1:]]
            check(all(np.isnan(clipped)) if limit == "0" else max(clipped) > 0,
                  f"{family}, limit {limit}: {clipped} heads clipped")
        check(largest["0.3"] < 0.7 * largest["0"], f"{family}: logits with and without: {largest}")


def test_moe():
    run("moe", *MOE, "--steps", "40", "--lr", "0.01")
    result = subprocess.run([MUONSPEC, "ls", "--format", "json", last("moe")], capture_output=True,
                            text=True)
    groups = {m["group"] for m in json.loads(result.stdout)["matrices"]}
    check(groups == {"AttnQO", "AttnKV", "Experts", "SharedExperts", "Router", "Dense", "Embedding",
                     "Head"}, f"groups of the mixture of experts: {groups}")
    loads = tensors(last("moe"))["activations/expert_tokens"][1:]
    check(loads.min() > 0, f"no expert without tokens: {loads}")
    check(loads.sum() == 2 * 8 * 32, "every token goes to two experts")


def test_fine_tuning():
    write_corpus("other-text", 4000, 7)
    tune = ["--init-from", last("learns-muon"), "--corpus", "other-text", "--length", "32",
            "--batch", "8", "--optimizer", "adamw", "--steps", "3", "--quiet"]
    result = train(*tune, "--out", "tuned", "--checkpoint-steps", "0")
    check(result.returncode == 0, f"fine-tuning: {result.stderr}")
    start, before = tensors("tuned/step-000000.h5"), tensors(last("learns-muon"))
    names = [n for n in before if n.startswith(("model.", "lm_head."))]
    check(names and all((start[n] == before[n]).all() for n in names), "weights are taken over")
    check(not (tensors(last("tuned"))["lm_head.weight"] == before["lm_head.weight"]).all(),
          "and trained on")
    os.remove(last("tuned"))
    result = train("--resume", "--out", "tuned")
    check(result.returncode == 2 and "no checkpoint" in result.stderr, "no state: no resuming")


# ---- errors -------------------------------------------------------------------------------------

def refuse(status, text, *options, **how):
    result = train(*options, **how)
    lines = [line for line in result.stderr.splitlines() if line]
    check(result.returncode == status and lines and text in lines[0] and len(lines) <= 2 and
          lines[0].startswith("muontrain: "),
          f"{options}: status {result.returncode}, {result.stderr!r}")


def full_disk(size):
    def limit():
        resource.setrlimit(resource.RLIMIT_FSIZE, (size, size))
    return limit


def test_errors():
    base = ["--corpus", "text", *TINY]
    open("empty", "w").close()
    with open("short-text", "w") as f:
        f.write("a few words")
    refuse(2, "did you mean '--optimizer'", "--optimiser", "muon")
    refuse(2, "did you mean 'llama-1m'", *base, "--model", "lama-1m", "--out", "e")
    refuse(2, "one of muon|adamw", *base, "--optimizer", "sgd", "--out", "e")
    refuse(2, "a number from 0", *base, "--lr", "-1", "--out", "e")
    refuse(2, "does not apply", *base, "--experts", "4", "--out", "e")
    refuse(2, "heads", *base, "--kv-heads", "3", "--out", "e")
    refuse(2, "micro-batches", *base, "--micro-batches", "3", "--out", "e")
    refuse(2, "context", *base, "--length", "1000", "--out", "e")
    refuse(2, "steps separated by commas", *base, "--checkpoint-steps", "1,x", "--out", "e")
    refuse(2, "holds a run", *base, "--out", "whole")
    refuse(2, "started with '--lr=0.008', not '--lr=1'", "--resume", "--out", "whole", "--lr", "1")
    refuse(2, "not the text", "--resume", "--out", "whole", "--corpus", "other-text")
    refuse(2, "no checkpoint", "--resume", "--out", "nowhere")
    refuse(3, "is empty", "--corpus", "empty", *TINY, "--out", "e")
    refuse(3, "too short", "--corpus", "short-text", *TINY, "--out", "e")
    refuse(3, "No such file", "--corpus", "nowhere", *TINY, "--out", "e")
    refuse(3, "Not a directory", *base, "--out", "text/e")
    refuse(3, "not HDF5", "--corpus", "text", "--init-from", "text", "--out", "e")
    check(not os.path.exists("e"), "nothing is made for a run that can't be")
    refuse(4, "diverged", *base, "--optimizer", "adamw", "--lr", "1e38", "--schedule", "constant",
           "--warmup", "0", "--steps", "9", "--out", "diverged")
    check(np.isfinite(h5py.File(last("diverged")).attrs["loss"]), "the last good checkpoint is kept")
    size = os.path.getsize("whole/step-000000.h5")
    # the step-0 checkpoint with the optimizer's state does not fit
    refuse(3, "File too large", *base, "--steps", "5", "--out", "full-0", limit=full_disk(size))
    check(not last("full-0") and not [n for n in os.listdir("full-0") if n.endswith(".tmp")],
          "a full disk leaves nothing half-written")
    with open("/dev/full", "w") as full:
        result = subprocess.run([MUONTRAIN, *base, "--steps", "1", "--out", "full-out", "--format",
                                 "json"], stdout=full, stderr=subprocess.PIPE, text=True)
    check(result.returncode == 3 and "standard output" in result.stderr, "a summary that gets lost")


def test_hostile_files():
    """libhdf5 crashes on them, muontrain doesn't."""
    data = os.path.join(os.environ.get("MUONSPEC_TEST_DATA", ""), "odd/cve")
    if not os.path.isdir(data):
        print("train: no test data, crashes of libhdf5 are not tested")
        return
    why = "malformed: the library that reads it crashed"
    for name in ("cve-2018-13871.h5", "cve-2019-9152.h5"):
        refuse(3, why, "--corpus", "text", "--init-from", f"{data}/{name}", "--out", "e")
        folder = "hostile-" + name[:-3]
        os.mkdir(folder)
        shutil.copy(f"{data}/{name}", f"{folder}/step-000007.h5")
        refuse(3, why, "--resume", "--out", folder)
    check(not os.path.exists("e"), "nothing is made")
    if shutil.which("mpirun") and not train("--version", mpi=1).returncode:
        result = train("--corpus", "text", "--init-from", f"{data}/{name}", "--out", "e", mpi=2)
        check(result.returncode == 3 and result.stderr.count(why) == 1,
              f"ranks, once: {result.returncode} {result.stderr!r}")


def test_help():
    result = train("--help")
    check(result.returncode == 0 and "held_out_loss" in result.stdout, "help")
    check(max(map(len, result.stdout.splitlines())) <= 81, "help fits the screen")
    check(train("--version").stdout.startswith("muontrain "), "version")


def main():
    signal.signal(signal.SIGINT, signal.default_int_handler)  # also where it was ignored, as after &
    tests = (test_help, test_threads, test_sigkill, test_signals, test_variants, test_clip_norm,
             test_ranks, test_learns, test_checkpoints, test_micro_batches, test_qk_clip, test_moe,
             test_fine_tuning, test_errors, test_hostile_files)
    memory = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None
    with tempfile.TemporaryDirectory(dir=memory) as scratch:
        os.chdir(scratch)
        write_corpus("text", 6000, 1)
        for test in tests:
            started = time.time()
            test()
            if "TIMES" in os.environ:
                print(f"{test.__name__}: {time.time() - started:.1f} s")
        os.chdir("/")
    print(f"train: {passed} passed, {failed} failed")
    return failed > 0


sys.exit(main())
