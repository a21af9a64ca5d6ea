"""How good an exported model is: at finding copies, and at searching by text.

It may import everything else of `training`; only `class_photos` needs torch.
"""
