"""Starts a run from the weights of another one (fine-tuning): `model.init_from`."""

import logging
from typing import Any

import jax
from jax.sharding import Mesh

from inception_jax.checkpoints import loaded_model
from inception_jax.errors import UsageError
from inception_jax.training.state import TrainState

log = logging.getLogger(__name__)

_CLASSIFIER = "classifier"
_OPTIONAL = ("loss1", "loss2")  # heads that one of the two may lack


def start_from(
    state: TrainState, checkpoint: Any, task: str, class_names: tuple[str, ...], mesh: Mesh
) -> TrainState:
    """Fills an initial state with the weights of a checkpoint, the averaged ones if it has them.

    Classifiers keep their initial values if the task or the classes differ or have no names, and
    auxiliary heads if the checkpoint has none.

    Args:
      state: the initial state, on the host.
      checkpoint: path of a checkpoint directory.
      task: of the run.
      class_names: of the training data.
      mesh: the devices to load on.

    Raises:
      UserError: there is no good checkpoint at that path.
      UsageError: its layers differ from the model's; each is named.
    """
    model = loaded_model.load(checkpoint, mesh)
    known = class_names and model.config.task == task
    same_classes = known and model.class_names == class_names
    fresh: list[str] = []
    wrong: list[str] = []

    def fill(new: Any, old: Any) -> Any:
        found = {_name(path): leaf for path, leaf in jax.tree.leaves_with_path(old)}

        def value(path: tuple[Any, ...], leaf: Any) -> Any:
            name = _name(path)
            layers = name.split("/")
            if _CLASSIFIER in layers and not same_classes:
                fresh.append(name)
                return leaf
            if name not in found and layers[0] in _OPTIONAL:
                fresh.append(name)
                return leaf
            if name not in found:
                wrong.append(f"{name} is missing")
                return leaf
            if found[name].shape != leaf.shape:
                wrong.append(f"{name} is {found[name].shape} there and {leaf.shape} here")
                return leaf
            return jax.device_get(found[name])

        filled = jax.tree.map_with_path(value, new)
        here = {_name(path) for path, _ in jax.tree.leaves_with_path(new)}
        wrong.extend(
            f"{name} has no place here"
            for name in sorted(set(found) - here)
            if name.split("/")[0] not in _OPTIONAL
        )
        return filled

    params = fill(state.params, model.params)
    batch_stats = fill(state.batch_stats, model.batch_stats)
    if wrong:
        raise UsageError(
            f"model.init_from {checkpoint} has other layers than this model: {'; '.join(wrong)}"
        )
    log.info(f"starting from {checkpoint} ({model.weights} weights of step {model.step})")
    if fresh:
        log.info(f"these start afresh: {', '.join(sorted({n.rpartition('/')[0] for n in fresh}))}")
    average = {"params": params, "batch_stats": batch_stats} if state.average else {}
    return TrainState(state.step, params, batch_stats, state.opt_state, average)


def _name(path: tuple[Any, ...]) -> str:
    return "/".join(str(key.key) for key in path)
