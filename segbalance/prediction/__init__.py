"""A run's network -> masks or labels of new photos, in bounded memory.

What comes in is a run folder, or an export, and photos of any size; what goes out are masks, probabilities
and overlays as files, or arrays for a single photo.

`predictor` rebuilds the network from config and weights. `many_photos` reads, predicts and writes at the same
time; `labels` does so where photos have a class as a whole. `tables` plans where outputs go, and writes the
tables of what was found. `tiling` blends overlapping tiles, `photo_rows`, `row_bands` and `png_stream` read,
stretch and write pictures in bands of rows, `output` is what is left behind of one photo.
"""
