#include "sam2rt/rle.hpp"

#include "sam2rt/error.hpp"
#include "text.hpp"

namespace sam2rt {

namespace {

/// Writes run lengths as COCO does: each beyond the second as the difference to the one two
/// before, in groups of five bits, least significant first, 48 added.
class Writer {
 public:
  explicit Writer(std::string& out) : out_(out) {}

  void run(std::int64_t length) {
    std::int64_t value = length;
    if (count_ > 2) value -= before_[count_ % 2];
    before_[count_ % 2] = length;
    ++count_;
    bool more = true;
    while (more) {
      auto bits = static_cast<int>(value & 0x1F);
      value >>= 5;
      more = (bits & 0x10) != 0 ? value != -1 : value != 0;
      if (more) bits |= 0x20;
      out_ += static_cast<char>(bits + 48);
    }
  }

 private:
  std::string& out_;
  std::size_t count_ = 0;
  std::int64_t before_[2] = {0, 0};
};

template <class Inside>
Rle encode(int height, int width, Inside inside) {
  Rle rle{height, width, {}};
  Writer writer(rle.counts);
  bool value = false;
  std::int64_t length = 0;
  for (int x = 0; x < width; ++x) {
    for (int y = 0; y < height; ++y) {
      const bool found = inside(static_cast<std::size_t>(y), static_cast<std::size_t>(x));
      if (found != value) {
        writer.run(length);
        value = found;
        length = 0;
      }
      ++length;
    }
  }
  writer.run(length);
  return rle;
}

[[noreturn]] void malformed(const Rle& rle, const char* why) {
  throw InputError(text("run lengths of a ", rle.height, " x ", rle.width, " mask are malformed (",
                        why, "): expected what encode_rle or pycocotools writes"));
}

/// One number of the counts, from `at` on.
std::int64_t read_number(const Rle& rle, std::size_t& at) {
  std::int64_t value = 0;
  for (int shift = 0;; shift += 5) {
    if (at == rle.counts.size()) malformed(rle, "a number is cut off");
    const int bits = static_cast<unsigned char>(rle.counts[at++]) - 48;
    if (bits < 0 || bits > 0x3F) malformed(rle, "a character does not belong there");
    if (shift > 35) malformed(rle, "a number is too large");
    value |= static_cast<std::int64_t>(bits & 0x1F) << shift;
    if ((bits & 0x20) != 0) continue;
    if ((bits & 0x10) != 0) value -= std::int64_t{1} << (shift + 5);
    return value;
  }
}

}  // namespace

Rle encode_rle(const MaskView& mask) {
  const auto width = static_cast<std::size_t>(mask.width < 0 ? 0 : mask.width);
  const std::size_t stride = mask.stride != 0 ? mask.stride : width;
  if (mask.width < 1 || mask.height < 1 || mask.data == nullptr || stride < width) {
    throw InputError("a mask has no pixels: give its data, its size and its stride");
  }
  return encode(mask.height, mask.width, [&](std::size_t y, std::size_t x) {
    return mask.data[y * stride + x] != 0;
  });
}

Rle encode_rle(const float* logits, int height, int width, float threshold) {
  if (width < 1 || height < 1 || logits == nullptr) {
    throw InputError("a mask has no pixels: give its data and its size");
  }
  const auto stride = static_cast<std::size_t>(width);
  return encode(height, width, [&](std::size_t y, std::size_t x) {
    return logits[y * stride + x] > threshold;
  });
}

std::vector<std::uint8_t> decode_rle(const Rle& rle) {
  constexpr std::int64_t most_pixels = std::int64_t{1} << 31;
  if (rle.height < 1 || rle.width < 1 ||
      std::int64_t{rle.height} * std::int64_t{rle.width} > most_pixels) {
    malformed(rle, "no legal size");
  }
  const auto height = static_cast<std::size_t>(rle.height);
  const auto width = static_cast<std::size_t>(rle.width);
  const auto total = static_cast<std::int64_t>(height * width);

  // first the lengths alone: nothing is allocated for counts that do not add up
  std::vector<std::int64_t> runs;
  std::int64_t sum = 0;
  for (std::size_t at = 0; at < rle.counts.size();) {
    std::int64_t length = read_number(rle, at);
    if (runs.size() > 2) length += runs[runs.size() - 2];
    if (length < 0 || length > total - sum) malformed(rle, "a run has no legal length");
    runs.push_back(length);
    sum += length;
  }
  if (sum != total) malformed(rle, "the runs do not add up to the size");

  std::vector<std::uint8_t> mask(height * width, 0);
  std::size_t at = 0;
  for (std::size_t i = 0; i < runs.size(); ++i) {
    const auto end = at + static_cast<std::size_t>(runs[i]);
    for (; at < end; ++at) {
      if (i % 2 == 1) mask[(at % height) * width + at / height] = 1;
    }
  }
  return mask;
}

}  // namespace sam2rt
