"""What trained encoders are worth: features of the data, and benchmarks on them."""

# Params are composed from the benchmarks, which need the first half of that package: it has to come first.
import vlalign.params  # noqa: F401
