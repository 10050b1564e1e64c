// Predictors and trackers on a session that answers at once; any bundle:  predictors BUNDLE
#include <limits>
#include <type_traits>

#include "sam2rt/sam2rt.hpp"
#include "support/check.hpp"
#include "support/scene.hpp"
#include "support/sessions.hpp"

namespace {

void tensors_are_checked(const sam2rt::Bundle& bundle) {
  const auto& spec = bundle.graph(sam2rt::Graph::memory_encoder).spec;
  const auto side = bundle.model().embed_size(), low = bundle.model().mask_size();
  const auto c = bundle.model().hidden_dim, m = bundle.model().mem_dim;
  const auto call = [&](int objects, int images, sam2rt::DType binarize) {
    using sam2rt::DType;
    using sam2rt::Shape;
    sam2rt::check_tensors(spec,
                          {{nullptr, DType::float32, Shape::of(images, c, side, side)},
                           {nullptr, DType::float32, Shape::of(objects, 1, low, low)},
                           {nullptr, DType::float32, Shape::of(3, 1)},
                           {nullptr, binarize, Shape::of(1)}},
                          {{nullptr, DType::float32, Shape::of(3, m, side, side)}});
  };
  call(3, 1, sam2rt::DType::boolean);
  call(3, 3, sam2rt::DType::boolean);
  CHECK_EQ(MESSAGE_OF(sam2rt::InputError, call(2, 1, sam2rt::DType::boolean)),
           "memory_encoder.object_score: expected float32 ['N', 1] with {'I': 1, 'N': 2}, got "
           "float32 [3, 1]");
  CHECK_EQ(MESSAGE_OF(sam2rt::InputError, call(3, 2, sam2rt::DType::boolean)),
           "graph memory_encoder: I = 2 must be 1 or the number of objects 3");
  CHECK_EQ(MESSAGE_OF(sam2rt::InputError, call(3, 1, sam2rt::DType::int32)),
           "memory_encoder.binarize: expected bool [1] with {'I': 1, 'N': 3}, got int32 [1]");
}

void unknown_backends(const sam2rt::Bundle& bundle) {
  sam2rt::SessionOptions options;
  options.backend = "torch";
  CHECK_EQ(MESSAGE_OF(sam2rt::InputError, sam2rt::open_session(bundle, options)),
           "unknown backend 'torch': expected one of onnxruntime, tensorrt");
  options = {};
  options.device = "tpu";
  CHECK_EQ(MESSAGE_OF(sam2rt::InputError, sam2rt::open_session(bundle, options)),
           "unknown device 'tpu' of onnxruntime: expected one of cpu, cuda, tensorrt");
  options.device = "cpu";
  options.threads = 0;
  CHECK_EQ(MESSAGE_OF(sam2rt::InputError, sam2rt::open_session(bundle, options)),
           "threads is 0: expected at least 1, or None for all cores");
}

void objects_may_move_and_nothing_is_kept(const sam2rt::Bundle& bundle) {
  static_assert(std::is_nothrow_move_constructible_v<sam2rt::StreamTracker>);
  static_assert(std::is_nothrow_move_assignable_v<sam2rt::VideoPredictor>);
  static_assert(std::is_nothrow_move_constructible_v<sam2rt::ImagePredictor>);
  static_assert(std::is_nothrow_move_constructible_v<sam2rt::Propagation>);
  const auto session = std::make_shared<MixingSession>(bundle);
  Scene scene;
  sam2rt::StreamTracker one(session), other(session);
  Scene::prompt(one);
  Scene::prompt(other);
  for (int t = 0; t < 9; ++t) {
    const auto expected = digest(other.step(scene.frame(t)));
    sam2rt::StreamTracker moved(std::move(one));
    CHECK_EQ(digest(moved.step(scene.frame(t))), expected);
    one = std::move(moved);
  }
}

/// Implements what every session must, and no more.
class PlainSession final : public sam2rt::Session {
 public:
  explicit PlainSession(const sam2rt::Bundle& bundle) : bundle_(bundle) {}
  const sam2rt::Bundle& bundle() const noexcept override { return bundle_; }
  void run(sam2rt::Graph, sam2rt::Span<const sam2rt::InputTensor>,
           sam2rt::Span<const sam2rt::OutputTensor>) override {}

 private:
  sam2rt::Bundle bundle_;
};

void the_defaults_are_those_of_a_plain_session(const sam2rt::Bundle& bundle) {
  PlainSession session(bundle);
  CHECK_EQ(session.max_objects(), std::numeric_limits<int>::max());
  CHECK_EQ(session.max_images(), std::numeric_limits<int>::max());
  CHECK(!session.fused());
  CHECK(!session.per_object());
  const auto memory = session.allocate(3);
  CHECK(memory->kind() == sam2rt::MemoryKind::host);
  CHECK_EQ(memory->size(), std::size_t{3});
}

void objects_share_calls(const sam2rt::Bundle& bundle) {
  const auto groups = [&](int most, std::optional<int> wanted, bool per_object = false) {
    const auto session = std::make_shared<WatchedSession>(
        std::make_shared<MixingSession>(bundle, most, /*fused=*/false, per_object));
    sam2rt::StreamOptions options;
    options.objects_per_call = wanted;
    sam2rt::StreamTracker tracker(session, options);
    Scene scene;
    for (int i = 0; i < 6; ++i) tracker.add_points(i, {{{20.0F, 20.0F}}, {1}, {}});
    for (int t = 0; t < 2; ++t) tracker.step(scene.frame(t));
    return session->groups;
  };
  using Groups = std::vector<std::int64_t>;
  constexpr int any = std::numeric_limits<int>::max();
  CHECK((groups(any, std::nullopt) == Groups{4, 2}));
  CHECK((groups(any, 6) == Groups{6}));
  CHECK((groups(5, std::nullopt) == Groups{5, 1}));
  CHECK((groups(5, 16) == Groups{5, 1}));
  CHECK((groups(5, 3) == Groups{3, 3}));
  CHECK((groups(any, std::nullopt, /*per_object=*/true) == Groups{6}));
  CHECK((groups(any, 4, /*per_object=*/true) == Groups{4, 2}));
}

void masks_alone_are_those_of_the_logits(const sam2rt::Bundle& bundle) {
  const auto session = std::make_shared<MixingSession>(bundle);
  for (const bool apart : {false, true}) {
    sam2rt::StreamOptions with, without;
    with.non_overlap_masks = apart;
    without.frame_logits = false;
    sam2rt::StreamTracker full(session, with), lazy(session, without);
    Scene scene;
    Scene::prompt(full), Scene::prompt(lazy);
    for (int t = 0; t < 3; ++t) {
      const sam2rt::FrameResult& expected = full.step(scene.frame(t));
      CHECK(lazy.step(scene.frame(t)).logits.empty());
      std::vector<std::uint8_t> mask(expected.plane());
      for (std::size_t i = 0; i < 3; ++i) {
        full.mask(i, mask.data());
        for (std::size_t p = 0; p < mask.size(); ++p) {
          CHECK_EQ(mask[p], expected.object(i)[p] > 0 ? 1 : 0);
        }
        const auto own = mask;
        lazy.mask(i, mask.data());
        CHECK(apart || mask == own);
      }
      CHECK_EQ(MESSAGE_OF(sam2rt::InputError, lazy.mask(3, mask.data())),
               "no mask 3: the last result has 3");
    }
  }
  sam2rt::StreamOptions both;
  both.frame_logits = false;
  both.non_overlap_masks = true;
  CHECK_EQ(MESSAGE_OF(sam2rt::InputError, sam2rt::StreamTracker(session, both)),
           "non_overlap_masks compares the logits of all objects: leave frame_logits on");
}

void batches_of_images(const sam2rt::Bundle& bundle) {
  sam2rt::ImagePredictor predictor(std::make_shared<MixingSession>(bundle, 1));
  Scene scene;
  const auto frame = scene.frame(0);
  CHECK_EQ(MESSAGE_OF(sam2rt::InputError, predictor.set_image_batch({})),
           "no image was given: expected at least one");
  CHECK_EQ(MESSAGE_OF(sam2rt::FrameError, predictor.set_image_batch({frame, {}})),
           "image 1: a frame has no pixels (shape (0, 0, 3)): leave it out");
  CHECK(!predictor.is_image_set());
  CHECK_EQ(MESSAGE_OF(sam2rt::StateError, predictor.predict_batch({})),
           "no batch of images is set: call set_image_batch first");
  sam2rt::ImagePrompt click;
  click.points = {{30.0F, 30.0F}};
  click.labels = {1};
  predictor.set_image(frame);
  const auto alone = predictor.predict(click);
  predictor.set_image_batch({frame, frame});
  CHECK_EQ(MESSAGE_OF(sam2rt::StateError, predictor.predict(click)),
           "a batch of images is set: call predict_batch, or set_image first");
  CHECK_EQ(MESSAGE_OF(sam2rt::InputError, predictor.predict_batch({{click}})),
           "prompts has 1 items for 2 images: give one an image");
  // one image a call of the encoder, one prompt a call of the decoder
  const auto results = predictor.predict_batch({{click}, {click, click}});
  CHECK_EQ(results.size(), std::size_t{2});
  CHECK(results[0].low_res == alone.low_res && results[0].masks == alone.masks);
  CHECK_EQ(results[1].prompts, 2);
  const auto half = static_cast<std::ptrdiff_t>(alone.masks.size());
  CHECK(std::equal(alone.masks.begin(), alone.masks.end(), results[1].masks.begin() + half));
  predictor.reset();
  CHECK(!predictor.is_image_set());
}

void a_stream_goes_on_after_bad_input(const sam2rt::Bundle& bundle) {
  const auto session = std::make_shared<MixingSession>(bundle);
  Scene scene, small;
  small.width = 100;
  sam2rt::StreamTracker clean(session), tracker(session);
  Scene::prompt(clean, 1);
  Scene::prompt(tracker, 1);
  CHECK_EQ(digest(tracker.step(scene.frame(0))), digest(clean.step(scene.frame(0))));
  CHECK_EQ(MESSAGE_OF(sam2rt::FrameError, tracker.step(small.frame(1))),
           "the frame is 100 x 240, earlier ones were 320 x 240: resize it, or call reset() first");
  CHECK_EQ(MESSAGE_OF(sam2rt::InputError, tracker.add_points(2, {{{500, 5}}, {1}, {}})),
           "the point [500.0, 5.0] lies outside the image of width 320 and height 240: check the "
           "order x, y and the image's size");
  CHECK_EQ(MESSAGE_OF(sam2rt::InputError, tracker.remove_object(9, true)),
           "no object 9: the objects are [1]");
  CHECK(tracker.obj_ids() == std::vector<std::int64_t>{1});
  CHECK_EQ(digest(tracker.step(scene.frame(1))), digest(clean.step(scene.frame(1))));
  // a prompt that fits no frame is dropped when the frame comes, and its object with it
  tracker.reset();
  tracker.add_points(5, {{{5000, 5}}, {1}, {}});
  CHECK(MESSAGE_OF(sam2rt::InputError, tracker.step(scene.frame(0))).find("outside") !=
        std::string::npos);
  CHECK(tracker.obj_ids().empty());
  CHECK_EQ(tracker.step(scene.frame(0)).obj_ids.size(), 0U);
}

/// Passes calls on; the run of `graph` that comes as number `at` fails.
class FailingSession final : public sam2rt::Session {
 public:
  FailingSession(std::shared_ptr<sam2rt::Session> inner, sam2rt::Graph graph, int at)
      : inner_(std::move(inner)), graph_(graph), at_(at) {}

  const sam2rt::Bundle& bundle() const noexcept override { return inner_->bundle(); }
  bool fused() const noexcept override { return inner_->fused(); }

  void run(sam2rt::Graph graph, sam2rt::Span<const sam2rt::InputTensor> inputs,
           sam2rt::Span<const sam2rt::OutputTensor> outputs) override {
    if (graph == graph_ && --at_ == 0) throw sam2rt::SessionError("out of memory");
    inner_->run(graph, inputs, outputs);
  }

 private:
  std::shared_ptr<sam2rt::Session> inner_;
  sam2rt::Graph graph_;
  int at_;
};

void a_frame_that_failed_may_be_pushed_again(const sam2rt::Bundle& bundle) {
  using sam2rt::Graph;
  const auto session = std::make_shared<MixingSession>(bundle);
  Scene scene;
  // the prompt of object 2 comes with the frame that fails, object 1 is tracked on it
  const std::pair<Graph, int> failures[]{
      {Graph::image_encoder, 2}, {Graph::mask_decoder, 2}, {Graph::memory_attention, 1}};
  for (const auto& [graph, at] : failures) {
    sam2rt::StreamTracker clean(session);
    sam2rt::StreamTracker tracker(std::make_shared<FailingSession>(session, graph, at));
    Scene::prompt(clean, 1);
    Scene::prompt(tracker, 1);
    CHECK_EQ(digest(tracker.step(scene.frame(0))), digest(clean.step(scene.frame(0))));
    clean.add_box(2, {15.0F, 75.0F, 85.0F, 145.0F});
    tracker.add_box(2, {15.0F, 75.0F, 85.0F, 145.0F});
    CHECK_EQ(MESSAGE_OF(sam2rt::SessionError, tracker.step(scene.frame(1))), "out of memory");
    for (int t = 1; t < 4; ++t) {
      CHECK_EQ(digest(tracker.step(scene.frame(t))), digest(clean.step(scene.frame(t))));
    }
  }
}

class SceneSource final : public sam2rt::FrameSource {
 public:
  int num_frames() const override { return 6; }
  int width() const override { return scene_.width; }
  int height() const override { return scene_.height; }
  sam2rt::FrameView read(int t) override {
    ++reads;
    return scene_.frame(t);
  }
  int reads = 0;

 private:
  Scene scene_;
};

void prompts_on_one_frame_share_its_features(const sam2rt::Bundle& bundle) {
  const auto source = std::make_shared<SceneSource>();
  sam2rt::VideoPredictor predictor(std::make_shared<MixingSession>(bundle), source);
  for (const int frame_idx : {0, 3}) {
    for (const std::int64_t obj_id : {1, 2, 3}) {
      predictor.add_points(frame_idx, obj_id, {{{50.0F, 110.0F}}, {1}, {}});
    }
  }
  CHECK_EQ(source->reads, 2);
  predictor.propagate();
  CHECK_EQ(source->reads, 4);
}

std::vector<std::string> propagated(sam2rt::VideoPredictor& predictor) {
  std::vector<std::string> digests;
  auto frames = predictor.propagate();
  while (const sam2rt::FrameResult* result = frames.next()) digests.push_back(digest(*result));
  return digests;
}

void a_prompt_that_failed_leaves_no_trace(const sam2rt::Bundle& bundle) {
  using sam2rt::Graph;
  const auto session = std::make_shared<MixingSession>(bundle);
  const sam2rt::PointPrompt click{{{50.0F, 110.0F}}, {1}, {}}, other{{{90.0F, 100.0F}}, {1}, {}};
  for (const Graph graph : {Graph::image_encoder, Graph::mask_decoder}) {
    for (const std::int64_t obj_id : {std::int64_t{1}, std::int64_t{2}}) {
      sam2rt::VideoPredictor clean(session, std::make_shared<SceneSource>());
      sam2rt::VideoPredictor predictor(std::make_shared<FailingSession>(session, graph, 2),
                                       std::make_shared<SceneSource>());
      clean.add_points(0, 1, click);
      predictor.add_points(0, 1, click);
      CHECK_EQ(MESSAGE_OF(sam2rt::SessionError, predictor.add_points(3, obj_id, other)),
               "out of memory");
      CHECK_EQ(predictor.obj_ids().size(), 1U);
      CHECK(propagated(predictor) == propagated(clean));
      CHECK_EQ(digest(predictor.add_points(3, obj_id, other)),
               digest(clean.add_points(3, obj_id, other)));
      CHECK(propagated(predictor) == propagated(clean));
    }
  }
}

void a_stream_may_outlive_its_length(const sam2rt::Bundle& bundle) {
  const auto watched = std::make_shared<WatchedSession>(std::make_shared<MixingSession>(bundle));
  Scene scene;
  sam2rt::StreamOptions options;
  options.num_frames = 0;
  CHECK_EQ(MESSAGE_OF(sam2rt::InputError, sam2rt::StreamTracker(watched, options)),
           "num_frames is 0: expected at least 1, or None for a live stream");
  options.num_frames = 2;
  sam2rt::StreamTracker tracker(watched, options);
  Scene::prompt(tracker, 1);
  for (int t = 0; t < 5; ++t) tracker.step(scene.frame(t));
  std::vector<std::int64_t> pointers;
  for (const SeenCall& call : watched->calls) {
    if (call.pointers >= 0) pointers.push_back(call.pointers);
  }
  CHECK((pointers == std::vector<std::int64_t>{1, 2, 3, 4}));
}

/// A video whose third frame is of another size.
class ShrinkingSource final : public sam2rt::FrameSource {
 public:
  int num_frames() const override { return 4; }
  int width() const override { return scene_.width; }
  int height() const override { return scene_.height; }
  sam2rt::FrameView read(int t) override { return t == 2 ? small_.frame(t) : scene_.frame(t); }

 private:
  Scene scene_, small_{100, 240, {}};
};

void a_video_has_one_size(const sam2rt::Bundle& bundle) {
  sam2rt::VideoPredictor predictor(std::make_shared<MixingSession>(bundle),
                                   std::make_shared<ShrinkingSource>());
  predictor.add_points(0, 1, {{{50.0F, 110.0F}}, {1}, {}});
  auto frames = predictor.propagate();
  CHECK(frames.next() != nullptr);
  CHECK(frames.next() != nullptr);
  CHECK_EQ(MESSAGE_OF(sam2rt::FrameError, frames.next()),
           "frame 2 is 100 x 240, the first is 320 x 240: all frames of a video have one size");
}

void options_of_images_are_checked(const sam2rt::Bundle& bundle) {
  const auto session = std::make_shared<MixingSession>(bundle);
  const auto refused = [&](const sam2rt::ImageOptions& options) {
    return MESSAGE_OF(sam2rt::InputError, sam2rt::ImagePredictor(session, options));
  };
  const float nan = std::numeric_limits<float>::quiet_NaN();
  CHECK_EQ(refused({nan}), "mask_threshold is nan: expected a number that is finite");
  CHECK_EQ(refused({0, -1.5}), "max_hole_area is -1.5: expected a number of at least 0");
  CHECK_EQ(refused({0, 0, nan}), "max_sprinkle_area is nan: expected a number of at least 0");
}

void areas_larger_than_an_int(const sam2rt::Bundle& bundle) {
  const auto session = std::make_shared<MixingSession>(bundle);
  Scene scene;
  std::vector<std::vector<float>> results;
  for (const double area : {1e6, 1e12}) {
    sam2rt::ImageOptions options;
    options.max_sprinkle_area = options.max_hole_area = area;
    sam2rt::ImagePredictor predictor(session, options);
    predictor.set_image(scene.frame(0));
    sam2rt::ImagePrompt click;
    click.points = {{50.0F, 110.0F}};
    click.labels = {1};
    const auto found = predictor.predict(click);
    results.emplace_back(found.masks.begin(), found.masks.end());
  }
  CHECK(results[0] == results[1]);
}

}  // namespace

int main(int argc, char** argv) {
  if (argc < 2) return 2;
  const auto bundle = sam2rt::Bundle::load(argv[1]);
  const check::Tests tests{
      {"tensors are checked", [&] { tensors_are_checked(bundle); }},
      {"unknown backends", [&] { unknown_backends(bundle); }},
      {"objects may move", [&] { objects_may_move_and_nothing_is_kept(bundle); }},
      {"a plain session", [&] { the_defaults_are_those_of_a_plain_session(bundle); }},
      {"objects share calls", [&] { objects_share_calls(bundle); }},
      {"masks alone", [&] { masks_alone_are_those_of_the_logits(bundle); }},
      {"batches of images", [&] { batches_of_images(bundle); }},
      {"a stream goes on after bad input", [&] { a_stream_goes_on_after_bad_input(bundle); }},
      {"a failed frame again", [&] { a_frame_that_failed_may_be_pushed_again(bundle); }},
      {"a video has one size", [&] { a_video_has_one_size(bundle); }},
      {"shared features", [&] { prompts_on_one_frame_share_its_features(bundle); }},
      {"a failed prompt leaves no trace", [&] { a_prompt_that_failed_leaves_no_trace(bundle); }},
      {"a stream may outlive its length", [&] { a_stream_may_outlive_its_length(bundle); }},
      {"options of images", [&] { options_of_images_are_checked(bundle); }},
      {"areas larger than an int", [&] { areas_larger_than_an_int(bundle); }},
  };
  return check::run(tests) == 0 ? 0 : 1;
}
