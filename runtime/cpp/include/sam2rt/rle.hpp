#ifndef SAM2RT_RLE_HPP
#define SAM2RT_RLE_HPP

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "sam2rt/export.h"
#include "sam2rt/frame.hpp"

namespace sam2rt {

/// A mask as COCO's compressed run lengths: column by column, beginning with the zeros.
struct Rle {
  int height = 0;
  int width = 0;
  std::string counts;  ///< printable ASCII, as pycocotools writes it
};

/// Encode a mask; any byte but 0 counts as inside.
SAM2RT_API Rle encode_rle(const MaskView& mask);
/// Encode the mask logits > threshold of one plane [height, width].
SAM2RT_API Rle encode_rle(const float* logits, int height, int width, float threshold = 0.0F);
/// Decode to [height, width] of 0 and 1, row by row. Throws InputError when the counts are
/// malformed or do not add up to height x width.
SAM2RT_API std::vector<std::uint8_t> decode_rle(const Rle& rle);

}  // namespace sam2rt

#endif
