"""Where responses are sampled: by the trainer's own passes, or by a server."""
