"""Recall over 5,000 images and 25,000 captions beside CLIP_benchmark's function: time and memory, in two processes.

python benchmarks/evaluation.py [--images 5000] [--rounds 5]
"""

import argparse
import json
import resource
import statistics
import subprocess
import sys
import time

CAPTIONS, DIMENSIONS, BATCH = 5, 512, 64


def embeddings(images):
    import torch
    import torch.nn.functional as F

    draw = torch.Generator().manual_seed(0)
    pictures = F.normalize(torch.randn(images, DIMENSIONS, generator=draw), dim=-1)
    owner = torch.arange(images).repeat_interleave(CAPTIONS)
    noise = torch.randn(len(owner), DIMENSIONS, generator=draw)
    return pictures, F.normalize(pictures[owner] + 0.15 * noise, dim=-1), owner


def ours(pictures, captions, owner):
    from vlalign.evaluation.recall import recall_hits

    found = recall_hits(pictures, captions, owner)
    return {f"{way} {k}": hits.double().mean().item() for (way, k), hits in found.items()}


def theirs(pictures, captions, owner):
    """What CLIP_benchmark's `evaluate` does once everything is encoded."""
    import torch
    from clip_benchmark.metrics.zeroshot_retrieval import batchify, recall_at_k

    scores = captions @ pictures.t()
    positive = torch.zeros_like(scores, dtype=bool)
    positive[torch.arange(len(scores)), owner] = True
    found = {}
    for k in (1, 5, 10):
        hits = batchify(recall_at_k, scores, positive, BATCH, "cpu", k=k) > 0
        found[f"text_to_image {k}"] = hits.double().mean().item()
        hits = batchify(recall_at_k, scores.T, positive.T, BATCH, "cpu", k=k) > 0
        found[f"image_to_text {k}"] = hits.double().mean().item()
    return found


def measure(which, images):
    import torch

    torch.set_num_threads(1)
    data = embeddings(images)
    function = {"ours": ours, "theirs": theirs}[which]
    function(*(part[:50] if part is data[0] else part[: 50 * CAPTIONS] for part in data))  # imports
    before, start = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, time.process_time()
    recall = function(*data)
    seconds, peak = time.process_time() - start, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    print(json.dumps({"seconds": seconds, "MiB": (peak - before) / 1024, "recall": recall}))


def run(which, images):
    command = [sys.executable, __file__, "--one", which, "--images", str(images)]
    return json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--images", type=int, default=5000)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--one", choices=["ours", "theirs"], help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.one:
        measure(options.one, options.images)
        return
    pairs = [(run("ours", options.images), run("theirs", options.images)) for _ in range(options.rounds)]
    for one, other in pairs:
        assert one["recall"].keys() == other["recall"].keys()
    largest = max(abs(one["recall"][key] - other["recall"][key]) for one, other in pairs for key in one["recall"])
    ratios = [one["seconds"] / other["seconds"] for one, other in pairs]
    print(f"{options.images:,} images x {options.images * CAPTIONS:,} captions, one thread, {options.rounds} rounds")
    print(f"largest difference of a recall: {largest:g}")
    print(f"CPU time, ours / CLIP_benchmark: {statistics.median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f})")
    for name, number in (("ours", 0), ("CLIP_benchmark", 1)):
        print(
            f"{name}: {statistics.median(pair[number]['seconds'] for pair in pairs):.1f} s, "
            f"{max(pair[number]['MiB'] for pair in pairs):,.0f} MiB above what was there before"
        )


if __name__ == "__main__":
    main()
