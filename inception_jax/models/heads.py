"""The heads of a network: the classifier at its end, and the auxiliary ones of section 5."""

import jax
import jax.numpy as jnp
from flax import nnx

from inception_jax.models.conv_unit import ConvUnit
from inception_jax.models.kernels.relu import relu
from inception_jax.models.layers import AdaptiveAveragePool, AveragePool, GlobalAveragePool
from inception_jax.models.options import GoogLeNetConfig
from inception_jax.models.shapes import Maps
from inception_jax.models.tables import (
    AUXILIARY_FILTERS,
    AUXILIARY_PARTS,
    AUXILIARY_STRIDE,
    AUXILIARY_WINDOW,
    FULLY_CONNECTED_UNITS,
)


class AuxiliaryHead(nnx.Module):
    """Section 5: average pool 5x5/3, 1x1 convolution, fully connected, dropout 70 %, linear."""

    def __init__(self, pooled: Maps, config: GoogLeNetConfig, **unit):
        """Builds the layers.

        Args:
          pooled: the output of the head's average pool.
          config: of the network.
          unit: the arguments that all ConvUnits share.
        """
        dense = {key: unit[key] for key in ("dtype", "rngs")}
        hidden = config.scale(FULLY_CONNECTED_UNITS)
        maps = Maps(pooled.size, config.scale(AUXILIARY_FILTERS))
        self.pool = (
            AdaptiveAveragePool(AUXILIARY_PARTS)
            if config.auxiliary_pool == "adaptive"
            else AveragePool(AUXILIARY_WINDOW, AUXILIARY_STRIDE)
        )
        self.conv = ConvUnit(pooled.channels, maps.channels, 1, **unit)
        self.fc = nnx.Linear(maps.values, hidden, **dense)
        self.dropout = nnx.Dropout(config.auxiliary_dropout)
        self.classifier = nnx.Linear(hidden, config.num_classes, **dense)

    def __call__(self, x: jax.Array, *, train: bool, rngs: nnx.Rngs | None) -> jax.Array:
        """The logits, float32 [batch, classes], of a module's output; `rngs` draws the dropout."""
        x = self.pool(x, train=train)
        with jax.named_scope("conv"):
            x = self.conv(x, train=train)
        with jax.named_scope("fc"):
            x = relu(self.fc(_flatten(x)))
        x = self.dropout(x, deterministic=not train, rngs=rngs)
        with jax.named_scope("classifier"):
            return self.classifier(x).astype(jnp.float32)


class MainHead(nnx.Module):
    """Global average pool (or, as an ablation, a fully connected layer), dropout 40 %, linear."""

    def __init__(self, features: Maps, config: GoogLeNetConfig, **dense):
        """Builds the layers.

        Args:
          features: the output of the last module.
          config: of the network.
          dense: the arguments that all linear layers share.
        """
        average = config.head == "average_pool"
        hidden = features.channels if average else config.scale(FULLY_CONNECTED_UNITS)
        if average:
            self.pool = GlobalAveragePool()
        else:
            self.fc = nnx.Linear(features.values, hidden, **dense)
        self.dropout = nnx.Dropout(config.dropout)
        self.classifier = nnx.Linear(hidden, config.num_classes, **dense)

    def __call__(self, x: jax.Array, *, train: bool, rngs: nnx.Rngs | None) -> jax.Array:
        """The logits, float32 [batch, classes], of the features; `rngs` draws the dropout."""
        if hasattr(self, "pool"):
            with jax.named_scope("pool"):
                x = self.pool(x, train=train)
            x = _flatten(x)
        else:
            with jax.named_scope("fc"):
                x = relu(self.fc(_flatten(x)))
        x = self.dropout(x, deterministic=not train, rngs=rngs)
        with jax.named_scope("classifier"):
            return self.classifier(x).astype(jnp.float32)


def _flatten(x: jax.Array) -> jax.Array:
    """Turns [batch, height, width, channels] into [batch, features] (Caffe's order is C, H, W)."""
    return x.reshape(x.shape[0], -1)
