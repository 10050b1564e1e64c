#ifndef SAM2RT_SRC_SHA256_HPP
#define SAM2RT_SRC_SHA256_HPP

#include <array>
#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <string>
#include <string_view>

namespace sam2rt {

/// SHA-256 (FIPS 180-4), fed in pieces.
class Sha256 {
 public:
  void update(const void* data, std::size_t size) noexcept;
  /// The digest in lower-case hexadecimal; call once, at the end.
  std::string finish();

 private:
  void block(const std::uint8_t* bytes) noexcept;

  std::array<std::uint32_t, 8> state_{0x6a09e667, 0xbb67ae85, 0x3c6ef372, 0xa54ff53a,
                                      0x510e527f, 0x9b05688c, 0x1f83d9ab, 0x5be0cd19};
  std::array<std::uint8_t, 64> held_{};
  std::uint64_t length_ = 0;
};

std::string sha256(std::string_view data);
/// Throws std::ios_base::failure when the file cannot be read.
std::string file_sha256(const std::filesystem::path& path);

}  // namespace sam2rt

#endif
