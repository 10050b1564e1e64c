# Tables that both runtimes go by, from configs/formats of the repository: each becomes a header that holds
# the file's text under the file's name.
function(sam2rt_table name)
  set(file "${PROJECT_SOURCE_DIR}/../../configs/formats/${name}.json")
  if(NOT EXISTS "${file}")
    message(FATAL_ERROR "expected the table ${file}, found no such file: build runtime/cpp inside a "
                        "whole checkout of sam2rt")
  endif()
  file(READ "${file}" SAM2RT_TABLE)
  set(SAM2RT_TABLE_NAME ${name})
  configure_file("${PROJECT_SOURCE_DIR}/cmake/table.hpp.in"
                 "${PROJECT_BINARY_DIR}/tables/${name}.hpp" @ONLY)
  # a build folder that is older than the table is configured again
  set_property(DIRECTORY APPEND PROPERTY CMAKE_CONFIGURE_DEPENDS "${file}")
endfunction()
