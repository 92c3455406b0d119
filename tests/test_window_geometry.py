"""Windows along an axis: Caffe's formula, ONNX Runtime, TensorFlow's "same" as XLA has it."""

import math

import jax
import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper

from inception_jax.models import layers, window_geometry

SIZES, WINDOWS, STRIDES = range(1, 24), range(1, 7), range(1, 7)


def caffes_windows(size: int, window: int, stride: int, pad: int = 0) -> int:
    """The output of Caffe's pooling layer; the last window starts inside the image or its pad."""
    windows = math.ceil((size + 2 * pad - window) / stride) + 1
    if (windows - 1) * stride >= size + pad:
        windows -= 1
    return windows


@pytest.mark.parametrize("stride", STRIDES)
@pytest.mark.parametrize("window", WINDOWS)
def test_covering_windows_are_caffes(window, stride):
    for size in SIZES:
        if size < window:  # Caffe needs a pixel for each of the window's
            continue
        windows = window_geometry.windows(size, window, stride, window_geometry.covering)
        assert windows == caffes_windows(size, window, stride), size
        before, after = window_geometry.covering(size, window, stride)
        assert (before, after) == (0, max(0, (windows - 1) * stride + window - size))
        assert after < window  # none lies outside the image


@pytest.mark.parametrize("size", range(1, 24))
def test_half_padded_windows_are_caffes(size):
    """Odd windows with stride 1, as all that are padded so: sizes do not change."""
    for window in (1, 3, 5, 7):
        expected = caffes_windows(size, window, 1, pad=window // 2)
        assert window_geometry.windows(size, window, 1, window_geometry.half) == expected == size


def test_a_window_larger_than_the_image_sees_all_of_it():
    assert window_geometry.windows(2, 5, 3, window_geometry.covering) == 1
    assert window_geometry.covering(2, 5, 3) == (0, 3)


@pytest.mark.parametrize("stride", [1, 2, 3, 4])
@pytest.mark.parametrize("window", [1, 2, 3, 5])
def test_max_pool_is_onnx_runtimes_in_ceil_mode(window, stride):
    images, pooled = (
        helper.make_tensor_value_info(
            name, TensorProto.FLOAT, [1, 1, f"{name}_height", f"{name}_width"]
        )
        for name in "xy"
    )
    node = helper.make_node(
        "MaxPool", ["x"], ["y"], kernel_shape=[window] * 2, strides=[stride] * 2, ceil_mode=1
    )
    model = helper.make_model(
        helper.make_graph([node], "pool", [images], [pooled]),
        opset_imports=[helper.make_opsetid("", 17)],
        ir_version=9,
    )
    onnx.checker.check_model(model)
    session = onnxruntime.InferenceSession(
        model.SerializeToString(), providers=["CPUExecutionProvider"]
    )
    pool = layers.MaxPool(window, stride, "caffe")
    rng = np.random.default_rng(0)
    for size in range(window, 13):
        x = rng.standard_normal((1, size, size + 1, 1)).astype(np.float32)
        (expected,) = session.run(None, {"x": x.transpose(0, 3, 1, 2)})
        actual = jax.jit(lambda x: pool(x, train=False))(x)
        np.testing.assert_array_equal(actual, expected.transpose(0, 2, 3, 1))


@pytest.mark.parametrize("stride", STRIDES)
@pytest.mark.parametrize("window", WINDOWS)
def test_same_windows_are_xlas(window, stride):
    for size in SIZES:
        (expected,) = jax.lax.padtype_to_pads((size,), (window,), (stride,), "SAME")
        assert window_geometry.same(size, window, stride) == expected
        assert window_geometry.windows(size, window, stride, window_geometry.same) == math.ceil(
            size / stride
        )
