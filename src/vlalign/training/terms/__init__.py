"""Terms of the loss, one in each module; see `vlalign.training.term` for what one is, and CONTRIBUTING.md."""

# Params are composed from these modules, which need the first half of that package: it has to come first.
import vlalign.params  # noqa: F401
