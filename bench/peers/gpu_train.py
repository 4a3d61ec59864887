#!/usr/bin/env python3
"""A training step of the GPT-2 124M shape on a GPU: strata bench model --device cuda --bf16 beside a compiled PyTorch
model of the same shape (bf16 autocast, cuDNN or flash attention as PyTorch chooses, fused AdamW, gradient clipping), same
batch, same run."""

import time

import peer

try:
    import torch
except ImportError:
    raise SystemExit("gpu_train: PyTorch is not installed; skipped")
from torch import nn
from torch.nn import functional as F


class Block(nn.Module):
    def __init__(self, width, heads):
        super().__init__()
        self.heads = heads
        self.norm1, self.norm2 = nn.LayerNorm(width, bias=False), nn.LayerNorm(width, bias=False)
        self.qkv, self.out = nn.Linear(width, 3 * width, bias=False), nn.Linear(width, width, bias=False)
        self.up, self.down = nn.Linear(width, 4 * width, bias=False), nn.Linear(4 * width, width, bias=False)

    def forward(self, x):
        b, t, w = x.shape
        q, k, v = (z.view(b, t, self.heads, -1).transpose(1, 2) for z in self.qkv(self.norm1(x)).split(w, -1))
        o = F.scaled_dot_product_attention(q, k, v, is_causal=True)
        x = x + self.out(o.transpose(1, 2).reshape(b, t, w))
        return x + self.down(F.gelu(self.up(self.norm2(x))))


class Model(nn.Module):
    def __init__(self, vocab, context, layers, width, heads):
        super().__init__()
        self.embed, self.pos = nn.Embedding(vocab, width), nn.Embedding(context, width)
        self.blocks = nn.ModuleList(Block(width, heads) for _ in range(layers))
        self.norm, self.head = nn.LayerNorm(width, bias=False), nn.Linear(width, vocab, bias=False)

    def forward(self, tokens, targets):
        x = self.embed(tokens) + self.pos.weight[:tokens.shape[1]]
        for block in self.blocks:
            x = block(x)
        logits = self.head(self.norm(x))
        return F.cross_entropy(logits.view(-1, logits.shape[-1]), targets.reshape(-1))


def torch_step_ms(args, compiled):
    torch.manual_seed(1)
    torch.set_float32_matmul_precision("high")
    model = Model(args.vocab, args.context, args.layers, args.width, args.heads).cuda()
    optimiser = torch.optim.AdamW(model.parameters(), lr=1e-4, betas=(0.9, 0.95), fused=True)
    run = torch.compile(model) if compiled else model
    tokens = torch.randint(args.vocab, (args.batch, args.context + 1), device="cuda")

    def step():
        with torch.autocast("cuda", dtype=torch.bfloat16):
            loss = run(tokens[:, :-1], tokens[:, 1:])
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimiser.step()
        optimiser.zero_grad(set_to_none=True)

    for _ in range(4):
        step()
    times = []
    for _ in range(args.repeat):
        torch.cuda.synchronize()
        start = time.monotonic()
        for _ in range(4):
            step()
        torch.cuda.synchronize()
        times.append((time.monotonic() - start) / 4 * 1e3)
    return sorted(times)[len(times) // 2]


def main():
    p = peer.arguments(__doc__)
    p.set_defaults(threads=1)
    for name, value in (("layers", 12), ("width", 768), ("heads", 12), ("context", 1024), ("vocab", 50304), ("batch", 16)):
        p.add_argument("--" + name, type=int, default=value)
    p.add_argument("--mixer", nargs="*", default=["score=mlr ranks=16,16,16,16 gain=count"], help="more mixers than full attention")
    p.add_argument("--eager", action="store_true", help="do not compile the PyTorch model")
    args = p.parse_args()
    if not torch.cuda.is_available():
        raise SystemExit("gpu_train: no GPU; skipped")
    print(f"torch {torch.__version__}, {torch.cuda.get_device_name()}; batch {args.batch} x {args.context}")
    rows = []
    theirs = torch_step_ms(args, not args.eager)
    torch.cuda.empty_cache()
    for mixer in ["", *args.mixer]:
        spec = (f"decoder layers={args.layers} width={args.width} context={args.context} pos=learned "
                f"mixers=softmax(heads={args.heads} {mixer})")
        ours = peer.strata(args, "model", spec, "--vocab", str(args.vocab), "--batch", str(args.batch), "--device", "cuda",
                           "--bf16")
        r = next(x for x in ours if x.get("what") == spec)
        ms = r["seconds"] * 1e3
        rows.append([mixer or "full attention", f"{ms:.2f}", f"{args.batch * args.context / ms:.0f}", f"{r['of_roof']:.2f}",
                     f"{theirs:.2f}", f"{theirs / ms:.2f}"])
    peer.table(["bf16", "ms a step", "tokens/ms", "of matmul roof", "PyTorch ms", "ratio"], rows)


if __name__ == "__main__":
    main()
