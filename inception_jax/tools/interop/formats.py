"""Formats of weights and networks by name, each with its module, imported when it is asked for."""

# `convert --from`. Each module has CONFIG, READERS, `separate` and `layers`.
IMPORTED = {
    "torchvision": "inception_jax.tools.interop.torchvision",
    "onnx": "inception_jax.tools.interop.caffe_onnx",
    "tf_slim": "inception_jax.tools.interop.tf_slim",
}

# `export --to`. Each module has `write(model, path)`; their packages are optional.
EXPORTED = {
    "onnx": "inception_jax.tools.interop.onnx_graph",
    "stablehlo": "inception_jax.tools.interop.stablehlo",
    "safetensors": "inception_jax.tools.interop.hugging_face",
    "torchvision": "inception_jax.tools.interop.torchvision",
}
