"""Train one network by hand: our data and models without our trainer.

    python examples/train_one.py

Half a minute on two CPU cores. Needs no data: the images are synthetic glands. For your own images put
`searcher.open_dataset("FOLDER")` in the place of `SyntheticGlands(...)`.
"""

import tempfile
from pathlib import Path

import numpy as np
import torch

import searcher
from searcher.data_pipeline import (
    BatchStream,
    Store,
    SyntheticGlands,
    build_augmentation,
    prepare_store,
    split_by_group,
)
from searcher.models.base import SegmentationModel
from searcher.models.unet import UNet
from searcher.models.values import TensorBatch

CROP_PX = 96
BATCH_SIZE = 8
LEARNING_RATE = 3e-3
SEED = 0


def main(num_epochs: int = 8, num_images: int = 40) -> dict[str, float]:
    """Train and return the official metrics of the validation images.

    Args:
        num_epochs: Passes over the training images.
        num_images: Synthetic images to draw.
    """
    torch.manual_seed(SEED)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    with tempfile.TemporaryDirectory() as cache:
        # Data: each image is decoded once; validation shares no patient with training.
        source = SyntheticGlands(num_images=num_images, size_px=128, seed=SEED)
        store = prepare_store(source, Path(cache))
        split = split_by_group(store.samples, range(len(store)), fraction=0.25, seed=SEED)
        stream = BatchStream(
            store,
            split.train,
            batch_size=BATCH_SIZE,
            augmentation=build_augmentation("standard", crop_px=CROP_PX),
            seed=SEED,
        )
        # Model: it normalises the images and makes its targets itself.
        model = UNet(depth=3, base_channels=8, norm="batch", head="contour", loss="ce+dice").to(device)
        optimizer = torch.optim.AdamW(model.parameters(), lr=LEARNING_RATE)
        metrics: dict[str, float] = {}
        for epoch in range(num_epochs):
            loss = train_epoch(model, stream, optimizer, epoch, device)
            metrics = validate(model, store, split.val, device)
            figures = ", ".join(f"{name} {value:.3f}" for name, value in metrics.items())
            print(f"epoch {epoch + 1}: loss {loss:.3f}, {figures}")
        stream.close()
    return metrics


def train_epoch(
    model: SegmentationModel,
    stream: BatchStream,
    optimizer: torch.optim.Optimizer,
    epoch: int,
    device: torch.device,
) -> float:
    """Train on every batch of an epoch and return the mean loss."""
    model.train()
    losses = []
    for batch in stream.epoch(epoch):
        # images: uint8[B, H, W, 3]; labels: int32[B, H, W], 0 for background and a number for each gland.
        on_device = TensorBatch(
            torch.from_numpy(batch.images).to(device), torch.from_numpy(batch.labels).to(device)
        )
        loss = torch.stack([*model.training_step(on_device).values()]).sum()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    return float(np.mean(losses))


def validate(
    model: SegmentationModel, store: Store, indices: tuple[int, ...], device: torch.device
) -> dict[str, float]:
    """Return the official metrics over the validation images, each at its own size."""
    model.eval()
    truths, predictions = [], []
    with torch.no_grad():
        for index in indices:
            image = torch.from_numpy(np.array(store.image(index))).to(device)[None]
            predictions.append(model.predict(image)[0].labels)
            truths.append(np.array(store.labels(index)))
    return searcher.metrics.official(truths, predictions)


if __name__ == "__main__":
    main()
