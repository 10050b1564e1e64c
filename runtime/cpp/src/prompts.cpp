#include "prompts.hpp"

#include <cmath>

#include "antialias.hpp"
#include "sam2rt/error.hpp"
#include "text.hpp"

namespace sam2rt {

namespace {

/// How far beyond the frame a coordinate may lie, as a share of its side: boxes of detectors
/// overhang.
constexpr float overhang = 0.1F;

std::string pair(const Point& p) {
  return "[" + repr(double{p.x}) + ", " + repr(double{p.y}) + "]";
}

void check_labels(const PointPrompt& prompt) {
  if (prompt.labels.size() != prompt.points.size()) {
    throw InputError(text(prompt.points.size(), " points but ", prompt.labels.size(),
                          " labels: give one label a point"));
  }
  for (const int label : prompt.labels) {
    if (label < 0 || label > 3) {
      throw InputError(text("labels ",
                            listed(prompt.labels, [](int l) { return std::to_string(l); }),
                            ": expected 1 (positive) or 0 (negative)"));
    }
  }
}

}  // namespace

void check_inside(const char* what, const std::vector<Point>& points, const PixelsOf& size) {
  for (const Point& p : points) {
    if (!std::isfinite(p.x) || !std::isfinite(p.y)) {
      throw InputError(text("a ", what, " is NaN or infinite: ", first_listed(points, pair)));
    }
  }
  const FrameSize sides = size.value_or(FrameSize{1, 1});
  const auto width = static_cast<float>(sides.width), height = static_cast<float>(sides.height);
  const float beyond = 1.0F + overhang;
  for (const Point& p : points) {
    if (p.x < -overhang * width || p.y < -overhang * height || p.x > beyond * width ||
        p.y > beyond * height) {
      throw InputError(text("the ", what, " ", pair(p), " lies outside the image",
                            size ? text(" of width ", size->width, " and height ", size->height,
                                        ": check the order x, y and the image's size")
                                 : ": expected fractions 0 to 1, or normalize_coords=True for "
                                   "pixels"));
    }
  }
}

void check_box(const Box& box, const PixelsOf& size) {
  check_inside("box corner", {{box.x0, box.y0}, {box.x1, box.y1}}, size);
  const auto refuse = [&box](const char* why) {
    const std::array<float, 4> corners{box.x0, box.y0, box.x1, box.y1};
    throw InputError(
        text("box ", listed(corners, [](float v) { return repr(double{v}); }), " ", why));
  };
  if (!(box.x1 > box.x0 && box.y1 > box.y0)) {
    refuse("is empty or reversed: expected x0 < x1, y0 < y1");
  }
  const FrameSize sides = size.value_or(FrameSize{1, 1});
  if (box.x1 <= 0 || box.y1 <= 0 || box.x0 >= static_cast<float>(sides.width) ||
      box.y0 >= static_cast<float>(sides.height)) {
    refuse("lies outside the image: expected one that overlaps it");
  }
}

void ModelPoints::append(const ModelPoints& more) {
  coords.insert(coords.end(), more.coords.begin(), more.coords.end());
  labels.insert(labels.end(), more.labels.begin(), more.labels.end());
}

ModelPoints model_points(const PointPrompt& prompt, FrameSize frame_size, int image_size) {
  if (prompt.points.empty() != prompt.labels.empty()) {
    const bool have_points = prompt.labels.empty();
    throw InputError(text(have_points ? "points" : "labels", " were given without ",
                          have_points ? "labels" : "points", ": give both or neither"));
  }
  if (prompt.points.empty() && !prompt.box) {
    throw InputError("no prompt: give points with labels, a box, or both");
  }
  const PixelsOf pixels_of = prompt.normalize_coords ? PixelsOf(frame_size) : std::nullopt;
  check_inside("point", prompt.points, pixels_of);
  check_labels(prompt);
  if (prompt.box) check_box(*prompt.box, pixels_of);

  const FrameSize size = pixels_of.value_or(FrameSize{1, 1});
  ModelPoints made;
  const auto width = static_cast<float>(size.width), height = static_cast<float>(size.height);
  const auto side = static_cast<float>(image_size);
  const auto add = [&](float x, float y, int label) {
    // the original divides, then multiplies, in float32
    made.coords.push_back(x / width * side);
    made.coords.push_back(y / height * side);
    made.labels.push_back(label);
  };
  if (const auto& box = prompt.box) {
    add(box->x0, box->y0, 2);
    add(box->x1, box->y1, 3);
  }
  for (std::size_t i = 0; i < prompt.points.size(); ++i) {
    add(prompt.points[i].x, prompt.points[i].y, prompt.labels[i]);
  }
  return made;
}

void check_mask(const MaskView& mask, FrameSize frame_size) {
  const FrameSize size{mask.height, mask.width};
  if (!(size == frame_size) && size == FrameSize{frame_size.width, frame_size.height}) {
    throw InputError(text("mask has shape (", mask.height, ", ", mask.width,
                          "), expected the frame's (height, width) (", frame_size.height, ", ",
                          frame_size.width, "): it lies on its side, use mask.T"));
  }
  const auto width = static_cast<std::size_t>(mask.width);
  const std::size_t stride = mask.stride != 0 ? mask.stride : width;
  if (mask.width < 1 || mask.height < 1 || mask.data == nullptr || stride < width) {
    throw InputError("a mask has no pixels: give its data, its size and its stride");
  }
  // what stands for the object: 1, or 255 as in files of masks; of both the mask is a map of ids
  std::uint8_t object = 0;
  for (int y = 0; y < mask.height; ++y) {
    const std::uint8_t* row = mask.data + static_cast<std::size_t>(y) * stride;
    for (std::size_t x = 0; x < width; ++x) {
      if (row[x] == 0 || row[x] == object) continue;
      if (object != 0 || (row[x] != 1 && row[x] != 255)) {
        throw InputError("a mask must be bool or hold only 0 and 1: compare it with > 0 first");
      }
      object = row[x];
    }
  }
}

std::vector<float> model_mask(const MaskView& mask, FrameSize frame_size, int image_size) {
  check_mask(mask, frame_size);
  const auto width = static_cast<std::size_t>(mask.width);
  const auto height = static_cast<std::size_t>(mask.height);
  const std::size_t stride = mask.stride != 0 ? mask.stride : width;
  std::vector<float> pixels(width * height);
  for (std::size_t y = 0; y < height; ++y) {
    for (std::size_t x = 0; x < width; ++x) {
      pixels[y * width + x] = mask.data[y * stride + x] != 0 ? 1.0F : 0.0F;
    }
  }
  if (mask.width == image_size && mask.height == image_size) return pixels;
  const auto side = static_cast<std::size_t>(image_size);
  std::vector<float> resized(side * side);
  resize_antialias(pixels.data(), {mask.height, mask.width}, resized.data(),
                   {image_size, image_size});
  for (float& value : resized) value = value >= 0.5F ? 1.0F : 0.0F;
  return resized;
}

}  // namespace sam2rt
