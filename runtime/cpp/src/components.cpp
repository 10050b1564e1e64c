#include "components.hpp"

#include <algorithm>

namespace sam2rt {

std::int32_t Components::root(std::int32_t label) noexcept {
  const auto at = [this](std::int32_t i) -> std::int32_t& {
    return parent_[static_cast<std::size_t>(i)];
  };
  while (at(label) != label) {
    at(label) = at(at(label));
    label = at(label);
  }
  return label;
}

std::int32_t Components::join(std::int32_t a, std::int32_t b) noexcept {
  if (a == 0 || b == 0) return a + b;
  const std::int32_t first = root(a), second = root(b);
  const std::int32_t kept = first < second ? first : second;
  parent_[static_cast<std::size_t>(first)] = kept;
  parent_[static_cast<std::size_t>(second)] = kept;
  return kept;
}

void Components::find_small(const float* logits, int height, int width, float threshold, bool above,
                            int area) {
  const auto w = static_cast<std::size_t>(width), h = static_cast<std::size_t>(height);
  labels_.assign(w * h, 0);
  small_.resize(w * h);
  // at most every second pixel of every second row begins a component
  parent_.reserve(w * h / 4 + w + h + 2);
  area_.reserve(parent_.capacity());
  parent_.assign(1, 0);
  for (std::size_t y = 0; y < h; ++y) {
    for (std::size_t x = 0; x < w; ++x) {
      const std::size_t at = y * w + x;
      if ((logits[at] > threshold) != above) continue;
      std::int32_t label = x > 0 ? labels_[at - 1] : 0;
      if (y > 0) {
        label = join(label, labels_[at - w]);
        if (x > 0) label = join(label, labels_[at - w - 1]);
        if (x + 1 < w) label = join(label, labels_[at - w + 1]);
      }
      if (label == 0) {
        label = static_cast<std::int32_t>(parent_.size());
        parent_.push_back(label);
      }
      labels_[at] = label;
    }
  }
  area_.assign(parent_.size(), 0);
  for (std::int32_t& label : labels_) {
    if (label == 0) continue;
    label = root(label);
    ++area_[static_cast<std::size_t>(label)];
  }
  for (std::size_t i = 0; i < labels_.size(); ++i) {
    const auto label = static_cast<std::size_t>(labels_[i]);
    small_[i] = label != 0 && area_[label] <= area ? 1 : 0;
  }
}

void Components::fill_holes(float* logits, int height, int width, int area, float threshold,
                            float value) {
  find_small(logits, height, width, threshold, /*above=*/false, area);
  for (std::size_t i = 0; i < small_.size(); ++i) {
    if (small_[i] != 0) logits[i] = value;
  }
}

void Components::clean_mask(float* logits, int height, int width, float threshold, double hole_area,
                            double sprinkle_area) {
  std::vector<std::uint8_t> specks;
  // no area is larger than the mask; a larger number would not fit an int
  const double most = static_cast<double>(height) * width;
  if (sprinkle_area > 0) {
    find_small(logits, height, width, threshold, /*above=*/true,
               static_cast<int>(std::min(sprinkle_area, most)));
    specks = small_;
  }
  if (hole_area > 0) {
    fill_holes(logits, height, width, static_cast<int>(std::min(hole_area, most)), threshold,
               threshold + 10.0F);
  }
  for (std::size_t i = 0; i < specks.size(); ++i) {
    if (specks[i] != 0) logits[i] = threshold - 10.0F;
  }
}

}  // namespace sam2rt
