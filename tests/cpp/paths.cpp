// Segments one image with each bundle of a list, and prints a line each: the hash of the masks'
// logits and scores, or the error. The list is UTF-8, a folder a line: arguments of programs are
// not, on Windows.
//   paths LIST
#include <filesystem>
#include <fstream>
#include <iostream>
#include <string>
#include <string_view>
#include <vector>

#include "sam2rt/sam2rt.hpp"
#include "sha256.hpp"

namespace {

constexpr int width = 80, height = 60;

std::string segmented(const std::filesystem::path& folder) {
  sam2rt::SessionOptions one_thread;
  one_thread.threads = 1;
  sam2rt::ImagePredictor predictor(
      sam2rt::open_session(sam2rt::Bundle::load(folder), one_thread));
  std::vector<std::uint8_t> pixels;
  for (int i = 0; i < 3 * width * height; ++i) pixels.push_back(static_cast<std::uint8_t>(i % 251));
  sam2rt::FrameView image;
  image.data = pixels.data();
  image.width = width;
  image.height = height;
  predictor.set_image(image);
  sam2rt::ImagePrompt click;
  click.points = {{20, 30}};
  click.labels = {1};
  sam2rt::PredictOptions options;
  options.return_logits = true;
  sam2rt::ImageResult result = predictor.predict(click, options);
  std::vector<float>& all = result.logits;
  all.insert(all.end(), result.ious.begin(), result.ious.end());
  return sam2rt::sha256({reinterpret_cast<const char*>(all.data()), all.size() * sizeof(float)});
}

}  // namespace

int main(int argc, char** argv) {
  if (argc != 2) return 2;
  std::ifstream list(argv[1], std::ios::binary);
  for (std::string folder; std::getline(list, folder);) {
    try {
      std::cout << segmented(std::filesystem::u8path(folder)) << '\n';
    } catch (const sam2rt::Error& error) {
      std::cout << error.what() << '\n';
    }
  }
  return 0;
}
