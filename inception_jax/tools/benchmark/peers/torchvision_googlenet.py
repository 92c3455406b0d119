"""torchvision's GoogLeNet as a peer: the only place where a benchmark imports PyTorch."""

import json
import sys
from collections.abc import Iterator
from typing import Any

try:
    import torch
    import torchvision
except ImportError as error:
    reason = f"{' '.join(str(error).split())}; pip install '.[torch]' installs torchvision"
    print(json.dumps({"error": reason}), flush=True)
    sys.exit(1)

from inception_jax.tools.benchmark import throughput
from inception_jax.tools.benchmark.peers.answering import answer, read_spec, serve


def main() -> None:
    """Answers a benchmark by the protocol that `process` describes."""
    spec = read_spec()
    steps = WORK[spec["work"]](spec)
    answer(ready={"version": torchvision.__version__})
    serve(
        lambda: throughput.measure(
            steps, spec["batch_size"], spec["warm_up_batches"], spec["seconds"]
        )
    )


def training_steps(spec: dict[str, Any]) -> Iterator[None]:
    """Yields once a training step without end.

    As torchvision's references train it: SGD with momentum and weight decay.
    """
    model, images = model_and_images(spec)
    model.train()
    labels = torch.randint(0, spec["num_classes"], (spec["batch_size"],))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01, momentum=0.9, weight_decay=2e-4)
    loss_of = torch.nn.functional.cross_entropy
    while True:
        optimizer.zero_grad(set_to_none=True)
        logits, second, first = model(images)
        loss = loss_of(logits, labels) + 0.3 * (loss_of(first, labels) + loss_of(second, labels))
        loss.backward()
        optimizer.step()
        loss.item()
        yield


def forwards(spec: dict[str, Any]) -> Iterator[None]:
    """Yields once a forward pass without end."""
    model, images = model_and_images(spec)
    model.eval()
    while True:
        with torch.inference_mode():
            model(images)
        yield


def model_and_images(spec: dict[str, Any]) -> tuple[Any, Any]:
    """The model with initial weights, and random images, both channels_last."""
    # Its own initialisation takes longer than the measurement; the speed is that of any weights.
    model = torchvision.models.googlenet(
        num_classes=spec["num_classes"], aux_logits=True, init_weights=False
    )
    shape = spec["batch_size"], 3, spec["image_size"], spec["image_size"]
    return (
        model.to(memory_format=torch.channels_last),
        torch.randn(shape).to(memory_format=torch.channels_last),
    )


WORK = {"train": training_steps, "forward": forwards}


if __name__ == "__main__":
    main()
