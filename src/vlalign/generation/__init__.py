"""Pictures from captions, through decoders of image embeddings."""
