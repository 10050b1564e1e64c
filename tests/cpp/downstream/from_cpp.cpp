// from_cpp BUNDLE: tracks a click over four grey frames; errors cross the library's border.
#include <iostream>
#include <sam2rt/sam2rt.hpp>
#include <vector>

int main(int argc, char** argv) {
  if (argc < 2) return 2;
  try {
    sam2rt::Bundle::load("no/such/bundle");
    return 3;
  } catch (const sam2rt::Error& error) {
    std::cout << error.what() << "\n";
  }
  sam2rt::SessionOptions options;
  options.threads = 1;
  const auto session = sam2rt::open_session(sam2rt::Bundle::load(argv[1]), options);
  sam2rt::StreamTracker tracker(session);
  tracker.add_points(7, {{{40, 30}}, {1}, {}});
  const std::vector<std::uint8_t> grey(64 * 96 * 3, 128);
  for (int t = 0; t < 4; ++t) {
    const auto& result = tracker.step({grey.data(), 96, 64});
    std::cout << result.frame_idx << " " << result.obj_ids.at(0) << " " << result.logits.size()
              << " " << result.object_scores.at(0) << "\n";
  }
}
