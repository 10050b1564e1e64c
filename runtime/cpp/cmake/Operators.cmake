# cpu_operators_identity.hpp: the hash of the sources in plugins/cpu, as plugins/cpu/library.py makes it. The
# library of operators that was compiled from them lies under it and says it.
set(operators "${PROJECT_SOURCE_DIR}/../../plugins/cpu")
file(GLOB operator_files RELATIVE "${operators}" CONFIGURE_DEPENDS
     "${operators}/*.cpp" "${operators}/*.hpp" "${operators}/*.json")
if(NOT operator_files)
  message(FATAL_ERROR "expected the operators' sources in ${operators}, found none: build runtime/cpp inside a "
                      "whole checkout of sam2rt")
endif()
list(SORT operator_files)
set(operator_lines "")
foreach(file IN LISTS operator_files)
  file(SHA256 "${operators}/${file}" digest)
  string(APPEND operator_lines "${file} ${digest}\n")
  set_property(DIRECTORY APPEND PROPERTY CMAKE_CONFIGURE_DEPENDS "${operators}/${file}")
endforeach()
string(SHA256 SAM2RT_OPERATORS_IDENTITY "${operator_lines}")
configure_file("${PROJECT_SOURCE_DIR}/cmake/cpu_operators_identity.hpp.in"
               "${PROJECT_BINARY_DIR}/tables/cpu_operators_identity.hpp" @ONLY)
