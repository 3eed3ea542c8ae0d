"""`muonspec forward` on a real llama2.c model against a forward pass written here in NumPy.

Tokens are sampled from the model by this pass, so that the text is what the model knows; `forward`
must then give the same logits, the same mean loss and the same figures of every layer, from the .bin
file and from its conversions.

usage: forward_numpy.py MUONSPEC DATA
"""
import json
import os
import struct
import subprocess
import sys
import tempfile

import h5py
import numpy as np

from checkpoints import from_array, write_safetensors

TOKENS = 160  # more than one window of 128
WINDOW = 128


def read_bin(path):
    """The arrays of a llama2.c file, float64, by the names of its source code."""
    data = open(path, "rb").read()
    dim, ffn, layers, heads, kv_heads, vocab, context = struct.unpack("<7i", data[:28])
    floats = np.frombuffer(data, "<f4", offset=28).astype(np.float64)
    size = dim // heads
    shapes = {
        "embedding": (abs(vocab), dim), "attention_norm": (layers, dim), "wq": (layers, dim, dim),
        "wk": (layers, size * kv_heads, dim), "wv": (layers, size * kv_heads, dim),
        "wo": (layers, dim, dim), "mlp_norm": (layers, dim), "w1": (layers, ffn, dim),
        "w2": (layers, dim, ffn), "w3": (layers, ffn, dim), "final_norm": (dim,),
    }
    at, model = 0, {"heads": heads, "kv_heads": kv_heads, "layers": layers, "size": size}
    for name, shape in shapes.items():
        count = int(np.prod(shape))
        model[name] = floats[at:at + count].reshape(shape)
        at += count
    assert vocab > 0, "the test's model shares embedding and head"
    return model


def norm(x, gain):
    return x / np.sqrt((x * x).mean(-1, keepdims=True) + 1e-5) * gain


def rotate(x):
    """RoPE as llama2.c does it: x is time x heads x size, neighbours (2i, 2i + 1) turn together."""
    time, _, size = x.shape
    angle = np.outer(np.arange(time), 10000.0 ** (-np.arange(0, size, 2) / size))[:, None, :]
    pairs = x[..., 0::2] + 1j * x[..., 1::2]
    turned = pairs * np.exp(1j * angle)
    out = np.empty_like(x)
    out[..., 0::2], out[..., 1::2] = turned.real, turned.imag
    return out


def forward(m, tokens):
    """Logits of a window, and per layer the output, the largest attention logit of each head."""
    x = m["embedding"][tokens]
    time, size, group = len(tokens), m["size"], m["heads"] // m["kv_heads"]
    mask = np.tril(np.ones((time, time), bool))
    outputs, largest = [], []
    for l in range(m["layers"]):
        h = norm(x, m["attention_norm"][l])
        q = rotate((h @ m["wq"][l].T).reshape(time, -1, size))
        k = rotate((h @ m["wk"][l].T).reshape(time, -1, size))
        v = (h @ m["wv"][l].T).reshape(time, -1, size)
        k, v = k.repeat(group, 1), v.repeat(group, 1)
        logits = np.einsum("ihd,jhd->hij", q, k) / np.sqrt(size)
        largest.append(np.where(mask, logits, -np.inf).max((1, 2)))
        weights = np.exp(np.where(mask, logits - logits.max(-1, keepdims=True), -np.inf))
        weights /= weights.sum(-1, keepdims=True)
        x = x + np.einsum("hij,jhd->ihd", weights, v).reshape(time, -1) @ m["wo"][l].T
        h = norm(x, m["mlp_norm"][l])
        gate = h @ m["w1"][l].T
        x = x + (gate / (1 + np.exp(-gate)) * (h @ m["w3"][l].T)) @ m["w2"][l].T
        outputs.append(x)
    return norm(x, m["final_norm"]) @ m["embedding"].T, outputs, largest


def sample(m, count, random):
    tokens = [1]
    while len(tokens) < count:
        logits = forward(m, np.array(tokens[-32:]))[0][-1]
        p = np.exp(logits - logits.max())
        tokens.append(int(random.choice(len(p), p=p / p.sum())))
    return np.array(tokens)


def reference(m, tokens):
    """All logits, the mean loss, and per layer the RMS, the largest size and logit over all windows."""
    logits, losses, outputs, largest = [], [], [], []
    for first in range(0, len(tokens) - 1, WINDOW):
        window = tokens[first:first + WINDOW + 1]
        z, y, top = forward(m, window[:-1])
        logits.append(z)
        outputs.append(y)
        largest.append(top)
        top_z = z.max(-1, keepdims=True)
        log_sum = top_z[:, 0] + np.log(np.exp(z - top_z).sum(-1))
        losses.append(log_sum - z[np.arange(len(z)), window[1:]])
    layers = [np.concatenate([y[l] for y in outputs]) for l in range(m["layers"])]
    return (np.concatenate(logits), np.concatenate(losses).mean(),
            [np.sqrt((y * y).mean()) for y in layers], [np.abs(y).max() for y in layers],
            np.max(largest, 0))


def halves(rows, size):
    """Rows of q or k as Hugging Face has them: pairs that turn together are half a head apart."""
    heads = rows.reshape(-1, size // 2, 2, rows.shape[1])
    return heads.swapaxes(1, 2).reshape(rows.shape)


def write_hugging_face(m, folder, dtype):
    """The model as safetensors with a config.json beside it, by nothing of ours but a header."""
    parts = [("input_layernorm", "attention_norm"), ("self_attn.q_proj", "wq"),
             ("self_attn.k_proj", "wk"), ("self_attn.v_proj", "wv"), ("self_attn.o_proj", "wo"),
             ("post_attention_layernorm", "mlp_norm"), ("mlp.gate_proj", "w1"),
             ("mlp.down_proj", "w2"), ("mlp.up_proj", "w3")]
    tensors = {"model.embed_tokens.weight": m["embedding"], "model.norm.weight": m["final_norm"]}
    for l in range(m["layers"]):
        for theirs, ours in parts:
            rows = halves(m[ours][l], m["size"]) if ours in ("wq", "wk") else m[ours][l]
            tensors[f"model.layers.{l}.{theirs}.weight"] = rows
    write_safetensors(os.path.join(folder, "model.safetensors"),
                      {name: from_array(x.astype(dtype)) for name, x in tensors.items()})
    config = {"architectures": ["LlamaForCausalLM"], "model_type": "llama", "hidden_act": "silu",
              "vocab_size": len(m["embedding"]), "hidden_size": m["embedding"].shape[1],
              "intermediate_size": m["w1"].shape[1], "num_hidden_layers": m["layers"],
              "num_attention_heads": m["heads"], "num_key_value_heads": m["kv_heads"],
              "max_position_embeddings": 512, "rms_norm_eps": 1e-5, "rope_theta": 10000.0,
              "rope_scaling": None, "attention_bias": False, "tie_word_embeddings": True}
    with open(os.path.join(folder, "config.json"), "w") as f:
        json.dump(config, f)


class Checks:
    def __init__(self):
        self.done = self.failed = 0

    def close(self, what, got, want, tolerance):
        self.done += 1
        worst = np.max(np.abs(np.asarray(got, float) - want) / np.maximum(np.abs(want), 1))
        if not worst <= tolerance:
            self.failed += 1
            print(f"FAILED {what}: differs by {worst:.3g}, allowed {tolerance:.3g}")


def run(muonspec, checkpoint, tokens, folder):
    out = os.path.join(folder, "forward.h5")
    result = subprocess.run(
        [muonspec, "forward", checkpoint, "--tokens", tokens, "--length", str(WINDOW),
         "--format", "json", "-o", out], capture_output=True, text=True)
    if result.returncode:
        sys.exit(f"muonspec forward {checkpoint}: {result.stderr}")
    with h5py.File(out) as f:
        return json.loads(result.stdout), f["logits"][:]


def check(checks, name, report, logits, want):
    want_logits, loss, rms, largest, heads = want
    plain, rounded = report["runs"]
    checks.close(f"{name}: logits", logits, want_logits, 1e-4)
    checks.close(f"{name}: loss", plain["loss"], loss, 1e-5)
    checks.close(f"{name}: output_rms", [l["output_rms"] for l in plain["layers"]], rms, 1e-5)
    checks.close(f"{name}: output_max_abs", [l["output_max_abs"] for l in plain["layers"]],
                 largest, 1e-5)
    checks.close(f"{name}: head_max_logits",
                 [l["head_max_logits"] for l in plain["layers"]], heads, 1e-4)
    # bf16 has eight bits: each layer is off by some thousandths, and the loss hardly moves
    errors = [l["bf16_error"] for l in rounded["layers"]]
    checks.close(f"{name}: bf16 error", [1e-3 < e < 3e-2 for e in errors], 1, 0)
    checks.close(f"{name}: bf16 loss", rounded["loss"], loss, 0.02)


def main(muonspec, data):
    path = os.path.join(data, "raw", "stories260K.bin")
    if not os.path.exists(path):
        print("forward_numpy: skipped, no stories260K.bin (MUONSPEC_TEST_DATA)")
        return 0
    model, checks = read_bin(path), Checks()
    with tempfile.TemporaryDirectory() as folder:
        tokens = sample(model, TOKENS, np.random.default_rng(7))
        npy, text = os.path.join(folder, "tokens.npy"), os.path.join(folder, "tokens.txt")
        np.save(npy, tokens)
        np.savetxt(text, tokens, "%d")
        want = reference(model, tokens)
        first = run(muonspec, path, npy, folder)
        check(checks, "llama2.c", *first, want)
        for ending in ("safetensors", "h5"):
            converted = os.path.join(folder, "model." + ending)
            subprocess.run([muonspec, "convert", path, converted], check=True)
            report, logits = run(muonspec, converted, text, folder)
            checks.close(f"{ending}: the same bits", np.array_equal(logits, first[1]), 1, 0)
            checks.close(f"{ending}: the same figures", report["runs"] == first[0]["runs"], 1, 0)
        for dtype in ("<f4", "<f8"):
            hugging_face = tempfile.mkdtemp(dir=folder)
            write_hugging_face(model, hugging_face, dtype)
            check(checks, f"Hugging Face {dtype}",
                  *run(muonspec, os.path.join(hugging_face, "model.safetensors"), npy, folder), want)
    print(f"forward_numpy: mean loss {want[1]:.4f} over {TOKENS - 1} sampled tokens; "
          f"{checks.done - checks.failed} passed, {checks.failed} failed")
    return checks.failed > 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:3]))
