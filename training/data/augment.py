"""Augmentation: what people do to images, done to a batch of tensors at once."""

import math
from io import BytesIO

import numpy as np
import torch
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor
from torch.nn import functional

from training.data.inputs import INPUT, inputs_of_pixels
from training.data.procedural import LETTERS

# How many text overlays are drawn in advance.
OVERLAYS = 400


class Augmenter:
    """Turns pixels in 0..1, (n, 3, side, side), into altered network inputs, (n, 3, 128, 128)."""

    def __init__(self, seed: int) -> None:
        self._random = torch.Generator().manual_seed(seed)
        self._rng = np.random.default_rng(seed)
        self._overlays = torch.stack([self._overlay() for _ in range(OVERLAYS)])

    def plain(self, x: Tensor) -> Tensor:
        """Return the whole image, unaltered."""
        small = functional.interpolate(x, INPUT, mode="bicubic", antialias=True)
        return inputs_of_pixels(small)

    def scene(self, x: Tensor) -> Tensor:
        """Return most of the image, in its own colours, sometimes pasted into another one."""
        x = self._place(x, least_area=0.45, turned=0.04, most_angle=6, pasted=0.08, framed=0.04)
        return inputs_of_pixels(x)

    def mild(self, x: Tensor) -> Tensor:
        """Return pixels of a `scene`, (n, 3, 128, 128) in 0..1, with slight changes of colour and
        detail.
        """
        x = self._recolour(x, strength=0.25, grey=0.03)
        return inputs_of_pixels(self._coarse(x, share=0.2))

    def strong(self, x: Tensor) -> Tensor:
        """Return copies that are hard to find, often altered in several ways at once."""
        x = self._place(x, least_area=0.22, turned=0.25, most_angle=25, pasted=0.35, framed=0.15)
        x = self._recolour(x, strength=0.8, grey=0.15)
        x = self._write(x, share=0.2)
        x = self._cover(x, share=0.2)
        x = self._coarse(x, share=0.35)
        x = self._jpeg(x, share=0.12)
        noise = self._chance(len(x), 0.15) * self._uniform(len(x), 0, 0.1)
        x = x + noise.view(-1, 1, 1, 1) * torch.randn(x.shape, generator=self._random)
        return inputs_of_pixels(x)

    def _uniform(self, count: int, low: float, high: float) -> Tensor:
        return torch.rand(count, generator=self._random) * (high - low) + low

    def _chance(self, count: int, share: float) -> Tensor:
        return (torch.rand(count, generator=self._random) < share).float()

    def _place(
        self,
        x: Tensor,
        *,
        least_area: float,
        turned: float,
        most_angle: float,
        pasted: float,
        framed: float,
    ) -> Tensor:
        """Crop, stretch, mirror and rotate; or paste into another image or a plain frame."""
        n = len(x)
        kind = torch.rand(n, generator=self._random)
        pastes, frames = kind < pasted, (kind >= pasted) & (kind < pasted + framed)
        inside = pastes | frames
        # Small crops are drawn more often, since they are harder to find.
        area = (least_area + (1 - least_area) * self._uniform(n, 0, 1).pow(1.5)).sqrt()
        stretch = torch.exp(self._uniform(n, -0.3, 0.3) * self._chance(n, 0.5) / 2)
        width, height = (area * stretch).clamp(max=1), (area / stretch).clamp(max=1)
        # When pasted or framed, the image fills only part of the result, and little is cropped.
        part = torch.where(pastes, self._uniform(n, 0.4, 0.8), self._uniform(n, 0.55, 0.95))
        width = torch.where(inside, 1 / (part * stretch).clamp(max=0.98), width)
        height = torch.where(inside, 1 / (part / stretch).clamp(max=0.98), height)
        shift_x = self._uniform(n, -1, 1) * (1 - width).abs()
        shift_y = self._uniform(n, -1, 1) * (1 - height).abs()
        angle = self._uniform(n, -most_angle, most_angle) * self._chance(n, 0.4)
        # Mostly a quarter turn, sometimes a half.
        quarters = 1 + (torch.rand(n, generator=self._random) * 3).floor()
        angle = torch.deg2rad(angle) + quarters * math.pi / 2 * self._chance(n, turned)
        mirror = 1 - 2 * self._chance(n, 0.3)
        cos, sin = angle.cos(), angle.sin()
        theta = torch.stack(
            [
                torch.stack([cos * width * mirror, -sin * height * mirror, shift_x * mirror], 1),
                torch.stack([sin * width, cos * height, shift_y], 1),
            ],
            1,
        )
        grid = functional.affine_grid(theta, [n, 3, INPUT, INPUT], align_corners=False)
        placed = functional.grid_sample(x, grid, padding_mode="reflection", align_corners=False)
        if not bool(inside.any()):
            return placed
        within = (grid[inside].abs() <= 1).all(-1).unsqueeze(1)
        ground = torch.rand(n, 3, 1, 1, generator=self._random)
        ground = torch.where(self._chance(n, 0.5).view(-1, 1, 1, 1) > 0, ground.round(), ground)
        ground = ground.repeat(1, 1, INPUT, INPUT)
        ground[pastes] = functional.interpolate(x.roll(1, 0)[pastes], INPUT, mode="bilinear")
        placed[inside] = torch.where(within, placed[inside], ground[inside])
        return placed

    def _recolour(self, x: Tensor, *, strength: float, grey: float) -> Tensor:
        n = len(x)
        active = self._chance(n, 0.7)
        gain = torch.exp(torch.randn(n, 3, generator=self._random) * 0.2 * strength)
        gamma = torch.exp(self._uniform(n, -0.5, 0.5) * strength * active)
        contrast = torch.exp(self._uniform(n, -0.6, 0.5) * strength * active)
        saturation = torch.exp(self._uniform(n, -1, 0.8) * strength * active)
        saturation = saturation * (1 - self._chance(n, grey))
        luminance = (x * x.new_tensor([0.299, 0.587, 0.114]).view(1, 3, 1, 1)).sum(1, keepdim=True)
        x = luminance + (x - luminance) * saturation.view(-1, 1, 1, 1)
        x = self._hue(x, strength)
        gain = 1 + (gain - 1) * active.unsqueeze(1)
        centre = x.mean((2, 3), keepdim=True)
        x = (x - centre) * contrast.view(-1, 1, 1, 1) + centre
        light = torch.exp(self._uniform(n, -1.3, 0.9) * strength * self._chance(n, 0.5))
        x = x * (gain * light.unsqueeze(1)).view(-1, 3, 1, 1)
        return x.clamp(1e-3, 1).pow(gamma.view(-1, 1, 1, 1))

    def _hue(self, x: Tensor, strength: float) -> Tensor:
        """Rotate colours about the grey axis."""
        n = len(x)
        angle = self._uniform(n, -1, 1) * math.pi * strength * self._chance(n, 0.3 * strength)
        cos, sin = angle.cos(), angle.sin()
        third, root = (1 - cos) / 3, math.sqrt(1 / 3)
        a, b, c = cos + third, third - root * sin, third + root * sin
        matrix = torch.stack([a, b, c, c, a, b, b, c, a], 1).view(n, 3, 3)
        return torch.einsum("nij,njhw->nihw", matrix, x)

    def _write(self, x: Tensor, *, share: float) -> Tensor:
        """Lay text over the image, in a random colour."""
        n = len(x)
        which = torch.randint(OVERLAYS, (n,), generator=self._random)
        mask = self._overlays[which] * self._chance(n, share).view(-1, 1, 1, 1)
        color = torch.rand(n, 3, 1, 1, generator=self._random).round()
        return x * (1 - mask) + color * mask

    def _cover(self, x: Tensor, *, share: float) -> Tensor:
        """Cover a part with a plain box or bar."""
        n = len(x)
        size = self._uniform(2 * n, 0.08, 0.45).view(2, n)
        place = self._uniform(2 * n, 0, 1).view(2, n) * (1 - size)
        ruler = torch.linspace(0, 1, INPUT)
        bars = self._chance(n, 0.3).bool()
        across = (ruler >= place[0, :, None]) & (ruler <= (place[0] + size[0])[:, None])
        across = across | bars[:, None]
        down = (ruler >= place[1, :, None]) & (ruler <= (place[1] + size[1] * 0.7)[:, None])
        mask = (across[:, None, :] & down[:, :, None]).float().unsqueeze(1)
        mask = mask * self._chance(n, share).view(-1, 1, 1, 1)
        return x * (1 - mask) + torch.rand(n, 3, 1, 1, generator=self._random) * mask

    def _coarse(self, x: Tensor, *, share: float) -> Tensor:
        """Lose detail: three parts of the batch are each reduced to a low resolution."""
        n, done = len(x), 0
        for side in self._rng.integers(24, 96, 3):
            count = int(n * share / 3)
            part = x[done : done + count]
            small = functional.interpolate(part, int(side), mode="bilinear", antialias=True)
            x[done : done + count] = functional.interpolate(small, INPUT, mode="bilinear")
            done += count
        return x

    def _jpeg(self, x: Tensor, *, share: float) -> Tensor:
        for place in self._rng.choice(len(x), int(len(x) * share), replace=False):
            pixels = (x[place].clamp(0, 1) * 255).byte().permute(1, 2, 0).numpy()
            out = BytesIO()
            Image.fromarray(pixels).save(out, "JPEG", quality=int(self._rng.integers(8, 50)))
            read = np.asarray(Image.open(out), np.float32) / 255
            x[place] = torch.from_numpy(read).permute(2, 0, 1)
        return x

    def _overlay(self) -> Tensor:
        image = Image.new("L", (INPUT, INPUT))
        draw = ImageDraw.Draw(image)
        for _ in range(int(self._rng.integers(1, 4))):
            size = int(self._rng.integers(8, 40))
            letters = "".join(self._rng.choice(list(LETTERS), int(self._rng.integers(3, 20))))
            place = (int(self._rng.integers(-20, 60)), int(self._rng.integers(-5, INPUT - size)))
            draw.text(place, letters, fill=255, font=ImageFont.load_default(size))
        return torch.from_numpy(np.asarray(image, np.float32) / 255).unsqueeze(0)
