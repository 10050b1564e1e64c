// Run lengths: any counts either decode to a mask that encodes to runs of the same mask, or are
// refused; any mask comes back.
#include <cstddef>
#include <cstdint>

#include "sam2rt/error.hpp"
#include "sam2rt/rle.hpp"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  if (size < 2) return 0;
  const int height = 1 + data[0] % 64, width = 1 + data[1] % 64;
  const sam2rt::Rle given{height, width, {reinterpret_cast<const char*>(data + 2), size - 2}};
  try {
    const auto mask = sam2rt::decode_rle(given);
    const auto again = sam2rt::encode_rle({mask.data(), width, height});
    if (sam2rt::decode_rle(again) != mask) __builtin_trap();
  } catch (const sam2rt::InputError&) {
    // the only way to refuse
  }
  const auto pixels = static_cast<std::size_t>(height) * static_cast<std::size_t>(width);
  std::vector<std::uint8_t> mask(pixels);
  for (std::size_t i = 0; i < pixels; ++i) mask[i] = (data[i % size] >> (i / size % 8)) & 1;
  if (sam2rt::decode_rle(sam2rt::encode_rle({mask.data(), width, height})) != mask) {
    __builtin_trap();
  }
  return 0;
}
