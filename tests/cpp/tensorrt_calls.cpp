// What the host asks of the GPU in one frame of live tracking, in the steady state: counted on the
// doubles of TensorRT and of the CUDA driver. Values are compared with those of host memory.
//   tensorrt_calls BUNDLE [TEST]
#include <array>
#include <map>
#include <mutex>
#include <thread>

#include "support/check.hpp"
#include "support/native.hpp"
#include "support/scene.hpp"
#include "support/sessions.hpp"

namespace {

using sam2rt::Bundle;
using sam2rt::Session;

/// Objects and images the tests' engines take.
constexpr int most = 2;
/// Frames until nothing is set up any more: pointers are complete after sixteen, then the ring's
/// graphs are recorded in its second round.
constexpr int settled = 36;
constexpr int frames = settled + 12;

/// The whole of what may be called between two frames. Python's calls are in docs/tensorrt.md.
const std::map<std::string, const char*>& costs() {
  static const std::map<std::string, const char*> names{
      {"cuStreamSynchronize", "waits"},      {"cuEventSynchronize", "waits"},
      {"cuMemcpyAsync", "copies"},           {"cuGraphLaunch", "graphs"},
      {"cuMemAlloc_v2", "allocations"},      {"cuMemFree_v2", "allocations"},
      {"cuMemHostAlloc", "allocations"},     {"cuStreamBeginCapture_v2", "captures"},
      {"cuEventRecord", "events"},           {"cuCtxPushCurrent_v2", "selections"},
      {"enqueueV3", "engines"},              {"setTensorAddress", "bindings"},
      {"setInputShape", "bindings"},         {"cuMemGetInfo_v2", "queries"}};
  return names;
}

using Counts = std::map<std::string, long>;

Counts counted() {
  Counts made;
  for (const auto& [call, kind] : costs()) made[kind] += count(call.c_str());
  return made;
}

Counts since(const Counts& before) {
  Counts made;
  for (const auto& [kind, number] : counted()) {
    if (number != before.at(kind)) made[kind] = number - before.at(kind);
  }
  return made;
}

std::string written(const Counts& counts) {
  std::string line;
  for (const auto& [kind, number] : counts) line += kind + " " + std::to_string(number) + " ";
  return line;
}

struct Tracked {
  std::vector<std::string> digests;
  std::vector<std::string> calls;  ///< of each frame
};

Tracked track(const std::shared_ptr<Session>& session, int objects, int count_of_frames = frames) {
  sam2rt::StreamOptions options;
  options.frame_logits = false;
  sam2rt::StreamTracker tracker(session, options);
  Scene scene;
  Scene::prompt(tracker, objects);
  Tracked found;
  for (int t = 0; t < count_of_frames; ++t) {
    const auto view = scene.frame(t);
    const Counts before = counted();
    const auto& result = tracker.step(view);
    // the masks are part of the frame
    std::string bits;
    std::vector<std::uint8_t> mask(result.plane());
    for (std::size_t i = 0; i < result.obj_ids.size(); ++i) {
      tracker.mask(i, mask.data());
      bits.append(mask.begin(), mask.end());
      bits += std::to_string(result.object_scores[i]) + std::to_string(result.ious[i]);
    }
    found.calls.push_back(written(since(before)));
    found.digests.push_back(sam2rt::sha256(bits));
  }
  return found;
}

/// What a settled frame costs, which is the same for every one.
std::string cost(const Tracked& found) {
  for (int t = settled; t < frames; ++t) {
    CHECK_EQ(found.calls[static_cast<std::size_t>(t)], found.calls.back());
  }
  return found.calls.back();
}

void a_settled_frame(const Bundle& bundle, int objects, const char* expected) {
  const auto host = track(std::make_shared<MixingSession>(bundle, most), objects);
  const auto found = track(open_native(bundle), objects);
  CHECK(found.digests == host.digests);
  CHECK_EQ(cost(found), expected);
}

void one_and_two_objects_take_two_graphs_and_one_wait(const Bundle& bundle) {
  // the frame and its encoder; then memory attention, decoder and memory encoder
  a_settled_frame(bundle, 1, "events 1 graphs 2 selections 2 waits 1 ");
  a_settled_frame(bundle, 2, "events 1 graphs 2 selections 2 waits 1 ");
}

void another_group_takes_a_graph_and_a_wait(const Bundle& bundle) {
  a_settled_frame(bundle, 3, "events 1 graphs 3 selections 3 waits 2 ");
}

void the_ring_twice_round_equals_runs_without_graphs(const Bundle& bundle) {
  auto* const refuse = doubled<Refuse>("libnvinfer.so.10", "double_refuse_capture");
  for (const int objects : {1, 2, 3}) {
    const long captures = count("cuStreamEndCapture");
    const auto with = track(open_native(bundle), objects);
    // one of the encoder, and one of each slot of each group's ring; prompted memories are encoded
    // one by one
    const int groups = (objects + 1) / 2, slots = bundle.model().num_maskmem - 1;
    CHECK_EQ(count("cuStreamEndCapture") - captures, 1L + groups * slots + (objects > 1 ? 1 : 0));
    refuse(true);
    const auto without = track(open_native(bundle), objects);
    refuse(false);
    CHECK(with.digests == without.digests);
    CHECK_EQ(without.calls.back().find("graphs"), std::string::npos);
  }
}

void a_frame_that_failed_may_be_pushed_again(const Bundle& bundle) {
  auto* const refuse = doubled<RefuseGraph>("libnvinfer.so.10", "double_refuse_graph");
  auto* const refuse_capture = doubled<Refuse>("libnvinfer.so.10", "double_refuse_capture");
  const auto play = [&](bool graphs) {
    refuse_capture(!graphs);
    const auto session = open_native(bundle);
    sam2rt::StreamTracker tracker(session);
    Scene scene;
    Scene::prompt(tracker, 2);
    std::vector<std::string> digests;
    for (int t = 0; t < frames; ++t) {
      // a slot's place is new to the engines, so that something is enqueued at all
      if (t == 18) {
        refuse(static_cast<int>(sam2rt::Graph::memory_encoder));
        const auto message = MESSAGE_OF(sam2rt::SessionError, tracker.step(scene.frame(t)));
        refuse(-1);
        CHECK_EQ(message, "the engine of memory_encoder failed (the work could not be enqueued): "
                          "build it again with 'sam2rt build'");
      }
      digests.push_back(digest(tracker.step(scene.frame(t))));
      CHECK_EQ(tracker.frame_idx(), t + 1);
    }
    refuse_capture(false);
    return digests;
  };
  CHECK(play(true) == play(false));
}

/// Trackers that any of several threads steps: what one call of a session left under way, another
/// worker may need.
void trackers_that_change_their_thread(const Bundle& bundle) {
  constexpr int steps = 30;
  const auto session = open_native(bundle);
  struct Item {
    std::unique_ptr<sam2rt::StreamTracker> tracker;
    std::mutex mutex;
    Scene scene;
    std::vector<std::string> digests;
  };
  std::array<Item, 3> items;
  for (std::size_t i = 0; i < items.size(); ++i) {
    items[i].tracker = std::make_unique<sam2rt::StreamTracker>(session);
    Scene::prompt(*items[i].tracker, static_cast<int>(i) + 1);
  }
  std::vector<std::thread> threads;
  for (int n = 0; n < 4; ++n) {
    threads.emplace_back([&items, n] {
      for (int turn = 0; turn < steps; ++turn) {
        Item& item = items[static_cast<std::size_t>((turn + n) % 3)];
        const std::lock_guard<std::mutex> lock(item.mutex);
        const int t = item.tracker->frame_idx();
        if (t < steps) item.digests.push_back(digest(item.tracker->step(item.scene.frame(t))));
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  for (std::size_t i = 0; i < items.size(); ++i) {
    sam2rt::StreamTracker alone(std::make_shared<MixingSession>(bundle, most));
    Scene scene;
    Scene::prompt(alone, static_cast<int>(i) + 1);
    for (int t = 0; t < static_cast<int>(items[i].digests.size()); ++t) {
      CHECK_EQ(items[i].digests[static_cast<std::size_t>(t)], digest(alone.step(scene.frame(t))));
    }
    CHECK_EQ(items[i].digests.size(), std::size_t{steps});
  }
}

/// Objects that come, are corrected and go: rings are left, taken over and made anew.
void objects_come_and_go(const Bundle& bundle) {
  const auto play = [](const std::shared_ptr<Session>& session) {
    sam2rt::StreamTracker tracker(session);
    Scene scene;
    Scene::prompt(tracker, 1);
    std::vector<std::string> digests;
    for (int t = 0; t < 90; ++t) {
      if (t == 14 || t == 33) tracker.add_box(t, {15.0F, 75.0F, 85.0F, 145.0F});
      if (t == 25 || t == 60) tracker.add_points(1, {{{60.0F + static_cast<float>(t), 110.0F}}, {1}, {}});
      if (t == 47) tracker.remove_object(14);
      if (t == 70) tracker.remove_object(1);
      digests.push_back(digest(tracker.step(scene.frame(t))));
    }
    return digests;
  };
  CHECK(play(open_native(bundle)) == play(std::make_shared<MixingSession>(bundle, most)));
}

void contexts_share_their_memory(const Bundle& bundle) {
  const long before = count("context bytes");
  const long buffers = count("scratch buffers");
  const auto session = open_native(bundle);
  track(session, 2, 8);
  CHECK_EQ(count("context bytes"), before);
  // one worker's, whatever the number of engines and profiles
  CHECK_EQ(count("scratch buffers") - buffers, 1L);
}

}  // namespace

int main(int argc, char** argv) {
  if (argc < 2) return 2;
  const auto bundle = Bundle::load(argv[1]);
  const auto with_bundle = [&bundle](void (*test)(const Bundle&)) {
    return [&bundle, test] { test(bundle); };
  };
  const check::Tests tests{
      {"one and two objects take two graphs and one wait",
       with_bundle(one_and_two_objects_take_two_graphs_and_one_wait)},
      {"another group takes a graph and a wait",
       with_bundle(another_group_takes_a_graph_and_a_wait)},
      {"the ring twice round equals runs without graphs",
       with_bundle(the_ring_twice_round_equals_runs_without_graphs)},
      {"a frame that failed may be pushed again",
       with_bundle(a_frame_that_failed_may_be_pushed_again)},
      {"trackers that change their thread", with_bundle(trackers_that_change_their_thread)},
      {"objects come and go", with_bundle(objects_come_and_go)},
      {"contexts share their memory", with_bundle(contexts_share_their_memory)},
      {"everything is given back", [] { CHECK_EQ(count("live"), 0L); }},
  };
  return check::run(tests, argc - 1, argv + 1) == 0 ? 0 : 1;
}
