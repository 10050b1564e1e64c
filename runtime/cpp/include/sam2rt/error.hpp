#ifndef SAM2RT_ERROR_HPP
#define SAM2RT_ERROR_HPP

#include <stdexcept>
#include <string>

#include "sam2rt/export.h"

namespace sam2rt {

/// Base of every error the library throws on purpose. The message is one line: what was expected,
/// what was found, what fixes it; the same text as the Python runtime's.
class SAM2RT_API Error : public std::runtime_error {
 public:
  using std::runtime_error::runtime_error;
  ~Error() override;
};

/// A prompt, a frame or an argument that cannot be used.
class SAM2RT_API InputError : public Error {
 public:
  using Error::Error;
  ~InputError() override;
};

/// A frame that cannot be read.
class SAM2RT_API FrameError : public InputError {
 public:
  using InputError::InputError;
  ~FrameError() override;
};

/// A call that the present state does not allow, such as propagating without prompts.
class SAM2RT_API StateError : public Error {
 public:
  using Error::Error;
  ~StateError() override;
};

/// A bundle that is missing, incomplete, edited or of another schema.
class SAM2RT_API BundleError : public Error {
 public:
  using Error::Error;
  ~BundleError() override;
};

/// A backend that cannot be opened or that failed while running a graph.
class SAM2RT_API SessionError : public Error {
 public:
  using Error::Error;
  ~SessionError() override;
};

}  // namespace sam2rt

#endif
