"""A training loop of open_clip's parts on annotated shards; the lines marked + add the powerset and the CS loss.

python examples/open_clip_loop.py data/scenes/train data/annotations/scenes   # after `make all`
"""

import argparse

import open_clip
import torch

from vlalign.models import DualEncoder
from vlalign.models.pictures import normalise
from vlalign.objectives import centre, cs_divergence, pool_phrases, pool_regions, powerset_loss  # +
from vlalign.params import PhraseChoice, RegionChoice  # +
from vlalign.training.data.batches import PairedSet

parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
parser.add_argument("split")
parser.add_argument("annotations")
parser.add_argument("--steps", type=int, default=100)
parser.add_argument("--batch-size", type=int, default=64)
options = parser.parse_args()

torch.manual_seed(0)
open_clip.add_model_config("config/towers/tiny.json")
clip = open_clip.create_model("tiny", force_custom_text=True).train()
# Any open_clip model, read with patch and word tokens in the joint space.
encoder = DualEncoder(clip, open_clip.get_tokenizer("tiny"), pooling="average")
contrastive = open_clip.ClipLoss()
optimizer = torch.optim.AdamW(clip.parameters(), lr=1e-3, weight_decay=0.05)
data = PairedSet(
    options.split,
    encoder,
    phrases=f"{options.annotations}/phrases/train",  # +
    regions=f"{options.annotations}/regions/train",  # +
    phrase_choice=PhraseChoice(),  # +
    region_choice=RegionChoice(count=6),  # +
)

for step in range(options.steps):
    batch = data.batch(seed=0, step=step, size=options.batch_size)
    image, text = encoder(normalise(batch.images, encoder), batch.tokens)
    loss = contrastive(image.embedding_ID, text.embedding_CD, clip.logit_scale.exp())

    regions = pool_regions(image.patches_IVD, batch.coverage)  # +
    phrases = pool_phrases(text.tokens_CLD, batch.words, batch.members, normalise=True)  # +
    masks = {"region_mask": batch.region_mask, "phrase_mask": batch.phrase_mask}  # +
    regions, phrases = centre(regions, batch.region_mask), centre(phrases, batch.phrase_mask)  # +
    powerset = powerset_loss(  # +
        regions, phrases, loss="cross-entropy", scale=15.0, per_region=True, cost=0.3, **masks
    )
    divergence = cs_divergence(image.embedding_ID, text.embedding_CD, sigma=(0.25, 0.5, 1.0), unbiased=True)  # +
    loss = loss + 2.0 * powerset + 0.1 * divergence  # +

    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    if step % 10 == 0 or step == options.steps - 1:
        print(f"step {step}: loss {loss:.3f}, powerset {powerset:.3f}, divergence {divergence:.3f}", flush=True)
