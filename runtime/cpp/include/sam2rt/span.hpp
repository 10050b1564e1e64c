#ifndef SAM2RT_SPAN_HPP
#define SAM2RT_SPAN_HPP

#include <array>
#include <cstddef>
#include <initializer_list>
#include <type_traits>
#include <vector>

namespace sam2rt {

/// A view of consecutive elements that somebody else owns (C++20's std::span, for C++17).
template <class T>
class Span {
 public:
  using Value = std::remove_const_t<T>;

  constexpr Span() noexcept = default;
  constexpr Span(T* data, std::size_t size) noexcept : data_(data), size_(size) {}
#if defined(__GNUC__) && !defined(__clang__)
#  pragma GCC diagnostic push
#  pragma GCC diagnostic ignored "-Winit-list-lifetime"
#endif
  /// The list must outlive the view: meant for arguments written in place.
  constexpr Span(std::initializer_list<Value> list) noexcept
      : data_(list.begin()), size_(list.size()) {}
#if defined(__GNUC__) && !defined(__clang__)
#  pragma GCC diagnostic pop
#endif
  template <std::size_t N>
  constexpr Span(const std::array<Value, N>& array) noexcept : data_(array.data()), size_(N) {}
  Span(const std::vector<Value>& vector) noexcept : data_(vector.data()), size_(vector.size()) {}

  constexpr T* data() const noexcept { return data_; }
  constexpr std::size_t size() const noexcept { return size_; }
  constexpr bool empty() const noexcept { return size_ == 0; }
  constexpr T* begin() const noexcept { return data_; }
  constexpr T* end() const noexcept { return data_ + size_; }
  constexpr T& operator[](std::size_t i) const noexcept { return data_[i]; }

 private:
  T* data_ = nullptr;
  std::size_t size_ = 0;
};

}  // namespace sam2rt

#endif
