# ONNX Runtime's C header and library, as the target onnxruntime::onnxruntime.
# Looks into onnxruntime_ROOT (a release archive, or headers and library in other folders given as
# ONNXRUNTIME_INCLUDE_DIR and ONNXRUNTIME_LIBRARY), then where the system keeps libraries.
find_path(ONNXRUNTIME_INCLUDE_DIR onnxruntime_c_api.h
          HINTS ${onnxruntime_ROOT} $ENV{onnxruntime_ROOT} ${sam2rt_onnxruntime_built_with}
          PATH_SUFFIXES include include/onnxruntime include/onnxruntime/core/session
                        onnxruntime onnxruntime/core/session)
find_library(ONNXRUNTIME_LIBRARY onnxruntime
             HINTS ${onnxruntime_ROOT} $ENV{onnxruntime_ROOT} ${sam2rt_onnxruntime_built_with}
             PATH_SUFFIXES lib lib64)

include(FindPackageHandleStandardArgs)
find_package_handle_standard_args(
  OnnxRuntime REQUIRED_VARS ONNXRUNTIME_LIBRARY ONNXRUNTIME_INCLUDE_DIR
  REASON_FAILURE_MESSAGE "give -Donnxruntime_ROOT=FOLDER (with include/ and lib/)")
if(OnnxRuntime_FOUND AND NOT TARGET onnxruntime::onnxruntime)
  add_library(onnxruntime::onnxruntime UNKNOWN IMPORTED)
  set_target_properties(
    onnxruntime::onnxruntime
    PROPERTIES IMPORTED_LOCATION "${ONNXRUNTIME_LIBRARY}"
               INTERFACE_INCLUDE_DIRECTORIES "${ONNXRUNTIME_INCLUDE_DIR}")
endif()
mark_as_advanced(ONNXRUNTIME_INCLUDE_DIR ONNXRUNTIME_LIBRARY)
