"""How is a model trained, scored and asked to write? One readable loop: `loop`."""
