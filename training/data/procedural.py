"""Procedural images: dead leaves, fractal noise, stripes and rendered text.

Networks trained on such images transfer to copy detection (Baradad et al., "Learning to See by
Looking at Noise", NeurIPS 2021), and nobody holds rights in them.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

LETTERS = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789  .,!?"


def procedural(seed: int, side: int) -> NDArray[np.uint8]:
    """Return an image, (side, side, 3); the same seed gives the same image."""
    rng = np.random.default_rng(seed)
    makers = (dead_leaves, dead_leaves, fractal_noise, stripes, page_of_text)
    return makers[seed % len(makers)](rng, side)


def dead_leaves(rng: np.random.Generator, side: int) -> NDArray[np.uint8]:
    """Return overlapping shapes whose sizes follow a power law."""
    image = Image.fromarray(fractal_noise(rng, side))
    draw = ImageDraw.Draw(image)
    for _ in range(int(rng.integers(15, 150))):
        radius = side * 0.03 / np.sqrt(rng.uniform(0.005, 1))
        x, y = rng.uniform(0, side, 2)
        color = tuple(int(value) for value in rng.integers(0, 256, 3))
        angles = np.sort(rng.uniform(0, 2 * np.pi, int(rng.integers(3, 9))))
        corners = [(x + radius * np.cos(a), y + radius * np.sin(a)) for a in angles]
        if rng.random() < 0.4:
            draw.ellipse([x - radius, y - radius, x + radius, y + radius], fill=color)
        else:
            draw.polygon(corners, fill=color)
    return np.asarray(image)


def fractal_noise(rng: np.random.Generator, side: int) -> NDArray[np.uint8]:
    """Return noise in correlated colours whose spectrum falls as a power of the frequency."""
    frequency = np.hypot(*np.meshgrid(np.fft.fftfreq(side), np.fft.fftfreq(side)))
    amplitude = 1 / np.maximum(frequency, 1 / side) ** rng.uniform(0.8, 2.2)
    noise = np.fft.fft2(rng.normal(size=(3, side, side))) * amplitude
    layers: Any = np.real(np.fft.ifft2(noise))
    mixed = np.tensordot(rng.normal(size=(3, 3)), layers, 1).transpose(1, 2, 0)
    mixed = mixed - mixed.mean((0, 1))
    scaled = mixed / (mixed.std() + 1e-6) * rng.uniform(25, 70) + rng.uniform(60, 200, 3)
    return np.clip(scaled, 0, 255).astype(np.uint8)


def stripes(rng: np.random.Generator, side: int) -> NDArray[np.uint8]:
    """Return the product of a few waves, each of two colours."""
    y, x = np.mgrid[0:side, 0:side] / side
    pixels = np.ones((side, side, 3)) * rng.uniform(120, 255, 3)
    for _ in range(int(rng.integers(1, 4))):
        angle, count = rng.uniform(0, np.pi), rng.uniform(1, 25)
        wave = np.sin(
            (x * np.cos(angle) + y * np.sin(angle)) * count * 2 * np.pi + rng.uniform(0, 6)
        )
        level = np.tanh(wave * rng.uniform(0.5, 8)) * 0.5 + 0.5
        pixels *= 1 - level[..., None] * rng.uniform(0, 1, 3)
    return pixels.astype(np.uint8)


def page_of_text(rng: np.random.Generator, side: int) -> NDArray[np.uint8]:
    """Return lines of random letters on a plain background."""
    ground, ink = (tuple(int(v) for v in rng.integers(0, 256, 3)) for _ in range(2))
    image = Image.new("RGB", (side, side), ground)
    draw = ImageDraw.Draw(image)
    size = int(rng.integers(9, 36))
    font = ImageFont.load_default(size)
    for y in range(int(rng.integers(0, 12)), side, int(size * 1.3)):
        letters = rng.choice(list(LETTERS), int(rng.integers(3, 30)))
        draw.text((int(rng.integers(-5, 25)), y), "".join(letters), fill=ink, font=font)
    return np.asarray(image)
