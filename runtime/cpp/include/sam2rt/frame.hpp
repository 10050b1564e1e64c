#ifndef SAM2RT_FRAME_HPP
#define SAM2RT_FRAME_HPP

#include <cstddef>
#include <cstdint>

#include "sam2rt/export.h"

namespace sam2rt {

/// Order of the bytes of a pixel. nv12 is a plane of Y, then interleaved U and V at half the
/// resolution (BT.601, limited range, as video decoders and OpenCV mean it); sides must be even.
enum class PixelFormat { rgb, bgr, rgba, nv12 };

/// Where the pixels are. Those in CUDA memory are copied to the host, everything else is read
/// where it lies.
enum class MemoryKind { host, cuda };

/// A frame that somebody else owns: read during a call, never kept.
struct FrameView {
  const std::uint8_t* data = nullptr;
  int width = 0;   ///< pixels
  int height = 0;  ///< pixels
  std::size_t stride = 0;  ///< bytes from one row to the next; 0: rows follow each other
  PixelFormat format = PixelFormat::rgb;
  MemoryKind memory = MemoryKind::host;
  /// nv12: the plane of U and V, of the same stride; null: it follows the plane of Y.
  const std::uint8_t* chroma = nullptr;
};

/// A mask that somebody else owns: one byte a pixel, 0 and 1, or 0 and 255.
struct MaskView {
  const std::uint8_t* data = nullptr;
  int width = 0;
  int height = 0;
  std::size_t stride = 0;  ///< bytes; 0: rows follow each other
};

/// The frames of a video that VideoPredictor works on; all of one size.
class SAM2RT_API FrameSource {
 public:
  FrameSource() = default;
  FrameSource(const FrameSource&) = delete;
  FrameSource& operator=(const FrameSource&) = delete;
  virtual ~FrameSource();

  virtual int num_frames() const = 0;
  virtual int width() const = 0;
  virtual int height() const = 0;
  /// Frame `index`, valid until the next call. An exception leaves the predictor as it was.
  virtual FrameView read(int index) = 0;
};

}  // namespace sam2rt

#endif
