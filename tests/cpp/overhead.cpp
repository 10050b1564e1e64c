// Time per frame inside and outside the backend, and peak memory, as JSON:
//   overhead BUNDLE WIDTH HEIGHT OBJECTS FRAMES
#include <algorithm>
#include <fstream>
#include <iostream>

#include "support/scene.hpp"
#include "support/sessions.hpp"

namespace {

/// Peak memory in kilobytes; getrusage would count what the parent had before exec.
long peak_kb() {
  std::ifstream status("/proc/self/status");
  for (std::string line; std::getline(status, line);) {
    if (line.rfind("VmHWM:", 0) == 0) return std::stol(line.substr(6));
  }
  return 0;
}

}  // namespace

int main(int argc, char** argv) {
  if (argc < 6) return 2;
  Scene scene;
  scene.width = std::stoi(argv[2]);
  scene.height = std::stoi(argv[3]);
  const int frames = std::stoi(argv[5]);
  sam2rt::SessionOptions options;
  options.threads = 1;
  const auto session = std::make_shared<WatchedSession>(
      sam2rt::open_session(sam2rt::Bundle::load(argv[1]), options));
  sam2rt::StreamTracker tracker(session);
  Scene::prompt(tracker, std::stoi(argv[4]));
  std::vector<double> totals, outsides;
  for (int t = 0; t < 20 + frames; ++t) {
    const auto frame = scene.frame(t);
    session->seconds = 0;
    session->calls.clear();
    const auto began = std::chrono::steady_clock::now();
    tracker.step(frame);
    const double total =
        std::chrono::duration<double>(std::chrono::steady_clock::now() - began).count();
    if (t < 20) continue;
    totals.push_back(total);
    outsides.push_back(total - session->seconds);
  }
  const auto median = [](std::vector<double>& values) {
    const auto middle = values.begin() + static_cast<std::ptrdiff_t>(values.size() / 2);
    std::nth_element(values.begin(), middle, values.end());
    return values[values.size() / 2];
  };
  const double total = median(totals), outside = median(outsides);
  std::cout << "{\"frame_ms\": " << total * 1e3 << ", \"outside_ms\": " << outside * 1e3
            << ", \"share\": " << outside / total << ", \"peak_kb\": " << peak_kb() << "}\n";
}
