"""From params and annotated shards to a trained run."""
