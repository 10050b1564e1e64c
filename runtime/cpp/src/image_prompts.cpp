#include "image_prompts.hpp"

#include <cmath>

#include "sam2rt/error.hpp"
#include "text.hpp"

namespace sam2rt {

namespace {

void check_points(const ImagePrompt& prompt, const PixelsOf& size) {
  if (prompt.points.empty() != prompt.labels.empty()) {
    const bool have_points = prompt.labels.empty();
    throw InputError(text(have_points ? "points" : "labels", " were given without ",
                          have_points ? "labels" : "points", ": give both or neither"));
  }
  if (prompt.points.size() != prompt.labels.size()) {
    throw InputError(text("point_labels has shape (", prompt.labels.size(), ",), expected (",
                          prompt.points.size(), ",): one label a point"));
  }
  for (const int label : prompt.labels) {
    if (label < -1 || label > 3) {
      throw InputError(text("labels ",
                            first_listed(prompt.labels, [](int l) { return repr(double(l)); }),
                            ": expected 1 (positive), 0 (negative) or -1 (padding)"));
    }
  }
  std::vector<Point> used;
  for (std::size_t i = 0; i < prompt.points.size(); ++i) {
    if (prompt.labels[i] != -1) used.push_back(prompt.points[i]);
  }
  check_inside("point", used, size);
}

void check_mask_input(const std::vector<float>& mask, int side) {
  if (mask.size() != static_cast<std::size_t>(side) * static_cast<std::size_t>(side)) {
    throw InputError(text("mask_input must be [", side, ", ", side, "], got ", mask.size(),
                          " values: give one mask of an earlier prediction's low_res"));
  }
  for (const float value : mask) {
    if (!std::isfinite(value)) throw InputError("mask_input holds NaN or infinite values");
  }
}

void check_alike(const ImagePrompt& first, const ImagePrompt& other) {
  if (first.points.size() != other.points.size()) {
    throw InputError(text("prompts of one call have ", first.points.size(), " and ",
                          other.points.size(), " points: pad the shorter with label -1"));
  }
  if (first.box.has_value() != other.box.has_value() ||
      first.mask_input.empty() != other.mask_input.empty()) {
    throw InputError(
        "prompts of one call must all have a box or none, and all a mask or none: call predict "
        "for each kind");
  }
}

}  // namespace

ImagePrompts image_prompts(const std::vector<ImagePrompt>& prompts, const PixelsOf& size,
                           const ModelConfig& model) {
  if (prompts.empty()) throw InputError("no prompt was given: expected at least one");
  ImagePrompts made;
  made.count = prompts.size();
  const FrameSize sides = size.value_or(FrameSize{1, 1});
  const auto width = static_cast<float>(sides.width), height = static_cast<float>(sides.height);
  const auto side = static_cast<float>(model.image_size);
  const auto add = [&](const Point& p, int label) {
    const Point used = label == -1 ? Point{} : p;
    // the original divides, then multiplies, in float32
    made.coords.push_back(used.x / width * side);
    made.coords.push_back(used.y / height * side);
    made.labels.push_back(label);
  };
  for (const ImagePrompt& prompt : prompts) {
    check_alike(prompts.front(), prompt);
    check_points(prompt, size);
    if (const auto& box = prompt.box) {
      check_box(*box, size);
      add({box->x0, box->y0}, 2);
      add({box->x1, box->y1}, 3);
    }
    for (std::size_t i = 0; i < prompt.points.size(); ++i) add(prompt.points[i], prompt.labels[i]);
    if (prompt.box || !prompt.points.empty()) add({}, -1);
    if (!prompt.mask_input.empty()) {
      check_mask_input(prompt.mask_input, model.mask_size());
      made.mask_input.insert(made.mask_input.end(), prompt.mask_input.begin(),
                             prompt.mask_input.end());
    }
  }
  made.points = made.labels.size() / made.count;
  return made;
}

}  // namespace sam2rt
