// Time per frame inside and outside the backend, what of it goes into the frame's resize and the
// masks' upsampling, and peak memory, as JSON:
//   overhead BUNDLE WIDTH HEIGHT OBJECTS FRAMES [masks]
// With "masks" frames are tracked without logits of their size. Medians stretch with what else the machine does; the fastest of many frames hardly does.
#include <algorithm>
#include <fstream>
#include <iostream>

#include "frame_tensor.hpp"
#include "support/scene.hpp"
#include "support/sessions.hpp"
#include "upsample.hpp"

namespace {

/// Peak memory in kilobytes; getrusage would count what the parent had before exec.
long peak_kb() {
  std::ifstream status("/proc/self/status");
  for (std::string line; std::getline(status, line);) {
    if (line.rfind("VmHWM:", 0) == 0) return std::stol(line.substr(6));
  }
  return 0;
}

/// Seconds that each of several runs took.
template <class Call>
std::vector<double> timed(int runs, Call call) {
  std::vector<double> seconds;
  for (int i = 0; i < runs; ++i) {
    const auto began = std::chrono::steady_clock::now();
    call();
    seconds.push_back(
        std::chrono::duration<double>(std::chrono::steady_clock::now() - began).count());
  }
  return seconds;
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
  sam2rt::StreamOptions stream;
  stream.frame_logits = argc < 7;
  sam2rt::StreamTracker tracker(session, stream);
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
  const long peak = peak_kb();
  const auto median = [](std::vector<double>& values) {
    const auto middle = values.begin() + static_cast<std::ptrdiff_t>(values.size() / 2);
    std::nth_element(values.begin(), middle, values.end());
    return values[values.size() / 2];
  };
  const auto least = [](const std::vector<double>& values) {
    return *std::min_element(values.begin(), values.end());
  };
  const auto& model = session->bundle().model();
  const sam2rt::FrameSize size{scene.height, scene.width};
  const auto frame = scene.frame(0);
  std::vector<float> pixels(static_cast<std::size_t>(3 * model.image_size * model.image_size));
  sam2rt::FrameTensor to_tensor(model.image_size);
  const std::vector<float> low(static_cast<std::size_t>(model.mask_size() * model.mask_size()));
  std::vector<float> logits(static_cast<std::size_t>(size.width) *
                            static_cast<std::size_t>(size.height));
  sam2rt::Upsampler upsampler;
  const double resize = least(timed(frames, [&] { to_tensor.run(frame, pixels.data()); }));
  const double upsample = least(
      timed(frames, [&] { upsampler.run(low.data(), model.mask_size(), size, logits.data()); }));
  const double total = median(totals), outside = median(outsides);
  const double best = least(totals), best_outside = least(outsides);
  std::cout << "{\"frame_ms\": " << total * 1e3 << ", \"outside_ms\": " << outside * 1e3
            << ", \"share\": " << outside / total << ", \"best_frame_ms\": " << best * 1e3
            << ", \"best_outside_ms\": " << best_outside * 1e3
            << ", \"best_share\": " << best_outside / best << ", \"resize_ms\": " << resize * 1e3
            << ", \"upsample_ms\": " << upsample * 1e3 << ", \"peak_kb\": " << peak << "}\n";
}
