"""Matches the classes of a test set with those of a network, by their names."""

import dataclasses

import numpy as np
from ml_collections import ConfigDict

from inception_jax.data.sources import Source, open_source
from inception_jax.errors import UserError

# Test sets that name all of ILSVRC's classes and have images of 200 of them. Their authors let a
# network choose among those alone (Hendrycks et al., arXiv 1907.07174 and 2006.16241).
SUBSETS_OF_CLASSES = ("imagenet_a", "imagenet_r")


@dataclasses.dataclass(frozen=True)
class Labels:
    """The network's class number of each class of a test set."""

    classes: np.ndarray  # int [classes of the test set], their numbers in the network
    allowed: np.ndarray  # bool [classes of the network]: those it may choose


def match(data: ConfigDict, split: str, source: Source, class_names: tuple[str, ...]) -> Labels:
    """Matches the classes of a test set with those of a network.

    A network may choose among the classes of the test set alone, if these are fewer.

    Args:
      data: the config's section, which names the test set.
      split: the split of `source`.
      source: the test set.
      class_names: of the network.

    Raises:
      UserError: a class number or name means something else in the network.
    """
    if source.class_names == class_names:
        classes = np.arange(len(class_names))
    else:
        _check_known(data.name, source.class_names, class_names)
        classes = np.array([class_names.index(name) for name in source.class_names])
    allowed = np.zeros(len(class_names), bool)
    allowed[classes] = True
    if data.name.partition("/")[0] in SUBSETS_OF_CLASSES:
        whole = open_source(data, split.partition("[")[0], len(class_names), fewer_classes=True)
        found = {label for index in range(len(whole)) for label in whole.read([index])[0].labels}
        allowed[:] = False
        allowed[classes[sorted(found)]] = True
    return Labels(classes, allowed)


def _check_known(name: str, data: tuple[str, ...], model: tuple[str, ...]) -> None:
    for label, one in enumerate(data):
        if one not in model and len(data) == len(model):
            other = model[label]
            raise UserError(f"class {label} is {one!r} in the data and {other!r} in the checkpoint")
        if one not in model:
            raise UserError(f"the checkpoint has no class {one!r}, which {name} has")
        if model.count(one) > 1 or data.count(one) > 1:
            raise UserError(f"several classes are called {one!r}: which is which is not known")
