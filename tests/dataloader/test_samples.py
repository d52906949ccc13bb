"""Single pairs: a reader of them is the same in another process."""

import math
import pickle

import numpy as np

from segbalance.dataloader.pair_cache import PairReader
from segbalance.dataloader.samples import Sample, SampleReader, Subset
from segbalance.transforms.pipelines import train_transform
from tests.support.data import write_data

SIZE = 32


def assert_same(arrays, others):
    for array, other in zip(arrays, others, strict=True):
        np.testing.assert_array_equal(array, other)
        assert (array.shape, array.dtype) == (other.shape, other.dtype)


def test_a_sample_reader_survives_pickling(tmp_path):
    root = write_data(tmp_path, {"a": 1, "b": 1, "c": 1})
    images = [str(root / "train/images" / name / "0.png") for name in "abc"]
    transform = train_transform(SIZE)
    subsets = [
        Subset(name, [path], [path.replace("images", "masks")], transform)
        for name, path in zip("abc", images, strict=True)
    ]
    reader = SampleReader(
        [subset.name for subset in subsets],
        [subset.transform for subset in subsets],
        [subset.encoding for subset in subsets],
        SIZE,
        PairReader(working_size=40),
    )
    samples = [
        Sample(subset, subsets[subset].images[0], subsets[subset].masks[0], seed, plain)
        for subset in range(len(subsets))
        for seed in (1, 2**64 - 1)
        for plain in (False, True)
    ]
    expected = [reader.read(sample) for sample in samples]  # so that it has a thread's own transforms
    again = pickle.loads(pickle.dumps(reader))
    for sample, pair in zip(samples, expected, strict=True):
        assert_same(again.read(sample), pair)
    assert (again.names, again.image_size, again.pairs.working_size) == (reader.names, SIZE, 40)
    assert len({image.tobytes() for image, _ in expected}) > math.ceil(len(samples) / 2), "seeds matter"
