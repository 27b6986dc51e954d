"""What a trained model is packaged as: which families can be, and which files the package then holds.

ONNX is the default (``onnx_export``). A use case chooses another one by ``model_format``; every one goes through the
same search, the same parity gate and the same gates of release.
"""
