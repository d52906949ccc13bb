"""How images are drawn and how they count in the loss.

What comes in are the sizes of the subsets and the options of balance; what goes out is a `BalancePlan` of
shares and weights, and an endless, seekable order of draws (subset, row, sample seed) that keeps them.

`plan` works out the strategies, `draws` the orders, `skipping` what takes the place of a file that cannot be
read any more, `ledger` what each subset was promised and what it got. `any_dataset`, with `class_loaders` and
`dataset_classes`, balances the classes of any tf.data.Dataset; only these three import TensorFlow.
"""
