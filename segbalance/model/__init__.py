"""Networks, losses, scores and the optimiser.

What comes in are names (architecture, backbone, loss) and sizes; what goes out is a compiled
`SegmentationModel`: uint8 photos in, float32 probabilities out, with this project's training and validation
steps.

`networks` builds and compiles, `architectures` says which sizes fit which network. `heads` has what the three
tasks differ in: the end of the network, loss, counts and scores; `classifier` puts a pooling head in place of
a decoder. `losses` and `class_losses` are the losses, named as `loss_terms` reads them; `optimizer` is AdamW
with warm-up and decay, `freezing` lets an encoder learn later; `metrics` counts pixels as 64-bit integers,
`false_alarms` those found in subsets that have no foreground. `weight_files` checks a file before Keras reads
it, `host_copy` holds a training's state still while it is written. Photos are cast and scaled inside of the
network, so that
training, prediction and exports cannot disagree.
"""
