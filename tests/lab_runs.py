#!/usr/bin/python3
"""muonlab: plans run by a stand-in for muontrain that does what its command line says, plans that are
wrong, interrupts, failures; then a plan of real trainings when muontrain is there.

usage: lab_runs.py MUONLAB [MUONTRAIN]

The stand-in writes a log whose figures are set by the options, so that every result is known."""
import csv
import fcntl
import json
import os
import pty
import shutil
import signal
import subprocess
import sys
import tempfile
import termios
import time

MUONLAB = os.path.abspath(sys.argv[1])
MUONTRAIN = os.path.abspath(sys.argv[2]) if len(sys.argv) > 2 else ""
EXAMPLE = os.path.join(os.path.dirname(os.path.abspath(__file__)), "../notebooks-data/example")

STAND_IN = r'''#!/usr/bin/python3
import os, shutil, signal, sys, time
o, name = {}, None
for word in sys.argv[1:]:
    if word.startswith("--"):
        name = word[2:]
        o[name] = True
    else:
        o[name] = word
out = o["out"]
with open(os.path.join(out, "calls"), "a") as calls:
    calls.write(" ".join(sys.argv[1:]) + "\n")
lr = float(o.get("lr", 1))
if lr == 99:
    sys.stderr.write('muontrain: the loss is NaN, "inf" before, at step 3\n')
    sys.exit(4)
if lr == 98 and not os.path.exists("mended"):
    sys.stderr.write("muontrain: no \x1b[31msuch corpus\n")
    sys.exit(3)
if "resume" in o and os.path.exists("other version"):
    sys.stderr.write("muontrain: the run was started with another version\n")
    sys.exit(2)
if lr == 96 and not os.path.exists("mended"):
    sys.stderr.write("muontrain: no such file\n\n" + 60 * "-" + "\nmpirun noticed that\n" + 60 * "-" + "\n")
    sys.exit(3)
if lr == 95 and not os.path.exists("mended"):
    print("there is no room for 9 ranks\n" + 60 * "-" + "\n")
    sys.exit(1)
if lr == 97 and not os.path.exists("mended"):
    os.kill(os.getpid(), signal.SIGKILL)
def stop(*_):
    shutil.copy(os.path.join(EXAMPLE, "step-000100.h5"), out)
    sys.exit(130)
signal.signal(signal.SIGTERM, stop)
signal.signal(signal.SIGINT, stop)
if os.path.exists("slow") and "resume" not in o:
    time.sleep(60)
steps = int(o.get("steps", 20))
with open(os.path.join(out, "log.csv"), "w") as log:
    log.write("step,tokens,lr,loss,held_out_loss\n")
    for i in range(steps):
        loss = lr + 0.001 * int(o.get("seed", 0)) + (o.get("warmup") == o.get("seed", 0))
        last = "%g" % loss if i == steps - 1 else ""
        log.write("%d,%d,%g,%g,%s\n" % (i + 1, 100 * (i + 1), lr / 10, 5 - lr / 100, last))
for step in ("000000", "000100"):
    shutil.copy(os.path.join(EXAMPLE, "step-%s.h5" % step), out)
'''

failures = 0


def check(good, what):
    global failures
    if not good:
        failures += 1
        print("FAILED", what)


class Bench:
    """A folder with a plan and the stand-in."""

    def __init__(self, folder, plan):
        self.folder = folder
        os.makedirs(os.path.join(folder, "exp"))
        self.put(plan)
        with open(os.path.join(folder, "stand-in"), "w") as f:
            f.write(STAND_IN.replace("EXAMPLE", repr(EXAMPLE)))
        os.chmod(os.path.join(folder, "stand-in"), 0o755)

    def put(self, plan):
        with open(os.path.join(self.folder, "exp/plan.json"), "w") as f:
            f.write(plan if isinstance(plan, str) else json.dumps(plan))

    def command(self, *more):
        return [MUONLAB, "run", "exp/plan.json", "--muontrain", "./stand-in", "--runs", "runs"] + \
            list(more)

    def run(self, *more):
        return subprocess.run(self.command(*more), cwd=self.folder, stdin=subprocess.DEVNULL,
                              capture_output=True, text=True, timeout=60)

    def fit(self, *more, folder="exp"):
        return subprocess.run([MUONLAB, "fit", folder] + list(more), cwd=self.folder,
                              capture_output=True, text=True, timeout=60)

    def rows(self, name="runs", folder="exp"):
        with open(os.path.join(self.folder, folder, name + ".csv"), newline="") as f:
            return list(csv.DictReader(f))

    def calls(self, run):
        path = os.path.join(self.folder, "runs/try", run, "calls")
        return open(path).read().splitlines() if os.path.exists(path) else []

    def touch(self, name, there=True):
        path = os.path.join(self.folder, name)
        open(path, "w").close() if there else os.unlink(path)


PLAN = {
    "experiment": "try", "title": "A try",
    "options": {"model": "llama-tiny", "steps": 20},
    "scale": {"steps": {"power": 1, "multiple": 10}},
    "stages": [
        {"name": "tune", "axes": [{"name": "optimizer", "values": ["muon", "adamw"]},
                                  {"name": "lr", "values": [0.2, 0.1, 99]}]},
        {"name": "main",
         "axes": [{"name": "method", "values": [
             {"label": "muon", "options": {"optimizer": "muon"}},
             {"label": "adamw", "options": {"optimizer": "adamw", "no-nesterov": True}}]},
             {"name": "seed", "values": [1, 2, 3, 4]}],
         "best": {"stage": "tune", "option": "lr", "match": {"optimizer": "method"}},
         "except": [{"method": "muon", "seed": "4"}, {"method": "adamw", "seed": "4"}],
         "spectra": ["rms", "svd_entropy"]},
        {"name": "more", "axes": [{"name": "method", "values": [{"label": "muon"}]}],
         "options": {"lr": 0.7}, "start": {"stage": "main", "match": ["method"]}}],
    "fits": [
        {"kind": "final", "stage": "main", "by": ["method"], "columns": ["held_out_loss"]},
        {"kind": "difference", "stage": "main", "axis": "method", "a": "muon", "b": "adamw",
         "columns": ["held_out_loss"]},
        {"kind": "equal", "stage": "main", "by": []},
        {"kind": "curve", "stage": "main", "by": ["method"], "columns": ["loss"]},
        {"kind": "growth", "stage": "main", "by": [], "metrics": ["rms"], "groups": ["Dense"]},
        {"kind": "spectra", "stage": "main", "by": [], "metrics": ["rms"], "groups": ["Dense"]},
        {"kind": "share_higher", "stage": "main", "axis": "method", "a": "muon", "b": "adamw"},
        {"kind": "scaling_law", "stage": "main", "axis": "method", "a": "muon", "b": "adamw"}]}


def number(rows, fit, item, quantity, column="value"):
    for row in rows:
        if (row["fit"], row["item"], row["quantity"]) == (fit, item, quantity):
            return float(row[column])
    return None


def test_whole(bench):
    listed = bench.run("--list")
    check(listed.returncode == 0 and "13 to do" in listed.stdout, "list")
    result = bench.run("--jobs", "2")
    check(result.returncode == 0, "run: %s" % result.stderr)
    check("13 of 13 runs are done" in result.stdout, "summary: %s" % result.stdout)
    check("tune/muon-99: diverged: exit status 4: muontrain: the loss is NaN, \"inf\" before" in result.stderr,
          "a diverged run is named")
    rows = {row["run"]: row for row in bench.rows()}
    check([r["run"] for r in bench.rows()][:3] == ["tune/muon-0.2", "tune/muon-0.1", "tune/muon-99"],
          "rows in the plan's order")
    check(rows["tune/muon-99"]["status"] == "diverged", "status diverged")
    check(rows["tune/muon-99"]["message"] ==
          'exit status 4: muontrain: the loss is NaN, "inf" before, at step 3', "its message")
    check(rows["main/muon-2"]["lr"] == "0.1", "the best lr is taken: %s" % rows["main/muon-2"])
    check(rows["main/adamw-1"]["settings"] ==
          "lr=0.1 model=llama-tiny no-nesterov optimizer=adamw seed=1 steps=20", "settings")
    check(rows["main/muon-3"]["held_out_loss"] == "0.103", "held-out loss")
    check(rows["main/muon-3"]["train_loss"] == "4.999", "training loss")
    check(rows["main/muon-3"]["active_parameters"] == "331776", "parameters")
    check(float(rows["main/muon-3"]["compute"]) == 6.0 * 331776 * 2000, "compute")
    check("--init-from runs/try/main/muon-1/step-000100.h5" in rows["more/muon"]["command"] and
          "--no-nesterov --optimizer" in rows["main/adamw-1"]["command"], "commands")
    check(len(bench.rows("spectra")) == 6 * 2 * 23, "spectra of every matrix and checkpoint")
    check(len(bench.rows("curves")) > 5 * 20, "curves")
    again = bench.run()
    check(again.returncode == 0 and all(len(bench.calls(r)) == 1 for r in rows),
          "what is done is skipped")


def test_mean_over_seeds(bench):
    bench.put({"experiment": "try", "stages": [
        {"name": "tune", "axes": [
            {"name": "lr", "values": [{"label": "low", "options": {"lr": 0.05, "warmup": 2}},
                                      {"label": "high", "options": {"lr": 0.1}}]},
            {"name": "seed", "values": [1, 2]}]},
        {"name": "main", "axes": [{"name": "seed", "values": [3]}],
         "best": {"stage": "tune", "option": "lr", "match": []}}]})
    check(bench.run().returncode == 0, "a plan that tunes with two seeds")
    losses = {r["run"]: r["held_out_loss"] for r in bench.rows()}
    check(losses["tune/low-1"] == "0.051" and losses["tune/low-2"] == "1.052",
          "one seed is best, the other bad: %s" % losses)
    check(losses["main/3"] == "0.103",
          "the least mean counts: %s" % losses)


def test_hdf5(bench):
    try:
        import h5py
    except ImportError:
        print("lab_runs: results.h5 is not checked: no python3-h5py")
        return
    with h5py.File(os.path.join(bench.folder, "exp/results.h5")) as f:
        rows = bench.rows()
        check(f.attrs["schema"] == "muonlab/results/1", "schema")
        check([n.decode() for n in f["runs/run"]] == [r["run"] for r in rows], "names in HDF5")
        for i, row in enumerate(rows):
            value = f["runs/held_out_loss"][i]
            cell = row["held_out_loss"]
            check(value == float(cell) if cell else value != value, "numbers in HDF5")
        check(len(f["spectra/rms"]) == len(bench.rows("spectra")), "spectra in HDF5")


def test_fit(bench):
    result = bench.fit()
    check(result.returncode == 0 and "A try: 13 of 13 runs are done" in result.stdout,
          "fit: %s" % result.stderr)
    rows = bench.rows("fit")
    half = 4.302652729911275 * 0.001 / 3 ** 0.5
    for method in ("muon", "adamw"):
        check(number(rows, "final", method, "held_out_loss") == 0.102, "mean of three seeds")
        check(abs(number(rows, "final", method, "held_out_loss", "high") - 0.102 - half) < 1e-6,
              "t interval")
    check(number(rows, "difference", "muon-minus-adamw", "held_out_loss") == 0, "difference")
    check(number(rows, "difference", "muon-minus-adamw", "held_out_loss", "count") == 3, "pairs")
    check(number(rows, "equal", "all", "runs equal to the first") == 6, "equal digests")
    check(number(rows, "share_higher", "all/all", "share higher") == 0, "share of ties")
    check(number(rows, "share_higher", "all/AttnQO", "share higher", "count") == 18, "matrices")
    rms = [float(r["rms"]) for r in bench.rows("spectra") if r["run"] == "main/muon-1" and
           r["step"] == "100" and r["group"] == "Dense"]
    check(abs(number(rows, "spectra", "all/Dense", "rms") - sum(rms) / len(rms)) < 1e-6, "mean rms")
    check("# muon/loss\n1 4.999 4.999 4.999\n" in
          open(os.path.join(bench.folder, "exp/figures.dat")).read(), "figures")
    check(bench.fit(folder="nowhere").returncode == 3, "fit of no folder")
    report = subprocess.run([MUONLAB, "fit", "--report"], capture_output=True, text=True)
    for line in ("1.000    2.5060    2.6080   0.464", "4.050    2.3302    2.4183   0.490",
                 "18.100    2.1557    2.2305   0.519"):
        check(line in report.stdout, "the report's ratio: %s" % line)


def test_law(bench):
    """A scaling law against NumPy's fit, over results that are written down and not run."""
    try:
        import numpy as np
    except ImportError:
        print("lab_runs: the scaling law is not checked: no python3-numpy")
        return
    compute = np.array([1e12, 4e12, 1.6e13, 6.4e13] * 2)
    noise = {"muon": np.array([1, -2, 0, 1.5, -1, 1, 2, -1.2]) / 100,
             "adamw": np.array([-1, 1, 2, -1.5, 0, -1, 1, 1.2]) / 100}
    loss = {"muon": 8 * compute ** -0.05 * (1 + noise["muon"]),
            "adamw": 9 * compute ** -0.052 * (1 + noise["adamw"])}
    bench.put({"experiment": "try", "stages": [{"name": "a", "axes": [
        {"name": "optimizer", "values": ["muon", "adamw"]},
        {"name": "seed", "values": list(range(8))}]}],
        "fits": [{"kind": "scaling_law", "stage": "a", "axis": "optimizer", "a": "muon",
                  "b": "adamw"}]})
    with open(os.path.join(bench.folder, "exp/runs.csv"), "w") as f:
        f.write("run,status,settings,held_out_loss,compute\n")
        for name in loss:
            for i in range(8):
                f.write("a/%s-%d,ok,optimizer=%s seed=%d,%.17g,%.17g\n" %
                        (name, i, name, i, loss[name][i], compute[i]))
    result = bench.fit()
    check(result.returncode == 0 and "16 of 16" in result.stdout, "law: %s" % result.stderr)
    rows, laws, t6 = bench.rows("fit"), {}, 2.4469118511449692
    for name in loss:
        laws[name], covariance = np.polyfit(np.log(compute), np.log(loss[name]), 1, cov=True)
        slope, error = laws[name][0], covariance[0, 0] ** 0.5
        for column, expected in (("value", slope), ("low", slope - t6 * error),
                                 ("high", slope + t6 * error)):
            found = number(rows, "scaling_law", name, "exponent", column)
            check(abs(found / expected - 1) < 1e-5, "exponent of %s: %s" % (name, found))
        scale = number(rows, "scaling_law", name, "scale")
        check(abs(scale / np.exp(laws[name][1]) - 1) < 1e-5, "scale of %s" % name)
    target = laws["adamw"][0] * np.log(8e12) + laws["adamw"][1]
    ratio = np.exp((target - laws["muon"][1]) / laws["muon"][0]) / 8e12
    found = number(rows, "scaling_law", "muon-over-adamw", "compute ratio at 8e+12 flops")
    check(found and abs(found / ratio - 1) < 1e-5, "compute ratio: %s, %s" % (found, ratio))


def test_changes(bench):
    """Another seed's setting reruns that run alone; larger scales go elsewhere; a checkpoint that is
    needed and gone is made again."""
    plan = json.loads(json.dumps(PLAN))
    plan["stages"][2]["options"]["lr"] = 0.8
    bench.put(plan)
    calls = len(bench.calls("main/muon-1"))
    for name in os.listdir(os.path.join(bench.folder, "runs/try/main/muon-1")):
        if name != "calls":
            os.unlink(os.path.join(bench.folder, "runs/try/main/muon-1", name))
    result = bench.run()
    rows = {row["run"]: row for row in bench.rows()}
    check(result.returncode == 0 and rows["more/muon"]["lr"] == "0.8" and len(rows) == 13,
          "a changed run replaces its row")
    check(len(bench.calls("main/muon-1")) == calls + 1 and len(bench.calls("main/muon-2")) == 1,
          "a checkpoint that is gone is made again, nothing else")
    scaled = bench.run("--scale", "2.3", "--only", "tune/adamw-0.1")
    check(scaled.returncode == 0 and "--steps 50" in
          bench.rows(folder="exp/scale-2.3")[0]["command"], "scale: %s" % scaled.stderr)
    fitted = bench.fit(folder="exp/scale-2.3")
    check("1 of 13 runs are done" in fitted.stdout, "fit of a scaled plan: %s" % fitted.stderr)


def test_failures(bench):
    plan = {"experiment": "try", "stages": [
        {"name": "a", "axes": [{"name": "lr", "values": [98, 97, 96, 95, 1]}]},
        {"name": "b", "axes": [{"name": "lr", "values": [98, 1]}],
         "start": {"stage": "a", "match": ["lr"]}}]}
    bench.put(plan)
    result = bench.run("--jobs", "1")
    rows = {row["run"]: row for row in bench.rows()}
    check(result.returncode == 3, "the exit status is the first failed run's")
    check("a/98: failed: exit status 3: muontrain: no \\x1b[31msuch corpus" in result.stderr and
          "a/97: failed: killed by signal 9" in result.stderr, "failures: %s" % result.stderr)
    check("b/98: not run" in result.stderr and "2 of 7 runs are done" in result.stdout,
          "what needs them: %s" % result.stdout)
    check(rows["a/96"]["message"] == "exit status 3: muontrain: no such file" and
          rows["a/95"]["message"] == "exit status 1: there is no room for 9 ranks",
          "what the launcher adds is left out: %s" % rows["a/96"]["message"])
    check(rows["a/98"]["status"] == rows["a/97"]["status"] == "failed" and
          rows["a/1"]["status"] == rows["b/1"]["status"] == "ok", "the others are done")
    bench.touch("mended")
    result = bench.run()
    check(result.returncode == 0 and "7 of 7 runs are done" in result.stdout,
          "failed runs are tried again: %s" % result.stderr)
    check(len(bench.rows()) == 7 and len(bench.calls("a/1")) == 1, "and only those")


def test_other_version(bench):
    """A checkpoint that muontrain refuses to go on from does not stop its run for ever."""
    bench.put({"experiment": "try", "stages": [{"name": "a", "options": {"lr": 3}}]})
    check(bench.run().returncode == 0, "a run")
    os.unlink(os.path.join(bench.folder, "exp/runs.csv"))
    bench.touch("other version")
    result = bench.run()
    check(result.returncode == 0 and "a: begins anew, for it can't go on: muontrain: the run was "
          "started with another version" in result.stderr, "begins anew: %s" % result.stderr)
    check([("--resume" in call) for call in bench.calls("a")] == [False, True, False],
          "resumed in vain, then begun: %s" % bench.calls("a"))


def test_corpora(bench):
    """A corpus is the files that match, in order, at most so many bytes."""
    os.makedirs(os.path.join(bench.folder, "texts", "a-folder.txt"))
    for name, text in (("b.txt", "second"), ("a.txt", "first "), ("c.doc", "not")):
        with open(os.path.join(bench.folder, "texts", name), "w") as f:
            f.write(text)
    bench.put({"experiment": "try", "corpora": {
        "all": {"files": "texts/*.txt", "bytes": 100}, "cut": {"files": "texts/*", "bytes": 8}},
        "stages": [{"name": "a", "options": {"corpus": "@cut"}}]})
    check(bench.run().returncode == 0, "a plan with corpora")
    check("--corpus runs/try/corpora/cut.corpus" in bench.calls("a")[0], "its path")
    for name, text in (("all", "first second"), ("cut", "first se")):
        path = os.path.join(bench.folder, "runs/try/corpora", name + ".corpus")
        check(open(path).read() == text, "corpus %s" % name)
    os.unlink(os.path.join(bench.folder, "exp/runs.csv"))
    bench.put({"experiment": "try", "corpora": {"cut": {"files": "texts/a-*", "bytes": 8}},
               "stages": [{"name": "a"}]})
    result = bench.run()
    check(result.returncode == 3 and "no file with text" in result.stderr, "a corpus of nothing")


def wait_for(condition, what):
    until = time.time() + 20
    while not condition():
        if time.time() > until:
            check(False, what)
            return
        time.sleep(0.02)


def start_on_terminal(command, folder):
    """As an interactive shell does: it leads the terminal's foreground group."""
    master, slave = pty.openpty()

    def take_terminal():
        os.setsid()
        fcntl.ioctl(0, termios.TIOCSCTTY, 0)
    process = subprocess.Popen(command, cwd=folder, stdin=slave, stdout=subprocess.PIPE,
                               stderr=subprocess.PIPE, text=True, preexec_fn=take_terminal)
    os.close(slave)
    return process, master


def test_ctrl_c(bench):
    """Ctrl-C reaches muonlab, which ends the trainings in order."""
    bench.put({"experiment": "try", "stages": [{"name": "a"}]})
    bench.touch("slow")
    process, terminal = start_on_terminal(bench.command(), bench.folder)
    wait_for(lambda: bench.calls("a"), "a training starts")
    time.sleep(0.2)  # the stand-in sets its handler
    os.write(terminal, b"\x03")
    _, errors = process.communicate(timeout=30)
    os.close(terminal)
    check(process.returncode == -signal.SIGINT and "0 of 1 runs are done" in errors,
          "Ctrl-C: %s %s" % (process.returncode, errors))
    check(os.path.exists(os.path.join(bench.folder, "runs/try/a/step-000100.h5")),
          "Ctrl-C: the training ends cleanly")


def test_background(bench):
    """A shell without job control starts `muonlab &` with SIGINT ignored: it stays so, and SIGTERM
    ends it."""
    bench.put({"experiment": "try", "stages": [{"name": "a"}]})
    bench.touch("slow")
    process = subprocess.Popen(bench.command(), cwd=bench.folder, stdin=subprocess.DEVNULL,
                               stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
                               preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_IGN))
    wait_for(lambda: bench.calls("a"), "a training starts")
    time.sleep(0.2)
    process.send_signal(signal.SIGINT)
    time.sleep(0.5)
    check(process.poll() is None, "in the background: SIGINT is not for it")
    process.send_signal(signal.SIGTERM)
    process.communicate(timeout=30)
    check(process.returncode == -signal.SIGTERM, "in the background: SIGTERM is")
    check(os.path.exists(os.path.join(bench.folder, "runs/try/a/step-000100.h5")),
          "in the background: the training ends cleanly")


def test_only(bench):
    """Several globs add up."""
    bench.put({"experiment": "try", "stages": [
        {"name": "a", "axes": [{"name": "lr", "values": [1, 2, 3, 4]}]}]})
    result = bench.run("--only", "a/1", "--only", "*[34]")
    check(result.returncode == 0 and [r["run"] for r in bench.rows()] == ["a/1", "a/3", "a/4"],
          "--only twice: %s" % result.stdout)


def test_interrupt(bench, how):
    plan = {"experiment": "try", "stages": [
        {"name": "a", "axes": [{"name": "seed", "values": [1, 2, 3]}]}]}
    bench.put(plan)
    bench.touch("slow")
    process = subprocess.Popen(bench.command("--jobs", "2"), cwd=bench.folder,
                               stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                               stderr=subprocess.PIPE, text=True)
    wait_for(lambda: bench.calls("a/1") and bench.calls("a/2"), "two trainings start")
    other = bench.run()
    check(other.returncode == 3 and "process %d is running these" % process.pid in other.stderr,
          "one muonlab at a time: %s" % other.stderr)
    time.sleep(0.2)  # the stand-in sets its handler
    process.send_signal(how)
    _, errors = process.communicate(timeout=30)
    check(process.returncode == -how, "ends by the signal: %s" % process.returncode)
    left = os.path.join(bench.folder, "runs/try/a/1/step-000100.h5")
    if how == signal.SIGKILL:
        wait_for(lambda: os.path.exists(left), "children end when their parent is killed")
        time.sleep(0.2)
    else:
        check("interrupted; 0 of 3 runs are done" in errors, "says so: %s" % errors)
    check(os.path.exists(left), "the children end cleanly")
    check(not os.path.exists(os.path.join(bench.folder, "exp/runs.csv")) and
          not bench.calls("a/3"), "no result of an interrupted run")
    bench.touch("slow", False)
    result = bench.run()
    check(result.returncode == 0 and "3 of 3 runs are done" in result.stdout,
          "goes on: %s" % result.stderr)
    check(bench.calls("a/1")[1:] == ["--threads 1 --out runs/try/a/1 --resume"],
          "the interrupted run is resumed: %s" % bench.calls("a/1"))


BAD = [
    ("", 3, "line 1"),
    ("{", 3, "line 1"),
    ('{"experiment": "a", "experiment": "a"}', 3, "duplicate"),
    ("[]", 2, "a plan must be an object"),
    ('{"stages": []}', 2, "experiment must be a word"),
    ('{"experiment": "../a", "stages": []}', 2, "experiment must be a word"),
    ('{"experiment": "a"}', 2, "stages must be a list"),
    ('{"experiment": "a", "stage": []}', 2, "stage is not a key"),
    ('{"experiment": "a", "stages": [{"name": "a", "axis": []}]}', 2, "axis is not a key"),
    ('{"experiment": "a", "stages": [{"name": "a"}, {"name": "a"}]}', 2, "that of another stage"),
    ('{"experiment": "a", "stages": [{"name": "a", "axes": [{"name": "lr", "values": []}]}]}', 2,
     "stage 'a': lr must have a list"),
    ('{"experiment": "a", "stages": [{"name": "a", "axes": [{"name": "lr", "values": [1, 1]}]}]}',
     2, "same label twice"),
    ('{"experiment": "a", "stages": [{"name": "a", "options": {"lr": []}}]}', 2,
     "lr must be a number, a string or true"),
    ('{"experiment": "a", "stages": [{"name": "a", "best": {"stage": "b", "option": "lr"}}]}', 2,
     "best must refer to an earlier stage"),
    ('{"experiment": "a", "stages": [{"name": "a", "axes": [{"name": "lr", "values": [1]}], "except": '
     '[{"lr": "2"}]}]}', 2, "lr of except: no such axis or label"),
    ('{"experiment": "a", "stages": [{"name": "b"}, {"name": "a", "start": {"stage": "b", "match": '
     '["lr"]}}]}', 2, "no such axis"),
    ('{"experiment": "a", "stages": [{"name": "a", "axes": [{"name": "x", "values": '
     '[{"label": "p-q"}, {"label": "p"}]}, {"name": "y", "values": [{"label": "r"}, '
     '{"label": "q-r"}]}]}]}', 2, "two runs are called a/p-q-r"),
    ('{"experiment": "a", "stages": [{"name": "a"}], "corpora": {"x": {"files": "/no/such/*", '
     '"bytes": 5}}}', 3, "corpus x: no such file"),
    ('{"experiment": "a", "stages": [{"name": "a", "options": {"\\u001b[1m": 1}}]}', 2,
     "\\x1b[1m is not the name of an option"),
    ('{"experiment": "a", "stages": [' + ",".join(
        '{"name": "s%d", "axes": [{"name": "seed", "values": [%s]}, {"name": "x", "values": [%s]}]}'
        % (i, ",".join(map(str, range(200))), ",".join(map(str, range(200)))) for i in range(2))
     + "]}", 2, "more than 10000 runs"),
]


def test_bad_plans(bench):
    for plan, status, message in BAD:
        bench.put(plan)
        result = bench.run()
        lines = result.stderr.splitlines()
        check(result.returncode == status and len(lines) == 1 and message in lines[0] and
              not result.stdout, "%s: %d %s" % (plan[:80], result.returncode, result.stderr))
    bench.put({"experiment": "a", "stages": [{"name": "a"}]})
    for arguments, message in ((["--scale", "2"], "one size only"), (["--jobs", "0"], "from 1"),
                               (["--job"], "needs a value"), (["--onyl", "x"], "--only")):
        result = bench.run(*arguments)
        check(result.returncode == 2 and message in result.stderr, "%s: %s" % (arguments, result))
    missing = subprocess.run([MUONLAB, "run", "nowhere.json"], capture_output=True, text=True)
    check(missing.returncode == 3 and len(missing.stderr.splitlines()) == 1, "no plan")
    absent = subprocess.run(bench.command()[:3] + ["--muontrain", "./absent", "--runs", "runs"],
                            cwd=bench.folder, capture_output=True, text=True)
    check(absent.returncode == 3 and "./absent: can't be started: No such file" in absent.stderr,
          "no muontrain: %s" % absent.stderr)
    with open(os.path.join(bench.folder, "exp/runs.csv"), "w") as f:
        f.write('run,status\n"a,ok\n')
    result = bench.run()
    check(result.returncode == 3 and "a quoted cell does not end" in result.stderr,
          "damaged results are not overwritten")


def test_bad_fits(bench):
    for fit, message in (
            ({"kind": "nonsense", "stage": "a"}, "no such kind"),
            ({"kind": "final", "stage": "z"}, "no such stage"),
            ({"kind": "final"}, "'stage' must be a string"),
            ({"kind": "final", "stage": "a", "by": ["z"]}, "has no axis 'z'"),
            ({"kind": "final", "stage": "a", "columns": [1]}, "list of strings"),
            (7, "must be an object")):
        bench.put({"experiment": "try", "stages": [{"name": "a"}], "fits": [fit]})
        bench.run()
        result = bench.fit()
        check(result.returncode == 2 and message in result.stderr and
              len(result.stderr.splitlines()) == 1, "%s: %s" % (fit, result.stderr))


def has_ranks():
    """Is there mpirun, and was muontrain built with MPI?"""
    return bool(shutil.which("mpirun")) and not subprocess.run(
        ["mpirun", "--allow-run-as-root", "-n", "1", MUONTRAIN, "--version"],
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL).returncode


RANKS = [{"name": "c", "options": {"model": "llama-tiny", "layers": 1, "steps": 10},
          "axes": [{"name": "ranks", "values": [1, 2]}]}] if MUONTRAIN and has_ranks() else []


def test_real(bench):
    """Four trainings of seconds by muontrain, interrupted once; a fine-tuning on top."""
    corpus = os.path.join(bench.folder, "corpus.txt")
    with open(corpus, "w") as f:
        for i in range(4000):
            f.write("%d times %d is %d.\n" % (i % 89, i % 97, (i % 89) * (i % 97)))
    bench.put({"experiment": "real",
               "options": {"model": "llama-tiny", "layers": 1, "steps": 60, "batch": 4,
                           "length": 32, "corpus": corpus, "checkpoint-steps": "0,20,60",
                           "eval-windows": 4, "eval-every": 30},
               "stages": [
                   {"name": "a", "axes": [{"name": "optimizer", "values": ["muon", "adamw"]},
                                          {"name": "seed", "values": [1, 2]}],
                    "spectra": ["rms", "svd_entropy"]},
                   {"name": "b", "start": {"stage": "a", "match": ["optimizer"]},
                    "axes": [{"name": "optimizer", "values": [{"label": "muon"}]}]}] + RANKS,
               "fits": [{"kind": "share_higher", "stage": "a", "axis": "optimizer", "a": "muon",
                         "b": "adamw", "groups": ["AttnQO", "AttnKV", "Dense"]}] +
                       [{"kind": "equal", "stage": "c", "by": []}] * len(RANKS)})
    # without the model's sizes where the weights come from a checkpoint
    plan = json.load(open(os.path.join(bench.folder, "exp/plan.json")))
    sizes = {k: plan["options"].pop(k) for k in ("model", "layers")}
    plan["stages"][0]["options"] = sizes
    bench.put(plan)
    command = [MUONLAB, "run", "exp/plan.json", "--muontrain", MUONTRAIN, "--runs", "runs"]
    process = subprocess.Popen(command, cwd=bench.folder, stdout=subprocess.DEVNULL,
                               stderr=subprocess.PIPE, text=True)
    log = os.path.join(bench.folder, "runs/real/a/muon-1/log.csv")
    wait_for(lambda: os.path.exists(log) and open(log).read().count("\n") > 3, "training begins")
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=60)
    check("interrupted" in errors or process.returncode == 0, "interrupted: %s" % errors)
    result = subprocess.run(command, cwd=bench.folder, capture_output=True, text=True, timeout=120)
    check(result.returncode == 0 and "%d runs are done" % (5 + 2 * len(RANKS)) in
          result.stdout, "real runs: %s%s" % (result.stdout, result.stderr))
    if result.returncode:
        return
    rows = {row["run"]: row for row in bench.rows()}
    digests = {row["digest"] for row in rows.values()}
    check(len(digests) == 5 + len(RANKS), "five different models, and one that ranks share")
    check(all(float(r["held_out_loss"]) < 5.5 for r in rows.values()), "they learn")
    layers = [r for r in bench.rows("spectra") if r["matrix"] == "layer 0"]
    check(len(layers) == 4 * 3 and all(float(r["recorded_output_rms"]) > 0 for r in layers),
          "recorded activations: %s" % layers[:1])
    # the run that was interrupted is that of an undisturbed call
    fresh = Bench(os.path.join(bench.folder, "fresh"), plan)
    subprocess.run(command + ["--only", "a/muon-1"], cwd=fresh.folder, capture_output=True)
    check(fresh.rows()[0]["digest"] == rows["a/muon-1"]["digest"], "same bits when interrupted")
    for name in ("spectra", "curves"):
        def steps(b):
            return {row["step"] for row in b.rows(name) if row["run"] == "a/muon-1" and
                    row.get("held_out_loss") != ""}
        check(steps(fresh) == steps(bench) and len(steps(bench)) > 2,
              "same steps in %s when interrupted" % name)
    check(bench.fit().returncode == 0, "fit of real runs")
    if RANKS:
        wrong = Bench(os.path.join(bench.folder, "wrong"), {"experiment": "real", "stages": [
            {"name": "a", "options": {"ranks": 2, "model": "lama-tiny"}}]})
        subprocess.run(command, cwd=wrong.folder, capture_output=True)
        check("unknown model 'lama-tiny'" in wrong.rows()[0]["message"],
              "what a rank says: %s" % wrong.rows()[0]["message"])
        check(number(bench.rows("fit"), "equal", "all", "runs equal to the first") == 2,
              "one rank and two give the same bits")


def main():
    signal.signal(signal.SIGINT, signal.default_int_handler)  # also where it was ignored, as after &
    with tempfile.TemporaryDirectory() as top:
        def bench(name, plan=PLAN):
            return Bench(os.path.join(top, name), plan)
        whole = bench("whole")
        test_whole(whole)
        test_hdf5(whole)
        test_fit(whole)
        test_changes(whole)
        test_law(bench("law"))
        test_mean_over_seeds(bench("seeds"))
        test_failures(bench("failures"))
        test_other_version(bench("version"))
        test_corpora(bench("corpora"))
        for how in (signal.SIGINT, signal.SIGTERM, signal.SIGKILL):
            test_interrupt(bench("interrupt-%d" % how), how)
        test_ctrl_c(bench("ctrl-c"))
        test_background(bench("background"))
        test_only(bench("only"))
        test_bad_plans(bench("plans"))
        test_bad_fits(bench("fits"))
        if os.access(MUONTRAIN, os.X_OK):
            test_real(bench("real"))
        else:
            print("lab_runs: real trainings are skipped: no muontrain")
    print("lab_runs: %s" % ("%d checks failed" % failures if failures else "all as it should be"))
    sys.exit(1 if failures else 0)


if __name__ == "__main__":
    main()
