#include "storage.hpp"

#include <algorithm>
#include <cmath>
#include <cstring>

#include "sam2rt/error.hpp"
#include "text.hpp"

namespace sam2rt {

namespace {

std::uint32_t bits_of(float value) noexcept {
  std::uint32_t bits = 0;
  std::memcpy(&bits, &value, sizeof bits);
  return bits;
}

float float_of(std::uint32_t bits) noexcept {
  float value = 0;
  std::memcpy(&value, &bits, sizeof value);
  return value;
}

std::uint16_t to_bfloat16(float value) noexcept {
  const std::uint32_t bits = bits_of(value);
  return static_cast<std::uint16_t>((bits + 0x7FFFU + ((bits >> 16) & 1U)) >> 16);
}

}  // namespace

MemoryDType memory_dtype(std::string_view name) {
  if (name == "float32") return MemoryDType::float32;
  if (name == "float16") return MemoryDType::float16;
  if (name == "bfloat16") return MemoryDType::bfloat16;
  throw InputError("memory_dtype is " + repr(name) +
                   ": expected one of (None, 'float32', 'float16', 'bfloat16')");
}

std::uint16_t to_half(float value) noexcept {
  const std::uint32_t bits = bits_of(value);
  const auto sign = static_cast<std::uint16_t>((bits >> 16) & 0x8000U);
  const std::uint32_t magnitude = bits & 0x7FFFFFFFU;
  if (magnitude > 0x7F800000U) return sign | 0x7E00U;
  // 65520 and more round to infinity
  if (magnitude >= 0x477FF000U) return sign | 0x7C00U;
  if (magnitude < 0x38800000U) {
    // subnormal: the addition rounds at the right place, to even
    const float aligned = float_of(magnitude) + 0.5F;
    return static_cast<std::uint16_t>(sign | (bits_of(aligned) - 0x3F000000U));
  }
  const std::uint32_t rounded = magnitude + 0xFFFU + ((magnitude >> 13) & 1U);
  return static_cast<std::uint16_t>(sign | ((rounded - 0x38000000U) >> 13));
}

float from_half(std::uint16_t half) noexcept {
  const std::uint32_t sign = static_cast<std::uint32_t>(half & 0x8000U) << 16;
  const std::uint32_t exponent = (half >> 10) & 0x1FU;
  const std::uint32_t fraction = half & 0x3FFU;
  if (exponent == 0x1FU) return float_of(sign | 0x7F800000U | fraction << 13);
  if (exponent == 0) {
    const float value = std::ldexp(static_cast<float>(fraction), -24);
    return float_of(sign | bits_of(value));
  }
  return float_of(sign | (exponent + 112U) << 23 | fraction << 13);
}

void StoredMemory::store(const float* values, std::size_t count, MemoryDType dtype,
                         std::uint64_t id) {
  dtype_ = dtype;
  if (dtype == MemoryDType::float32) {
    wide_.assign(values, values + count);
  } else {
    narrow_.resize(count);
    std::transform(values, values + count, narrow_.begin(),
                   dtype == MemoryDType::float16 ? to_half : to_bfloat16);
  }
  id_ = id;
  ring_.reset();
}

void StoredMemory::place(std::shared_ptr<const MemoryRing> ring, std::size_t slot,
                         std::uint64_t id) {
  ring_ = std::move(ring);
  slot_ = slot;
  id_ = id;
}

void StoredMemory::restore(float* values) const noexcept {
  if (dtype_ == MemoryDType::float32) {
    std::copy(wide_.begin(), wide_.end(), values);
  } else if (dtype_ == MemoryDType::float16) {
    std::transform(narrow_.begin(), narrow_.end(), values, from_half);
  } else {
    std::transform(narrow_.begin(), narrow_.end(), values,
                   [](std::uint16_t high) { return float_of(std::uint32_t{high} << 16); });
  }
}

}  // namespace sam2rt
