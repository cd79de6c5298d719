"""What the objectives cost beside naive ones and beside a training step.

Every pair of variants is timed in turn, each in a process of its own, so that peak memory is theirs. Medians are printed,
and the median of the ratios of neighbours. One thread unless --threads says otherwise.
"""

import argparse
import json
import os
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from rich.console import Console
from rich.table import Table
from torch import Tensor

from vlalign.objectives import cs_divergence, pool_phrases, powerset_loss, powerset_scores, triplet_margin

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
    """A training step of open_clip's ViT-B/32 with the powerset loss beside InfoNCE, against InfoNCE alone."""
    from open_clip import ClipLoss

    from vlalign.models import create
    from vlalign.models.towers import tower_config

    torch.manual_seed(0)
    encoder = create(tower_config(tower), pooling="average").train()
    images = torch.randn(batch, 3, encoder.image_size, encoder.image_size)
    tokens = encoder.tokenizer(["two red cups and a dog to the left of a small blue house"] * batch)
    patches = encoder.grid[0] * encoder.grid[1]
    coverage = (torch.rand(batch, 10, patches) < 0.3).float()
    words = torch.where(tokens > 0, torch.arange(tokens.shape[1]), -1)
    members = torch.rand(batch, 14, tokens.shape[1]) < 0.2

    def run(weight: float) -> None:
        from vlalign.objectives import pool_regions

        image, text = encoder(images, tokens)
        loss = ClipLoss()(image.embedding_ID, text.embedding_CD, encoder.logit_scale.exp())
        if weight:
            phi = pool_regions(image.patches_IVD, coverage)
            loss = loss + weight * powerset_loss(phi, pool_phrases(text.tokens_CLD, words, members, normalise=True))
        loss.backward()
        encoder.zero_grad(set_to_none=True)

    return {"with powerset": lambda: run(0.2), "InfoNCE": lambda: run(0.0)}


CASES: dict[str, Callable[[], dict[str, Step]]] = {
    "mined": mined,
    "large": large,
    "regions": regions,
    "phrases": phrases,
    "divergence": divergence,
    "step": step,
}


def measure(case: str, variant: str, *, threads: int) -> dict[str, float]:
    """Seconds of one step after a warm-up, and the memory that it needed beyond its inputs, in MiB."""
    torch.set_num_threads(threads)
    run = CASES[case]()[variant]
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    run()
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    start = time.perf_counter()
    run()
    return {"seconds": time.perf_counter() - start, "mebibytes": peak / 1024}


def compare(case: str, *, repeats: int, threads: int) -> tuple[list[str], dict[str, list[dict[str, float]]]]:
    """Measure the variants of a case in turn."""
    names = list(CASES[case]())
    found: dict[str, list[dict[str, float]]] = {name: [] for name in names}
    for _ in range(repeats):
        for name in names:
            command = [sys.executable, __file__, case, "--variant", name, "--threads", str(threads)]
            environment = {**os.environ, "OMP_NUM_THREADS": str(threads)}
            done = subprocess.run(command, check=True, capture_output=True, text=True, env=environment)
            found[name].append(json.loads(done.stdout))
    return names, found


def main() -> None:
    """Print a table over the cases."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("cases", nargs="*", choices=[*CASES, []], help=f"any of {', '.join(CASES)}; all if left out")
    parser.add_argument("--variant", help=argparse.SUPPRESS)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args()
    if options.variant:
        print(json.dumps(measure(options.cases[0], options.variant, threads=options.threads)))
        return
    table = Table("case", "variant", "seconds", "extra MiB", "time ratio", "memory ratio")
    for case in options.cases or CASES:
        names, found = compare(case, repeats=options.repeats, threads=options.threads)
        for name in names:
            seconds, memory = ([measured[key] for measured in found[name]] for key in ("seconds", "mebibytes"))
            cells = [f"{statistics.median(seconds):.3g}", f"{statistics.median(memory):.0f}", "", ""]
            if name == names[0] and len(names) > 1:
                cells[2:] = [f"{ratio(found, names, key):.2f}" for key in ("seconds", "mebibytes")]
            table.add_row(case if name == names[0] else "", name, *cells)
    Console().print(table)


def ratio(found: dict[str, list[dict[str, float]]], names: list[str], key: str) -> float:
    """Median over neighbouring measurements of the first variant over the second."""
    first, second = ([measured[key] for measured in found[name]] for name in names)
    return statistics.median(a / max(b, 1e-9) for a, b in zip(first, second, strict=True))


if __name__ == "__main__":
    main()
