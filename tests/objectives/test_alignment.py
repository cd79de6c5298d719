import pytest
import torch
import torch.nn.functional as F

from vlalign.objectives import centre, pool_phrases, pool_regions


def test_regions_are_weighted_means_of_their_patches():
    patches = torch.randn(2, 4, 3)
    coverage = torch.tensor([[[1.0, 0, 0, 0], [0.5, 0.5, 0, 0]], [[0, 0, 0, 0], [0, 0, 0, 1]]])
    regions = pool_regions(patches, coverage)
    torch.testing.assert_close(regions[0, 0], F.normalize(patches[0, 0], dim=0))
    torch.testing.assert_close(regions[0, 1], F.normalize(patches[0, 0] + patches[0, 1], dim=0))
    assert (regions[1, 0] == 0).all()


def test_phrases_are_sums_of_unit_words():
    tokens = torch.randn(1, 5, 3)
    words = torch.tensor([[-1, 0, 0, 1, -1]])
    members = torch.tensor([[[True, True], [False, True], [False, False]]])
    first, second = F.normalize(tokens[0, 1] + tokens[0, 2], dim=0), F.normalize(tokens[0, 3], dim=0)
    phrases = pool_phrases(tokens, words, members)
    torch.testing.assert_close(phrases[0], torch.stack([first + second, second, torch.zeros(3)]))
    torch.testing.assert_close(pool_phrases(tokens, words, members, normalise=True)[0, 0].norm(), torch.tensor(1.0))


def test_centring_ignores_masked_vectors():
    x = F.normalize(torch.randn(3, 4, 5), dim=-1)
    mask = torch.ones(3, 4, dtype=torch.bool)
    mask[0, 1:] = False
    centred = centre(x, mask)
    expected = F.normalize(x - x[mask].mean(0), dim=-1)
    torch.testing.assert_close(centred[mask], expected[mask])
    assert (centred[~mask] == 0).all()


def test_centring_keeps_zeros_and_does_not_blow_up_rounding():
    x = torch.ones(2, 3, 4) / 2 + 1e-7 * torch.randn(2, 3, 4)
    assert centre(x).norm(dim=-1).max() < 0.01, "nearly equal vectors have no direction of their own"
    x = F.normalize(torch.randn(2, 3, 4), dim=-1)
    x[0, 0] = 0
    mask = torch.ones(2, 3, dtype=torch.bool)
    mask[1, 2] = False
    wanted = centre(x, mask)
    assert (wanted[0, 0] == 0).all()
    x[1, 2] = torch.nan
    torch.testing.assert_close(centre(x, mask), wanted)


def test_alignment_is_fp32_under_autocast():
    patches, tokens = torch.randn(2, 6, 8), torch.randn(2, 5, 8)
    coverage, words, members = torch.rand(2, 3, 6), torch.arange(5).expand(2, 5), torch.rand(2, 4, 5) < 0.5

    def run():
        return centre(pool_regions(patches, coverage)), centre(pool_phrases(tokens, words, members))

    with torch.autocast("cpu", dtype=torch.bfloat16):
        inside = run()
    for ours, theirs in zip(inside, run(), strict=True):
        torch.testing.assert_close(ours, theirs, atol=0, rtol=0)
    assert pool_regions(patches.bfloat16(), coverage).dtype == torch.float32


def test_errors_name_the_argument_and_its_shape():
    patches, tokens, words = torch.zeros(2, 6, 8), torch.zeros(2, 5, 8), torch.zeros(2, 5).long()
    with pytest.raises(ValueError, match=r"coverage_IRV has shape \(2, 3, 5\)"):
        pool_regions(patches, torch.zeros(2, 3, 5))
    with pytest.raises(ValueError, match=r"word_CL has shape \(2, 4\)"):
        pool_phrases(tokens, words[:, :4], torch.zeros(2, 4, 5))
    with pytest.raises(ValueError, match=r"member_CPW has shape \(1, 4, 5\)"):
        pool_phrases(tokens, words, torch.zeros(1, 4, 5))
    with pytest.raises(ValueError, match=r"x_NKD has shape \(6, 8\)"):
        centre(patches[0])
    with pytest.raises(ValueError, match=r"mask_NK has shape \(6,\)"):
        centre(patches, torch.ones(6, dtype=torch.bool))
