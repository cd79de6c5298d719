"""What the objectives cost beside naive ones and beside a training step.

The variants of a case are timed in turn, each in a process of its own, so that peak memory is its own. Medians are
printed, and the median of the ratios of neighbours. One thread unless --threads says otherwise.

    python benchmarks/objectives.py                  # all cases, about a quarter of an hour
    python benchmarks/objectives.py mined divergence
"""

import argparse
import json
import os
import re
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import open_clip
import torch
import torch.nn.functional as F
from open_clip import ClipLoss
from rich.console import Console
from rich.progress import track
from rich.table import Table
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from vlalign.models import create
from vlalign.models.towers import tower_config
from vlalign.objectives import (
    cs_divergence,
    pool_phrases,
    pool_regions,
    powerset_loss,
    powerset_scores,
    triplet_margin,
)
from vlalign.objectives.nonlinear import Softplus

REPOSITORY = Path(__file__).parents[1]
Step = Callable[[], Any]


def features(images: int, *, regions: int = 10, phrases: int = 14, width: int = 512) -> tuple[Tensor, Tensor]:
    """Unit regions and phrases that want a gradient."""
    random = torch.Generator().manual_seed(0)
    shapes = (images, regions, width), (images, phrases, width)
    phi, p = (F.normalize(torch.randn(shape, generator=random), dim=-1) for shape in shapes)
    return phi.requires_grad_(), p.requires_grad_()


def naive_scores(phi: Tensor, p: Tensor, *, tau: float = 1e-3, zeta: float = 0.75) -> Tensor:
    """T1 + T2 as the paper's formulas read, under autograd."""
    x = torch.einsum("ird,cpd->icpr", phi, p) / tau
    t1 = tau * F.softplus(x).sum(-1).mean(-1)
    log_cosh = torch.logaddexp(x / 2, -x / 2) - torch.log(torch.tensor(2.0))
    return t1 + tau * torch.logsumexp((x / 2 + zeta * log_cosh).sum(-1), -1)


def backward(loss: Callable[[], Tensor], *leaves: Tensor) -> Step:
    """A step that leaves nothing behind."""
    return lambda: torch.autograd.grad(loss(), leaves)


def mined(images: int = 512) -> dict[str, Step]:
    """The triplet loss: pairs scored without a graph and differentiated where mined, against a graph over all."""
    phi, p = features(images)
    return {
        "ours": backward(lambda: powerset_loss(phi, p), phi, p),
        "naive": backward(lambda: triplet_margin(naive_scores(phi, p), margin=0.2), phi, p),
    }


def large() -> dict[str, Step]:
    """The same at 2,048 pairs, where the naive graph needs more than 13 GiB and is not run."""
    phi, p = features(2048)
    return {"ours": backward(lambda: powerset_loss(phi, p), phi, p)}


def regions() -> dict[str, Step]:
    """Growth with the number of regions: four times as many."""
    many, few = features(128, regions=32), features(128, regions=8)
    return {
        "R = 32": backward(lambda: powerset_scores(*many).total.sum(), *many),
        "R = 8": backward(lambda: powerset_scores(*few).total.sum(), *few),
    }


def phrases() -> dict[str, Step]:
    """Growth with the number of phrases: four times as many."""
    many, few = features(128, phrases=32), features(128, phrases=8)
    return {
        "P = 32": backward(lambda: powerset_scores(*many).total.sum(), *many),
        "P = 8": backward(lambda: powerset_scores(*few).total.sum(), *few),
    }


def softplus(elements: int = 2**20) -> dict[str, Step]:
    """The one transcendental of the non-linear aggregators, at τ = 0.001, against torch's own."""
    x = torch.randn(elements, generator=torch.Generator().manual_seed(0)).requires_grad_()
    return {
        "ours": backward(lambda: Softplus.apply(x, 1e-3).sum(), x),
        "torch's": backward(lambda: (1e-3 * F.softplus(x / 1e-3)).sum(), x),
        "log1p": backward(lambda: (x.relu() + 1e-3 * torch.log1p(torch.exp(-x.abs() / 1e-3))).sum(), x),
    }


def divergence(points: int = 8192) -> dict[str, Step]:
    """D_CS against kernels from torch.cdist under autograd."""
    random = torch.Generator().manual_seed(0)
    x, y = (F.normalize(torch.randn(points, 512, generator=random), dim=-1).requires_grad_() for _ in range(2))

    def naive() -> Tensor:
        def log_mean(a: Tensor, b: Tensor) -> Tensor:
            return torch.exp(-torch.cdist(a, b).square() / 2).mean().log()

        return log_mean(x, x) + log_mean(y, y) - 2 * log_mean(x, y)

    return {
        "ours": backward(lambda: cs_divergence(x, y, sigma=1.0), x, y),
        "naive": backward(naive, x, y),
    }


def step(tower: str = "ViT-B-32", batch: int = 64) -> dict[str, Step]:
    """A training step of open_clip's own ViT-B/32 with its InfoNCE, and ours with the powerset loss beside it."""
    images, tokens, powerset = step_inputs(tower, batch)
    contrastive = ClipLoss()
    plain = open_clip.create_model(tower).train()
    encoder = create(tower_config(tower), pooling="average").train()

    def infonce() -> None:
        contrastive(*plain(images, tokens)).backward()
        plain.zero_grad(set_to_none=True)

    def with_powerset() -> None:
        image, text = encoder(images, tokens)
        loss = contrastive(image.embedding_ID, text.embedding_CD, encoder.logit_scale.exp())
        (loss + 0.2 * powerset(image.patches_IVD, text.tokens_CLD)).backward()
        encoder.zero_grad(set_to_none=True)

    return {"with powerset": with_powerset, "InfoNCE": infonce}


def step_inputs(tower: str, batch: int) -> tuple[Tensor, Tensor, Callable[[Tensor, Tensor], Tensor]]:
    """Pictures, token ids, and the powerset loss of patch and word tokens with 10 regions and 14 phrases."""
    size, patch = (tower_config(tower)["vision_cfg"][name] for name in ("image_size", "patch_size"))
    images = torch.randn(batch, 3, size, size)
    tokens = open_clip.get_tokenizer(tower)(["two red cups and a dog to the left of a small blue house"] * batch)
    coverage = (torch.rand(batch, 10, (size // patch) ** 2) < 0.3).float()
    words = torch.where(tokens > 0, torch.arange(tokens.shape[1]), -1)
    members = torch.rand(batch, 14, tokens.shape[1]) < 0.2

    def powerset(patches_IVD: Tensor, tokens_CLD: Tensor) -> Tensor:
        phrases = pool_phrases(tokens_CLD, words, members, normalise=True)
        return powerset_loss(pool_regions(patches_IVD, coverage), phrases)

    return images, tokens, powerset


def aggregators(steps: int = 10, batch: int = 64) -> dict[str, Step]:
    """Training steps of the default's towers with each way to pool a phrase's similarities, beside the best region."""
    tower = json.loads((REPOSITORY / "config/towers/tiny.json").read_text())
    size, length = tower["vision_cfg"]["image_size"], tower["text_cfg"]["context_length"]
    encoder, contrastive = create(tower, pooling="average").train(), ClipLoss()
    images, coverage = torch.randn(batch, 3, size, size), (torch.rand(batch, 6, (size // 16) ** 2) < 0.3).float()
    words = torch.arange(length).expand(batch, length)
    members = torch.rand(batch, 12, length) < 0.2
    tokens = torch.randint(1, 1000, (batch, length))

    def run(aggregator: str) -> Step:
        def train() -> None:
            for _ in range(steps):
                image, text = encoder(images, tokens)
                regions = pool_regions(image.patches_IVD, coverage)
                phrases = pool_phrases(text.tokens_CLD, words, members, normalise=True)
                loss = contrastive(image.embedding_ID, text.embedding_CD, encoder.logit_scale.exp())
                how = {"loss": "cross-entropy", "scale": 15.0, "per_region": True}
                (loss + 2 * powerset_loss(regions, phrases, aggregator=aggregator, **how)).backward()
                encoder.zero_grad(set_to_none=True)

        return train

    return {name: run(name) for name in ("holder", "max", "prefix", "logmean", "nla", "sampled")}


def operations(tower: str = "ViT-B-16", batch: int = 4096, counted: int = 2) -> dict[str, float]:
    """Floating-point operations of the matrix products of one step, in units of 10^15.

    Those of the towers are proportional to the batch: they are counted for a few pairs. Those of the powerset loss are
    quadratic: they are counted for few pairs and for twice as many, which gives both coefficients.
    """
    plain = open_clip.create_model(tower)
    images, tokens, _ = step_inputs(tower, counted)
    towers = flops(lambda: ClipLoss()(*plain(images, tokens)).backward()) / counted * batch

    def powerset(pairs: int) -> int:
        _, ids, loss = step_inputs(tower, pairs)
        patches = torch.randn(pairs, (224 // 16) ** 2, 512, requires_grad=True)
        words = torch.randn(pairs, ids.shape[1], 512, requires_grad=True)
        return flops(lambda: loss(patches, words).backward())

    few, many = powerset(8), powerset(16)
    quadratic = (many - 2 * few) / (16**2 - 2 * 8**2)
    linear = (few - quadratic * 8**2) / 8
    ours = towers + linear * batch + quadratic * batch**2
    return {"with powerset": ours / 1e15, "InfoNCE": towers / 1e15}


def flops(run: Callable[[], Any]) -> int:
    """Operations of the matrix products that `run` does."""
    with FlopCounterMode(display=False) as counter:
        run()
    return counter.get_total_flops()


CASES: dict[str, Callable[[], dict[str, Step]]] = {
    "mined": mined,
    "large": large,
    "regions": regions,
    "phrases": phrases,
    "softplus": softplus,
    "divergence": divergence,
    "step": step,
    "aggregators": aggregators,
}


UNITS = ("seconds", "extra MiB", "PFLOP")


def measure(case: str, variant: str, *, threads: int) -> dict[str, float]:
    """Seconds of one step after a warm-up, and the memory that it needed beyond its inputs, in MiB."""
    torch.set_num_threads(threads)
    run = CASES[case]()[variant]
    load_libraries()
    Path("/proc/self/clear_refs").write_text("5")  # forgets the peak of memory
    before = resident("VmRSS")
    run()
    peak = resident("VmHWM") - before
    start = time.perf_counter()
    run()
    return {"seconds": time.perf_counter() - start, "extra MiB": peak}


def resident(key: str) -> float:
    """MiB that this process holds (VmRSS), or held at its peak (VmHWM); Linux alone tells."""
    status = Path("/proc/self/status").read_text()
    return int(re.findall(rf"^{key}:\s+(\d+) kB", status, re.MULTILINE)[0]) / 1024


def load_libraries() -> None:
    """What torch loads at first use is no memory of the step."""
    phi, p = features(4)
    for loss in (powerset_loss(phi, p, tile=2), naive_scores(phi, p).sum(), torch.cdist(phi, p).sum()):
        torch.autograd.grad(loss, (phi, p))


def compare(case: str, *, repeats: int, threads: int) -> dict[str, list[dict[str, float]]]:
    """Measure the variants of a case in turn, `repeats` times."""
    found: dict[str, list[dict[str, float]]] = {name: [] for name in CASES[case]()}
    for name in track([*found] * repeats, description=case):
        command = [sys.executable, __file__, case, "--variant", name, "--threads", str(threads)]
        environment = {**os.environ, "OMP_NUM_THREADS": str(threads)}
        done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True, env=environment)
        found[name].append(json.loads(done.stdout))
    return found


def main() -> None:
    """Print a table over the cases."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    known = [*CASES, "operations"]
    parser.add_argument("cases", nargs="*", choices=[*known, []], help=f"any of {', '.join(known)}; all if left out")
    parser.add_argument("--variant", help=argparse.SUPPRESS)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args()
    if options.variant:
        print(json.dumps(measure(options.cases[0], options.variant, threads=options.threads)))
        return
    table = Table("case", "variant", *UNITS, "ratios")
    for case in options.cases or known:
        if case == "operations":
            counted = operations()
            add_rows(table, case, {name: [{"PFLOP": count}] for name, count in counted.items()})
        else:
            add_rows(table, case, compare(case, repeats=options.repeats, threads=options.threads))
    Console().print(table)


def add_rows(table: Table, case: str, found: dict[str, list[dict[str, float]]]) -> None:
    """Medians of every variant and, beside the first, the ratios to the second."""
    for number, (name, runs) in enumerate(found.items()):
        medians = {key: statistics.median(run[key] for run in runs) for key in UNITS if key in runs[0]}
        cells = [f"{medians[key]:.4g}" if key in medians else "" for key in UNITS]
        if number == 0 and len(found) > 1:
            cells += [" / ".join(f"{ratio(found, key):.3f}" for key in medians)]
        table.add_row("" if number else case, name, *cells, end_section=number == len(found) - 1)


def ratio(found: dict[str, list[dict[str, float]]], key: str) -> float:
    """Median over neighbouring measurements of the first variant over the second."""
    first, second = list(found.values())[:2]
    return statistics.median(a[key] / max(b[key], 1e-9) for a, b in zip(first, second, strict=True))


if __name__ == "__main__":
    main()
