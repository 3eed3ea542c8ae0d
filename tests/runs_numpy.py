#!/usr/bin/python3
"""Runs: `muonspec track` and `compare` against NumPy, killed at any moment, and two at once.

usage: runs_numpy.py MUONSPEC"""
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time

import h5py
import numpy as np

MUONSPEC = os.path.abspath(sys.argv[1])
STEPS = [10, 20, 40, 80, 160, 320, 640, 1280]
SHAPES = {"model.layers.0.self_attn.q_proj.weight": (96, 64),
          "model.layers.0.self_attn.k_proj.weight": (32, 64),
          "model.layers.0.mlp.up_proj.weight": (300, 160),
          "model.layers.1.mlp.up_proj.weight": (160, 300)}
checks = 0


def check(good, what):
    global checks
    checks += 1
    if not good:
        sys.exit("runs_numpy: FAILED: " + what)


def close(a, b, tolerance, what):
    check(abs(a - b) <= tolerance * abs(b), "%s: %.17g, expected %.17g" % (what, a, b))


# ---- a run ------------------------------------------------------------------------------------

def make_run(folder, seed, scale=1.0):
    """Weights by step and name; also written as checkpoints."""
    rng = np.random.default_rng(seed)
    weights = {n: 0.02 * scale * rng.standard_normal(s) for n, s in SHAPES.items()}
    run = {}
    os.mkdir(folder)
    for step in STEPS:
        for i, (name, w) in enumerate(weights.items()):
            change = rng.standard_normal(w.shape)
            if i % 2:  # nearly orthogonal, as Muon's
                u, _, v = np.linalg.svd(change, full_matrices=False)
                change = 4 * u @ v
            w += 0.002 * scale * change
        run[step] = {n: w.astype(np.float32) for n, w in weights.items()}
        with h5py.File("%s/step-%d.h5" % (folder, step), "w") as f:
            f.attrs["muonspec_format"] = 1
            f.attrs["step"] = step
            for name, w in run[step].items():
                f[name] = w
    return run


def entropy(s):
    p = s ** 2 / (s ** 2).sum()
    p = p[p > 0]
    return -(p * np.log(p)).sum() / np.log(len(s))


def expected(run, name, metric, step, before):
    w = run[step][name].astype(np.float64)
    if metric == "relative_change":
        old = run[before][name].astype(np.float64)
        return np.linalg.norm(w - old) / np.linalg.norm(old)
    if metric.startswith("delta_"):
        w = w - run[before][name].astype(np.float64)
        metric = metric[len("delta_"):]
    s = np.linalg.svd(w, compute_uv=False)
    return {"rms": np.sqrt((w ** 2).mean()), "spectral_norm": s[0], "svd_entropy": entropy(s),
            "stable_rank": (s ** 2).sum() / s[0] ** 2,
            "output_rms": np.linalg.norm(w) / np.sqrt(w.shape[0])}[metric]


# ---- numbers ----------------------------------------------------------------------------------

def track(folder, *options):
    done = subprocess.run([MUONSPEC, "track", "--format", "json", *options, folder],
                          stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    check(done.returncode == 0, "track: " + done.stderr)
    return done.stdout, done.stderr


def check_series(report, run, tolerance_of):
    seen = set()
    for s in report["series"]:
        if s["name"].startswith("("):
            continue
        for step, value in zip(s["steps"], s["values"]):
            before = STEPS[STEPS.index(step) - 1]
            close(value, expected(run, s["name"], s["metric"], step, before),
                  tolerance_of(s["name"], s["metric"]),
                  "%s %s at %d" % (s["name"], s["metric"], step))
            seen.add((s["name"], s["metric"], step))
    check(len(seen) == len(SHAPES) * (9 * len(STEPS) - 4), "every matrix, metric and step")


def exact(name, metric):
    # changes are differences of float32 numbers, rounded to float32 where they are estimated
    return 1e-9


def estimated(name, metric):
    if min(SHAPES[name]) > 128 and metric in ("delta_stable_rank", "delta_svd_entropy"):
        return 0.06 if metric == "delta_stable_rank" else 0.008
    return 1e-6 if metric in ("delta_rms", "relative_change") else 1e-9


def check_groups(report, run):
    for s in report["series"]:
        if s["name"] == "(model)" and s["metric"] == "rms":
            for step, value in zip(s["steps"], s["values"]):
                w = np.concatenate([x.ravel() for x in run[step].values()]).astype(np.float64)
                close(value, np.sqrt((w ** 2).mean()), 1e-9, "model's rms at %d" % step)
        if s["name"] == "(AttnQO)" and s["metric"] == "svd_entropy":
            for step, value in zip(s["steps"], s["values"]):
                name = "model.layers.0.self_attn.q_proj.weight"
                close(value, expected(run, name, "svd_entropy", step, None), 1e-9, "group's")


def check_trends(report, run):
    x = np.log(STEPS)
    for t in report["trends"]:
        if t["name"] != "(model)" or t["metric"] != "rms":
            continue
        y = np.log([np.sqrt(np.mean(np.concatenate([w.ravel() for w in run[s].values()])
                                    .astype(np.float64) ** 2)) for s in STEPS])
        (slope, _), covariance = np.polyfit(x, y, 1, cov=True)
        close(t["exponent"], slope, 1e-6, "exponent")
        close(t["exponent_error"], np.sqrt(covariance[0, 0]), 1e-6, "exponent's error")


def check_numbers(folder, run):
    report = json.loads(track(folder, "--no-store", "--changes", "exact")[0])
    check(report["schema"] == "muonspec/track/1", "schema")
    check([c["step"] for c in report["checkpoints"]] == STEPS, "steps")
    check_series(report, run, exact)
    check_groups(report, run)
    check_trends(report, run)
    check_series(json.loads(track(folder, "--no-store")[0]), run, estimated)


def check_spectra(report, runs):
    with_spectra = [p for p in report["pairs"] if "spectra" in p]
    check(len(with_spectra) == len(SHAPES), "spectra of the last step")
    for p in with_spectra:
        check(p["step"] == STEPS[-1], "spectra's step")
        for side, run in zip("ab", runs):
            s = np.linalg.svd(run[p["step"]][p["name"]].astype(np.float64), compute_uv=False)
            for at, value in zip(p["spectra"]["at"], p["spectra"][side]):
                close(value, s[int(at * (len(s) - 1) + 0.5)] / s[0], 1e-9, "spectrum")


def check_compare(a, b, runs):
    done = subprocess.run([MUONSPEC, "compare", "-q", "--format", "json", "--no-store", "--label",
                           "muon", "--label", "adamw", a, b], stdout=subprocess.PIPE, text=True)
    check(done.returncode == 0, "compare")
    report = json.loads(done.stdout)
    check(report["labels"] == ["muon", "adamw"], "labels")
    for p in report["pairs"]:
        for metric, v in p["metrics"].items():
            x, y = (expected(r, p["name"], metric, p["step"], None) for r in runs)
            close(v["a"], x, 1e-9, "a")
            close(v["b"], y, 1e-9, "b")
            check(v["difference"] == v["a"] - v["b"], "difference")
    check(len(report["pairs"]) == len(SHAPES) * len(STEPS), "pairs")
    check_spectra(report, runs)
    for f in report["findings"]:
        d = np.array([expected(runs[0], n, f["metric"], STEPS[-1], None) -
                      expected(runs[1], n, f["metric"], STEPS[-1], None) for n in SHAPES])
        check(f["share_higher_a"] == (d > 0).mean(), "share")
        check(abs(f["median_difference"] - np.median(d)) < 1e-9, "median")
        check(f["low"] <= f["median_difference"] <= f["high"], "interval")


# ---- recorded outputs -------------------------------------------------------------------------

NORMS = {"q_proj": "input", "k_proj": "input", "v_proj": "input", "gate_proj": "post_attention",
         "up_proj": "post_attention"}


def gain_of(f, name):
    part = name.split(".")
    if name == "lm_head.weight":
        return f["model.norm.weight"][...]
    norm = NORMS.get(part[-2])
    return f["%s.%s_layernorm.weight" % (".".join(part[:3]), norm)][...] if norm else 1


def check_outputs(folder):
    """The ratio of what muontrain recorded to the closed form."""
    report = json.loads(track(folder, "--no-store", "--changes", "none")[0])
    paths = {c["step"]: c["path"] for c in report["checkpoints"]}
    seen = 0
    for s in report["series"]:
        for step, value in zip(s["steps"], s["values"]):
            if not s["metric"].startswith("recorded_output") or s["name"].startswith("layer"):
                continue
            with h5py.File(paths[step], "r") as f:
                outputs = f["activations/matrices/" + s["name"]]
                if s["metric"] == "recorded_output_rms_ratio":
                    w = f[s["name"]][...].astype(np.float64) * gain_of(f, s["name"])
                    truth = outputs["output_rms"][0] / np.sqrt((w ** 2).sum() / len(w))
                else:
                    truth = outputs[s["metric"][len("recorded_"):]][0]
            close(value, truth, 1e-6, "%s %s" % (s["name"], s["metric"]))
            seen += 1
    check(seen == 3 * 15 * len(paths), "every recorded matrix and step")


# ---- the store --------------------------------------------------------------------------------

LAYER_NAMES = ("output_rms", "output_max_abs", "max_attention_logit", "share_logits_over_100",
               "bf16_error")


def forward(checkpoint, text, store, *options):
    return [MUONSPEC, "forward", "-q", "--format", "json", "--tokens", text, "--store-file", store,
            *options, checkpoint]


def stored(store, folder):
    """What track shows of it: values by step, name and metric."""
    report = json.loads(track(folder, "-o", store, "--changes", "none")[0])
    return {(step, s["name"], s["metric"]): value for s in report["series"]
            for step, value in zip(s["steps"], s["values"]) if s["metric"].startswith("forward_")}


def truth_of(checkpoint, step, text, store, *options):
    """The same out of forward's own report, which it keeps meanwhile."""
    done = subprocess.run(forward(checkpoint, text, store, *options), stdout=subprocess.PIPE,
                          text=True)
    check(done.returncode == 0, "forward")
    report = json.loads(done.stdout)
    out = {(step, "(model)", "forward_loss"): report["runs"][0]["loss"]}
    for name in LAYER_NAMES:
        layers = report["runs"][name == "bf16_error"]["layers"]
        for i, layer in enumerate(layers):
            out[step, "layer %d" % i, "forward_" + name] = layer[name]
    return out


def check_forward(folder, scratch):
    """Results of forward in the run's store: kept, replaced, killed, by two at once, damaged."""
    store, text = scratch + "/forward.spectra.h5", scratch + "/text"
    with open(text, "w") as f:
        f.write("In the beginning God created the heaven and the earth. " * 4)
    paths = {s: "%s/step-%06d.h5" % (folder, s) for s in (100, 1000, 3000, 4500)}
    plain = track(folder, "--no-store", "--changes", "none")[0]
    check(track(folder, "-o", store, "--changes", "none")[0] == plain, "nothing of forward yet")
    first = truth_of(paths[100], 100, text, store)
    check(len(first) == 1 + 2 * len(LAYER_NAMES), "every statistic and layer")
    check(stored(store, folder) == first, "track shows what forward says")
    other = truth_of(paths[100], 100, text, store, "--max-tokens", "60")
    check(other != first and stored(store, folder) == other, "a later call replaces it")
    both = {**other, **truth_of(paths[1000], 1000, text, store)}
    check(stored(store, folder) == both, "a second checkpoint")
    check("computed 0 of 4" in track(folder, "-o", store, "--changes", "none")[1],
          "spectra are still there")
    draw = random.Random(2)
    started = time.monotonic()
    truth_of(paths[1000], 1000, text, store)
    whole = time.monotonic() - started
    for i in range(8):  # at any moment: the old or the new, and nothing else is lost
        length = ("--max-tokens", "60") if i % 2 else ()
        new = truth_of(paths[100], 100, text, scratch + "/aside.spectra.h5", *length)
        p = subprocess.Popen(forward(paths[100], text, store, *length),
                             stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        time.sleep(whole * draw.uniform(0.3, 1))
        with open("/proc/%d/task/%d/children" % (p.pid, p.pid)) as f:
            children = f.read().split()
        try:
            os.kill(int(children[0]) if children else p.pid, signal.SIGKILL)
        except ProcessLookupError:
            pass
        p.wait()
        got = stored(store, folder)
        check(got in (both, {**both, **new}), "after a kill")
        both = got
    two = [subprocess.Popen(forward(paths[s], text, store), stdout=subprocess.DEVNULL)
           for s in (3000, 4500)]
    check([p.wait() for p in two] == [0, 0], "two at once")
    for s in (3000, 4500):
        both.update(truth_of(paths[s], s, text, scratch + "/aside.spectra.h5"))
    check(stored(store, folder) == both, "both have kept their results")
    check("computed 0 of 4" in track(folder, "-o", store, "--changes", "none")[1],
          "spectra are still there")
    check(not left_over(scratch), "no temporary file is left")
    with open(store, "r+b") as f:  # damaged: nothing of it is believed
        f.seek(4000)
        f.write(b"damaged")
    check(stored(store, folder) == {}, "a damaged store")
    check(truth_of(paths[100], 100, text, store) == stored(store, folder), "made anew")


def left_over(folder):
    return [n for n in os.listdir(folder) if n.endswith(".tmp")]


def check_kills(folder, scratch, truth):
    """SIGKILL at moments spread over the whole call, to the program or to its child."""
    store = scratch + "/killed.spectra.h5"
    started = time.monotonic()
    track(folder, "-o", scratch + "/timing.spectra.h5")
    whole = time.monotonic() - started
    draw = random.Random(1)
    for i in range(14):
        if i % 4 == 0 and os.path.exists(store):
            os.unlink(store)
        p = subprocess.Popen([MUONSPEC, "track", "--format", "json", "-o", store, folder],
                             stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        time.sleep(whole * draw.random())
        victim = p.pid
        if i % 2:  # the child that does the work
            with open("/proc/%d/task/%d/children" % (p.pid, p.pid)) as f:
                children = f.read().split()
            victim = int(children[0]) if children else p.pid
        try:
            os.kill(victim, signal.SIGKILL)
        except ProcessLookupError:
            pass
        p.wait()
        if i % 3 == 2:
            check(track(folder, "-o", store)[0] == truth, "result after a kill")
    out, messages = track(folder, "-o", store)
    check(out == truth, "result after all kills")
    check("computed 0 of 8" in track(folder, "-o", store)[1], "nothing is left to compute")
    check(not left_over(scratch), "no temporary file is left")


def check_two_at_once(folder, scratch, truth):
    for i in range(3):
        store = "%s/both%d.spectra.h5" % (scratch, i)
        both = [subprocess.Popen([MUONSPEC, "track", "--format", "json", "-o", store, folder],
                                 stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
                for _ in range(2)]
        for p in both:
            check(p.communicate()[0] == truth and p.returncode == 0, "two at once")
        check("computed 0 of 8" in track(folder, "-o", store)[1], "both have kept their results")
    check(not left_over(scratch), "no temporary file is left")


def check_watch(scratch, run):
    """Checkpoints that come while it watches, one of them half-written at first."""
    folder = scratch + "/watched"
    os.mkdir(folder)

    def copy(step, part=1.0):
        with open("%s/a/step-%d.h5" % (scratch, step), "rb") as f:
            data = f.read()
        with open("%s/step-%d.h5" % (folder, step), "wb") as f:
            f.write(data[:int(part * len(data))])
    p = subprocess.Popen([MUONSPEC, "track", "--watch", "--interval", "0.1", "--idle", "2",
                          "--no-store", "--format", "csv", folder],
                         stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    copy(10)
    copy(20)
    time.sleep(0.7)
    copy(40, 0.5)
    time.sleep(0.4)
    copy(40)
    lines = p.communicate()[0].splitlines()
    check(p.returncode == 0, "watch ends well")
    seen = [l.split(",")[3] for l in lines if l.startswith("(model),,rms,")]
    check(seen == ["10", "20", "40"], "every step once: %s" % seen)


def check_crashes(scratch, truth):
    """A file on which libhdf5 crashes is set aside, whichever call it is in, and costs no result."""
    hostile = [os.path.join(os.environ.get("MUONSPEC_TEST_DATA", ""), "odd/cve", name)
               for name in ("cve-2018-13871.h5", "cve-2019-9152.h5")]
    if not all(map(os.path.exists, hostile)):
        print("runs_numpy: no test data, crashes of libhdf5 are not tested")
        return
    folder = scratch + "/hostile"
    shutil.copytree(scratch + "/a", folder)
    for i, path in enumerate(hostile):
        shutil.copy(path, "%s/step-%d.h5" % (folder, 25 + i))
    out, messages = track(folder, "--no-store")
    report = json.loads(out)
    aside = {os.path.basename(s["path"]): s["reason"] for s in report["set_aside"]}
    check(list(aside) == ["step-25.h5", "step-26.h5"], "both are set aside: %s" % aside)
    check(all("the library that reads it crashed" in reason for reason in aside.values()),
          "and why: %s" % aside)
    check(report["series"] == json.loads(truth)["series"], "the others are tracked")
    strict = subprocess.run([MUONSPEC, "track", "--strict", "--no-store", folder],
                            capture_output=True, text=True)
    check(strict.returncode == 3 and strict.stderr.count("\n") == 1 and
          "step-25.h5: malformed" in strict.stderr, "strictly: %s" % strict.stderr)
    for verb in (["compare", scratch + "/a"], ["risk", "-q"]):
        run = subprocess.run([MUONSPEC, *verb, "--format", "json", folder], capture_output=True,
                             text=True)
        check(run.returncode == 0, "%s: %s" % (verb[0], run.stderr))


def main():
    with tempfile.TemporaryDirectory() as scratch:
        runs = [make_run(scratch + "/a", 1), make_run(scratch + "/b", 2, 1.5)]
        check_numbers(scratch + "/a", runs[0])
        check_compare(scratch + "/a", scratch + "/b", runs)
        check_outputs(os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "notebooks-data",
                                   "weight-decay", "checkpoints", "muon-none"))
        truth = track(scratch + "/a", "--no-store")[0]
        check(track(scratch + "/a", "--no-store", "--threads", "1")[0].replace(
            '"threads": 1', '"threads": %d' % json.loads(truth)["tool"]["threads"]) == truth,
            "the same with one thread")
        check_kills(scratch + "/a", scratch, truth)
        check_two_at_once(scratch + "/a", scratch, truth)
        check_crashes(scratch, truth)
        check_watch(scratch, runs[0])
        check_forward(os.path.join(os.path.dirname(os.path.abspath(__file__)), "..",
                                   "notebooks-data", "weight-decay", "checkpoints", "muon-none"),
                      scratch)
    print("runs_numpy: %d checks of track, compare and forward --store passed" % checks)


main()
