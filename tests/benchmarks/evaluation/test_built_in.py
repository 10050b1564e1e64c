"""What the model that ships with the package reaches on clips it was not trained on."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from bundles import SharedBundles

from sam2rt.benchmarks.evaluation.accuracy_runs import AUTOMATIC, ReferenceOpener
from sam2rt.benchmarks.evaluation.automatic import automatic_recall
from sam2rt.benchmarks.evaluation.evaluate import evaluate
from sam2rt.benchmarks.evaluation.job import BundleOpener, Job, Opener, Settings
from sam2rt.benchmarks.evaluation.synthetic_dataset import synthetic_dataset
from sam2rt.configs.bundle import Bundle

pytestmark = pytest.mark.slow
CLIPS, FRAMES = 20, 30
#: a set of clips hangs on a few objects: what holds is said of the mean of three
SEEDS = (7, 8, 9)


@pytest.fixture(scope="module")
def weights() -> Path:
    from sam2rt.export.checkpoint.load import built_in_file

    return built_in_file("sam2rt_micro")


@pytest.fixture(scope="module")
def opener(shared_bundles: SharedBundles) -> BundleOpener:
    return BundleOpener(shared_bundles.built_in().path, threads=1)


def measured(
    opener: Opener, level: Any = "standard", seed: int = 7, clips: int = CLIPS, **settings: Any
) -> dict[str, Any]:
    dataset = synthetic_dataset(level, seed, clips, FRAMES)
    return evaluate(Job(dataset, opener, Settings(**settings)), processes=2)


def mean(values: Iterable[float]) -> float:
    return float(np.mean(list(values)))


@pytest.fixture(scope="module")
def standard(opener: BundleOpener) -> list[dict[str, Any]]:
    return [measured(opener, seed=seed, prompt="click") for seed in SEEDS]


def test_one_click_on_plain_clips(opener: BundleOpener) -> None:
    assert measured(opener, "plain", prompt="click")["J&F"] >= 0.85


def test_one_click_on_standard_clips(standard: list[dict[str, Any]]) -> None:
    assert min(report["J&F"] for report in standard) >= 0.75


def test_a_box_is_at_least_as_good_as_a_click(
    opener: BundleOpener, standard: list[dict[str, Any]]
) -> None:
    for seed, clicked in zip(SEEDS, standard, strict=True):
        assert measured(opener, seed=seed, prompt="box")["J&F"] >= clicked["J&F"], seed


def test_a_corrective_click_on_the_worst_frame_raises_the_mean(opener: BundleOpener) -> None:
    rounds = [
        measured(opener, seed=seed, protocol="offline", clicks=1, rounds=2)["rounds"]
        for seed in SEEDS
    ]
    assert mean(second for _, second in rounds) > mean(first for first, _ in rounds)


def test_the_object_score_tells_absent_from_present(standard: list[dict[str, Any]]) -> None:
    assert mean(report["object_score_auc"] for report in standard) >= 0.95


def test_pytorch_gives_the_same(opener: BundleOpener, weights: Path) -> None:
    size = Bundle.load(opener.path).model.image_size
    reference = measured(ReferenceOpener(str(weights), size, ""), clips=6, prompt="click")
    exported = measured(opener, clips=6, prompt="click")
    assert abs(reference["J&F"] - exported["J&F"]) <= 1e-3


def test_automatic_masks_find_the_objects(opener: BundleOpener) -> None:
    with opener.open() as session:
        found = automatic_recall(session, synthetic_dataset("plain", 7, 30, 3), AUTOMATIC)
    assert found.objects > 40
    assert found.share is not None
    assert found.share >= 0.9
