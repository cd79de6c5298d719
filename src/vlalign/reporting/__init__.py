"""Tables, figures and the report, generated from the metric files of the runs; nothing in them is typed by hand."""
