"""Where the loader's time goes, and what would make it faster.

What comes in is a training config; what goes out are the times of each stage, the rates of the loader and the
model, and advice with the figures that it rests on.

`profile` measures, `advice` concludes.
"""
