"""One training step of the same R2D2 model in PyTorch, as a user would write it: what `trainer bench` is held to.

  python trainer/bench/pytorch_step.py --config configs/train-demo.toml --steps 20

Same sizes, batch, lengths, losses (GCPR and FGR on all pairs) and AdamW (PyTorch's fused one). Prints one JSON line.
"""
import argparse
import json
import resource
import statistics
import time
import tomllib

import torch
import torch.nn.functional as F
from torch import nn


class Attention(nn.Module):
    def __init__(self, width, memory, heads):
        super().__init__()
        self.q, self.k, self.v = nn.Linear(width, width), nn.Linear(memory, width), nn.Linear(memory, width)
        self.out, self.heads = nn.Linear(width, width), heads

    def forward(self, x, memory, mask=None):
        def split(y):
            return y.view(y.shape[0], y.shape[1], self.heads, -1).transpose(1, 2)

        y = F.scaled_dot_product_attention(split(self.q(x)), split(self.k(memory)), split(self.v(memory)), mask)
        return self.out(y.transpose(1, 2).reshape(x.shape))


class QuickGelu(nn.Module):
    def forward(self, x):
        return x * torch.sigmoid(1.702 * x)


class VisionBlock(nn.Module):
    def __init__(self, c):
        super().__init__()
        self.norm1, self.norm2 = nn.LayerNorm(c["width"]), nn.LayerNorm(c["width"])
        self.attention = Attention(c["width"], c["width"], c["heads"])
        self.mlp = nn.Sequential(nn.Linear(c["width"], c["mlp"]), QuickGelu(), nn.Linear(c["mlp"], c["width"]))

    def forward(self, x):
        y = self.norm1(x)
        x = x + self.attention(y, y)
        return x + self.mlp(self.norm2(x))


class TextBlock(nn.Module):
    def __init__(self, width, heads, mlp, memory=None):
        super().__init__()
        self.attention, self.norm1 = Attention(width, width, heads), nn.LayerNorm(width)
        self.cross = Attention(width, memory, heads) if memory else None
        self.norm2 = nn.LayerNorm(width) if memory else None
        self.mlp = nn.Sequential(nn.Linear(width, mlp), nn.GELU(), nn.Linear(mlp, width))
        self.norm3 = nn.LayerNorm(width)

    def forward(self, x, mask=None, memory=None, memory_mask=None):
        x = self.norm1(x + self.attention(x, x, mask))
        if self.cross is not None:
            x = self.norm2(x + self.cross(x, memory, memory_mask))
        return self.norm3(x + self.mlp(x))


class R2D2(nn.Module):
    def __init__(self, m):
        super().__init__()
        v, t, c = m["vision"], m["text"], m["cross"]
        patches = (v["image"] // v["patch"]) ** 2
        self.patch = nn.Conv2d(3, v["width"], v["patch"], v["patch"], bias=False)
        self.cls = nn.Parameter(torch.randn(v["width"]) * 0.05)
        self.place = nn.Parameter(torch.randn(patches + 1, v["width"]) * 0.02)
        self.pre = nn.LayerNorm(v["width"])
        self.vision = nn.ModuleList(VisionBlock(v) for _ in range(v["layers"]))
        self.words, self.positions = nn.Embedding(21128, t["width"]), nn.Embedding(m["positions"], t["width"])
        self.text_norm = nn.LayerNorm(t["width"])
        self.text = nn.ModuleList(TextBlock(t["width"], t["heads"], t["mlp"]) for _ in range(t["layers"]))
        joint = lambda memory: nn.ModuleList(TextBlock(t["width"], c["heads"], c["mlp"], memory) for _ in range(c["layers"]))
        self.text_joint, self.image_joint = joint(v["width"]), joint(t["width"])
        self.vision_proj, self.text_proj = nn.Linear(v["width"], m["embed"]), nn.Linear(t["width"], m["embed"])
        self.joint_proj = nn.Linear(v["width"], t["width"])
        self.itm, self.itm_i = nn.Linear(t["width"], 2), nn.Linear(t["width"], 2)

    def forward(self, pixels, ids, mask, pairs):
        x = self.patch(pixels).flatten(2).transpose(1, 2)
        x = self.pre(torch.cat([self.cls.expand(len(x), 1, -1), x], 1) + self.place)
        for block in self.vision:
            x = block(x)
        added = ((mask.float() - 1.0) * 10000.0)[:, None, None, :]
        t = self.text_norm(self.words(ids) + self.positions.weight[: ids.shape[1]])
        for block in self.text:
            t = block(t, added)
        v_unit, t_unit = F.normalize(self.vision_proj(x[:, 0]), dim=1), F.normalize(self.text_proj(t[:, 0]), dim=1)
        logits, own = v_unit @ t_unit.T / 0.07, torch.arange(len(ids))
        loss = (F.cross_entropy(logits, own) + F.cross_entropy(logits.T, own)) / 2
        with torch.no_grad():
            off = 1.0 - torch.eye(len(ids))
            image_of_text = torch.multinomial(logits.T.softmax(1)[:pairs] * off[:pairs] + 1e-8 * off[:pairs], 1)[:, 0]
            text_of_image = torch.multinomial(logits.softmax(1)[:pairs] * off[:pairs] + 1e-8 * off[:pairs], 1)[:, 0]
            own = own[:pairs]
        image_at, text_at = torch.cat([own, image_of_text, own]), torch.cat([own, own, text_of_image])
        labels = torch.cat([torch.ones(pairs), torch.zeros(2 * pairs)]).long()
        image, text, text_mask = x[image_at], t[text_at], added[text_at]
        a, b = text, self.joint_proj(image)
        for block in self.text_joint:
            a = block(a, text_mask, image)
        for block in self.image_joint:
            b = block(b, None, text, text_mask)
        weight = torch.tensor([1.0, 2.0])
        fgr = F.cross_entropy(self.itm(a[:, 0]), labels, weight) + F.cross_entropy(self.itm_i(b[:, 0]), labels, weight)
        return loss + fgr / 2


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--config", required=True)
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--length", type=int, default=40)
    parser.add_argument("--device", default="cpu", help="cpu or cuda")
    args = parser.parse_args()
    config = tomllib.load(open(args.config, "rb"))
    torch.manual_seed(1)
    torch.set_num_threads(args.threads)
    torch.set_default_device(args.device)
    wait = torch.cuda.synchronize if args.device.startswith("cuda") else lambda: None
    model, batch = R2D2(config["model"]), config["data"]["batch"]
    optimiser = torch.optim.AdamW(model.parameters(), lr=1e-4, weight_decay=0.05, betas=(0.9, 0.98), fused=True)
    side = config["model"]["vision"]["image"]
    pairs = min(batch, config["loss"]["itm_pairs_max"] // 3)
    times = []
    for _ in range(args.steps + 3):
        pixels = torch.randn(batch, 3, side, side)
        ids = torch.randint(1000, 8000, (batch, args.length))
        mask = torch.ones_like(ids)
        wait()
        began = time.perf_counter()
        loss = model(pixels, ids, mask, pairs)
        optimiser.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimiser.step()
        wait()
        times.append((time.perf_counter() - began) * 1000)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(json.dumps({"who": "pytorch", "median_ms": statistics.median(times[3:]), "min_ms": min(times[3:]), "peak_mib": round(peak)}))


main()
