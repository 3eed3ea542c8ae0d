#!/usr/bin/python3
"""Compare the models' logits, loss and all gradients with PyTorch.

usage: model_torch.py RUN_MODEL

The models are written here once more, from the descriptions of Llama and DeepSeek-V3, on Hugging
Face's names and layouts; nothing but the numbers is shared. In the bf16 mode both sides round at the
same places. Needs PyTorch; skips without."""
import subprocess
import sys
import tempfile

sys.dont_write_bytecode = True
try:
    import numpy as np
    import torch
    import torch.nn.functional as F
except ImportError:
    print("model_torch: PyTorch is not installed")
    print("0 passed, 0 failed, 1 skipped")
    sys.exit(0)

RUN_MODEL = sys.argv[1]
torch.set_num_threads(1)

LLAMA = dict(vocab=41, hidden=24, layers=3, heads=4, kv_heads=2, head_dim=6, ffn=40, context=80,
             rope_theta=100, norm_eps=1e-4, sequences=2, length=75)
DEEPSEEK = dict(deepseek=1, vocab=41, hidden=24, layers=3, heads=4, ffn=40, context=80,
                rope_theta=100, norm_eps=1e-4, dense_layers=1, experts=8, shared_experts=2, top_k=3,
                expert_ffn=12, routed_scale=1.7, kv_rank=10, nope_dim=6, rope_dim=4, value_dim=5,
                sequences=2, length=75)
CASES = {
    "llama": LLAMA,
    "llama, no grouping": dict(LLAMA, kv_heads=4, layers=1),
    "llama, tied head": dict(LLAMA, kv_heads=1, tied_head=1, length=20),
    "llama-1m's widths": dict(LLAMA, vocab=256, hidden=128, layers=2, heads=4, kv_heads=4,
                              head_dim=32, ffn=352, context=256, rope_theta=10000, norm_eps=1e-5,
                              length=128),
    "deepseek": DEEPSEEK,
    "deepseek, no shared experts": dict(DEEPSEEK, shared_experts=0, dense_layers=0, top_k=1,
                                        layers=2),
}
# of logits, loss and gradients: distance in the Frobenius norm, relative. bf16 is rounded float64 on
# both sides, in which a single result rounded the other way, or at another place, would show
TOLERANCE = {"f64": 1e-11, "f32": 3e-5, "bf16": 1e-11}


def nearest_bf16(x):
    mantissa, exponent = torch.frexp(x)
    return torch.ldexp(torch.round(mantissa * 256) / 256, exponent)


class Round(torch.autograd.Function):
    """To bf16: the value, and on the way back its gradient."""

    @staticmethod
    def forward(context, x):
        return nearest_bf16(x)

    @staticmethod
    def backward(context, gradient):
        return nearest_bf16(gradient)


class RoundedSoftmax(torch.autograd.Function):
    """Backward goes by the rounded weights, which are what is kept."""

    @staticmethod
    def forward(context, x):
        weights = nearest_bf16(x.softmax(-1))
        context.save_for_backward(weights)
        return weights

    @staticmethod
    def backward(context, gradient):
        weights, = context.saved_tensors
        gradient = nearest_bf16(gradient)
        return weights * (gradient - (weights * gradient).sum(-1, keepdim=True))


EXACT = dict(round=lambda x: x, softmax=lambda x: x.softmax(-1))
BF16 = dict(round=Round.apply, softmax=RoundedSoftmax.apply)


def norm(c, x, gain):
    rstd = torch.rsqrt((x * x).mean(-1, keepdim=True) + c["norm_eps"])
    return c["round"](x * rstd * gain)


def angles(c, length, dim):
    frequencies = c["rope_theta"] ** (-torch.arange(0, dim, 2, dtype=torch.float64) / dim)
    return torch.outer(torch.arange(length, dtype=torch.float64), frequencies)


def rotate_half(x, angle):
    """Hugging Face's Llama: x [batch, heads, length, dim], pairs (i, i + dim/2)."""
    full = torch.cat([angle, angle], -1).to(x.dtype)
    a, b = x.chunk(2, -1)
    return x * full.cos() + torch.cat([-b, a], -1) * full.sin()


def rotate_neighbours(x, angle):
    """DeepSeek: complex numbers of neighbours."""
    pairs = torch.view_as_complex(x.reshape(*x.shape[:-1], -1, 2).contiguous())
    turned = pairs * torch.polar(torch.ones_like(angle), angle).to(pairs.dtype)
    return torch.view_as_real(turned).reshape(x.shape)


def linear(c, x, *weights):
    """Of each weight; the gradient of x is rounded once."""
    x = c["round"](x)
    return [c["round"](x @ weight.T) for weight in weights]


def attention(c, q, k, v):
    """Causal; q, k, v [batch, heads, length, dim]."""
    logits = c["round"](q @ k.transpose(-1, -2) / q.shape[-1] ** 0.5)
    mask = torch.ones(logits.shape[-2:], dtype=torch.bool).triu(1)
    weights = c["softmax"](logits.masked_fill(mask, float("-inf")))
    return c["round"](weights @ v).transpose(1, 2).flatten(2)


def heads(x, count):
    return x.unflatten(-1, (count, -1)).transpose(1, 2)


def llama_attention(c, w, x):
    angle = angles(c, c["length"], c["head_dim"])
    q, k, v = linear(c, x, *(w(f"self_attn.{p}_proj.weight") for p in "qkv"))
    q, k, v = heads(q, c["heads"]), heads(k, c["kv_heads"]), heads(v, c["kv_heads"])
    q, k = (c["round"](rotate_half(y, angle)) for y in (q, k))
    group = c["heads"] // c["kv_heads"]
    k, v = k.repeat_interleave(group, 1), v.repeat_interleave(group, 1)
    return linear(c, attention(c, q, k, v), w("self_attn.o_proj.weight"))[0]


def latent_attention(c, w, x):
    nope, rope = c["nope_dim"], c["rope_dim"]
    angle = angles(c, c["length"], rope)
    q, latent = linear(c, x, w("self_attn.q_proj.weight"),
                       w("self_attn.kv_a_proj_with_mqa.weight"))
    q = heads(q, c["heads"])
    latent, shared = latent.split([c["kv_rank"], rope], -1)
    latent = norm(c, latent, w("self_attn.kv_a_layernorm.weight"))
    k_nope, v = heads(linear(c, latent, w("self_attn.kv_b_proj.weight"))[0], c["heads"]).split(
        [nope, c["value_dim"]], -1)
    shared = c["round"](rotate_neighbours(shared.unsqueeze(1), angle))
    q = c["round"](torch.cat([q[..., :nope], rotate_neighbours(q[..., nope:], angle)], -1))
    k = c["round"](torch.cat([k_nope, shared.expand(-1, c["heads"], -1, -1)], -1))
    out = attention(c, q, k, v)
    return linear(c, out, w("self_attn.o_proj.weight"))[0]


def mlp(c, w, x, part):
    gate, up = linear(c, x, w(f"{part}.gate_proj.weight"), w(f"{part}.up_proj.weight"))
    return linear(c, c["round"](F.silu(gate) * up), w(f"{part}.down_proj.weight"))[0]


def mixture(c, w, x):
    """The router's numbers are never rounded, but the gradient of its input is."""
    scores = (x @ w("mlp.gate.weight").T).sigmoid()
    chosen = (scores + w("mlp.gate.e_score_correction_bias")).topk(c["top_k"], -1).indices
    gates = torch.zeros_like(scores).scatter(-1, chosen, scores.gather(-1, chosen))
    if c["top_k"] > 1:
        gates = gates / gates.sum(-1, keepdim=True)
    gates = gates * c["routed_scale"]
    x = c["round"](x)
    y = sum(gates[..., e:e + 1] * mlp(c, w, x, f"mlp.experts.{e}") for e in range(c["experts"]))
    return c["round"](y + mlp(c, w, x, "mlp.shared_experts") if c["shared_experts"] else y)


def model(c, tensors, tokens):
    def whole(name):
        """A weight, rounded; its gradient is not."""
        x = tensors[name]
        return x + (c["round"](x.detach()) - x.detach()) if "bias" not in name else x

    x = c["round"](whole("model.embed_tokens.weight")[tokens])
    for layer in range(c["layers"]):
        def w(name):
            return whole(f"model.layers.{layer}.{name}")
        mix = latent_attention if c.get("deepseek") else llama_attention
        x = c["round"](x + mix(c, w, norm(c, x, w("input_layernorm.weight"))))
        y = norm(c, x, w("post_attention_layernorm.weight"))
        is_dense = not c.get("deepseek") or layer < c["dense_layers"]
        x = c["round"](x + (mlp(c, w, y, "mlp") if is_dense else mixture(c, w, y)))
    x = norm(c, x, whole("model.norm.weight"))
    return linear(c, x, whole("model.embed_tokens.weight" if c.get("tied_head")
                              else "lm_head.weight"))[0]


# ---- numbers ------------------------------------------------------------------------------------


def run_model(*arguments):
    return subprocess.run([RUN_MODEL, *arguments], check=True, capture_output=True, text=True).stdout


def make_tensors(c, settings, random):
    """Of all tensors in their order; and which are trained."""
    tensors, trained = {}, {}
    for line in run_model("tensors", *settings).splitlines():
        name, is_trained, *dims = line.split()
        x = random.standard_normal([int(d) for d in dims])
        if len(dims) == 2:
            x *= 0.8 if "embed" in name else 1.5 / np.sqrt(c["hidden"])
        else:
            x = 1 + 0.2 * x if int(is_trained) else 0.1 * x
        # float32 numbers, so that both precisions start from the same
        tensors[name] = torch.tensor(x.astype(np.float32).astype(np.float64))
        trained[name] = int(is_trained)
    return tensors, trained


def ours(c, settings, precision, tensors, tokens, targets):
    with tempfile.TemporaryDirectory() as folder:
        with open(f"{folder}/in", "wb") as file:
            for x in tensors.values():
                file.write(x.detach().numpy().tobytes())
            file.write(tokens.astype(np.int32).tobytes() + targets.astype(np.int32).tobytes())
        run_model(precision, f"{folder}/in", f"{folder}/out", *settings)
        out = np.fromfile(f"{folder}/out")
    count = tokens.size * c["vocab"]
    gradients, at = {}, 1 + count
    for name, x in tensors.items():
        gradients[name] = out[at:at + x.numel()].reshape(x.shape)
        at += x.numel()
    assert at == out.size
    return out[0], out[1:1 + count].reshape(*tokens.shape, -1), gradients


def theirs(c, tensors, trained, tokens, targets):
    for name, x in tensors.items():
        x.requires_grad_(bool(trained[name]))
        x.grad = None
    logits = model(c, tensors, torch.tensor(tokens))
    loss = F.cross_entropy(logits.flatten(0, 1), torch.tensor(targets).flatten(), reduction="sum",
                           ignore_index=-1)
    loss.backward()
    gradients = {n: np.zeros(x.shape) if x.grad is None else x.grad.numpy()
                 for n, x in tensors.items()}
    return loss.item(), logits.detach().numpy(), gradients


def distance(a, b):
    size = np.linalg.norm(b)
    return np.linalg.norm(a - b) / size if size else np.linalg.norm(a)


def check(label, c):
    settings = [f"{key}={value}" for key, value in c.items()]
    random = np.random.default_rng(7)
    tensors, trained = make_tensors(c, settings, random)
    tokens = random.integers(0, c["vocab"], (c["sequences"], c["length"]))
    targets = random.integers(-1, c["vocab"], tokens.shape)
    wrong = []
    for precision, tolerance in TOLERANCE.items():
        rounded = dict(c, **(BF16 if precision == "bf16" else EXACT))
        loss, logits, gradients = theirs(rounded, tensors, trained, tokens, targets)
        found = ours(c, settings, precision, tensors, tokens, targets)
        errors = {"loss": abs(found[0] - loss) / loss, "logits": distance(found[1], logits)}
        errors.update((n, distance(found[2][n], gradients[n])) for n in gradients)
        wrong += [f"{label}, {precision}: {name} differs by {error:.3g}"
                  for name, error in errors.items() if not error <= tolerance]
    return wrong


def main():
    failed = 0
    for label, c in CASES.items():
        wrong = check(label, c)
        failed += bool(wrong)
        for line in wrong[:8]:
            print(f"FAILED {line}")
    print(f"model_torch: logits, loss and gradients: {len(CASES) - failed} passed, {failed} failed")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
