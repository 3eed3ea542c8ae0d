#!/usr/bin/python3
"""The notebook runs without a display, no cell fails or warns, and numbers that it shows are those of
the CSV files and of `muonspec analyze`, computed here without pandas. Skipped without Debian's
jupyter-nbconvert, python3-ipykernel, python3-pandas and python3-matplotlib.

usage: notebook.py MUONSPEC NOTEBOOK"""
import csv
import json
import os
import re
import statistics
import subprocess
import sys
import tempfile

try:
    import ipykernel  # noqa: F401
    import matplotlib  # noqa: F401
    import nbformat
    import pandas  # noqa: F401
    from nbclient.exceptions import CellExecutionError
    from nbconvert.preprocessors import ExecutePreprocessor
except ModuleNotFoundError as missing:
    print("notebook: skipped, no module %s (Debian: jupyter-nbconvert python3-ipykernel "
          "python3-pandas python3-matplotlib)" % missing.name)
    sys.exit(0)

MUONSPEC, NOTEBOOK = map(os.path.abspath, sys.argv[1:3])
DATA = os.path.dirname(NOTEBOOK)
ROOT = os.path.dirname(DATA)
MOST_BYTES = 600000
CHECKPOINT = "weight-decay/checkpoints/muon-decay/step-004500.h5"


def runs_of(experiment, stage):
    path = os.path.join(DATA, experiment, "runs.csv")
    if not os.path.exists(path):
        return []
    with open(path, newline="") as f:
        return [r for r in csv.DictReader(f) if r["stage"] == stage and r["status"] == "ok"]


def means(experiment, stage, axes, column):
    groups = {}
    for run in runs_of(experiment, stage):
        groups.setdefault(tuple(run[a] for a in axes), []).append(float(run[column]))
    return ["%.4f" % statistics.fmean(values) for values in groups.values()]


def entropies():
    done = subprocess.run([MUONSPEC, "analyze", os.path.join(DATA, CHECKPOINT), "--format", "json"],
                          check=True, capture_output=True, text=True)
    return [m["metrics"]["svd_entropy"] for m in json.loads(done.stdout)["matrices"]]


def shares():
    with open(os.path.join(DATA, "svd-entropy", "fit.csv"), newline="") as f:
        return ["%.0f%%" % (100 * float(r["value"])) for r in csv.DictReader(f)
                if r["fit"] == "share_higher" and r["quantity"] == "share higher"]


def execute(notebook):
    with tempfile.TemporaryDirectory() as settings:
        os.environ.update(MUONSPEC=MUONSPEC, IPYTHONDIR=settings, JUPYTER_RUNTIME_DIR=settings,
                          PYDEVD_DISABLE_FILE_VALIDATION="1")
        runner = ExecutePreprocessor(timeout=600, startup_timeout=600, kernel_name="python3",
                                     record_timing=False)
        try:
            runner.preprocess(notebook, {"metadata": {"path": ROOT}})
        except CellExecutionError as error:
            sys.exit("notebook: a cell failed\n%s" % error)


def outputs_of(notebook):
    return [o for cell in notebook.cells if cell.cell_type == "code" for o in cell.outputs]


def text_of(notebook):
    return "\n".join(o.data.get("text/plain", "") for o in outputs_of(notebook) if "data" in o)


def check_committed(notebook):
    size = os.path.getsize(NOTEBOOK)
    assert size < MOST_BYTES, "%d bytes" % size
    assert any("image/png" in o.get("data", {}) for o in outputs_of(notebook)), "saved without outputs"
    for cell in notebook.cells:
        assert "execution" not in cell.metadata, "times of execution are saved"
    assert not any(o.output_type == "error" for o in outputs_of(notebook)), "saved with an error"


def check_fresh(notebook):
    outputs = outputs_of(notebook)
    streams = [o.text for o in outputs if o.output_type == "stream"]
    assert not streams, "a cell prints or warns: %s" % streams
    figures = sum("image/png" in o.get("data", {}) for o in outputs)
    assert figures >= 4, "%d figures" % figures
    text = text_of(notebook)
    assert not re.search(r"object at 0x", text), "an address would differ in each run"
    expected = ["%.4f" % x for x in entropies()] + shares()
    for experiment, stage, axes, columns in (
            ("weight-decay", "main", ["optimizer", "decay"],
             ["held_out_loss", "train_loss", "weight_rms", "output_rms"]),
            ("update-rms", "sweep", ["update"], ["train_loss", "held_out_loss", "weight_rms"]),
            ("update-rms", "control", ["method"], ["train_loss", "held_out_loss", "weight_rms"]),
            ("scaling-law", "main", ["size", "optimizer"], ["held_out_loss"]),
            ("fine-tuning", "finetune", ["pretrain", "finetune"], ["held_out_loss"])):
        for column in columns:
            expected += means(experiment, stage, axes, column)
    missing = [x for x in expected if x not in text]
    assert not missing, "not shown: %s" % missing
    return len(expected), figures


def main():
    committed = nbformat.read(NOTEBOOK, as_version=4)
    check_committed(committed)
    fresh = nbformat.from_dict(json.loads(json.dumps(committed)))
    execute(fresh)
    numbers, figures = check_fresh(fresh)
    stale = "" if text_of(fresh) == text_of(committed) else \
        "; the outputs in the file are of other results, `make notebook` renews them"
    print("notebook: %d numbers and %d figures%s" % (numbers, figures, stale))


main()
