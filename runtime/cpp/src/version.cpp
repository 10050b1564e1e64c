#include "sam2rt/sam2rt.hpp"

namespace sam2rt {

const char* version() noexcept { return SAM2RT_VERSION; }

}  // namespace sam2rt
