// Four trackers on four threads share one session and give the bits of one alone:
//   threads BUNDLE [mixing]      mixing: without ONNX Runtime, for the thread sanitizer
#include <cstring>
#include <thread>

#include "support/check.hpp"
#include "support/scene.hpp"
#include "support/sessions.hpp"

namespace {

std::vector<std::string> track(const std::shared_ptr<sam2rt::Session>& session, int objects) {
  Scene scene;
  sam2rt::StreamTracker tracker(session);
  Scene::prompt(tracker, objects);
  std::vector<std::string> digests;
  for (int t = 0; t < 20; ++t) digests.push_back(digest(tracker.step(scene.frame(t))));
  return digests;
}

}  // namespace

int main(int argc, char** argv) {
  if (argc < 2) return 2;
  const auto bundle = sam2rt::Bundle::load(argv[1]);
  std::shared_ptr<sam2rt::Session> session;
  if (argc > 2 && std::strcmp(argv[2], "mixing") == 0) {
    session = std::make_shared<MixingSession>(bundle);
  } else {
    sam2rt::SessionOptions options;
    options.threads = 1;
    session = sam2rt::open_session(bundle, options);
  }
  const check::Tests tests{{"four threads, one session", [&session] {
    std::vector<std::vector<std::string>> found(4);
    std::vector<std::thread> threads;
    for (int i = 0; i < 4; ++i) {
      threads.emplace_back([&session, &found, i] {
        found[static_cast<std::size_t>(i)] = track(session, 1 + i % 3);
      });
    }
    for (std::thread& thread : threads) thread.join();
    for (int i = 0; i < 4; ++i) {
      CHECK(found[static_cast<std::size_t>(i)] == track(session, 1 + i % 3));
    }
  }}};
  return check::run(tests) == 0 ? 0 : 1;
}
