#ifndef SAM2RT_SRC_QUADS_HPP
#define SAM2RT_SRC_QUADS_HPP

#include <array>
#include <cstddef>
#include <cstdint>
#include <vector>

namespace sam2rt {

/// Pillow's fixed point for 8 bits: 32 - 8 - 2.
inline constexpr int precision_bits = 22;

/// Neighbours worked on at a time.
inline constexpr std::size_t quad_lanes = 16;
/// Bytes of four taps of all neighbours: [quad_lanes, 4].
inline constexpr std::size_t quad_bytes = 4 * quad_lanes;

/// Pillow's coefficients in fixed point: per output position, where its taps begin, how many.
struct Taps {
  int n_in = 0;
  int n_out = 0;
  int most = 0;
  std::vector<int> first, count;
  std::vector<std::int32_t> weights;  ///< [n_out, most]
  /// Bicubic, as wide as one output position where that is more than one input position.
  void prepare(int from, int to);
};

/// Which instructions a pass uses, ever better ones; the results are the same bits.
#if defined(__aarch64__)
enum class QuadLevel { any, neon };
#else
enum class QuadLevel { any, avx2, vnni };
#endif
/// The best this processor has.
QuadLevel best_quad_level() noexcept;

/// The same coefficients by aligned groups of four taps, the missing ones zero, and in the parts
/// that vector instructions multiply: products of whole 22-bit weights would cost a multiple.
class QuadTaps {
 public:
  void prepare(const Taps& taps, QuadLevel level);

  /// Weighted sums of the quads of three channels, one position after the other, each of
  /// `quad_lanes` rows. quads: [groups, quad_lanes, 4 columns] of a channel; out: four rows of
  /// [positions, 4 rows], `out_step` apart, the quads of the next pass; the next channel is
  /// `channel_step` further.
  void along(const std::array<const std::uint8_t*, 3>& quads, std::uint8_t* out,
             std::size_t out_step, std::size_t channel_step) const;

  /// One output row of `width` columns (a multiple of 32, as every image side is) at `position`,
  /// normalised as a colour channel's. quads: [groups, width, 4 rows].
  void across(const std::uint8_t* quads, std::size_t width, std::size_t position,
              std::size_t channel, float* out) const;

  /// What one position needs.
  struct Position {
    std::size_t group = 0;  ///< the first
    std::size_t groups = 0;
    const std::int32_t* weights = nullptr;  ///< [groups, 4]
    const std::int32_t* bytes = nullptr;    ///< [groups, 3]: high, middle and low bytes of four
    const std::int64_t* halves = nullptr;   ///< [groups, 2]: high and low halves of four
  };
  Position at(std::size_t position) const noexcept {
    return {group_[position], groups_[position], weights_.data() + position * most_ * 4,
            bytes_.data() + position * most_ * 3, halves_.data() + position * most_ * 2};
  }
  std::size_t positions() const noexcept { return group_.size(); }

 private:
  int n_in_ = 0;
  QuadLevel level_ = QuadLevel::any;
  std::size_t most_ = 0;
  std::vector<std::size_t> group_, groups_;
  std::vector<std::int32_t> weights_, bytes_;
  std::vector<std::int64_t> halves_;
};

/// `quad_lanes` rows of interleaved pixels -> three channels [groups, quad_lanes, 4 columns], `step`
/// apart, in as many groups as hold `width` pixels; what is beyond them is undefined.
void make_quads(const std::array<const std::uint8_t*, quad_lanes>& rows, std::size_t pixel_bytes,
                std::size_t width, QuadLevel level, std::uint8_t* quads,
                std::size_t step) noexcept;

}  // namespace sam2rt

#endif
