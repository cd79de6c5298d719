"""Tables, figures and the report, generated from the metric files of the runs; nothing in them is typed by hand."""

# Params are composed from the modules of figures: they have to be whole before one of these is imported by itself.
import vlalign.params  # noqa: F401
