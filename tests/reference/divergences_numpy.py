"""Divergences of two samples written out from their definitions, with NumPy alone."""

import numpy as np


def mmd(x, y, *, sigma, unbiased=False):
    """MMD² by double loops; sigma: one width or several."""

    def mean_kernel(a, b, skip):
        distances = [((p - q) ** 2).sum() for i, p in enumerate(a) for j, q in enumerate(b) if not (skip and i == j)]
        return np.mean([np.exp(-distance / (2 * s**2)) for distance in distances for s in np.atleast_1d(sigma)])

    return mean_kernel(x, x, unbiased) + mean_kernel(y, y, unbiased) - 2 * mean_kernel(x, y, False)


def kl(mean, covariance, other_mean, other_covariance):
    """KL(p ‖ q) of two Gaussians, with its logarithm of determinants."""
    inverse, apart = np.linalg.inv(other_covariance), other_mean - mean
    determinants = np.log(np.linalg.det(other_covariance) / np.linalg.det(covariance))
    return (np.trace(inverse @ covariance) + apart @ inverse @ apart - len(mean) + determinants) / 2


def gaussian_kl(x, y, *, shrinkage, variance=None):
    """Both directions; variance: v, where it is not that of the samples."""
    means, spreads = [cloud.mean(0) for cloud in (x, y)], [np.cov(cloud.T, bias=True) for cloud in (x, y)]
    if variance is None:
        variance = mixture_variance(x, y)
    p, q = (
        (mean, (1 - shrinkage) * spread + shrinkage * variance * np.eye(len(mean)))
        for mean, spread in zip(means, spreads, strict=True)
    )
    return kl(*p, *q) + kl(*q, *p)


def mixture_variance(x, y):
    """Variance per dimension of x and y together, each sample as a whole weighing the same."""
    everything = np.concatenate([np.repeat(x, len(y), 0), np.repeat(y, len(x), 0)])
    return everything.var(0).mean()


def sliced_wasserstein(x, y, directions):
    """Each direction by itself, after both samples are repeated until they have the same number of points."""
    lines = [(np.sort(np.repeat(x @ line, len(y))), np.sort(np.repeat(y @ line, len(x)))) for line in directions.T]
    return np.mean([((a - b) ** 2).mean() for a, b in lines])


def slope(function, x, *, step=1e-5):
    """The gradient of a function of x by central differences."""
    gradient = np.zeros_like(x)
    for index in np.ndindex(*x.shape):
        change = np.zeros_like(x)
        change[index] = step
        gradient[index] = (function(x + change) - function(x - change)) / (2 * step)
    return gradient
