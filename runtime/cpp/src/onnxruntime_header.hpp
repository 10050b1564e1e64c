#ifndef SAM2RT_SRC_ONNXRUNTIME_HEADER_HPP
#define SAM2RT_SRC_ONNXRUNTIME_HEADER_HPP

// ONNX Runtime's header on Windows is written for Microsoft's compiler: it takes names from
// specstrings.h that MinGW's lacks, and a spelling of the calling convention that MinGW has no
// keyword for.
#ifdef __MINGW32__
#  include <specstrings.h>
#  define _stdcall __stdcall
#  ifndef _Frees_ptr_opt_
#    define _Frees_ptr_opt_
#  endif
#  ifndef _Return_type_success_
#    define _Return_type_success_(condition)
#  endif
#endif

#include <onnxruntime_c_api.h>

#endif
