#ifndef SAM2RT_TESTS_CASE_FILES_HPP
#define SAM2RT_TESTS_CASE_FILES_HPP

#include <cmath>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "check.hpp"
#include "sha256.hpp"

/// A folder that make_cases.py wrote: case.json and raw arrays beside it.
class CaseFolder {
 public:
  explicit CaseFolder(std::filesystem::path folder) : folder_(std::move(folder)) {
    std::ifstream file(folder_ / "case.json");
    if (!file) throw std::runtime_error("no case.json in " + folder_.string());
    json = nlohmann::json::parse(file);
  }

  template <class T>
  std::vector<T> array(const std::string& name) const {
    std::ifstream file(folder_ / name, std::ios::binary);
    if (!file) throw std::runtime_error("no file " + name + " in " + folder_.string());
    const std::string bytes{std::istreambuf_iterator<char>(file), std::istreambuf_iterator<char>()};
    std::vector<T> values(bytes.size() / sizeof(T));
    std::memcpy(values.data(), bytes.data(), values.size() * sizeof(T));
    return values;
  }

  nlohmann::json json;

 private:
  std::filesystem::path folder_;
};

/// Every `stride`-th value, or the whole.
inline std::vector<float> thinned(const std::vector<float>& values, std::size_t stride) {
  std::vector<float> kept;
  for (std::size_t i = 0; i < values.size(); i += stride) kept.push_back(values[i]);
  return kept;
}

/// Values at [5::step, 5::step] of each plane [height, width].
inline std::vector<float> gridded(const std::vector<float>& values, std::size_t height,
                                  std::size_t width, std::size_t step) {
  std::vector<float> kept;
  for (std::size_t n = 0; n * height * width < values.size(); ++n) {
    for (std::size_t y = 5; y < height; y += step) {
      for (std::size_t x = 5; x < width; x += step) {
        kept.push_back(values[(n * height + y) * width + x]);
      }
    }
  }
  return kept;
}

/// Compare values with one expectation of a case: {"form", "file" or "digest", bounds}. `height`
/// and `width` are those of a plane. Gives the largest difference.
inline double compare(const CaseFolder& folder, const nlohmann::json& expected,
                      const std::vector<float>& values, std::size_t height = 1,
                      std::size_t width = 1) {
  const std::string what = expected["what"], form = expected["form"];
  if (form == "digest") {
    const std::string_view bytes(reinterpret_cast<const char*>(values.data()),
                                 values.size() * sizeof(float));
    if (sam2rt::sha256(bytes) != expected["digest"]) {
      throw check::Failure(what + ": its bits are not those of Python");
    }
    return 0.0;
  }
  if (form == "bits") {
    const auto inside = folder.array<std::uint8_t>(expected["file"]);
    if (inside.size() != values.size()) throw check::Failure(what + ": another size");
    long flips = 0;
    for (std::size_t i = 0; i < values.size(); ++i) flips += (values[i] > 0) != (inside[i] != 0);
    if (flips > expected["allowed"].get<long>()) {
      throw check::Failure(what + ": " + std::to_string(flips) + " mask pixels differ");
    }
    return 0.0;
  }
  const auto step = expected.value("step", std::size_t{1});
  const auto found = form == "grid" ? gridded(values, height, width, step) : thinned(values, step);
  const auto wanted = folder.array<float>(expected["file"]);
  if (found.size() != wanted.size()) {
    throw check::Failure(what + ": " + std::to_string(found.size()) + " values instead of " +
                         std::to_string(wanted.size()));
  }
  double worst = 0;
  for (std::size_t i = 0; i < found.size(); ++i) {
    worst = std::max(worst, std::fabs(double{found[i]} - double{wanted[i]}));
  }
  if (!(worst <= expected["atol"].get<double>())) {
    throw check::Failure(what + ": differs by " + std::to_string(worst));
  }
  return worst;
}

#endif
