"""Projecting metal and back: what rays through rods measure, and the image a scanner makes of it.

Parallel beam in the plane of each slice. A ray is told by its view angle ``theta`` and its place
``t = u cos(theta) + v sin(theta)`` on the detector. Everything here is compiled, releases the interpreter lock and
starts no threads of its own, so that slices can be worked on side by side.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, NamedTuple, TypeVar

import numba
import numpy as np
from numpy.typing import NDArray

from simulator.geometry import Floats

Singles = NDArray[np.float32]
_Function = TypeVar("_Function", bound=Callable[..., Any])


def compiled(function: _Function) -> _Function:
    """numba without the interpreter lock, its machine code kept between runs; the types stay as written."""
    translate: Any = numba.njit(nogil=True, cache=True, fastmath=True, error_model="numpy")
    fast: _Function = translate(function)
    return fast


class RodTable(NamedTuple):
    """``metal.Rods`` as compiled code takes them."""

    ends_mm: Floats
    radius_mm: Floats
    material: Any
    sign: Floats


class Detector(NamedTuple):
    """Bins side by side, the first at ``t_low_mm``; each is the mean of ``rays`` rays."""

    t_low_mm: float
    bin_mm: float
    bins: int
    rays: int


class Body(NamedTuple):
    """What the body does to each view, on a coarser detector: ways ``(views, n)`` in mm through water and bone."""

    water_mm: Singles
    bone_mm: Singles
    t_low_mm: float
    step_mm: float


class Matter(NamedTuple):
    """A spectrum ``(energies,)`` and what attenuates it; metal is ``(materials, energies)``."""

    spectrum: Floats
    water_per_mm: Floats
    bone_per_mm: Floats
    metal_per_mm: Floats


@compiled
def body_lengths(
    water: Singles, pixel_u_mm: float, pixel_v_mm: float, cosine: Floats, sine: Floats, t_mm: Floats
) -> Singles:
    """Water-equivalent path in mm, ``(views, len(t_mm))``, through a coarse slice ``water (rows, columns)``."""
    rows, columns = water.shape
    step = min(pixel_u_mm, pixel_v_mm)
    reach = math.hypot(rows * pixel_v_mm, columns * pixel_u_mm)
    count = int(2.0 * reach / step)
    out = np.zeros((len(cosine), len(t_mm)), dtype=np.float32)
    for view in range(len(cosine)):
        c, s = cosine[view], sine[view]
        for k in range(len(t_mm)):
            total = 0.0
            for i in range(count):
                along = -reach + i * step
                column = (t_mm[k] * c - along * s) / pixel_u_mm + 0.5
                row = (t_mm[k] * s + along * c) / pixel_v_mm + 0.5
                if 0.0 <= column < columns and 0.0 <= row < rows:
                    total += water[int(row), int(column)]
            out[view, k] = total * step
    return out


@compiled
def add_ball_chords(
    lengths: Floats,
    sign: float,
    t_mm: float,
    w_off_mm: float,
    radius: float,
    first_ray_mm: float,
    ray_mm: float,
) -> Any:
    """As ``add_chords``, for a ball whose centre is seen at ``t_mm`` and lies ``w_off_mm`` off the rays' height."""
    across2 = radius * radius - w_off_mm * w_off_mm
    if across2 <= 0.0:
        return len(lengths), -1
    across = math.sqrt(across2)
    low = max(math.floor((t_mm - across - first_ray_mm) / ray_mm), 0)
    high = min(math.ceil((t_mm + across - first_ray_mm) / ray_mm), len(lengths) - 1)
    for k in range(low, high + 1):
        off = first_ray_mm + k * ray_mm - t_mm
        if off * off < across2:
            lengths[k] += sign * 2.0 * math.sqrt(across2 - off * off)
    return low, high


@compiled
def add_chords(
    lengths: Floats,
    sign: float,
    ends_mm: Floats,
    radius: float,
    w: float,
    c: float,
    s: float,
    first_ray_mm: float,
    ray_mm: float,
) -> Any:
    """Add ``sign`` x the length of each ray's chord in one rod, at height ``w``; the first and last ray hit."""
    nothing = (len(lengths), -1)
    pu, pv, pw = ends_mm[0, 0], ends_mm[0, 1], ends_mm[0, 2]
    au, av, aw = ends_mm[1, 0] - pu, ends_mm[1, 1] - pv, ends_mm[1, 2] - pw
    length = math.sqrt(au * au + av * av + aw * aw)
    if length < 1e-9:
        return add_ball_chords(lengths, sign, pu * c + pv * s, w - pw, radius, first_ray_mm, ray_mm)
    au, av, aw = au / length, av / length, aw / length
    # the stretch of the axis whose cross-section this height can touch
    across = radius * math.sqrt(max(0.0, 1.0 - aw * aw))
    from_h, to_h = 0.0, length
    if abs(aw) * length > 1e-6:
        one, two = (w - across - pw) / aw, (w + across - pw) / aw
        # flat ends stand out by up to the radius
        from_h = max(0.0, min(one, two) - radius)
        to_h = min(length, max(one, two) + radius)
    elif abs(w - pw) > across:
        return nothing
    if from_h > to_h:
        return nothing
    t_one = (pu + au * from_h) * c + (pv + av * from_h) * s
    t_two = (pu + au * to_h) * c + (pv + av * to_h) * s
    low = math.floor((min(t_one, t_two) - radius - first_ray_mm) / ray_mm)
    high = math.ceil((max(t_one, t_two) + radius - first_ray_mm) / ray_mm)
    low, high = max(low, 0), min(high, len(lengths) - 1)
    forward = c * av - s * au  # how far the ray runs along the axis
    a = max(1.0 - forward * forward, 1e-12)
    mw = w - pw
    for k in range(low, high + 1):
        t = first_ray_mm + k * ray_mm
        mu, mv = t * c - pu, t * s - pv
        along = mu * au + mv * av + mw * aw
        b = c * mv - s * mu - along * forward
        root = b * b - a * (mu * mu + mv * mv + mw * mw - along * along - radius * radius)
        if root <= 0.0:
            continue
        root = math.sqrt(root)
        near, far = (-b - root) / a, (-b + root) / a
        if abs(forward) > 1e-9:
            one, two = -along / forward, (length - along) / forward
            near, far = max(near, min(one, two)), min(far, max(one, two))
        elif along < 0.0 or along > length:
            continue
        if far > near:
            lengths[k] += sign * (far - near)
    return low, high


@compiled
def lose(
    lost: Floats,
    lengths: Floats,
    rods: RodTable,
    heights_mm: Floats,
    c: float,
    s: float,
    detector: Detector,
    matter: Matter,
) -> Any:
    """Add to ``lost (energies, bins)`` what metal takes from each of a bin's rays; the first and last bin hit.

    ``lengths (materials, bins * rays)`` is room to work in, zero before and after.
    """
    energies, materials = len(matter.water_per_mm), len(matter.metal_per_mm)
    ray_mm = detector.bin_mm / detector.rays
    first_ray_mm = detector.t_low_mm - detector.bin_mm / 2.0 + ray_mm / 2.0
    low_bin, high_bin = lost.shape[1], -1
    for w in heights_mm:
        low_ray, high_ray = lengths.shape[1], -1
        for rod in range(len(rods.radius_mm)):
            of_material, ends, radius = lengths[rods.material[rod]], rods.ends_mm[rod], rods.radius_mm[rod]
            low, high = add_chords(of_material, rods.sign[rod], ends, radius, w, c, s, first_ray_mm, ray_mm)
            low_ray, high_ray = min(low_ray, low), max(high_ray, high)
        for k in range(low_ray, high_ray + 1):
            metal = 0.0
            for m in range(materials):
                metal += lengths[m, k]
            if metal > 0.0:
                for e in range(energies):
                    path = -metal * matter.water_per_mm[e]  # whose place it takes
                    for m in range(materials):
                        path += lengths[m, k] * matter.metal_per_mm[m, e]
                    lost[e, k // detector.rays] += 1.0 - math.exp(-path)
            for m in range(materials):
                lengths[m, k] = 0.0
        if high_ray >= low_ray:
            low_bin = min(low_bin, low_ray // detector.rays)
            high_bin = max(high_bin, high_ray // detector.rays)
    return low_bin, high_bin


class Room(NamedTuple):
    """To work in; ``lengths (materials, rays)`` and ``lost (energies, bins)`` are zero between two rows."""

    lengths: Floats
    lost: Floats
    seen_lost: Floats


@compiled
def room_for(detector: Detector, matter: Matter) -> Room:
    """All zero."""
    energies, bins = len(matter.spectrum), detector.bins
    lengths = np.zeros((len(matter.metal_per_mm), bins * detector.rays))
    return Room(lengths, np.zeros((energies, bins)), np.zeros((energies, bins)))


@compiled
def shadow(
    room: Room, rods: RodTable, heights_mm: Floats, c: float, s: float, detector: Detector, matter: Matter
) -> Any:
    """What a row of the detector misses because of metal, into ``room.seen_lost``; the first and last bin.

    Focal spot and detector element see a window about two bins wide.
    """
    lost, seen_lost = room.lost, room.seen_lost
    low_bin, high_bin = lose(lost, room.lengths, rods, heights_mm, c, s, detector, matter)
    low_bin, high_bin = max(low_bin - 1, 0), min(high_bin + 1, detector.bins - 1)
    share = 1.0 / (len(heights_mm) * detector.rays)
    for e in range(len(lost)):
        before = 0.0
        for k in range(low_bin, high_bin + 1):
            here = lost[e, k]
            after = lost[e, k + 1] if k < high_bin else 0.0
            seen_lost[e, k] = share * (0.25 * before + 0.5 * here + 0.25 * after)
            before = here
            lost[e, k] = 0.0
    return low_bin, high_bin


@compiled
def way_mm(ways_mm: Singles, body: Body, view: int, t_mm: float) -> float:
    """Through the body at ``t_mm``, between its coarser bins."""
    place = (t_mm - body.t_low_mm) / body.step_mm
    i = min(max(int(place), 0), ways_mm.shape[1] - 2)
    part = min(max(place - i, 0.0), 1.0)
    return float(ways_mm[view, i] * (1.0 - part) + ways_mm[view, i + 1] * part)


@compiled
def metal_sinogram(
    rods: RodTable,
    w_mm: Floats,
    cosine: Floats,
    sine: Floats,
    detector: Detector,
    body: Body,
    matter: Matter,
    scatter: float,
    photons: float,
    noise: Singles,
) -> Singles:
    """Excess of the measured line integral over the anatomy's own, ``(views, bins)``: the fast mode's rays.

    The logarithm is taken after the intensities were averaged over a detector row's height, its aperture
    (``rays`` per bin) and the spectrum, with scatter and photon noise in them; the slice is the mean of its rows.
    ``w_mm`` ``(rows, heights per row)`` are where rays run; the body is taken as water.
    ``noise`` ``(views, bins)`` are standard normal numbers.
    """
    views, energies, bins = len(cosine), len(matter.spectrum), detector.bins
    out = np.zeros((views, bins), dtype=np.float32)
    room = room_for(detector, matter)
    seen_lost = room.seen_lost
    for view in range(views):
        c, s = cosine[view], sine[view]
        for row in range(w_mm.shape[0]):
            low_bin, high_bin = shadow(room, rods, w_mm[row], c, s, detector, matter)
            for k in range(low_bin, high_bin + 1):
                if seen_lost[0, k] == 0.0:
                    continue
                water = way_mm(body.water_mm, body, view, detector.t_low_mm + k * detector.bin_mm)
                missing, unhindered = 0.0, 0.0
                for e in range(energies):
                    through = matter.spectrum[e] * math.exp(-matter.water_per_mm[e] * water)
                    unhindered += through
                    missing += through * seen_lost[e, k]
                floor = scatter * unhindered
                seen = max(unhindered - missing, 0.0) + floor
                extra = max(1.0 / seen - 1.0 / (unhindered + floor), 0.0) / photons
                out[view, k] += -math.log(seen / (unhindered + floor)) + noise[view, k] * math.sqrt(extra)
        out[view] /= w_mm.shape[0]
    return out


@compiled
def intensities(
    rods: RodTable,
    w_mm: Floats,
    swing_mm: Floats,
    cosine: Floats,
    sine: Floats,
    detector: Detector,
    body: Body,
    matter: Matter,
    scatter: float,
) -> Any:
    """What the detector sees of what air lets through: the faithful mode's rays.

    Args:
        w_mm: ``(rows, heights per row)`` where rays run.
        swing_mm: ``(views,)`` how far each view's rays run above that, since the patient moves meanwhile.

    Returns:
        ``(rows, views, bins)`` with metal and ``(views, bins)`` without, both with scatter, both noiseless.
    """
    views, energies, bins = len(cosine), len(matter.spectrum), detector.bins
    with_metal = np.zeros((w_mm.shape[0], views, bins), dtype=np.float32)
    without = np.zeros((views, bins), dtype=np.float32)
    room = room_for(detector, matter)
    seen_lost = room.seen_lost
    through = np.zeros((bins, energies))
    for view in range(views):
        c, s = cosine[view], sine[view]
        for k in range(bins):
            t_mm = detector.t_low_mm + k * detector.bin_mm
            water, bone = way_mm(body.water_mm, body, view, t_mm), way_mm(body.bone_mm, body, view, t_mm)
            total = 0.0
            for e in range(energies):
                path = matter.water_per_mm[e] * water + matter.bone_per_mm[e] * bone
                through[k, e] = matter.spectrum[e] * math.exp(-path)
                total += through[k, e]
            without[view, k] = total * (1.0 + scatter)
        for row in range(w_mm.shape[0]):
            with_metal[row, view] = without[view]
            if len(rods.radius_mm) == 0:
                continue
            low_bin, high_bin = shadow(room, rods, w_mm[row] + swing_mm[view], c, s, detector, matter)
            for k in range(low_bin, high_bin + 1):
                missing, floor = 0.0, without[view, k] * scatter / (1.0 + scatter)
                for e in range(energies):
                    missing += through[k, e] * seen_lost[e, k]
                with_metal[row, view, k] = max(without[view, k] - missing, floor)
    return with_metal, without


def filtered(sinogram: Singles, bin_mm: float, blur_sigma_mm: float) -> Singles:
    """The ramp filter with a Gaussian kernel along each view; as long as the input."""
    length = 2 ** math.ceil(math.log2(2 * sinogram.shape[1]))
    frequency = np.fft.rfftfreq(length, bin_mm)
    # the ramp of a band-limited filter, from its taps, so that the mean stays right
    taps = np.zeros(length)
    taps[0] = 1.0 / (4.0 * bin_mm**2)
    odd = np.arange(1, length // 2, 2)
    taps[odd] = taps[-odd] = -1.0 / (np.pi * odd * bin_mm) ** 2
    response = np.fft.rfft(taps).real * bin_mm * np.exp(-2.0 * (np.pi * blur_sigma_mm * frequency) ** 2)
    spectrum = np.fft.rfft(sinogram, length, axis=1) * response.astype(np.float32)
    return np.asarray(np.fft.irfft(spectrum, length, axis=1)[:, : sinogram.shape[1]], dtype=np.float32)


@compiled
def backproject(
    image: Singles,
    spans: NDArray[np.int64],
    sinogram: Singles,
    weights: Singles,
    cosine: Singles,
    sine: Singles,
    pixel_u_mm: float,
    pixel_v_mm: float,
    t_low_mm: float,
    bin_mm: float,
) -> None:
    """Smear the filtered views over ``image (rows, columns)``, in place.

    Only columns ``spans[row, 0]`` to below ``spans[row, 1]`` are computed; what stood there is overwritten.
    """
    last = sinogram.shape[1] - 2
    for row in range(image.shape[0]):
        image[row, spans[row, 0] : spans[row, 1]] = 0.0
    for view in range(len(weights)):
        line = sinogram[view]
        step = np.float32(pixel_u_mm * cosine[view] / bin_mm)
        weight = weights[view]
        for row in range(image.shape[0]):
            place = np.float32((row * pixel_v_mm * sine[view] - t_low_mm) / bin_mm)
            for column in range(spans[row, 0], spans[row, 1]):
                at = place + step * np.float32(column)
                i = min(max(int(at), 0), last)
                part = at - np.float32(i)
                image[row, column] += weight * (line[i] + part * (line[i + 1] - line[i]))


@compiled
def enlarged(coarse: Singles, times: int, rows: int, columns: int) -> Singles:
    """Bilinear: pixel ``[times i, times j]`` of the result is ``coarse[i, j]``."""
    out = np.zeros((rows, columns), dtype=np.float32)
    for row in range(rows):
        i, down = row // times, np.float32(row % times / times)
        for column in range(columns):
            j, right = column // times, np.float32(column % times / times)
            upper = coarse[i, j] + right * (coarse[i, j + 1] - coarse[i, j])
            lower = coarse[i + 1, j] + right * (coarse[i + 1, j + 1] - coarse[i + 1, j])
            out[row, column] = upper + down * (lower - upper)
    return out
