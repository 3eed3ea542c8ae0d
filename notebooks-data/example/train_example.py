#!/usr/bin/python3
"""Train the example checkpoints of muonspec: a small byte-level Llama-style model.

The model is trained from scratch on the King James Bible with Muon (hidden
matrices) and AdamW (embedding, head, norms), in float32 on the CPU, and saved
at four log-spaced steps as HDF5, one dataset per state_dict key.

    apt-get install python3-torch python3-h5py bible-kjv
    /usr/bin/python3 train_example.py --out .

Written: step-NNNNNN.h5 (four files) and log.csv.
"""
import argparse
import csv
import hashlib
import json
import math
import os
import re
import subprocess
import time

import h5py
import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

CONFIG = {  # the keys of a Hugging Face LlamaConfig
    "model_type": "llama", "vocab_size": 256, "hidden_size": 96, "intermediate_size": 256,
    "num_hidden_layers": 3, "num_attention_heads": 4, "num_key_value_heads": 4,
    "hidden_act": "silu", "max_position_embeddings": 128, "rms_norm_eps": 1e-6,
    "rope_theta": 10000.0, "initializer_range": 0.02, "tie_word_embeddings": False,
    "torch_dtype": "float32",
}
BATCH, SEQ = 16, CONFIG["max_position_embeddings"]
PEAK_LR, WARMUP, FLOOR = 1e-2, 40, 0.1      # linear warm-up, cosine down to FLOOR * PEAK_LR
WEIGHT_DECAY = 0.1
LOG_EVERY = 20


# ---- corpus -------------------------------------------------------------------------------

def load_corpus():
    """The verses, one a line and without their references: (training bytes, held-out bytes)."""
    out = subprocess.run(["bible", "-f", "gen1:1-rev22:21"], stdin=subprocess.DEVNULL,
                         stdout=subprocess.PIPE, check=True).stdout.decode("ascii")
    verses = [re.sub(r"^\S+ ", "", line) + "\n" for line in out.splitlines()]
    if len(verses) != 31102:
        raise SystemExit(f"expected 31102 verses from bible-kjv, got {len(verses)}")
    # Every 20th run of 50 verses is held out, so that both parts hold every kind of book.
    parts = {False: [], True: []}
    for i, verse in enumerate(verses):
        parts[i // 50 % 20 == 19].append(verse)
    train, held = ("".join(parts[k]).encode() for k in (False, True))
    digest = hashlib.sha256("".join(verses).encode()).hexdigest()
    print(f"corpus: {len(train)} bytes for training, {len(held)} held out, sha256 {digest}")
    return tuple(torch.from_numpy(np.frombuffer(b, np.uint8).astype(np.int64)) for b in (train, held))


def baselines(train, held):
    """Nats per byte on the held-out text of byte counts from the training text (add-one)."""
    uni = torch.bincount(train, minlength=256).double() + 1
    bi = torch.bincount(train[:-1] * 256 + train[1:], minlength=65536).double().view(256, 256) + 1
    uni, bi = (uni / uni.sum()).log(), (bi / bi.sum(1, keepdim=True)).log()
    both = torch.bincount(torch.cat([train, held])).double()
    p = both[both > 0] / both.sum()
    print(f"unigram entropy of the whole corpus {-(p * p.log()).sum():.4f} nats/byte; held-out "
          f"cross-entropy: unigram {-uni[held].mean():.4f}, bigram {-bi[held[:-1], held[1:]].mean():.4f}")


# ---- model --------------------------------------------------------------------------------

class RMSNorm(nn.Module):
    def __init__(self, dim):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(dim))

    def forward(self, x):
        return self.weight * (x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + CONFIG["rms_norm_eps"]))


def rope_tables(head_dim):
    inv = CONFIG["rope_theta"] ** (-torch.arange(0, head_dim, 2).float() / head_dim)
    angle = torch.outer(torch.arange(SEQ).float(), inv).repeat(1, 2)
    return angle.cos(), angle.sin()


def rope(x, cos, sin):
    half = x.shape[-1] // 2
    return x * cos + torch.cat([-x[..., half:], x[..., :half]], -1) * sin


class Attention(nn.Module):
    def __init__(self, dim, heads):
        super().__init__()
        self.heads, self.head_dim = heads, dim // heads
        self.q_proj, self.k_proj, self.v_proj, self.o_proj = (nn.Linear(dim, dim, bias=False) for _ in range(4))

    def forward(self, x, cos, sin, mask):
        b, t, d = x.shape
        q, k, v = (p(x).view(b, t, self.heads, self.head_dim).transpose(1, 2)
                   for p in (self.q_proj, self.k_proj, self.v_proj))
        q, k = rope(q, cos, sin), rope(k, cos, sin)
        scores = (q / math.sqrt(self.head_dim)) @ k.transpose(2, 3) + mask
        return self.o_proj((scores.softmax(-1) @ v).transpose(1, 2).reshape(b, t, d))


class MLP(nn.Module):
    def __init__(self, dim, hidden):
        super().__init__()
        self.gate_proj, self.up_proj = nn.Linear(dim, hidden, bias=False), nn.Linear(dim, hidden, bias=False)
        self.down_proj = nn.Linear(hidden, dim, bias=False)

    def forward(self, x):
        return self.down_proj(F.silu(self.gate_proj(x)) * self.up_proj(x))


class Block(nn.Module):
    def __init__(self, c):
        super().__init__()
        self.self_attn = Attention(c["hidden_size"], c["num_attention_heads"])
        self.mlp = MLP(c["hidden_size"], c["intermediate_size"])
        self.input_layernorm = RMSNorm(c["hidden_size"])
        self.post_attention_layernorm = RMSNorm(c["hidden_size"])

    def forward(self, x, *tables):
        x = x + self.self_attn(self.input_layernorm(x), *tables)
        return x + self.mlp(self.post_attention_layernorm(x))


class Llama(nn.Module):
    def __init__(self, c):
        super().__init__()
        self.model = nn.Module()
        self.model.embed_tokens = nn.Embedding(c["vocab_size"], c["hidden_size"])
        self.model.layers = nn.ModuleList(Block(c) for _ in range(c["num_hidden_layers"]))
        self.model.norm = RMSNorm(c["hidden_size"])
        self.lm_head = nn.Linear(c["hidden_size"], c["vocab_size"], bias=False)
        for p in self.parameters():
            if p.ndim == 2:
                nn.init.normal_(p, std=c["initializer_range"])
        self.cos, self.sin = rope_tables(c["hidden_size"] // c["num_attention_heads"])
        self.mask = torch.full((SEQ, SEQ), -math.inf).triu(1)

    def forward(self, ids):
        t = ids.shape[1]
        x = self.model.embed_tokens(ids)
        for layer in self.model.layers:
            x = layer(x, self.cos[:t], self.sin[:t], self.mask[:t, :t])
        return self.lm_head(self.model.norm(x))

    def loss(self, windows):
        """Mean nats per byte; windows is (n, SEQ + 1)."""
        return F.cross_entropy(self(windows[:, :-1]).flatten(0, 1), windows[:, 1:].flatten())


# ---- Muon, in Moonlight's form ------------------------------------------------------------

def newton_schulz(m):
    """Five Newton-Schulz steps with Jordan's coefficients: singular values go near 1."""
    a, b, c = 3.4445, -4.7750, 2.0315
    x = m.T if m.shape[0] > m.shape[1] else m
    x = x / (x.norm() + 1e-7)
    for _ in range(5):
        s = x @ x.T
        x = a * x + (b * s + c * s @ s) @ x
    return x.T if m.shape[0] > m.shape[1] else x


class Muon(torch.optim.Optimizer):
    """Nesterov momentum, orthogonalised, scaled by 0.2 sqrt(max(A, B)), decoupled decay."""

    def __init__(self, params, lr, momentum=0.95, weight_decay=WEIGHT_DECAY):
        super().__init__(params, dict(lr=lr, momentum=momentum, weight_decay=weight_decay))

    @torch.no_grad()
    def step(self):
        for group in self.param_groups:
            for p in group["params"]:
                buf = self.state[p].setdefault("momentum_buffer", torch.zeros_like(p))
                buf.mul_(group["momentum"]).add_(p.grad)
                update = newton_schulz(p.grad + group["momentum"] * buf)
                p.mul_(1 - group["lr"] * group["weight_decay"])
                p.add_(update, alpha=-group["lr"] * 0.2 * math.sqrt(max(p.shape)))


# ---- run ----------------------------------------------------------------------------------

def lr_at(step, steps):
    """Learning rate of the update that leads from `step` to `step` + 1."""
    done = min(1.0, max(0.0, (step - WARMUP) / max(1, steps - WARMUP)))
    return PEAK_LR * min(1.0, (step + 1) / WARMUP) * (FLOOR + (1 - FLOOR) * 0.5 * (1 + math.cos(math.pi * done)))


@torch.no_grad()
def evaluate(model, windows):
    return sum(model.loss(w).item() * len(w) for w in windows.split(32)) / len(windows)


def save(path, model, attrs):
    with h5py.File(path + ".tmp", "w") as f:
        for name, tensor in model.state_dict().items():
            f.create_dataset(name, data=tensor.numpy())
        f.attrs.update(attrs)
    os.replace(path + ".tmp", path)


@torch.no_grad()
def sample(model, prompt, n, gen):
    ids = list(prompt.encode())
    for _ in range(n):
        logits = model(torch.tensor([ids[-SEQ:]]))[0, -1] / 0.7
        ids.append(torch.multinomial(logits.softmax(-1), 1, generator=gen).item())
    return bytes(ids).decode("ascii", "replace")


def main():
    ap = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    ap.add_argument("--out", default=".", help="folder for the checkpoints and log.csv (default: here)")
    ap.add_argument("--steps", type=int, default=1600, help="updates; saved at 0, 1/16, 1/4 and all of them")
    ap.add_argument("--seed", type=int, default=1611)
    ap.add_argument("--threads", type=int, default=1, help="one is fastest for a model this small")
    args = ap.parse_args()
    if args.steps < 16:
        ap.error("--steps must be at least 16")
    os.makedirs(args.out, exist_ok=True)
    torch.set_num_threads(args.threads)
    torch.manual_seed(args.seed)
    gen = torch.Generator().manual_seed(args.seed + 1)

    train, held = load_corpus()
    baselines(train, held)
    all_held = held[: len(held) // (SEQ + 1) * (SEQ + 1)].view(-1, SEQ + 1)
    val = all_held[torch.linspace(0, len(all_held) - 1, 128).long()]  # fixed, spread evenly

    model = Llama(CONFIG)
    hidden = [p for n, p in model.named_parameters() if p.ndim == 2 and ".layers." in n]
    other = [p for n, p in model.named_parameters() if not (p.ndim == 2 and ".layers." in n)]
    optimizers = [Muon(hidden, PEAK_LR),
                  torch.optim.AdamW(other, PEAK_LR, betas=(0.9, 0.95), eps=1e-8, weight_decay=WEIGHT_DECAY)]
    print(f"{sum(p.numel() for p in model.parameters())} parameters, {sum(p.numel() for p in hidden)} under Muon")

    saved_at = {0, args.steps // 16, args.steps // 4, args.steps}
    start, recent = time.time(), []
    with open(os.path.join(args.out, "log.csv"), "w", newline="") as f:
        log = csv.writer(f, lineterminator="\n")
        log.writerow(["step", "tokens", "lr", "train_loss", "val_loss"])
        for step in range(args.steps + 1):
            lr, tokens = lr_at(step, args.steps), step * BATCH * SEQ
            at = torch.randint(len(train) - SEQ, (BATCH, 1), generator=gen)
            loss = model.loss(train[at + torch.arange(SEQ + 1)])
            recent.append(loss.item())
            if step % LOG_EVERY == 0 or step in saved_at:
                # train_loss: mean over the batches since the row before, each before its update.
                val_loss, train_loss = evaluate(model, val), sum(recent) / len(recent)
                recent.clear()
                log.writerow([step, tokens, f"{lr:.6g}", f"{train_loss:.4f}", f"{val_loss:.4f}"])
                f.flush()
                print(f"step {step:5d}  lr {lr:.2e}  train {train_loss:.4f}  val {val_loss:.4f}  "
                      f"{time.time() - start:6.1f} s", flush=True)
            if step in saved_at:
                save(os.path.join(args.out, f"step-{step:06d}.h5"), model, {
                    "muonspec_format": 1, "step": step, "optimizer": "muon", "lr": lr,
                    "weight_decay": WEIGHT_DECAY, "tokens": tokens, "loss": val_loss,
                    "config": json.dumps(CONFIG)})
            if step == args.steps:
                break
            for opt in optimizers:
                opt.zero_grad()
            loss.backward()
            for opt in optimizers:
                for group in opt.param_groups:
                    group["lr"] = lr
                opt.step()
    print(f"trained in {time.time() - start:.0f} s; all {len(all_held)} held-out windows: {evaluate(model, all_held):.4f}")
    print("sample:", sample(model, "And the LORD said unto ", 300, gen))


if __name__ == "__main__":
    main()
