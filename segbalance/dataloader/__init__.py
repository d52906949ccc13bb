"""Draws -> pixels -> batches.

What comes in are subsets (paths, masks, transform) and a balance plan; what goes out are endless batches of
uint8 images (B, S, S, 3), uint8 masks (B, S, S, 1) and int32 subsets (B,), each a function of config, seed
and step alone.

`batches` is the chain of tf.data from the loaders to `model.fit`; `loaders` has the tutorial's calls, with
one loader of one pass for each subset. `reading` fills one batch, on threads or by `reading_processes`;
`samples` reads a single pair. `working_size` shrinks large photos as they are decoded; `pair_cache` and
`ram_cache` keep decoded pairs. Draws are shuffled and mixed, never pixels: no buffer holds images.
"""
