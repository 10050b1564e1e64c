"""Training: losses by hand, simulated users, resumption, fine-tuning that helps."""

from __future__ import annotations

import errno
import io
import math
import os
from contextlib import suppress
from dataclasses import replace

import numpy as np
import pytest
import torch
from safetensors.numpy import load_file, save_file

from sam2rt.benchmarks.synthetic.clips import make_clip, save_davis
from sam2rt.configs.errors import CheckpointError
from sam2rt.configs.models import model_config
from sam2rt.export.checkpoint.load import load_checkpoint
from sam2rt.export.model.decoder import DecoderOutput
from sam2rt.export.model.sam2 import build_model
from sam2rt.training.average import average
from sam2rt.training.batches import FolderSource, batches_of, make_batch, synthetic_source
from sam2rt.training.episodes import Objects, _Tracker, clip_episode, image_episode
from sam2rt.training.initial import initialised
from sam2rt.training.losses import balanced, dice, focal, iou, score_output
from sam2rt.training.prompts import boxes, corrections, first_clicks
from sam2rt.training.recipe import BatchPlan, LossWeights, Recipe
from sam2rt.training.run import _forget_later, run
from sam2rt.training.trainer import Trainer, _Writer

MICRO = model_config("micro")


def test_losses_by_hand():
    logits = torch.tensor([[[0.0, 2.0]]])
    truth = torch.tensor([[[0.0, 1.0]]])
    p = 1 / (1 + math.exp(-2))
    expected = (0.75 * 0.5**2 * math.log(2) + 0.25 * (1 - p) ** 2 * -math.log(p)) / 2
    assert focal(logits, truth).item() == pytest.approx(expected, rel=1e-5)
    assert dice(logits, truth).item() == pytest.approx(1 - (2 * p + 1) / (0.5 + p + 2), rel=1e-5)
    assert iou(logits, truth).item() == 1.0
    assert iou(-logits, truth).item() == 0.0
    assert iou(-torch.ones(1, 1, 2), torch.zeros(1, 1, 2)).item() == 1.0


def test_balanced_loss_weighs_object_rivals_and_ground_alike():
    logits = torch.tensor([[[0.0, 1.0, 2.0, 2.0]]])
    truth = torch.tensor([[[1.0, 0.0, 0.0, 0.0]]])
    rivals = torch.tensor([[[1.0, 1.0, 0.0, 0.0]]])
    ground = 2 * math.log(1 + math.exp(2))
    # one pixel is added to every area, so that an absent object divides by no zero
    parts = math.log(2) / (1 + 1), math.log(1 + math.e) / (1 + 1), ground / (2 + 1)
    assert balanced(logits, truth, rivals).item() == pytest.approx(sum(parts) / 3, rel=1e-5)
    assert balanced(logits, truth * 0, rivals * 0).isfinite().all()


def test_an_untrained_click_already_attends_to_its_place():
    torch.manual_seed(0)
    model = initialised(build_model(MICRO))
    encoder, size = model.sam_prompt_encoder, MICRO.embed_size
    attention = model.sam_mask_decoder.transformer.layers[0].cross_attn_token_to_image
    places = encoder.dense_pe().flatten(2).transpose(1, 2)
    keys = attention.k_proj(places).unflatten(-1, (8, -1))
    for x, y in ((40.0, 200.0), (120.0, 60.0)):
        point = encoder.pe_layer(torch.tensor([[[x, y]]]) / MICRO.image_size)
        query = attention.q_proj(point).unflatten(-1, (8, -1))
        scores = (query * keys).sum((-1, -2))[0]
        row, column = divmod(int(scores.argmax()), size)
        assert abs(column - (x / 16 - 0.5)) <= 1.5
        assert abs(row - (y / 16 - 0.5)) <= 1.5


def test_rivals_are_the_other_objects_of_the_same_clip():
    batch = make_batch(
        np.random.default_rng(2), BatchPlan(2, 1, 3, ("plain",), fewest=2), synthetic_source
    )
    objects = Objects(Trainer(recipe()).model, batch, np.random.default_rng(0), LossWeights())
    for n, clip in enumerate(batch.clip):
        others = [batch.masks[m] for m in np.flatnonzero(batch.clip == clip) if m != n]
        assert others
        np.testing.assert_allclose(objects.rivals[n].numpy(), sum(others), atol=1e-6)


def test_the_curriculum_goes_from_plain_images_to_hard_clips():
    early = Recipe(
        MICRO,
        steps=9,
        clips_from=1,
        plain_only=2,
        balanced_until=4,
        longer_from=5,
        clips=1.0,
        burn_in=0,
    )
    plans = [early.batch_plan(step) for step in range(6)]
    assert [plans[step].frames for step in (0, 1, 4, 5)] == [1, 3, 3, 5]
    assert [plans[step].levels for step in (1, 2)] == [("plain",), ("plain", "standard")]
    assert ["hard" in plans[step].levels for step in (3, 4)] == [False, True]
    weights = [early.weights_at(step) for step in (3, 4)]
    assert [(w.focal, w.balanced) for w in weights] == [(0.0, 3.0), (20.0, 0.0)]


def test_absent_objects_count_only_in_the_score():
    output = DecoderOutput(
        torch.randn(2, 4, 8, 8),
        torch.rand(2, 4),
        torch.zeros(2, 4, 3),
        torch.tensor([[3.0], [3.0]]),
    )
    truth = torch.zeros(2, 8, 8)
    truth[0, 2:6, 2:6] = 1
    rivals = torch.zeros(2, 8, 8)
    present = torch.tensor([True, False])
    weights = LossWeights(score=0)
    both = score_output(output, truth, rivals, present, True, weights).loss
    one = DecoderOutput(*(part[:1] for part in output))
    alone = score_output(one, truth[:1], rivals[:1], present[:1], True, weights).loss
    assert both.item() == pytest.approx(alone.item(), rel=1e-5)
    scored = score_output(output, truth, rivals, present, True, replace(weights, score=1)).loss
    expected = (math.log(1 + math.exp(-3)) + math.log(1 + math.exp(3))) / 2
    assert (scored - both).item() == pytest.approx(expected, rel=1e-4)


def test_simulated_users_click_where_they_should():
    rng = np.random.default_rng(0)
    truth = np.zeros((1, 32, 32), bool)
    truth[0, 8:20, 4:12] = True
    for _ in range(20):
        x, y = first_clicks(rng, truth, 64)[0] / 2
        assert truth[0, int(y), int(x)]
    half = truth.copy()
    half[0, 14:] = False
    for _ in range(20):
        (point,), (label,) = corrections(rng, half, truth, 64)
        assert (label, point[1] >= 28) == (1, True)
    (point,), (label,) = corrections(rng, ~truth, np.zeros_like(truth), 64)
    assert label == 0
    np.testing.assert_array_equal(boxes(rng, truth, 64, jitter=0)[0], [[8, 16], [24, 40]])


def recipe(**changes) -> Recipe:
    usual = Recipe(MICRO, steps=8, clips_from=1, plain_only=1500, warm_up=2, images=3, objects=1)
    return replace(usual, **changes)


def test_the_rate_rises_stays_and_falls():
    rates = Recipe(steps=100, rate=1.0, warm_up=10, cool_down=20)
    assert [rates.rate_at(s) for s in (0, 9, 50, 80, 90)] == [0.1, 1.0, 1.0, 1.0, 0.5]


def test_a_resumed_run_continues_bit_for_bit(tmp_path):
    torch.set_num_threads(1)
    straight = Trainer(recipe())
    batches = [
        batch for batch, _ in zip(batches_of(recipe(), synthetic_source), range(6), strict=False)
    ]
    losses = [straight.train_step(batch).mean_loss.item() for batch in batches]
    assert len({straight.recipe.is_clip(s) for s in range(6)}) == 2, "both kinds of step must occur"

    first = Trainer(recipe())
    for batch in batches[:3]:
        first.train_step(batch)
    first.save(tmp_path / "state.pt")
    resumed = Trainer(recipe())
    resumed.load(tmp_path / "state.pt")
    assert resumed.step == 3
    assert [resumed.train_step(batch).mean_loss.item() for batch in batches[3:]] == losses[3:]
    for key, value in straight.averaged.items():
        assert torch.equal(resumed.averaged[key], value), key


def test_a_run_stops_resumes_and_exports(tmp_path):
    torch.set_num_threads(1)
    lines: list[str] = []
    run(Trainer(recipe(steps=2)), synthetic_source, tmp_path, log_every=1, log=lines.append)
    trainer = Trainer(recipe(steps=3))
    run(trainer, synthetic_source, tmp_path, log_every=1, log=lines.append)
    assert [int(line.split()[0]) for line in lines] == [1, 2, 3]
    trainer.save_weights(tmp_path / "weights.safetensors")
    loaded = load_checkpoint(tmp_path / "weights.safetensors")
    assert loaded.config == MICRO
    for key, value in trainer.averaged.items():
        assert torch.equal(loaded.state[key], value.half().float()), key


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="a device of Linux")
def test_a_state_on_a_full_disk_says_so():
    """torch says that a position is not the one expected."""
    data = {"a": torch.zeros(1 << 20)}
    file = _Writer(io.FileIO("/dev/full", "w"), 1 << 16)
    with pytest.raises((OSError, RuntimeError)):
        torch.save(data, file)
    assert file.failed is not None
    assert file.failed.errno == errno.ENOSPC
    with suppress(OSError):
        file.close()


def test_a_resumed_log_holds_each_step_once(tmp_path):
    """A killed run logged steps that it had not saved, and the last line by half."""
    log = tmp_path / "log.jsonl"
    lines = [f'{{"step": {step}, "loss": 1.0}}' for step in (20, 40, 60)]
    for torn in ('{"step": 60, "lo', '{"step": 60, "loss": 1.0}', "\udc80", "[]"):
        text = "\n".join([*lines, torn])
        log.write_text(text, encoding="utf-8", errors="surrogateescape")
        _forget_later(log, 40)
        assert log.read_text() == "".join(f"{line}\n" for line in lines[:2])
    inode = log.stat().st_ino
    _forget_later(log, 40)
    assert log.stat().st_ino == inode
    _forget_later(tmp_path / "none", 0)
    assert [path.name for path in tmp_path.iterdir()] == ["log.jsonl"]


def test_episodes_use_every_part_of_the_model():
    """Each trained tensor gets a gradient from images and clips together."""
    torch.manual_seed(0)
    torch.set_num_threads(1)
    trainer = Trainer(recipe())
    rng = np.random.default_rng(0)
    plan = BatchPlan(2, 4, 2, ("standard",))
    batch = make_batch(rng, plan, synthetic_source)
    # one object is absent on one frame, so that the parts for absent objects are used
    batch.masks[0, 1] = 0
    for kind in ("mask", "click"):
        clip_episode(trainer.model, batch, rng, kind, 1, LossWeights(), False).mean_loss.backward()
    for kind in ("box", "clicks"):
        image_episode(trainer.model, batch, rng, kind, 2, LossWeights()).mean_loss.backward()
    unused = {
        name
        for name, value in trainer.model.named_parameters()
        if value.grad is None or not value.grad.any()
    }
    # present in every checkpoint, used by none of the original's configurations
    assert unused <= {"no_mem_pos_enc"}, unused


def test_burn_in_frames_fill_the_memory_and_cost_no_loss():
    torch.set_num_threads(1)
    model = Trainer(recipe()).model
    batch = make_batch(
        np.random.default_rng(0), BatchPlan(2, 5, 2, ("plain",), burn_in=2), synthetic_source
    )
    scored = replace(batch, burn_in=0)
    objects, every = (
        Objects(model, b, np.random.default_rng(0), LossWeights()) for b in (batch, scored)
    )
    with_gradient = [objects.features(t).image_embed.requires_grad for t in range(5)]
    assert with_gradient == [True, False, False, True, True]
    for t in range(5):
        for part, whole in zip(objects.features(t), every.features(t), strict=True):
            torch.testing.assert_close(part, whole)
    episode = clip_episode(model, batch, np.random.default_rng(1), "mask", 0, LossWeights())
    assert len(episode.ious["track"]) == 2
    # what is tracked on a burn-in frame is remembered: another image there, another result
    other = replace(batch, frames=batch.frames.copy())
    other.frames[:, 2] = -other.frames[:, 2]
    changed = clip_episode(model, other, np.random.default_rng(1), "mask", 0, LossWeights())
    assert changed.loss.item() != episode.loss.item()


def test_a_corrected_clip_is_propagated_again_from_its_start(monkeypatch):
    """Every frame but the two prompted ones, those without a loss too."""
    torch.set_num_threads(1)
    model = Trainer(recipe()).model
    batch = make_batch(
        np.random.default_rng(0), BatchPlan(1, 5, 2, ("plain",), burn_in=2), synthetic_source
    )
    tracked: list[tuple[str | None, int]] = []
    track = _Tracker.track

    def logged(self, name, t, corrected=False):
        tracked.append((f"{name}, corrected" if corrected else name, t))
        track(self, name, t, corrected)

    monkeypatch.setattr(_Tracker, "track", logged)
    once = [(None, 1), (None, 2), ("track", 3), ("track", 4)]
    seen = set()
    for seed in range(40):
        tracked.clear()
        clip_episode(model, batch, np.random.default_rng(seed), "mask", 0, LossWeights())
        seen.add(tuple(tracked))
    early = [(None, 1), (None, 2), ("track, corrected", 3), ("track", 4)]
    late = [*once[:3], ("track, corrected", 4)]
    again = [(None, 1), (None, 2)]
    assert seen == {
        tuple(once),
        tuple(early),
        tuple(late),
        (*early, *again, ("again", 4)),
        (*late, *again, ("again", 3)),
    }


def test_burn_in_frames_join_half_of_the_later_clips():
    clips = Recipe(
        MICRO, steps=9, clips_from=0, balanced_until=50, longer_from=50, clips=1.0, burn_in=4
    )
    counts = [clips.batch_plan(step) for step in range(250)]
    assert {p.burn_in for p in counts[:50]} == {0}
    assert {p.burn_in for p in counts[50:]} == {0, 2, 3, 4}
    assert 80 <= sum(p.burn_in == 0 for p in counts[50:]) <= 120
    assert all(p.frames == 5 + p.burn_in for p in counts[50:])


@pytest.mark.parametrize("own_presence", [True, False])
def test_the_score_or_the_truth_says_what_is_remembered_as_present(own_presence):
    """A score that always says absent, on objects that are always there."""
    model = Trainer(recipe()).model
    batch = make_batch(np.random.default_rng(0), BatchPlan(1, 2, 2, ("plain",)), synthetic_source)
    objects = Objects(model, batch, np.random.default_rng(0), LossWeights())
    assert objects.present[:, 0].all()
    tracker = _Tracker(objects, np.arange(2), own_presence)
    result = objects.prompt("click", 0, objects.features(0).prompt_embed, 0)
    score = torch.full_like(result.output.object_score, -1)
    tracker.remember(0, replace(result, output=result.output._replace(object_score=score)), True)
    absent = (tracker.kept[0][-1] == model.no_obj_ptr).all(1)
    assert absent.tolist() == [own_presence] * len(absent)


@pytest.mark.slow
def test_fine_tuning_on_two_clips_helps(tmp_path):
    for seed in (3, 4):
        save_davis(make_clip(seed, "plain", 8, 256), tmp_path, f"clip{seed}")
    trainer = Trainer(
        Recipe(
            MICRO,
            data=tmp_path,
            steps=200,
            warm_up=20,
            cool_down=60,
            clips_from=0,
            plain_only=1500,
            clips=0.3,
            images=3,
            objects=2,
        )
    )
    batches = batches_of(trainer.recipe, FolderSource(tmp_path))
    held = make_batch(np.random.default_rng(99), BatchPlan(4, 3, 2, ()), FolderSource(tmp_path))

    def quality() -> float:
        kept = {k: v.clone() for k, v in trainer.model.state_dict().items()}
        trainer.model.load_state_dict(trainer.averaged)
        with torch.no_grad():
            rng = np.random.default_rng(0)
            ious = clip_episode(trainer.model, held, rng, "box", 0, LossWeights()).ious
        trainer.model.load_state_dict(kept)
        return float(np.mean(ious["track"] + ious["box"]))

    before = quality()
    for _ in range(200):
        trainer.train_step(next(batches))
    after = quality()
    assert after > before + 0.2, (before, after)


def test_the_mean_of_weights(tmp_path):
    paths = [tmp_path / f"{i}.safetensors" for i in range(3)]
    for i, path in enumerate(paths):
        save_file({"w": np.full((2, 3), 3.0 * i, np.float16), "b": np.float32([i])}, path)
    average(paths[:2], tmp_path / "mean.safetensors")
    found = load_file(tmp_path / "mean.safetensors")
    assert found["w"].dtype == np.float16
    np.testing.assert_array_equal(found["w"], np.full((2, 3), 1.5))
    np.testing.assert_array_equal(found["b"], [0.5])
    save_file({"w": np.zeros((2, 2), np.float16), "b": np.float32([0])}, paths[2])
    with pytest.raises(CheckpointError, match=r"2\.safetensors has other tensors than .*0\.saf"):
        average(paths, tmp_path / "mean.safetensors")
