"""Colour: brightness, contrast, saturation and hue of images, and images without colours.

Everything here is done in place, where memory that the system has to hand out would take longer than the arithmetic.
"""

from __future__ import annotations

import torch

from distill_queue.shared.spec.augmentation import JitterSpec
from distill_queue.worker.data.views.generator import between

#: Red, green and blue in a pixel's grey (ITU-R BT.601), as torchvision has them.
LUMA = (0.2989, 0.587, 0.114)
#: Steps from black to white in which grey is summed: whole numbers, whose sum is the same in any order.
STEPS = 2**22


def jitter(images: torch.Tensor, numbers: torch.Tensor, asked: JitterSpec, white: float) -> torch.Tensor:
    """Images of other brightness, contrast, saturation and hue, in this order, by random numbers `[4, batch]`."""
    images = images.float()
    strengths = (asked.brightness, asked.contrast, asked.saturation)
    for change, strength, number in zip((brighten, change_contrast, saturate), strengths, numbers, strict=False):
        if strength:
            change(images, between(1.0 - strength, 1.0 + strength, number).float(), white)
    if asked.hue:
        turn_hue(images, between(-asked.hue, asked.hue, numbers[3]).float())
    return images


def grayscale(images: torch.Tensor, numbers: torch.Tensor, share: float, _white: float) -> torch.Tensor:
    """Images, a share of which have lost their colours, by a random number `[1, batch]`."""
    images = images.float()
    grey = between(0.0, 1.0, numbers[0]) < share
    return torch.where(grey.view(-1, 1, 1, 1), luma(images), images)


def brighten(images: torch.Tensor, factors: torch.Tensor, white: float) -> torch.Tensor:
    """Images times factors `[batch]`, from black to white."""
    return images.mul_(factors.view(-1, 1, 1, 1)).clamp_(0.0, white)


def change_contrast(images: torch.Tensor, factors: torch.Tensor, white: float) -> torch.Tensor:
    """Images with their distance from the image's mean grey multiplied by factors `[batch]`."""
    grey = luma(images)
    sums = (grey * (STEPS / white)).round_().sum((1, 2, 3), keepdim=True, dtype=torch.float64)
    return blend(images, (sums * (white / STEPS / grey[0].numel())).float(), factors, white)


def saturate(images: torch.Tensor, factors: torch.Tensor, white: float) -> torch.Tensor:
    """Images with each pixel's distance from its grey multiplied by factors `[batch]`; grey ones stay as they are."""
    return blend(images, luma(images), factors, white) if images.shape[1] == len(LUMA) else images


def blend(images: torch.Tensor, others: torch.Tensor, factors: torch.Tensor, white: float) -> torch.Tensor:
    """`factor * image + (1 - factor) * other`, from black to white, with factors `[batch]`."""
    factors = factors.view(-1, 1, 1, 1)
    return images.mul_(factors).add_(others * (1.0 - factors)).clamp_(0.0, white)


def turn_hue(images: torch.Tensor, turns: torch.Tensor) -> torch.Tensor:
    """Images of red, green and blue, their hues turned by shares `[batch]` of the circle, from -0.5 to 0.5.

    In HSV, without its saturation: a channel is the largest one less the chroma times a wave of the hue, which is 0 to
    1, 60 degrees up and down (Wikipedia, HSL and HSV, "HSV to RGB alternative").
    """
    turns = turns.view(-1, 1, 1)
    red, green, blue = images.unbind(1)
    largest = torch.maximum(torch.maximum(red, green), blue)
    chroma = largest - torch.minimum(torch.minimum(red, green), blue)
    hue = torch.where(
        largest == red,
        green - blue,
        torch.where(largest == green, blue - red + 2.0 * chroma, red - green + 4.0 * chroma),
    )
    hue.div_((chroma * 6.0).clamp_(min=1e-12)).add_(turns)
    still = turns == 0.0
    for channel, offset in enumerate((0.5, 1.0 / 6.0, -1.0 / 6.0)):
        wave = hue + offset
        wave.sub_(wave.round()).abs_().mul_(-6.0).add_(2.0).clamp_(0.0, 1.0)
        images[:, channel] = torch.where(still, images[:, channel], largest - wave.mul_(chroma))
    return images


def luma(images: torch.Tensor) -> torch.Tensor:
    """The grey of images `[batch, channels, height, width]`, `[batch, 1, height, width]`; of three channels by LUMA.

    Other numbers of channels have no colours: the grey is the pixels' mean over the channels.
    """
    weights = LUMA if images.shape[1] == len(LUMA) else (1.0 / images.shape[1],) * images.shape[1]
    grey = images[:, :1] * weights[0]
    for channel, weight in enumerate(weights[1:], 1):
        grey.add_(images[:, channel : channel + 1] * weight)
    return grey
