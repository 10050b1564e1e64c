#ifndef SAM2RT_SRC_KERNEL_DIGESTS_HPP
#define SAM2RT_SRC_KERNEL_DIGESTS_HPP

#include <string_view>

namespace sam2rt {

/// The operator that engines may hold a kernel of, and its hash as the Python package gives it: an
/// engine with another version's kernel is not ours to load.
inline constexpr std::string_view attention_kernel = "sam2rt::MemoryCrossAttention";
inline constexpr const char* attention_digest =
    "c31d48c63aecdb43942cb87469a5ee2e547b4485b9491460a3b9c752e3f243c9";

inline const char* kernel_digest(std::string_view name) noexcept {
  return name == attention_kernel ? attention_digest : nullptr;
}

}  // namespace sam2rt

#endif
