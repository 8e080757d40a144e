"""What every head must do, and a head's way from labels to instances and back."""

import numpy as np
import torch

from searcher.models.heads import Head, HeadOptions, build_head
from searcher.models.postprocess import instances_from_maps
from searcher.models.settings import PostprocessSettings
from searcher.testing.images import LABELS

__all__ = ["check_head"]

_SIZE = (40, 56)


def check_head(head: type[Head] | str, *, options: HeadOptions | None = None) -> None:
    """Check that a head's targets, losses, maps and instances agree with each other.

    Args:
        head: The head's class or name.
        options: How the head is trained, with its own settings in `of_parts`; None for the defaults.

    Raises:
        AssertionError: The check failed; the message says why.
    """
    made = (
        build_head(head, options or HeadOptions())
        if isinstance(head, str)
        else head(options or HeadOptions())
    )
    _claim(made.num_channels >= 1, f"num_channels must be at least 1, got {made.num_channels}")
    unknown = {*made.postprocess_keys} - {*PostprocessSettings.model_fields}
    _claim(bool(made.postprocess_keys), "postprocess_keys must name some")
    _claim(not unknown, f"postprocess_keys must be fields of PostprocessSettings, got {sorted(unknown)}")
    for name, labels in LABELS.items():
        _check_losses(made, torch.from_numpy(labels)[None], name)
    _check_maps(made)
    _check_way_back(made)


def _check_losses(head: Head, labels: torch.Tensor, about: str) -> None:
    """Check losses of one output and of three, deep supervision's."""
    for outputs in (1, 3):
        generator = torch.Generator().manual_seed(0)
        shape = (1, outputs * head.num_channels, *labels.shape[1:])
        logits = torch.randn(shape, generator=generator).requires_grad_()
        losses = head.losses(logits, labels)
        _claim(bool(losses), f"{about}: losses must return some")
        for name, loss in losses.items():
            _claim(loss.shape == (), f"{about}: loss {name} must be a scalar, got shape {[*loss.shape]}")
            _claim(loss.dtype == torch.float32, f"{about}: loss {name} must be float32, got {loss.dtype}")
            _claim(bool(torch.isfinite(loss)), f"{about}: loss {name} must be finite, got {loss.item()}")
        torch.stack(list(losses.values())).sum().backward()  # type: ignore[no-untyped-call]
        assert logits.grad is not None
        _claim(bool(torch.isfinite(logits.grad).all()), f"{about}: gradients of the logits must be finite")


def _check_maps(head: Head) -> None:
    """Check that all maps lie in 0 to 1, and that a pixel's instance maps depend on its own values alone."""
    logits = 5 * torch.randn((1, head.num_channels, *_SIZE), generator=torch.Generator().manual_seed(0))
    maps = head.maps(logits)
    _claim(maps.dtype == torch.float32, f"maps must be float32, got {maps.dtype}")
    _claim(maps.shape[2:] == _SIZE, f"maps must have the logits' size, got {[*maps.shape[2:]]}")
    _claim(
        bool(((maps >= 0) & (maps <= 1)).all()), f"maps must lie in 0 to 1, got {maps.min()} to {maps.max()}"
    )
    whole = head.instance_maps(maps[0].numpy())
    part = head.instance_maps(maps[0, :, 10:20, 5:30].numpy())
    for name in ("foreground_map", "seed_map"):
        values, some = getattr(whole, name), getattr(part, name)
        if values is None or some is None:
            _claim(
                name == "seed_map" and values is some is None,
                f"instance_maps.{name} must be known everywhere or nowhere",
            )
            continue
        _claim(values.shape == _SIZE, f"instance_maps.{name} must be [H, W], got {[*values.shape]}")
        _claim(values.dtype == np.float32, f"instance_maps.{name} must be float32, got {values.dtype}")
        _claim(values.min() >= 0 and values.max() <= 1, f"instance_maps.{name} must lie in 0 to 1")
        same = np.array_equal(values[10:20, 5:30], some)
        _claim(
            same, f"instance_maps.{name} of a part must be that part of the whole's: tiles are joined by it"
        )


def _check_way_back(head: Head) -> None:
    """Check that logits which the losses were minimised for give the objects back."""
    labels = np.zeros(_SIZE, np.int32)
    labels[4:18, 4:20], labels[22:38, 6:24], labels[8:34, 32:50] = 1, 2, 3
    truth = torch.from_numpy(labels)[None]
    logits = torch.zeros((1, head.num_channels, *_SIZE), requires_grad=True)
    optimizer = torch.optim.Adam([logits], lr=0.3)
    for _ in range(150):
        optimizer.zero_grad()
        torch.stack(list(head.losses(logits, truth).values())).sum().backward()  # type: ignore[no-untyped-call]
        optimizer.step()
    maps = head.maps(logits.detach())[0].numpy()
    found = instances_from_maps(head.instance_maps(maps), PostprocessSettings()).labels
    overlaps = [_largest_iou(labels == each, found) for each in (1, 2, 3)]
    _claim(found.max() == 3, f"three objects must come back from their own targets, got {found.max()}")
    _claim(
        min(overlaps) > 0.8,
        f"objects must come back with an IoU above 0.8, got {[f'{each:.2f}' for each in overlaps]}",
    )


def _largest_iou(mask: np.ndarray, found: np.ndarray) -> float:
    inside = np.bincount(found[mask], minlength=2)
    inside[0] = 0
    other = found == int(inside.argmax())
    return float((mask & other).sum() / (mask | other).sum())


def _claim(holds: bool, otherwise: str) -> None:
    if not holds:
        raise AssertionError(otherwise)
