// The native TensorRT session on doubles of TensorRT and of the CUDA driver:
//   tensorrt run BUNDLE               what it computes, copies, takes and gives back
//   tensorrt open BUNDLE [ENGINES...] prints why they cannot be opened, one after the other; each
//                                     stays open until the next is
#include <cstdlib>
#include <thread>

#include "support/check.hpp"
#include "support/native.hpp"
#include "support/scene.hpp"
#include "support/sessions.hpp"

namespace {

using sam2rt::Bundle;
using sam2rt::Graph;
using sam2rt::Session;

/// Objects and images the tests' engines take.
constexpr int most = 2;

/// Digests of 26 frames; a second and a third object come while the ring fills.
std::vector<std::string> track(const std::shared_ptr<Session>& session,
                               const char* dtype = "float32") {
  sam2rt::StreamOptions options;
  options.memory_dtype = dtype;
  sam2rt::StreamTracker tracker(session, options);
  Scene scene;
  Scene::prompt(tracker, 1);
  std::vector<std::string> digests;
  for (int t = 0; t < 26; ++t) {
    if (t == 3 || t == 5) tracker.add_box(t, {15.0F, 75.0F, 85.0F, 145.0F});
    digests.push_back(digest(tracker.step(scene.frame(t))));
  }
  return digests;
}

void tracking_gives_the_bits_of_host_memory(const Bundle& bundle) {
  const auto expected = track(std::make_shared<MixingSession>(bundle, most));
  const long launches = count("cuGraphLaunch");
  const auto session = open_native(bundle);
  CHECK(track(session) == expected);
  // the frame's encoder from its second run on, and fixed shapes of objects
  CHECK(count("cuGraphLaunch") > launches + 24);
  for (const char* dtype : {"float16", "bfloat16"}) {
    CHECK(track(session, dtype) == track(std::make_shared<MixingSession>(bundle, most), dtype));
  }
}

void video_in_both_directions(const Bundle& bundle) {
  struct Frames final : sam2rt::FrameSource {
    Scene scene;
    int num_frames() const override { return 12; }
    int width() const override { return scene.width; }
    int height() const override { return scene.height; }
    sam2rt::FrameView read(int t) override { return scene.frame(t); }
  };
  const auto play = [](const std::shared_ptr<Session>& session) {
    sam2rt::VideoPredictor video(session, std::make_shared<Frames>());
    video.add_points(0, 1, {{{50.0F, 110.0F}}, {1}, {}});
    video.add_points(11, 2, {{{90.0F, 110.0F}}, {1}, {}});
    std::vector<std::string> digests;
    for (const bool reverse : {false, true}) {
      sam2rt::PropagateOptions run;
      run.reverse = reverse;
      if (reverse) run.start_frame_idx = 11;
      auto going = video.propagate(run);
      while (const auto* result = going.next()) digests.push_back(digest(*result));
    }
    return digests;
  };
  CHECK(play(open_native(bundle)) == play(std::make_shared<MixingSession>(bundle, most)));
}

void images_and_batches(const Bundle& bundle) {
  const auto play = [](const std::shared_ptr<Session>& session) {
    std::vector<Scene> scenes(5);
    std::vector<sam2rt::FrameView> views;
    for (std::size_t i = 0; i < scenes.size(); ++i) {
      scenes[i].width = 100 + static_cast<int>(i) * 20;
      views.push_back(scenes[i].frame(static_cast<int>(i)));
    }
    sam2rt::ImagePrompt click;
    click.points = {{30.0F, 30.0F}};
    click.labels = {1};
    sam2rt::ImagePredictor predictor(session);
    predictor.set_image_batch(views);
    std::vector<std::vector<float>> found;
    for (const auto& result : predictor.predict_batch({5, std::vector(3, click)})) {
      found.push_back(result.low_res);
    }
    predictor.set_image(views[2]);
    found.push_back(predictor.predict(click).low_res);
    return found;
  };
  CHECK(play(open_native(bundle)) == play(std::make_shared<MixingSession>(bundle, most)));
}

void only_what_the_host_needs_comes_back(const Bundle& bundle) {
  const auto& model = bundle.model();
  const auto session = open_native(bundle);
  sam2rt::StreamTracker tracker(session);
  Scene scene;
  Scene::prompt(tracker, 1);
  for (int t = 0; t < 24; ++t) tracker.step(scene.frame(t));
  const long down = count("bytes to host"), up = count("bytes to GPU");
  const long taken = count("cuMemAlloc_v2") + count("cuMemHostAlloc");
  for (int t = 24; t < 30; ++t) tracker.step(scene.frame(t));
  const long low = model.mask_size() * model.mask_size();
  const long c = model.hidden_dim, k = model.max_obj_ptrs, m = model.num_maskmem;
  CHECK_EQ(count("bytes to host") - down, 6 * 4 * (low + c + 2));
  // the frame, the rows of memories, pointers and their distances
  const long image = 3L * model.image_size * model.image_size;
  CHECK_EQ(count("bytes to GPU") - up, 6 * (4 * (image + k * c + k) + 8 * m));
  CHECK_EQ(count("cuMemAlloc_v2") + count("cuMemHostAlloc"), taken);
}

void memory_is_taken_at_the_start(const Bundle& bundle) {
  const auto session = open_native(bundle);
  const long taken = count("cuMemAlloc_v2"), streams = count("cuStreamCreate");
  sam2rt::ImagePredictor predictor(session);
  Scene scene;
  predictor.set_image(scene.frame(0));
  sam2rt::ImagePrompt click;
  click.points = {{30.0F, 30.0F}};
  click.labels = {1};
  for (int i = 0; i < 3; ++i) predictor.predict(click);
  CHECK_EQ(count("cuMemAlloc_v2"), taken);
  CHECK_EQ(count("cuStreamCreate"), streams);
}

void four_trackers_on_four_threads(const Bundle& bundle) {
  const auto expected = track(std::make_shared<MixingSession>(bundle, most));
  const auto session = open_native(bundle);
  std::array<std::vector<std::string>, 4> found;
  std::vector<std::thread> threads;
  for (auto& digests : found) {
    threads.emplace_back([&session, &digests] { digests = track(session); });
  }
  for (std::thread& thread : threads) thread.join();
  for (const auto& digests : found) CHECK(digests == expected);
}

/// One call of the memory encoder; N objects.
std::vector<float> encode_memory(Session& session, int n, float value) {
  const auto& model = session.bundle().model();
  const int h = model.embed_size(), low = model.mask_size();
  const auto filled = [value](const sam2rt::Shape& shape) {
    return std::vector<float>(static_cast<std::size_t>(shape.elements()), value);
  };
  const auto embed = sam2rt::Shape::of(1, model.hidden_dim, h, h);
  const auto masks = sam2rt::Shape::of(n, 1, low, low), scores = sam2rt::Shape::of(n, 1);
  const auto memory = sam2rt::Shape::of(n, model.mem_dim, h, h);
  const auto a = filled(embed), b = filled(masks), c = filled(scores);
  std::vector<float> out = filled(memory);
  const bool binarize = false;
  using sam2rt::DType;
  session.run(Graph::memory_encoder,
              {{a.data(), DType::float32, embed},
               {b.data(), DType::float32, masks},
               {c.data(), DType::float32, scores},
               {&binarize, DType::boolean, sam2rt::Shape::of(1)}},
              {{out.data(), DType::float32, memory}});
  return out;
}

void a_refused_enqueue_is_an_error_also_while_recording(const Bundle& bundle) {
  auto* const refuse = doubled<Refuse>("libnvinfer.so.10", "double_refuse");
  const auto session = open_native(bundle);
  MixingSession host(bundle);
  encode_memory(*session, 1, 0.5F);
  refuse(true);
  // the second run is the one that is recorded
  const auto message = MESSAGE_OF(sam2rt::SessionError, encode_memory(*session, 1, 0.25F));
  refuse(false);
  CHECK_EQ(message, "the engine of memory_encoder failed (the work could not be enqueued): build "
                    "it again with 'sam2rt build'");
  for (const float value : {0.25F, 0.75F, 0.125F}) {
    CHECK(encode_memory(*session, 1, value) == encode_memory(host, 1, value));
  }
}

/// Runs one, two and ten times: the values of host memory, and how many graphs were launched.
long run_ten_times(const Bundle& bundle) {
  const auto session = open_native(bundle);
  MixingSession host(bundle);
  const long launches = count("cuGraphLaunch");
  for (int i = 0; i < 10; ++i) {
    const float value = 0.25F * static_cast<float>(i);
    CHECK(encode_memory(*session, 1, value) == encode_memory(host, 1, value));
  }
  return count("cuGraphLaunch") - launches;
}

void engines_that_cannot_be_recorded_run_as_usual(const Bundle& bundle) {
  CHECK_EQ(run_ten_times(bundle), 9L);
  const auto expected = track(std::make_shared<MixingSession>(bundle, most));
  auto* const refuse = doubled<Refuse>("libnvinfer.so.10", "double_refuse_capture");
  refuse(true);
  CHECK_EQ(run_ten_times(bundle), 0L);
  const bool tracked = track(open_native(bundle)) == expected;
  refuse(false);
  CHECK(tracked);
  // the driver says it: when a capture begins, when it ends, when it becomes a graph
  for (const char* fail : {"cuStreamBeginCapture_v2:900", "cuStreamEndCapture:901",
                           "cuGraphInstantiateWithFlags:1"}) {
    setenv("SAM2RT_DOUBLE_FAIL", fail, 1);
    CHECK_EQ(run_ten_times(bundle), 0L);
    const long captures = count("cuStreamBeginCapture_v2");
    const auto session = open_native(bundle);
    for (int i = 0; i < 10; ++i) encode_memory(*session, 1, 1.0F);
    // tried once
    CHECK_EQ(count("cuStreamBeginCapture_v2") - captures, 1L);
    unsetenv("SAM2RT_DOUBLE_FAIL");
  }
}

void too_many_objects_name_the_option(const Bundle& bundle) {
  const auto session = open_native(bundle);
  CHECK_EQ(session->max_objects(), most);
  CHECK_EQ(MESSAGE_OF(sam2rt::InputError, encode_memory(*session, 3, 1.0F)),
           "the engine of memory_encoder was built for smaller inputs than mask_logits "
           "[3, 1, 64, 64] (at most [2, 1, 64, 64]), object_score [3, 1] (at most [2, 1]): build "
           "it with larger --max-objects or --max-memories");
  MixingSession host(bundle);
  CHECK(encode_memory(*session, 2, 1.0F) == encode_memory(host, 2, 1.0F));
}

void unknown_devices_are_refused(const Bundle& bundle) {
  sam2rt::SessionOptions options;
  options.backend = "tensorrt";
  for (const char* device : {"gpu", "cuda:x", "cuda:", "cuda1", "tensorrt"}) {
    options.device = device;
    CHECK_EQ(MESSAGE_OF(sam2rt::InputError, sam2rt::open_session(bundle, options)),
             "unknown device '" + options.device +
                 "' of tensorrt: expected 'cuda', or 'cuda:1' for the second");
  }
  options.device = "cuda:3";
  CHECK_EQ(MESSAGE_OF(sam2rt::SessionError, sam2rt::open_session(bundle, options)),
           "expected GPU 3, found 1 GPUs: install the NVIDIA driver (nvidia-smi must list a GPU), "
           "or use device='cpu'");
}

int run_all(const char* path) {
  const auto bundle = Bundle::load(path);
  const auto with_bundle = [&bundle](void (*test)(const Bundle&)) {
    return [&bundle, test] { test(bundle); };
  };
  return check::run({
      {"tracking", with_bundle(tracking_gives_the_bits_of_host_memory)},
      {"video in both directions", with_bundle(video_in_both_directions)},
      {"images and batches", with_bundle(images_and_batches)},
      {"only what the host needs comes back", with_bundle(only_what_the_host_needs_comes_back)},
      {"memory is taken at the start", with_bundle(memory_is_taken_at_the_start)},
      {"four trackers on four threads", with_bundle(four_trackers_on_four_threads)},
      {"a refused enqueue is an error",
       with_bundle(a_refused_enqueue_is_an_error_also_while_recording)},
      {"engines that cannot be recorded run as usual",
       with_bundle(engines_that_cannot_be_recorded_run_as_usual)},
      {"too many objects name the option", with_bundle(too_many_objects_name_the_option)},
      {"unknown devices are refused", with_bundle(unknown_devices_are_refused)},
      {"everything is given back", [] { CHECK_EQ(count("live"), 0L); }},
  });
}

template <class Error>
int print(const char* type, const Error& error) {
  std::cout << type << ": " << error.what() << "\n";
  return 0;
}

int open_and_print(const char* path, const char* engines, std::shared_ptr<Session>& kept) {
  try {
    sam2rt::SessionOptions options;
    options.backend = "tensorrt";
    options.engines = engines;
    kept = sam2rt::open_session(Bundle::load(path), options);
  } catch (const sam2rt::BundleError& error) {
    return print("BundleError", error);
  } catch (const sam2rt::SessionError& error) {
    return print("SessionError", error);
  } catch (const sam2rt::InputError& error) {
    return print("InputError", error);
  }
  std::cout << "opened\n";
  return 0;
}

}  // namespace

int main(int argc, char** argv) {
  if (argc < 3) return 2;
  const std::string mode = argv[1];
  if (mode == "open") {
    std::shared_ptr<Session> kept;
    int status = open_and_print(argv[2], argc > 3 ? argv[3] : "", kept);
    for (int i = 4; i < argc; ++i) status |= open_and_print(argv[2], argv[i], kept);
    return status;
  }
  return run_all(argv[2]) == 0 ? 0 : 1;
}
