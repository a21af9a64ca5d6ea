"""Images and texts to unit vectors: model directories, ONNX Runtime, the built-in model.

It may import `settings` and `problems`.
"""
