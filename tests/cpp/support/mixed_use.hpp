#ifndef SAM2RT_TESTS_MIXED_USE_HPP
#define SAM2RT_TESTS_MIXED_USE_HPP

#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "c_handles.hpp"
#include "check.hpp"
#include "scene.hpp"
#include "sessions.hpp"

/// What a program does with the library, one role a thread; each gives digests of its results.
namespace mixed_use {

using Results = std::vector<std::string>;
using Role = std::function<Results()>;

inline std::string digest_of(const void* values, std::size_t bytes) {
  return sam2rt::sha256({static_cast<const char*>(values), bytes});
}

template <class T>
std::string digest_of(const std::vector<T>& values) {
  return digest_of(values.data(), values.size() * sizeof(T));
}

struct Frames final : sam2rt::FrameSource {
  Scene scene;
  int num_frames() const override { return 8; }
  int width() const override { return scene.width; }
  int height() const override { return scene.height; }
  sam2rt::FrameView read(int t) override { return scene.frame(t); }
};

/// A bundle and a session that all roles use at once.
class Shared {
 public:
  Shared(std::string folder, bool mixing)
      : folder_(std::move(folder)), mixing_(mixing), bundle_(sam2rt::Bundle::load(folder_)),
        session_(open(bundle_)) {}

  Results image(int n) const;
  Results batch() const;
  Results video(int n) const;
  /// Objects come and go.
  Results stream(int n, int frames) const;
  /// Bundles and sessions are opened and closed.
  Results bundles(int n) const;
  Results errors() const;
  Results c_interface(int n) const;

  std::vector<Role> sixteen() const;

 private:
  std::shared_ptr<sam2rt::Session> open(const sam2rt::Bundle& bundle) const {
    if (mixing_) return std::make_shared<MixingSession>(bundle);
    sam2rt::SessionOptions options;
    options.threads = 1;
    return sam2rt::open_session(bundle, options);
  }

  std::string folder_;
  bool mixing_;
  sam2rt::Bundle bundle_;
  std::shared_ptr<sam2rt::Session> session_;
};

inline Results Shared::image(int n) const {
  Results found;
  sam2rt::ImagePredictor predictor(session_);
  for (int i = 0; i < 3; ++i) {
    Scene scene;
    scene.width = 160 + 20 * n;
    predictor.set_image(scene.frame(i));
    sam2rt::ImagePrompt prompt;
    prompt.points = {{40.0F + static_cast<float>(n), 100.0F}};
    prompt.labels = {1};
    auto result = predictor.predict(prompt);
    found.push_back(digest_of(result.masks) + digest_of(result.ious));
    const auto low = static_cast<std::ptrdiff_t>(result.low_side) * result.low_side;
    prompt.mask_input.assign(result.low_res.begin(), result.low_res.begin() + low);
    sam2rt::PredictOptions one;
    one.multimask_output = false;
    result = predictor.predict(prompt, one);
    found.push_back(digest_of(result.low_res));
    // run lengths belong to images as much as to videos
    const auto plane = static_cast<std::size_t>(result.width) * static_cast<std::size_t>(result.height);
    const auto rle = sam2rt::encode_rle({result.masks.data(), result.width, result.height});
    CHECK_EQ(sam2rt::decode_rle(rle).size(), plane);
    found.push_back(rle.counts);
  }
  return found;
}

inline Results Shared::batch() const {
  std::vector<Scene> scenes(3);
  std::vector<sam2rt::FrameView> views;
  for (std::size_t i = 0; i < scenes.size(); ++i) {
    scenes[i].width = 140 + 30 * static_cast<int>(i);
    views.push_back(scenes[i].frame(static_cast<int>(i)));
  }
  sam2rt::ImagePrompt click;
  click.points = {{30.0F, 30.0F}};
  click.labels = {1};
  sam2rt::ImagePredictor predictor(session_);
  predictor.set_image_batch(views);
  Results found;
  for (const auto& result : predictor.predict_batch({3, std::vector(2, click)})) {
    found.push_back(digest_of(result.low_res));
  }
  return found;
}

inline Results Shared::video(int n) const {
  sam2rt::VideoPredictor video(session_, std::make_shared<Frames>());
  video.add_points(0, 1, {{{50.0F + static_cast<float>(n), 110.0F}}, {1}, {}});
  if (n % 2 == 1) video.add_points(5, 2, {{{90.0F, 110.0F}}, {1}, {}});
  Results found;
  for (const bool reverse : {false, true}) {
    sam2rt::PropagateOptions run;
    run.reverse = reverse;
    if (reverse) run.start_frame_idx = 7;
    auto going = video.propagate(run);
    while (const auto* result = going.next()) found.push_back(digest(*result));
  }
  return found;
}

inline Results Shared::stream(int n, int frames) const {
  Scene scene;
  sam2rt::StreamTracker tracker(session_);
  Scene::prompt(tracker, 1 + n % 3);
  Results found;
  for (int t = 0; t < frames; ++t) {
    if (t == 4) tracker.add_box(70 + n, {15.0F, 75.0F, 85.0F, 145.0F});
    if (t == 7) tracker.remove_object(1);
    if (t == 9 && n % 2 == 0) {
      tracker.reset();
      Scene::prompt(tracker, 2);
    }
    found.push_back(digest(tracker.step(scene.frame(t))));
  }
  return found;
}

inline Results Shared::bundles(int n) const {
  Results found;
  for (int i = 0; i < 3; ++i) {
    const auto bundle = sam2rt::Bundle::load(folder_, /*check_hashes=*/i % 2 == 0);
    found.push_back(bundle.model().name + bundle.checkpoint_sha256());
    // the session outlives the bundle it was made of, and this loop another session
    sam2rt::StreamTracker tracker(open(bundle));
    Scene scene;
    Scene::prompt(tracker, 1 + n % 2);
    for (int t = 0; t < 2; ++t) found.push_back(digest(tracker.step(scene.frame(t))));
  }
  return found;
}

inline Results Shared::errors() const {
  Results found;
  const auto note = [&found](const auto& call) {
    try {
      call();
    } catch (const sam2rt::Error& error) {
      found.push_back(error.what());
      return;
    }
    check::fail(__FILE__, __LINE__, "nothing was thrown");
  };
  Scene scene;
  for (int i = 0; i < 10; ++i) {
    sam2rt::StreamTracker tracker(session_);
    sam2rt::ImagePredictor image(session_);
    note([&] { tracker.add_points(1, {{{1.0F, 2.0F}}, {}, {}}); });
    note([&] { tracker.step({nullptr, 4, 4}); });
    note([&] { tracker.remove_object(5, /*strict=*/true); });
    note([&] { image.predict(sam2rt::ImagePrompt{}); });
    note([&] { sam2rt::Bundle::load(folder_ + "/nowhere"); });
    note([&] { sam2rt::decode_rle({4, 4, "~~~~"}); });
    note([&] { sam2rt::open_session(bundle_, {"onnxruntime", "tpu", {}, {}}); });
    note([&] { session_->run(sam2rt::Graph::mask_prompt, {}, {}); });
    // and goes on as if nothing had been
    Scene::prompt(tracker, 1);
    found.push_back(digest(tracker.step(scene.frame(i))));
  }
  return found;
}

inline Results Shared::c_interface(int n) const {
  Results found;
  // as sam2rt_session_open would give it
  sam2rt_session session{session_};
  sam2rt_error error{};
  sam2rt_stream* stream = nullptr;
  CHECK_EQ(sam2rt_stream_new(&session, nullptr, &stream, &error), SAM2RT_OK);
  const float box[4] = {15.0F + static_cast<float>(n), 75.0F, 85.0F, 145.0F};
  const sam2rt_prompt prompt{nullptr, nullptr, 0, box, 0};
  CHECK_EQ(sam2rt_stream_add_points(stream, n, &prompt, &error), SAM2RT_OK);
  Scene scene;
  std::vector<std::uint8_t> masks(static_cast<std::size_t>(scene.width) *
                                  static_cast<std::size_t>(scene.height));
  for (int t = 0; t < 8; ++t) {
    const auto view = scene.frame(t);
    const sam2rt_frame frame{view.data, view.width, view.height, 0, SAM2RT_RGB, 0, nullptr};
    sam2rt_result result{};
    result.capacity = 1;
    result.masks = masks.data();
    CHECK_EQ(sam2rt_stream_step(stream, &frame, &result, &error), SAM2RT_OK);
    found.push_back(digest_of(masks));
    CHECK_EQ(sam2rt_stream_step(stream, nullptr, &result, &error), SAM2RT_INPUT_ERROR);
    found.push_back(error.message);
  }
  sam2rt_stream_free(stream);
  return found;
}

inline std::vector<Role> Shared::sixteen() const {
  std::vector<Role> roles;
  for (int n = 0; n < 3; ++n) {
    roles.push_back([this, n] { return image(n); });
    roles.push_back([this, n] { return video(n); });
    roles.push_back([this, n] { return stream(n, 14); });
  }
  for (int n = 0; n < 2; ++n) {
    roles.push_back([this, n] { return bundles(n); });
    roles.push_back([this] { return errors(); });
    roles.push_back([this, n] { return c_interface(n); });
  }
  roles.push_back([this] { return batch(); });
  CHECK_EQ(roles.size(), std::size_t{16});
  return roles;
}

}  // namespace mixed_use

#endif
