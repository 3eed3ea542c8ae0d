#!/usr/bin/python3
"""The Python of the README does what it says: the snippets that save checkpoints are run as they
stand there, and muonspec sees the matrices that went in, the right way round; the snippet that reads
spectra finds the singular values that NumPy computes.

PyTorch's is run with PyTorch if it is there. Keras and JAX are in no Debian package: in Keras' place
stands a writer of the layout of Keras 3, in that of JAX's arrays stand NumPy's.

usage: readme_snippets.py MUONSPEC README"""
import json
import os
import re
import subprocess
import sys
import tempfile

import h5py
import numpy as np

MUONSPEC, README = map(os.path.abspath, sys.argv[1:3])
SAVING, READING = "Saving checkpoints", "Reading the spectra in Python"
rng = np.random.default_rng(7)


def snippets(title):
    """The Python blocks of a section of the README."""
    with open(README, encoding="utf-8") as f:
        section = re.search(r"^(##+) %s\n(.*?)(?=^#{2,3} |\Z)" % re.escape(title), f.read(),
                            re.M | re.S)
    assert section, "the README has no section '%s'" % title
    return re.findall(r"^```python\n(.*?)^```", section.group(2), re.M | re.S)


def one(blocks, word):
    found = [b for b in blocks if word in b]
    assert len(found) == 1, "%d snippets have '%s'" % (len(found), word)
    return found[0]


def report(verb, path, *options):
    done = subprocess.run([MUONSPEC, verb, path, "--format", "json", *options], capture_output=True,
                          text=True)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def check(weights, step, dtypes=()):
    """The one file of this folder holds these matrices, [out, in], and no others."""
    path, = (name for name in os.listdir(".") if name.startswith("step-"))
    listed = report("ls", path)
    assert listed["checkpoint"]["step"] == step, listed["checkpoint"]
    assert {m["name"] for m in listed["matrices"]} == set(weights), listed["matrices"]
    for m in listed["matrices"]:
        assert (m["rows"], m["cols"]) == weights[m["name"]].shape, m
        assert m["dtype"] == dict(dtypes).get(m["name"], "f32"), m
    for m in report("analyze", path)["matrices"]:
        weight = weights[m["name"]]
        s = np.linalg.svd(weight, compute_uv=False)
        # an input of independent entries tells rows from columns
        output = np.linalg.norm(weight) / np.sqrt(weight.shape[0])
        for metric, value in (("spectral_norm", s[0]), ("output_rms", output)):
            assert np.isclose(m["metrics"][metric], value, rtol=1e-6), (m["name"], metric)


def normal(*shape):
    return rng.standard_normal(shape).astype(np.float32)


# ---- PyTorch ------------------------------------------------------------------------------------

def test_pytorch(snippet):
    try:
        import torch
    except ImportError:
        print("README: PyTorch's snippet skipped, PyTorch is not installed (python3-torch)")
        return
    torch.manual_seed(7)
    model = torch.nn.Sequential(torch.nn.Embedding(11, 6), torch.nn.Linear(6, 10),
                                torch.nn.BatchNorm1d(10), torch.nn.Conv2d(3, 4, 5),
                                torch.nn.Linear(10, 7).to(torch.bfloat16))
    exec(snippet, {"model": model})
    state = {name: p.detach().double().numpy() for name, p in model.state_dict().items()}
    weights = {name: w.reshape(len(w), -1) for name, w in state.items() if w.ndim > 1}
    check(weights, 1000, {"4.weight": "bf16"})


# ---- Keras --------------------------------------------------------------------------------------

class Keras:
    """Writes what Keras 3 does for a model of these layers' variables."""

    def __init__(self, layers):
        self.layers = layers

    def save_weights(self, path):
        assert path.endswith(".weights.h5"), "Keras 3 refuses other endings"
        with h5py.File(path, "w") as f:
            for layer, variables in self.layers.items():
                for i, variable in enumerate(variables):
                    f["layers/%s/vars/%d" % (layer, i)] = variable


def test_keras(snippet):
    dense, kernel, embeddings, query = normal(6, 10), normal(3, 3, 4, 8), normal(20, 6), normal(6, 2, 5)
    model = Keras({"dense": [dense, normal(10)], "conv2d": [kernel, normal(8)],
                   "embedding": [embeddings],
                   "multi_head_attention/query_dense": [query, normal(2, 5)]})
    exec(snippet, {"model": model})
    run = report("track", ".", "--no-store")
    assert [c["step"] for c in run["checkpoints"]] == [1000], run["checkpoints"]
    check({"layers/dense/vars/0": dense.T, "layers/conv2d/vars/0": kernel.reshape(-1, 8).T,
           "layers/embedding/vars/0": embeddings,
           "layers/multi_head_attention/query_dense/vars/0": query.reshape(6, -1).T}, None)


# ---- JAX ----------------------------------------------------------------------------------------

def test_jax(snippet):
    attention = {"query": {"kernel": normal(6, 2, 5), "bias": normal(2, 5)},
                 "out": {"kernel": normal(2, 5, 6)}}
    params = {"Embed_0": {"embedding": normal(20, 6)},
              "Block_0": {"LayerNorm_0": {"scale": normal(6)}, "Attention_0": attention,
                          "Dense_0": {"kernel": normal(6, 10).astype(np.float16), "bias": normal(10)}},
              "Conv_0": {"kernel": normal(3, 3, 4, 8)}, "ConvTranspose_0": {"kernel": normal(3, 3, 4, 8)},
              "lm_head": {"kernel": normal(6, 20).astype(np.float64)}}
    exec(snippet, {"params": params})
    check({"Embed_0/embedding": params["Embed_0"]["embedding"],
           "Block_0/Attention_0/query/kernel": attention["query"]["kernel"].reshape(6, -1).T,
           "Block_0/Attention_0/out/kernel": attention["out"]["kernel"].reshape(-1, 6).T,
           "Block_0/Dense_0/kernel": params["Block_0"]["Dense_0"]["kernel"].T.astype(float),
           "Conv_0/kernel": params["Conv_0"]["kernel"].reshape(-1, 8).T,
           "ConvTranspose_0/kernel": params["ConvTranspose_0"]["kernel"].reshape(-1, 8).T,
           "lm_head/kernel": params["lm_head"]["kernel"].astype(np.float32).T}, 1000)


# ---- spectra ------------------------------------------------------------------------------------

def test_reading(snippet):
    try:
        import pandas  # noqa: F401
    except ImportError:
        print("README: the snippet that reads spectra skipped, no pandas (python3-pandas)")
        return
    weight = normal(12, 8)
    with h5py.File("model.h5", "w") as f:
        f["first.weight"], f["second.weight"] = weight, normal(5, 7)
    subprocess.run([MUONSPEC, "analyze", "-q", "model.h5", "-o", "spectra.h5"], check=True,
                   stdout=subprocess.DEVNULL)
    found = {}
    exec(snippet, found)
    assert found["row"]["name"] == "first.weight", found["row"]
    assert np.allclose(found["sigma"], np.linalg.svd(weight, compute_uv=False))


def main():
    saving, reading = snippets(SAVING), snippets(READING)
    for test, snippet in ((test_pytorch, one(saving, "state_dict")),
                          (test_keras, one(saving, "save_weights")),
                          (test_jax, one(saving, "params")),
                          (test_reading, one(reading, "spectra.h5"))):
        with tempfile.TemporaryDirectory() as folder:
            os.chdir(folder)
            test(snippet)
            os.chdir("/")
    print("README: %d snippets do what it says" % (len(saving) + len(reading)))


main()
