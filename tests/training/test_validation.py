import numpy as np
import pytest
import torch
from training_runs import TOWER

from vlalign import models
from vlalign.models.pictures import normalise
from vlalign.training import validation
from vlalign.training.data.batches import PairedSet
from vlalign.training.processes import Processes


@pytest.fixture
def encoder():
    torch.manual_seed(0)
    return models.create(TOWER, pooling="average").train()


@pytest.mark.parametrize("chunk", [7, 1024])
def test_validation_is_infonce_and_recall_over_all_pairs(encoder, inputs, monkeypatch, chunk):
    monkeypatch.setattr(validation, "CHUNK", chunk)
    data = PairedSet(inputs.split, encoder)
    found = validation.validate(encoder, data, team=Processes(), batch_size=16)
    assert encoder.training

    encoder.eval()
    with torch.no_grad():
        pairs = data.select(torch.arange(len(data)))
        image, text = encoder(normalise(pairs.images, encoder), pairs.tokens)
    logits = (encoder.logit_scale.exp() * image.embedding_ID @ text.embedding_CD.T).double().detach().numpy()
    losses, recalls = [], []
    for scores in (logits, logits.T):
        shifted = np.exp(scores - scores.max(1, keepdims=True))
        losses.append(-np.log(np.diag(shifted) / shifted.sum(1)).mean())
        recalls.append(100 * (scores.argmax(1) == np.arange(len(scores))).mean())
    assert found["val_loss"] == pytest.approx(np.mean(losses), rel=1e-5)
    assert [found["val_i2t_r1"], found["val_t2i_r1"]] == pytest.approx(recalls)
