"""Finds equal pictures, and pictures made from one another: resaved, resized, mirrored, cropped.

Each kind takes two steps: a cheap one selects candidates among all pairs, and a strict one checks them.

- Same framing: all pairs of 16×16 thumbnails by one matrix product, then the fine structure of those of
  64×64 pixels.
- Crop: pictures that share words of corner descriptors (Sivic and Zisserman, "Video Google", ICCV 2003, with
  pieces of ORB's bits as words, so that no vocabulary has to be learnt), then one affine map between the
  corners (RANSAC), then the fine structure of the thumbnails aligned by it.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Literal, TypeAlias

import cv2
import numpy as np
import numpy.typing as npt
from scipy.sparse import coo_matrix, csr_matrix
from scipy.sparse.csgraph import connected_components

from maskwatch.data.quality.fingerprints import THUMB_SIDE, Fingerprint, fingerprint
from maskwatch.media.images import FloatArray, UInt8Array

__all__ = ["Duplicate", "Fingerprint", "find_duplicates", "fingerprint", "groups"]

DuplicateKind: TypeAlias = Literal["same", "near", "mirrored", "crop"]

# Measured by benchmarks/duplicates.py: of 100 photographs each, resaved, resized and brightened, the worst
# pair has 0.88 and 0.89; of three million pairs of different photographs, one has more than both of these.
COARSE_LEAST = 0.8
FINE_LEAST = 0.7

# A symmetrical picture fits both ways; it counts as mirrored if that fits better by this much.
MIRROR_LEAD = 0.05

# Crops: words in common, corners that one transform explains, share and similarity of the overlap.
WORDS_LEAST = 14
CORNERS_LEAST = 10
OVERLAP_LEAST = 0.25
CROP_FINE_LEAST = 0.6

MOST_PARTNERS = 32
"""Partners of a picture, the likeliest first: a film of a still room would pair all its frames."""

_COARSE_SIDE = 16
_FINE_BLUR = 2.0  # standard deviation, pixels of the thumbnail; removes shading
_LEAST_CONTRAST = 2.0  # standard deviation of grey below which a thumbnail has nothing to compare
_BLOCK = 512
_WORDS = 8  # of 16 bits each, out of ORB's 256: more cost time and add nothing
_COMMON_WORD = 32  # a word in more pictures than this (or twice the mean) is left out
_DISTANCE_MOST = 64  # bits in which descriptors of one corner may differ
_RANSAC_PIXELS = 1.5  # of the thumbnail, 64 a side
_LEAST_SHRINK = 0.35


@dataclass(frozen=True)
class Duplicate:
    """A pair of pictures, by their index in the list; `first` < `second`.

    `kind` is "same" (every pixel equal), "near" (same framing), "mirrored" (left to right) or "crop" (one
    shows a part of the other, or both show parts of one scene). `similarity` is the correlation of their fine
    structure, 1.0 for "same".
    """

    first: int
    second: int
    kind: DuplicateKind
    similarity: float


def find_duplicates(fingerprints: Sequence[Fingerprint | None]) -> list[Duplicate]:
    """Pairs of duplicate pictures, sorted by index; None is an unreadable picture.

    Several equal pictures are paired with the first of them, and only the first with others.
    """
    found, kept = _same(fingerprints)
    prints = [one for index in kept if (one := fingerprints[index]) is not None]
    pairs: dict[tuple[int, int], tuple[DuplicateKind, float]] = {}
    if len(prints) > 1:
        for i, j, kind, similarity in (*_same_framing(prints), *_crops(prints)):
            pairs.setdefault((i, j), (kind, similarity))
    found += [Duplicate(kept[i], kept[j], *rest) for (i, j), rest in pairs.items()]
    return sorted(found, key=lambda pair: (pair.first, pair.second))


def groups(num: int, pairs: Iterable[tuple[int, int]]) -> list[list[int]]:
    """Connected components of the indices 0 … num − 1, sorted by first member; an unpaired one is a group."""
    ends = np.array(list(pairs), np.intp).reshape(-1, 2)  # (pairs, 2)
    graph = coo_matrix((np.ones(len(ends), bool), (ends[:, 0], ends[:, 1])), shape=(num, num))
    labels = connected_components(graph, directed=False)[1] if num else ()
    members: dict[int, list[int]] = {}
    for index, label in enumerate(labels):
        members.setdefault(int(label), []).append(index)
    return list(members.values())


def _same(fingerprints: Sequence[Fingerprint | None]) -> tuple[list[Duplicate], list[int]]:
    """Pairs of equal pictures, and the index of each picture that equals no earlier one."""
    firsts: dict[tuple[int, ...], int] = {}
    found = []
    for index, one in enumerate(fingerprints):
        if one is not None and (first := firsts.setdefault(one.checksum, index)) != index:
            found.append(Duplicate(first, index, "same", 1.0))
    return found, list(firsts.values())


def _same_framing(prints: Sequence[Fingerprint]) -> Iterator[tuple[int, int, DuplicateKind, float]]:
    thumbs = np.stack([one.thumb for one in prints])  # (N, 64, 64)
    coarse = _coarse(thumbs)
    likeliest: dict[tuple[int, int], tuple[DuplicateKind, float]] = {}
    views: dict[DuplicateKind, UInt8Array] = {"near": thumbs, "mirrored": thumbs[:, :, ::-1]}

    @cache  # most thumbnails are in no coarse pair
    def fine(kind: DuplicateKind, index: int) -> FloatArray:
        return _unit(_fine_structure(views[kind][index]).reshape(1, -1)).ravel()  # (4096,)

    for kind, others in views.items():
        for i, j in _coarse_pairs(coarse, _coarse(others)):
            similarity = float(fine("near", i) @ fine(kind, j))
            rival = likeliest.get((i, j), ("near", -MIRROR_LEAD))[1] + MIRROR_LEAD
            if similarity >= FINE_LEAST and similarity > rival:
                likeliest[i, j] = (kind, similarity)
    yield from ((i, j, kind, similarity) for (i, j), (kind, similarity) in likeliest.items())


def _coarse_pairs(coarse: FloatArray, others: FloatArray) -> Iterator[tuple[int, int]]:
    """Pairs i < j whose coarse thumbnails agree, block by block."""
    for start in range(0, len(coarse), _BLOCK):
        scores = coarse[start : start + _BLOCK] @ others.T  # (block, N)
        scores[np.arange(len(others)) <= np.arange(start, start + len(scores))[:, None]] = 0
        for row in np.flatnonzero(scores.max(1) >= COARSE_LEAST):
            likely = np.flatnonzero(scores[row] >= COARSE_LEAST)
            for j in likely[np.argsort(-scores[row, likely], kind="stable")[:MOST_PARTNERS]]:
                yield start + int(row), int(j)


def _coarse(thumbs: UInt8Array) -> FloatArray:
    """Thumbnails (N, 64, 64) → unit vectors (N, 256); zero for one without contrast."""
    step = THUMB_SIDE // _COARSE_SIDE
    blocks = thumbs.reshape(-1, _COARSE_SIDE, step, _COARSE_SIDE, step)  # (N, 16, 4, 16, 4)
    means = blocks.mean((2, 4), dtype=np.float32)
    return _unit(means.reshape(len(thumbs), -1), _LEAST_CONTRAST)  # (N, 256)


def _fine_structure(thumb: UInt8Array) -> FloatArray:
    grey = thumb.astype(np.float32)
    return np.asarray(grey - cv2.GaussianBlur(grey, (0, 0), _FINE_BLUR), np.float32)


def _unit(rows: FloatArray, least_std: float = 1e-3) -> FloatArray:
    rows = rows - rows.mean(1, keepdims=True)
    length = np.linalg.norm(rows, axis=1, keepdims=True)
    usable = length >= least_std * np.sqrt(rows.shape[1])
    return np.asarray(np.where(usable, rows / np.maximum(length, 1e-6), 0), np.float32)


def _crops(prints: Sequence[Fingerprint]) -> Iterator[tuple[int, int, DuplicateKind, float]]:
    matcher = cv2.BFMatcher(cv2.NORM_HAMMING, crossCheck=True)
    for i, j in _word_pairs(prints):
        overlap = _overlap(prints[i], prints[j], matcher)
        if overlap is not None:
            yield i, j, "crop", overlap


def _word_pairs(prints: Sequence[Fingerprint]) -> Iterator[tuple[int, int]]:
    """Pairs i < j that share many words of their corners."""
    counts = [len(one.descriptors) for one in prints]
    words = np.concatenate([one.descriptors for one in prints]).view(np.uint16)[:, :_WORDS]
    columns = (words + np.arange(_WORDS) * 65536).ravel()
    rows = np.repeat(np.arange(len(prints)), counts).repeat(_WORDS)
    has = csr_matrix((np.ones(len(rows), np.int16), (rows, columns)), shape=(len(prints), _WORDS * 65536))
    has.data[:] = 1  # a word counts once a picture
    known_by = np.bincount(has.indices, minlength=has.shape[1])
    most = max(_COMMON_WORD, 2 * len(rows) / has.shape[1])
    has = has[:, np.flatnonzero((known_by > 1) & (known_by <= most))]
    for start in range(0, len(prints), _BLOCK):
        shared = (has[start : start + _BLOCK] @ has.T).tocoo()
        kept = (shared.data >= WORDS_LEAST) & (shared.row + start < shared.col)
        order = np.argsort(-shared.data[kept], kind="stable")
        seen = np.zeros(_BLOCK, int)
        for i, j in zip(shared.row[kept][order], shared.col[kept][order], strict=True):
            seen[i] += 1
            if seen[i] <= MOST_PARTNERS:
                yield start + int(i), int(j)


def _overlap(one: Fingerprint, other: Fingerprint, matcher: cv2.BFMatcher) -> float | None:
    """Similarity of two pictures where they overlap; None if they are not of one scene."""
    pairs = [m for m in matcher.match(one.descriptors, other.descriptors) if m.distance <= _DISTANCE_MOST]
    if len(pairs) < CORNERS_LEAST:
        return None
    here = one.points_xy[[m.queryIdx for m in pairs]]
    there = other.points_xy[[m.trainIdx for m in pairs]]
    # Thumbnails are squashed, so that a crop stretches x and y differently: an affine map, not a similarity.
    found, inliers = cv2.estimateAffine2D(there, here, ransacReprojThreshold=_RANSAC_PIXELS)
    if found is None or int(inliers.sum()) < CORNERS_LEAST:
        return None
    transform = np.asarray(found, np.float64)  # (2, 3)
    if not _plausible(transform):
        return None
    similarity = _aligned(one.thumb, other.thumb, transform)
    return similarity if similarity >= CROP_FINE_LEAST else None


def _plausible(transform: npt.NDArray[np.float64]) -> bool:
    """A crop is neither rotated nor sheared, nor shrunk too far."""
    (a, b, _), (c, d, _) = transform
    return bool(min(a, d) >= _LEAST_SHRINK and max(a, d) <= 1 / _LEAST_SHRINK and max(abs(b), abs(c)) <= 0.2)


def _aligned(thumb: UInt8Array, other: UInt8Array, transform: npt.NDArray[np.float64]) -> float:
    """Correlation of the fine structure where `other`, aligned by the transform, covers `thumb`."""
    size = (THUMB_SIDE, THUMB_SIDE)
    moved = cv2.warpAffine(_fine_structure(other), transform, size, flags=cv2.INTER_AREA)
    covered = cv2.warpAffine(np.ones(size, np.float32), transform, size) > 0.99
    if covered.mean() < OVERLAP_LEAST:
        return 0.0
    both = _unit(np.stack([_fine_structure(thumb)[covered], np.asarray(moved, np.float32)[covered]]))
    return float(both[0] @ both[1])
