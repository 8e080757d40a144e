"""The U-Net of Ronneberger et al. 2015 (arXiv 1505.04597), with zero padding so that sizes are kept.

Shapes: B batch, C channels, H rows, W columns.
"""

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F

from searcher.models.base import DenseModel, ModelParts
from searcher.models.blocks import Norm, ResidualConv, Upsampling, double_conv, upsampling_block
from searcher.models.boxes import resize_labels
from searcher.models.class_branch import class_loss, class_targets, weights_of
from searcher.models.encoders import build_encoder, encoder_named, load_backbone, pretrained_encoder
from searcher.models.heads import HeadOptions, build_head
from searcher.models.registry import register
from searcher.models.settings import ModelSettings, PartOptions, PostprocessSettings, UNetSettings
from searcher.models.targets import has_unannotated
from searcher.models.values import InstanceMaps, TensorBatch

__all__ = ["UNet"]


@register("unet", UNetSettings)
class UNet(DenseModel):
    """A U-Net: an encoder that halves the image `depth` times, and a decoder that doubles it back, with skips.

    The defaults are the plain network: every level two 3x3 convolutions with ReLU, 2x2 max pooling, 2x2 transposed
    convolutions, 64 to 1024 channels. Images may have any size: one that `2 ** depth` does not divide is padded, and
    the output is cropped back.

    Args:
        encoder: Name of the encoder; see `searcher.models.encoders`.
        channels: Channels of the images; for a backbone with other than 3, see `searcher.models.stems`.
        weights: Pretrained weights of a backbone: `none`, `imagenet`, or the path of a file. With weights, the backbone
            has batch norm, and `norm` concerns the decoder only. Other encoders ignore it.
        input_scale: Pixels of the network's input per pixel of the image. Losses are computed on the input's pixels.
            Settings in pixels of the image, such as a contour's width, are scaled with them.
        base_channels: Channels of the first level; every level below doubles them. With a backbone, of the decoder
            only.
        depth: Number of poolings.
        norm: Normalisation between every convolution and its ReLU; such convolutions have no bias.
        dropout: Probability of dropping a channel after the deepest encoder level and after the bottleneck.
        upsampling: `transposed`: 2x2 transposed convolution with stride 2. `bilinear`: bilinear resizing and
            a 1x1 convolution. Both halve the channels.
        head: Name of the head: what is predicted for a pixel; see `searcher.models.heads`.
        loss: Losses of the head, joined by `+`.
        focal_gamma, border_weight, border_sigma_px: Settings of the losses; see `HeadOptions`.
        contour_width_px, distance_cap_px, distance_weight: Settings of the heads `contour` and `distance`; see
            `HeadOptions`.
        deep_supervision: Whether, in training, each level of the decoder has an output of its own, and the losses use
            all outputs.
        num_classes: Number of classes of objects that the network tells apart. A branch next to the head, a 3x3 and a
            1x1 convolution, predicts each pixel's class; 0 for no such branch.
        class_weights: Weight of the pixels of each class in the loss of the classes; empty for equal weights.
        options: Settings of a plug-in's encoder, head or losses, by the part's name.
        postprocess: How probabilities become instances.
    """

    class_weights: Tensor | None
    """float32[K]."""

    def __init__(
        self,
        *,
        encoder: str = "plain",
        channels: int = 3,
        weights: str = "none",
        input_scale: float = 1.0,
        base_channels: int = 64,
        depth: int = 4,
        norm: Norm = "none",
        dropout: float = 0.0,
        upsampling: Upsampling = "transposed",
        head: str = "binary",
        loss: str = "bce",
        focal_gamma: float = 2.0,
        border_weight: float = 0.0,
        border_sigma_px: float = 5.0,
        contour_width_px: int = 3,
        distance_cap_px: int = 16,
        distance_weight: float = 1.0,
        deep_supervision: bool = False,
        num_classes: int = 0,
        class_weights: Sequence[float] = (),
        options: PartOptions | None = None,
        postprocess: PostprocessSettings | None = None,
    ) -> None:
        super().__init__()
        of_parts = options or {}
        self.postprocess = postprocess or PostprocessSettings()
        head_options = HeadOptions(
            loss=loss,
            focal_gamma=focal_gamma,
            border_weight=border_weight,
            border_sigma_px=border_sigma_px * input_scale,
            contour_width_px=max(1, round(contour_width_px * input_scale)),
            distance_cap_px=max(1, round(distance_cap_px * input_scale)) if distance_cap_px else 0,
            distance_weight=distance_weight,
            of_parts=of_parts,
        )
        self.head = build_head(head, head_options)
        self.input_scale = input_scale
        self.size_multiple = 2**depth
        kind = encoder_named(encoder)
        is_pretrained = kind.weights is not None and weights != "none"
        encoder_norm: Norm = "batch" if is_pretrained else kind.own_norm or norm
        # A norm over a single value is undefined, so the deepest level keeps at least 2x2 pixels for it.
        self.min_size = self.size_multiple * (1 if norm == encoder_norm == "none" else 2)

        parts = build_encoder(
            encoder,
            base_channels=base_channels,
            depth=depth,
            norm=encoder_norm,
            channels=channels,
            options=of_parts.get(encoder),
        )
        self.encoder = nn.ModuleList(parts.levels)
        self.bottleneck = parts.bottleneck
        self.dropout = nn.Dropout2d(dropout)
        widths = [base_channels * 2**level for level in reversed(range(depth))]
        self.upsample = nn.ModuleList(
            upsampling_block(before, after, upsampling)
            for before, after in zip([parts.channels[-1], *widths[:-1]], widths, strict=True)
        )
        self.decoder = nn.ModuleList(
            double_conv(skip + width, width, norm)
            for skip, width in zip(parts.channels[-2::-1], widths, strict=True)
        )
        self.classifier = nn.Conv2d(base_channels, self.head.num_channels, 1)
        self.auxiliary = nn.ModuleList(
            nn.Conv2d(width, self.head.num_channels, 1) for width in widths[: -1 if deep_supervision else 0]
        )
        self._encoder = encoder
        self._halves = kind.halves
        self._weights = weights if is_pretrained else "none"
        self._initialise()
        self.num_classes = num_classes
        self.class_branch = _class_branch(base_channels, num_classes) if num_classes else None
        self.register_buffer("class_weights", weights_of(class_weights), persistent=False)

    @property
    def postprocess_keys(self) -> tuple[str, ...]:
        """The settings of post-processing that the head uses; see `SegmentationModel.postprocess_keys`."""
        return self.head.postprocess_keys

    @property
    def kind_of_maps(self) -> str:
        """The head's name, and the number of classes if there are any; see `DenseModel.kind_of_maps`."""
        of_classes = f" with {self.num_classes} classes" if self.num_classes else ""
        return f"{type(self.head).__name__}{of_classes}"

    def parts(self) -> ModelParts:
        """Return the way down with the bottleneck, and the layers that predict; see `SegmentationModel.parts`."""
        branch = [] if self.class_branch is None else [self.class_branch]
        return ModelParts(
            encoder=[*self.encoder, self.bottleneck], head=[self.classifier, *self.auxiliary, *branch]
        )

    def forward(self, images: Tensor) -> Tensor:
        """Return the logits float[B, C, h, w], with the head's channels, at the scale of the network's input.

        In train mode with deep supervision, the logits of the auxiliary outputs follow, resized, the deepest level
        last. Each auxiliary output has the head's channels.
        The logits of the classes, `num_classes` channels, are the last ones in any mode.

        Args:
            images: uint8[B, H, W, C], with the channels that the network was built for.
        """
        x = _normalise(images, self.classifier.weight.dtype)
        x = self._scaled(x)
        height, width = x.shape[2:]
        x, top, left = _pad(x, self.size_multiple, self.min_size)
        padded_size = x.shape[2:]
        skips = []
        for level in self.encoder:
            x = level(x)
            if level is self.encoder[-1]:
                x = self.dropout(x)
            skips.append(x)
            if not self._halves:
                x = F.max_pool2d(x, 2)
        x = self.dropout(self.bottleneck(x))
        outputs = []
        for number, (upsample, level) in enumerate(zip(self.upsample, self.decoder, strict=True)):
            x = level(torch.cat([skips.pop(), upsample(x)], dim=1))
            if self.training and number < len(self.auxiliary):
                outputs.append(_resize(self.auxiliary[number](x), padded_size))
        outputs.append(self.classifier(x))
        outputs.reverse()
        if self.class_branch is not None:
            outputs.append(self.class_branch(x))
        logits = torch.cat(outputs, dim=1) if len(outputs) > 1 else outputs[0]
        return logits[:, :, top : top + height, left : left + width]

    @classmethod
    def fetch_pretrained(cls, settings: ModelSettings) -> None:
        """Download the pretrained weights if they are not on this machine; see `SegmentationModel.fetch_pretrained`."""
        assert isinstance(settings, UNetSettings)
        if settings.weights != "none":
            pretrained_encoder(settings.encoder, settings.weights)

    def load_pretrained(self) -> None:
        """Load the encoder's pretrained weights that `weights` names; see `SegmentationModel.load_pretrained`."""
        if self._weights == "none":
            return
        state = pretrained_encoder(self._encoder, self._weights)
        assert state is not None
        load_backbone(
            self._encoder, [*self.encoder, self.bottleneck], state, source=f"model.weights={self._weights}"
        )

    def training_step(self, batch: TensorBatch) -> dict[str, Tensor]:
        """Return the head's losses by name, and `class` if it learns classes; see `SegmentationModel.training_step`.

        `class` is the cross-entropy over the pixels of all objects whose class is known.
        """
        is_partial = has_unannotated(batch.labels)  # before the network: a GPU has nothing to wait for yet
        return self._losses(self(batch.images), batch, is_partial=is_partial)

    @torch.no_grad()
    def predict_maps(self, images: Tensor) -> Tensor:
        """Return float32[B, C + K, H, W], the head's probabilities, then those of K classes; see `DenseModel`."""
        return self._maps(_resize(self(images), images.shape[1:3]))

    @torch.no_grad()
    def evaluate(self, batch: TensorBatch) -> tuple[dict[str, Tensor], Tensor]:
        """Return the losses by name and the probabilities of a batch, from one forward pass."""
        is_partial = has_unannotated(batch.labels)
        logits = self(batch.images)
        losses = self._losses(logits, batch, is_partial=is_partial)
        return losses, self._maps(_resize(logits, batch.images.shape[1:3]))

    def instance_maps(self, maps: NDArray[np.float32]) -> InstanceMaps:
        """Return the foreground map, the seed map and the maps of the classes; see `DenseModel.instance_maps`."""
        if not self.num_classes:
            return self.head.instance_maps(maps)
        of_head = self.head.instance_maps(maps[: -self.num_classes])
        return of_head._replace(class_maps=maps[-self.num_classes :])

    def _losses(self, logits: Tensor, batch: TensorBatch, *, is_partial: bool) -> dict[str, Tensor]:
        labels = resize_labels(batch.labels, *logits.shape[2:])
        if not self.num_classes:
            return self.head.losses(logits, labels, is_partial=is_partial)
        of_head, of_classes = logits[:, : -self.num_classes], logits[:, -self.num_classes :]
        loss = class_loss(of_classes, class_targets(labels, batch.classes), self.class_weights)
        return {**self.head.losses(of_head, labels, is_partial=is_partial), "class": loss}

    def _maps(self, logits: Tensor) -> Tensor:
        if not self.num_classes:
            return self.head.maps(logits)
        of_classes = logits[:, -self.num_classes :].float().softmax(dim=1)
        return torch.cat([self.head.maps(logits[:, : -self.num_classes]), of_classes], dim=1)

    def _scaled(self, x: Tensor) -> Tensor:
        """Return float[B, C, H, W] resized by `input_scale`, each pixel a mean of those that it stands for."""
        if self.input_scale == 1:
            return x
        size = torch.Size(max(1, round(side * self.input_scale)) for side in x.shape[2:])
        return F.interpolate(
            x, size=size, mode="bilinear", align_corners=False, antialias=self.input_scale < 1
        )

    def _initialise(self) -> None:
        """Draw weights that keep the activations' scale through the network, with or without norms.

        He et al. 2015 (arXiv 1502.01852, eq. 10): a variance of 2 / fan-in before a ReLU. Where no ReLU
        follows it is 1 / fan-in; a transposed convolution with kernel = stride gives each output pixel one
        tap, so its fan-in is the input channels alone. A backbone has its weights from its library.
        """
        for name, module in self.named_modules():
            if not isinstance(module, nn.Conv2d | nn.ConvTranspose2d):
                continue
            if self._halves and name.startswith(("encoder", "bottleneck")):
                continue
            is_linear = name.startswith(("upsample", "classifier", "auxiliary"))
            if is_linear:
                nn.init.normal_(module.weight, std=module.in_channels**-0.5)
            else:
                nn.init.kaiming_normal_(module.weight, nonlinearity="relu")
            if module.bias is not None:
                nn.init.zeros_(module.bias)
        for module in self.modules():
            if isinstance(module, ResidualConv):
                module.begin_as_shortcut()


def _class_branch(channels: int, num_classes: int) -> nn.Module:
    """Return the branch, drawn after all other weights, so that these are those of a network without it."""
    first, last = nn.Conv2d(channels, channels, 3, padding=1), nn.Conv2d(channels, num_classes, 1)
    nn.init.kaiming_normal_(first.weight, nonlinearity="relu")
    nn.init.normal_(last.weight, std=channels**-0.5)
    for layer in (first, last):
        assert layer.bias is not None
        nn.init.zeros_(layer.bias)
    return nn.Sequential(first, nn.ReLU(), last)


def _normalise(images: Tensor, dtype: torch.dtype) -> Tensor:
    """Return float[B, C, H, W] in -1 to 1 from uint8[B, H, W, C].

    The permuted view of rows of pixels is what torch calls channels_last: nothing is copied for it.
    """
    return images.permute(0, 3, 1, 2).to(dtype) / 127.5 - 1


def _pad(x: Tensor, multiple: int, min_size: int) -> tuple[Tensor, int, int]:
    """Return x with height and width padded to multiples, the rows added above and the columns added left.

    Both sides get half. Mirrored where the image is larger than the padding, else its edge is repeated.
    """
    height, width = x.shape[-2:]
    rows, columns = (max(-size % multiple, min_size - size) for size in (height, width))
    if not rows and not columns:
        return x, 0, 0
    top, left = rows // 2, columns // 2
    padding = (left, columns - left, top, rows - top)
    fits = rows - top < height and columns - left < width
    return F.pad(x, padding, mode="reflect" if fits else "replicate"), top, left


def _resize(x: Tensor, size: torch.Size) -> Tensor:
    if x.shape[2:] == size:
        return x
    return F.interpolate(x, size=size, mode="bilinear", align_corners=False)
