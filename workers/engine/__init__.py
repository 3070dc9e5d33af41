"""The training engine: activations of a language model in, a sparse autoencoder out.

Pure PyTorch; runs alone with `python -m workers.engine RUN_DIR`. Nothing is imported here, so that
`workers.engine.config` can be used where torch is not.
"""
