#!/usr/bin/python3
"""Compare 20 steps of the optimizer with PyTorch.

usage: optim_torch.py RUN_OPTIM

Muon is written here once more from the formulas, in float64; AdamW is torch.optim.AdamW. Nothing but
the numbers is shared. Needs PyTorch; skips without."""
import math
import subprocess
import sys
import tempfile

sys.dont_write_bytecode = True
try:
    import numpy as np
    import torch
except ImportError:
    print("optim_torch: PyTorch is not installed")
    print("0 passed, 0 failed, 1 skipped")
    sys.exit(0)

RUN_OPTIM = sys.argv[1]
STEPS = 20
torch.set_num_threads(1)

JORDAN = [(3.4445, -4.7750, 2.0315)]
POLAR_EXPRESS = [
    (8.156554524902461, -22.48329292557795, 15.878769915207462),
    (4.042929935166739, -2.808917465908714, 0.5000178451051316),
    (3.8916678022926607, -2.772484153217685, 0.5060648178503393),
    (3.285753657755655, -2.3681294933425376, 0.46449024233003106),
    (2.3465413258596377, -1.7097828382687081, 0.42323551169305323)]
TABLES = {"jordan": (1, JORDAN), "polar_express": (1.02, POLAR_EXPRESS)}
SCALES = ["match_rms_adamw", "original", "spectral_norm", "none", "update_norm"]

# name: dims, rows of each matrix (None: AdamW), heads, splits
PARAMETERS = {
    "model.embed_tokens.weight": ((31, 12), None, 0, "-"),
    "layers.0.self_attn.q_proj.weight": ((24, 12), [8] * 3, 3, "-"),
    "layers.0.self_attn.qkv_proj.weight": ((22, 12), [12, 5, 5], 0, "12,5,5"),
    "layers.0.mlp.up_proj.weight": ((40, 12), [40], 0, "-"),
    "layers.0.mlp.down_proj.weight": ((12, 40), [12], 0, "-"),
    "layers.1.mlp.experts.weight": ((4, 9, 12), [9] * 4, 0, "-"),
    "layers.1.mlp.gate.weight": ((4, 12), [4], 0, "-"),
    "layers.2.conv.weight": ((10, 4, 3, 3), [10], 0, "-"),
    "large.weight": ((120, 70), [120], 0, "-"),
    "norm.weight": ((12,), None, 0, "-"),
    "scale": ((1,), None, 0, "-"),
    "lm_head.weight": ((31, 12), None, 0, "-"),
}

USUAL = dict(lr=0.02, momentum=0.95, ema=0, nesterov=1, weight_decay=0.1, scale=0, update_rms=0.2,
             coefficients="jordan", ns_steps=5, router=0, all_adamw=0, ratio=1, beta1=0.9,
             beta2=0.95, eps=1e-8, clip_norm=0)
CASES = {
    "Moonlight": {},
    "EMA": dict(ema=1, momentum=0.9),
    "no Nesterov": dict(nesterov=0, weight_decay=0),
    "Keller Jordan's": dict(ema=1, scale=1, weight_decay=0),
    "spectral norm, polar express": dict(scale=2, coefficients="polar_express"),
    "no factor, ten steps": dict(scale=3, ns_steps=10),
    "update norm, AdamW router": dict(scale=4, router=1, ratio=0.5),
    "AdamW": dict(all_adamw=1, weight_decay=0.3, eps=1e-3, beta2=0.999),
    "clipped": dict(clip_norm=30),  # some gradients are
}
# distance from the float64 run, over the distance that it went
TOLERANCE = {"f64": 1e-13, "f32": 5e-6}


def orthogonalise(c, x):
    factor, table = TABLES[c["coefficients"]]
    x = x / (factor * torch.linalg.matrix_norm(x))
    for step in range(c["ns_steps"]):
        a, b, d = table[min(step, len(table) - 1)]
        s = x @ x.T
        x = a * x + (b * s + d * s @ s) @ x
    return x


def shape_factor(c, o):
    out, into = o.shape
    return {"match_rms_adamw": lambda: c["update_rms"] * math.sqrt(max(out, into)),
            "original": lambda: math.sqrt(max(1, out / into)),
            "spectral_norm": lambda: math.sqrt(out / into),
            "none": lambda: 1,
            "update_norm": lambda: c["update_rms"] / o.square().mean().sqrt().item(),
            }[SCALES[c["scale"]]]()


def muon(c, w, gradients, rows):
    shape, mu = w.shape, c["momentum"]
    cols = w.shape[-1] if w.dim() < 4 else w[0].numel()
    w, m = w.reshape(-1, cols).clone(), torch.zeros(w.numel() // cols, cols, dtype=w.dtype)
    for g in gradients:
        g = g.reshape(-1, cols) * (1 - mu if c["ema"] else 1)
        m = mu * m + g
        u = g + mu * m if c["nesterov"] else m
        update = torch.cat([shape_factor(c, o) * o
                            for o in (orthogonalise(c, b) for b in u.split(rows))])
        w = (1 - c["lr"] * c["weight_decay"]) * w - c["lr"] * update
    return w.reshape(shape)


def adamw(c, w, gradients):
    w = w.clone().requires_grad_()
    lr = c["lr"] * (1 if c["all_adamw"] else c["ratio"])
    optimizer = torch.optim.AdamW([w], lr=lr, betas=(c["beta1"], c["beta2"]), eps=c["eps"],
                                  weight_decay=c["weight_decay"])
    for g in gradients:
        w.grad = g.clone()
        optimizer.step()
    return w.detach()


def clip(c, gradients):
    clipped = {name: [g.clone() for g in steps] for name, steps in gradients.items()}
    for step in range(STEPS):
        all_ = [torch.zeros_like(steps[step], requires_grad=True) for steps in clipped.values()]
        for parameter, steps in zip(all_, clipped.values()):
            parameter.grad = steps[step]
        torch.nn.utils.clip_grad_norm_(all_, c["clip_norm"])
    return clipped


def theirs(c, values, gradients):
    results = {}
    if c["clip_norm"]:
        gradients = clip(c, gradients)
    for name, w in values.items():
        rows = PARAMETERS[name][1]
        if rows is None or c["all_adamw"] or (c["router"] and "gate" in name):
            results[name] = adamw(c, w, gradients[name])
        else:
            results[name] = muon(c, w, gradients[name], rows)
    return results


def ours(c, values, gradients, dtype):
    words = [f"{key}={value}" for key, value in c.items()] + [f"steps={STEPS}", "--"]
    for name, (dims, _, heads, splits) in PARAMETERS.items():
        words += [name, dtype, str(heads), splits, ",".join(map(str, dims))]
    with tempfile.TemporaryDirectory() as folder:
        with open(f"{folder}/in", "wb") as file:
            for w in values.values():
                file.write(w.numpy().tobytes())
            for step in range(STEPS):
                for name in values:
                    file.write(gradients[name][step].numpy().tobytes())
        subprocess.run([RUN_OPTIM, f"{folder}/in", f"{folder}/out", *words], check=True)
        out = torch.from_numpy(np.fromfile(f"{folder}/out"))
    assert out.numel() == sum(w.numel() for w in values.values())
    parts = out.split([w.numel() for w in values.values()])
    return {name: x.reshape(values[name].shape) for name, x in zip(values, parts)}


def bf16_excess(found, expected):
    """How far the values are beyond half a step of bf16 from where they should be."""
    half = torch.exp2(torch.floor(torch.log2(expected.abs().clamp_min(1e-30))) - 8)
    return ((found - expected).abs() - half).clamp_min(0)


def check(label, c):
    torch.manual_seed(7)
    # numbers that bf16 holds, so that all types start from the same
    values = {n: torch.randn(p[0]).mul(0.1).bfloat16().double() for n, p in PARAMETERS.items()}
    gradients = {n: [torch.randn(p[0]).mul(0.1 * (1 + step)).bfloat16().double()
                     for step in range(STEPS)]
                 for n, p in PARAMETERS.items()}
    expected = theirs(c, values, gradients)
    wrong = []
    for dtype in ("f64", "f32", "bf16"):
        found = ours(c, values, gradients, dtype)
        for name, w in expected.items():
            difference = found[name] - w
            if dtype == "bf16":
                difference = bf16_excess(found[name], w)
            error = (difference.norm() / (w - values[name]).norm()).item()
            if not error <= TOLERANCE.get(dtype, TOLERANCE["f32"]):
                wrong.append(f"{label}, {dtype}: {name} is off by {error:.3g} of its way")
    return wrong


def main():
    failed = 0
    for label, changes in CASES.items():
        wrong = check(label, dict(USUAL, **changes))
        failed += bool(wrong)
        for line in wrong[:8]:
            print(f"FAILED {line}")
    print(f"optim_torch: {STEPS} steps of Muon and AdamW: {len(CASES) - failed} passed, "
          f"{failed} failed")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
