"""What is measured of generated pictures."""

from dataclasses import replace

from vlalign.evaluation.benchmark import Metric

NAME = "generation"
# The group of what real pictures score.
REAL = "real"
# Of the Fréchet distance, where no file of Inception's weights is given.
PACKAGE = "package:efficientnet-lite0"

# A Fréchet distance names its features: those of different ones do not compare.
PACKAGED, INCEPTION, CLIP = (
    replace(metric, benchmark=NAME)
    for metric in (
        Metric("fid_efficientnet_lite0", "FID (EfficientNet-Lite0)", unit="distance", direction="lower", digits=2),
        Metric("fid_inception", "FID (Inception)", unit="distance", direction="lower", digits=2),
        Metric("clip_score", "CLIP score", unit="similarity", digits=3),
    )
)
METRICS = (PACKAGED, INCEPTION, CLIP)
