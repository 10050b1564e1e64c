#include "sam2rt/error.hpp"

#include "sam2rt/frame.hpp"
#include "sam2rt/session.hpp"

namespace sam2rt {

// out of line, so that the type information lives in the library alone
Error::~Error() = default;
InputError::~InputError() = default;
FrameError::~FrameError() = default;
StateError::~StateError() = default;
BundleError::~BundleError() = default;
SessionError::~SessionError() = default;
Session::~Session() = default;
FrameSource::~FrameSource() = default;

}  // namespace sam2rt
